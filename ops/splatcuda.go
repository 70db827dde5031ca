package ops

import (
	"fmt"
	"math/bits"

	"github.com/fidlab/fidlab/cuda"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/kernels"
)

const (
	splatFewest   = 2048    // the most Gaussians of an image whose boxes every tile tests itself
	splatMoments  = 6       // sums of a Gaussian, splat2d.h
	splatChannels = 6144    // what the gradient kernels' shared memory holds of a Gaussian's features
	splatSlots    = 1 << 30 // bytes of gradients for each tile that SplatAlpha may take
)

// splatGPU is what a GPU keeps between the passes.
type splatGPU struct {
	place, shape, box, feature *gpu.Tensor // ready to draw, as splat2d.h says
	z, left, coverage, last    *gpu.Tensor
	far, none                  *gpu.Tensor // ExactFar: the offset and the sum of weights of far pixels; 1 where no Gaussian reaches
	mean, cov                  *gpu.Tensor // as they are drawn: the parameters' own where those are not raw
	info                       *gpu.Tensor // what the words below say
	bad                        splatFaults
	checked                    bool
	side                       int // of a tile

	// The sorted list of tiles' Gaussians; nil where tiles test all boxes.
	entries, owner, ranges, offsets, order *gpu.Tensor
	finer                                  *gpu.Tensor // offsets for tiles of the other side
	m                                      int         // entries
}

// The words of info.
const (
	infoFault  = 0 // two: the first faulty Gaussian and why
	infoFaults = 2 // how many
	infoDrawn  = 3 // Gaussians with a pixel
	infoTotal  = 4 // two: entries of the list of tiles of 16
	infoSmall  = 6 // two: of 8
	infoSpread = 8 // two: the widths and heights of all boxes
	infoWords  = 10
)

func (g *splatGPU) free() {
	freeAll(g.place, g.shape, g.box, g.feature, g.z, g.left, g.coverage, g.last, g.far, g.none, g.info, g.entries, g.owner, g.ranges, g.offsets, g.finer, g.order)
}

// padded is the number of channels rounded up to whole float4.
func (s splatSize) padded() int { return (s.c + 3) &^ 3 }

// tiles is how many tiles an image has.
func (g *splatGPU) tiles(s splatSize) int { return ceil(s.h, g.side) * ceil(s.w, g.side) }

// stored is how the kernels call the dtype of features and image.
func (a *SplatAux) stored() int32 {
	return byDType[int32](a.p.Feature.DType(), 0, 0, 1, 2)
}

func bit(b bool) int32 {
	if b {
		return 1
	}
	return 0
}

func (a *SplatAux) forwardCUDA(image *gpu.Tensor) error {
	size, dev := a.size, a.p.Mean.Device()
	g := &splatGPU{side: splatTile}
	if a.cfg.Tile != 0 {
		g.side = a.cfg.Tile
	}
	a.gpu = g
	if size.c > splatChannels {
		return splatError("%d channels; at most %d on a GPU: draw them in parts", size.c, splatChannels)
	}
	n := size.b * size.n
	g.info = dev.FromInt32(append([]int32{-1, -1}, make([]int32, infoWords-2)...), infoWords)
	if n > 0 {
		depths := a.prepareCUDA()
		if a.cfg.Mode == SplatAlpha || size.n > splatFewest {
			if err := a.sortCUDA(depths); err != nil {
				return err
			}
		} else {
			freeAll(depths)
		}
	}
	switch a.cfg.Mode {
	case SplatNormalised:
		g.z = dev.Empty(size.b, size.h, size.w)
	case SplatAlpha:
		g.left, g.coverage, g.last = dev.Empty(size.b, size.h, size.w), dev.Empty(size.b, size.h, size.w), dev.New(gpu.Int32, size.b, size.h, size.w)
	}
	a.drawCUDA(image)
	if a.cfg.ExactFar {
		a.farCUDA(image)
	}
	return dev.Err()
}

// prepareCUDA makes the records, and the depths that sorting needs.
func (a *SplatAux) prepareCUDA() (depths *gpu.Tensor) {
	g, size, dev := a.gpu, a.size, a.p.Mean.Device()
	n := size.b * size.n
	g.place, g.shape, g.box = dev.Empty(n, 4), dev.Empty(n, 4), dev.New(gpu.Int32, n, 4)
	g.feature = dev.Empty(n, size.padded())
	a.activateCUDA()
	spoiled := dev.Zeros(gpu.Int32, n)
	defer spoiled.Free()
	if a.p.Depth != nil {
		depths = dev.New(gpu.Int32, n)
	}
	kernels.Splat2dPadF32(dev.Stream(), cuda.Grid1(n*size.padded(), 1024, 256), g.feature.Ptr(), spoiled.Ptr(), a.p.Feature.Ptr(), a.stored(), int32(size.c), int32(size.padded()), int32(n))
	kernels.Splat2dPrepareF32(dev.Stream(), cuda.Grid1(n, 128, 128), g.place.Ptr(), g.shape.Ptr(), g.box.Ptr(), spoiled.Ptr(), ptr(depths),
		g.info.Ptr()+infoFault*wordSize, g.info.Ptr()+infoFaults*wordSize, g.mean.Ptr(), g.cov.Ptr(), ptr(a.p.Opacity), ptr(a.p.Depth),
		int32(a.cfg.Form), int32(a.cfg.Support.kind), a.cfg.Support.size, bit(a.cfg.Grid == SplatCorners), bit(!a.cfg.LooseTiles && a.cfg.Support.kind != boxSupport), a.cfg.LowPass, a.cfg.LowPass,
		int32(size.w), int32(size.h), int32(n))
	return depths
}

// sortCUDA lists each tile's Gaussians in drawing order. It waits for the GPU
// once, to learn how long the list is.
func (a *SplatAux) sortCUDA(depths *gpu.Tensor) error {
	g, size, dev := a.gpu, a.size, a.p.Mean.Device()
	s, n := dev.Stream(), size.b*size.n
	if depths != nil {
		var keys *gpu.Tensor
		keys, g.order = radixSort(dev, depths, nil, n, 32)
		keys.Free()
	}
	tiles, small := dev.New(gpu.Int32, n), (*gpu.Tensor)(nil)
	if a.cfg.Tile == 0 && smallTiles(&a.cfg, size) || a.cfg.Tile == splatSmall {
		small = dev.New(gpu.Int32, n)
	}
	defer freeAll(tiles, small)
	corners, word := bit(a.cfg.Grid == SplatCorners), func(i cuda.Ptr) cuda.Ptr { return g.info.Ptr() + i*wordSize }
	kernels.Splat2dCount(s, cuda.Grid1(n, 128, 128), tiles.Ptr(), ptr(small), word(infoDrawn), word(infoSpread), g.place.Ptr(), g.shape.Ptr(), g.box.Ptr(), corners, int32(size.w), int32(size.h), int32(n))
	g.offsets = exclusiveSum(dev, tiles, g.order, word(infoTotal), n)
	if small != nil {
		g.finer = exclusiveSum(dev, small, g.order, word(infoSmall), n)
	}
	total, err := a.readInfo()
	if err != nil {
		return err
	}
	if total > maxSorted {
		return splatError("%d pairs of a Gaussian and a tile; at most %d: draw fewer images at a time", total, maxSorted)
	}
	g.m = int(total)
	g.ranges = dev.Zeros(gpu.Int32, size.b*g.tiles(size), 2)
	g.owner = dev.New(gpu.Int32, max(g.m, 1))
	if g.m == 0 {
		g.entries = dev.New(gpu.Int32, 1)
		return nil
	}
	keys := dev.New(gpu.Int32, g.m)
	kernels.Splat2dEmit(s, cuda.Grid1(n, 256, 256), keys.Ptr(), g.owner.Ptr(), g.offsets.Ptr(), g.place.Ptr(), g.shape.Ptr(), g.box.Ptr(), ptr(g.order), corners, int32(g.side), int32(size.w), int32(size.h), int32(size.n), int32(n))
	width := bits.Len(uint(size.b*g.tiles(size) - 1))
	var values *gpu.Tensor
	if a.cfg.Mode != SplatAlpha { // order-free: the list is of Gaussians, and nothing is kept by entry
		values, g.owner = g.owner, nil
	}
	keys, g.entries = radixSort(dev, keys, values, g.m, width)
	kernels.Splat2dRanges(s, cuda.Grid1(g.m, 256, 256), g.ranges.Ptr(), keys.Ptr(), int32(g.m))
	keys.Free()
	return nil
}

// readInfo waits for the GPU and takes over what info says, with the choice of the tiles' side.
func (a *SplatAux) readInfo() (total uint64, err error) {
	words := a.gpu.info.To(gpu.CPU())
	if err := a.gpu.info.Device().Err(); err != nil {
		return 0, err
	}
	w := words.I32()
	pair := func(i int) uint64 { return uint64(uint32(w[i])) | uint64(uint32(w[i+1]))<<32 }
	a.gpu.checked = true
	if first := pair(infoFault); w[infoFaults] != 0 {
		a.gpu.bad = splatFaults{first: int(first >> 8), fault: splatFault(first & 0xff), count: int(uint32(w[infoFaults]))}
	}
	if g := a.gpu; g.finer != nil {
		if a.cfg.Tile == splatSmall || pair(infoSpread) < 2*splatSmall*uint64(uint32(w[infoDrawn])) {
			g.side, g.offsets, g.finer = splatSmall, g.finer, g.offsets
			return pair(infoSmall), nil
		}
	}
	return pair(infoTotal), nil
}

func (a *SplatAux) checkCUDA() error {
	if !a.gpu.checked {
		if _, err := a.readInfo(); err != nil {
			return err
		}
	}
	return a.gpu.bad.err(a.size.n)
}

func (a *SplatAux) drawCUDA(image *gpu.Tensor) {
	g, size, dev := a.gpu, a.size, a.p.Mean.Device()
	s, corners, planar := dev.Stream(), bit(a.cfg.Grid == SplatCorners), bit(a.cfg.Planar)
	w, h, c, cp, n := int32(size.w), int32(size.h), int32(size.c), int32(size.padded()), int32(size.n)
	bg := ptr(a.p.Background)
	if size.c > 8 && a.cfg.TF32 && a.cfg.Mode != SplatAlpha {
		draw, block := kernels.Splat2dTensor64Tf32, 64
		switch {
		case size.c <= 16:
			draw, block = kernels.Splat2dTensor16Tf32, 16
		case size.c <= 32:
			draw, block = kernels.Splat2dTensor32Tf32, 32
		}
		grid := cuda.Grid{X: size.b * g.tiles(size), Y: ceil(size.c, block), Z: 1, BX: 256}
		draw(s, grid, image.Ptr(), ptr(g.z), ptr(g.place), ptr(g.shape), ptr(g.box), ptr(g.feature), bg,
			ptr(g.entries), ptr(g.ranges), a.cfg.Eps, bit(a.cfg.Mode == SplatNormalised), corners, planar, a.stored(), w, h, c, cp, n)
		return
	}
	if size.c > 8 {
		draw, block := kernels.Splat2dWide64F32, 64
		switch {
		case size.c <= 16:
			draw, block = kernels.Splat2dWide16F32, 16
		case size.c <= 32:
			draw, block = kernels.Splat2dWide32F32, 32
		}
		grid := cuda.Grid{X: size.b * g.tiles(size), Y: ceil(size.c, block), Z: 1, BX: 256}
		draw(s, grid, image.Ptr(), ptr(g.z), ptr(g.left), ptr(g.coverage), ptr(g.last), ptr(g.place), ptr(g.shape), ptr(g.box), ptr(g.feature), bg,
			ptr(g.entries), ptr(g.ranges), ptr(g.owner), a.cfg.Eps, int32(a.cfg.Mode), corners, planar, a.stored(), w, h, c, cp, n)
		return
	}
	grid := cuda.Grid{X: size.b * g.tiles(size), Y: 1, Z: 1, BX: 4 * g.side}
	if a.cfg.Mode == SplatAlpha {
		draw := kernels.Splat2dAlpha4F32
		if size.c > 4 {
			draw = kernels.Splat2dAlpha8F32
		}
		draw(s, grid, image.Ptr(), g.left.Ptr(), g.coverage.Ptr(), g.last.Ptr(), ptr(g.place), ptr(g.shape), ptr(g.box), ptr(g.feature), bg,
			ptr(g.entries), ptr(g.ranges), ptr(g.owner), corners, planar, a.stored(), w, h, c, n)
		return
	}
	draw := kernels.Splat2dSum4F32
	switch small := g.side == splatSmall; {
	case small && size.c > 4:
		draw = kernels.Splat2dSmall8F32
	case small:
		draw = kernels.Splat2dSmall4F32
	case size.c > 4:
		draw = kernels.Splat2dSum8F32
	}
	draw(s, grid, image.Ptr(), ptr(g.z), ptr(g.place), ptr(g.shape), ptr(g.box), ptr(g.feature), bg,
		ptr(g.entries), ptr(g.ranges), a.cfg.Eps, bit(a.cfg.Mode == SplatNormalised), corners, planar, a.stored(), w, h, c, n)
}

// coverageCUDA is a copy, so that it is the caller's.
func (a *SplatAux) coverageCUDA() *gpu.Tensor {
	t := a.gpu.coverage.Like()
	t.Copy(a.gpu.coverage)
	return t
}

// errSplatSlots says what gradients with a fixed order would take.
func errSplatSlots(bytes int) error {
	return fmt.Errorf("ops: SplatBackward: gradients in a fixed order take %d MB for the tiles' shares, at most %d; draw fewer images at a time or set Fast", bytes>>20, splatSlots>>20)
}

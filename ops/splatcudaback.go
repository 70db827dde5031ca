package ops

import (
	"math"

	"github.com/fidlab/fidlab/cuda"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/kernels"
)

// splatWidths are the numbers of features that the gradient kernels are compiled for.
var splatWidths = [...]int{4, 8, 16, 32, 64}

// splatWidth is the index of the kernel for the size's features, and how many blocks of it they take.
func (s splatSize) splatWidth() (i, blocks int) {
	for i, w := range splatWidths {
		if s.padded() <= w {
			return i, 1
		}
	}
	return len(splatWidths) - 1, (s.padded() + 63) / 64
}

func (a *SplatAux) backwardCUDA(grads *SplatGrads, dImage, dCoverage *gpu.Tensor) error {
	g, size, dev := a.gpu, a.size, a.p.Mean.Device()
	s, n := dev.Stream(), size.b*size.n
	if bytes := g.m * (splatMoments + size.padded()) * 4; a.cfg.Mode == SplatAlpha && !a.cfg.Fast && bytes > splatSlots {
		return errSplatSlots(bytes)
	}
	v, offset := a.foldCUDA(dImage, a.cfg.Mode == SplatNormalised)
	if v != dImage {
		defer v.Free()
	}
	defer freeAll(offset)
	if grads.Background != nil {
		a.backgroundCUDA(grads.Background, v, dImage)
	}
	if n == 0 {
		return dev.Err()
	}
	sums, df := dev.Empty(n, splatMoments), grads.Feature
	defer sums.Free()
	if a.stored() != 0 {
		df = dev.Empty(grads.Feature.Shape()...)
		defer df.Free()
	}
	switch {
	case a.cfg.Mode != SplatAlpha:
		a.gatherCUDA(sums, df, v, offset)
		if a.cfg.ExactFar {
			a.farbackCUDA(sums, df, dImage)
		}
	case a.cfg.Fast:
		s.Memset(sums.Ptr(), 0, 4*sums.Len())
		s.Memset(df.Ptr(), 0, 4*df.Len())
		a.alphaFastCUDA(sums, df, v, dCoverage)
	default:
		a.alphaCUDA(sums, df, v, dCoverage)
	}
	if df != grads.Feature {
		kernels.Splat2dNarrowF32(s, cuda.Grid1(df.Len(), 256, 256), grads.Feature.Ptr(), df.Ptr(), a.stored(), int64(df.Len()))
	}
	kernels.Splat2dChainF32(s, cuda.Grid1(n, 128, 128), grads.Mean.Ptr(), grads.Cov.Ptr(), ptr(grads.Opacity), sums.Ptr(), g.place.Ptr(), g.shape.Ptr(), g.box.Ptr(), g.cov.Ptr(),
		int32(a.cfg.Form), bit(a.cfg.Grid == SplatCorners), a.cfg.LowPass, a.cfg.LowPass, int32(size.w), int32(size.h), int32(n))
	if a.cfg.raw() {
		a.rawCUDA(kernels.Splat2dSlopeF32, grads.Mean, grads.Cov)
	}
	return dev.Err()
}

// foldCUDA is the image's gradient channel-last and padded, on demand divided as
// SplatNormalised has it; dImage itself where it is that already.
func (a *SplatAux) foldCUDA(dImage *gpu.Tensor, divide bool) (v, offset *gpu.Tensor) {
	size, dev := a.size, a.p.Mean.Device()
	pixels := size.b * size.h * size.w
	var z, image cuda.Ptr
	if divide {
		z, image, offset = a.gpu.z.Ptr(), a.image.Ptr(), dev.Empty(pixels)
	} else if !a.cfg.Planar && size.c%4 == 0 && a.stored() == 0 {
		return dImage, nil
	}
	v = dev.Empty(pixels, size.padded())
	kernels.Splat2dFoldF32(dev.Stream(), cuda.Grid1(pixels, 256, 256), v.Ptr(), ptr(offset), dImage.Ptr(), z, image, a.cfg.Eps, a.farthest(), bit(a.cfg.Planar), a.stored(),
		int32(size.c), int32(size.padded()), int64(size.h)*int64(size.w), int64(pixels))
	return v, offset
}

func (a *SplatAux) backgroundCUDA(out, v, dImage *gpu.Tensor) {
	size, dev := a.size, a.p.Mean.Device()
	const slice = 4096 // pixels of a block
	area, cp := size.h*size.w, size.padded()
	slices := ceil(area, slice)
	parts := dev.Empty(size.b, slices, cp)
	defer parts.Free()
	scale, weight := float32(1), a.gpu.left
	switch {
	case a.cfg.ExactFar: // what no Gaussian reaches shows the background alone
		weight = a.gpu.none
		if v, _ = a.foldCUDA(dImage, false); v != dImage {
			defer v.Free()
		}
	case a.cfg.Mode == SplatNormalised:
		scale = a.cfg.Eps
	}
	kernels.Splat2dBackgroundF32(dev.Stream(), cuda.Grid{X: slices, Y: size.b, Z: (cp + 255) / 256, BX: 256}, parts.Ptr(), v.Ptr(), ptr(weight), int64(area), int32(cp))
	kernels.Splat2dBackgroundTotalF32(dev.Stream(), cuda.Grid{X: (size.c + 255) / 256, Y: size.b, Z: 1, BX: 256}, out.Ptr(), parts.Ptr(), scale, int32(slices), int32(size.c), int32(cp))
}

func (a *SplatAux) gatherCUDA(sums, df, v, offset *gpu.Tensor) {
	g, size, dev := a.gpu, a.size, a.p.Mean.Device()
	s, n, cp := dev.Stream(), size.b*size.n, size.padded()
	i, blocks := size.splatWidth()
	gather := [...]func(*cuda.Stream, cuda.Grid, cuda.Ptr, cuda.Ptr, cuda.Ptr, cuda.Ptr, cuda.Ptr, cuda.Ptr, cuda.Ptr, cuda.Ptr, int32, int32, int32, int32, int32, int32, int32, int32){
		kernels.Splat2dGather4F32, kernels.Splat2dGather8F32, kernels.Splat2dGather16F32, kernels.Splat2dGather32F32, kernels.Splat2dGather64F32,
	}[i]
	rest := [...]func(*cuda.Stream, cuda.Grid, cuda.Ptr, cuda.Ptr, cuda.Ptr, cuda.Ptr, cuda.Ptr, cuda.Ptr, cuda.Ptr, cuda.Ptr, int32, int32, int32, int32, int32, int32, int32, int32){
		kernels.Splat2dLarge4F32, kernels.Splat2dLarge8F32, kernels.Splat2dLarge16F32, kernels.Splat2dLarge32F32, kernels.Splat2dLarge64F32,
	}[i]
	corners, most := bit(a.cfg.Grid == SplatCorners), math.MaxInt32
	if size.coverBytes() <= splatCover {
		most = size.h * size.w / 4
		a.coverCUDA(sums, df, v, offset, most)
	}
	gather(s, cuda.Grid{X: (n + 3) / 4, Y: blocks, Z: 1, BX: 128, Shared: 4 * 4 * cp}, sums.Ptr(), df.Ptr(), g.place.Ptr(), g.shape.Ptr(), g.box.Ptr(), g.feature.Ptr(),
		v.Ptr(), ptr(offset), corners, int32(size.w), int32(size.h), int32(size.c), int32(cp), int32(size.n), int32(most), int32(n))
	warps := 16
	if splatWidths[i] == 64 {
		warps = 8
	}
	shared := 4*cp + 4*warps*(splatMoments+splatWidths[i])
	rest(s, cuda.Grid{X: min(n, fewBlocks), Y: blocks, Z: 1, BX: 32 * warps, Shared: shared}, sums.Ptr(), df.Ptr(), g.place.Ptr(), g.shape.Ptr(), g.box.Ptr(), g.feature.Ptr(),
		v.Ptr(), ptr(offset), corners, int32(size.w), int32(size.h), int32(size.c), int32(cp), int32(size.n), int32(most), int32(n))
}

// splatCover bounds the memory for the shares of an image's Gaussians that cover
// much of it, and of all images that are done at a time.
const splatCover = 1 << 28

// coverBytes is what these shares take of an image, math.MaxInt where coverCUDA is
// not for the size. It does not depend on the batch: nor does an image's gradient.
func (s splatSize) coverBytes() int {
	if s.c < 16 || s.c > 64 || s.n > splatFewest {
		return math.MaxInt
	}
	return ceil(s.h, splatTile) * s.n * (splatMoments + s.padded()) * 4
}

// coverCUDA sums the gradients of Gaussians of more than most pixels as products
// of matrices: every row of tiles leaves its share, and these are added up in order.
func (a *SplatAux) coverCUDA(sums, df, v, offset *gpu.Tensor, most int) {
	g, size, dev := a.gpu, a.size, a.p.Mean.Device()
	s, cp, rows := dev.Stream(), size.padded(), ceil(size.h, splatTile)
	cover, block := kernels.Splat2dCover64F32, 64
	switch {
	case cp <= 16:
		cover, block = kernels.Splat2dCover16F32, 256
	case cp <= 32:
		cover, block = kernels.Splat2dCover32F32, 128
	}
	step := min(size.b, splatCover/size.coverBytes())
	parts := dev.Empty(step*rows*size.n, splatMoments+cp)
	defer parts.Free()
	for image := 0; image < size.b; image += step {
		here := min(step, size.b-image)
		from := func(t *gpu.Tensor, each int) cuda.Ptr { // image's first, each bytes an image
			if t == nil {
				return 0
			}
			return t.Ptr() + cuda.Ptr(image*each)
		}
		pixels := size.h * size.w
		place, shape, box := from(g.place, 16*size.n), from(g.shape, 16*size.n), from(g.box, 16*size.n)
		cover(s, cuda.Grid{X: here * rows, Y: ceil(size.n, 16), Z: 1, BX: block}, parts.Ptr(), place, shape, box, from(g.feature, 4*cp*size.n), from(v, 4*cp*pixels), from(offset, 4*pixels),
			bit(a.cfg.Grid == SplatCorners), int32(size.w), int32(size.h), int32(cp), int32(size.n), int32(most))
		kernels.Splat2dCovertotalF32(s, cuda.Grid1(here*size.n, 8, 256), from(sums, 4*splatMoments*size.n), from(df, 4*size.c*size.n), parts.Ptr(), shape, box,
			int32(size.h), int32(size.c), int32(cp), int32(size.n), int32(most), int32(here*size.n))
	}
}

// alphaCUDA lets every tile write its share for each of its Gaussians, and adds the shares up in the tiles' order.
func (a *SplatAux) alphaCUDA(sums, df, v, dCoverage *gpu.Tensor) {
	g, size, dev := a.gpu, a.size, a.p.Mean.Device()
	s, n, cp := dev.Stream(), size.b*size.n, size.padded()
	slots := dev.Empty(g.m, splatMoments+cp)
	defer slots.Free()
	if g.m > 0 {
		i, blocks := size.splatWidth()
		back := [...]func(*cuda.Stream, cuda.Grid, cuda.Ptr, cuda.Ptr, cuda.Ptr, cuda.Ptr, cuda.Ptr, cuda.Ptr, cuda.Ptr, cuda.Ptr, cuda.Ptr, cuda.Ptr, cuda.Ptr, cuda.Ptr, cuda.Ptr, int32, int32, int32, int32, int32){
			kernels.Splat2dAlphaback4F32, kernels.Splat2dAlphaback8F32, kernels.Splat2dAlphaback16F32, kernels.Splat2dAlphaback32F32, kernels.Splat2dAlphaback64F32,
		}[i]
		back(s, cuda.Grid{X: size.b * g.tiles(size), Y: blocks, Z: 1, BX: 256}, slots.Ptr(), g.place.Ptr(), g.shape.Ptr(), g.box.Ptr(), g.feature.Ptr(), g.entries.Ptr(), g.owner.Ptr(), g.ranges.Ptr(),
			v.Ptr(), ptr(a.p.Background), ptr(dCoverage), g.left.Ptr(), g.last.Ptr(), bit(a.cfg.Grid == SplatCorners), int32(size.w), int32(size.h), int32(size.c), int32(cp))
	}
	kernels.Splat2dTotalF32(s, cuda.Grid1(n, 8, 256), sums.Ptr(), df.Ptr(), slots.Ptr(), g.offsets.Ptr(), ptr(g.order), int32(size.c), int32(cp), int32(n))
}

// alphaFastCUDA adds the tiles' shares up as they come.
func (a *SplatAux) alphaFastCUDA(sums, df, v, dCoverage *gpu.Tensor) {
	g, size, dev := a.gpu, a.size, a.p.Mean.Device()
	if g.m == 0 {
		return
	}
	i, blocks := size.splatWidth()
	back := [...]func(*cuda.Stream, cuda.Grid, cuda.Ptr, cuda.Ptr, cuda.Ptr, cuda.Ptr, cuda.Ptr, cuda.Ptr, cuda.Ptr, cuda.Ptr, cuda.Ptr, cuda.Ptr, cuda.Ptr, cuda.Ptr, cuda.Ptr, cuda.Ptr, int32, int32, int32, int32, int32){
		kernels.Splat2dAlphafast4F32, kernels.Splat2dAlphafast8F32, kernels.Splat2dAlphafast16F32, kernels.Splat2dAlphafast32F32, kernels.Splat2dAlphafast64F32,
	}[i]
	back(dev.Stream(), cuda.Grid{X: size.b * g.tiles(size), Y: blocks, Z: 1, BX: 256}, sums.Ptr(), df.Ptr(), g.place.Ptr(), g.shape.Ptr(), g.box.Ptr(), g.feature.Ptr(), g.entries.Ptr(), g.owner.Ptr(), g.ranges.Ptr(),
		v.Ptr(), ptr(a.p.Background), ptr(dCoverage), g.left.Ptr(), g.last.Ptr(), bit(a.cfg.Grid == SplatCorners), int32(size.w), int32(size.h), int32(size.c), int32(size.padded()))
}

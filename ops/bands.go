package ops

import (
	"math"
	"slices"

	"github.com/fidlab/fidlab/cuda"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/cpu"
	"github.com/fidlab/fidlab/kernels"
)

// A band is some neighbouring channels of maps [N, H, W, C] with channels last. Operations on bands serve networks that are only run: a
// branch writes its band of a concatenation, which then is there without a copy. They have no gradients.

// BandConfig is how a window moves over maps, and where the bands begin.
type BandConfig struct {
	StrideH, StrideW int    // steps; 0 stands for 1
	Pad              [4]int // places without values above, below, left and right
	In, Out          int    // the first channel that is read, and that is written
}

func (cfg BandConfig) strides() (h, w int) { return max(1, cfg.StrideH), max(1, cfg.StrideW) }

// sharedBand is the shared memory of large tiles: those of the operands, and sums.
const sharedBand = 82432

// bands are the sizes of an operation between bands.
type bands struct {
	n, h, w, from        int // maps, their size, values from pixel to pixel
	oh, ow, to           int // of the result
	c, o                 int // channels of the bands
	kh, kw, sy, sx, t, l int
	in, out              int
	area                 int // pixels of one result
}

// window checks that windows of kh by kw over x give out, with bands of c and o channels.
func (cfg BandConfig) window(op string, out, x *gpu.Tensor, c, o, kh, kw int) *bands {
	xs, os := x.Shape(), out.Shape()
	if len(xs) != 4 || len(os) != 4 {
		fail(op, "maps %v and %v, want [N, H, W, C] for both", xs, os)
	}
	sy, sx := cfg.strides()
	if min(cfg.StrideH, cfg.StrideW, cfg.In, cfg.Out) < 0 || slices.Min(cfg.Pad[:]) < 0 || min(c, o, kh, kw) < 1 {
		fail(op, "window %d×%d, strides %d, %d, padding %v, bands of %d from %d and %d from %d, want none below 0 and sizes of at least 1",
			kh, kw, cfg.StrideH, cfg.StrideW, cfg.Pad, c, cfg.In, o, cfg.Out)
	}
	if cfg.In+c > xs[3] || cfg.Out+o > os[3] {
		fail(op, "bands of %d channels from %d of %d, and of %d from %d of %d", c, cfg.In, xs[3], o, cfg.Out, os[3])
	}
	b := &bands{n: xs[0], h: xs[1], w: xs[2], from: xs[3], oh: os[1], ow: os[2], to: os[3], c: c, o: o, kh: kh, kw: kw, sy: sy, sx: sx,
		t: cfg.Pad[0], l: cfg.Pad[2], in: cfg.In, out: cfg.Out}
	b.area = b.oh * b.ow
	if os[0] != b.n {
		fail(op, "%d maps and results for %d", b.n, os[0])
	}
	return b
}

// conv checks the result's size of a convolution.
func (b *bands) conv(op string, cfg BandConfig) {
	size := func(n, k, stride, before, after int) int { return (n+before+after-k)/stride + 1 }
	if b.h+cfg.Pad[0]+cfg.Pad[1] < b.kh || b.w+cfg.Pad[2]+cfg.Pad[3] < b.kw ||
		b.oh != size(b.h, b.kh, b.sy, cfg.Pad[0], cfg.Pad[1]) || b.ow != size(b.w, b.kw, b.sx, cfg.Pad[2], cfg.Pad[3]) {
		fail(op, "results of %d×%d of maps of %d×%d, kernels of %d×%d, strides %d, %d and padding %v", b.oh, b.ow, b.h, b.w, b.kh, b.kw, b.sy, b.sx, cfg.Pad)
	}
}

// countable panics unless a GPU can count all of these.
func countable(op string, values ...int) {
	for _, v := range values {
		if v > math.MaxInt32 {
			fail(op, "%d of a size that a GPU counts with 31 bits; use a smaller batch", v)
		}
	}
}

// bandAt is the address of channel c of a map's first pixel.
func bandAt(t *gpu.Tensor, c int) cuda.Ptr { return t.Ptr() + cuda.Ptr(c*t.DType().Size()) }

// ConvBand sets channels cfg.Out on of out to the correlation of channels cfg.In on of x with the kernels w [O, KH, KW, C], plus bias [O]
// or nil; with clip, what is below zero becomes zero. The other channels of out stay as they are; out is not x. All are float32. It panics when shapes
// do not fit, and unless dtypes and devices agree.
//
// The sum of an element goes over (row, column, channel) in one order on a GPU, whatever the batch, in pieces of 256 terms, K in all; its error is at most
// (258 + ⌈K/256⌉)·2⁻²⁴ of the sum of the absolute values, on the CPU (K + 2)·2⁻²⁴.
func ConvBand(out, x, w, bias *gpu.Tensor, clip bool, cfg BandConfig) {
	const op = "ConvBand"
	s := streamOf(op, out, x, w, bias)
	ws := w.Shape()
	if len(ws) != 4 || out.DType() != gpu.Float32 {
		fail(op, "kernels %v of %v, want [O, KH, KW, C] of float32", ws, w.DType())
	}
	b := cfg.window(op, out, x, ws[3], ws[0], ws[1], ws[2])
	b.conv(op, cfg)
	if bias != nil && !slices.Equal(bias.Shape(), ws[:1]) {
		fail(op, "the bias has shape %v, want [%d]", bias.Shape(), ws[0])
	}
	if b.n*b.area == 0 {
		return
	}
	if s != nil {
		pixels := b.n * b.area
		f, edge, shared := kernels.ConvBandF32, smallTile, sharedSmall
		small, large := ceil(pixels, smallTile)*ceil(b.o, smallTile), ceil(pixels, matmulTile)*ceil(b.o, matmulTile)
		// Small tiles run at five eighths of the speed, but waste less and are more. Bits are the same with both.
		if large >= largeTiles && 5*matmulTile*matmulTile*large < 8*smallTile*smallTile*small {
			f, edge, shared = kernels.ConvBandLargeF32, matmulTile, sharedBand
		}
		countable(op, pixels, b.kh*b.kw*b.c, small)
		g := cuda.Grid{X: ceil(pixels, edge) * ceil(b.o, edge), Y: 1, Z: 1, BX: 256, BY: 1, BZ: 1, Shared: shared}
		f(s, g, bandAt(out, b.out), bandAt(x, b.in), w.Ptr(), ptr(bias), int32(b.n), int32(b.c), int32(b.from), int32(b.h), int32(b.w),
			int32(b.o), int32(b.to), int32(b.kh), int32(b.kw), int32(b.oh), int32(b.ow), int32(b.sy), int32(b.sx), 1, int32(b.t), int32(b.l), flag(clip))
		return
	}
	p := conv16{
		n: b.n, h: b.h, w: b.w, c: b.c, o: b.o, kh: b.kh, kw: b.kw, oh: b.oh, ow: b.ow, strideH: b.sy, strideW: b.sx, dilation: 1,
		pad: cfg.Pad, inPitch: b.from, inAt: b.in, outPitch: b.to, outAt: b.out,
	}
	if clip {
		p.f = ReLU
	}
	p.run(out, x, w, bias)
}

// PoolBand sets channels cfg.Out on of out, as many as channels says, to the greatest or the mean value of windows of kh by kw over those from cfg.In on
// of x. Places outside of a map have no value: they are never the greatest, and not counted in a mean. A window may reach beyond the padding, but has a
// place in its map; NaN is the greatest. Both are float32 or bfloat16; a mean's sum is float32.
func PoolBand(out, x *gpu.Tensor, channels, kh, kw int, average bool, cfg BandConfig) {
	const op = "PoolBand"
	s := bandStream(op, out, x, true)
	b := cfg.window(op, out, x, channels, channels, kh, kw)
	outside := func(places, size, k, stride, before int) bool {
		return before >= k || places > 0 && (places-1)*stride-before >= size
	}
	if outside(b.oh, b.h, kh, b.sy, b.t) || outside(b.ow, b.w, kw, b.sx, b.l) {
		fail(op, "results of %d×%d of maps of %d×%d, windows of %d×%d, strides %d, %d and padding %v: a window lies outside", b.oh, b.ow, b.h, b.w, kh, kw, b.sy, b.sx, cfg.Pad)
	}
	if b.n*b.area == 0 {
		return
	}
	if s != nil {
		pixels := b.n * b.area
		countable(op, pixels*b.c)
		f := byDType(out.DType(), kernels.PoolBandF32, nil, nil, kernels.PoolBandBf16)
		f(s, cuda.Grid1(pixels*ceil(b.c, 16/out.DType().Size()), 256, 256), bandAt(out, b.out), bandAt(x, b.in), int32(pixels), int32(b.c), int32(b.from), int32(b.h), int32(b.w),
			int32(b.to), int32(b.oh), int32(b.ow), int32(kh), int32(kw), int32(b.sy), int32(b.sx), int32(b.t), int32(b.l), flag(average))
		return
	}
	cpu.Each(b.n*b.oh, func(_ *cpu.Worker, i int) { b.poolRow(i, out, x, average) })
}

func (b *bands) poolRow(i int, out, x *gpu.Tensor, average bool) {
	image, oy := i/b.oh*b.h*b.w*b.from, i%b.oh
	y0, y1 := max(0, oy*b.sy-b.t), min(b.h, oy*b.sy-b.t+b.kh)
	for ox := range b.ow {
		x0, x1 := max(0, ox*b.sx-b.l), min(b.w, ox*b.sx-b.l+b.kw)
		for k := range b.c {
			best, sum := float32(math.Inf(-1)), float32(0)
			for y := y0; y < y1; y++ {
				for xx := x0; xx < x1; xx++ {
					v := bandValue(x, image+(y*b.w+xx)*b.from+b.in+k)
					best, sum = max(best, v), sum+v
				}
			}
			if average {
				best = sum / float32((y1-y0)*(x1-x0))
			}
			setBand(out, (i*b.ow+ox)*b.to+b.out+k, best)
		}
	}
}

// MeanBand sets out [N, C], float32, to the means over all places of the channels from `from` on of maps x [N, H, W, ...], float32 or bfloat16. Sums are
// float64 in the order of the places.
func MeanBand(out, x *gpu.Tensor, from int) {
	const op = "MeanBand"
	s := bandStream(op, out, x, false)
	xs, os := x.Shape(), out.Shape()
	if len(xs) != 4 || len(os) != 2 || os[0] != xs[0] || from < 0 || from+os[1] > xs[3] || xs[1]*xs[2] == 0 {
		fail(op, "means %v of channels from %d of maps %v, want [N, C] of [N, H, W, at least C more]", os, from, xs)
	}
	n, area, c := xs[0], xs[1]*xs[2], os[1]
	if n*c == 0 {
		return
	}
	if s != nil {
		countable(op, n*c, area)
		f := byDType(x.DType(), kernels.MeanBandF32, nil, nil, kernels.MeanBandBf16)
		f(s, cuda.Grid1(n*c, 256, 256), out.Ptr(), bandAt(x, from), int32(n), int32(area), int32(c), int32(xs[3]))
		return
	}
	to := out.F32()
	cpu.Each(n, func(_ *cpu.Worker, i int) {
		for k := range c {
			sum := 0.0
			for p := range area {
				sum += float64(bandValue(x, (i*area+p)*xs[3]+from+k))
			}
			to[i*c+k] = float32(sum / float64(area))
		}
	})
}

// BandOfPlanes sets out [N, H, W, P], float32 or bfloat16, to the pictures x [N, C, H, W], float32; channels from C on become zeros.
func BandOfPlanes(out, x *gpu.Tensor) {
	const op = "BandOfPlanes"
	s := bandStream(op, x, out, false)
	n, area, c, p := planesOf(op, x, out)
	if c > p {
		fail(op, "pictures %v into maps %v, which have fewer channels", x.Shape(), out.Shape())
	}
	if n*area == 0 {
		return
	}
	if s != nil {
		countable(op, ceil(n*area, 256), area)
		f := byDType(out.DType(), kernels.PlanesBandF32, nil, nil, kernels.PlanesBandBf16)
		f(s, cuda.Grid1(n*area, 256, 256), out.Ptr(), x.Ptr(), int64(n*area), int32(area), int32(c), int32(p))
		return
	}
	from := x.F32()
	cpu.Each(n, func(_ *cpu.Worker, i int) {
		for q := range area {
			for k := range p {
				v := float32(0)
				if k < c {
					v = from[(i*c+k)*area+q]
				}
				setBand(out, (i*area+q)*p+k, v)
			}
		}
	})
}

// PlanesOfBand sets out [N, C, H, W], float32, to the channels from `from` on of maps x [N, H, W, P], float32 or bfloat16.
func PlanesOfBand(out, x *gpu.Tensor, from int) {
	const op = "PlanesOfBand"
	s := bandStream(op, out, x, false)
	n, area, c, p := planesOf(op, out, x)
	if from < 0 || from+c > p {
		fail(op, "planes %v of channels from %d of maps %v", out.Shape(), from, x.Shape())
	}
	if out.Len() == 0 {
		return
	}
	if s != nil {
		countable(op, ceil(out.Len(), 256), area)
		f := byDType(x.DType(), kernels.BandPlanesF32, nil, nil, kernels.BandPlanesBf16)
		f(s, cuda.Grid1(out.Len(), 256, 256), out.Ptr(), bandAt(x, from), int64(out.Len()), int32(area), int32(c), int32(p))
		return
	}
	to := out.F32()
	cpu.Each(n, func(_ *cpu.Worker, i int) {
		for k := range c {
			for q := range area {
				to[(i*c+k)*area+q] = bandValue(x, (i*area+q)*p+from+k)
			}
		}
	})
}

// SplitBand sets out [N, H, W, 3·C], bfloat16, to two terms of each value of the channels from `from` on of maps x [N, H, W, P], float32: h, the nearest
// bfloat16, of all channels, then l, the nearest to what is left, of all channels, then h again. Against weights that lie as h, h, l the product of both
// is that of the floats but for the product of the two l, at most 2⁻¹⁶ of it. C is a multiple of 4.
func SplitBand(out, x *gpu.Tensor, from int) {
	const op = "SplitBand"
	if x.DType() != gpu.Float32 || out.DType() != gpu.BFloat16 {
		fail(op, "terms of %v as %v, want bfloat16 of float32", x.DType(), out.DType())
	}
	s := sameDevice(op, out, x).Stream()
	xs, os := x.Shape(), out.Shape()
	if len(xs) != 4 || len(os) != 4 || !slices.Equal(xs[:3], os[:3]) || os[3]%12 != 0 || from < 0 || from+os[3]/3 > xs[3] {
		fail(op, "terms %v of channels from %d of maps %v, want three times a multiple of 4", os, from, xs)
	}
	c, p := os[3]/3, xs[3]
	if out.Len() == 0 {
		return
	}
	if s != nil {
		countable(op, ceil(out.Len(), 3*4*256))
		kernels.BandTerms(s, cuda.Grid1(out.Len()/12, 256, 256), out.Ptr(), bandAt(x, from), int64(out.Len()/3), int32(c), int32(p))
		return
	}
	pixels, f := out.Len()/os[3], x.F32()
	cpu.Each(ceil(pixels, 64), func(_ *cpu.Worker, i int) {
		for q := i * 64; q < min(pixels, (i+1)*64); q++ {
			to := out.U16()[q*3*c:][:3*c]
			for k, v := range f[q*p+from:][:c] {
				h := gpu.FloatToBF16(v)
				to[k], to[c+k], to[2*c+k] = h, gpu.FloatToBF16(v-gpu.BF16ToFloat(h)), h
			}
		}
	})
}

// planesOf are the sizes of planes [N, C, H, W] and of maps [N, H, W, P] that hold them.
func planesOf(op string, planes, maps *gpu.Tensor) (n, area, c, p int) {
	a, b := planes.Shape(), maps.Shape()
	if len(a) != 4 || len(b) != 4 || a[0] != b[0] || a[2] != b[1] || a[3] != b[2] {
		fail(op, "planes %v and maps %v, want [N, C, H, W] and [N, H, W, P]", a, b)
	}
	return a[0], a[2] * a[3], a[1], b[3]
}

// bandStream is where an operation of these is launched; x may be bfloat16, out too where both are alike.
func bandStream(op string, out, x *gpu.Tensor, alike bool) *cuda.Stream {
	if x.DType() != gpu.Float32 && x.DType() != gpu.BFloat16 {
		fail(op, "maps of %v, want float32 or bfloat16", x.DType())
	}
	want := gpu.Float32
	if alike {
		want = x.DType()
	}
	if out.DType() != want {
		fail(op, "%v beside maps of %v, want %v", out.DType(), x.DType(), want)
	}
	return sameDevice(op, out, x).Stream()
}

func bandValue(t *gpu.Tensor, i int) float32 {
	if t.DType() == gpu.BFloat16 {
		return gpu.BF16ToFloat(t.U16()[i])
	}
	return t.F32()[i]
}

func setBand(t *gpu.Tensor, i int, v float32) {
	if t.DType() == gpu.BFloat16 {
		t.U16()[i] = gpu.FloatToBF16(v)
		return
	}
	t.F32()[i] = v
}

package ops

import (
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/cpu"
	"github.com/fidlab/fidlab/kernels"
)

// Func is a function of one variable, applied to every element.
type Func struct {
	f    cpu.Func
	a, b float64
}

// The functions without parameters. Φ is the normal distribution's integral, σ
// the logistic function.
var (
	Identity = Func{}
	ReLU     = Func{f: cpu.FuncReLU}     // max(x, 0)
	SiLU     = Func{f: cpu.FuncSiLU}     // x·σ(x)
	GELU     = Func{f: cpu.FuncGELU}     // x·Φ(x)
	GELUTanh = Func{f: cpu.FuncGELUTanh} // its approximation by tanh
	Sigmoid  = Func{f: cpu.FuncSigmoid}
	Tanh     = Func{f: cpu.FuncTanh}
	Softplus = Func{f: cpu.FuncSoftplus} // log(1 + eˣ)
	Exp      = Func{f: cpu.FuncExp}
	Log      = Func{f: cpu.FuncLog}
	Sqrt     = Func{f: cpu.FuncSqrt}
	Square   = Func{f: cpu.FuncSquare}
	Abs      = Func{f: cpu.FuncAbs} // slope 0 at 0
	Inverse  = Func{f: cpu.FuncInverse}
	Sign     = Func{f: cpu.FuncSign} // slope 0 everywhere
	Sin      = Func{f: cpu.FuncSin}
	Cos      = Func{f: cpu.FuncCos}
	Erf      = Func{f: cpu.FuncErf}
)

// LeakyReLU is x, and slope·x below 0.
func LeakyReLU(slope float64) Func { return Func{cpu.FuncLeaky, slope, 0} }

// Clip is x limited to [lo, hi]; its slope is 1 there, ends included, and 0 outside.
func Clip(lo, hi float64) Func {
	if !(lo <= hi) {
		fail("Clip", "limits %g and %g, want lo <= hi", lo, hi)
	}
	return Func{cpu.FuncClip, lo, hi}
}

func (f Func) String() string { return f.f.String() }

// mapBlock is how many elements a worker takes at a time: about ten microseconds.
const mapBlock = 1 << 13

// Map sets out to f(x). out may be x. It panics unless shapes, dtypes (float32 or
// float64) and devices agree.
func Map(out, x *gpu.Tensor, f Func) {
	s := streamOf("Map", out, x)
	sameShape("Map", out, x)
	if s != nil {
		k := byWidth(out, kernels.MapF32, kernels.MapF64)
		k(s, vectorGrid(out, out.Len()), out.Ptr(), x.Ptr(), int32(f.f), f.a, f.b, int64(out.Len()))
		return
	}
	c := newCall(mapBlockOf, out, x)
	c.fun, c.f[0], c.f[1] = f.f, f.a, f.b
	c.each(ceil(out.Len(), mapBlock))
}

func mapBlockOf(c *call, _ *cpu.Worker, i int) {
	lo, hi := i*mapBlock, min((i+1)*mapBlock, c.t[0].Len())
	if c.double() {
		cpu.Func64(c.fun, c.f[0], c.f[1], c.t[0].F64()[lo:hi], c.t[1].F64()[lo:hi])
		return
	}
	cpu.Func32(c.fun, c.f[0], c.f[1], c.t[0].F32()[lo:hi], c.t[1].F32()[lo:hi])
}

// MapBackward sets dx to dy·f'(x), or adds that to dx. dx may be dy.
func MapBackward(dx, x, dy *gpu.Tensor, f Func, acc bool) {
	s := streamOf("MapBackward", dx, x, dy)
	sameShape("MapBackward", dx, x, dy)
	if s != nil {
		k := byWidth(dx, kernels.MapBackwardF32, kernels.MapBackwardF64)
		k(s, vectorGrid(dx, dx.Len()), dx.Ptr(), x.Ptr(), dy.Ptr(), int32(f.f), f.a, f.b, flag(acc), int64(dx.Len()))
		return
	}
	c := newCall(mapBackBlock, dx, x, dy)
	c.fun, c.f[0], c.f[1], c.acc = f.f, f.a, f.b, acc
	c.each(ceil(dx.Len(), mapBlock))
}

func mapBackBlock(c *call, _ *cpu.Worker, i int) {
	lo, hi := i*mapBlock, min((i+1)*mapBlock, c.t[0].Len())
	if c.double() {
		cpu.FuncBack64(c.fun, c.f[0], c.f[1], c.t[0].F64()[lo:hi], c.t[1].F64()[lo:hi], c.t[2].F64()[lo:hi], c.acc)
		return
	}
	cpu.FuncBack32(c.fun, c.f[0], c.f[1], c.t[0].F32()[lo:hi], c.t[1].F32()[lo:hi], c.t[2].F32()[lo:hi], c.acc)
}

// Affine sets out to p·x + q·y + r, or adds that to out; y is nil for q = 0. out
// may be x or y.
func Affine(out *gpu.Tensor, p float64, x *gpu.Tensor, q float64, y *gpu.Tensor, r float64, acc bool) {
	s := streamOf("Affine", out, x, y)
	sameShape("Affine", out, x, y)
	if s != nil {
		k := byWidth(out, kernels.AffineF32, kernels.AffineF64)
		k(s, vectorGrid(out, out.Len()), out.Ptr(), p, x.Ptr(), q, ptr(y), r, flag(acc), int64(out.Len()))
		return
	}
	c := newCall(affineBlock, out, x, y)
	c.f[0], c.f[1], c.f[2], c.acc = p, q, r, acc
	c.each(ceil(out.Len(), cpu.VecChunk))
}

func affineBlock(c *call, _ *cpu.Worker, i int) {
	lo, hi := i*cpu.VecChunk, min((i+1)*cpu.VecChunk, c.t[0].Len())
	if c.double() {
		affine[float64](c, lo, hi)
	} else {
		affine[float32](c, lo, hi)
	}
}

func affine[T cpu.Float](c *call, lo, hi int) {
	var y []T
	if c.t[2] != nil {
		y = data[T](c.t[2])[lo:hi]
	}
	cpu.Blend(data[T](c.t[0])[lo:hi], c.acc, c.f[0], data[T](c.t[1])[lo:hi], c.f[1], y, c.f[2])
}

// Fill sets every element of t, of float32 or float64, to v; on a GPU any dtype to 0.
func Fill(t *gpu.Tensor, v float64) {
	if t.Device().CUDA() && v == 0 {
		t.Device().Stream().Memset(t.Ptr(), 0, t.Len()*t.DType().Size())
		return
	}
	if s := streamOf("Fill", t); s != nil {
		byWidth(t, kernels.FillF32, kernels.FillF64)(s, vectorGrid(t, t.Len()), t.Ptr(), v, int64(t.Len()))
		return
	}
	if t.Double() {
		fill(t.F64(), v)
	} else {
		fill(t.F32(), float32(v))
	}
}

func fill[T cpu.Float](x []T, v T) {
	if v == 0 {
		clear(x)
		return
	}
	for i := range x {
		x[i] = v
	}
}

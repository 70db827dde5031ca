package ops

import (
	"math"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/cpu"
	"github.com/fidlab/fidlab/kernels"
)

// Gated sets out, [..., D], to f(a)·b of the halves a and b of the last axis of x,
// [..., 2D], or with second to a·f(b): gated linear units (Shazeer 2020, arXiv 2002.05202).
// It panics when shapes do not fit, and unless dtypes (float32 or float64) and devices agree.
func Gated(out, x *gpu.Tensor, f Func, second bool) {
	c, rows := gatedCall("Gated", f, second, out, x, nil)
	if rows == 0 {
		return
	}
	if out.Device().CUDA() {
		k := byWidth(out, kernels.GatedF32, kernels.GatedF64)
		k(out.Device().Stream(), vectorGrid(out, out.Len()), out.Ptr(), x.Ptr(), int32(f.f), f.a, f.b, flag(second), int32(c.n[1]), int64(out.Len()))
		c.drop()
		return
	}
	c.fn = gatedRows
	c.each(ceil(rows, c.n[2]))
}

// GatedBackward sets dx, [..., 2D], to the gradient by x of a loss whose gradient by
// Gated's result is dy, [..., D].
func GatedBackward(dx, x, dy *gpu.Tensor, f Func, second bool) {
	const op = "GatedBackward"
	sameShape(op, x, dx)
	c, rows := gatedCall(op, f, second, dy, x, dx)
	if rows == 0 {
		return
	}
	if dy.Device().CUDA() {
		k := byWidth(dy, kernels.GatedBackwardF32, kernels.GatedBackwardF64)
		k(dy.Device().Stream(), vectorGrid(dy, dy.Len()), dx.Ptr(), x.Ptr(), dy.Ptr(), int32(f.f), f.a, f.b, flag(second), int32(c.n[1]), int64(dy.Len()))
		c.drop()
		return
	}
	c.fn = gatedBackRows
	c.each(ceil(rows, c.n[2]))
}

// gatedCall has rows, D and rows of an item in n, then where the gate and the value begin in
// a row of x. No rows: there is no call.
func gatedCall(op string, f Func, second bool, y, x, dx *gpu.Tensor) (*call, int) {
	s := streamOf(op, y, x, dx)
	ys, xs := y.Shape(), x.Shape()
	fits := len(ys) > 0 && len(ys) == len(xs)
	for i := range min(len(ys), len(xs)) {
		last := i == len(xs)-1
		fits = fits && (!last && xs[i] == ys[i] || last && xs[i] == 2*ys[i])
	}
	if !fits {
		fail(op, "a result of shape %v of x of shape %v, want the same but for a last axis of half the size", ys, xs)
	}
	if y.Len() == 0 {
		return nil, 0
	}
	if s != nil && y.Len() > math.MaxInt32 {
		fail(op, "a result of shape %v; a GPU takes 2^31-1 elements; use a smaller batch", ys)
	}
	rows, d := lastAxis(op, y)
	c := newCall(nil, y, x, dx)
	c.n[0], c.n[1], c.n[2], c.n[3], c.n[4] = rows, d, max(1, mapBlock/d), 0, d
	if second {
		c.n[3], c.n[4] = d, 0
	}
	c.fun, c.f[0], c.f[1] = f.f, f.a, f.b
	return c, rows
}

func gatedRows(c *call, _ *cpu.Worker, i int) {
	if c.double() {
		gated[float64](c, i)
	} else {
		gated[float32](c, i)
	}
}

func gated[T cpu.Float](c *call, i int) {
	d, first, end := c.n[1], i*c.n[2], min((i+1)*c.n[2], c.n[0])
	out, x := data[T](c.t[0])[first*d:], data[T](c.t[1])[2*first*d:]
	cpu.Gated(c.fun, c.f[0], c.f[1], end-first, d, out, d, x[c.n[3]:], x[c.n[4]:], 2*d)
}

func gatedBackRows(c *call, _ *cpu.Worker, i int) {
	if c.double() {
		gatedBack[float64](c, i)
	} else {
		gatedBack[float32](c, i)
	}
}

func gatedBack[T cpu.Float](c *call, i int) {
	d, first, end := c.n[1], i*c.n[2], min((i+1)*c.n[2], c.n[0])
	dy, x, dx := data[T](c.t[0])[first*d:], data[T](c.t[1])[2*first*d:], data[T](c.t[2])[2*first*d:]
	gate, value := c.n[3], c.n[4]
	cpu.GatedBack(c.fun, c.f[0], c.f[1], end-first, d, dx[gate:], dx[value:], x[gate:], x[value:], 2*d, dy, d)
}

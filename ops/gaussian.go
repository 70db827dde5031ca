package ops

import (
	"errors"
	"fmt"
	"math"
	"sync"

	"github.com/fidlab/fidlab/cuda"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/cpu"
	"github.com/fidlab/fidlab/kernels"
)

// Gaussian is a normal distribution of images of D values in low-rank form: the
// variance lambda[k] along row k of a basis and the variance rest in every
// direction across them. It may be used by several goroutines at once.
type Gaussian struct {
	mean, basis *gpu.Tensor // [D], [r, D]
	lambda      []float64
	rest        float64
	calls       sync.Pool // of *gaussianCall
}

type gaussianCall struct {
	gain     []float64 // [r]
	y32, p32 []float32 // [B, D], [B, r]
	y64, p64 []float64
}

// NewGaussian describes the distribution with that mean [D], an orthonormal basis
// [r, D], variances lambda along its rows and rest elsewhere. It refuses variances
// that are not finite or less than -1e-6 of the largest; smaller negative ones are
// rounding and become zero. mean and basis are float32 or float64 on one device;
// they are kept, and panics when their shapes do not fit.
func NewGaussian(mean, basis *gpu.Tensor, lambda []float64, rest float64) (*Gaussian, error) {
	const op = "NewGaussian"
	sameDevice(op, mean, basis)
	b := basis.Shape()
	if len(mean.Shape()) != 1 || len(b) != 2 || b[1] != mean.Len() || b[0] != len(lambda) || b[0] > b[1] || b[0] < 1 {
		fail(op, "mean %v, basis %v and %d variances; want [D], [r, D] and r of them, 1 <= r <= D", mean.Shape(), b, len(lambda))
	}
	if mean.DType() != basis.DType() || mean.DType() != gpu.Float32 && mean.DType() != gpu.Float64 {
		fail(op, "mean is %v, basis %v; want one of float32 and float64", mean.DType(), basis.DType())
	}
	g := &Gaussian{mean: mean, basis: basis, lambda: append([]float64(nil), lambda...), rest: rest}
	largest := math.Abs(rest)
	for _, l := range lambda {
		largest = math.Max(largest, math.Abs(l))
	}
	clean := func(v *float64) error {
		if !(*v >= -1e-6*largest) || math.IsInf(largest, 0) {
			return fmt.Errorf("ops: NewGaussian: variance %g beside a largest of %g; wanted finite numbers from 0 on: compute the covariance in float64", *v, largest)
		}
		*v = max(*v, 0)
		return nil
	}
	errs := []error{clean(&g.rest)}
	for k := range g.lambda {
		errs = append(errs, clean(&g.lambda[k]))
	}
	return g, errors.Join(errs[:min(len(errs), 8)]...)
}

// Flow carries states along the probability-flow ODE of this distribution, from
// the marginal x = a0·x0 + b0·n to a1·x0 + b1·n, in one step without error: with y
// = x - a0·mean,
//
//	out = a1·mean + Σ_k c(λ_k)·u_k·(u_k·y) + c(rest)·(y - Σ_k u_k·(u_k·y)),
//	c(λ) = √((a1²·λ + b1²)/(a0²·λ + b0²))
//
// (Wang and Vastola 2024). a0 = 0 is pure noise. x and out are [B, ...] of D
// values each; out may be x. It panics when the shapes do not fit and for a flow
// from no spread to some.
func (g *Gaussian) Flow(out, x *gpu.Tensor, a0, b0, a1, b1 float64) {
	c := g.call("Flow", out, x)
	rest := flowGain(g.rest, a0, b0, a1, b1)
	for k, l := range g.lambda {
		c.gain[k] = flowGain(l, a0, b0, a1, b1)
	}
	g.apply(c, out, x, a0, a1, rest)
}

// Spectral sets out to to·mean + f(Σ)·(x - from·mean), where the function f of the
// covariance Σ has gain(λ) where Σ has the variance λ: Σ_k gain(λ_k)·u_k·(u_k·y) +
// gain(rest)·(y - Σ_k u_k·(u_k·y)). Flow and Denoise are two such maps. out may be x.
func (g *Gaussian) Spectral(out, x *gpu.Tensor, from, to float64, gain func(lambda float64) float64) {
	c := g.call("Spectral", out, x)
	for k, l := range g.lambda {
		c.gain[k] = gain(l)
	}
	g.apply(c, out, x, from, to, gain(g.rest))
}

func flowGain(lambda, a0, b0, a1, b1 float64) float64 {
	from, to := a0*a0*lambda+b0*b0, a1*a1*lambda+b1*b1
	switch {
	case from > 0:
		return math.Sqrt(to / from)
	case to == 0 && a0 != 0: // no spread stays none
		return a1 / a0
	}
	panic(fmt.Sprintf("ops: Gaussian: a flow from %g·x0 + %g·n to %g·x0 + %g·n along a direction of variance %g; want noise at the start", a0, b0, a1, b1, lambda))
}

// Denoise sets out to E[x0 | x] for x = a·x0 + b·n: mean + λ·a/(a²·λ + b²)·y in the
// direction of variance λ, with y and the rest as for Flow.
func (g *Gaussian) Denoise(out, x *gpu.Tensor, a, b float64) {
	if a == 0 && b == 0 || math.IsNaN(a+b) {
		panic(fmt.Sprintf("ops: Gaussian: Denoise: x = %g·x0 + %g·n; want a or b above 0", a, b))
	}
	c := g.call("Denoise", out, x)
	gain := func(l float64) float64 {
		if v := a*a*l + b*b; v > 0 {
			return a * l / v
		}
		return 0
	}
	for k, l := range g.lambda {
		c.gain[k] = gain(l)
	}
	g.apply(c, out, x, a, 1, gain(g.rest))
}

func (g *Gaussian) call(op string, out, x *gpu.Tensor) *gaussianCall {
	op = "Gaussian: " + op
	sameDevice(op, out, x, g.mean)
	if s := x.Shape(); len(s) < 1 || x.Len() != s[0]*g.mean.Len() || out.Len() != x.Len() {
		fail(op, "x is %v, the output %v; want [B, ...] of %d values each", s, out.Shape(), g.mean.Len())
	}
	if x.DType() != g.mean.DType() || out.DType() != x.DType() {
		fail(op, "x is %v, the output %v, the distribution %v", x.DType(), out.DType(), g.mean.DType())
	}
	c, _ := g.calls.Get().(*gaussianCall)
	if c == nil {
		c = &gaussianCall{gain: make([]float64, len(g.lambda))}
	}
	return c
}

// apply sets out to to·mean + rest·y + Σ_k (gain_k - rest)·u_k·(u_k·y), y = x - from·mean.
func (g *Gaussian) apply(c *gaussianCall, out, x *gpu.Tensor, from, to, rest float64) {
	rows := x.Shape()[0]
	switch {
	case x.Len() == 0:
	case x.Device().CUDA():
		g.launch(c.gain, out, x, from, to, rest)
	case x.Double():
		c.y64, c.p64 = grown(c.y64, x.Len()), grown(c.p64, rows*len(g.lambda))
		r, d := len(g.lambda), g.mean.Len()
		centre(c.y64, x.F64(), g.mean.F64(), from)
		u := g.basis.F64()
		cpu.Gemm64(nil, false, true, rows, r, d, 1, c.y64, d, u, d, 0, c.p64, r)
		weigh(c.p64, c.gain, rest)
		spreadOut(out.F64(), c.y64, g.mean.F64(), to, rest)
		cpu.Gemm64(nil, false, false, rows, d, r, 1, c.p64, r, u, d, 1, out.F64(), d)
	default:
		c.y32, c.p32 = grown(c.y32, x.Len()), grown(c.p32, rows*len(g.lambda))
		r, d := len(g.lambda), g.mean.Len()
		centre(c.y32, x.F32(), g.mean.F32(), from)
		u := g.basis.F32()
		cpu.Gemm32(nil, false, true, rows, r, d, 1, c.y32, d, u, d, 0, c.p32, r)
		weigh(c.p32, c.gain, rest)
		spreadOut(out.F32(), c.y32, g.mean.F32(), to, rest)
		cpu.Gemm32(nil, false, false, rows, d, r, 1, c.p32, r, u, d, 1, out.F32(), d)
	}
	g.calls.Put(c)
}

func grown[T any](s []T, n int) []T {
	if cap(s) < n {
		return make([]T, n)
	}
	return s[:n]
}

func centre[T float32 | float64](y, x, mean []T, from float64) {
	for b := 0; b < len(x); b += len(mean) {
		for i, m := range mean {
			y[b+i] = T(float64(x[b+i]) - from*float64(m))
		}
	}
}

func weigh[T float32 | float64](p []T, gain []float64, rest float64) {
	for b := 0; b < len(p); b += len(gain) {
		for k, v := range gain {
			p[b+k] = T((v - rest) * float64(p[b+k]))
		}
	}
}

func spreadOut[T float32 | float64](out, y, mean []T, to, rest float64) {
	for b := 0; b < len(out); b += len(mean) {
		for i, m := range mean {
			out[b+i] = T(to*float64(m) + rest*float64(y[b+i]))
		}
	}
}

// sliceOf is how many dimensions one block of the projection sums: few while that
// is what fills the GPU.
func sliceOf(rows, rank, dims int) int {
	const few, many, enough = 64, 512, 1024 // dimensions, and blocks
	if ceil(rows, 64)*ceil(rank, 64)*ceil(dims, few) <= enough {
		return few
	}
	return many
}

func (g *Gaussian) launch(gain []float64, out, x *gpu.Tensor, from, to, rest float64) {
	rows, r, d := x.Shape()[0], len(g.lambda), g.mean.Len()
	slice := sliceOf(rows, r, d)
	parts := ceil(d, slice)
	if rows > 8*65535 || parts > 65535 || d > math.MaxInt32-1024 {
		fail("Gaussian", "%d samples of %d values; a GPU takes 524,280 samples of 33,553,920 at a time", rows, d)
	}
	s, n, size := x.Device().Stream(), rows*r, x.DType().Size()
	gains := uploaded(s, gain)
	part, coef := s.Alloc(size*n*parts), s.Alloc(size*n)
	project, weigh, expand := kernels.LowrankProjectF32, kernels.LowrankWeighF32, kernels.LowrankExpandF32
	if x.Double() {
		project, weigh, expand = kernels.LowrankProjectF64, kernels.LowrankWeighF64, kernels.LowrankExpandF64
	}
	mean, u := g.mean.Ptr(), g.basis.Ptr()
	project(s, cuda.Grid{X: ceil(r, 64), Y: ceil(rows, 64), Z: parts, BX: 256, BY: 1, BZ: 1},
		part, x.Ptr(), mean, u, from, int32(rows), int32(r), int32(d), int32(slice))
	weigh(s, cuda.Grid1(n, 256, 256), coef, part, gains, rest, int64(n), int32(r), int32(parts))
	expand(s, cuda.Grid{X: ceil(d, 256), Y: ceil(rows, 8), Z: 1, BX: 256, BY: 1, BZ: 1},
		out.Ptr(), x.Ptr(), mean, u, coef, from, to, rest, int32(rows), int32(r), int32(d))
	s.Free(coef)
	s.Free(part)
	s.Free(gains)
}

package ops

import (
	"math"

	"github.com/fidlab/fidlab/cuda"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/cpu"
	"github.com/fidlab/fidlab/kernels"
)

// AdamConfig is one step of Adam (Kingma and Ba 2015, arXiv 1412.6980), with the
// corrections for the first steps worked into Step and Root by the caller.
type AdamConfig struct {
	Scale        float64 // factor of the gradient
	L2           float64 // added to the gradient, times the parameter
	Beta1, Beta2 float64
	Step         float64 // learning rate over 1 - Beta1^t
	Root         float64 // 1/√(1 - Beta2^t)
	Eps          float64
	Keep         float64 // factor of the parameter, 1 - learning rate·decay (AdamW: Loshchilov and Hutter 2019, arXiv 1711.05101)
}

// Adam makes a step of elements lo to hi: with d = Scale·grad + L2·p, m = Beta1·m +
// (1-Beta1)·d, v = Beta2·v + (1-Beta2)·d², p = Keep·p - Step·m/(√v·Root + Eps). All
// tensors have one length and dtype (float32 or float64).
func Adam(p, m, v, grad *gpu.Tensor, lo, hi int, cfg AdamConfig) {
	if s := optimiser("Adam", lo, hi, p, m, v, grad); s != nil {
		k, size := byWidth(p, kernels.AdamF32, kernels.AdamF64), lo*p.DType().Size()
		k(s, vectorGrid(p, hi-lo), address(p, size), address(m, size), address(v, size), address(grad, size),
			cfg.Scale, cfg.L2, cfg.Beta1, cfg.Beta2, cfg.Step, cfg.Root, cfg.Eps, cfg.Keep, int64(hi-lo))
		return
	}
	c := newCall(adamBlock, p, m, v, grad)
	c.n[0], c.n[1] = lo, hi
	c.adam = cpu.Adam(cfg)
	c.each(ceil(hi-lo, optimBlock))
}

// optimBlock is how many parameters a worker takes at a time: stretches long enough for memory to be read ahead.
const optimBlock = 1 << 15

// optimiser is streamOf for operands of one length, of which those that are nil are none.
func optimiser(op string, lo, hi int, ts ...*gpu.Tensor) *cuda.Stream {
	s := streamOf(op, ts...)
	for i, t := range ts {
		if t != nil && t.Len() != ts[0].Len() {
			fail(op, "operand %d has %d elements, the parameters %d", i, t.Len(), ts[0].Len())
		}
	}
	if lo < 0 || hi < lo || hi > ts[0].Len() {
		fail(op, "elements %d to %d of %d", lo, hi, ts[0].Len())
	}
	return s
}

// address is where a piece of t begins, that many bytes behind its start; 0 where there is none.
func address(t *gpu.Tensor, bytes int) cuda.Ptr {
	if t == nil || t.Ptr() == 0 {
		return 0
	}
	return t.Ptr() + cuda.Ptr(bytes)
}

func adamBlock(c *call, _ *cpu.Worker, i int) {
	lo, hi := c.span(i, optimBlock)
	if c.double() {
		c.adam.Run64(c.t[0].F64()[lo:hi], c.t[1].F64()[lo:hi], c.t[2].F64()[lo:hi], c.t[3].F64()[lo:hi])
		return
	}
	c.adam.Run32(c.t[0].F32()[lo:hi], c.t[1].F32()[lo:hi], c.t[2].F32()[lo:hi], c.t[3].F32()[lo:hi])
}

// span is the elements of item i, of so many each, between n[0] and n[1].
func (c *call) span(i, block int) (lo, hi int) {
	lo = c.n[0] + i*block
	return lo, min(lo+block, c.n[1])
}

// LionConfig is one step of Lion (Chen et al. 2023, arXiv 2302.06675).
type LionConfig struct {
	Scale        float64 // factor of the gradient
	Beta1, Beta2 float64
	LR           float64
	Keep         float64 // factor of the parameter, 1 - learning rate·decay
}

// Lion makes a step of elements lo to hi: with d = Scale·grad, p = Keep·p -
// LR·sign(Beta1·m + (1-Beta1)·d), then m = Beta2·m + (1-Beta2)·d. m of float32 parameters may be
// BFloat16: it is rounded to nearest even.
func Lion(p, m, grad *gpu.Tensor, lo, hi int, cfg LionConfig) {
	if s := lionStream(p, m, grad, lo, hi); s != nil {
		k, size := byWidth(p, kernels.LionF32, kernels.LionF64), lo*p.DType().Size()
		if m.DType() == gpu.BFloat16 {
			k = kernels.LionM16
		}
		k(s, vectorGrid(p, hi-lo), address(p, size), address(m, lo*m.DType().Size()), address(grad, size),
			cfg.Scale, cfg.Beta1, cfg.Beta2, cfg.LR, cfg.Keep, int64(hi-lo))
		return
	}
	c := newCall(lionBlock, p, m, grad)
	c.n[0], c.n[1] = lo, hi
	c.lion = cpu.Lion(cfg)
	c.each(ceil(hi-lo, optimBlock))
}

func lionStream(p, m, grad *gpu.Tensor, lo, hi int) *cuda.Stream {
	if m.DType() != gpu.BFloat16 {
		return optimiser("Lion", lo, hi, p, m, grad)
	}
	s := optimiser("Lion", lo, hi, p, grad)
	sameDevice("Lion", p, m)
	if p.DType() != gpu.Float32 || m.Len() != p.Len() {
		fail("Lion", "parameters are %d of %v, the momentum %d of %v, want as many float32", p.Len(), p.DType(), m.Len(), m.DType())
	}
	return s
}

func lionBlock(c *call, _ *cpu.Worker, i int) {
	lo, hi := c.span(i, optimBlock)
	switch p, m, g := c.t[0], c.t[1], c.t[2]; m.DType() {
	case gpu.BFloat16:
		c.lion.RunNarrow(p.F32()[lo:hi], m.U16()[lo:hi], g.F32()[lo:hi])
	case gpu.Float64:
		c.lion.Run64(p.F64()[lo:hi], m.F64()[lo:hi], g.F64()[lo:hi])
	default:
		c.lion.Run32(p.F32()[lo:hi], m.F32()[lo:hi], g.F32()[lo:hi])
	}
}

// SGDConfig is one step of stochastic gradient descent.
type SGDConfig struct {
	Decay    float64 // added to the gradient, times the parameter
	Momentum float64
	Nesterov bool
	LR       float64
}

// SGD makes a step of elements lo to hi: with d = grad + Decay·p, v = Momentum·v + d and p
// = p - LR·v, or p - LR·(d + Momentum·v) with Nesterov. v is nil without momentum. The
// CPU's changes grad.
func SGD(p, v, grad *gpu.Tensor, lo, hi int, cfg SGDConfig) {
	if s := optimiser("SGD", lo, hi, p, v, grad); s != nil {
		k, size := byWidth(p, kernels.SgdF32, kernels.SgdF64), lo*p.DType().Size()
		k(s, vectorGrid(p, hi-lo), address(p, size), address(v, size), address(grad, size),
			cfg.Decay, cfg.Momentum, flag(cfg.Nesterov), cfg.LR, int64(hi-lo))
		return
	}
	c := newCall(sgdBlock, p, v, grad)
	c.n[0], c.n[1], c.sgd = lo, hi, cfg
	c.each(ceil(hi-lo, optimBlock))
}

func sgdBlock(c *call, _ *cpu.Worker, i int) {
	if c.double() {
		sgdOf[float64](c, i)
	} else {
		sgdOf[float32](c, i)
	}
}

func sgdOf[T cpu.Float](c *call, i int) {
	lo, hi := c.span(i, optimBlock)
	p, g, o := data[T](c.t[0])[lo:hi], data[T](c.t[2])[lo:hi], &c.sgd
	if o.Decay != 0 {
		cpu.Blend(g, false, 1, g, o.Decay, p, 0)
	}
	step := g
	if c.t[1] != nil {
		v := data[T](c.t[1])[lo:hi]
		cpu.Blend(v, false, o.Momentum, v, 1, g, 0)
		step = v
		if o.Nesterov {
			cpu.Blend(g, false, 1, g, o.Momentum, v, 0)
			step = g
		}
	}
	cpu.Blend(p, false, 1, p, -o.LR, step, 0)
}

// SumSquares is the sum of the squares of t's elements in float64, in fixed pieces
// that are added in order; NaN or an infinity where an element is not finite. A GPU waits
// for the answer, which is NaN when the device has failed.
func SumSquares(t *gpu.Tensor) float64 {
	if s := streamOf("SumSquares", t); s != nil {
		return launchSquares(s, t)
	}
	c := newCall(squaresBlock, t)
	c.n[0], c.n[1] = 0, t.Len()
	n := ceil(t.Len(), mapBlock)
	part := c.f64.take(n)
	cpu.Join(n, c.run)
	var s float64
	for _, v := range part {
		s += v
	}
	c.drop()
	return s
}

func squaresBlock(c *call, _ *cpu.Worker, i int) {
	lo, hi := c.span(i, mapBlock)
	if c.double() {
		c.f64.v[i] = cpu.SumSquares64(c.t[0].F64()[lo:hi])
	} else {
		c.f64.v[i] = cpu.SumSquares32(c.t[0].F32()[lo:hi])
	}
}

// Item is the one element of t. On a GPU it waits for the device; NaN when that has
// failed. It panics unless t has one element.
func Item(t *gpu.Tensor) float64 {
	if t.Len() != 1 {
		fail("Item", "shape %v has %d elements, want one", t.Shape(), t.Len())
	}
	switch {
	case t.F32() != nil:
		return float64(t.F32()[0])
	case t.F64() != nil:
		return t.F64()[0]
	}
	var v [1]float64
	if t.Read64(v[:]) != nil {
		return math.NaN()
	}
	return v[0]
}

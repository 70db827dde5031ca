package nn

import (
	"fmt"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/ops"
)

// BatchNorm normalises each channel of [N, C, ...] over batch and places (Ioffe and Szegedy
// 2015, arXiv 1502.03167): in training by the batch's mean and variance, of which it keeps
// running averages, else by these.
type BatchNorm struct {
	W, B     *Param      // [C]
	Mean     *gpu.Tensor // running, [C]
	Var      *gpu.Tensor // running, of the unbiased variance, [C]
	Eps      float64     // 1e-5
	Momentum float64     // the weight of a batch in the averages: 0.1
}

// NewBatchNorm registers weight and bias of each channel in s, and as buffers running_mean
// and running_var, which begin at 0 and 1.
func NewBatchNorm(s Scope, channels int) *BatchNorm {
	b := &BatchNorm{
		W: s.Param("weight", Ones, channels), B: s.Param("bias", Zeros, channels), Eps: 1e-5, Momentum: 0.1,
		Mean: s.set.dev.Zeros(s.set.dt, channels), Var: s.set.dev.Zeros(s.set.dt, channels),
	}
	ops.Fill(b.Var, 1)
	s.Buffer("running_mean", b.Mean)
	s.Buffer("running_var", b.Var)
	return b
}

// Forward is x normalised; with train the running averages take the batch in, which must have
// at least two elements a channel. It is not used with train inside a Checkpoint, where the
// batch would be taken in twice.
func (b *BatchNorm) Forward(x *Var, train bool) *Var {
	t, s := x.tape, x.Shape()
	c := b.W.shape[0]
	if len(s) < 2 || s[1] != c {
		panic(fmt.Sprintf("nn: BatchNorm: %s: shape %v, want [N, %d, ...]", b.W.Name, s, c))
	}
	area := 1
	for _, d := range s[2:] {
		area *= d
	}
	x = x.Reshape(s[0], c, area)
	w, shift := t.Use(b.W).Reshape(c, 1), t.Use(b.B).Reshape(c, 1)
	if !train {
		scale := t.newVar(b.Var).Affine(1, b.Eps).Map(ops.Inverse).Sqrt().Reshape(c, 1)
		return x.Sub(t.newVar(b.Mean).Reshape(c, 1)).Mul(scale).Mul(w).Add(shift).Reshape(s...)
	}
	n := s[0] * area
	if n < 2 {
		panic(fmt.Sprintf("nn: BatchNorm: %s: %d element a channel of shape %v, want at least 2 in training", b.W.Name, n, s))
	}
	mean := x.Mean(0, 2)
	d := x.Sub(mean)
	variance := d.Square().Mean(0, 2)
	flat := func(v *Var) *gpu.Tensor { return t.arena.View(v.val, c) }
	ops.Affine(b.Mean, 1-b.Momentum, b.Mean, b.Momentum, flat(mean), 0, false)
	ops.Affine(b.Var, 1-b.Momentum, b.Var, b.Momentum*float64(n)/float64(n-1), flat(variance), 0, false)
	return d.Mul(variance.Affine(1, b.Eps).Map(ops.Inverse).Sqrt()).Mul(w).Add(shift).Reshape(s...)
}

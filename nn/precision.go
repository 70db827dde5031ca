package nn

import (
	"fmt"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/ops"
)

// Precision is what linear layers and convolutions multiply on a tape. Everything else is float32: parameters, what optimisers keep,
// norms, softmax, attention's own products, MatMul, losses and sums.
type Precision int

const (
	// Full multiplies what there is.
	Full Precision = iota
	// BF16 rounds the operands of linear layers and convolutions, and of their gradients, to bfloat16 (to nearest even): products are
	// exact, sums float32 (Micikevicius et al. 2018, arXiv 1710.03740; Kalamkar et al. 2019, arXiv 1905.12322). Rounding is a constant's
	// matter: its slope counts as 1.
	BF16
)

// SetPrecision chooses it for what is recorded from now on. BF16 is for float32 tapes.
func (t *Tape) SetPrecision(p Precision) {
	if p != Full && p != BF16 || p == BF16 && t.dt != gpu.Float32 {
		panic(fmt.Sprintf("nn: SetPrecision: %d on a tape of %v, want Full, or BF16 on a tape of float32", p, t.dt))
	}
	t.bf16 = p == BF16
}

// lowWeight is a parameter rounded to bfloat16, in memory that stays from step to step.
type lowWeight struct {
	x   *gpu.Tensor
	run int // of the tape in which it was rounded
}

// weight is the operand w, and whether its values are bfloat16s already: parameters are rounded once a step.
func (t *Tape) weight(w *Var) (x *gpu.Tensor, known bool) {
	if !t.bf16 || w.param == nil {
		return w.val, false
	}
	l := t.low[w.param]
	if l == nil {
		l = &lowWeight{x: w.val.Like()}
		if t.low == nil {
			t.low = map[*Param]*lowWeight{}
		}
		t.low[w.param] = l
	}
	if l.run != t.runs {
		ops.RoundBF16(l.x, w.val)
		l.run = t.runs
	}
	return l.x, true
}

// rounded is x rounded to bfloat16, a tensor of the arena.
func (t *Tape) rounded(x *gpu.Tensor) *gpu.Tensor {
	y := t.empty(x.Shape()...)
	ops.RoundBF16(y, x)
	return y
}

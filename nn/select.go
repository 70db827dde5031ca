package nn

import (
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/ops"
)

// MaskedFill is x with v where mask, Uint8 on the CPU or x's device, is not 0; no gradient
// flows from there. The mask repeats to x's shape as numpy's do.
func (x *Var) MaskedFill(mask *gpu.Tensor, v float64) *Var {
	t := x.tape
	val := t.empty(x.Shape()...)
	ops.MaskedFill(val, x.val, mask, v, false)
	y, n := t.result(val, maskedFillBack, x, nil, nil, nil)
	if n != nil {
		n.ahead, n.save[0] = maskedFillAhead, mask
	}
	return y
}

func maskedFillBack(t *Tape, n *node) {
	if to, acc := t.into(n.in[0]); to != nil {
		ops.MaskedFill(to, n.out.grad, n.save[0], 0, acc)
	}
}

func maskedFillAhead(t *Tape, n *node) *Var { return t.dir(n.in[0]).MaskedFill(n.save[0], 0) }

// CumSum is the sums along an axis up to each element, itself included.
func (x *Var) CumSum(axis int) *Var {
	t := x.tape
	x.mustHave("CumSum", axis)
	val := t.empty(x.Shape()...)
	ops.CumSum(val, x.val, axis, false, false)
	y, n := t.result(val, cumSumBack, x, nil, nil, nil)
	if n != nil {
		n.ahead, n.n[0] = cumSumAhead, axis
	}
	return y
}

func cumSumBack(t *Tape, n *node) {
	if to, acc := t.into(n.in[0]); to != nil {
		ops.CumSum(to, n.out.grad, n.n[0], true, acc)
	}
}

func cumSumAhead(t *Tape, n *node) *Var { return t.dir(n.in[0]).CumSum(n.n[0]) }

// Flip is x with an axis in the reverse order.
func (x *Var) Flip(axis int) *Var {
	t := x.tape
	x.mustHave("Flip", axis)
	val := t.empty(x.Shape()...)
	ops.Flip(val, x.val, axis, false)
	y, n := t.result(val, flipBack, x, nil, nil, nil)
	if n != nil {
		n.ahead, n.n[0] = flipAhead, axis
	}
	return y
}

func flipBack(t *Tape, n *node) {
	if to, acc := t.into(n.in[0]); to != nil {
		ops.Flip(to, n.out.grad, n.n[0], acc)
	}
}

func flipAhead(t *Tape, n *node) *Var { return t.dir(n.in[0]).Flip(n.n[0]) }

// Unit is x over its length along the last axis, x/√(Σx² + eps).
func (x *Var) Unit(eps float64) *Var {
	x.mustHave("Unit", len(x.Shape())-1)
	d := x.Shape()[len(x.Shape())-1]
	return normalise(x, normNode{rms: true, eps: eps / float64(d)}).Scale(invRoot(d))
}

// CosineMatrix is the cosine of the angle between each row of x, [..., N, D], and each of y,
// [..., M, D], as [..., N, M]; eps is added to the squared lengths. The axes before are the
// same for both, or y has none.
func CosineMatrix(x, y *Var, eps float64) *Var { return x.Unit(eps).MatMulNT(y.Unit(eps)) }

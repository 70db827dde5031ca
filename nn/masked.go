package nn

import (
	"fmt"

	"github.com/fidlab/fidlab/ops"
)

// MaskedLinear is a linear layer whose weight every sample has a mask of its own for.
type MaskedLinear struct {
	W, B *Param   // [out, in] and [out]; B may be nil
	Func ops.Func // follows; the identity at first
}

// NewMaskedLinear registers weight and bias in s, as a linear layer's.
func NewMaskedLinear(s Scope, in, out int) *MaskedLinear {
	l := NewLinear(s, in, out)
	return &MaskedLinear{W: l.W, B: l.B}
}

// Forward is f(x[s]·(W∘mask[s])ᵀ + B) of x, [B, ..., in], with a mask [B, out, in] for each sample
// s; without a mask, nil, it is a linear layer's.
func (l *MaskedLinear) Forward(x, mask *Var) *Var {
	t := x.tape
	if mask == nil {
		return linear(x, t.Use(l.W), t.maybe(l.B), l.Func)
	}
	return x.MaskedLinear(t.Use(l.W), t.maybe(l.B), mask, l.Func)
}

// MaskedLinear is f(x[s]·(w∘mask[s])ᵀ + b) of x, [B, ..., in], with w [out, in], b [out] or nil and
// mask [B, out, in], whose gradient is w∘(dy[s]ᵀ·x[s]): with ST a hard mask passes it on to what it
// was made of. The masked weights are stored, and so is the gradient by each: B·out·in elements.
func (x *Var) MaskedLinear(w, b, mask *Var, f ops.Func) *Var {
	xs, ws, ms := x.Shape(), w.Shape(), mask.Shape()
	if len(xs) < 2 || len(ws) != 2 || len(ms) != 3 || xs[len(xs)-1] != ws[1] || ms[0] != xs[0] || ms[1] != ws[0] || ms[2] != ws[1] {
		panic(fmt.Sprintf("nn: MaskedLinear: x has shape %v, the weight %v, masks %v, want [B, ..., in], [out, in] and [B, out, in]", xs, ws, ms))
	}
	t := x.tape
	rows := 1
	for _, d := range xs[1 : len(xs)-1] {
		rows *= d
	}
	y := x.Reshape(xs[0], rows, ws[1]).MatMulNT(w.Mul(mask))
	t.shape = append(append(t.shape[:0], xs[:len(xs)-1]...), ws[0])
	y = y.Reshape(t.shape...)
	if b != nil {
		y = y.Add(b)
	}
	if f == ops.Identity {
		return y
	}
	return y.Map(f)
}

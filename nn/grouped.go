package nn

import (
	"fmt"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/ops"
)

// GroupedLinear is a linear layer for each group of rows: those of the experts of a mixture.
type GroupedLinear struct {
	W, B *Param   // [groups, out, in] and [groups, out]; B may be nil
	Func ops.Func // follows; the identity at first
}

// NewGroupedLinear registers weight and bias of that many layers in s. They start as linear
// layers do.
func NewGroupedLinear(s Scope, groups, in, out int) *GroupedLinear {
	if groups < 1 {
		panic(fmt.Sprintf("nn: NewGroupedLinear: %s: %d groups, want one or more", s.prefix, groups))
	}
	start := Uniform(invRoot(in))
	return &GroupedLinear{W: s.Param("weight", start, groups, out, in), B: s.Param("bias", start, groups, out)}
}

// Then makes f follow the layer, in the same pass. It returns l.
func (l *GroupedLinear) Then(f ops.Func) *GroupedLinear {
	l.Func = f
	return l
}

// Forward is f(x·W[g]ᵀ + B[g]), [R, out], of the rows of x, [R, in], sorted by their group g:
// group g has the rows from offsets[g] to before offsets[g+1], and offsets is Int32 [groups +
// 1] on the CPU or x's device. Rows from the last offset on are in no group; their results are
// zeros. See ops.GroupedLinear.
func (l *GroupedLinear) Forward(x *Var, offsets *gpu.Tensor) *Var {
	t := x.tape
	return x.GroupedLinear(t.Use(l.W), t.maybe(l.B), offsets, l.Func)
}

// GroupedLinear is f(x·w[g]ᵀ + b[g]) of the rows of x, [..., in], in groups g that offsets has as
// of the layer's Forward. w is [groups, out, in], b [groups, out] or nil.
func (x *Var) GroupedLinear(w, b *Var, offsets *gpu.Tensor, f ops.Func) *Var {
	t := x.tape
	xs, ws := x.Shape(), w.Shape()
	if len(ws) != 3 || len(xs) == 0 || xs[len(xs)-1] != ws[2] {
		panic(fmt.Sprintf("nn: GroupedLinear: x has shape %v, the weights %v, want [..., in] and [groups, out, in]", xs, ws))
	}
	val, pre, bias := t.linearOut(x, w, b, ws[1], f)
	ops.GroupedLinear(val, pre, x.val, w.val, bias, offsets, f)
	y, n := t.result(val, groupedLinearBack, x, w, b, nil)
	if n != nil {
		n.ahead, n.fun, n.save[0], n.save[1] = groupedLinearAhead, f, pre, offsets
	}
	return y
}

func groupedLinearBack(t *Tape, n *node) {
	x, w, b, offsets := n.in[0], n.in[1], n.in[2], n.save[1]
	g, own := n.gradientBefore(t)
	if to, acc := t.into(w); to != nil {
		ops.GroupedWeights(to, g, x.val, offsets, acc)
	}
	if b != nil {
		if to, acc := t.into(b); to != nil {
			ops.GroupedSum(to, g, offsets, acc)
		}
	}
	if to, acc := t.into(x); to != nil {
		ops.GroupedMatMul(to, g, w.val, offsets, ops.GroupedConfig{Acc: acc})
	}
	if own {
		t.arena.Free(g)
	}
}

func groupedLinearAhead(t *Tape, n *node) *Var {
	x, w, offsets := n.in[0], n.in[1], n.save[1]
	var d *Var
	if dx := t.dir(x); dx != nil {
		d = dx.GroupedLinear(w, nil, offsets, ops.Identity)
	}
	if dw := t.dir(w); dw != nil {
		d = plus(d, x.GroupedLinear(dw, nil, offsets, ops.Identity))
	}
	if db := t.dir(n.in[2]); db != nil { // of rows that are in a group
		ws := w.Shape()
		rows := t.empty(n.out.Shape()...)
		ops.GroupedLinear(rows, nil, t.Const(1, x.Shape()...).val, t.Const(0, ws...).val, db.val, offsets, ops.Identity)
		d = plus(d, t.newVar(rows))
	}
	return n.pastFun(t, d)
}

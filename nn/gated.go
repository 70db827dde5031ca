package nn

import (
	"fmt"

	"github.com/fidlab/fidlab/ops"
)

// Gated is f(a)·b of the halves a and b of the last axis of x, [..., 2D]; with second it is
// a·f(b).
func (x *Var) Gated(f ops.Func, second bool) *Var {
	t := x.tape
	s := x.Shape()
	if len(s) == 0 || s[len(s)-1]%2 != 0 {
		panic(fmt.Sprintf("nn: Gated: shape %v, want [..., an even number]", s))
	}
	t.shape = append(t.shape[:0], s...)
	t.shape[len(s)-1] /= 2
	val := t.empty(t.shape...)
	ops.Gated(val, x.val, f, second)
	y, n := t.result(val, gatedBack, x, nil, nil, nil)
	if n != nil {
		n.ahead, n.fun, n.n[0] = gatedAhead, f, number(second)
	}
	return y
}

func gatedBack(t *Tape, n *node) {
	x := n.in[0]
	if t.wants(x) {
		g := t.empty(x.Shape()...)
		ops.GatedBackward(g, x.val, n.out.grad, n.fun, n.n[0] == 1)
		t.pass(x, g, true)
	}
}

func gatedAhead(t *Tape, n *node) *Var {
	x := n.in[0]
	one, slope := t.Const(1, n.out.Shape()...), t.empty(x.Shape()...)
	ops.GatedBackward(slope, x.val, one.val, n.fun, n.n[0] == 1)
	d := t.newVar(slope).Mul(t.dir(x))
	last := len(x.Shape()) - 1
	half := x.Shape()[last] / 2
	return d.Slice(last, 0, half).Add(d.Slice(last, half, half))
}

// GatedMLP is a linear layer to pairs of a gate and a value, their product with a function
// of the gate, and a linear layer back (Shazeer 2020, arXiv 2002.05202).
type GatedMLP struct {
	In, Out *Linear
	Func    ops.Func
	Second  bool // the second half is the gate
}

// NewSwiGLU registers w12, whose first half is the gate, and w3 in s; its function is SiLU.
// hidden is the width of a half.
func NewSwiGLU(s Scope, width, hidden int) *GatedMLP {
	return &GatedMLP{In: NewLinear(s.At("w12"), width, 2*hidden), Out: NewLinear(s.At("w3"), hidden, width), Func: ops.SiLU}
}

// NewGEGLU registers net.0.proj, whose second half is the gate, and net.2 in s; its
// function is GELU. hidden is the width of a half.
func NewGEGLU(s Scope, width, hidden int) *GatedMLP {
	return &GatedMLP{In: NewLinear(s.At("net.0.proj"), width, 2*hidden), Out: NewLinear(s.At("net.2"), hidden, width), Func: ops.GELU, Second: true}
}

// Forward is the network's result.
func (m *GatedMLP) Forward(x *Var) *Var {
	return m.Out.Forward(m.In.Forward(x).Gated(m.Func, m.Second))
}

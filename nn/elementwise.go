package nn

import (
	"fmt"
	"slices"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/ops"
)

// Map is f of every element.
func (x *Var) Map(f ops.Func) *Var {
	t := x.tape
	val := t.empty(x.Shape()...)
	ops.Map(val, x.val, f)
	y, n := t.result(val, mapBack, x, nil, nil, nil)
	if n != nil {
		n.ahead, n.fun = mapAhead, f
	}
	return y
}

func mapBack(t *Tape, n *node) {
	x := n.in[0]
	if x.grad == nil && t.wants(x) && x.param == nil && x.node != nil {
		if g, own := n.gradient(t); own { // in place
			ops.MapBackward(g, x.val, g, n.fun, false)
			t.pass(x, g, true)
			return
		}
	}
	if to, acc := t.into(x); to != nil {
		ops.MapBackward(to, x.val, n.out.grad, n.fun, acc)
	}
}

// ReLU is max(x, 0).
func (x *Var) ReLU() *Var { return x.Map(ops.ReLU) }

// SiLU is x·σ(x).
func (x *Var) SiLU() *Var { return x.Map(ops.SiLU) }

// GELU is x·Φ(x).
func (x *Var) GELU() *Var { return x.Map(ops.GELU) }

// GELUTanh is GELU's approximation by tanh.
func (x *Var) GELUTanh() *Var { return x.Map(ops.GELUTanh) }

// Sigmoid is 1/(1 + e^-x).
func (x *Var) Sigmoid() *Var { return x.Map(ops.Sigmoid) }

// Tanh is the hyperbolic tangent.
func (x *Var) Tanh() *Var { return x.Map(ops.Tanh) }

// Softplus is log(1 + eˣ).
func (x *Var) Softplus() *Var { return x.Map(ops.Softplus) }

// Exp is eˣ.
func (x *Var) Exp() *Var { return x.Map(ops.Exp) }

// Log is the natural logarithm.
func (x *Var) Log() *Var { return x.Map(ops.Log) }

// Sqrt is the square root.
func (x *Var) Sqrt() *Var { return x.Map(ops.Sqrt) }

// Square is x².
func (x *Var) Square() *Var { return x.Map(ops.Square) }

// Abs is |x|, with slope 0 at 0.
func (x *Var) Abs() *Var { return x.Map(ops.Abs) }

// Clip is x limited to [lo, hi]; no gradient flows from outside.
func (x *Var) Clip(lo, hi float64) *Var { return x.Map(ops.Clip(lo, hi)) }

// Affine is p·x + r.
func (x *Var) Affine(p, r float64) *Var {
	t := x.tape
	val := t.empty(x.Shape()...)
	ops.Affine(val, p, x.val, 0, nil, r, false)
	y, n := t.result(val, affineBack, x, nil, nil, nil)
	if n != nil {
		n.ahead, n.f[0] = affineAhead, p
	}
	return y
}

// Scale is p·x.
func (x *Var) Scale(p float64) *Var { return x.Affine(p, 0) }

// Neg is -x.
func (x *Var) Neg() *Var { return x.Affine(-1, 0) }

func affineBack(t *Tape, n *node) {
	if to, acc := t.into(n.in[0]); to != nil {
		ops.Affine(to, n.f[0], n.out.grad, 0, nil, 0, acc)
	}
}

// The pairs, as node.n[0] has them.
const (
	pairAdd = iota
	pairSub
	pairMul
	pairDiv
	pairMin
	pairMax
)

var pairOps = [...]func(out, a, b *gpu.Tensor, acc bool){ops.Add, ops.Sub, ops.Mul, ops.Div, ops.Minimum, ops.Maximum}

// Add is x + y. Axes that one of the two lacks, or has with size 1, are repeated, as
// numpy does; so in the other functions of two operands.
func (x *Var) Add(y *Var) *Var { return x.pair(pairAdd, y) }

// Sub is x - y.
func (x *Var) Sub(y *Var) *Var { return x.pair(pairSub, y) }

// Mul is x·y, element by element.
func (x *Var) Mul(y *Var) *Var { return x.pair(pairMul, y) }

// Div is x/y.
func (x *Var) Div(y *Var) *Var { return x.pair(pairDiv, y) }

// Minimum is the smaller of x and y; of equals the gradient flows to x.
func (x *Var) Minimum(y *Var) *Var { return x.pair(pairMin, y) }

// Maximum is the greater of x and y; of equals the gradient flows to x.
func (x *Var) Maximum(y *Var) *Var { return x.pair(pairMax, y) }

func (x *Var) pair(op int, y *Var) *Var {
	t := x.tape
	val := t.empty(t.common(x.Shape(), y.Shape())...)
	pairOps[op](val, x.val, y.val, false)
	z, n := t.result(val, pairBack, x, y, nil, nil)
	if n != nil {
		n.ahead, n.n[0] = pairAhead, op
	}
	return z
}

// common is the shape that two shapes repeat to.
func (t *Tape) common(a, b []int) []int {
	if slices.Equal(a, b) {
		return a
	}
	if len(a) < len(b) {
		a, b = b, a
	}
	t.shape = append(t.shape[:0], a...)
	for i, d := range b {
		at := len(a) - len(b) + i
		switch {
		case a[at] == d || d == 1:
		case a[at] == 1:
			t.shape[at] = d
		default:
			panic(fmt.Sprintf("nn: shapes %v and %v do not repeat to one", a, b))
		}
	}
	return t.shape
}

// reduce adds g, of the result's shape, to the gradient by v, whose axes may repeat in
// it; own as for pass.
func (t *Tape) reduce(v *Var, g *gpu.Tensor, own bool) {
	if !t.wants(v) || v.val.Len() == g.Len() {
		t.pass(v, g, own)
		return
	}
	to, acc := t.into(v)
	ops.SumTo(to, g, nil, acc)
	if own {
		t.arena.Free(g)
	}
}

func pairBack(t *Tape, n *node) {
	x, y := n.in[0], n.in[1]
	switch n.n[0] {
	case pairAdd:
		g, own := n.gradient(t)
		t.reduce(x, g, false)
		t.reduce(y, g, own)
	case pairSub:
		g, own := n.gradient(t)
		t.reduce(x, g, false)
		if t.wants(y) {
			m := t.arena.New(t.dt, g.Shape()...)
			ops.Affine(m, -1, g, 0, nil, 0, false)
			t.reduce(y, m, true)
		}
		if own {
			t.arena.Free(g)
		}
	case pairMul:
		t.product(x, n.out.grad, y)
		t.product(y, n.out.grad, x)
	case pairDiv: // by y: -g·x/y² = -g·z/y
		g := n.out.grad
		q := t.arena.New(t.dt, g.Shape()...)
		ops.Div(q, g, y.val, false)
		if t.wants(y) {
			m := t.arena.New(t.dt, g.Shape()...)
			ops.Mul(m, q, n.out.val, false)
			ops.Affine(m, -1, m, 0, nil, 0, false)
			t.reduce(y, m, true)
		}
		t.reduce(x, q, true)
	default: // z is one of the two where they differ
		g := n.out.grad
		for i, v := range n.in[:2] {
			if t.wants(v) {
				m := t.arena.New(t.dt, g.Shape()...)
				ops.WhereEqual(m, g, v.val, n.out.val, x.val, i == 1)
				t.reduce(v, m, true)
			}
		}
	}
}

// product adds g·other, summed to v's shape, to the gradient by v.
func (t *Tape) product(v *Var, g *gpu.Tensor, other *Var) {
	if !t.wants(v) {
		return
	}
	switch {
	case v.val.Len() == g.Len():
		to, acc := t.into(v)
		if !slices.Equal(to.Shape(), g.Shape()) {
			to = t.arena.View(to, g.Shape()...)
		}
		ops.Mul(to, g, other.val, acc)
	case other.val.Len() == g.Len():
		to, acc := t.into(v)
		ops.SumTo(to, g, t.like(other.val, g), acc)
	default:
		m := t.arena.New(t.dt, g.Shape()...)
		ops.Mul(m, g, other.val, false)
		t.reduce(v, m, true)
	}
}

// like is x under g's shape.
func (t *Tape) like(x, g *gpu.Tensor) *gpu.Tensor {
	if slices.Equal(x.Shape(), g.Shape()) {
		return x
	}
	return t.arena.View(x, g.Shape()...)
}

// AddMul is x + y·z: a residual branch y with its gate z, or the reverse. y·z has x's
// shape after repeating.
func (x *Var) AddMul(y, z *Var) *Var {
	t := x.tape
	val := t.empty(x.Shape()...)
	ops.Affine(val, 1, x.val, 0, nil, 0, false)
	ops.Mul(val, y.val, z.val, true)
	out, n := t.result(val, addMulBack, x, y, z, nil)
	if n != nil {
		n.ahead = addMulAhead
	}
	return out
}

func addMulBack(t *Tape, n *node) {
	g, own := n.gradient(t)
	t.product(n.in[1], g, n.in[2])
	t.product(n.in[2], g, n.in[1])
	t.pass(n.in[0], g, own)
}

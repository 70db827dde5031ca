package nn

import (
	"fmt"
	"reflect"
	"runtime"
	"slices"
	"strings"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/ops"
)

// JVP is the derivative of y in a direction: Σ ∂y/∂x·dx over the xs, where x moves by the
// dx of the same index. The xs are Leaf Vars, parameters on the tape or results of
// operations, the dxs tensors of their shapes. y was made of them before, and is not
// computed again: the walk goes forward over what was recorded, at about the cost of
// making y, and costs no memory that grows with the number of steps back. The result is
// a constant. Operations whose derivative in a direction is not known, and Checkpoint,
// are a panic that names them.
func (t *Tape) JVP(y *Var, xs []*Var, dxs []*gpu.Tensor) *Var {
	if len(xs) != len(dxs) {
		panic(fmt.Sprintf("nn: JVP: %d Vars and %d directions", len(xs), len(dxs)))
	}
	t.session++
	for i, x := range xs {
		t.mustFit("JVP", dxs[i])
		switch {
		case x.tape != t || !x.needs:
			panic("nn: JVP: a Var of another tape, or one that nothing is recorded of: an Input, a frozen parameter, a result of those")
		case x.mark == t.session:
			panic("nn: JVP: one Var is moved twice")
		case !slices.Equal(x.Shape(), dxs[i].Shape()):
			panic(fmt.Sprintf("nn: JVP: a direction of shape %v for %v", dxs[i].Shape(), x.Shape()))
		}
		x.mark, x.tangent = t.session, t.newVar(dxs[i])
	}
	if y.tape != t {
		panic("nn: JVP: the Var is of another tape")
	}
	t.NoGrad(func() {
		if y.node == nil {
			return
		}
		for i := range y.node.at + 1 {
			n := t.nodes.at(i)
			if n.out.mark == t.session || !n.moves(t.session) {
				continue
			}
			if n.ahead == nil {
				panic("nn: JVP: the derivative of " + n.name() + " in a direction is not known")
			}
			if d := n.ahead(t, n); d != nil {
				n.out.mark, n.out.tangent = t.session, d
			}
		}
	})
	if y.mark != t.session {
		return t.Const(0, y.Shape()...)
	}
	return y.tangent
}

// moves tells whether an operand has a direction in this walk. What is to be computed
// again may have any.
func (n *node) moves(session int) bool {
	moved := func(v *Var) bool { return v != nil && v.mark == session }
	return n.again != nil || slices.ContainsFunc(n.in[:], moved) || slices.ContainsFunc(n.more, moved)
}

// name is the operation, for messages.
func (n *node) name() string {
	if n.again != nil {
		return "Checkpoint"
	}
	return strings.TrimSuffix(short(runtime.FuncForPC(reflect.ValueOf(n.back).Pointer()).Name()), "Back")
}

// dir is the direction of v in this walk, nil where it does not move.
func (t *Tape) dir(v *Var) *Var {
	if v == nil || v.mark != t.session {
		return nil
	}
	return v.tangent
}

// plus is a + b, where nil is nothing.
func plus(a, b *Var) *Var {
	switch {
	case a == nil:
		return b
	case b == nil:
		return a
	}
	return a.Add(b)
}

// times is d·v, nothing where d is.
func times(d, v *Var) *Var {
	if d == nil || v == nil {
		return d
	}
	return d.Mul(v)
}

func mapAhead(t *Tape, n *node) *Var {
	x := n.in[0]
	d := t.empty(x.Shape()...)
	ops.MapBackward(d, x.val, t.dir(x).val, n.fun, false)
	return t.newVar(d)
}

func affineAhead(t *Tape, n *node) *Var { return t.dir(n.in[0]).Scale(n.f[0]) }

func pairAhead(t *Tape, n *node) *Var {
	x, y, z := n.in[0], n.in[1], n.out
	dx, dy := t.dir(x), t.dir(y)
	var d *Var
	switch n.n[0] {
	case pairAdd:
		d = plus(dx, dy)
	case pairSub:
		if dy != nil {
			dy = dy.Neg()
		}
		d = plus(dx, dy)
	case pairMul:
		d = plus(times(dx, y), times(dy, x))
	case pairDiv: // (dx - z·dy)/y
		if dy != nil {
			dy = dy.Mul(z).Neg()
		}
		d = plus(dx, dy).Div(y)
	default: // z is one of the two where they differ
		for i, part := range [...]struct{ v, d *Var }{{x, dx}, {y, dy}} {
			if part.d != nil {
				m := t.empty(z.Shape()...)
				ops.WhereEqual(m, part.d.over(z).val, part.v.val, z.val, x.val, i == 1)
				d = plus(d, t.newVar(m))
			}
		}
	}
	return d.over(z)
}

// over is x with its axes repeated to z's shape.
func (x *Var) over(z *Var) *Var {
	if slices.Equal(x.Shape(), z.Shape()) {
		return x
	}
	return x.Add(x.tape.Const(0, z.Shape()...))
}

func addMulAhead(t *Tape, n *node) *Var {
	x, y, z := n.in[0], n.in[1], n.in[2]
	return plus(t.dir(x), plus(times(t.dir(y), z), times(t.dir(z), y))).over(n.out)
}

func reshapeAhead(t *Tape, n *node) *Var { return t.dir(n.in[0]).Reshape(n.out.Shape()...) }

func permuteAhead(t *Tape, n *node) *Var { // n.n holds the inverse
	d := t.dir(n.in[0])
	perm := make([]int, len(d.Shape()))
	for i, p := range n.n[:len(perm)] {
		perm[p] = i
	}
	return d.Permute(perm...)
}

func sliceAhead(t *Tape, n *node) *Var {
	return t.dir(n.in[0]).Slice(n.n[0], n.n[1], n.out.Shape()[n.n[0]])
}

func concatAhead(t *Tape, n *node) *Var {
	d, at := t.empty(n.out.Shape()...), 0
	ops.Fill(d, 0)
	for _, x := range n.more {
		if dx := t.dir(x); dx != nil {
			ops.PutSlice(d, dx.val, n.n[0], at, false)
		}
		at += x.Shape()[n.n[0]]
	}
	return t.newVar(d)
}

func sumAhead(t *Tape, n *node) *Var {
	d := t.empty(n.out.Shape()...)
	ops.SumTo(d, t.dir(n.in[0]).val, nil, false)
	return t.newVar(d).Scale(n.f[0])
}

// rowDot is Σ g·dx over the last axis, in the shape of the operation's result.
func rowDot(n *node, g, dx *Var) *Var {
	return g.Mul(dx).Sum(len(g.Shape()) - 1).Reshape(n.out.Shape()...)
}

func maxAhead(t *Tape, n *node) *Var {
	x := n.in[0]
	g := t.Const(0, x.Shape()...)
	ops.PickAdd(g.val, t.Const(1, n.out.Shape()...).val, n.save[0])
	return rowDot(n, g, t.dir(x))
}

func lseAhead(t *Tape, n *node) *Var {
	x := n.in[0]
	g := t.empty(x.Shape()...)
	ops.LogSumExpBackward(g, x.val, n.out.val, t.Const(1, n.out.Shape()...).val, false)
	return rowDot(n, t.newVar(g), t.dir(x))
}

// softmaxAhead uses that the matrix of derivatives of a row is symmetric.
func softmaxAhead(t *Tape, n *node) *Var {
	d := t.empty(n.out.Shape()...)
	ops.SoftmaxBackward(d, n.out.val, t.dir(n.in[0]).val, false)
	return t.newVar(d)
}

func crossEntropyAhead(t *Tape, n *node) *Var {
	x := n.in[0]
	g := t.empty(x.Shape()...)
	ops.CrossEntropyBackward(g, x.val, n.save[0], n.save[1], t.Const(1, n.out.Shape()...).val, n.f[0], false)
	return rowDot(n, t.newVar(g), t.dir(x))
}

func squaredErrorAhead(t *Tape, n *node) *Var {
	x, y := n.in[0], n.in[1]
	g := t.empty(x.Shape()...)
	ops.SquaredErrorBackward(g, x.val, y.val, t.Const(1, n.out.Shape()...).val, 1, false)
	d := t.dir(x)
	if dy := t.dir(y); dy != nil {
		d = plus(d, dy.Neg())
	}
	b := x.Shape()[0]
	return rowDot(n, t.newVar(g).Reshape(b, -1), d.Reshape(b, -1))
}

func matmulAhead(t *Tape, n *node) *Var {
	x, y := n.in[0], n.in[1]
	ta, tb, alpha := n.n[0] == 1, n.n[1] == 1, n.f[0]
	var d *Var
	if dx := t.dir(x); dx != nil {
		d = dx.matmul(y, ta, tb, alpha)
	}
	if dy := t.dir(y); dy != nil {
		d = plus(d, x.matmul(dy, ta, tb, alpha))
	}
	return d
}

// pastFun is the direction d of what a linear layer's function is applied to, past it.
func (n *node) pastFun(t *Tape, d *Var) *Var {
	if n.fun == ops.Identity {
		return d
	}
	e := t.empty(n.out.Shape()...)
	ops.MapBackward(e, n.save[0], d.val, n.fun, false)
	return t.newVar(e)
}

func linearAhead(t *Tape, n *node) *Var {
	x, w := n.in[0], n.in[1]
	var d *Var
	if dx := t.dir(x); dx != nil {
		d = linear(dx, w, nil, ops.Identity)
	}
	if dw := t.dir(w); dw != nil {
		d = plus(d, linear(x, dw, nil, ops.Identity))
	}
	return n.pastFun(t, plus(d, t.dir(n.in[2])).over(n.out))
}

func convAhead(t *Tape, n *node) *Var {
	x, w := n.in[0], n.in[1]
	var d *Var
	if dx := t.dir(x); dx != nil {
		d = convolve(dx, w, nil, n.conv)
	}
	if dw := t.dir(w); dw != nil {
		d = plus(d, convolve(x, dw, nil, n.conv))
	}
	if db := t.dir(n.in[2]); db != nil {
		if !n.conv.Last {
			db = db.Reshape(-1, 1, 1)
		}
		d = plus(d, db)
	}
	return d.over(n.out)
}

func upsampleAhead(t *Tape, n *node) *Var { return t.dir(n.in[0]).upsample(n.n[0], n.n[1] == 1) }

func dropoutAhead(t *Tape, n *node) *Var { return t.dir(n.in[0]).Dropout(n.mask) }

func turnAhead(t *Tape, n *node) *Var { return t.dir(n.in[0]).Turn(n.save[0], n.n[0] == 1) }

func rowsAhead(t *Tape, n *node) *Var { return t.dir(n.in[0]).Rows(n.save[0]) }

// normAhead uses that the derivatives of the normalised row u by the row are symmetric;
// then y = (u·w + b)·(1 + scale) + shift is differentiated as it stands.
func normAhead(t *Tape, n *node) *Var {
	p, x := &n.norm, n.in[0]
	plain := normNode{rms: p.rms, groups: p.groups, last: p.last, eps: p.eps}
	side := func(v *Var, perSample bool) *Var { // under x's axes
		if v == nil {
			return nil
		}
		t.shape = t.shape[:0]
		for i, d := range x.Shape() {
			channel := len(x.Shape()) - 1
			if p.groups > 0 && !p.last {
				channel = 1
			}
			if i != channel && (i != 0 || !perSample) {
				d = 1
			}
			t.shape = append(t.shape, d)
		}
		return v.Reshape(t.shape...)
	}
	w, b, scale := side(p.w, false), side(p.b, false), side(p.scale, true)
	dw, db := side(t.dir(p.w), false), side(t.dir(p.b), false)
	dscale, dshift := side(t.dir(p.scale), true), side(t.dir(p.shift), true)

	var d *Var
	if dx := t.dir(x); dx != nil {
		e := t.empty(x.Shape()...)
		plain.backward(e, false, ops.NormGrads{}, dx.val, x.val, n)
		d = times(t.newVar(e), w)
	}
	var u *Var
	if dw != nil || dscale != nil {
		u = normalise(x, plain)
	}
	if dw != nil {
		d = plus(d, u.Mul(dw))
	}
	d = plus(d, db)
	if d != nil && scale != nil {
		d = d.Mul(scale.Affine(1, 1))
	}
	if dscale != nil {
		if w != nil {
			u = u.Mul(w)
		}
		d = plus(d, plus(u, b).Mul(dscale))
	}
	d = plus(d, dshift).over(n.out)
	if !p.silu {
		return d
	}
	whole := *p
	whole.silu = false
	e := t.empty(x.Shape()...)
	ops.MapBackward(e, normalise(x, whole).val, d.val, ops.SiLU, false)
	return t.newVar(e)
}

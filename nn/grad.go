package nn

import (
	"fmt"
	"slices"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/ops"
)

// Backward adds the gradients of loss, a single number, to those of the parameters and
// to those of Leaf and kept Vars. It may be called several times in a step, for
// several losses of the same operations.
func (t *Tape) Backward(loss *Var) {
	t.backward("Backward", loss, nil)
}

// BackwardFrom is Backward for a result y of any shape with the gradient g by it, that
// is, for the loss Σ g·y. g is not changed.
func (t *Tape) BackwardFrom(y *Var, g *gpu.Tensor) {
	t.mustFit("BackwardFrom", g)
	if !slices.Equal(g.Shape(), y.Shape()) {
		panic(fmt.Sprintf("nn: BackwardFrom: the gradient has shape %v, the result %v", g.Shape(), y.Shape()))
	}
	t.backward("BackwardFrom", y, g)
}

func (t *Tape) backward(op string, y *Var, g *gpu.Tensor) {
	t.mustDiffer(op, y, g)
	t.session++
	t.partial = false
	t.walk(y, g)
	for _, v := range t.hooked {
		if v.grad == nil {
			continue
		}
		v.hook(v.grad)
		ops.Add(v.param.Grad(), v.param.Grad(), v.grad, false)
		t.arena.Free(v.grad)
		v.grad = nil
	}
}

func (t *Tape) mustDiffer(op string, y *Var, g *gpu.Tensor) {
	switch {
	case y.tape != t:
		panic("nn: " + op + ": the Var is of another tape")
	case g == nil && y.val.Len() != 1:
		panic(fmt.Sprintf("nn: %s: the loss has shape %v, want one number; take Mean or Sum, or BackwardFrom with a gradient", op, y.Shape()))
	case !y.needs:
		panic("nn: " + op + ": nothing that the loss was made of wants a gradient; are all parameters frozen, or was it made in NoGrad?")
	}
}

// Grad returns the gradients of loss by wrt: Leaf Vars, parameters on the tape (Use) and
// results of operations; nil where the loss does not depend on one. It adds to no
// gradient of Backward, and computes no other than those it needs. They live until
// the tape's next Run or Reset.
func (t *Tape) Grad(loss *Var, wrt ...*Var) []*gpu.Tensor {
	return t.GradFrom(nil, loss, nil, wrt...)
}

// GradFrom is Grad for a result y of any shape with the gradient g by it, nil for 1;
// gradients are appended to dst.
func (t *Tape) GradFrom(dst []*gpu.Tensor, y *Var, g *gpu.Tensor, wrt ...*Var) []*gpu.Tensor {
	t.mustDiffer("Grad", y, g)
	t.session++
	t.partial = true
	defer func() { t.partial = false }()
	for _, v := range wrt {
		if v.tape != t || !v.needs {
			panic("nn: Grad: a Var of another tape, or one that no gradient flows to: an Input, a frozen parameter, a result of those")
		}
		if v.asked == t.session {
			panic("nn: Grad: one Var is asked for twice")
		}
		v.mark, v.asked = t.session, t.session
	}
	if y.node != nil {
		t.markFrom(0, y.node.at)
	}
	if y.mark == t.session {
		t.walk(y, g)
	}
	for _, v := range wrt {
		dst = append(dst, v.grad)
		v.grad = nil
	}
	return dst
}

// markFrom marks the results of nodes first to last that lead to what Grad asks for.
func (t *Tape) markFrom(first, last int) {
	for i := first; i <= last; i++ {
		if n := t.nodes.at(i); n.out.mark != t.session && n.leads(t.session) {
			n.out.mark = t.session
		}
	}
}

// leads tells whether an operand leads to what Grad asks for. What is to be computed again
// may use parameters that nobody knows of yet.
func (n *node) leads(session int) bool {
	if n.again != nil {
		return true
	}
	for _, v := range n.in {
		if v != nil && v.mark == session {
			return true
		}
	}
	for _, v := range n.more {
		if v.mark == session {
			return true
		}
	}
	return false
}

// walk goes back from y over the nodes. Gradients of results go back to the arena as
// soon as they were used, unless they are kept or asked for.
func (t *Tape) walk(y *Var, g *gpu.Tensor) {
	to, acc := t.into(y)
	switch {
	case g == nil && acc:
		ops.Affine(to, 1, to, 0, nil, 1, false)
	case g == nil:
		ops.Fill(to, 1)
	default:
		ops.Affine(to, 1, g, 0, nil, 0, acc)
	}
	if y.node != nil {
		t.back(y.node.at, 0)
	}
}

// back goes from node last back to node first.
func (t *Tape) back(last, first int) {
	for i := last; i >= first; i-- {
		n := t.nodes.at(i)
		v := n.out
		if v.grad == nil || t.partial && v.mark != t.session {
			continue
		}
		if v.hook != nil {
			v.hook(v.grad)
		}
		if !t.partial || n.leads(t.session) {
			n.back(t, n)
			if t.watch != nil {
				t.tellBack(n)
			}
		}
		switch {
		case v.grad == nil:
		case !t.keeps(v):
			t.arena.Free(v.grad)
			v.grad = nil
		case !t.partial:
			if v.total != nil { // of an earlier walk
				t.arena.Free(v.total)
			}
			v.total, v.grad = v.grad, nil
		}
	}
}

// keeps tells whether the gradient by a result stays after its node was walked over.
func (t *Tape) keeps(v *Var) bool {
	if t.partial {
		return v.asked == t.session
	}
	return v.kept
}

// wants tells whether the walk makes a gradient by v.
func (t *Tape) wants(v *Var) bool {
	return v != nil && v.needs && (!t.partial || v.mark == t.session)
}

// into is where the gradient by v goes and whether it is added to what is there; nil
// where the walk makes none.
func (t *Tape) into(v *Var) (g *gpu.Tensor, acc bool) {
	if !t.wants(v) {
		return nil, false
	}
	if v.param != nil && v.hook == nil && !t.partial {
		return v.param.Grad(), true
	}
	at := t.place(v)
	if *at != nil {
		return *at, true
	}
	*at = t.arena.New(t.dt, v.Shape()...)
	return *at, false
}

// place is where a gradient by v that is not a parameter's slab is: Leaf Vars add up
// over walks of Backward, all else is the walk's own.
func (t *Tape) place(v *Var) **gpu.Tensor {
	if v.node == nil && v.param == nil && !t.partial {
		return &v.total
	}
	return &v.grad
}

// gradient is the gradient by n's result, and whether n may pass the tensor itself on,
// which it then must: to pass, or back to the arena.
func (n *node) gradient(t *Tape) (g *gpu.Tensor, own bool) {
	v := n.out
	g = v.grad
	if t.keeps(v) {
		return g, false
	}
	v.grad = nil
	return g, true
}

// pass adds g, of as many elements as v, to the gradient by v. own says that g may
// become that gradient, and is given up.
func (t *Tape) pass(v *Var, g *gpu.Tensor, own bool) {
	switch {
	case !t.wants(v):
		if own {
			t.arena.Free(g)
		}
		return
	case own && *t.place(v) == nil && (v.param == nil || v.hook != nil || t.partial):
		*t.place(v) = t.arena.View(g, v.Shape()...)
		return
	}
	to, acc := t.into(v)
	ops.Affine(to, 1, t.arena.View(g, v.Shape()...), 0, nil, 0, acc)
	if own {
		t.arena.Free(g)
	}
}

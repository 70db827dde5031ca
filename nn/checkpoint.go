package nn

import (
	"fmt"
	"slices"

	"github.com/fidlab/fidlab/gpu"
)

// Checkpoint is f(xs) without keeping what f computes on the way: the walk back computes
// it again, a block at a time, so that memory grows with a block and not with the
// network, for a third more arithmetic. f makes the same operations each time it is
// called; random masks by numbers, as Dropout's, are the same both times.
func (t *Tape) Checkpoint(f func(xs []*Var) *Var, xs ...*Var) *Var {
	if !t.recording() {
		return f(xs)
	}
	mark, nodes := t.arena.Mark(), t.nodes.used
	var val *gpu.Tensor
	t.NoGrad(func() {
		first := len(t.lists)
		for _, x := range xs {
			if x.tape != t {
				panic("nn: an operation on Vars of two tapes")
			}
			t.lists = append(t.lists, t.newVar(x.val))
		}
		y := f(t.lists[first:len(t.lists):len(t.lists)])
		if y.tape != t || y.needs {
			panic("nn: Checkpoint: f uses Vars from outside that need a gradient, or another tape; pass them to it")
		}
		val = y.val
	})
	if t.nodes.used != nodes {
		panic("nn: Checkpoint: f records in NoGrad")
	}
	t.arena.FreeSince(mark, func(yield func(*gpu.Tensor)) { yield(val) })
	y := t.newVar(val)
	n := t.nodes.next()
	first := len(t.lists)
	t.lists = append(t.lists, xs...)
	*n = node{back: checkpointBack, at: t.nodes.used - 1, out: y, more: t.lists[first:len(t.lists):len(t.lists)], again: f}
	if len(t.frozen) > 0 {
		n.frozen = slices.Clone(t.frozen)
	}
	y.node, y.needs = n, true
	return y
}

func checkpointBack(t *Tape, n *node) {
	g, own := n.gradient(t)
	mark, nodes, vars := t.arena.Mark(), t.nodes.used, t.vars.used
	frozen := t.frozen
	t.frozen = n.frozen
	first := len(t.lists)
	for _, x := range n.more {
		v := t.newVar(x.val)
		v.needs = t.wants(x)
		if t.partial && v.needs {
			v.mark, v.asked = t.session, t.session
		}
		t.lists = append(t.lists, v)
	}
	leaves := t.lists[first:len(t.lists):len(t.lists)]
	y := n.again(leaves)
	t.frozen = frozen
	if !slices.Equal(y.Shape(), n.out.Shape()) {
		panic(fmt.Sprintf("nn: Checkpoint: f gives shape %v the second time, %v the first", y.Shape(), n.out.Shape()))
	}
	if t.partial {
		t.markFrom(nodes, t.nodes.used-1)
	}
	t.pass(y, g, own) // frees g where nobody wants it
	if t.nodes.used > nodes {
		t.back(t.nodes.used-1, nodes)
	}
	for i, v := range leaves {
		if d := *t.place(v); d != nil {
			*t.place(v) = nil
			t.pass(n.more[i], d, true)
		}
	}
	// What was computed again goes, but for gradients of what was there before.
	t.arena.FreeSince(mark, func(yield func(*gpu.Tensor)) {
		for i := range t.vars.used {
			v := t.vars.at(i)
			if i >= vars && v.param == nil {
				continue
			}
			if v.grad != nil {
				yield(v.grad)
			}
			if v.total != nil {
				yield(v.total)
			}
		}
	})
	for i := nodes; i < t.nodes.used; i++ {
		*t.nodes.at(i) = node{}
	}
	t.nodes.used = nodes
}

package nn

import (
	"fmt"

	"github.com/fidlab/fidlab/ops"
)

// Reshape is x's elements under another shape; -1 once stands for what is left.
func (x *Var) Reshape(shape ...int) *Var {
	t := x.tape
	t.shape = append(t.shape[:0], shape...)
	known, free := 1, -1
	for i, d := range shape {
		if d == -1 && free < 0 {
			free = i
		} else {
			known *= d
		}
	}
	if free >= 0 && known > 0 {
		t.shape[free] = x.val.Len() / known
		known *= t.shape[free]
	}
	if known != x.val.Len() {
		panic(fmt.Sprintf("nn: Reshape: shape %v for %v", append([]int(nil), shape...), x.Shape()))
	}
	y, n := t.result(t.arena.View(x.val, t.shape...), reshapeBack, x, nil, nil, nil)
	if n != nil {
		n.ahead = reshapeAhead
	}
	return y
}

func reshapeBack(t *Tape, n *node) {
	g, own := n.gradient(t)
	t.pass(n.in[0], g, own)
}

// Permute is x with its axes in another order: axis i of the result is axis perm[i] of x.
func (x *Var) Permute(perm ...int) *Var {
	t := x.tape
	s := x.Shape()
	if len(perm) != len(s) || len(perm) > len(node{}.n) {
		panic(fmt.Sprintf("nn: Permute: permutation %v of shape %v", append([]int(nil), perm...), s))
	}
	t.shape = t.shape[:0]
	for _, p := range perm {
		x.mustHave("Permute", p)
		t.shape = append(t.shape, s[p])
	}
	val := t.empty(t.shape...)
	ops.Permute(val, x.val, false, perm...)
	y, n := t.result(val, permuteBack, x, nil, nil, nil)
	if n != nil {
		n.ahead = permuteAhead
		for i, p := range perm { // the inverse
			n.n[p] = i
		}
	}
	return y
}

func permuteBack(t *Tape, n *node) {
	if to, acc := t.into(n.in[0]); to != nil {
		ops.Permute(to, n.out.grad, acc, n.n[:len(to.Shape())]...)
	}
}

// Slice is n elements of x from first on along an axis.
func (x *Var) Slice(axis, first, n int) *Var {
	t := x.tape
	x.mustHave("Slice", axis)
	t.shape = append(t.shape[:0], x.Shape()...)
	t.shape[axis] = n
	val := t.empty(t.shape...)
	ops.Slice(val, x.val, axis, first, false)
	y, node := t.result(val, sliceBack, x, nil, nil, nil)
	if node != nil {
		node.ahead, node.n[0], node.n[1] = sliceAhead, axis, first
	}
	return y
}

func sliceBack(t *Tape, n *node) {
	if to, acc := t.into(n.in[0]); to != nil {
		if !acc {
			ops.Fill(to, 0)
		}
		ops.PutSlice(to, n.out.grad, n.n[0], n.n[1], acc)
	}
}

// Concat lays xs end to end along an axis; in all others their sizes agree.
func Concat(axis int, xs ...*Var) *Var {
	if len(xs) == 0 {
		panic("nn: Concat of nothing")
	}
	t := xs[0].tape
	xs[0].mustHave("Concat", axis)
	t.shape = append(t.shape[:0], xs[0].Shape()...)
	var some *Var // one that a gradient is wanted for
	for i, x := range xs {
		if x.tape != t {
			panic("nn: an operation on Vars of two tapes")
		}
		if i > 0 {
			x.mustHave("Concat", axis)
			t.shape[axis] += x.Shape()[axis]
		}
		if x.needs {
			some = x
		}
	}
	val := t.empty(t.shape...)
	at := 0
	for _, x := range xs {
		ops.PutSlice(val, x.val, axis, at, false)
		at += x.Shape()[axis]
	}
	y, n := t.result(val, concatBack, some, nil, nil, nil)
	if n != nil {
		n.ahead = concatAhead
		first := len(t.lists)
		t.lists = append(t.lists, xs...)
		n.in[0], n.more, n.n[0] = nil, t.lists[first:len(t.lists):len(t.lists)], axis
	}
	return y
}

func concatBack(t *Tape, n *node) {
	at := 0
	for _, x := range n.more {
		if to, acc := t.into(x); to != nil {
			ops.Slice(to, n.out.grad, n.n[0], at, acc)
		}
		at += x.Shape()[n.n[0]]
	}
}

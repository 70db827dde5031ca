package nn

import (
	"fmt"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/ops"
)

// Sum is the sum over the axes, which stay with size 1; over all, as a single number
// of shape [], where none is named.
func (x *Var) Sum(axes ...int) *Var { return x.sum(1, axes) }

// Mean is Sum over the number of elements summed.
func (x *Var) Mean(axes ...int) *Var {
	n := x.val.Len()
	if len(axes) > 0 {
		n = 1
		for _, a := range axes {
			x.mustHave("Mean", a)
			n *= x.Shape()[a]
		}
	}
	return x.sum(1/float64(n), axes)
}

func (x *Var) mustHave(op string, axis int) {
	if axis < 0 || axis >= len(x.Shape()) {
		panic(fmt.Sprintf("nn: %s: axis %d of shape %v", op, axis, x.Shape()))
	}
}

func (x *Var) sum(scale float64, axes []int) *Var {
	t := x.tape
	t.shape = t.shape[:0]
	if len(axes) > 0 {
		t.shape = append(t.shape, x.Shape()...)
		for _, a := range axes {
			x.mustHave("Sum", a)
			t.shape[a] = 1
		}
	}
	val := t.empty(t.shape...)
	ops.SumTo(val, x.val, nil, false)
	if scale != 1 {
		ops.Affine(val, scale, val, 0, nil, 0, false)
	}
	y, n := t.result(val, sumBack, x, nil, nil, nil)
	if n != nil {
		n.ahead, n.f[0] = sumAhead, scale
	}
	return y
}

func sumBack(t *Tape, n *node) {
	to, acc := t.into(n.in[0])
	if to == nil {
		return
	}
	g := n.out.grad
	k := t.arena.New(t.dt, g.Shape()...)
	ops.Affine(k, n.f[0], g, 0, nil, 0, false)
	if !acc {
		ops.Fill(to, 0)
	}
	ops.Add(to, to, k, false)
	t.arena.Free(k)
}

// MaxLast is the greatest element along the last axis, which goes; the gradient flows to
// the first of equals.
func (x *Var) MaxLast() *Var {
	t := x.tape
	x.mustHave("MaxLast", len(x.Shape())-1)
	s := x.Shape()
	val := t.empty(s[:len(s)-1]...)
	at := t.arena.New(gpu.Int32, s[:len(s)-1]...)
	ops.ArgMax(at, val, x.val)
	y, n := t.result(val, maxBack, x, nil, nil, nil)
	if n != nil {
		n.ahead, n.save[0] = maxAhead, at
	}
	return y
}

func maxBack(t *Tape, n *node) {
	if to, acc := t.into(n.in[0]); to != nil {
		if !acc {
			ops.Fill(to, 0)
		}
		ops.PickAdd(to, n.out.grad, n.save[0])
	}
}

// LogSumExp is log Σ exp(x) along the last axis, which goes.
func (x *Var) LogSumExp() *Var {
	t := x.tape
	x.mustHave("LogSumExp", len(x.Shape())-1)
	s := x.Shape()
	val := t.empty(s[:len(s)-1]...)
	ops.LogSumExp(val, x.val)
	y, n := t.result(val, lseBack, x, nil, nil, nil)
	if n != nil {
		n.ahead = lseAhead
	}
	return y
}

func lseBack(t *Tape, n *node) {
	if to, acc := t.into(n.in[0]); to != nil {
		ops.LogSumExpBackward(to, n.in[0].val, n.out.val, n.out.grad, acc)
	}
}

// Softmax is exp(x)/Σ exp(x) along the last axis.
func (x *Var) Softmax() *Var {
	t := x.tape
	val := t.empty(x.Shape()...)
	ops.Softmax(val, x.val)
	y, n := t.result(val, softmaxBack, x, nil, nil, nil)
	if n != nil {
		n.ahead = softmaxAhead
	}
	return y
}

func softmaxBack(t *Tape, n *node) {
	if to, acc := t.into(n.in[0]); to != nil {
		ops.SoftmaxBackward(to, n.out.val, n.out.grad, acc)
	}
}

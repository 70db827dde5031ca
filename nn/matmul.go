package nn

import (
	"fmt"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/ops"
)

// MatMul is the products x·y over the last two axes, [..., M, K] by [..., K, N]. The axes
// before are the same for both; an operand with two axes serves all matrices.
func (x *Var) MatMul(y *Var) *Var { return x.matmul(y, false, false, 1) }

// MatMulNT is x·yᵀ, with y [..., N, K].
func (x *Var) MatMulNT(y *Var) *Var { return x.matmul(y, false, true, 1) }

// MatMulTN is xᵀ·y, with x [..., K, M].
func (x *Var) MatMulTN(y *Var) *Var { return x.matmul(y, true, false, 1) }

func (x *Var) matmul(y *Var, ta, tb bool, alpha float64) *Var {
	t := x.tape
	xs, ys := x.Shape(), y.Shape()
	if len(xs) < 2 || len(ys) < 2 {
		panic(fmt.Sprintf("nn: MatMul: shapes %v and %v, want [..., rows, columns]", xs, ys))
	}
	lead := xs[:len(xs)-2]
	if len(ys) > len(xs) {
		lead = ys[:len(ys)-2]
	}
	t.shape = append(t.shape[:0], lead...)
	m, n := xs[len(xs)-2], ys[len(ys)-1]
	if ta {
		m = xs[len(xs)-1]
	}
	if tb {
		n = ys[len(ys)-2]
	}
	t.shape = append(t.shape, m, n)
	val := t.empty(t.shape...)
	xv, out := x.val, val
	if len(ys) == 2 && len(xs) > 2 && !ta { // one matrix of many rows
		xv, out = t.flat(xv), t.flat(out)
	}
	ops.MatMul(out, xv, y.val, ops.MatMulConfig{TransA: ta, TransB: tb, Alpha: alpha})
	z, node := t.result(val, matmulBack, x, y, nil, nil)
	if node != nil {
		node.ahead = matmulAhead
		node.n[0], node.n[1], node.f[0] = number(ta), number(tb), alpha
	}
	return z
}

func number(b bool) int {
	if b {
		return 1
	}
	return 0
}

// flat is x as one matrix of its last axis.
func (t *Tape) flat(x *gpu.Tensor) *gpu.Tensor {
	s := x.Shape()
	last := s[len(s)-1]
	rows := 0
	if last > 0 {
		rows = x.Len() / last
	}
	return t.arena.View(x, rows, last)
}

func matmulBack(t *Tape, n *node) {
	x, y, g := n.in[0], n.in[1], n.out.grad
	ta, tb, alpha := n.n[0] == 1, n.n[1] == 1, n.f[0]
	xv, yv := x.val, y.val
	flat := len(y.Shape()) == 2 && len(x.Shape()) > 2 && !ta
	if flat {
		xv, g = t.flat(xv), t.flat(g)
	}
	if t.wants(x) {
		if ta {
			t.productInto(x, yv, g, tb, true, alpha, false)
		} else {
			t.productInto(x, g, yv, false, !tb, alpha, flat)
		}
	}
	if t.wants(y) {
		if tb {
			t.productInto(y, g, xv, true, ta, alpha, false)
		} else {
			t.productInto(y, xv, g, !ta, false, alpha, false)
		}
	}
}

// productInto adds alpha·op(a)·op(b) to the gradient by v, summed over matrices where v is
// one for many.
func (t *Tape) productInto(v *Var, a, b *gpu.Tensor, ta, tb bool, alpha float64, flat bool) {
	cfg := ops.MatMulConfig{TransA: ta, TransB: tb, Alpha: alpha}
	many := max(len(a.Shape()), len(b.Shape()))
	if len(v.Shape()) < many {
		lead := a.Shape()
		if len(b.Shape()) == many {
			lead = b.Shape()
		}
		s := v.Shape()
		t.shape = append(append(t.shape[:0], lead[:many-2]...), s...)
		m := t.empty(t.shape...)
		ops.MatMul(m, a, b, cfg)
		t.reduce(v, m, true)
		return
	}
	to, acc := t.into(v)
	if flat {
		to = t.flat(to)
	}
	cfg.Acc = acc
	ops.MatMul(to, a, b, cfg)
}

// linearOut is room for a linear layer's result of so many columns, and for what f is applied to where the gradient needs it, else nil;
// and b's values, or nil.
func (t *Tape) linearOut(x, w, b *Var, columns int, f ops.Func) (val, pre, bias *gpu.Tensor) {
	xs := x.Shape()
	t.shape = append(append(t.shape[:0], xs[:len(xs)-1]...), columns)
	val = t.empty(t.shape...)
	if b != nil {
		bias = b.val
	}
	if f != ops.Identity && t.recording() && (x.needs || w.needs || b != nil && b.needs) {
		pre = t.empty(t.shape...)
	}
	return val, pre, bias
}

// linear is f(x·wᵀ + b); b may be nil.
func linear(x, w, b *Var, f ops.Func) *Var {
	t := x.tape
	xs, ws := x.Shape(), w.Shape()
	if len(ws) != 2 || len(xs) == 0 || xs[len(xs)-1] != ws[1] {
		panic(fmt.Sprintf("nn: Linear: x has shape %v, the weight %v, want [..., in] and [out, in]", xs, ws))
	}
	val, pre, bias := t.linearOut(x, w, b, ws[0], f)
	if t.bf16 {
		wv, known := t.weight(w)
		ops.LinearBF16(val, pre, x.val, wv, bias, f, known)
	} else {
		ops.Linear(val, pre, x.val, w.val, bias, f)
	}
	y, n := t.result(val, linearBack, x, w, b, nil)
	if n != nil {
		n.ahead, n.fun, n.save[0], n.n[0] = linearAhead, f, pre, number(t.bf16)
	}
	return y
}

// gradientBefore is the gradient of what a linear layer's function was applied to, save[0]; own says that it may be changed.
func (n *node) gradientBefore(t *Tape) (g *gpu.Tensor, own bool) {
	g, own = n.gradient(t)
	if n.fun == ops.Identity {
		return g, own
	}
	d := g
	if !own {
		d = t.empty(g.Shape()...)
	}
	ops.MapBackward(d, n.save[0], g, n.fun, false)
	return d, true
}

func linearBack(t *Tape, n *node) {
	x, w, b := n.in[0], n.in[1], n.in[2]
	g, own := n.gradientBefore(t)
	d, low := t.flat(g), n.n[0] == 1
	if to, acc := t.into(w); to != nil {
		ops.MatMul(to, d, t.flat(x.val), ops.MatMulConfig{TransA: true, Acc: acc, BF16: low})
	}
	if b != nil {
		if to, acc := t.into(b); to != nil {
			ops.SumTo(to, d, nil, acc)
		}
	}
	if to, acc := t.into(x); to != nil {
		wv, known := w.val, false
		if low {
			wv, known = t.weight(w)
		}
		ops.MatMul(t.flat(to), d, wv, ops.MatMulConfig{Acc: acc, BF16: low, KnownB: known})
	}
	if own {
		t.arena.Free(g)
	}
}

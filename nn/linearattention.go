package nn

import (
	"fmt"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/ops"
)

// LinearMemory is what causal linear attention has of its past.
type LinearMemory struct {
	// Decay is the natural logarithms of what is left of the past at each token, at most 0:
	// nil where nothing is lost, [B, T, H] for heads, [B, T, H, D] for columns of keys.
	Decay *Var
	State *Var // what came before, [B, H, D, E]; nil for nothing
	Chunk int  // tokens that are done at once, at most 32; 0 for a usual number. It changes rounding alone
}

// LinearAttention is causal attention without a softmax, whose past is a matrix of each head,
//
//	S[t] = diag(exp(Decay[t]))·S[t-1] + k[t]·v[t]ᵀ     out[t] = S[t]ᵀ·q[t]
//
// with q and k [B, T, H, D] and v [B, T, H, E]: out is [B, T, H, E], and state [B, H, D, E] the
// last S, the State of the tokens that follow. Both pass gradients on; out's alone cost once.
// Functions of queries and keys, such as exponentials, and normalisers are the caller's: a
// column of ones in v gives the sum that out is to be divided by. See ops.LinearAttention.
func LinearAttention(q, k, v *Var, m LinearMemory) (out, state *Var) {
	t := q.tape
	qs, vs := q.Shape(), v.Shape()
	if len(qs) != 4 || len(vs) != 4 || len(k.Shape()) != 4 {
		panic(fmt.Sprintf("nn: LinearAttention: shapes %v, %v and %v, want [B, T, heads, D] and of the values [B, T, heads, E]", qs, k.Shape(), vs))
	}
	in := linearOperands(q, k, v, m)
	outV, end := t.empty(vs...), t.empty(qs[0], qs[2], qs[3], vs[3])
	starts := t.empty(qs[0], qs[2], in.Chunks(), qs[3], vs[3])
	ops.LinearAttention(outV, end, starts, in)
	record := func(val *gpu.Tensor, isState int) *Var {
		some := q
		for _, x := range []*Var{k, v, m.Decay, m.State} {
			if x != nil && x.needs {
				some = x
			}
		}
		y, n := t.result(val, linearAttentionBack, some, nil, nil, nil)
		if n != nil {
			first := len(t.lists)
			for _, x := range [...]*Var{q, k, v, m.Decay, m.State} {
				if x != nil {
					t.lists = append(t.lists, x)
				}
			}
			n.in[0], n.more = nil, t.lists[first:len(t.lists):len(t.lists)]
			n.ahead = linearAttentionAhead
			n.n[0], n.n[1], n.n[2], n.n[3] = isState, m.Chunk, number(m.Decay != nil), number(m.State != nil)
			n.save[0], n.save[1] = starts, end
		}
		return y
	}
	return record(outV, 0), record(end, 1)
}

func linearOperands(q, k, v *Var, m LinearMemory) ops.LinearAttentionInput {
	return ops.LinearAttentionInput{Q: q.val, K: k.val, V: v.val, Decay: value(m.Decay), State: value(m.State), Chunk: m.Chunk}
}

// linearMemory is the operands of a node of LinearAttention.
func linearMemory(n *node) (q, k, v *Var, m LinearMemory) {
	q, k, v, m.Chunk = n.more[0], n.more[1], n.more[2], n.n[1]
	at := 3
	if n.n[2] == 1 {
		m.Decay = n.more[at]
		at++
	}
	if n.n[3] == 1 {
		m.State = n.more[at]
	}
	return q, k, v, m
}

func linearAttentionBack(t *Tape, n *node) {
	q, k, v, m := linearMemory(n)
	var g ops.LinearAttentionGrads
	to := func(x *Var) *gpu.Tensor {
		if !t.wants(x) {
			return nil
		}
		return t.empty(x.Shape()...)
	}
	g.Q, g.K, g.V, g.State = to(q), to(k), to(v), to(m.State)
	if t.wants(m.Decay) {
		g.Slope = t.empty(q.Shape()...)
	}
	dout, dend := n.out.grad, (*gpu.Tensor)(nil)
	if n.n[0] == 1 {
		dout, dend = nil, dout
	}
	backs := t.empty(n.save[0].Shape()...)
	ops.LinearAttentionBackward(g, dout, dend, n.save[1], n.save[0], backs, linearOperands(q, k, v, m))
	t.arena.Free(backs)
	if g.Slope != nil {
		slope := g.Slope
		if len(m.Decay.Shape()) == 3 {
			slope = t.empty(m.Decay.Shape()...)
			s := slope.Shape()
			ops.SumTo(t.arena.View(slope, s[0], s[1], s[2], 1), g.Slope, nil, false)
			t.arena.Free(g.Slope)
		}
		into, acc := t.into(m.Decay)
		ops.CumSum(into, slope, 1, true, acc)
		t.arena.Free(slope)
	}
	for _, p := range [...]struct {
		v *Var
		g *gpu.Tensor
	}{{q, g.Q}, {k, g.K}, {v, g.V}, {m.State, g.State}} {
		if p.g != nil {
			t.pass(p.v, p.g, true)
		}
	}
}

// linearAttentionAhead uses that results are linear in each operand but the decays, of which
// only sums up to tokens occur: those of a query's token less those of a key's.
func linearAttentionAhead(t *Tape, n *node) *Var {
	q, k, v, m := linearMemory(n)
	state := n.n[0] == 1
	fresh := LinearMemory{Decay: m.Decay, Chunk: m.Chunk}
	what := func(q, k, v *Var, m LinearMemory) *Var {
		out, end := LinearAttention(q, k, v, m)
		if state {
			return end
		}
		return out
	}
	var d *Var
	if dq := t.dir(q); dq != nil && !state {
		d = what(dq, k, v, m)
	}
	if dk := t.dir(k); dk != nil {
		d = plus(d, what(q, dk, v, fresh))
	}
	if dv := t.dir(v); dv != nil {
		d = plus(d, what(q, k, dv, fresh))
	}
	if m.State != nil {
		if ds := t.dir(m.State); ds != nil {
			d = plus(d, what(q, k, t.Const(0, v.Shape()...), LinearMemory{Decay: m.Decay, State: ds, Chunk: m.Chunk}))
		}
	}
	if m.Decay == nil || t.dir(m.Decay) == nil {
		if d == nil { // a query that moves does not move the state
			return t.Const(0, n.out.Shape()...)
		}
		return d
	}
	sums := t.dir(m.Decay).CumSum(1)
	if s := sums.Shape(); len(s) == 3 {
		sums = sums.Reshape(s[0], s[1], s[2], 1)
	}
	if !state {
		return plus(d, what(q.Mul(sums), k, v, m).Sub(what(q, k.Mul(sums), v, fresh)))
	}
	last := sums.Slice(1, sums.Shape()[1]-1, 1).Permute(0, 2, 3, 1) // [B, H, D or 1, 1]
	return plus(d, n.out.Mul(last).Sub(what(q, k.Mul(sums), v, fresh)))
}

// LinearAttentionFull is attention without a softmax and without an order, q·(Σ k·vᵀ) for each
// head, with the operands of LinearAttention: every query has all keys.
func LinearAttentionFull(q, k, v *Var) *Var {
	qs, vs := q.Shape(), v.Shape()
	if len(qs) != 4 || len(vs) != 4 || len(k.Shape()) != 4 {
		panic(fmt.Sprintf("nn: LinearAttentionFull: shapes %v, %v and %v, want [B, T, heads, D] and of the values [B, T, heads, E]", qs, k.Shape(), vs))
	}
	all := k.Permute(0, 2, 1, 3).MatMulTN(v.Permute(0, 2, 1, 3))
	return q.Permute(0, 2, 1, 3).MatMul(all).Permute(0, 2, 1, 3)
}

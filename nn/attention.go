package nn

import (
	"fmt"
	"math"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/ops"
)

// AttnMask says what a query sees; the zero value is everything, and a key is hidden where
// any of the fields hides it. The place of query i among the keys is i + Lk - Lq. A query
// that sees nothing has the result 0 and passes no gradient on.
type AttnMask struct {
	Causal  bool        // no key after the query's place
	Window  int         // > 0: only keys nearer than that to the query's place
	KeyLens *gpu.Tensor // nil, or Int32 [B]: keys from KeyLens[b] on are padding
	Pairs   *Pairs      // nil, or the keys that each query sees: BlockCausal, Condition, Dense, ...
	Bias    *Var        // nil, or [B or 1, H or 1, Lq, Lk], added to the scaled scores; -Inf hides a key
}

// Attention is softmax(scale·q·kᵀ + bias)·v for each head, q [B, Lq, H, D], k and v [B, Lk,
// Hkv, D] with H a multiple of Hkv, whose heads are shared; scale 0 stands for 1/√D. In
// float32 no matrix of Lq·Lk is stored (see ops.Attention); in float64, for tests, it is.
func Attention(q, k, v *Var, scale float64, m AttnMask) *Var {
	t := q.tape
	if len(q.Shape()) != 4 || len(k.Shape()) != 4 || len(v.Shape()) != 4 {
		panic(fmt.Sprintf("nn: Attention: shapes %v, %v and %v, want [B, L, heads, D]", q.Shape(), k.Shape(), v.Shape()))
	}
	m.check(q, k)
	if t.dt == gpu.Float64 {
		return attentionByParts(q, k, v, scale, m)
	}
	s := q.Shape()
	bias := m.bias(t)
	val, lse := t.empty(s...), t.empty(s[0], s[2], s[1])
	in, cfg := attnOperands(q, k, v, bias, m.KeyLens, scale, m.Causal, m.Window)
	ops.Attention(val, lse, in, cfg)
	y, n := t.result(val, attentionBack, q, k, v, bias)
	if n != nil {
		n.ahead, n.save[0], n.save[1], n.f[0] = attentionAhead, lse, m.KeyLens, scale
		n.n[0], n.n[1] = number(m.Causal), m.Window
	}
	return y
}

func attnOperands(q, k, v, bias *Var, lens *gpu.Tensor, scale float64, causal bool, window int) (ops.AttentionInput, ops.AttentionConfig) {
	return ops.AttentionInput{Q: q.val, K: k.val, V: v.val, KeyLens: lens, Bias: value(bias)},
		ops.AttentionConfig{Scale: float32(scale), Causal: causal, Window: window}
}

func attentionBack(t *Tape, n *node) {
	in, cfg := attnOperands(n.in[0], n.in[1], n.in[2], n.in[3], n.save[1], n.f[0], n.n[0] == 1, n.n[1])
	var to [4]*gpu.Tensor
	for i, v := range n.in {
		if i == 0 || t.wants(v) {
			to[i] = t.empty(v.Shape()...) // the operation overwrites its results, and always makes the first
		}
	}
	ops.AttentionBackward(to[0], to[1], to[2], to[3], n.out.grad, n.out.val, n.save[0], in, cfg)
	for i, g := range to {
		if g != nil {
			t.pass(n.in[i], g, true)
		}
	}
}

// attentionByParts is the definition, step by step.
func attentionByParts(q, k, v *Var, scale float64, m AttnMask) *Var {
	h := q.Shape()[2]
	p := attentionWeights(q.Permute(0, 2, 1, 3), shareHeads(k, h).Permute(0, 2, 1, 3), scale, m)
	return p.MatMul(shareHeads(v, h).Permute(0, 2, 1, 3)).Permute(0, 2, 1, 3)
}

// attentionWeights is what each query makes of each key, [B, H, Lq, Lk], of q and k [B, H,
// L, D] with as many heads.
func attentionWeights(q, k *Var, scale float64, m AttnMask) *Var {
	t := q.tape
	b, lq, lk, heads := q.Shape()[0], q.Shape()[2], k.Shape()[2], 1
	score := q.matmul(k, false, true, attentionScale(scale, q))
	var bias []float64
	if m.Bias != nil {
		score = score.Add(m.Bias)
		heads, bias = m.Bias.Shape()[1], make([]float64, m.Bias.val.Len())
		if err := m.Bias.val.Read64(bias); err != nil {
			panic("nn: Attention: " + err.Error())
		}
	}
	// What is hidden gets -Inf before and 0 after. Rows that see nothing would be NaN, and are raised.
	hide, keep, floor := make([]float32, b*heads*lq*lk), make([]float32, b*heads*lq), make([]float32, b*heads*lq)
	for r := range keep {
		s, i := r/(lq*heads), r%lq
		at := i + lk - lq
		for j := range lk {
			hidden := m.Causal && j > at || m.Window > 0 && (j-at >= m.Window || at-j >= m.Window) ||
				m.KeyLens != nil && j >= int(m.KeyLens.I32()[s]) || m.Pairs != nil && !m.Pairs.Sees(s, i, j) ||
				bias != nil && math.IsInf(bias[(r*lk+j)%len(bias)], -1)
			if hidden {
				hide[r*lk+j] = float32(math.Inf(-1))
			} else {
				keep[r] = 1
			}
		}
		if keep[r] == 1 {
			floor[r] = float32(math.Inf(-1))
		}
	}
	score = score.Add(t.host(hide, b, heads, lq, lk)).Maximum(t.host(floor, b, heads, lq, 1))
	return score.Softmax().Mul(t.host(keep, b, heads, lq, 1))
}

// attentionScale is the factor of the scores, [..., D] by [..., D].
func attentionScale(scale float64, q *Var) float64 {
	if scale == 0 {
		return 1 / math.Sqrt(float64(q.Shape()[len(q.Shape())-1]))
	}
	return scale
}

// host is a constant of values that are made here.
func (t *Tape) host(v []float32, shape ...int) *Var { return t.newVar(t.dev.FromAs(t.dt, v, shape...)) }

// attentionAhead stores the matrix of weights, which Attention avoids.
func attentionAhead(t *Tape, n *node) *Var {
	heads := n.in[0].Shape()[2]
	side := func(v *Var) *Var { // [B, H, L, D]
		if v == nil {
			return nil
		}
		return shareHeads(v, heads).Permute(0, 2, 1, 3)
	}
	q, k, v := side(n.in[0]), side(n.in[1]), side(n.in[2])
	dq, dk, dv := side(t.dir(n.in[0])), side(t.dir(n.in[1])), side(t.dir(n.in[2]))
	p, dp := weightsAhead(t, n, q, k, dq, dk, AttnMask{Causal: n.n[0] == 1, Window: n.n[1], KeyLens: n.save[1], Bias: n.in[3]})
	var d *Var
	if dp != nil {
		d = dp.MatMul(v)
	}
	if dv != nil {
		d = plus(d, p.MatMul(dv))
	}
	return d.Permute(0, 2, 1, 3)
}

// weightsAhead is the weights of q and k [B, H, L, D] and their direction from those of q, k
// and the mask's bias, nil where none moves.
func weightsAhead(t *Tape, n *node, q, k, dq, dk *Var, m AttnMask) (p, d *Var) {
	p = attentionWeights(q, k, n.f[0], m)
	scale := attentionScale(n.f[0], q)
	var ds *Var
	if m.Bias != nil {
		ds = t.dir(m.Bias)
	}
	if dq != nil {
		ds = plus(ds, dq.matmul(k, false, true, scale))
	}
	if dk != nil {
		ds = plus(ds, q.matmul(dk, false, true, scale))
	}
	if ds == nil {
		return p, nil
	}
	dp := t.empty(p.Shape()...)
	ops.SoftmaxBackward(dp, p.val, ds.over(p).val, false)
	return p, t.newVar(dp)
}

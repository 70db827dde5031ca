package nn

import (
	"fmt"
	"math"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/ops"
)

// AttnMask says what a query sees; the zero value is everything. The place of query i
// among the keys is i + Lk - Lq. A query that sees nothing has the result 0 and passes no
// gradient on.
type AttnMask struct {
	Causal  bool        // no key after the query's place
	Window  int         // > 0: only keys nearer than that to the query's place
	KeyLens *gpu.Tensor // nil, or Int32 [B]: keys from KeyLens[b] on are padding
	Bias    *Var        // nil, or [B or 1, H or 1, Lq, Lk], added to the scaled scores; -Inf hides a key
}

// Attention is softmax(scale·q·kᵀ + bias)·v for each head, q [B, Lq, H, D], k and v [B, Lk,
// Hkv, D] with H a multiple of Hkv, whose heads are shared; scale 0 stands for 1/√D. In
// float32 no matrix of Lq·Lk is stored (see ops.Attention); in float64, for tests, it is,
// and Hkv must be H.
func Attention(q, k, v *Var, scale float64, m AttnMask) *Var {
	t := q.tape
	if len(q.Shape()) != 4 || len(k.Shape()) != 4 || len(v.Shape()) != 4 {
		panic(fmt.Sprintf("nn: Attention: shapes %v, %v and %v, want [B, L, heads, D]", q.Shape(), k.Shape(), v.Shape()))
	}
	if t.dt == gpu.Float64 {
		return attentionByParts(q, k, v, scale, m)
	}
	s := q.Shape()
	val, lse := t.empty(s...), t.empty(s[0], s[2], s[1])
	in, cfg := attnOperands(q, k, v, m.Bias, m.KeyLens, scale, m.Causal, m.Window)
	ops.Attention(val, lse, in, cfg)
	y, n := t.result(val, attentionBack, q, k, v, m.Bias)
	if n != nil {
		n.save[0], n.save[1], n.f[0] = lse, m.KeyLens, scale
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
	t := q.tape
	b, lq, h, d, lk := q.Shape()[0], q.Shape()[1], q.Shape()[2], q.Shape()[3], k.Shape()[1]
	if k.Shape()[2] != h {
		panic(fmt.Sprintf("nn: Attention: %d query heads over %d key heads; want as many in float64", h, k.Shape()[2]))
	}
	if scale == 0 {
		scale = 1 / math.Sqrt(float64(d))
	}
	score := q.Permute(0, 2, 1, 3).matmul(k.Permute(0, 2, 1, 3), false, true, scale)
	if m.Bias != nil {
		score = score.Add(m.Bias)
	}
	// What is hidden gets -Inf before and 0 after; rows that see nothing would be NaN.
	hide, keep := t.Const(0, b, 1, lq, lk), t.Const(1, b, 1, lq, 1)
	for i := range b * lq * lk {
		at, j := i/lk%lq+lk-lq, i%lk
		hidden := m.Causal && j > at || m.Window > 0 && (j-at >= m.Window || at-j >= m.Window) ||
			m.KeyLens != nil && j >= int(m.KeyLens.I32()[i/(lq*lk)])
		if hidden {
			hide.val.F64()[i] = math.Inf(-1)
		}
	}
	for r := range b * lq {
		row := hide.val.F64()[r*lk:][:lk]
		seen := false
		for _, e := range row {
			seen = seen || e == 0
		}
		if !seen {
			clear(row)
			keep.val.F64()[r] = 0
		}
	}
	p := score.Add(hide).Softmax().Mul(keep)
	return p.MatMul(v.Permute(0, 2, 1, 3)).Permute(0, 2, 1, 3)
}

package nn

import (
	"fmt"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/ops"
)

// AttentionMaps is the probabilities softmax(scale·q·kᵀ + bias) that Attention weights values
// by, those of the heads and keys that sel chooses, [B, heads, Lq, keys], with one head where
// sel takes their mean; 0 for keys that a query does not see. No gradient flows to the bias.
// In float64 sel must be the zero value or Mean alone.
func AttentionMaps(q, k *Var, scale float64, m AttnMask, sel ops.MapSelect) *Var {
	t := q.tape
	if len(q.Shape()) != 4 || len(k.Shape()) != 4 {
		panic(fmt.Sprintf("nn: AttentionMaps: shapes %v and %v, want [B, L, heads, D]", q.Shape(), k.Shape()))
	}
	m.check(q, k)
	if t.dt == gpu.Float64 {
		if sel.Heads != nil || sel.Keys != nil {
			panic("nn: AttentionMaps: a choice of heads or keys in float64; choose by Slice")
		}
		p := attentionWeights(q.Permute(0, 2, 1, 3), shareHeads(k, q.Shape()[2]).Permute(0, 2, 1, 3), scale, m)
		if sel.Mean {
			p = p.Mean(1)
		}
		return p
	}
	s := q.Shape()
	heads, keys := s[2], k.Shape()[1]
	if sel.Heads != nil {
		heads = len(sel.Heads)
	}
	if sel.Mean {
		heads = 1
	}
	if sel.Keys != nil {
		keys = len(sel.Keys)
	}
	bias := m.bias(t)
	in, cfg := attnOperands(q, k, k, bias, m.KeyLens, scale, m.Causal, m.Window)
	val, lse, spare := t.empty(s[0], heads, s[1], keys), t.empty(s[0], s[2], s[1]), t.empty(s...)
	ops.Attention(spare, lse, in, cfg)
	t.arena.Free(spare)
	ops.AttentionMaps(val, lse, in, cfg, sel)
	y, n := t.result(val, mapsBack, q, k, nil, nil)
	if n != nil {
		n.ahead, n.save[0], n.save[1], n.save[2], n.f[0] = mapsAhead, lse, m.KeyLens, value(bias), scale
		n.n[0], n.n[1], n.sel = number(m.Causal), m.Window, sel
	}
	return y
}

func mapsBack(t *Tape, n *node) {
	q, k := n.in[0], n.in[1]
	in := ops.AttentionInput{Q: q.val, K: k.val, KeyLens: n.save[1], Bias: n.save[2]}
	cfg := ops.AttentionConfig{Scale: float32(n.f[0]), Causal: n.n[0] == 1, Window: n.n[1]}
	dq := t.empty(q.Shape()...) // the operation always makes it
	var dk *gpu.Tensor
	if t.wants(k) {
		dk = t.empty(k.Shape()...)
	}
	ops.AttentionMapsBackward(dq, dk, n.out.grad, n.save[0], in, cfg, n.sel)
	t.pass(q, dq, true)
	if dk != nil {
		t.pass(k, dk, true)
	}
}

func mapsAhead(t *Tape, n *node) *Var {
	h := n.in[0].Shape()[2]
	side := func(v *Var) *Var { // [B, H, L, D]
		if v == nil {
			return nil
		}
		return shareHeads(v, h).Permute(0, 2, 1, 3)
	}
	m := AttnMask{Causal: n.n[0] == 1, Window: n.n[1], KeyLens: n.save[1]}
	if n.save[2] != nil {
		m.Bias = t.newVar(n.save[2]) // it does not move
	}
	_, d := weightsAhead(t, n, side(n.in[0]), side(n.in[1]), side(t.dir(n.in[0])), side(t.dir(n.in[1])), m)
	d = d.pick(1, n.sel.Heads)
	if n.sel.Mean {
		d = d.Mean(1)
	}
	return d.pick(3, n.sel.Keys)
}

// pick is what is chosen along an axis; nil chooses all.
func (x *Var) pick(axis int, chosen []int) *Var {
	if chosen == nil {
		return x
	}
	var parts []*Var
	for _, i := range chosen {
		parts = append(parts, x.Slice(axis, i, 1))
	}
	return Concat(axis, parts...)
}

// AttentionFromMaps is maps·v for each head, with maps [B, H, Lq, Lk], which need not be
// probabilities, and v [B, Lk, Hkv, D], H a multiple of Hkv: [B, Lq, H, D].
func AttentionFromMaps(maps, v *Var) *Var {
	t := maps.tape
	ms, vs := maps.Shape(), v.Shape()
	if len(ms) != 4 || len(vs) != 4 || ms[0] != vs[0] || ms[3] != vs[1] || ms[1]%max(vs[2], 1) != 0 {
		panic(fmt.Sprintf("nn: AttentionFromMaps: maps %v and values %v, want [B, H, Lq, Lk] and [B, Lk, Hkv, D]", ms, vs))
	}
	if t.dt == gpu.Float64 {
		return maps.MatMul(shareHeads(v, ms[1]).Permute(0, 2, 1, 3)).Permute(0, 2, 1, 3)
	}
	val := t.empty(ms[0], ms[2], ms[1], vs[3])
	ops.AttentionFromMaps(val, maps.val, v.val)
	y, n := t.result(val, fromMapsBack, maps, v, nil, nil)
	if n != nil {
		n.ahead = fromMapsAhead
	}
	return y
}

func fromMapsAhead(t *Tape, n *node) *Var {
	maps, v := n.in[0], n.in[1]
	var d *Var
	if m := t.dir(maps); m != nil {
		d = AttentionFromMaps(m, v)
	}
	if dv := t.dir(v); dv != nil {
		d = plus(d, AttentionFromMaps(maps, dv))
	}
	return d
}

func fromMapsBack(t *Tape, n *node) {
	var to [2]*gpu.Tensor
	for i, v := range n.in[:2] {
		if t.wants(v) {
			to[i] = t.empty(v.Shape()...)
		}
	}
	ops.AttentionFromMapsBackward(to[0], to[1], n.out.grad, n.in[0].val, n.in[1].val)
	for i, g := range to {
		if g != nil {
			t.pass(n.in[i], g, true)
		}
	}
}

// shareHeads is k [B, L, Hkv, D] with every head repeated, [B, L, h, D].
func shareHeads(k *Var, h int) *Var {
	s := k.Shape()
	if s[2] == h {
		return k
	}
	if s[2] == 0 || h%s[2] != 0 {
		panic(fmt.Sprintf("nn: Attention: %d query heads over %d key heads, want a multiple", h, s[2]))
	}
	return k.Reshape(s[0], s[1], s[2], 1, s[3]).Add(k.tape.Const(0, h/s[2], 1)).Reshape(s[0], s[1], h, s[3])
}

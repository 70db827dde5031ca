package ops

import (
	"slices"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/cpu"
)

// MapSelect chooses attention maps. The maps of a choice are Float32
// [B, heads, Lq, keys], with as many heads and keys as are chosen; with Mean,
// one head.
type MapSelect struct {
	Heads []int // nil: all; else distinct heads, in the order of the maps
	Mean  bool  // the mean of the chosen heads
	Keys  []int // nil: all; else distinct keys, in the order of the maps
}

// extents checks the choice and returns how many heads and keys the maps have.
func (sel *MapSelect) extents(n *attnSizes) (heads, keys int) {
	if n.varlen {
		n.fail("sequences of several lengths (CuQ) have no maps; pad them and use KeyLens")
	}
	if n.blocksB > 0 {
		n.fail("a mask of blocks has no maps; hide keys by a Bias")
	}
	choose := func(what string, chosen []int, total int) int {
		if chosen == nil {
			return total
		}
		if len(chosen) == 0 {
			n.fail("no %s is chosen; nil chooses all", what)
		}
		for i, v := range chosen {
			if v < 0 || v >= total {
				n.fail("%s %d is chosen, there are %d", what, v, total)
			}
			if slices.Contains(chosen[:i], v) {
				n.fail("%s %d is chosen twice", what, v)
			}
		}
		return len(chosen)
	}
	heads, keys = choose("head", sel.Heads, n.h), choose("key", sel.Keys, n.lk)
	if sel.Mean {
		heads = 1
	}
	return heads, keys
}

func (sel *MapSelect) cpu() cpu.AttnSelect {
	return cpu.AttnSelect{Heads: sel.Heads, Keys: sel.Keys, Mean: sel.Mean}
}

// AttentionMaps sets maps to the probabilities that sel chooses,
//
//	P_ij = exp(Scale·Q_i·K_j + Bias_ij - lse_i)
//
// and 0 for keys that a query does not see. lse is what Attention gave for the
// same operands; in.V may be nil. It panics on operands that do not fit and on
// sequences of several lengths.
func AttentionMaps(maps, lse *gpu.Tensor, in AttentionInput, cfg AttentionConfig, sel MapSelect) {
	n := attnCheck("AttentionMaps", in, cfg, maps, lse)
	heads, keys := sel.extents(&n)
	n.is("maps", maps, n.b, heads, n.lq, keys)
	n.isLSE(lse)
	if maps.Len() == 0 {
		return
	}
	in.V = nil
	if maps.Device().CUDA() {
		n.attentionMapsCUDA(maps, lse, in, cfg, sel)
		return
	}
	a, s := n.cpu(in, cfg), sel.cpu()
	cpu.AttentionMaps(nil, &a, maps.F32(), lse.F32(), &s)
}

// AttentionMapsBackward sets dq and dk, like Q and K, to the gradients of a
// loss, given dmaps, its gradient by the maps of AttentionMaps with the same
// operands. dk may be nil. Results are overwritten and are none of the
// operands. Two calls give the same bits.
func AttentionMapsBackward(dq, dk, dmaps, lse *gpu.Tensor, in AttentionInput, cfg AttentionConfig, sel MapSelect) {
	n := attnCheck("AttentionMapsBackward", in, cfg, dq, dk, dmaps, lse)
	n.like("dq", dq, in.Q)
	n.likeOrNil("dk", dk, in.K)
	heads, keys := sel.extents(&n)
	n.is("dmaps", dmaps, n.b, heads, n.lq, keys)
	n.isLSE(lse)
	in.V = nil
	if dq.Device().CUDA() {
		n.attentionMapsBackwardCUDA(dq, dk, dmaps, lse, in, cfg, sel)
		return
	}
	a, s := n.cpu(in, cfg), sel.cpu()
	cpu.AttentionMapsBackward(nil, &a, attnRows(dq), attnRows(dk), dmaps.F32(), lse.F32(), &s)
}

// AttentionFromMaps sets out [B, Lq, H, D] to maps·V per head, where maps,
// Float32 [B, H, Lq, Lk], need not be probabilities: a method that edits maps
// owns them. V is [B, Lk, Hkv, D], H a multiple of Hkv, D <= 256, and has out's
// dtype.
func AttentionFromMaps(out, maps, v *gpu.Tensor) {
	n := mappedCheck("AttentionFromMaps", out, maps, v)
	if out.Len() == 0 {
		return
	}
	if out.Device().CUDA() {
		n.attentionFromMapsCUDA(out, maps, v)
		return
	}
	a := n.mapped(maps, v)
	cpu.AttentionFromMaps(nil, &a, attnRows(out))
}

// AttentionFromMapsBackward sets dmaps, like maps, and dv, like v, to the
// gradients of a loss, given dout, its gradient by the result of
// AttentionFromMaps. Either may be nil.
func AttentionFromMapsBackward(dmaps, dv, dout, maps, v *gpu.Tensor) {
	n := mappedCheck("AttentionFromMapsBackward", dout, maps, v, dmaps, dv)
	n.likeOrNil("dmaps", dmaps, maps)
	n.likeOrNil("dv", dv, v)
	if dout.Device().CUDA() {
		n.attentionFromMapsBackwardCUDA(dmaps, dv, dout, maps, v)
		return
	}
	a := n.mapped(maps, v)
	var dm []float32
	if dmaps != nil {
		dm = dmaps.F32()
	}
	cpu.AttentionFromMapsBackward(nil, &a, dm, attnRows(dv), attnRows(dout))
}

func mappedCheck(op string, out, maps, v *gpu.Tensor, rest ...*gpu.Tensor) attnSizes {
	n := attnCheck(op, AttentionInput{Q: out, K: v}, AttentionConfig{}, rest...)
	n.onDevice(out.Device(), maps)
	n.is("maps", maps, n.b, n.h, n.lq, n.lk)
	return n
}

func (n *attnSizes) mapped(maps, v *gpu.Tensor) cpu.AttnMapped {
	return cpu.AttnMapped{B: n.b, H: n.h, HKV: n.hkv, D: n.d, LQ: n.lq, LK: n.lk, Maps: maps.F32(), V: attnRows(v)}
}

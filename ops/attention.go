package ops

import (
	"math"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/cpu"
)

// AttentionConfig is what the operands of attention do not say. The place of
// query i among the keys is i + Lk - Lq: queries and keys end together.
type AttentionConfig struct {
	Scale  float32 // of the scores; 0 means 1/√D
	Causal bool    // a query sees no key after its place: j <= i + Lk - Lq
	Window int     // > 0: only keys with |i + Lk - Lq - j| < Window; with Causal, the Window last ones
}

// AttentionInput is the operands of attention, contiguous, all on one device.
// A query sees the keys that the configuration and KeyLens leave it.
type AttentionInput struct {
	// Q is [B, Lq, H, D], K and V [B, Lk, Hkv, D], where H is a multiple of Hkv:
	// heads h·H/Hkv and so on share head h of K and V. All three are Float32,
	// Float16 or BFloat16, and 1 <= D <= 256.
	Q, K, V *gpu.Tensor
	// KeyLens is nil or [B] Int32: keys from KeyLens[b] on are padding that no
	// query sees. Values are limited to 0..Lk. They may be on the CPU, from where they
	// are copied to a GPU without a wait.
	KeyLens *gpu.Tensor
	// Bias is nil or [B or 1, H or 1, Lq, Lk] Float32, added to the scaled
	// scores; -Inf hides a key.
	Bias *gpu.Tensor
	// Blocks is nil or [B or 1, H or 1, ceil(Lq/Block), ceil(Lk/Block)] Uint8: no query sees a key
	// whose block of Block queries and Block keys is 0 there, and no time is spent on such blocks.
	// Block is 64 or 128. Attention maps do not go with it.
	Blocks *gpu.Tensor
	Block  int
	// CuQ and CuK are nil or, for sequences of several lengths laid end to end,
	// both [B+1] Int32: sequence b has rows CuQ[b] to CuQ[b+1]-1 of Q, which is
	// then [total, H, D], and CuK likewise of K and V, [total, Hkv, D]. They
	// ascend from 0 to the total; on the CPU anything else panics, on a GPU it is
	// not checked. Such batches have no KeyLens, Bias or Blocks; Lq and Lk above
	// are the sequence's own, and MaxQ and MaxK bound them.
	CuQ, CuK   *gpu.Tensor
	MaxQ, MaxK int
}

// Attention sets out, like in.Q, to softmax(Scale·Q·Kᵀ + Bias)·V per head, and
// lse, Float32 [B, H, Lq] ([H, total] with CuQ), to the natural logarithm of the
// sum of the exponentials of each query's scores. A query that sees no key has
// zeros in out and -Inf in lse. Scores, exponentials and sums are float32 in
// every dtype; no matrix of Lq·Lk is ever stored (Dao 2023, arXiv 2307.08691).
// Scores of any finite size are safe; +Inf and NaN make their row NaN.
//
// out and lse are none of the operands. Two calls give the same bits, and a
// sequence's bits do not depend on the rest of its batch. It allocates nothing
// after the first call of its size, and panics on operands that do not fit.
func Attention(out, lse *gpu.Tensor, in AttentionInput, cfg AttentionConfig) {
	n := attnCheck("Attention", in, cfg, out, lse)
	n.like("out", out, in.Q)
	n.isLSE(lse)
	n.like("V", in.V, in.K)
	if n.queries == 0 {
		return
	}
	if out.Device().CUDA() {
		n.attentionCUDA(out, lse, in, cfg)
		return
	}
	a := n.cpu(in, cfg)
	cpu.AttentionForward(nil, &a, attnRows(out), lse.F32())
}

// AttentionBackward sets dq, dk and dv, like Q, K and V, and dbias, like Bias,
// to the gradients of a loss, given dout, its gradient by the result of
// Attention, and that result in out and lse, with the same operands:
//
//	P_ij  = exp(Scale·Q_i·K_j + Bias_ij - lse_i)
//	dS_ij = P_ij·(dout_i·V_j - dout_i·out_i)
//	dV_j = Σ_i P_ij·dout_i,  dQ_i = Scale·Σ_j dS_ij·K_j,  dK_j = Scale·Σ_i dS_ij·Q_i,  dBias_ij = dS_ij
//
// dbias is summed over the axes along which Bias is repeated. dk and dv may be
// nil, both or one, as may dbias. The results are overwritten and are none of
// the operands. Two calls give the same bits.
func AttentionBackward(dq, dk, dv, dbias *gpu.Tensor, dout, out, lse *gpu.Tensor, in AttentionInput, cfg AttentionConfig) {
	n := attnCheck("AttentionBackward", in, cfg, dq, dk, dv, dbias, dout, out, lse)
	n.like("dq", dq, in.Q)
	n.like("dout", dout, in.Q)
	n.like("out", out, in.Q)
	n.isLSE(lse)
	n.like("V", in.V, in.K)
	n.likeOrNil("dk", dk, in.K)
	n.likeOrNil("dv", dv, in.V)
	if dbias != nil {
		n.biasGradient(dbias, in.Bias)
	}
	if dq.Device().CUDA() {
		n.attentionBackwardCUDA(dq, dk, dv, dbias, dout, out, lse, in, cfg)
		return
	}
	a := n.cpu(in, cfg)
	g := cpu.AttnGrads{
		DOut: attnRows(dout), Out: attnRows(out), LSE: lse.F32(),
		DQ: attnRows(dq), DK: attnRows(dk), DV: attnRows(dv),
	}
	if dbias != nil {
		g.DBias = dbias.F32()
	}
	cpu.AttentionBackward(nil, &a, &g)
}

// cpu is the problem as package cpu takes it.
func (n *attnSizes) cpu(in AttentionInput, cfg AttentionConfig) cpu.Attn {
	a := cpu.Attn{
		B: n.b, H: n.h, HKV: n.hkv, D: n.d, LQ: n.lq, LK: n.lk,
		Scale: n.scale, Causal: cfg.Causal, Window: cfg.Window,
		Q: attnRows(in.Q), K: attnRows(in.K), V: attnRows(in.V),
		BiasB: n.biasB, BiasH: n.biasH,
	}
	if in.KeyLens != nil {
		a.KeyLens = in.KeyLens.I32()
	}
	if in.Bias != nil {
		a.Bias = in.Bias.F32()
	}
	if in.Blocks != nil {
		a.Blocks, a.Block, a.BlocksB, a.BlocksH = in.Blocks.U8(), in.Block, n.blocksB, n.blocksH
	}
	if in.CuQ != nil {
		a.CuQ, a.CuK = in.CuQ.I32(), in.CuK.I32()
		n.offsets("CuQ", a.CuQ, n.lq, n.queries)
		n.offsets("CuK", a.CuK, n.lk, n.keys)
	}
	return a
}

// attnRows is t's storage on the CPU; of nil, nothing.
func attnRows(t *gpu.Tensor) cpu.AttnRows {
	switch {
	case t == nil:
		return cpu.AttnRows{}
	case t.DType() == gpu.Float32:
		return cpu.AttnRows{F: t.F32()}
	}
	return cpu.AttnRows{U: t.U16(), BF16: t.DType() == gpu.BFloat16}
}

func attnScale(cfg AttentionConfig, d int) float32 {
	if cfg.Scale == 0 {
		return float32(1 / math.Sqrt(float64(d)))
	}
	return cfg.Scale
}

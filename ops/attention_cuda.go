package ops

import "github.com/fidlab/fidlab/gpu"

// The launches of attention's passes. Operands are checked, on one GPU, and
// hold at least one query.

func (n *attnSizes) attentionCUDA(out, lse *gpu.Tensor, in AttentionInput, cfg AttentionConfig) {
	n.onlyCPU()
}

func (n *attnSizes) attentionBackwardCUDA(dq, dk, dv, dbias, dout, out, lse *gpu.Tensor, in AttentionInput, cfg AttentionConfig) {
	n.onlyCPU()
}

func (n *attnSizes) attentionMapsCUDA(maps, lse *gpu.Tensor, in AttentionInput, cfg AttentionConfig, sel MapSelect) {
	n.onlyCPU()
}

func (n *attnSizes) attentionMapsBackwardCUDA(dq, dk, dmaps, lse *gpu.Tensor, in AttentionInput, cfg AttentionConfig, sel MapSelect) {
	n.onlyCPU()
}

func (n *attnSizes) attentionFromMapsCUDA(out, maps, v *gpu.Tensor) { n.onlyCPU() }

func (n *attnSizes) attentionFromMapsBackwardCUDA(dmaps, dv, dout, maps, v *gpu.Tensor) {
	n.onlyCPU()
}

func (n *attnSizes) onlyCPU() { n.fail("runs on the CPU only; move the operands with To") }

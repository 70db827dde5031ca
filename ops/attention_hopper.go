package ops

import (
	"os"
	"sync/atomic"

	"github.com/fidlab/fidlab/cuda"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/kernels"
)

// Attention on compute capability 9.0: what most calls are has kernels of its own there.

type (
	attnHopperLaunch = func(s *cuda.Stream, g cuda.Grid, out, lse cuda.Ptr, q, k, v cuda.TensorMap, keyLens cuda.Ptr, scale float32,
		right, batch, heads, kvHeads, lq, lk int32)
	attnHopperDQLaunch = func(s *cuda.Stream, g cuda.Grid, dq, lse, delta cuda.Ptr, q, dout, k, v cuda.TensorMap, scale float32,
		right, batch, heads, kvHeads, lq, lk int32)
	attnHopperDKVLaunch = func(s *cuda.Stream, g cuda.Grid, dk, dv, lse, delta cuda.Ptr, q, dout, k, v cuda.TensorMap, scale float32,
		right, batch, heads, kvHeads, lq, lk int32)
)

// The kernels by dtype (attnDType, less Float32) and by d = 64, 128; the contracts have the same
// numbers.
var attnHopperForward = [2][2]attnKernel[attnHopperLaunch]{
	{{128, 384, 148480, kernels.AttentionHopperF1664}, {128, 384, 164864, kernels.AttentionHopperF16128}},
	{{128, 384, 148480, kernels.AttentionHopperBf1664}, {128, 384, 164864, kernels.AttentionHopperBf16128}},
}

var attnHopperDQ = [2][2]attnKernel[attnHopperDQLaunch]{
	{{128, 384, 99328, kernels.AttentionHopperDqF1664}, {128, 384, 132096, kernels.AttentionHopperDqF16128}},
	{{128, 384, 99328, kernels.AttentionHopperDqBf1664}, {128, 384, 132096, kernels.AttentionHopperDqBf16128}},
}

var attnHopperDKV = [2][2]attnKernel[attnHopperDKVLaunch]{
	{{128, 384, 66560, kernels.AttentionHopperDkvF1664}, {128, 384, 132096, kernels.AttentionHopperDkvF16128}},
	{{128, 384, 66560, kernels.AttentionHopperDkvBf1664}, {128, 384, 132096, kernels.AttentionHopperDkvBf16128}},
}

// The rows of a box: as many as one product has, or the keys and values of a step of 128. A box has
// attnHopperPart elements of each.
const (
	attnHopperRows = 64
	attnHopperKeys = 128
	attnHopperPart = 64
)

// Hopper says when kernels are taken that are compiled for compute capability 9.0 alone.
type Hopper int32

// HopperAuto, where such a device runs, is the start, unless FIDLAB_HOPPER=0 asks for HopperNever.
// HopperHost also takes them on the host device, for tests and rehearsals.
const (
	HopperAuto Hopper = iota
	HopperNever
	HopperHost
)

var hopper atomic.Int32

func init() {
	if os.Getenv("FIDLAB_HOPPER") == "0" {
		SetHopper(HopperNever)
	}
}

// SetHopper sets when such kernels are taken from now on, and returns what was set before.
func SetHopper(h Hopper) (before Hopper) { return Hopper(hopper.Swap(int32(h))) }

// attnHopper tells whether a device takes attention's. A variable so that tests count.
var attnHopper = func(d cuda.Device) bool {
	switch Hopper(hopper.Load()) {
	case HopperNever:
		return false
	case HopperHost:
		return cuda.HostDevice() || kernels.AttentionHopperHere(d)
	}
	return !cuda.HostDevice() && kernels.AttentionHopperHere(d)
}

// fitsHopper tells whether a call is one that these kernels are for: not another device or dtype,
// other heads, a bias, blocks, a window, lengths by CuQ, or none of keys.
func (n *attnSizes) fitsHopper(s *cuda.Stream, p *attnProblem) bool {
	return p.dt != 0 && (n.d == 64 || n.d == 128) && !n.varlen && p.bias == 0 && p.blocks == 0 && p.left < 0 && p.right <= 0 && n.lk > 0 && attnHopper(s.Dev().Info())
}

// attentionHopper runs the forward pass on these kernels and returns true, or returns false where
// they do not fit, the scale is not positive, or no tensor map describes the tensors.
func (n *attnSizes) attentionHopper(out, lse *gpu.Tensor, in AttentionInput, p *attnProblem) bool {
	s := out.Device().Stream()
	if !(n.scale > 0) || n.aligned(out, in.Q, in.K, in.V) == 0 || !n.fitsHopper(s, p) {
		return false
	}
	q, err := n.attnTiles(in.Q, n.h, n.lq, attnHopperRows)
	if err != nil {
		return false
	}
	k, err := n.attnTiles(in.K, n.hkv, n.lk, attnHopperKeys)
	if err != nil {
		return false
	}
	v, err := n.attnTiles(in.V, n.hkv, n.lk, attnHopperKeys)
	if err != nil {
		return false
	}
	kernel := &attnHopperForward[p.dt-1][n.d/128]
	kernel.launch(s, n.grid(n.lq, kernel.rows, n.h, kernel.threads, kernel.shared),
		out.Ptr(), lse.Ptr(), q, k, v, p.keyLens, n.scale, p.right, p.batch, p.heads, p.kvHeads, p.lq, p.lk)
	return true
}

// backwardHopper is attentionHopper of the backward pass, after delta. It does not take key lengths:
// what stands behind them would have to be zeroed in every tile.
func (n *attnSizes) backwardHopper(dq, dk, dv, dout, lse, delta *gpu.Tensor, in AttentionInput, p *attnProblem) bool {
	s := dq.Device().Stream()
	if p.keyLens != 0 || n.aligned(dq, dk, dv, dout, in.Q, in.K, in.V) == 0 || !n.fitsHopper(s, p) {
		return false
	}
	q, err := n.attnTiles(in.Q, n.h, n.lq, attnHopperRows)
	if err != nil {
		return false
	}
	do, err := n.attnTiles(dout, n.h, n.lq, attnHopperRows)
	if err != nil {
		return false
	}
	k, err := n.attnTiles(in.K, n.hkv, n.lk, attnHopperRows)
	if err != nil {
		return false
	}
	v, err := n.attnTiles(in.V, n.hkv, n.lk, attnHopperRows)
	if err != nil {
		return false
	}
	if dk != nil || dv != nil {
		kernel := &attnHopperDKV[p.dt-1][n.d/128]
		kernel.launch(s, n.grid(n.lk, kernel.rows, n.hkv, kernel.threads, kernel.shared),
			ptr(dk), ptr(dv), lse.Ptr(), delta.Ptr(), q, do, k, v, n.scale, p.right, p.batch, p.heads, p.kvHeads, p.lq, p.lk)
	}
	if n.d == 64 { // steps of more keys
		if k, err = n.attnTiles(in.K, n.hkv, n.lk, attnHopperKeys); err != nil {
			return false
		}
		if v, err = n.attnTiles(in.V, n.hkv, n.lk, attnHopperKeys); err != nil {
			return false
		}
	}
	kernel := &attnHopperDQ[p.dt-1][n.d/128]
	kernel.launch(s, n.grid(n.lq, kernel.rows, n.h, kernel.threads, kernel.shared),
		dq.Ptr(), lse.Ptr(), delta.Ptr(), q, do, k, v, n.scale, p.right, p.batch, p.heads, p.kvHeads, p.lq, p.lk)
	return true
}

// attnTiles is the map of a tensor [b, length, heads, d] whose boxes are rows of one head.
func (n *attnSizes) attnTiles(t *gpu.Tensor, heads, length int, rows uint32) (cuda.TensorMap, error) {
	row := uint64(n.d * t.DType().Size())
	tiles := cuda.Tiles{
		Base: t.Ptr(), Type: cuda.TensorF16, Rank: 4, Swizzle: cuda.Swizzle128,
		Dims:    [5]uint64{uint64(n.d), uint64(heads), uint64(length), uint64(n.b)},
		Strides: [4]uint64{row, row * uint64(heads), row * uint64(heads) * uint64(length)},
		Box:     [5]uint32{attnHopperPart, 1, rows, 1},
	}
	if t.DType() == gpu.BFloat16 {
		tiles.Type = cuda.TensorBF16
	}
	return tiles.Encode()
}

package ops

import (
	"os"
	"sync/atomic"

	"github.com/fidlab/fidlab/cuda"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/kernels"
)

// Attention on compute capability 9.0: what most calls are has kernels of its own there.

type attnHopperLaunch = func(s *cuda.Stream, g cuda.Grid, out, lse cuda.Ptr, q, k, v cuda.TensorMap, keyLens cuda.Ptr, scale float32,
	right, batch, heads, kvHeads, lq, lk int32)

// The kernels by dtype (attnDType, less Float32) and by d = 64, 128.
var attnHopperForward = [2][2]attnKernel[attnHopperLaunch]{
	{{128, 384, 148480, kernels.AttentionHopperF1664}, {128, 384, 164864, kernels.AttentionHopperF16128}},
	{{128, 384, 148480, kernels.AttentionHopperBf1664}, {128, 384, 164864, kernels.AttentionHopperBf16128}},
}

// attnHopperKeys is how many keys and values the copy engine takes at a time, attnHopperQueries
// how many queries, and attnHopperPart how many elements of each.
const (
	attnHopperKeys    = 128
	attnHopperQueries = 64
	attnHopperPart    = 64
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

// attentionHopper runs the forward pass on these kernels and returns true, or returns false for
// what they are not for: another device or dtype, other heads, a bias, a window, lengths by CuQ,
// no keys, a scale that is not positive, and tensors that no tensor map describes.
func (n *attnSizes) attentionHopper(out, lse *gpu.Tensor, in AttentionInput, p *attnProblem) bool {
	wide := n.d == 128
	if p.dt == 0 || n.d != 64 && !wide || n.varlen || p.bias != 0 || p.left >= 0 || p.right > 0 || n.lk == 0 || !(n.scale > 0) {
		return false
	}
	s := out.Device().Stream()
	if !attnHopper(s.Dev().Info()) || n.aligned(out, in.Q, in.K, in.V) == 0 {
		return false
	}
	q, err := n.attnTiles(in.Q, n.h, n.lq, attnHopperQueries)
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
	kernel := &attnHopperForward[p.dt-1][0]
	if wide {
		kernel = &attnHopperForward[p.dt-1][1]
	}
	kernel.launch(s, n.grid(n.lq, kernel.rows, n.h, kernel.threads, kernel.shared),
		out.Ptr(), lse.Ptr(), q, k, v, p.keyLens, n.scale, p.right, p.batch, p.heads, p.kvHeads, p.lq, p.lk)
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

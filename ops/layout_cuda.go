package ops

import (
	"math"

	"github.com/fidlab/fidlab/cuda"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/kernels"
)

const (
	// turnedTile is the edge of the tiles in which a GPU turns axes, and turnedLeast how long both
	// axes are where that pays.
	turnedTile  = 32
	turnedLeast = 8
)

// launchPermute is Permute on a GPU, with the axes a of out and their steps in x. Where x's last axis
// is another than out's, tiles of both are turned, so that reads and writes run along memory.
func launchPermute(s *cuda.Stream, op string, out, x *gpu.Tensor, acc bool, a *axes) {
	last, q := a.k-1, a.k-1
	for i, step := range a.step[0][:a.k] {
		if step == 1 && a.size[i] > 1 {
			q = i
		}
	}
	if q < last && a.size[q] >= turnedLeast && a.size[last] >= turnedLeast && a.size[q] <= math.MaxInt32 && a.size[last] <= math.MaxInt32 {
		launchTurned(s, op, out, x, acc, a, q)
		return
	}
	var n, step [maxAxes]int64
	unit := vectorLen(out)
	whole := a.step[0][last] == 1 && a.size[last]%unit == 0 && out.Ptr()%16 == 0 && x.Ptr()%16 == 0
	for i := range n {
		n[i] = 1
	}
	for i := range a.k {
		n[maxAxes-a.k+i], step[maxAxes-a.k+i] = int64(a.size[i]), int64(a.step[0][i])
		whole = whole && (i == last || a.step[0][i]%unit == 0)
	}
	f := byWidth(out, kernels.PermuteRowsF32, kernels.PermuteRowsF64)
	f(s, runGrid(op, out, out.Len(), whole), out.Ptr(), x.Ptr(), int64(out.Len()), number(acc), number(whole),
		n[0], n[1], n[2], n[3], n[4], n[5], n[6], n[7], step[0], step[1], step[2], step[3], step[4], step[5], step[6], step[7])
}

// launchTurned turns axis q of out, along which x runs, against its last.
func launchTurned(s *cuda.Stream, op string, out, x *gpu.Tensor, acc bool, a *axes, q int) {
	var n, to, from [6]int64
	for i := range n {
		n[i] = 1
	}
	blocks, outStep, k := ceil(a.size[q], turnedTile)*ceil(a.size[a.k-1], turnedTile), 0, 0
	for i, step := a.k-1, 1; i >= 0; i-- {
		switch i {
		case q:
			outStep = step
		case a.k - 1:
		default:
			n[k], to[k], from[k] = int64(a.size[i]), int64(step), int64(a.step[0][i])
			blocks *= a.size[i]
			k++
		}
		step *= a.size[i]
	}
	if blocks > math.MaxInt32 {
		fail(op, "shape %v takes %d blocks of a GPU, more than 2^31-1; use a smaller batch", out.Shape(), blocks)
	}
	f := byWidth(out, kernels.PermuteTileF32, kernels.PermuteTileF64)
	f(s, cuda.Grid{X: blocks, Y: 1, Z: 1, BX: rowBlock, BY: 1, BZ: 1}, out.Ptr(), x.Ptr(), number(acc), int32(a.size[q]), int32(a.size[a.k-1]),
		int64(outStep), int64(a.step[0][a.k-1]), n[0], n[1], n[2], n[3], n[4], n[5], to[0], to[1], to[2], to[3], to[4], to[5],
		from[0], from[1], from[2], from[3], from[4], from[5])
}

// launchRuns copies runs of run elements of like's type, or adds them.
func launchRuns(s *cuda.Stream, op string, like *gpu.Tensor, to, from cuda.Ptr, runs, run, toStep, fromStep int, acc bool) {
	unit := vectorLen(like)
	whole := run%unit == 0 && toStep%unit == 0 && fromStep%unit == 0 && to%16 == 0 && from%16 == 0
	f := byWidth(like, kernels.CopyRunsF32, kernels.CopyRunsF64)
	f(s, runGrid(op, like, runs*run, whole), to, from, int64(runs*run), int64(run), int64(toStep), int64(fromStep), number(acc), number(whole))
}

// vectorLen is the elements of t's type in 16 bytes.
func vectorLen(t *gpu.Tensor) int { return 16 / t.DType().Size() }

// runGrid has a thread for each of n elements, or for each 16 bytes of them.
func runGrid(op string, t *gpu.Tensor, n int, whole bool) cuda.Grid {
	each := rowBlock
	if whole {
		each *= vectorLen(t)
	}
	if ceil(n, each) > math.MaxInt32 {
		fail(op, "%d elements take more than 2^31-1 blocks of a GPU; use a smaller batch", n)
	}
	return cuda.Grid1(n, each, rowBlock)
}

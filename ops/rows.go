package ops

import (
	"math"

	"github.com/fidlab/fidlab/cuda"
	"github.com/fidlab/fidlab/gpu"
)

// What the launches of operations on rows share.

// rowBlock is the threads of a block of the kernels on rows. A row of up to rowWarp
// elements is one warp's, a longer one a block's.
const (
	rowBlock = 256
	rowWarp  = 1024
)

// rowTeams is the grid of a kernel on rows, and how many threads have a row.
func rowTeams(op string, rows, cols int) (g cuda.Grid, threads int32) {
	per, threads := rowBlock/32, int32(32)
	if cols > rowWarp {
		per, threads = 1, rowBlock
	}
	if cols > math.MaxInt32 || ceil(rows, per) > math.MaxInt32 {
		fail(op, "%d rows of %d elements, want fewer than 2^31 on a GPU; use a smaller batch", rows, cols)
	}
	return cuda.Grid1(rows, per, rowBlock), threads
}

// number is what a kernel takes for a flag.
func number(b bool) int32 {
	if b {
		return 1
	}
	return 0
}

// numbersOn panics unless t, called name, is int32 and on the CPU or on x's device.
func numbersOn(op, name string, t, x *gpu.Tensor) {
	if t.DType() != gpu.Int32 {
		fail(op, "%s are %v, want int32", name, t.DType())
	}
	if t.Device() != x.Device() && t.Device().CUDA() {
		fail(op, "%s are on %v, want them on the CPU or on %v; move them with To", name, t.Device(), x.Device())
	}
}

// numbers is the address of t's int32 for work of s. Those on the CPU are copied, and
// nobody waits for the device; copied is theirs to be freed after the launch, else 0.
func numbers(s *cuda.Stream, t *gpu.Tensor) (p, copied cuda.Ptr) {
	if t.Device().CUDA() {
		return t.Ptr(), 0
	}
	p = uploaded(s, t.I32())
	return p, p
}

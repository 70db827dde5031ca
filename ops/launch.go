package ops

import (
	"math"

	"github.com/fidlab/fidlab/cuda"
	"github.com/fidlab/fidlab/gpu"
)

// What the launches of many operations share.

// vectorBlock is the threads of a block of the elementwise kernels; each has 16
// bytes of values.
const vectorBlock = 256

// byDType is the one of a kernel's versions that is for a float dtype.
func byDType[F any](dt gpu.DType, f32, f64, f16, bf16 F) F {
	switch dt {
	case gpu.Float64:
		return f64
	case gpu.Float16:
		return f16
	case gpu.BFloat16:
		return bf16
	}
	return f32
}

// byWidth is the one of a kernel's two versions that is for t, float32 or float64.
func byWidth[F any](t *gpu.Tensor, f32, f64 F) F {
	if t.Double() {
		return f64
	}
	return f32
}

// vectorGrid is the grid of an elementwise kernel of n elements like t's, 16 bytes a thread.
func vectorGrid(t *gpu.Tensor, n int) cuda.Grid {
	return cuda.Grid1(n, vectorBlock*16/t.DType().Size(), vectorBlock)
}

// ceil is ⌈n/size⌉.
func ceil(n, size int) int { return (n + size - 1) / size }

// rowGrid is the grid of an elementwise kernel whose blocks stay within rows of
// size elements of t, with that many vectors a thread, and the blocks of a row.
func rowGrid(op string, t *gpu.Tensor, size, vectors int) (g cuda.Grid, blocks int) {
	blocks = ceil(size, vectors*vectorBlock*16/t.DType().Size())
	grid := t.Len() / size * blocks
	if grid > math.MaxInt32 {
		fail(op, "shape %v takes %d blocks of a GPU, more than 2^31-1; use a smaller batch", t.Shape(), grid)
	}
	return cuda.Grid{X: grid, Y: 1, Z: 1, BX: vectorBlock, BY: 1, BZ: 1}, blocks
}

// uploaded is a copy of v in memory of s, which the caller frees.
func uploaded[T any](s *cuda.Stream, v []T) cuda.Ptr {
	b := cuda.Bytes(v)
	p := s.Alloc(len(b))
	s.CopyIn(p, b)
	return p
}

// ptr is the address of a tensor that may be missing.
func ptr(t *gpu.Tensor) cuda.Ptr {
	if t == nil {
		return 0
	}
	return t.Ptr()
}

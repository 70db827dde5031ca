package sampler

import (
	"github.com/fidlab/fidlab/gpu"
)

// gather copies the given rows of src to the first rows of dst.
func gather(dst, src *gpu.Tensor, rows []int) *gpu.Tensor {
	out := dst.Rows(0, len(rows))
	for i, r := range rows {
		out.Rows(i, i+1).Copy(src.Rows(r, r+1))
	}
	return out
}

// scatter is gather's inverse: it copies the rows of src to the given rows of dst.
func scatter(dst, src *gpu.Tensor, rows []int) {
	for i, r := range rows {
		dst.Rows(r, r+1).Copy(src.Rows(i, i+1))
	}
}

// picked is a new tensor of the given rows of t.
func picked(t *gpu.Tensor, rows []int) *gpu.Tensor {
	return gather(withRows(t, len(rows)), t, rows)
}

// withRows is a new tensor like t of n rows.
func withRows(t *gpu.Tensor, n int) *gpu.Tensor {
	return t.Device().New(t.DType(), append([]int{n}, t.Shape()[1:]...)...)
}

// fitting is scratch memory of x's size, dtype and device: t where it is that, else a new tensor.
func fitting(t, x *gpu.Tensor) *gpu.Tensor {
	if t == nil || t.DType() != x.DType() || t.Len() != x.Len() || t.Device() != x.Device() {
		return x.Like()
	}
	return t
}

// sizeOf is the number of values of a shape.
func sizeOf(shape []int) int {
	n := 1
	for _, d := range shape {
		n *= d
	}
	return n
}

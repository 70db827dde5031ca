package ops

import (
	"math"
	"slices"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/cpu"
	"github.com/fidlab/fidlab/kernels"
)

// SortRows sorts each row of x, Float32 [n, m], rising: -0 before 0, and NaN at the ends by its sign. The bits are those of the elements,
// on every device. With RowDistances it makes distances along directions (sliced Wasserstein distances). It panics on other shapes and dtypes, and
// allocates as much memory as x has.
func SortRows(x *gpu.Tensor) {
	const op = "SortRows"
	if x.DType() != gpu.Float32 || len(x.Shape()) != 2 {
		fail(op, "%v %v, want float32 of two axes", x.DType(), x.Shape())
	}
	rows, n := x.Shape()[0], x.Shape()[1]
	if x.Len() == 0 {
		return
	}
	if x.Device().CUDA() {
		if rows > math.MaxInt32 || n > math.MaxInt32-sortTile {
			fail(op, "shape %v is too large for a GPU; use parts", x.Shape())
		}
		s := x.Device().Stream()
		other := s.Alloc(4 * x.Len())
		kernels.SlicedSortF32(s, blocks256(rows), x.Ptr(), other, int32(n))
		s.Free(other)
		return
	}
	c := newCall(sortRow, x)
	c.each(rows)
}

func sortRow(c *call, _ *cpu.Worker, i int) {
	n := c.t[0].Shape()[1]
	row := c.t[0].F32()[i*n:][:n]
	keys := make([]uint32, n)
	for j, v := range row {
		keys[j] = rising(math.Float32bits(v))
	}
	slices.Sort(keys)
	for j, k := range keys {
		if k>>31 != 0 {
			row[j] = math.Float32frombits(k ^ 1<<31)
		} else {
			row[j] = math.Float32frombits(^k)
		}
	}
}

// rising makes numbers of a float's bits that rise as floats do.
func rising(bits uint32) uint32 {
	if bits>>31 != 0 {
		return ^bits
	}
	return bits ^ 1<<31
}

// RowDistances sets out, Float64 [n], to the squared Euclidean distances of the rows of a and b, [n, m] each, summed in float64. Bits do not depend on
// the number of threads. It panics when shapes do not fit, and unless dtypes (float32 or float64) and devices agree.
func RowDistances(out, a, b *gpu.Tensor) {
	const op = "RowDistances"
	n, m, d := wantSets(op, a, b)
	if n != m {
		fail(op, "%d and %d rows, want as many", n, m)
	}
	wantShape(op, "out", out, gpu.Float64, n)
	dev := sameDevice(op, a, b, out)
	if n == 0 {
		return
	}
	if dev.CUDA() {
		if n > math.MaxInt32 {
			fail(op, "%d rows are too many for a GPU; use parts", n)
		}
		f := byWidth(a, kernels.SlicedGapsF32, kernels.SlicedGapsF64)
		f(dev.Stream(), blocks256(n), out.Ptr(), a.Ptr(), b.Ptr(), int64(d))
		return
	}
	c := newCall(rowDistance, a, b, out)
	c.each(n)
}

func rowDistance(c *call, _ *cpu.Worker, i int) {
	if c.double() {
		rowDistanceOf[float64](c, i)
	} else {
		rowDistanceOf[float32](c, i)
	}
}

func rowDistanceOf[T cpu.Float](c *call, i int) {
	d := c.t[0].Shape()[1]
	a, b := data[T](c.t[0])[i*d:][:d], data[T](c.t[1])[i*d:][:d]
	s := 0.
	for j, v := range a {
		e := float64(v) - float64(b[j])
		s += float64(e * e)
	}
	c.t[2].F64()[i] = s
}

package ops

import (
	"math"

	"github.com/fidlab/fidlab/cuda"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/cpu"
	"github.com/fidlab/fidlab/kernels"
)

// PairKernel is a measure of how alike two vectors are.
type PairKernel struct {
	kind         int32
	scale, shift float64
}

// CubicKernel is (scale·x·y + shift)³; KID's has a scale of 1/d and a shift of 1 (Bińkowski et al. 2018).
func CubicKernel(scale, shift float64) PairKernel { return PairKernel{0, scale, shift} }

// NormalKernel is exp(-scale·|x - y|²); with a scale of 1/200 it is that of CMMD (Jayasumana et al. 2024).
func NormalKernel(scale float64) PairKernel { return PairKernel{1, scale, 0} }

const (
	pairRows = 128 // of a tile of products, which stays in a core's cache
	pairCols = 256 // likewise
	pairTile = 64  // of a GPU
	pairMost = 64  // pieces of the columns at most, so that few rows fill a GPU too
	pairFill = 512 // blocks that fill one
)

// PairSums sets out, Float64 [n], to the sums over the rows y of [m, d] of a kernel's values with each row of x [n, d]; with apart, which
// wants n = m, without those of a row with the one of its own number. The matrix of all values is nowhere stored. From the sums come
// maximum mean discrepancies with their standard errors.
//
// Products are summed in float64, on a GPU of sixteen float32 products at a time where that is the dtype; values and their sums are
// float64. Bits do not depend on the number of threads. It panics when shapes do not fit, and unless dtypes (float32 or float64) and
// devices agree.
func PairSums(out, x, y *gpu.Tensor, k PairKernel, apart bool) {
	const op = "PairSums"
	n, m, _ := wantSets(op, x, y)
	dev := sameDevice(op, x, y, out)
	if apart && n != m {
		fail(op, "sets of %d and %d rows, whose own numbers are left out; want as many", n, m)
	}
	if out.DType() != gpu.Float64 {
		fail(op, "sums are %v, want float64", out.DType())
	}
	wantRows(op, "the result", out, n)
	switch {
	case n == 0:
		return
	case m == 0:
		Fill(out, 0)
	case dev.CUDA():
		launchPairSums(op, out, x, y, k, apart)
	default:
		c := newCall(pairSums, x, y, out)
		c.n[0], c.n[1], c.f[0], c.f[1] = int(k.kind), int(flag(apart)), k.scale, k.shift
		c.onWorkers(ceil(n, pairRows))
	}
}

func launchPairSums(op string, out, x, y *gpu.Tensor, k PairKernel, apart bool) {
	s, n, m, d := x.Device().Stream(), x.Shape()[0], y.Shape()[0], x.Shape()[1]
	rows := ceil(n, pairTile)
	pieces := max(1, min(ceil(m, pairTile), pairMost, ceil(pairFill, rows)))
	if rows*pieces > math.MaxInt32 || max(n, m, d) > math.MaxInt32 {
		fail(op, "sets %v and %v are too large for a GPU; use parts", x.Shape(), y.Shape())
	}
	sizes, sums := byWidth(x, kernels.NearestSizesF32, kernels.NearestSizesF64), byWidth(x, kernels.PairSumsF32, kernels.PairSumsF64)
	var xx, yy cuda.Ptr
	if k.kind != 0 {
		xx, yy = s.Alloc(16*n), s.Alloc(16*m) // and the lengths
		sizes(s, blocks256(ceil(n, 256)), xx, x.Ptr(), int32(n), int32(d))
		sizes(s, blocks256(ceil(m, 256)), yy, y.Ptr(), int32(m), int32(d))
	}
	part := x.Device().Empty64(pieces, n)
	sums(s, blocks256(rows*pieces), part.Ptr(), x.Ptr(), y.Ptr(), xx, yy, int32(n), int32(m), int32(d), int32(pieces), flag(apart), k.kind, k.scale, k.shift)
	SumTo(out, part, nil, false)
	part.Free()
	if k.kind != 0 {
		s.Free(xx)
		s.Free(yy)
	}
}

func pairSums(c *call, w *cpu.Worker, i int) {
	if c.double() {
		pairSumsOf[float64](c, w, i)
	} else {
		pairSumsOf[float32](c, w, i)
	}
}

// pairSumsOf does rows i·pairRows and those after it, tile by tile of the columns.
func pairSumsOf[T cpu.Float](c *call, w *cpu.Worker, i int) {
	x, y, out := data[T](c.t[0]), data[T](c.t[1]), c.t[2].F64()
	d := c.t[0].Shape()[1]
	m, first := len(y)/d, i*pairRows
	rows := min(pairRows, len(out)-first)
	s := columns64.Get().(*scratch[float64])
	all := s.take(pairRows*d + pairCols*d + pairRows*pairCols)
	a, b, products := all[:rows*d], all[pairRows*d:][:pairCols*d], all[(pairRows+pairCols)*d:]
	var xx [pairRows]float64
	var yy [pairCols]float64
	normal := c.n[0] != 0
	widen(a, x[first*d:][:rows*d])
	if normal {
		squareRows(xx[:rows], a, d)
	}
	clear(out[first:][:rows])
	for k0 := 0; k0 < m; k0 += pairCols {
		cols := min(pairCols, m-k0)
		widen(b, y[k0*d:][:cols*d])
		if normal {
			squareRows(yy[:cols], b, d)
		}
		gemm2(w, false, true, rows, cols, d, a, d, b, d, false, products)
		for r := range rows {
			sum := 0.
			for k, v := range products[r*cols:][:cols] {
				if c.n[1] != 0 && first+r == k0+k {
					continue
				}
				if normal {
					sum += math.Exp(-c.f[0] * max(xx[r]+yy[k]-2*v, 0))
				} else {
					u := c.f[0]*v + c.f[1]
					sum += u * u * u
				}
			}
			out[first+r] += sum
		}
	}
	columns64.Put(s)
}

// widen makes values float64.
func widen[T cpu.Float](to []float64, from []T) {
	for i, v := range from {
		to[i] = float64(v)
	}
}

// squareRows sets square to the squared lengths of as many rows of d values.
func squareRows(square, rows []float64, d int) {
	for r := range square {
		square[r] = dot(rows[r*d:][:d], rows[r*d:][:d])
	}
}

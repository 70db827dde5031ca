package ops

import (
	"math"

	"github.com/fidlab/fidlab/cuda"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/cpu"
	"github.com/fidlab/fidlab/kernels"
)

// NearestMost is how many neighbours NearestK finds at most, PairWidth of how many coordinates vectors may be that it and BallCounts compare
// on a GPU.
const (
	NearestMost = 32
	PairWidth   = 1 << 20
)

const (
	nearestRoom = 96 // rows that a list of nearestk_find holds
	pairWarps   = 8  // of a block of those kernels that have a warp a row

	distRows = 32 // of x that a worker compares with a tile of y, which stays in a core's cache
	distCols = 64 // of y
)

// NearestK sets dist, Float64 [n, k], and idx, Int32 [n, k], to the squared Euclidean distances from each row of x [n, d] to the k rows of
// y [m, d] that are nearest, and to their numbers: rising by distance, rows equally far by number. With apart, which wants n = m, a row's own
// number is left out. The matrix of all distances is nowhere stored.
//
// A distance is the sum over the coordinates, in their order, of squared differences, each rounded to float64, so that the results are the same
// on every machine, on a GPU too: a product of matrices finds the few rows that rounding leaves in question (pairSlack), and these are
// measured; where there are more than a list holds, all are. A distance that is NaN, as all are of a row with NaN, comes after all others, +Inf
// among them.
//
// k is 1 to NearestMost, of no more rows than there are. It panics when shapes do not fit, and unless dtypes (float32 or float64) and devices agree.
func NearestK(dist, idx, x, y *gpu.Tensor, k int, apart bool) {
	const op = "NearestK"
	n, m, _ := wantSets(op, x, y)
	dev := sameDevice(op, x, y, dist, idx)
	rows := m
	if apart {
		if n != m {
			fail(op, "sets of %d and %d rows, whose own numbers are left out; want as many", n, m)
		}
		rows--
	}
	if k < 1 || k > min(rows, NearestMost) {
		fail(op, "%d nearest of %d rows, want 1 to %d and no more than there are", k, rows, NearestMost)
	}
	wantShape(op, "dist", dist, gpu.Float64, n, k)
	wantShape(op, "idx", idx, gpu.Int32, n, k)
	if n == 0 {
		return
	}
	if dev.CUDA() {
		launchNearestK(op, dist, idx, x, y, k, apart)
		return
	}
	c := newCall(nearestK, x, y, dist, idx)
	c.n[0], c.n[1] = k, int(flag(apart))
	c.each(ceil(n, distRows))
}

// wantSets panics unless x [n, d] and y [m, d] are sets of vectors of one float dtype.
func wantSets(op string, x, y *gpu.Tensor) (n, m, d int) {
	for i, t := range [...]*gpu.Tensor{x, y} {
		if t.DType() != x.DType() || t.DType() != gpu.Float32 && t.DType() != gpu.Float64 {
			fail(op, "operand %d is %v, the first %v, want float32 or float64 for both", i, t.DType(), x.DType())
		}
	}
	xs, ys := x.Shape(), y.Shape()
	if len(xs) != 2 || len(ys) != 2 || xs[1] != ys[1] || xs[1] < 1 {
		fail(op, "sets %v and %v, want [n, d] and [m, d] with d >= 1", xs, ys)
	}
	return xs[0], ys[0], xs[1]
}

func nearestK(c *call, _ *cpu.Worker, i int) {
	if c.double() {
		nearestKOf[float64](c, i)
	} else {
		nearestKOf[float32](c, i)
	}
}

// nearestKOf does rows i·distRows and those after it.
func nearestKOf[T cpu.Float](c *call, i int) {
	x, y, dist, idx := data[T](c.t[0]), data[T](c.t[1]), c.t[2].F64(), c.t[3].I32()
	k, apart := c.n[0], c.n[1] != 0
	var at [distRows][]int32
	var far [distRows][]float64
	first := i * distRows
	for r := range min(distRows, len(idx)/k-first) {
		at[r], far[r] = idx[(first+r)*k:][:0:k], dist[(first+r)*k:][:0:k]
	}
	eachDistance(x, y, c.t[0].Shape()[1], first, func(r, col int, d2 float64) {
		if apart && first+r == col {
			return
		}
		at[r], far[r] = insert(at[r], far[r], col, d2)
	})
}

// insert puts a neighbour into a list that rises, which holds as many as there is room for; of those equally far it is the last.
func insert(at []int32, far []float64, row int, d2 float64) ([]int32, []float64) {
	k := cap(far)
	if len(far) == k {
		if !nearer(d2, far[k-1]) {
			return at, far
		}
		at, far = at[:k-1], far[:k-1]
	}
	i := len(far)
	at, far = append(at, 0), append(far, 0)
	for ; i > 0 && nearer(d2, far[i-1]); i-- {
		at[i], far[i] = at[i-1], far[i-1]
	}
	at[i], far[i] = int32(row), d2
	return at, far
}

// nearer tells whether a is less than b, and NaN is more than all.
func nearer(a, b float64) bool { return a < b || a == a && b != b }

// eachDistance calls f with the squared distances of rows first to first+distRows of x, f's r-th, to all rows of y, each row's in their order.
func eachDistance[T cpu.Float](x, y []T, d, first int, f func(r, col int, d2 float64)) {
	rows, m := min(distRows, len(x)/d-first), len(y)/d
	var d2 [distCols]float64
	for k0 := 0; k0 < m; k0 += distCols {
		cols := min(distCols, m-k0)
		for r := range rows {
			distances(d2[:cols], x[(first+r)*d:][:d], y[k0*d:])
			for k, v := range d2[:cols] {
				f(r, k0+k, v)
			}
		}
	}
}

// distances sets out to the squared distances of x to as many rows of y: four at once, since each is a chain of sums.
func distances[T cpu.Float](out []float64, x, y []T) {
	d, k := len(x), 0
	for ; k+4 <= len(out); k += 4 {
		y0, y1, y2, y3 := y[k*d:][:d], y[(k+1)*d:][:d], y[(k+2)*d:][:d], y[(k+3)*d:][:d]
		var s0, s1, s2, s3 float64
		for i, v := range x {
			a := float64(v)
			e0, e1, e2, e3 := a-float64(y0[i]), a-float64(y1[i]), a-float64(y2[i]), a-float64(y3[i])
			s0, s1, s2, s3 = s0+float64(e0*e0), s1+float64(e1*e1), s2+float64(e2*e2), s3+float64(e3*e3)
		}
		out[k], out[k+1], out[k+2], out[k+3] = s0, s1, s2, s3
	}
	for ; k < len(out); k++ {
		s := 0.
		for i, v := range y[k*d:][:d] {
			e := float64(x[i]) - float64(v)
			s += float64(e * e)
		}
		out[k] = s
	}
}

// pairSlack is σ with which |s - |x - y|²| <= σ·(|a| + |b|)², where s = |a|² + |b|² - 2·a·b is what a GPU's kernels make of vectors of d
// coordinates, a and b are x and y less a centre, rounded, and |x - y|² is the sum in float64. With u half the distance from 1 to the next
// number of the dtype, v that of float64, R = (|a| + |b|)²:
//
//	2·a·b        a chain of d fused steps: 2·γ·|a|·|b| <= γ·R/2, γ = d·u/(1 - d·u)
//	s            |a|² and |b|² rounded, their sum, and with the product, then s ∓ the bound: 4·u·R
//	a, b         each coordinate is wrong by u of itself, so |x - y| is by u·(|a| + |b|) and its square by (2·u + u²)·R
//	in float64   |a|² and |b|², d sums of rounded squares: d·v·R; |x - y|² likewise, of rounded differences: (d + 2)·v·R
//
// A hundredth more is for what is of second order, and for the rounding of the bound itself.
func pairSlack(op string, d int, double bool) float64 {
	const v = 0x1p-53
	u := 0x1p-24
	if double {
		u = v
	}
	if d > PairWidth { // γ would be no bound at 2^24
		fail(op, "vectors of %d coordinates, a GPU takes %d at most", d, PairWidth)
	}
	du := float64(d) * u
	return 1.01 * (du/(1-du)/2 + 8*u + float64(3*d+12)*v)
}

// centred are two sets on a GPU with what the kernels of pairs need beside: a centre, and the lengths around it.
type centred struct {
	centre, xs, ys cuda.Ptr
	slack          float64
	blocks, pieces int // rows of tiles, and pieces of the other set
}

func newCentred(op string, x, y *gpu.Tensor) centred {
	s, n, m, d := x.Device().Stream(), x.Shape()[0], y.Shape()[0], x.Shape()[1]
	c := centred{slack: pairSlack(op, d, x.Double()), blocks: ceil(n, pairTile)}
	c.pieces = max(1, min(ceil(m, pairTile), pairMost, ceil(pairFill, c.blocks)))
	if c.blocks*c.pieces > math.MaxInt32 || max(n, m) > math.MaxInt32/2 {
		fail(op, "sets %v and %v are too large for a GPU; use parts", x.Shape(), y.Shape())
	}
	size := x.DType().Size()
	centre, sizes := byWidth(x, kernels.NearestkCentreF32, kernels.NearestkCentreF64), byWidth(x, kernels.NearestkSizesF32, kernels.NearestkSizesF64)
	c.centre, c.xs, c.ys = s.Alloc(size*d), s.Alloc(2*size*n), s.Alloc(2*size*m)
	centre(s, blocks256(ceil(d, 256)), c.centre, y.Ptr(), int32(m), int32(d))
	sizes(s, blocks256(ceil(n, pairWarps)), c.xs, x.Ptr(), c.centre, int32(n), int32(d))
	sizes(s, blocks256(ceil(m, pairWarps)), c.ys, y.Ptr(), c.centre, int32(m), int32(d))
	return c
}

func (c centred) free(s *cuda.Stream) {
	for _, p := range [...]cuda.Ptr{c.centre, c.xs, c.ys} {
		s.Free(p)
	}
}

// blocks256 is a grid of so many blocks of 256 threads.
func blocks256(n int) cuda.Grid { return cuda.Grid{X: n, Y: 1, Z: 1, BX: 256, BY: 1, BZ: 1} }

func launchNearestK(op string, dist, idx, x, y *gpu.Tensor, k int, apart bool) {
	s, n, m, d := x.Device().Stream(), int32(x.Shape()[0]), int32(y.Shape()[0]), int32(x.Shape()[1])
	c := newCentred(op, x, y)
	lists, size := c.pieces*int(n), x.DType().Size()
	at, low, count, most := s.Alloc(4*nearestRoom*lists), s.Alloc(size*nearestRoom*lists), s.Alloc(4*lists), s.Alloc(size*lists)
	find, measure := blocks256(c.blocks*c.pieces), blocks256(ceil(int(n), pairWarps))
	pieces, own := int32(c.pieces), flag(apart)
	if x.Double() {
		kernels.NearestkFindF64(s, find, at, low, count, most, x.Ptr(), y.Ptr(), c.centre, c.xs, c.ys, n, m, d, int32(k), own, pieces, c.slack)
		kernels.NearestkMeasureF64(s, measure, dist.Ptr(), idx.Ptr(), at, low, count, most, x.Ptr(), y.Ptr(), n, m, d, int32(k), own, pieces)
	} else {
		kernels.NearestkFindF32(s, find, at, low, count, most, x.Ptr(), y.Ptr(), c.centre, c.xs, c.ys, n, m, d, int32(k), own, pieces, float32(c.slack))
		kernels.NearestkMeasureF32(s, measure, dist.Ptr(), idx.Ptr(), at, low, count, most, x.Ptr(), y.Ptr(), n, m, d, int32(k), own, pieces)
	}
	for _, p := range [...]cuda.Ptr{at, low, count, most} {
		s.Free(p)
	}
	c.free(s)
}

package ops

import (
	"math"

	"github.com/fidlab/fidlab/cuda"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/cpu"
	"github.com/fidlab/fidlab/kernels"
)

// Metric is a distance between vectors.
type Metric int

// The metrics of Nearest.
const (
	L2     Metric = iota // the squared Euclidean distance
	Cosine               // 1 - the cosine of the angle; of a vector of zeros, 1
)

const (
	// nearRows and nearCodes are the size of a tile of products, which stays in a core's
	// cache.
	nearRows  = 32
	nearCodes = 512
)

// Nearest sets idx, Int32 [n], to the row of book [K, d] that is nearest to each row of z
// [n, d], and dist, [n] or nil, to its distance. Of rows equally near it is the first.
//
// What decides is the distance in float64, summed in the order of the coordinates: a matrix
// product finds the few rows that rounding leaves in question, and these are measured. So
// the result is the same on every machine, on a GPU too. idx is where z is. A row of z with NaN has NaN as its distance, and
// index 0. It panics when shapes do not fit, and unless dtypes (float32 or float64) and devices agree.
func Nearest(idx, dist, z, book *gpu.Tensor, m Metric) {
	const op = "Nearest"
	for i, t := range [...]*gpu.Tensor{z, book, dist} {
		if t != nil && (t.DType() != z.DType() || t.DType() != gpu.Float32 && t.DType() != gpu.Float64) {
			fail(op, "operand %d is %v, the first %v, want float32 or float64 for all", i, t.DType(), z.DType())
		}
	}
	dev := sameDevice(op, z, book, idx, dist)
	zs, bs := z.Shape(), book.Shape()
	if len(zs) != 2 || len(bs) != 2 || zs[1] != bs[1] || bs[0] < 1 || bs[1] < 1 || bs[0] > math.MaxInt32 {
		fail(op, "vectors %v and book %v, want [n, d] and [K, d] with K and d >= 1", zs, bs)
	}
	if m != L2 && m != Cosine {
		fail(op, "metric %d, want L2 or Cosine", m)
	}
	if idx.DType() != gpu.Int32 {
		fail(op, "indices are %v, want int32", idx.DType())
	}
	wantRows(op, "idx", idx, zs[0])
	if dist != nil {
		wantRows(op, "dist", dist, zs[0])
	}
	if zs[0] == 0 {
		return
	}
	if dev.CUDA() {
		launchNearest(op, idx, dist, z, book, m)
		return
	}
	c := newCall(nearest, z, book, idx, dist)
	c.n[0] = int(m)
	if c.double() {
		bookSizes(c, book.F64(), bs[1])
	} else {
		bookSizes(c, book.F32(), bs[1])
	}
	c.onWorkers(ceil(zs[0], nearRows))
}

// bookSizes keeps the squared lengths of the book's rows in c.f64, and the greatest length
// and the least that is not 0 in c.f.
func bookSizes[T cpu.Float](c *call, book []T, d int) {
	sizes := c.f64.take(len(book) / d)
	c.f[0], c.f[1] = 0, math.Inf(1)
	for k := range sizes {
		sizes[k] = dot(book[k*d:][:d], book[k*d:][:d])
		c.f[0] = math.Max(c.f[0], math.Sqrt(sizes[k]))
		if sizes[k] > 0 {
			c.f[1] = math.Min(c.f[1], math.Sqrt(sizes[k]))
		}
	}
}

func dot[T cpu.Float](a, b []T) (s float64) {
	for i, v := range a {
		s += float64(float64(v) * float64(b[i]))
	}
	return s
}

func nearest(c *call, w *cpu.Worker, i int) {
	if c.double() {
		nearestOf[float64](c, w, i, 0x1p-53, 0x1p-1022, math.MaxFloat64)
	} else {
		nearestOf[float32](c, w, i, 0x1p-24, 0x1p-126, math.MaxFloat32)
	}
}

// nearestOf does rows i·nearRows and those after it. unit is half the distance from 1 to T's
// next number, tiny and huge are the ends of its range.
func nearestOf[T cpu.Float](c *call, w *cpu.Worker, i int, unit, tiny, huge float64) {
	m, sizes := Metric(c.n[0]), c.f64.v
	z, book := data[T](c.t[0]), data[T](c.t[1])
	d := c.t[0].Shape()[1]
	first := i * nearRows
	rows := min(nearRows, len(z)/d-first)
	pool := columnPool[T]()
	s := pool.Get().(*scratch[T])
	products := s.take(nearRows * nearCodes)
	var far, size, slack, low [nearRows]float64 // of each row: the distance so far, its length, how wrong a score may be, the least score
	var at [nearRows]int32
	for r := range rows {
		row := z[(first+r)*d:][:d]
		far[r], low[r] = math.Inf(1), math.Inf(1)
		size[r] = math.Sqrt(dot(row, row))
		// Of a sum of d products, a half length and their sum, each twice.
		if m == L2 {
			slack[r] = 2 * float64(d+4) * (unit*c.f[0]*(size[r]+c.f[0]) + tiny)
		} else {
			slack[r] = 2 * float64(d+4) * (unit*size[r] + tiny/c.f[1])
		}
		if !(size[r]*c.f[0] < huge/4 && c.f[0]*c.f[0] < huge/4) { // products overflow: measure all
			slack[r] = math.Inf(1)
		}
	}
	for k0 := 0; k0 < len(sizes); k0 += nearCodes {
		codes := min(nearCodes, len(sizes)-k0)
		gemm2(w, false, true, rows, codes, d, z[first*d:], d, book[k0*d:], d, false, products)
		for r := range rows {
			scores := products[r*codes:][:codes]
			least := low[r]
			for k, v := range scores {
				score := sizes[k0+k]/2 - float64(v)
				if m == Cosine {
					score = -float64(v) / math.Sqrt(sizes[k0+k])
				}
				if score < least {
					least = score
				}
				scores[k] = T(score)
			}
			low[r] = least
			limit := T(least + slack[r])
			for k, v := range scores {
				if v > limit { // NaN stays in question
					continue
				}
				row, code := z[(first+r)*d:][:d], book[(k0+k)*d:][:d]
				if e := distance(m, row, code, size[r], sizes[k0+k]); e < far[r] {
					far[r], at[r] = e, int32(k0+k)
				}
			}
		}
	}
	pool.Put(s)
	copy(c.t[2].I32()[first:], at[:rows])
	if dist := data[T](c.t[3]); dist != nil {
		for r := range rows {
			if math.IsNaN(size[r]) {
				far[r] = math.NaN()
			}
			dist[first+r] = T(far[r])
		}
	}
}

// distance is that of two vectors; size is a's length and square b's, squared.
func distance[T cpu.Float](m Metric, a, b []T, size, square float64) (s float64) {
	if m == Cosine {
		if size == 0 || square == 0 {
			return 1
		}
		return 1 - dot(a, b)/(size*math.Sqrt(square))
	}
	for i, v := range a {
		e := float64(v) - float64(b[i])
		s += float64(e * e)
	}
	return s
}

// nearestTile is the rows of a block of nearest_code.
const nearestTile = 64

func launchNearest(op string, idx, dist, z, book *gpu.Tensor, m Metric) {
	s, zs, count := z.Device().Stream(), z.Shape(), book.Shape()[0]
	if blocks := ceil(zs[0], nearestTile); blocks > math.MaxInt32 || zs[1] > math.MaxInt32 {
		fail(op, "vectors %v take more than 2^31-1 blocks of a GPU, or are longer; use a smaller batch", zs)
	}
	square := s.Alloc(16 * count) // and the lengths
	sizes, code := kernels.NearestSizesF32, kernels.NearestCodeF32
	if z.Double() {
		sizes, code = kernels.NearestSizesF64, kernels.NearestCodeF64
	}
	grid := func(blocks int) cuda.Grid { return cuda.Grid{X: blocks, Y: 1, Z: 1, BX: 256, BY: 1, BZ: 1} }
	sizes(s, grid(ceil(count, 256)), square, book.Ptr(), int32(count), int32(zs[1]))
	code(s, grid(ceil(zs[0], nearestTile)), idx.Ptr(), ptr(dist), z.Ptr(), book.Ptr(), square, flag(m == Cosine), int64(zs[0]), int32(count), int32(zs[1]))
	s.Free(square)
}

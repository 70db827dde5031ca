package ops

import (
	"math"

	"github.com/fidlab/fidlab/cuda"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/cpu"
	"github.com/fidlab/fidlab/kernels"
)

// Gather sets row i of out, [..., D], to row ids[i] of table, [K, D]: an embedding. It
// panics on ids, Int32, outside 0..K-1.
//
// With the table on a GPU the ids may be on the CPU, from where they are copied without a wait, or on
// that GPU, where nobody looks at them before: one outside the range gives a row of NaN.
func Gather(out, table, ids *gpu.Tensor) {
	const op = "Gather"
	d := gatherCheck(op, out, table, ids)
	if s := out.Device().Stream(); s != nil {
		if out.Len() > 0 {
			at, copied := numbers(s, ids)
			g, threads := rowTeams(op, ids.Len(), d)
			f := byWidth(out, kernels.GatherRowsF32, kernels.GatherRowsF64)
			f(s, g, out.Ptr(), table.Ptr(), at, int64(ids.Len()), int32(d), int32(table.Shape()[0]), threads)
			s.Free(copied)
		}
		return
	}
	if out.Double() {
		gather(out.F64(), table.F64(), ids.I32(), d)
	} else {
		gather(out.F32(), table.F32(), ids.I32(), d)
	}
}

func gatherCheck(op string, rows, table, ids *gpu.Tensor) (d int) {
	streamOf(op, rows, table)
	s := table.Shape()
	if len(s) != 2 {
		fail(op, "the table has shape %v, want [rows, width]", s)
	}
	numbersOn(op, "ids", ids, rows)
	if s[0] > math.MaxInt32 {
		fail(op, "a table of %d rows, want fewer than 2^31", s[0])
	}
	if rows.Len() != ids.Len()*s[1] {
		fail(op, "%d ids of rows of %d for shape %v", ids.Len(), s[1], rows.Shape())
	}
	for i, k := range ids.I32() {
		if k < 0 || int(k) >= s[0] {
			fail(op, "id %d at %d, want 0 to %d", k, i, s[0]-1)
		}
	}
	return s[1]
}

func gather[T cpu.Float](out, table []T, ids []int32, d int) {
	for i, k := range ids {
		copy(out[i*d:][:d], table[int(k)*d:])
	}
}

// scatterColumns is how many columns of a row a warp of the kernel adds up.
const scatterColumns = 128

// scatterGrid is that of a warp for each of most rows and scatterColumns of their d columns, and how many warps are across a row.
func scatterGrid(most, d int) (g cuda.Grid, across int) {
	across = max(1, ceil(d, scatterColumns))
	return cuda.Grid{X: ceil(most, rowBlock/32) * across, Y: 1, Z: 1, BX: rowBlock, BY: 1, BZ: 1}, across
}

// ScatterAdd adds row i of dy, [..., D], to row ids[i] of dtable, [K, D], in the order
// of i: Gather's gradient. Of ids on a GPU those outside the table are passed over.
func ScatterAdd(dtable, dy, ids *gpu.Tensor) {
	const op = "ScatterAdd"
	d := gatherCheck(op, dy, dtable, ids)
	if s := dy.Device().Stream(); s != nil {
		if dy.Len() > 0 {
			most := dtable.Shape()[0]
			g, across := scatterGrid(most, d)
			if ids.Len() > math.MaxInt32 || g.X > math.MaxInt32 {
				fail(op, "%d ids of a table of shape %v, want fewer than 2^31 on a GPU", ids.Len(), dtable.Shape())
			}
			at, copied := numbers(s, ids)
			f := byWidth(dy, kernels.ScatterAddF32, kernels.ScatterAddF64)
			f(s, g, dtable.Ptr(), dy.Ptr(), at, int32(ids.Len()), int32(d), int32(most), int32(across))
			s.Free(copied)
		}
		return
	}
	if dy.Double() {
		scatterAdd(dtable.F64(), dy.F64(), ids.I32(), d)
	} else {
		scatterAdd(dtable.F32(), dy.F32(), ids.I32(), d)
	}
}

func scatterAdd[T cpu.Float](table, dy []T, ids []int32, d int) {
	for i, k := range ids {
		row := table[int(k)*d:][:d]
		cpu.PairRows(cpu.PairAdd, false, 1, d, row, d, row, d, 1, dy[i*d:], d, 1)
	}
}

// CodeSums adds to count, Float64 [K], how many rows of z, [n, D] of Float32 or Float64, each of K codes stands for, and to sum, Float64 [K,
// D], these rows, in their order: ids, Int32 [n], tells the code of each, as Nearest finds it. Bits are the same on all devices. It panics when
// shapes, dtypes or devices do not fit, and on an id that is none; of ids on a GPU such are passed over.
func CodeSums(count, sum, z, ids *gpu.Tensor) {
	const op = "CodeSums"
	if dt := z.DType(); dt != gpu.Float32 && dt != gpu.Float64 {
		fail(op, "vectors are %v, want float32 or float64", dt)
	}
	dev := sameDevice(op, count, sum, z)
	numbersOn(op, "ids", ids, z)
	zs, ss := z.Shape(), sum.Shape()
	if len(zs) != 2 || len(ss) != 2 || zs[1] != ss[1] {
		fail(op, "vectors %v and sums %v, want [n, D] and [K, D]", zs, ss)
	}
	if sum.DType() != gpu.Float64 || count.DType() != gpu.Float64 {
		fail(op, "sums are %v, numbers %v, want float64", sum.DType(), count.DType())
	}
	wantRows(op, "count", count, ss[0])
	wantRows(op, "ids", ids, zs[0])
	n, d, most := zs[0], zs[1], ss[0]
	if n == 0 {
		return
	}
	if !ids.Device().CUDA() {
		for i, k := range ids.I32() {
			if k < 0 || int(k) >= most {
				fail(op, "id %d at %d, want 0 to %d", k, i, most-1)
			}
		}
	}
	if s := dev.Stream(); s != nil {
		g, across := scatterGrid(most, d)
		if n > math.MaxInt32 || g.X > math.MaxInt32 {
			fail(op, "%d vectors and a book of %v, want fewer than 2^31 on a GPU", n, ss)
		}
		at, copied := numbers(s, ids)
		byWidth(z, kernels.CodeSumsF32, kernels.CodeSumsF64)(s, g, count.Ptr(), sum.Ptr(), z.Ptr(), at, int32(n), int32(d), int32(most), int32(across))
		s.Free(copied)
		return
	}
	for _, k := range ids.I32() {
		count.F64()[k]++
	}
	c := newCall(codeSums, sum, z, ids)
	c.n[0], c.n[1] = n, d
	c.each(ceil(d, codeColumns))
}

// codeColumns is how many columns a worker adds up, of all codes.
const codeColumns = 16

func codeSums(c *call, _ *cpu.Worker, i int) {
	if z := c.t[1]; z.Double() {
		codeSumsOf(c, i, z.F64())
	} else {
		codeSumsOf(c, i, z.F32())
	}
}

func codeSumsOf[T cpu.Float](c *call, i int, z []T) {
	sum, d := c.t[0].F64(), c.n[1]
	lo, hi := i*codeColumns, min((i+1)*codeColumns, d)
	for r, k := range c.t[2].I32() {
		to := sum[int(k)*d+lo : int(k)*d+hi]
		for j, v := range z[r*d+lo : r*d+hi] {
			to[j] += float64(v)
		}
	}
}

// ArgMax sets at, Int32 with one element a row, to the place of the greatest element
// of each row of x, [..., n], the first of equals, and top, if not nil, to its value.
// A row with NaN gives the first NaN. It panics on rows of no elements.
func ArgMax(at, top, x *gpu.Tensor) {
	const op = "ArgMax"
	s := streamOf(op, x, top)
	rows, n := lastAxis(op, x)
	wantRows(op, "at", at, rows)
	if n == 0 || at.DType() != gpu.Int32 {
		fail(op, "rows of %d elements, places are %v, want at least one element and int32", n, at.DType())
	}
	if top != nil {
		wantRows(op, "top", top, rows)
	}
	sameDevice(op, x, at)
	if s != nil {
		if rows > 0 {
			g, threads := rowTeams(op, rows, n)
			byWidth(x, kernels.ArgmaxF32, kernels.ArgmaxF64)(s, g, at.Ptr(), ptr(top), x.Ptr(), int64(rows), int32(n), threads)
		}
		return
	}
	if x.Double() {
		argMax(at.I32(), data[float64](top), x.F64(), n)
	} else {
		argMax(at.I32(), data[float32](top), x.F32(), n)
	}
}

func argMax[T cpu.Float](at []int32, top, x []T, n int) {
	for r := range at {
		row, best := x[r*n:][:n], 0
		for i, v := range row {
			if v > row[best] || v != v && row[best] == row[best] {
				best = i
			}
		}
		at[r] = int32(best)
		if top != nil {
			top[r] = row[best]
		}
	}
}

// PickAdd adds g[r] to element at[r] of row r of dx, [..., n]: the gradient by a row of
// one of its elements.
func PickAdd(dx, g, at *gpu.Tensor) {
	const op = "PickAdd"
	s := streamOf(op, dx, g)
	rows, n := lastAxis(op, dx)
	wantRows(op, "g", g, rows)
	wantRows(op, "at", at, rows)
	if n > math.MaxInt32 {
		fail(op, "rows of %d elements, want fewer than 2^31", n)
	}
	numbersOn(op, "at", at, dx)
	if s != nil {
		if rows > 0 {
			places, copied := numbers(s, at)
			f := byWidth(dx, kernels.PickAddF32, kernels.PickAddF64)
			f(s, cuda.Grid1(rows, rowBlock, rowBlock), dx.Ptr(), g.Ptr(), places, int64(rows), int32(n))
			s.Free(copied)
		}
		return
	}
	if dx.Double() {
		pickAdd(dx.F64(), g.F64(), at.I32(), n)
	} else {
		pickAdd(dx.F32(), g.F32(), at.I32(), n)
	}
}

func pickAdd[T cpu.Float](dx, g []T, at []int32, n int) {
	for r, i := range at {
		dx[r*n+int(i)] += g[r]
	}
}

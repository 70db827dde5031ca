package ops

import (
	"github.com/fidlab/fidlab/cuda"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/cpu"
	"github.com/fidlab/fidlab/kernels"
)

// softmaxBlock is about how many elements a worker takes at a time.
const softmaxBlock = 1 << 12

// rows runs fn over blocks of rows; n[0] is the rows of an item, n[1] the
// columns, n[2] all rows.
func (c *call) rows(rows, cols int) {
	if rows == 0 {
		c.drop()
		return
	}
	c.n[0], c.n[1], c.n[2] = max(1, softmaxBlock/cols), cols, rows
	c.each(ceil(rows, c.n[0]))
}

// rowSpan is the first row of item i, their number and that of the columns.
func (c *call) rowSpan(i int) (first, rows, cols int) {
	first = i * c.n[0]
	return first, min(c.n[0], c.n[2]-first), c.n[1]
}

// Softmax sets each row of out, [..., n], to exp(x - max x)/Σ exp(x - max x) of that
// row of x. out may be x. It panics unless shapes, dtypes (float32 or float64) and
// devices agree.
func Softmax(out, x *gpu.Tensor) {
	const op = "Softmax"
	s := streamOf(op, out, x)
	sameShape(op, out, x)
	rows, cols := lastAxis(op, x)
	if s != nil && rows > 0 {
		g, threads := rowTeams(op, rows, cols)
		f := byWidth(x, kernels.SoftmaxF32, kernels.SoftmaxF64)
		f(s, g, out.Ptr(), x.Ptr(), int64(rows), int32(cols), threads)
		return
	}
	newCall(softmaxRows, out, x).rows(rows, cols)
}

func softmaxRows(c *call, _ *cpu.Worker, i int) {
	r, rows, n := c.rowSpan(i)
	if c.double() {
		cpu.SoftmaxRows(rows, n, c.t[0].F64()[r*n:], c.t[1].F64()[r*n:])
	} else {
		cpu.SoftmaxRows(rows, n, c.t[0].F32()[r*n:], c.t[1].F32()[r*n:])
	}
}

// SoftmaxBackward sets dx to y·(dy - Σ y·dy) by rows, with y Softmax's result, or adds
// that to dx. dx may be dy.
func SoftmaxBackward(dx, y, dy *gpu.Tensor, acc bool) {
	const op = "SoftmaxBackward"
	s := streamOf(op, dx, y, dy)
	sameShape(op, dx, y, dy)
	rows, cols := lastAxis(op, y)
	if s != nil && rows > 0 {
		g, threads := rowTeams(op, rows, cols)
		f := byWidth(dx, kernels.SoftmaxBackF32, kernels.SoftmaxBackF64)
		f(s, g, dx.Ptr(), y.Ptr(), dy.Ptr(), int64(rows), int32(cols), threads, number(acc))
		return
	}
	c := newCall(softmaxBackRows, dx, y, dy)
	c.acc = acc
	c.rows(rows, cols)
}

func softmaxBackRows(c *call, _ *cpu.Worker, i int) {
	r, rows, n := c.rowSpan(i)
	if c.double() {
		cpu.SoftmaxBack(rows, n, c.t[0].F64()[r*n:], c.acc, c.t[1].F64()[r*n:], c.t[2].F64()[r*n:])
	} else {
		cpu.SoftmaxBack(rows, n, c.t[0].F32()[r*n:], c.acc, c.t[1].F32()[r*n:], c.t[2].F32()[r*n:])
	}
}

// LogSumExp sets lse, one element a row, to log Σ exp(x) over the rows of x, [..., n].
func LogSumExp(lse, x *gpu.Tensor) {
	const op = "LogSumExp"
	s := streamOf(op, lse, x)
	rows, cols := lastAxis(op, x)
	wantRows(op, "lse", lse, rows)
	if s != nil {
		launchLogSumExp(op, lse, nil, x, nil, 0, rows, cols)
		return
	}
	c := newCall(lseRows, lse, x)
	if c.double() {
		c.f64.take(rows)
	} else {
		c.f32.take(rows)
	}
	c.rows(rows, cols)
}

// launchLogSumExp is LogSumExp on a GPU, and CrossEntropy with a loss.
func launchLogSumExp(op string, lse, loss, x, labels *gpu.Tensor, smooth float64, rows, cols int) {
	if rows == 0 {
		return
	}
	s := x.Device().Stream()
	var at, copied cuda.Ptr
	if labels != nil {
		at, copied = numbers(s, labels)
	}
	g, threads := rowTeams(op, rows, cols)
	f := byWidth(x, kernels.LogsumexpF32, kernels.LogsumexpF64)
	f(s, g, lse.Ptr(), ptr(loss), x.Ptr(), at, smooth, int64(rows), int32(cols), threads)
	s.Free(copied)
}

func wantRows(op, name string, t *gpu.Tensor, rows int) {
	if t.Len() != rows {
		fail(op, "%s has shape %v, want %d elements, one a row", name, t.Shape(), rows)
	}
}

func lseRows(c *call, _ *cpu.Worker, i int) {
	r, rows, n := c.rowSpan(i)
	if c.double() {
		cpu.LogSumExp(rows, n, c.t[0].F64()[r:], c.f64.v[r:], c.t[1].F64()[r*n:])
	} else {
		cpu.LogSumExp(rows, n, c.t[0].F32()[r:], c.f32.v[r:], c.t[1].F32()[r*n:])
	}
}

// LogSumExpBackward sets dx to g·exp(x - lse) by rows, with lse LogSumExp's result and
// g its gradient, or adds that to dx.
func LogSumExpBackward(dx, x, lse, g *gpu.Tensor, acc bool) {
	const op = "LogSumExpBackward"
	s := streamOf(op, dx, x, lse, g)
	sameShape(op, x, dx)
	rows, cols := lastAxis(op, x)
	wantRows(op, "lse", lse, rows)
	wantRows(op, "g", g, rows)
	if s != nil {
		launchExpBack(op, dx, x, lse, g, nil, 0, acc, rows, cols)
		return
	}
	c := newCall(lseBackRows, dx, x, lse, g)
	c.acc = acc
	c.rows(rows, cols)
}

// launchExpBack is LogSumExpBackward on a GPU, and CrossEntropyBackward with labels.
func launchExpBack(op string, dx, x, lse, g, labels *gpu.Tensor, smooth float64, acc bool, rows, cols int) {
	if rows == 0 {
		return
	}
	s := x.Device().Stream()
	var at, copied cuda.Ptr
	if labels != nil {
		at, copied = numbers(s, labels)
	}
	grid, threads := rowTeams(op, rows, cols)
	f := byWidth(x, kernels.LogsumexpBackF32, kernels.LogsumexpBackF64)
	f(s, grid, dx.Ptr(), x.Ptr(), lse.Ptr(), g.Ptr(), at, smooth, int64(rows), int32(cols), threads, number(acc))
	s.Free(copied)
}

func lseBackRows(c *call, _ *cpu.Worker, i int) {
	r, rows, n := c.rowSpan(i)
	if c.double() {
		cpu.ExpBack(rows, n, c.t[0].F64()[r*n:], c.acc, c.t[1].F64()[r*n:], c.t[2].F64()[r:], c.t[3].F64()[r:])
	} else {
		cpu.ExpBack(rows, n, c.t[0].F32()[r*n:], c.acc, c.t[1].F32()[r*n:], c.t[2].F32()[r:], c.t[3].F32()[r:])
	}
}

// CrossEntropy sets loss, one element a row, to -Σ_j q_j log softmax(x)_j over the rows
// of the logits x, [..., n], where q is 1-smooth at the row's label and smooth/n more
// everywhere; a row with label -1 has loss 0. lse, like loss, is kept for the gradient.
// It panics on labels, Int32, outside -1..n-1, and unless 0 <= smooth < 1.
//
// With x on a GPU the labels may be on the CPU, from where they are copied without a wait, or on
// that GPU, where nobody looks at them before: one outside the range has loss and gradient NaN.
func CrossEntropy(loss, lse, x, labels *gpu.Tensor, smooth float64) {
	const op = "CrossEntropy"
	rows, cols := entropyCheck(op, x, loss, lse, labels, smooth)
	if x.Device().CUDA() {
		launchLogSumExp(op, lse, loss, x, labels, smooth, rows, cols)
		return
	}
	LogSumExp(lse, x)
	if x.Double() {
		crossEntropy(loss.F64(), lse.F64(), x.F64(), labels.I32(), rows, cols, smooth)
	} else {
		crossEntropy(loss.F32(), lse.F32(), x.F32(), labels.I32(), rows, cols, smooth)
	}
}

func entropyCheck(op string, x, a, lse, labels *gpu.Tensor, smooth float64) (rows, cols int) {
	streamOf(op, x, a, lse)
	rows, cols = lastAxis(op, x)
	wantRows(op, "the loss or its gradient", a, rows)
	wantRows(op, "lse", lse, rows)
	wantRows(op, "labels", labels, rows)
	numbersOn(op, "labels", labels, x)
	for r, l := range labels.I32() {
		if l < -1 || int(l) >= cols {
			fail(op, "label %d of row %d, want 0 to %d, or -1 for none", l, r, cols-1)
		}
	}
	if !(smooth >= 0 && smooth < 1) {
		fail(op, "smoothing %g, want 0 <= smoothing < 1", smooth)
	}
	return rows, cols
}

func crossEntropy[T cpu.Float](loss, lse, x []T, labels []int32, rows, n int, smooth float64) {
	for r := range rows {
		l := labels[r]
		if l < 0 {
			loss[r] = 0
			continue
		}
		v := float64(lse[r]) - (1-smooth)*float64(x[r*n+int(l)])
		if smooth > 0 {
			var s float64
			for _, e := range x[r*n:][:n] {
				s += float64(e)
			}
			v -= smooth * s / float64(n)
		}
		loss[r] = T(v)
	}
}

// CrossEntropyBackward sets dx to g·(softmax(x) - q) by rows, or adds that to dx, with
// CrossEntropy's operands and g the gradient by its loss.
func CrossEntropyBackward(dx, x, lse, labels, g *gpu.Tensor, smooth float64, acc bool) {
	const op = "CrossEntropyBackward"
	rows, cols := entropyCheck(op, x, g, lse, labels, smooth)
	streamOf(op, x, dx)
	sameShape(op, x, dx)
	if x.Device().CUDA() {
		launchExpBack(op, dx, x, lse, g, labels, smooth, acc, rows, cols)
		return
	}
	LogSumExpBackward(dx, x, lse, g, acc)
	if x.Double() {
		entropyBack(dx.F64(), x.F64(), lse.F64(), g.F64(), labels.I32(), rows, cols, smooth)
	} else {
		entropyBack(dx.F32(), x.F32(), lse.F32(), g.F32(), labels.I32(), rows, cols, smooth)
	}
}

// entropyBack takes g·q off; of a row without a label also what was added for it.
func entropyBack[T cpu.Float](dx, x, lse, g []T, labels []int32, rows, n int, smooth float64) {
	for r := range rows {
		row := dx[r*n:][:n]
		if labels[r] < 0 {
			cpu.ExpBack(1, n, row, true, x[r*n:], lse[r:], []T{-g[r]})
			continue
		}
		row[labels[r]] -= g[r] * T(1-smooth)
		if smooth > 0 {
			each := g[r] * T(smooth/float64(n))
			for i := range row {
				row[i] -= each
			}
		}
	}
}

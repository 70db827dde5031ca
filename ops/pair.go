package ops

import (
	"math"

	"github.com/fidlab/fidlab/cuda"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/cpu"
	"github.com/fidlab/fidlab/kernels"
)

// maxAxes is the most axes that operands which are repeated may have.
const maxAxes = 8

// axes is a walk over the elements of a result with one or two operands: sizes
// and steps of the axes that are left when neighbours that lie alike are one.
// The last has steps of 1 or 0.
type axes struct {
	k    int
	size [maxAxes]int
	step [2][maxAxes]int
}

// broadcast lays operands over shape out by the rule of numpy: axes are matched
// from the last one on, and an axis that is missing or has size 1 is repeated.
func broadcast(op string, out []int, xs ...*gpu.Tensor) axes {
	var a axes
	n := len(out)
	if n > maxAxes {
		fail(op, "shape %v has %d axes, want at most %d", out, n, maxAxes)
	}
	var full [2][maxAxes]int
	for j, x := range xs {
		s, step := x.Shape(), 1
		if len(s) > n {
			fail(op, "shape %v of operand %d has more axes than the result's %v", s, j, out)
		}
		for i := len(s) - 1; i >= 0; i-- {
			at := n - len(s) + i
			switch s[i] {
			case out[at]:
				full[j][at] = step
				if s[i] == 1 {
					full[j][at] = 0
				}
			case 1:
			default:
				fail(op, "shape %v of operand %d does not repeat to %v", s, j, out)
			}
			step *= s[i]
		}
	}
	for i := range n {
		if out[i] == 1 {
			continue
		}
		if a.k > 0 { // one axis with the one before?
			p := a.k - 1
			if full[0][i]*out[i] == a.step[0][p] && full[1][i]*out[i] == a.step[1][p] {
				a.size[p] *= out[i]
				a.step[0][p], a.step[1][p] = full[0][i], full[1][i]
				continue
			}
		}
		a.size[a.k], a.step[0][a.k], a.step[1][a.k] = out[i], full[0][i], full[1][i]
		a.k++
	}
	if a.k == 0 {
		a.k, a.size[0] = 1, 1
	}
	return a
}

// rows is the number of runs along the last axis.
func (a *axes) rows() int {
	n := 1
	for _, s := range a.size[:a.k-1] {
		n *= s
	}
	return n
}

// at is where row r of the operands begins.
func (a *axes) at(r int) (x, y int) {
	for i := a.k - 2; i >= 0; i-- {
		c := r % a.size[i]
		r /= a.size[i]
		x += c * a.step[0][i]
		y += c * a.step[1][i]
	}
	return x, y
}

// walk is axes as kernels take them: those before the last at the end of the arrays.
type walk struct {
	axes, last, stepA, stepB int32
	size, a, b               [maxAxes - 1]int32
}

// walk lays out x for a result of n elements.
func (x *axes) walk(op string, n int) (w walk) {
	last := x.k - 1
	w.stepA, w.stepB = int32(x.step[0][last]), int32(x.step[1][last])
	if last == 0 {
		return w
	}
	if n > math.MaxInt32 {
		fail(op, "%d elements with operands that repeat; a GPU takes 2^31-1; use a smaller batch", n)
	}
	w.axes, w.last = int32(last), int32(x.size[last])
	for i := range last {
		at := len(w.size) - last + i
		w.size[at], w.a[at], w.b[at] = int32(x.size[i]), int32(x.step[0][i]), int32(x.step[1][i])
	}
	return w
}

// Add sets out to a + b, or adds that to out. a and b repeat along axes that they
// lack or have with size 1, as numpy's do. out may be an operand of its own
// shape. It panics when shapes do not fit, and unless dtypes (float32 or
// float64) and devices agree.
func Add(out, a, b *gpu.Tensor, acc bool) { pair("Add", cpu.PairAdd, out, a, b, acc) }

// Sub is Add for a - b.
func Sub(out, a, b *gpu.Tensor, acc bool) { pair("Sub", cpu.PairSub, out, a, b, acc) }

// Mul is Add for a·b.
func Mul(out, a, b *gpu.Tensor, acc bool) { pair("Mul", cpu.PairMul, out, a, b, acc) }

// Div is Add for a/b.
func Div(out, a, b *gpu.Tensor, acc bool) { pair("Div", cpu.PairDiv, out, a, b, acc) }

// Minimum is Add for the smaller of a and b; NaN wins.
func Minimum(out, a, b *gpu.Tensor, acc bool) { pair("Minimum", cpu.PairMin, out, a, b, acc) }

// Maximum is Add for the greater of a and b; NaN wins.
func Maximum(out, a, b *gpu.Tensor, acc bool) { pair("Maximum", cpu.PairMax, out, a, b, acc) }

func pair(op string, f cpu.Pair, out, a, b *gpu.Tensor, acc bool) {
	s := streamOf(op, out, a, b)
	x := broadcast(op, out.Shape(), a, b)
	if out.Len() == 0 {
		return
	}
	if s != nil {
		launchPair(op, s, f, out, a, b, acc, &x)
		return
	}
	last := x.size[x.k-1]
	c := newCall(pairBlock, out, a, b)
	c.two, c.acc = f, acc
	if x.k == 1 { // cut the one row
		c.n[0] = cpu.VecChunk
		c.n[1] = last
		c.n[2], c.n[3] = x.step[0][0], x.step[1][0]
		c.fn = pairSpan
		c.each(ceil(last, cpu.VecChunk))
		return
	}
	c.n[0] = max(1, cpu.VecChunk/last) // rows at a time
	c.ax = x
	c.each(ceil(x.rows(), c.n[0]))
}

func launchPair(op string, s *cuda.Stream, f cpu.Pair, out, a, b *gpu.Tensor, acc bool, x *axes) {
	k, g, w := byWidth(out, kernels.PairF32, kernels.PairF64), vectorGrid(out, out.Len()), x.walk(op, out.Len())
	k(s, g, out.Ptr(), a.Ptr(), b.Ptr(), int32(f), flag(acc), w.stepA, w.stepB, int64(out.Len()), w.axes, w.last,
		w.size[0], w.size[1], w.size[2], w.size[3], w.size[4], w.size[5], w.size[6],
		w.a[0], w.a[1], w.a[2], w.a[3], w.a[4], w.a[5], w.a[6], w.b[0], w.b[1], w.b[2], w.b[3], w.b[4], w.b[5], w.b[6])
}

// pairSpan does a piece of a single row.
func pairSpan(c *call, _ *cpu.Worker, i int) {
	lo, hi := i*c.n[0], min((i+1)*c.n[0], c.n[1])
	if c.double() {
		pairPart[float64](c, lo, 1, hi-lo, lo*c.n[2], 0, c.n[2], lo*c.n[3], 0, c.n[3])
	} else {
		pairPart[float32](c, lo, 1, hi-lo, lo*c.n[2], 0, c.n[2], lo*c.n[3], 0, c.n[3])
	}
}

// pairBlock does some rows; runs along the second last axis go together.
func pairBlock(c *call, _ *cpu.Worker, i int) {
	x := &c.ax
	n, run := x.size[x.k-1], x.size[x.k-2]
	end := min((i+1)*c.n[0], x.rows())
	for r := i * c.n[0]; r < end; {
		rows := min(run-r%run, end-r)
		at, bt := x.at(r)
		sa, sb := x.step[0], x.step[1]
		if c.double() {
			pairPart[float64](c, r*n, rows, n, at, sa[x.k-2], sa[x.k-1], bt, sb[x.k-2], sb[x.k-1])
		} else {
			pairPart[float32](c, r*n, rows, n, at, sa[x.k-2], sa[x.k-1], bt, sb[x.k-2], sb[x.k-1])
		}
		r += rows
	}
}

func pairPart[T cpu.Float](c *call, o, rows, n, at, lda, ia, bt, ldb, ib int) {
	cpu.PairRows(c.two, c.acc, rows, n, data[T](c.t[0])[o:], n, data[T](c.t[1])[at:], lda, ia, data[T](c.t[2])[bt:], ldb, ib)
}

// WhereEqual sets out to g where a, repeated to g's shape, equals b, and to 0 elsewhere:
// the gradient by the operand a of a Minimum or Maximum with the result b. With but, an
// element whose first operand equals b too gets 0, so that one of two equals has it.
func WhereEqual(out, g, a, b, first *gpu.Tensor, but bool) {
	const op = "WhereEqual"
	s := streamOf(op, out, g, a, b, first)
	sameShape(op, out, g, b)
	x := broadcast(op, out.Shape(), a, first)
	if out.Len() == 0 {
		return
	}
	if s != nil {
		k, at, w := byWidth(out, kernels.WhereEqualF32, kernels.WhereEqualF64), vectorGrid(out, out.Len()), x.walk(op, out.Len())
		k(s, at, out.Ptr(), g.Ptr(), b.Ptr(), a.Ptr(), first.Ptr(), flag(but), w.stepA, w.stepB, int64(out.Len()), w.axes, w.last,
			w.size[0], w.size[1], w.size[2], w.size[3], w.size[4], w.size[5], w.size[6],
			w.a[0], w.a[1], w.a[2], w.a[3], w.a[4], w.a[5], w.a[6], w.b[0], w.b[1], w.b[2], w.b[3], w.b[4], w.b[5], w.b[6])
		return
	}
	if out.Double() {
		whereEqual(&x, out.F64(), g.F64(), a.F64(), b.F64(), first.F64(), but)
	} else {
		whereEqual(&x, out.F32(), g.F32(), a.F32(), b.F32(), first.F32(), but)
	}
}

func whereEqual[T cpu.Float](x *axes, out, g, a, b, first []T, but bool) {
	n, sa, sf := x.size[x.k-1], x.step[0][x.k-1], x.step[1][x.k-1]
	for r := range x.rows() {
		at, ft := x.at(r)
		for i := range n {
			o := r*n + i
			out[o] = 0
			if a[at+i*sa] == b[o] && !(but && first[ft+i*sf] == b[o]) {
				out[o] = g[o]
			}
		}
	}
}

package ops

import (
	"github.com/fidlab/fidlab/cuda"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/cpu"
)

// Permute sets out to x with its axes in another order: axis i of out is axis perm[i]
// of x; or adds that to out. out is not x. It panics unless perm is a permutation
// that makes out's shape of x's.
func Permute(out, x *gpu.Tensor, acc bool, perm ...int) {
	const op = "Permute"
	s := streamOf(op, out, x)
	xs, os := x.Shape(), out.Shape()
	if len(perm) != len(xs) || len(os) != len(xs) || len(xs) > maxAxes {
		fail(op, "permutation %v of shape %v to %v, want as many axes, at most %d", append([]int(nil), perm...), xs, os, maxAxes)
	}
	var steps [maxAxes]int
	var seen [maxAxes]bool
	for i, step := len(xs)-1, 1; i >= 0; i-- {
		steps[i] = step
		step *= xs[i]
	}
	var a axes
	for i, p := range perm {
		if p < 0 || p >= len(xs) || seen[p] || os[i] != xs[p] {
			fail(op, "permutation %v of shape %v to %v", append([]int(nil), perm...), xs, os)
		}
		seen[p] = true
		if xs[p] == 1 {
			continue
		}
		if a.k > 0 && steps[p]*xs[p] == a.step[0][a.k-1] {
			a.size[a.k-1] *= xs[p]
			a.step[0][a.k-1] = steps[p]
			continue
		}
		a.size[a.k], a.step[0][a.k] = xs[p], steps[p]
		a.k++
	}
	if out.Len() == 0 {
		return
	}
	if a.k == 0 {
		a.k, a.size[0], a.step[0][0] = 1, 1, 1
	}
	if s != nil {
		launchPermute(s, op, out, x, acc, &a)
		return
	}
	c := newCall(permuteRows, out, x)
	c.ax, c.acc = a, acc
	c.n[0] = max(1, mapBlock/a.size[a.k-1])
	c.each(ceil(a.rows(), c.n[0]))
}

func permuteRows(c *call, _ *cpu.Worker, i int) {
	if c.double() {
		permuteOf[float64](c, i)
	} else {
		permuteOf[float32](c, i)
	}
}

func permuteOf[T cpu.Float](c *call, i int) {
	a := &c.ax
	out, x := data[T](c.t[0]), data[T](c.t[1])
	n, step := a.size[a.k-1], a.step[0][a.k-1]
	for r := i * c.n[0]; r < min((i+1)*c.n[0], a.rows()); r++ {
		at, _ := a.at(r)
		o := out[r*n:][:n]
		switch {
		case c.acc:
			for j := range o {
				o[j] += x[at+j*step]
			}
		case step == 1:
			copy(o, x[at:][:n])
		default:
			for j := range o {
				o[j] = x[at+j*step]
			}
		}
	}
}

// slab is a tensor seen as [outer, size, inner] around one axis.
func slab(op string, t *gpu.Tensor, axis int) (outer, size, inner int) {
	s := t.Shape()
	if axis < 0 || axis >= len(s) {
		fail(op, "axis %d of shape %v", axis, s)
	}
	outer, inner = 1, 1
	for _, d := range s[:axis] {
		outer *= d
	}
	for _, d := range s[axis+1:] {
		inner *= d
	}
	return outer, s[axis], inner
}

// Slice sets out to the elements of x from first on along an axis, as many as out has
// there, or adds them to out. It panics unless out fits there and in all other axes.
func Slice(out, x *gpu.Tensor, axis, first int, acc bool) {
	part("Slice", out, x, axis, first, acc, false)
}

// PutSlice sets the elements of out from first on along an axis to x, or adds x to
// them: Slice's gradient, and a piece of a concatenation.
func PutSlice(out, x *gpu.Tensor, axis, first int, acc bool) {
	part("PutSlice", x, out, axis, first, acc, true)
}

// part copies between a piece and the whole.
func part(op string, piece, whole *gpu.Tensor, axis, first int, acc, put bool) {
	s := streamOf(op, piece, whole)
	outer, size, inner := slab(op, piece, axis)
	o, all, in := slab(op, whole, axis)
	ps, ws := piece.Shape(), whole.Shape()
	fits := o == outer && in == inner && first >= 0 && first+size <= all && len(ps) == len(ws)
	for i := range min(len(ps), len(ws)) {
		fits = fits && (i == axis || ps[i] == ws[i])
	}
	if !fits {
		fail(op, "a piece of shape %v from %d on along axis %d of shape %v", ps, first, axis, ws)
	}
	if piece.Len() == 0 {
		return
	}
	if s != nil {
		run, ld := size*inner, all*inner
		if from := whole.Ptr() + cuda.Ptr(first*inner*whole.DType().Size()); put {
			launchRuns(s, op, whole, from, piece.Ptr(), outer, run, ld, run, acc)
		} else {
			launchRuns(s, op, whole, piece.Ptr(), from, outer, run, run, ld, acc)
		}
		return
	}
	c := newCall(partRows, piece, whole)
	c.acc = acc
	c.n[0], c.n[1], c.n[2], c.n[3] = outer, size*inner, all*inner, first*inner
	c.n[4], c.n[5] = max(1, mapBlock/(size*inner)), 0
	if put {
		c.n[5] = 1
	}
	c.each(ceil(outer, c.n[4]))
}

func partRows(c *call, _ *cpu.Worker, i int) {
	if c.double() {
		partOf[float64](c, i)
	} else {
		partOf[float32](c, i)
	}
}

func partOf[T cpu.Float](c *call, i int) {
	first, run, ld := i*c.n[4], c.n[1], c.n[2]
	rows := min(c.n[4], c.n[0]-first)
	to, from := data[T](c.t[0])[first*run:], data[T](c.t[1])[first*ld+c.n[3]:]
	ldt, ldf := run, ld
	if c.n[5] == 1 {
		to, from, ldt, ldf = from, to, ld, run
	}
	if c.acc {
		cpu.PairRows(cpu.PairAdd, false, rows, run, to, ldt, to, ldt, 1, from, ldf, 1)
		return
	}
	for r := range rows {
		copy(to[r*ldt:][:run], from[r*ldf:])
	}
}

package ops

import (
	"math"
	"slices"

	"github.com/fidlab/fidlab/cuda"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/cpu"
	"github.com/fidlab/fidlab/kernels"
)

// NormConfig says how rows are normalised: u = (x - mean)/√(var + Eps)·Weight + Bias,
// then y = u·(1 + Scale) + Shift. With RMS the mean is 0 and var the mean of squares.
type NormConfig struct {
	RMS bool
	Eps float64
	// Weight and Bias are nil or [D].
	Weight, Bias *gpu.Tensor
	// Scale and Shift are nil or [B, D] (or [B, 1, ..., D]): the b-th of B equal parts of the rows is
	// modulated by the b-th row. Either may be alone.
	Scale, Shift *gpu.Tensor
}

// NormGrads are the gradients by the parts of a NormConfig, which NormBackward adds
// to; nil where they are not wanted.
type NormGrads struct{ Weight, Bias, Scale, Shift *gpu.Tensor }

// normBlock is about how many elements a worker takes at a time.
const normBlock = 1 << 13

// Norm sets y to x, [..., D], normalised over its last axis, and keeps the mean and
// 1/√(var + Eps) of each row in mean and inv, [...] of as many elements as there are
// rows. y may be x. It panics when shapes do not fit, and unless dtypes (float32
// or float64) and devices agree.
func Norm(y, mean, inv, x *gpu.Tensor, cfg NormConfig) {
	const op = "Norm"
	rows, parts := normCheck(op, x, mean, inv, cfg)
	sameShape(op, x, y)
	s := streamOf(op, x, y)
	if x.Len() == 0 {
		return
	}
	if s != nil {
		d := x.Len() / rows
		g, threads := rowTeams(op, rows, d)
		f := byWidth(x, kernels.NormF32, kernels.NormF64)
		f(s, g, y.Ptr(), mean.Ptr(), inv.Ptr(), x.Ptr(), ptr(cfg.Weight), ptr(cfg.Bias), ptr(cfg.Scale), ptr(cfg.Shift), cfg.Eps,
			int64(rows), int32(d), int64(rows/parts), number(cfg.RMS), threads)
		return
	}
	c := normCall(x, mean, inv, cfg, rows, parts)
	c.fn, c.t[7] = normRows, y
	c.each(parts * c.n[2])
}

func normCheck(op string, x, mean, inv *gpu.Tensor, cfg NormConfig) (rows, parts int) {
	streamOf(op, x, mean, inv, cfg.Weight, cfg.Bias, cfg.Scale, cfg.Shift)
	if !(cfg.Eps >= 0) {
		fail(op, "Eps is %g, want >= 0", cfg.Eps)
	}
	rows, d := lastAxis(op, x)
	if mean.Len() != rows || inv.Len() != rows {
		fail(op, "mean has shape %v, inv %v, want %d elements each, one a row of %v", mean.Shape(), inv.Shape(), rows, x.Shape())
	}
	for _, t := range [...]*gpu.Tensor{cfg.Weight, cfg.Bias} {
		if t != nil && !slices.Equal(t.Shape(), []int{d}) {
			fail(op, "weight or bias has shape %v, want [%d]", t.Shape(), d)
		}
	}
	parts = 1
	for _, t := range [...]*gpu.Tensor{cfg.Scale, cfg.Shift} {
		if t == nil || rows == 0 {
			continue
		}
		s := t.Shape()
		if len(s) == 0 || s[len(s)-1] != d || t.Len() == 0 || rows%(t.Len()/d) != 0 || parts > 1 && t.Len() != parts*d {
			fail(op, "scale or shift has shape %v, want [B, %d] with B a divisor of the %d rows, the same for both", s, d, rows)
		}
		parts = t.Len() / d
	}
	return rows, parts
}

// normCall has the operands in t[0:7] and rows of a part, rows of an item and
// items of a part in n.
func normCall(x, mean, inv *gpu.Tensor, cfg NormConfig, rows, parts int) *call {
	c := newCall(nil, x, mean, inv, cfg.Weight, cfg.Bias, cfg.Scale, cfg.Shift)
	d := x.Len() / rows
	c.n[0] = rows / parts
	c.n[1] = max(1, normBlock/d)
	c.n[2] = ceil(c.n[0], c.n[1])
	c.n[3], c.n[4] = d, 0
	if cfg.RMS {
		c.n[4] = 1
	}
	c.f[0] = cfg.Eps
	return c
}

// normItem is the rows of item i, and their part of the rows' modulation.
func normItem[T cpu.Float](c *call, i int) (p cpu.Norm[T], first, rows, part int) {
	per, d := c.n[2], c.n[3]
	part = i / per
	lo := i % per * c.n[1]
	rows = min(c.n[1], c.n[0]-lo)
	p = cpu.Norm[T]{RMS: c.n[4] == 1, Eps: c.f[0], N: d, W: data[T](c.t[3]), B: data[T](c.t[4])}
	if c.t[5] != nil {
		p.Scale = data[T](c.t[5])[part*d:][:d]
	}
	if c.t[6] != nil {
		p.Shift = data[T](c.t[6])[part*d:][:d]
	}
	return p, part*c.n[0] + lo, rows, part
}

func normRows(c *call, _ *cpu.Worker, i int) {
	if c.double() {
		normRowsOf[float64](c, i)
	} else {
		normRowsOf[float32](c, i)
	}
}

func normRowsOf[T cpu.Float](c *call, i int) {
	p, r, rows, _ := normItem[T](c, i)
	d := p.N
	p.Forward(rows, data[T](c.t[7])[r*d:], data[T](c.t[1])[r:], data[T](c.t[2])[r:], data[T](c.t[0])[r*d:])
}

// NormBackward sets dx to the gradient by x of a loss whose gradient by y is dy, or
// adds it to dx, and adds to the tensors of g; mean and inv are Norm's. dx may be dy.
func NormBackward(dx *gpu.Tensor, acc bool, g NormGrads, dy, x, mean, inv *gpu.Tensor, cfg NormConfig) {
	const op = "NormBackward"
	rows, parts := normCheck(op, x, mean, inv, cfg)
	s := streamOf(op, x, dx, dy, g.Weight, g.Bias, g.Scale, g.Shift)
	sameShape(op, x, dx, dy)
	for _, s := range [...][2]*gpu.Tensor{{g.Weight, cfg.Weight}, {g.Bias, cfg.Bias}, {g.Scale, cfg.Scale}, {g.Shift, cfg.Shift}} {
		if s[0] != nil && (s[1] == nil || s[0].Len() != s[1].Len()) {
			fail(op, "a gradient of shape %v for a part that has another size or is missing", s[0].Shape())
		}
	}
	if x.Len() == 0 {
		return
	}
	if s != nil {
		launchNormBack(s, op, dx, acc, g, dy, x, mean, inv, cfg, rows, parts)
		return
	}
	c := normCall(x, mean, inv, cfg, rows, parts)
	c.t[7], c.t[8], c.acc = dx, dy, acc
	c.n[1] = max(16, 4*normBlock/c.n[3]) // partial sums are few
	c.n[2] = ceil(c.n[0], c.n[1])
	c.fn = normBack
	if c.double() {
		normBackward[float64](c, parts, g)
	} else {
		normBackward[float32](c, parts, g)
	}
}

// normItems is about how many pieces the rows of an operand are cut into for the sums of the
// gradients of parameters on a GPU; a piece has normDepth rows at least.
const (
	normItems = 1024
	normDepth = 32
)

// launchNormBack makes the sums over rows before dx, which may be dy.
func launchNormBack(s *cuda.Stream, op string, dx *gpu.Tensor, acc bool, g NormGrads, dy, x, mean, inv *gpu.Tensor, cfg NormConfig, rows, parts int) {
	d, own := x.Len()/rows, rows/parts
	if g != (NormGrads{}) {
		depth := max(normDepth, ceil(rows, normItems))
		pieces, across := ceil(own, depth), ceil(d, 32)
		if across*parts*pieces > math.MaxInt32 {
			fail(op, "shape %v takes more than 2^31-1 blocks of a GPU; use a smaller batch", x.Shape())
		}
		part := s.Alloc(2 * parts * pieces * d * x.DType().Size())
		f := byWidth(x, kernels.NormSumsF32, kernels.NormSumsF64)
		f(s, cuda.Grid{X: across * parts * pieces, Y: 1, Z: 1, BX: rowBlock, BY: 1, BZ: 1}, part, x.Ptr(), dy.Ptr(), mean.Ptr(), inv.Ptr(),
			int32(d), int64(own), int32(depth), int32(pieces), int32(across))
		launchNormGrads(s, g, part, x, cfg.Weight, cfg.Bias, cfg.Scale, d, parts, pieces)
		s.Free(part)
	}
	grid, threads := rowTeams(op, rows, d)
	f := byWidth(x, kernels.NormBackF32, kernels.NormBackF64)
	f(s, grid, dx.Ptr(), x.Ptr(), dy.Ptr(), mean.Ptr(), inv.Ptr(), ptr(cfg.Weight), ptr(cfg.Scale),
		int64(rows), int32(d), int64(own), number(cfg.RMS), threads, number(acc))
}

// launchNormGrads makes the gradients of parameters, of n elements, from sums over pieces of parts
// of what x has.
func launchNormGrads(s *cuda.Stream, g NormGrads, part cuda.Ptr, x, weight, bias, scale *gpu.Tensor, n, parts, pieces int) {
	const block = 512
	f := byWidth(x, kernels.NormGradsF32, kernels.NormGradsF64)
	f(s, cuda.Grid1(n, 32, block), ptr(g.Weight), ptr(g.Bias), ptr(g.Scale), ptr(g.Shift), part, ptr(weight), ptr(bias), ptr(scale),
		int32(n), int32(parts), int32(pieces))
}

func normBackward[T cpu.Float](c *call, parts int, g NormGrads) {
	d, items := c.n[3], parts*c.n[2]
	to := [4][]T{data[T](g.Weight), data[T](g.Bias), data[T](g.Scale), data[T](g.Shift)}
	sums := 0
	for k, t := range to { // where in an item's partial sums each of the four is, +1
		c.n[8+k] = 0
		if t != nil {
			c.n[8+k] = sums + 1
			sums++
		}
	}
	c.n[5] = sums * d
	buf := scratchOf[T](c).take(items * sums * d)
	clear(buf)
	cpu.Join(items, c.run)
	for k, t := range to {
		if t == nil {
			continue
		}
		at := (c.n[8+k] - 1) * d
		for i := range items { // in order
			row := t
			if k >= 2 {
				row = t[i/c.n[2]*d:][:d]
			}
			cpu.PairRows(cpu.PairAdd, false, 1, d, row, d, row, d, 1, buf[i*sums*d+at:], d, 1)
		}
	}
	c.drop()
}

func normBack(c *call, _ *cpu.Worker, i int) {
	if c.double() {
		normBackOf[float64](c, i)
	} else {
		normBackOf[float32](c, i)
	}
}

func normBackOf[T cpu.Float](c *call, i int) {
	p, r, rows, _ := normItem[T](c, i)
	d := p.N
	var g cpu.NormGrads[T]
	own := scratchOf[T](c).v[i*c.n[5]:][:c.n[5]]
	for k, to := range [...]*[]T{&g.W, &g.B, &g.Scale, &g.Shift} {
		if at := c.n[8+k]; at > 0 {
			*to = own[(at-1)*d:][:d]
		}
	}
	p.Backward(rows, data[T](c.t[7])[r*d:], c.acc, data[T](c.t[0])[r*d:], data[T](c.t[8])[r*d:], data[T](c.t[1])[r:], data[T](c.t[2])[r:], &g)
}

package ops

import (
	"slices"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/cpu"
)

// Operations on rows that lie in groups, each with a weight of its own: the experts of a
// mixture and the tokens sent to them. offsets, Int32 [G+1] on the CPU or on the operands'
// device, says that group g has the rows from offsets[g] to before offsets[g+1]; a group may
// be empty. Rows from offsets[G] on are in no group, as tokens that no expert has room for:
// their results are zeros and they add to no gradient. On the CPU offsets that do not begin
// with 0, descend or reach beyond the rows are a panic; a GPU does not look at them, nobody
// waits for it, and wrong ones give wrong results.
//
// Work is cut by sizes and offsets alone, so that bits are equal at any number of threads.

// GroupedConfig are the variations of GroupedMatMul; the zero value is x·w.
type GroupedConfig struct {
	TransW bool // w is stored [G, N, K]
	Acc    bool // the product is added to what out holds
}

// GroupedMatMul sets the rows of out [..., N] to x·w[g], with the rows of x [..., K] and the
// matrix of w [G, K, N] of the row's group. out is no operand. It panics when shapes do not
// fit, and unless dtypes (float32 or float64) and devices agree; x and w may also be both
// Float16 or both BFloat16, and out of their dtype or Float32, as of MatMul.
func GroupedMatMul(out, x, w, offsets *gpu.Tensor, cfg GroupedConfig) {
	p := grouped{op: "GroupedMatMul", trans: cfg.TransW, acc: cfg.Acc}
	p.check(out, nil, x, w, nil, offsets)
	p.do(out, nil, x, w, nil, offsets, Identity)
}

// GroupedLinear sets the rows of out [..., N] to f(x·w[g]ᵀ + bias[g]), with the rows of x
// [..., K], the matrix of w [G, N, K] and the row of bias [G, N], or nil, of the row's group.
// pre, like out, gets what f is applied to, which the gradient needs; it is nil where that is
// not wanted or f is Identity. out is no operand. It panics when shapes do not fit, and
// unless dtypes, as of GroupedMatMul, and devices agree; beside operands of 16 bits the bias
// is Float32.
func GroupedLinear(out, pre, x, w, bias, offsets *gpu.Tensor, f Func) {
	p := grouped{op: "GroupedLinear", trans: true}
	p.check(out, pre, x, w, bias, offsets)
	p.do(out, pre, x, w, bias, offsets, f)
}

// GroupedWeights sets dw [G, N, K] to the sums over the rows of each group of dy·xᵀ, dy
// [..., N] and x [..., K], or adds them: the gradient by the weights of GroupedLinear.
func GroupedWeights(dw, dy, x, offsets *gpu.Tensor, acc bool) {
	p := grouped{op: "GroupedWeights", acc: acc}
	s := dw.Shape()
	streamOf(p.op, dw, dy, x)
	if len(s) != 3 {
		fail(p.op, "the gradient has shape %v, want [groups, out, in]", s)
	}
	var dyCols, cols int
	p.groups, p.n, p.k = s[0], s[1], s[2]
	p.rows, dyCols = lastAxis(p.op, dy)
	xRows, cols := lastAxis(p.op, x)
	if dy.Len() > 0 && x.Len() > 0 && (dyCols != p.n || cols != p.k || xRows != p.rows) || dy.Len()*p.k != x.Len()*p.n {
		fail(p.op, "dy %v, x %v and the gradient %v do not fit together, want [..., %d] and [..., %d]", dy.Shape(), x.Shape(), s, p.n, p.k)
	}
	p.checkOffsets(offsets, dw)
	if dw.Len() == 0 {
		return
	}
	if s := dw.Device().Stream(); s != nil {
		p.launchWeights(s, dw, dy, x, offsets)
		return
	}
	p.tm, p.tn = p.n, p.k // tiles of matrices, at least productItems in all
	for p.groups*ceil(p.n, p.tm)*ceil(p.k, p.tn) < productItems && max(p.tm, p.tn) >= 128 {
		if p.tm >= p.tn {
			p.tm = (p.tm/2 + 15) / 16 * 16
		} else {
			p.tn = (p.tn/2 + 15) / 16 * 16
		}
	}
	c := newCall(groupedWeights, dw, dy, x, offsets)
	c.group = p
	c.onWorkers(p.groups * ceil(p.n, p.tm) * ceil(p.k, p.tn))
}

// GroupedSum sets out [G, N] to the sums of the rows of dy [..., N] of each group, or adds
// them: the gradient by the biases of GroupedLinear.
func GroupedSum(out, dy, offsets *gpu.Tensor, acc bool) {
	p := grouped{op: "GroupedSum", acc: acc}
	s := out.Shape()
	streamOf(p.op, out, dy)
	rows, cols := lastAxis(p.op, dy)
	if len(s) != 2 || dy.Len() > 0 && cols != s[1] {
		fail(p.op, "shape %v of the sums and %v of the rows, want [groups, N] and [..., N]", s, dy.Shape())
	}
	p.groups, p.n, p.rows = s[0], s[1], rows
	p.checkOffsets(offsets, out)
	if out.Len() == 0 {
		return
	}
	if s := out.Device().Stream(); s != nil {
		p.launchSum(s, out, dy, offsets)
		return
	}
	c := newCall(groupedSum, out, dy, offsets)
	c.group = p
	c.each(p.groups)
}

// grouped is an operation on rows in groups and how it is cut.
type grouped struct {
	op                 string
	groups, rows, n, k int
	trans, acc         bool // weights are [groups, n, k]
	half               bool // operands have 16 bits
	tm, tn             int  // rows and columns of a tile
}

func (p *grouped) check(out, pre, x, w, bias, offsets *gpu.Tensor) {
	_, p.half = productStream(p.op, out, x, w, bias, pre, nil)
	s := w.Shape()
	if len(s) != 3 {
		fail(p.op, "the weights have shape %v, want three axes, the first of groups", s)
	}
	p.groups, p.n, p.k = s[0], s[1], s[2]
	if !p.trans {
		p.n, p.k = p.k, p.n
	}
	var cols int
	p.rows, cols = lastAxis(p.op, x)
	os := out.Shape()
	if x.Len() > 0 && cols != p.k || len(os) == 0 || os[len(os)-1] != p.n || out.Len()*p.k != x.Len()*p.n {
		fail(p.op, "x %v, weights %v and result %v do not fit together, want [..., %d] and [..., %d]", x.Shape(), s, os, p.k, p.n)
	}
	if p.n > 0 {
		p.rows = out.Len() / p.n
	}
	if bias != nil && !slices.Equal(bias.Shape(), []int{p.groups, p.n}) {
		fail(p.op, "the biases have shape %v, want [%d %d]", bias.Shape(), p.groups, p.n)
	}
	if pre != nil {
		sameShape(p.op, out, pre)
	}
	p.checkOffsets(offsets, out)
}

func (p *grouped) checkOffsets(offsets, x *gpu.Tensor) {
	numbersOn(p.op, "offsets", offsets, x)
	if !slices.Equal(offsets.Shape(), []int{p.groups + 1}) {
		fail(p.op, "offsets have shape %v, want [%d] for %d groups", offsets.Shape(), p.groups+1, p.groups)
	}
	v := offsets.I32()
	for g, at := range v {
		switch {
		case g == 0 && at != 0:
			fail(p.op, "the first offset is %d, want 0", at)
		case g > 0 && at < v[g-1]:
			fail(p.op, "offset %d is %d, less than the %d before", g, at, v[g-1])
		case int(at) > p.rows:
			fail(p.op, "offset %d is %d, and there are %d rows", g, at, p.rows)
		}
	}
}

func (p *grouped) do(out, pre, x, w, bias, offsets *gpu.Tensor, f Func) {
	if out.Len() == 0 {
		return
	}
	if s := out.Device().Stream(); s != nil {
		if p.half {
			p.launch16(s, out, pre, x, w, bias, offsets, f)
		} else {
			p.launch(s, out, pre, x, w, bias, offsets, f)
		}
		return
	}
	if p.half {
		x, w = widened(x), widened(w)
		in32(out, pre, p.acc, false, func(out, pre *gpu.Tensor) { p.run(out, pre, x, w, bias, offsets, f) })
		return
	}
	p.run(out, pre, x, w, bias, offsets, f)
}

// run is do on the CPU.
func (p *grouped) run(out, pre, x, w, bias, offsets *gpu.Tensor, f Func) {
	p.tn = p.n
	if p.n > 512 {
		p.tn = 256
	}
	p.tm = max(64, tileWork/max(1, p.tn*p.k)/16*16)
	c := newCall(groupedTile, out, x, w, bias, pre, offsets)
	c.group, c.fun, c.f[0], c.f[1] = *p, f.f, f.a, f.b
	c.p = product{n: p.n}
	// The groups' tiles of rows, and at last one item of the rows that are in none.
	items := 1
	for g := range p.groups {
		lo, hi := bounds(offsets, g)
		items += ceil(hi-lo, p.tm) * ceil(p.n, p.tn)
	}
	c.onWorkers(items)
}

// bounds is where group g begins and ends.
func bounds(offsets *gpu.Tensor, g int) (lo, hi int) {
	v := offsets.I32()
	return int(v[g]), int(v[g+1])
}

// groupedTile computes one tile of rows of a group, and finishes it.
func groupedTile(c *call, w *cpu.Worker, i int) {
	p, offsets := &c.group, c.t[5]
	across := ceil(p.n, p.tn)
	tile, q := i/across, i%across*p.tn
	for g := range p.groups {
		lo, hi := bounds(offsets, g)
		if n := ceil(hi-lo, p.tm); tile >= n {
			tile -= n
			continue
		}
		r := lo + tile*p.tm
		if c.double() {
			groupedTileOf[float64](c, w, g, r, q, min(p.tm, hi-r), min(p.tn, p.n-q))
		} else {
			groupedTileOf[float32](c, w, g, r, q, min(p.tm, hi-r), min(p.tn, p.n-q))
		}
		return
	}
	if end := int(offsets.I32()[p.groups]); !p.acc {
		for _, t := range []*gpu.Tensor{c.t[0], c.t[4]} {
			switch {
			case t == nil:
			case t.Double():
				clear(t.F64()[end*p.n:])
			default:
				clear(t.F32()[end*p.n:])
			}
		}
	}
}

func groupedTileOf[T cpu.Float](c *call, w *cpu.Worker, g, r, q, m, n int) {
	p := &c.group
	to, at, ldw, wt := data[T](c.target()), r*p.n+q, p.n, g*p.n*p.k+q
	if p.trans {
		ldw, wt = p.k, (g*p.n+q)*p.k
	}
	x, weights := data[T](c.t[1]), data[T](c.t[2])
	if p.k == 0 {
		x, weights, wt = x[:0], weights[:0], 0
	} else {
		x = x[r*p.k:]
	}
	gemmOf(w, false, p.trans, m, n, p.k, x, p.k, weights[wt:], ldw, p.acc, to[at:], p.n)
	finishTile[T](c, at, g*p.n+q, m, n)
}

// gemmOf is op(a)·op(b), or that added to c.
func gemmOf[T cpu.Float](w *cpu.Worker, ta, tb bool, m, n, k int, a []T, lda int, b []T, ldb int, acc bool, c []T, ldc int) {
	beta := 0.0
	if acc {
		beta = 1
	}
	switch c := any(c).(type) {
	case []float32:
		cpu.Gemm32(w, ta, tb, m, n, k, 1, any(a).([]float32), max(1, lda), any(b).([]float32), max(1, ldb), float32(beta), c, ldc)
	case []float64:
		cpu.Gemm64(w, ta, tb, m, n, k, 1, any(a).([]float64), max(1, lda), any(b).([]float64), max(1, ldb), beta, c, ldc)
	}
}

func groupedWeights(c *call, w *cpu.Worker, i int) {
	if c.double() {
		groupedWeightsOf[float64](c, w, i)
	} else {
		groupedWeightsOf[float32](c, w, i)
	}
}

func groupedWeightsOf[T cpu.Float](c *call, w *cpu.Worker, i int) {
	p := &c.group
	across := ceil(p.k, p.tn)
	per := ceil(p.n, p.tm) * across
	g, t := i/per, i%per
	r, q := t/across*p.tm, t%across*p.tn
	m, n := min(p.tm, p.n-r), min(p.tn, p.k-q)
	lo, hi := bounds(c.t[3], g)
	to := data[T](c.t[0])[(g*p.n+r)*p.k+q:]
	if lo == hi {
		if !p.acc {
			for j := range m {
				clear(to[j*p.k:][:n])
			}
		}
		return
	}
	gemmOf(w, true, false, m, n, hi-lo, data[T](c.t[1])[lo*p.n+r:], p.n, data[T](c.t[2])[lo*p.k+q:], p.k, p.acc, to, p.k)
}

func groupedSum(c *call, _ *cpu.Worker, g int) {
	if c.double() {
		groupedSumOf[float64](c, g)
	} else {
		groupedSumOf[float32](c, g)
	}
}

func groupedSumOf[T cpu.Float](c *call, g int) {
	p := &c.group
	lo, hi := bounds(c.t[2], g)
	to := data[T](c.t[0])[g*p.n:][:p.n]
	if !p.acc {
		clear(to)
	}
	if hi > lo {
		cpu.ColSums(hi-lo, p.n, to, data[T](c.t[1])[lo*p.n:], p.n, nil, 0)
	}
}

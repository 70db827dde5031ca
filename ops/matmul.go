package ops

import (
	"slices"

	"github.com/fidlab/fidlab/cuda"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/cpu"
)

// MatMulConfig are the variations of MatMul; the zero value is a·b.
type MatMulConfig struct {
	TransA, TransB bool    // a is stored [..., K, M], b [..., N, K]
	Alpha          float64 // factor of the product; 0 stands for 1
	Acc            bool    // the product is added to what out holds
	// BF16 rounds the elements of a and b, float32, to bfloat16 (to nearest even) before they are multiplied; products are exact,
	// sums float32. KnownB says that b's are bfloat16s already.
	BF16, KnownB bool
}

// MatMul sets out [..., M, N] to the products of a [..., M, K] and b [..., K, N]
// over their last two axes. The axes before are the same for all; an operand
// without any serves all matrices. out is no operand. It panics when shapes do not
// fit, and unless dtypes (float32 or float64) and devices agree.
//
// Work is cut by sizes alone; where K is long beside M and N, into pieces of K,
// whose products are added up in order. So bits are equal at any number of threads.
//
// a and b may also be both Float16 or both BFloat16, and out of their dtype or Float32. Products are exact then, sums float32, the result
// rounded once; on a GPU tensor cores make them, and so they do with BF16.
func MatMul(out, a, b *gpu.Tensor, cfg MatMulConfig) {
	const op = "MatMul"
	s, half := productStream(op, out, a, b, nil, nil, nil)
	p := product{op: op, alpha: cfg.Alpha, ta: cfg.TransA, tb: cfg.TransB, acc: cfg.Acc, bf16: cfg.BF16}
	if cfg.KnownB {
		p.known = cpu.RoundedB
	}
	p.mustBeSingle(a.DType())
	if p.alpha == 0 {
		p.alpha = 1
	}
	os, as, bs := out.Shape(), a.Shape(), b.Shape()
	if len(os) < 2 || len(as) < 2 || len(bs) < 2 {
		fail(op, "shapes %v, %v and %v, want [..., rows, columns] for all", os, as, bs)
	}
	lead := os[:len(os)-2]
	p.batch = 1
	for _, d := range lead {
		p.batch *= d
	}
	p.m, p.n = os[len(os)-2], os[len(os)-1]
	p.k = as[len(as)-1]
	if p.ta {
		p.k = as[len(as)-2]
	}
	p.strideA = p.side("a", as, lead, p.m, p.k, p.ta)
	p.strideB = p.side("b", bs, lead, p.k, p.n, p.tb)
	p.do(s, half, out, a, b, nil, nil, nil, Identity)
}

// Linear sets out [..., N] to f(x·wᵀ + bias) with x [..., K], w [N, K] and bias [N]
// or nil. pre, like out, gets what f is applied to, which the gradient needs; it is
// nil where that is not wanted or f is Identity. out is no operand. dtypes are as of MatMul; pre has out's, and beside operands of 16 bits
// the bias is Float32.
func Linear(out, pre, x, w, bias *gpu.Tensor, f Func) {
	linearOf("Linear", out, pre, x, w, bias, nil, f, false, false)
}

// LinearBF16 is Linear of float32 tensors with the elements of x and w rounded to bfloat16 before they are multiplied, as MatMulConfig.BF16
// does; known says that w's are bfloat16s already. The bias and f are float32.
func LinearBF16(out, pre, x, w, bias *gpu.Tensor, f Func, known bool) {
	linearOf("LinearBF16", out, pre, x, w, bias, nil, f, true, known)
}

func linearOf(op string, out, pre, x, w, bias, residual *gpu.Tensor, f Func, low, known bool) {
	s, half := productStream(op, out, x, w, bias, pre, residual)
	ws := w.Shape()
	if len(ws) != 2 {
		fail(op, "the weight has shape %v, want [out, in]", ws)
	}
	rows, cols := lastAxis(op, x)
	if x.Len() > 0 && cols != ws[1] || out.Len()*max(1, ws[1]) != x.Len()*ws[0] || out.Shape()[len(out.Shape())-1] != ws[0] {
		fail(op, "x %v, weight %v and result %v do not fit together, want [..., %d] and [..., %d]", x.Shape(), ws, out.Shape(), ws[1], ws[0])
	}
	if bias != nil && !slices.Equal(bias.Shape(), ws[:1]) {
		fail(op, "the bias has shape %v, want [%d]", bias.Shape(), ws[0])
	}
	if pre != nil {
		sameShape(op, out, pre)
	}
	if residual != nil {
		sameShape(op, out, residual)
	}
	p := product{op: op, batch: 1, m: rows, n: ws[0], k: ws[1], tb: true, alpha: 1, bf16: low}
	if known {
		p.known = cpu.RoundedB
	}
	p.mustBeSingle(x.DType())
	p.do(s, half, out, x, w, bias, pre, residual, f)
}

// do makes the product on its device.
func (p *product) do(s *cuda.Stream, half bool, out, a, b, bias, pre, residual *gpu.Tensor, f Func) {
	switch {
	case s == nil && half:
		p.run16(out, a, b, bias, pre, residual, f)
	case s == nil:
		p.run(out, a, b, bias, pre, f)
	case half:
		p.launch16(s, out, a.Ptr(), b.Ptr(), a.DType() == gpu.BFloat16, bias, pre, residual, f)
	case p.bf16:
		x, y := narrowedOn(s, a), narrowedOn(s, b)
		p.launch16(s, out, x.p, y.p, true, bias, pre, nil, f)
		x.free(s)
		y.free(s)
	default:
		p.launch(s, out, a, b, bias, pre, f)
	}
}

// product is a batch of matrix products and how it is cut.
type product struct {
	op               string
	batch, m, n, k   int
	strideA, strideB int // from one matrix to the next
	ta, tb, acc      bool
	bf16             bool        // operands are rounded
	known            cpu.Rounded // but for these
	alpha            float64
	mt, nt, kt       int // tiles along m and n, pieces of k
	tm, tn, tk       int // their sizes
}

// mustBeSingle panics for an operation that rounds operands of another dtype than float32.
func (p *product) mustBeSingle(dt gpu.DType) {
	if p.bf16 && dt != gpu.Float32 {
		fail(p.op, "operands are %v, want float32 to round to bfloat16", dt)
	}
}

// side checks one operand and returns its stride.
func (p *product) side(name string, s, lead []int, rows, cols int, trans bool) int {
	if trans {
		rows, cols = cols, rows
	}
	own := s[:len(s)-2]
	if s[len(s)-2] != rows || s[len(s)-1] != cols || len(own) > 0 && !slices.Equal(own, lead) {
		fail(p.op, "%s has shape %v, want %d by %d, alone or with %v before", name, s, rows, cols, lead)
	}
	if len(own) == 0 {
		return 0
	}
	return rows * cols
}

const (
	// tileWork is the least that is worth an item of its own, in multiplications;
	// productItems is how many items a product has at most.
	tileWork     = 1 << 20
	productItems = 16
)

// cut chooses the tiles by the sizes alone.
func (p *product) cut() {
	p.mt, p.nt, p.kt = 1, 1, 1
	items := min(productItems, p.m*p.n*p.k/tileWork*p.batch)
	each := max(1, items/max(1, p.batch))
	// Long products of small matrices, gradients of weights, are cut along K first: narrow
	// tiles of them run at two thirds of the speed.
	if p.k >= 1024 && p.m*p.n <= 1<<18 {
		for p.kt < each && p.k/p.kt >= 512 {
			p.kt *= 2
		}
	}
	for p.mt*p.nt*p.kt < each {
		m, n := p.m/p.mt, p.n/p.nt
		if m >= n && m >= 128 {
			p.mt *= 2
		} else if n >= 128 {
			p.nt *= 2
		} else {
			break
		}
	}
	for p.mt*p.nt*p.kt < each && p.k/p.kt >= 512 {
		p.kt *= 2
	}
	p.tm, p.tn, p.tk = ceil(p.m, p.mt), ceil(p.n, p.nt), ceil(p.k, p.kt)
	p.tm, p.tn = (p.tm+3)/4*4, (p.tn+15)/16*16
	p.mt, p.nt, p.kt = ceil(p.m, p.tm), ceil(p.n, p.tn), ceil(p.k, p.tk)
}

func (p *product) run(out, a, b, bias, pre *gpu.Tensor, f Func) {
	if out.Len() == 0 {
		return
	}
	if p.k == 0 {
		if !p.acc {
			Fill(out, 0)
		}
		p.kt = 0
	} else {
		p.cut()
	}
	c := newCall(nil, out, a, b, bias, pre)
	c.p, c.fun, c.f[0], c.f[1] = *p, f.f, f.a, f.b
	if p.kt > 1 || p.k == 0 {
		if c.double() {
			pieces[float64](c)
		} else {
			pieces[float32](c)
		}
		return
	}
	c.fn = productTile
	c.onWorkers(p.batch * p.mt * p.nt)
}

// productTile computes one tile and finishes it.
func productTile(c *call, w *cpu.Worker, i int) {
	p := &c.p
	per := p.mt * p.nt
	g, t := i/per, i%per
	r, q := t/p.nt*p.tm, t%p.nt*p.tn
	m, n := min(p.tm, p.m-r), min(p.tn, p.n-q)
	at := g*p.m*p.n + r*p.n + q
	if c.double() {
		productPart(c, w, g, r, q, 0, m, n, p.k, c.target().F64()[at:], p.n, p.acc)
		finishTile[float64](c, at, q, m, n)
	} else {
		productPart(c, w, g, r, q, 0, m, n, p.k, c.target().F32()[at:], p.n, p.acc)
		finishTile[float32](c, at, q, m, n)
	}
}

// target is where the bare product goes: pre where it is kept, else out.
func (c *call) target() *gpu.Tensor {
	if c.t[4] != nil {
		return c.t[4]
	}
	return c.t[0]
}

// productPart multiplies rows r to r+m and columns q to q+n over k elements from l on.
func productPart[T cpu.Float](c *call, w *cpu.Worker, g, r, q, l, m, n, k int, to []T, ld int, acc bool) {
	p := &c.p
	lda, ldb := p.k, p.n
	at, bt := r*p.k+l, l*p.n+q
	if p.ta {
		lda, at = p.m, l*p.m+r
	}
	if p.tb {
		ldb, bt = p.k, q*p.k+l
	}
	at, bt = at+g*p.strideA, bt+g*p.strideB
	var beta T
	if acc {
		beta = 1
	}
	switch to := any(to).(type) {
	case []float32:
		if p.bf16 {
			cpu.GemmBF16(w, p.ta, p.tb, m, n, k, float32(p.alpha), c.t[1].F32()[at:], lda, c.t[2].F32()[bt:], ldb, float32(beta), to, ld, p.known)
			return
		}
		cpu.Gemm32(w, p.ta, p.tb, m, n, k, float32(p.alpha), c.t[1].F32()[at:], lda, c.t[2].F32()[bt:], ldb, float32(beta), to, ld)
	case []float64:
		cpu.Gemm64(w, p.ta, p.tb, m, n, k, p.alpha, c.t[1].F64()[at:], lda, c.t[2].F64()[bt:], ldb, float64(beta), to, ld)
	}
}

// finishTile adds the bias to m rows of n elements at at and applies the function.
func finishTile[T cpu.Float](c *call, at, q, m, n int) {
	out, pre, ld := data[T](c.t[0]), data[T](c.target()), c.p.n
	if bias := c.t[3]; bias != nil {
		cpu.PairRows(cpu.PairAdd, false, m, n, pre[at:], ld, pre[at:], ld, 1, data[T](bias)[q:], 0, 1)
	}
	if c.fun == cpu.FuncIdentity && c.t[4] == nil {
		return
	}
	if n == ld {
		n, m = n*m, 1
	}
	for r := range m {
		x, y := pre[at+r*ld:][:n], out[at+r*ld:][:n]
		switch x := any(x).(type) {
		case []float32:
			cpu.Func32(c.fun, c.f[0], c.f[1], any(y).([]float32), x)
		case []float64:
			cpu.Func64(c.fun, c.f[0], c.f[1], any(y).([]float64), x)
		}
	}
}

// pieces is a product cut along K, or with no K at all: partial products side by
// side, then their sums in order.
func pieces[T cpu.Float](c *call) {
	p := c.p
	size := p.batch * p.m * p.n
	scratchOf[T](c).take(size * p.kt)
	c.fn = productPiece
	cpu.Each(p.batch*p.mt*p.nt*p.kt, c.run)
	c.fn = sumPieces
	cpu.Join(ceil(p.batch*p.m, p.sumBlock()), c.run)
	c.drop()
}

// sumBlock is how many rows sumPieces does at a time.
func (p *product) sumBlock() int { return max(1, cpu.VecChunk/p.n) }

func productPiece(c *call, w *cpu.Worker, i int) {
	if c.double() {
		onePiece[float64](c, w, i)
	} else {
		onePiece[float32](c, w, i)
	}
}

func onePiece[T cpu.Float](c *call, w *cpu.Worker, i int) {
	p := &c.p
	piece, i := i%p.kt, i/p.kt
	per := p.mt * p.nt
	g, t := i/per, i%per
	r, q, l := t/p.nt*p.tm, t%p.nt*p.tn, piece*p.tk
	part := scratchOf[T](c).v[(piece*p.batch+g)*p.m*p.n:]
	productPart(c, w, g, r, q, l, min(p.tm, p.m-r), min(p.tn, p.n-q), min(p.tk, p.k-l), part[r*p.n+q:], p.n, false)
}

func sumPieces(c *call, _ *cpu.Worker, i int) {
	if c.double() {
		sumPiecesOf[float64](c, i)
	} else {
		sumPiecesOf[float32](c, i)
	}
}

func sumPiecesOf[T cpu.Float](c *call, i int) {
	p := &c.p
	first := i * p.sumBlock()
	rows := min(p.sumBlock(), p.batch*p.m-first)
	lo, n := first*p.n, rows*p.n
	to := data[T](c.target())[lo:][:n]
	for j := range p.kt {
		part := scratchOf[T](c).v[j*p.batch*p.m*p.n+lo:][:n]
		if j == 0 && !p.acc {
			copy(to, part)
			continue
		}
		cpu.PairRows(cpu.PairAdd, false, 1, n, to, n, to, n, 1, part, n, 1)
	}
	finishTile[T](c, lo, 0, rows, p.n)
}

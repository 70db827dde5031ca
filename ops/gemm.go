package ops

import (
	"math"

	"github.com/fidlab/fidlab/cuda"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/cpu"
	"github.com/fidlab/fidlab/kernels"
)

// GemmOptions are the variations of GemmBatch; the zero value is A·B.
type GemmOptions struct {
	TransA, TransB bool // A is stored [K, M], B [N, K]
	// Symmetric says that the product is symmetric: a GPU then makes one half
	// and mirrors it. M is then N, and D, if any, symmetric too.
	Symmetric   bool
	Alpha, Beta *gpu.Tensor // float64 [B], one coefficient a matrix; nil stands for 1
	D           *gpu.Tensor // added, with the shape of the result; it may be the result
}

// GemmBatch sets c [B, M, N] to alpha·op(A)·op(B) + beta·D for each matrix of
// the batch, with A of a [B, M, K] and B of b [B, K, N]; a or b with one matrix
// serve all. All are float32 or all float64, which is also what sums are made
// in. A matrix of the batch whose alpha is 0 gets beta·D, and stays as it is
// where there is no D. c overlaps neither a nor b. It panics when shapes,
// dtypes or devices differ.
//
// Each element is a chain of fused multiply-adds over K on a GPU, and what
// package cpu makes of it on the CPU: with u the dtype's unit roundoff the error
// is at most (K+2)·u·(|alpha|·|A|·|B| + |beta|·|D|).
func GemmBatch(c, a, b *gpu.Tensor, o GemmOptions) {
	const op = "GemmBatch"
	wantFloats(op, "c", c)
	cs, as, bs := matrixBatch(op, "c", c), matrixBatch(op, "a", a), matrixBatch(op, "b", b)
	if o.TransA {
		as[1], as[2] = as[2], as[1]
	}
	if o.TransB {
		bs[1], bs[2] = bs[2], bs[1]
	}
	batch, m, n, k := cs[0], cs[1], cs[2], as[2]
	fits := func(s [3]int, rows, cols int) bool {
		return (s[0] == batch || s[0] == 1) && s[1] == rows && s[2] == cols
	}
	if !fits(as, m, k) || !fits(bs, k, n) {
		fail(op, "c %v, op(a) %v and op(b) %v do not fit together", cs, as, bs)
	}
	for name, t := range map[string]*gpu.Tensor{"a": a, "b": b} {
		if t.DType() != c.DType() {
			fail(op, "%s is %v, c %v", name, t.DType(), c.DType())
		}
		if t == c {
			fail(op, "c is %s, want another tensor", name)
		}
	}
	if o.D != nil {
		wantShape(op, "D", o.D, c.DType(), batch, m, n)
	}
	for name, t := range map[string]*gpu.Tensor{"Alpha": o.Alpha, "Beta": o.Beta} {
		if t != nil {
			wantShape(op, name, t, gpu.Float64, batch)
		}
	}
	if o.Symmetric && m != n {
		fail(op, "c is %d by %d, want a square for Symmetric", m, n)
	}
	sameDevice(op, c, a, b, o.D, o.Alpha, o.Beta)
	if batch*m*n == 0 {
		return
	}
	if dev := c.Device(); dev.CUDA() {
		g := gemm{
			c: c.Ptr(), a: a.Ptr(), b: b.Ptr(), m: m, n: n, k: k, double: c.DType() == gpu.Float64,
			transA: o.TransA, transB: o.TransB, symmetric: o.Symmetric,
		}
		if o.D != nil {
			g.d = o.D.Ptr()
		}
		if o.Alpha != nil {
			g.alpha = o.Alpha.Ptr()
		}
		if o.Beta != nil {
			g.beta = o.Beta.Ptr()
		}
		g.strideA, g.strideB = m*k, k*n
		if as[0] == 1 {
			g.strideA = 0
		}
		if bs[0] == 1 {
			g.strideB = 0
		}
		g.launch(dev.Stream(), batch)
		return
	}
	sizeA, sizeB := m*k, k*n
	eachMatrix(batch, func(w *cpu.Worker, i int) {
		ai, bi := i%as[0], i%bs[0] // one matrix or as many as c has
		alpha, beta := 1.0, 0.0
		if o.Alpha != nil {
			alpha = o.Alpha.F64()[i]
		}
		if o.D != nil {
			beta = 1
			if o.Beta != nil {
				beta = o.Beta.F64()[i]
			}
		} else if alpha == 0 {
			return
		}
		lda, ldb, k := max(1, a.Shape()[2]), max(1, b.Shape()[2]), k
		if alpha == 0 { // 0·NaN would be NaN
			k = 0
		}
		if c.DType() == gpu.Float64 {
			out := c.F64()[i*m*n:][:m*n]
			if o.D != nil && o.D != c {
				copy(out, o.D.F64()[i*m*n:])
			}
			cpu.Gemm64(w, o.TransA, o.TransB, m, n, k, alpha, a.F64()[ai*sizeA:], lda, b.F64()[bi*sizeB:], ldb, beta, out, n)
			return
		}
		out := c.F32()[i*m*n:][:m*n]
		if o.D != nil && o.D != c {
			copy(out, o.D.F32()[i*m*n:])
		}
		cpu.Gemm32(w, o.TransA, o.TransB, m, n, k, float32(alpha), a.F32()[ai*sizeA:], lda, b.F32()[bi*sizeB:], ldb, float32(beta), out, n)
	})
}

// matrixBatch panics unless t, called name, has three dimensions, which it returns.
func matrixBatch(op, name string, t *gpu.Tensor) [3]int {
	s := t.Shape()
	if len(s) != 3 {
		fail(op, "%s has shape %v, want [B, M, N]", name, s)
	}
	for _, d := range s[1:] {
		if d > math.MaxInt32/2 {
			fail(op, "%s has shape %v, want sizes below 2^30", name, s)
		}
	}
	return [3]int(s)
}

// gemm is one launch of gemm_small_f32 or _f64: matrices of a batch, or, with
// row strides, parts of them.
type gemm struct {
	c, a, b, d                cuda.Ptr // d may be 0, or c
	alpha, beta               cuda.Ptr // 0 stands for ones
	m, n, k                   int
	lda, ldb, ldc             int // 0: as the sizes say
	strideA, strideB, strideC int // from one matrix of the batch to the next; strideC 0: m·n
	double                    bool
	transA, transB, symmetric bool
}

func (g gemm) launch(s *cuda.Stream, batch int) {
	flags := int32(0)
	if g.lda == 0 {
		g.lda = g.k
		if g.transA {
			g.lda = g.m
		}
	}
	if g.transA {
		flags |= 1
	}
	if g.ldb == 0 {
		g.ldb = g.n
		if g.transB {
			g.ldb = g.k
		}
	}
	if !g.transB { // the kernel's B is the transpose of BLAS's
		flags |= 2
	}
	if g.ldc == 0 {
		g.ldc = g.n
	}
	if g.strideC == 0 {
		g.strideC = g.m * g.n
	}
	if g.symmetric {
		flags |= 4
	}
	rows, cols := 128, 64
	if !g.double {
		cols = 128
	}
	tiles := ceil(g.m, rows) * ceil(g.n, cols)
	if g.symmetric {
		tiles = 0
		for i := range ceil(g.m, rows) {
			tiles += min(rows/cols*(i+1), ceil(g.n, cols))
		}
	}
	if batch*tiles > math.MaxInt32 {
		fail("GemmBatch", "%d matrices of %d by %d make %d blocks, want fewer than 2^31; use smaller batches", batch, g.m, g.n, batch*tiles)
	}
	grid := cuda.Grid{X: batch * tiles, Y: 1, Z: 1, BX: 128, BY: 1, BZ: 1, Shared: 61440}
	if g.double {
		kernels.GemmSmallF64(s, grid, g.c, g.a, g.b, g.d, g.alpha, g.beta,
			int32(g.m), int32(g.n), int32(g.k), int32(g.lda), int32(g.ldb), int32(g.ldc),
			int64(g.strideA), int64(g.strideB), int64(g.strideC), flags, int32(tiles))
		return
	}
	grid.BX, grid.Shared = 256, 16896
	kernels.GemmSmallF32(s, grid, g.c, g.a, g.b, g.d, g.alpha, g.beta,
		int32(g.m), int32(g.n), int32(g.k), int32(g.lda), int32(g.ldb), int32(g.ldc),
		int64(g.strideA), int64(g.strideB), int64(g.strideC), flags, int32(tiles))
}

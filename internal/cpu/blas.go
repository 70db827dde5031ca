package cpu

import (
	"fmt"
	"math"
)

// tileM and tileN are the edges of the tiles that results are cut into. They
// are fixed for a build, so that every element of a product is summed in one
// order at any number of workers, on a given worker or spread over all.
const (
	tileM = tileEdge
	tileN = tileEdge
)

// matrix panics unless x holds rows×cols elements at the given row stride.
func matrix(op, name string, rows, cols, length, ld int) {
	if rows < 0 || cols < 0 {
		panic(fmt.Sprintf("cpu: %s: %s is %d×%d, want sizes >= 0", op, name, rows, cols))
	}
	if ld < max(1, cols) {
		panic(fmt.Sprintf("cpu: %s: row stride of %s is %d, want >= %d", op, name, ld, max(1, cols)))
	}
	if rows > 0 && cols > 0 && length < (rows-1)*ld+cols {
		panic(fmt.Sprintf("cpu: %s: %s has %d elements, want >= %d (%d×%d at row stride %d)", op, name, length, (rows-1)*ld+cols, rows, cols, ld))
	}
}

func checkGemm(op string, ta, tb bool, m, n, k, na, lda, nb, ldb, nc, ldc int) {
	if ta {
		matrix(op, "a", k, m, na, lda)
	} else {
		matrix(op, "a", m, k, na, lda)
	}
	if tb {
		matrix(op, "b", n, k, nb, ldb)
	} else {
		matrix(op, "b", k, n, nb, ldb)
	}
	matrix(op, "c", m, n, nc, ldc)
}

// tiles is the number of tiles of an m×n result, and tiles along n.
func tiles(m, n int) (total, across int) {
	across = (n + tileN - 1) / tileN
	return (m + tileM - 1) / tileM * across, across
}

// Dots32 sets C, [m, n], to the products of the rows of A, [m, k], with those of B, [n, k], in float32. Nothing lies between rows. On a worker
// sums may be taken in one go, with up to twice Gemm32's rounding, for up to half its time. It panics when a slice is too short.
func Dots32(w *Worker, m, n, k int, a, b, c []float32) {
	ld := max(1, k)
	checkGemm("Dots32", false, true, m, n, k, len(a), ld, len(b), ld, len(c), max(1, n))
	if m == 0 || n == 0 || w != nil && k > 0 && nativeDots(w, m, n, k, a, b, c) {
		return
	}
	Gemm32(w, false, true, m, n, k, 1, a, ld, b, ld, 0, c, n)
}

// Gemm32 sets C to alpha·op(A)·op(B) + beta·C in float32. All matrices are
// row-major: op(A) is m×k, stored k×m when ta is set; op(B) is k×n, stored n×k
// when tb is set; C is m×n; lda, ldb and ldc are row strides in elements. With
// beta = 0 the old C is not read. C overlaps neither A nor B. It panics when a
// slice is too short. Results are the same bits at any number of workers.
func Gemm32(w *Worker, ta, tb bool, m, n, k int, alpha float32, a []float32, lda int, b []float32, ldb int, beta float32, c []float32, ldc int) {
	checkGemm("Gemm32", ta, tb, m, n, k, len(a), lda, len(b), ldb, len(c), ldc)
	if m == 0 || n == 0 {
		return
	}
	if k == 0 {
		scale(m, n, beta, c, ldc)
		return
	}
	total, across := tiles(m, n)
	if w != nil { // without a function value, which would be allocated
		for t := range total {
			gemm32(w, t, across, ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc)
		}
		return
	}
	on(w, total, func(w *Worker, t int) { gemm32(w, t, across, ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc) })
}

// gemm32 computes tile t.
func gemm32(w *Worker, t, across int, ta, tb bool, m, n, k int, alpha float32, a []float32, lda int, b []float32, ldb int, beta float32, c []float32, ldc int) {
	i, j := t/across*tileM, t%across*tileN
	mm, nn := min(tileM, m-i), min(tileN, n-j)
	ai, bj := corner(ta, tb, i, lda, j, ldb)
	if !nativeGemm32(w, ta, tb, mm, nn, k, alpha, a[ai:], lda, b[bj:], ldb, beta, c[i*ldc+j:], ldc) {
		goGemm32(ta, tb, mm, nn, k, alpha, a[ai:], lda, b[bj:], ldb, beta, c[i*ldc+j:], ldc)
	}
}

// Gemm64 is Gemm32 in float64.
func Gemm64(w *Worker, ta, tb bool, m, n, k int, alpha float64, a []float64, lda int, b []float64, ldb int, beta float64, c []float64, ldc int) {
	checkGemm("Gemm64", ta, tb, m, n, k, len(a), lda, len(b), ldb, len(c), ldc)
	if m == 0 || n == 0 {
		return
	}
	if k == 0 {
		scale(m, n, beta, c, ldc)
		return
	}
	total, across := tiles(m, n)
	if w != nil { // as in Gemm32
		for t := range total {
			i, j := t/across*tileM, t%across*tileN
			gemm64(w, ta, tb, min(tileM, m-i), min(tileN, n-j), k, alpha, a, lda, i, b, ldb, j, beta, c[i*ldc+j:], ldc)
		}
		return
	}
	on(w, total, func(w *Worker, t int) {
		i, j := t/across*tileM, t%across*tileN
		gemm64(w, ta, tb, min(tileM, m-i), min(tileN, n-j), k, alpha, a, lda, i, b, ldb, j, beta, c[i*ldc+j:], ldc)
	})
}

// gemm64 computes the tile of op(A)·op(B) whose first row is i and first column is j.
func gemm64(w *Worker, ta, tb bool, m, n, k int, alpha float64, a []float64, lda, i int, b []float64, ldb, j int, beta float64, c []float64, ldc int) {
	ai, bj := corner(ta, tb, i, lda, j, ldb)
	a, b = a[ai:], b[bj:]
	if !nativeGemm64(w, ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc) {
		goGemm64(ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc)
	}
}

// SyrkT64 sets C to alpha·AᵀA + beta·C, where A is k×n and C is n×n and
// symmetric, both row-major. Only C's lower triangle is read, and only when
// beta is not 0; both triangles are written, equal to the last bit. C does not
// overlap A. It panics when a slice is too short. Results are the same bits at
// any number of workers.
func SyrkT64(w *Worker, n, k int, alpha float64, a []float64, lda int, beta float64, c []float64, ldc int) {
	matrix("SyrkT64", "a", k, n, len(a), lda)
	matrix("SyrkT64", "c", n, n, len(c), ldc)
	if n == 0 {
		return
	}
	side := (n + tileN - 1) / tileN
	on(w, side*(side+1)/2, func(w *Worker, t int) {
		bi := 0
		for t > bi { // row of blocks bi has bi+1 tiles
			bi++
			t -= bi
		}
		i, j := bi*tileN, t*tileN
		mm, nn := min(tileN, n-i), min(tileN, n-j)
		switch ct := c[i*ldc+j:]; {
		case k == 0:
			for r := range mm {
				for q, v := range ct[r*ldc:][:min(nn, i+r-j+1)] {
					ct[r*ldc+q] = scaled(beta, v)
				}
			}
		case i != j:
			gemm64(w, true, false, mm, nn, k, alpha, a, lda, i, a, lda, j, beta, ct, ldc)
		case !nativeSyrkT64(w, mm, k, alpha, a[i:], lda, beta, ct, ldc):
			goSyrkT64(mm, k, alpha, a[i:], lda, beta, ct, ldc)
		}
		for r := i; r < i+mm; r++ { // mirror
			for q := j; q < min(j+nn, r); q++ {
				c[q*ldc+r] = c[r*ldc+q]
			}
		}
	})
}

// Trmm64 multiplies the m×n matrix B in place by the lower triangular matrix
// L: B = alpha·op(L)·B where left is set (L is m×m), else B = alpha·B·op(L) (L
// is n×n); op is the transpose where trans is set. All are row-major; L's upper
// triangle is not read. LᵀSL is two calls: left and trans, then neither. It
// panics when a slice is too short.
func Trmm64(w *Worker, left, trans bool, m, n int, alpha float64, l []float64, ldl int, b []float64, ldb int) {
	order, cut, step := n, m, ldb // B's rows are independent of each other
	if left {
		order, cut, step = m, n, 1 // its columns are
	}
	matrix("Trmm64", "l", order, order, len(l), ldl)
	matrix("Trmm64", "b", m, n, len(b), ldb)
	if m == 0 || n == 0 {
		return
	}
	on(w, (cut+tileN-1)/tileN, func(w *Worker, t int) {
		mm, nn := min(tileN, cut-t*tileN), n
		if left {
			mm, nn = m, mm
		}
		bt := b[t*tileN*step:]
		if !nativeTrmm64(w, left, trans, mm, nn, alpha, l, ldl, bt, ldb) {
			goTrmm64(left, trans, mm, nn, alpha, l, ldl, bt, ldb)
		}
	})
}

// corner is where the operands of the tile of op(A)·op(B) at row i and column j begin.
func corner(ta, tb bool, i, lda, j, ldb int) (ai, bj int) {
	ai, bj = i*lda, j
	if ta {
		ai = i
	}
	if tb {
		bj = j * ldb
	}
	return ai, bj
}

// scale sets the m×n matrix C to beta·C; with beta = 0 the old C is not read.
func scale[T float32 | float64](m, n int, beta T, c []T, ldc int) {
	for i := range m {
		for j, v := range c[i*ldc:][:n] {
			c[i*ldc+j] = scaled(beta, v)
		}
	}
}

// scaled is beta·v, with 0 for beta = 0 whatever v is.
func scaled[T float32 | float64](beta, v T) T {
	if beta == 0 {
		return 0
	}
	return beta * v
}

// fits tells whether the sizes fit the 32-bit integers of the libraries.
func fits(sizes ...int) bool {
	for _, s := range sizes {
		if s > math.MaxInt32 {
			return false
		}
	}
	return true
}

package cpu

import (
	"gonum.org/v1/gonum/blas"
	blasgonum "gonum.org/v1/gonum/blas/gonum"
)

var gonumBlas blasgonum.Implementation

func transpose(t bool) blas.Transpose {
	if t {
		return blas.Trans
	}
	return blas.NoTrans
}

// goBlock is gonum's block size. A product of single blocks runs on the calling
// goroutine; for larger ones gonum would start goroutines of its own, beside
// the workers.
const goBlock = 64

// eachBlock cuts an m×n×k product into blocks, the summation innermost and in order.
func eachBlock(m, n, k int, f func(i, j, l, mm, nn, kk int)) {
	for i := 0; i < m; i += goBlock {
		for j := 0; j < n; j += goBlock {
			for l := 0; l < k; l += goBlock {
				f(i, j, l, min(goBlock, m-i), min(goBlock, n-j), min(goBlock, k-l))
			}
		}
	}
}

// offset is the index of element (i,j) of op(x).
func offset(trans bool, i, j, ld int) int {
	if trans {
		return j*ld + i
	}
	return i*ld + j
}

func goGemm32(ta, tb bool, m, n, k int, alpha float32, a []float32, lda int, b []float32, ldb int, beta float32, c []float32, ldc int) {
	eachBlock(m, n, k, func(i, j, l, mm, nn, kk int) {
		scale, cb := float32(1), c[i*ldc+j:]
		if l == 0 {
			scale = beta
			clearFor(beta == 0, mm, nn, cb, ldc)
		}
		gonumBlas.Sgemm(transpose(ta), transpose(tb), mm, nn, kk, alpha, a[offset(ta, i, l, lda):], lda, b[offset(tb, l, j, ldb):], ldb, scale, cb, ldc)
	})
}

func goGemm64(ta, tb bool, m, n, k int, alpha float64, a []float64, lda int, b []float64, ldb int, beta float64, c []float64, ldc int) {
	eachBlock(m, n, k, func(i, j, l, mm, nn, kk int) {
		scale, cb := float64(1), c[i*ldc+j:]
		if l == 0 {
			scale = beta
			clearFor(beta == 0, mm, nn, cb, ldc)
		}
		gonumBlas.Dgemm(transpose(ta), transpose(tb), mm, nn, kk, alpha, a[offset(ta, i, l, lda):], lda, b[offset(tb, l, j, ldb):], ldb, scale, cb, ldc)
	})
}

// clearFor zeroes an m×n block: gonum multiplies by beta = 0, and 0·NaN is NaN.
func clearFor[T float32 | float64](zero bool, m, n int, c []T, ldc int) {
	if zero {
		for i := range m {
			clear(c[i*ldc:][:n])
		}
	}
}

// goSyrkT64 writes the lower triangle. gonum's Dsyrk walks Aᵀ by columns, one
// at a time; blocks through Dgemm are several times faster.
func goSyrkT64(n, k int, alpha float64, a []float64, lda int, beta float64, c []float64, ldc int) {
	const block = 128
	for i := 0; i < n; i += block {
		m := min(block, n-i)
		if i > 0 {
			goGemm64(true, false, m, i, k, alpha, a[i:], lda, a, lda, beta, c[i*ldc:], ldc)
		}
		for r := range m {
			clearFor(beta == 0, 1, r+1, c[(i+r)*ldc+i:], ldc)
		}
		gonumBlas.Dsyrk(blas.Lower, blas.Trans, m, k, alpha, a[i:], lda, beta, c[i*ldc+i:], ldc)
	}
}

func goTrmm64(left, trans bool, m, n int, alpha float64, l []float64, ldl int, b []float64, ldb int) {
	side := blas.Right
	if left {
		side = blas.Left
	}
	gonumBlas.Dtrmm(side, blas.Lower, transpose(trans), blas.NonUnit, m, n, alpha, l, ldl, b, ldb)
}

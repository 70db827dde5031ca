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

func goGemm32(ta, tb bool, m, n, k int, alpha float32, a []float32, lda int, b []float32, ldb int, beta float32, c []float32, ldc int) {
	if beta == 0 { // gonum multiplies, and 0·NaN is NaN
		for i := range m {
			clear(c[i*ldc:][:n])
		}
	}
	gonumBlas.Sgemm(transpose(ta), transpose(tb), m, n, k, alpha, a, lda, b, ldb, beta, c, ldc)
}

func goGemm64(ta, tb bool, m, n, k int, alpha float64, a []float64, lda int, b []float64, ldb int, beta float64, c []float64, ldc int) {
	if beta == 0 {
		for i := range m {
			clear(c[i*ldc:][:n])
		}
	}
	gonumBlas.Dgemm(transpose(ta), transpose(tb), m, n, k, alpha, a, lda, b, ldb, beta, c, ldc)
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
		if beta == 0 {
			for r := range m {
				clear(c[(i+r)*ldc+i:][:r+1])
			}
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

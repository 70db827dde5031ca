//go:build native && cgo

package cpu

// #include "native.h"
import "C"

import (
	"fmt"
	"math"
)

// apart is the greatest difference of two results in units of scale, with NaN as infinity.
func apart[T float32 | float64](x, y []T, scale float64) float64 {
	worst := 0.0
	for i := range x {
		d := math.Abs(float64(x[i])-float64(y[i])) / scale
		if !(d <= math.MaxFloat64) {
			return math.Inf(1)
		}
		worst = max(worst, d)
	}
	return worst
}

// testSizes reach the small-matrix kernels, the wide ones and their edges.
var testSizes = [][3]int{{1, 1, 1}, {7, 5, 3}, {16, 48, 64}, {33, 65, 31}, {96, 100, 64}, {130, 140, 150}}

// testBLAS compares OpenBLAS with the pure-Go functions on small inputs. It
// returns what differs and by how much, or "".
func testBLAS() string {
	for _, s := range testSizes {
		m, n, k := s[0], s[1], s[2]
		for mode := range 4 {
			ta, tb := mode&1 != 0, mode&2 != 0
			lda, ldb := k, n
			if ta {
				lda = m
			}
			if tb {
				ldb = k
			}
			what := fmt.Sprintf("%d×%d×%d, transposed %v %v", m, n, k, ta, tb)
			a, b, c := noise[float64](m*k, 1), noise[float64](k*n, 2), noise[float64](m*n, 3)
			want := append([]float64(nil), c...)
			goGemm64(ta, tb, m, n, k, 0.5, a, lda, b, ldb, -1, want, n)
			C.blas_dgemm(flag(ta), flag(tb), C.int(m), C.int(n), C.int(k), 0.5, f64(a), C.int(lda), f64(b), C.int(ldb), -1, f64(c), C.int(n))
			// Both sums are within (k+2)/2 eps of the exact one per unit of magnitude, and the terms are below 1.
			if d, tol := apart(c, want, float64(k+2)), 1.0/(1<<52); d > tol {
				return fmt.Sprintf("dgemm %s is off by %.2g of the sum's size, want <= %.2g", what, d, tol)
			}
		}
	}
	if why := testSgemm(func(ta, tb bool, m, n, k int, alpha float32, a []float32, lda int, b []float32, ldb int, beta float32, c []float32, ldc int) bool {
		C.blas_sgemm(flag(ta), flag(tb), C.int(m), C.int(n), C.int(k), C.float(alpha), f32(a), C.int(lda), f32(b), C.int(ldb), C.float(beta), f32(c), C.int(ldc))
		return true
	}); why != "" {
		return why
	}
	for _, f := range []func() string{testSyrkTrmm, testCholesky, testCongruence, testEig, testSVD} {
		if why := f(); why != "" {
			return why
		}
	}
	return ""
}

// testSgemm compares a library's float32 products with the pure-Go one. With a factor of 0 the old result is not read.
func testSgemm(gemm func(ta, tb bool, m, n, k int, alpha float32, a []float32, lda int, b []float32, ldb int, beta float32, c []float32, ldc int) bool) string {
	for _, s := range testSizes {
		m, n, k := s[0], s[1], s[2]
		for mode := range 8 {
			ta, tb, beta := mode&1 != 0, mode&2 != 0, float32(mode/4-1)
			lda, ldb := k, n
			if ta {
				lda = m
			}
			if tb {
				ldb = k
			}
			a, b, c := noise[float32](m*k, 1), noise[float32](k*n, 2), noise[float32](m*n, 3)
			if beta == 0 {
				c[0], c[len(c)-1] = float32(math.NaN()), float32(math.Inf(1))
			}
			want := append([]float32(nil), c...)
			goGemm32(ta, tb, m, n, k, 0.5, a, lda, b, ldb, beta, want, n)
			what := fmt.Sprintf("sgemm %d×%d×%d, transposed %v %v, added %g times", m, n, k, ta, tb, beta)
			if !gemm(ta, tb, m, n, k, 0.5, a, lda, b, ldb, beta, c, n) {
				return "no " + what
			}
			if d, tol := apart(c, want, float64(k+2)), 1.0/(1<<23); !(d <= tol) {
				return fmt.Sprintf("%s is off by %.2g of the sum's size, want <= %.2g", what, d, tol)
			}
		}
	}
	return ""
}

func testSyrkTrmm() string {
	for _, n := range []int{5, 33, 130} {
		k := n + 20
		a, c := noise[float64](k*n, 4), make([]float64, n*n)
		want := make([]float64, n*n)
		C.blas_dsyrk(C.int(n), C.int(k), 1, f64(a), C.int(n), 0, f64(c), C.int(n))
		goSyrkT64(n, k, 1, a, n, 0, want, n)
		if d, tol := apart(c, want, float64(k)), 1.0/(1<<52); d > tol {
			return fmt.Sprintf("dsyrk %d×%d is off by %.2g of the sum's size, want <= %.2g", n, k, d, tol)
		}
		for mode := range 4 {
			left, trans := mode&1 != 0, mode&2 != 0
			b := noise[float64](n*n, 5)
			want := append([]float64(nil), b...)
			C.blas_dtrmm(flag(left), flag(trans), C.int(n), C.int(n), 1, f64(a), C.int(n), f64(b), C.int(n))
			goTrmm64(left, trans, n, n, 1, a, n, want, n)
			if d, tol := apart(b, want, float64(n)), 1.0/(1<<52); d > tol {
				return fmt.Sprintf("dtrmm %d, left %v, transposed %v is off by %.2g of the sum's size, want <= %.2g", n, left, trans, d, tol)
			}
		}
	}
	return ""
}

// gram is AᵀA + I/4 of fixed noise: symmetric, positive definite, well conditioned.
func gram(n int) []float64 {
	a, g := noise[float64](2*n*n, 6), make([]float64, n*n)
	goGemm64(true, false, n, n, 2*n, 1/float64(n), a, n, a, n, 0, g, n)
	for i := range n {
		g[i*n+i] += 0.25
	}
	return g
}

// The factors below depend on their input with a condition number below 100
// here, so they agree within 1e-12; a wrong kernel is off by far more.
const factorTol = 1e-12

func testThreads() []int {
	if !openblas.parallel {
		return []int{1}
	}
	return []int{1, Workers()}
}

func testCholesky() string {
	for _, threads := range testThreads() {
		for _, n := range []int{3, 70, 200} {
			x, want := gram(n), gram(n)
			pivot := withThreads(threads, func() C.int { return C.blas_dpotrf(C.int(n), f64(x), C.int(n)) })
			goCholesky64(n, want, n)
			for i := range n {
				clear(x[i*n+i+1:][:n-i-1])
				clear(want[i*n+i+1:][:n-i-1])
			}
			if d := apart(x, want, 1); pivot != 0 || d > factorTol {
				return fmt.Sprintf("dpotrf %d on %d threads: info %d, off by %.2g, want <= %.2g", n, threads, pivot, d, factorTol)
			}
		}
	}
	return ""
}

func testCongruence() string {
	for _, threads := range testThreads() {
		for _, n := range []int{3, 70, 200} {
			l, x, want := gram(n), noise[float64](n*n, 9), noise[float64](n*n, 9)
			if pivot := goCholesky64(n, l, n); pivot >= 0 {
				return fmt.Sprintf("pivot %d of the test's own matrix", pivot)
			}
			goCongruence64(n, want, n, l, n)
			info := withThreads(threads, func() C.int { return C.blas_dsygst(C.int(n), f64(x), C.int(n), f64(l), C.int(n)) })
			scale := 0.0
			for _, v := range want {
				scale = max(scale, math.Abs(v))
			}
			if d := apart(x, want, scale); info != 0 || d > factorTol {
				return fmt.Sprintf("dsygst %d on %d threads: info %d, off by %.2g, want <= %.2g", n, threads, info, d, factorTol)
			}
		}
	}
	return ""
}

func testEig() string {
	for _, threads := range testThreads() {
		for _, n := range []int{3, 70, 150} {
			want, g := make([]float64, n), gram(n)
			if err := goSymEig64(n, gram(n), n, false, want); err != nil {
				return err.Error()
			}
			for _, vectors := range []bool{false, true} {
				x, got := gram(n), make([]float64, n)
				info := withThreads(threads, func() C.int { return C.blas_dsyevd(flag(vectors), C.int(n), f64(x), C.int(n), f64(got)) })
				if d := apart(got, want, 1); info != 0 || d > factorTol {
					return fmt.Sprintf("dsyevd %d on %d threads: info %d, eigenvalues off by %.2g, want <= %.2g", n, threads, info, d, factorTol)
				}
				if !vectors {
					continue
				}
				back, scaled := make([]float64, n*n), append([]float64(nil), x...)
				for i := range scaled {
					scaled[i] *= got[i/n]
				}
				goGemm64(true, false, n, n, n, 1, x, n, scaled, n, 0, back, n)
				if d := apart(back, g, 1); d > factorTol {
					return fmt.Sprintf("dsyevd %d on %d threads: VᵀΛV is off by %.2g, want <= %.2g", n, threads, d, factorTol)
				}
			}
		}
	}
	return ""
}

func testSVD() string {
	for _, threads := range testThreads() {
		for _, s := range [][2]int{{4, 3}, {60, 90}, {150, 70}} {
			m, n := s[0], s[1]
			got, want := make([]float64, min(m, n)), make([]float64, min(m, n))
			if err := goSingularValues64(m, n, noise[float64](m*n, 7), n, want); err != nil {
				return err.Error()
			}
			x := noise[float64](m*n, 7)
			info := withThreads(threads, func() C.int { return C.blas_dgesdd(C.int(m), C.int(n), f64(x), C.int(n), f64(got)) })
			if d := apart(got, want, want[0]); info != 0 || d > factorTol {
				return fmt.Sprintf("dgesdd %d×%d on %d threads: info %d, off by %.2g, want <= %.2g", m, n, threads, info, d, factorTol)
			}
		}
	}
	return ""
}

package cpu

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

// Sizes on the edges of register blocks, of library kernels and of our tiles.
var gemmSizes = [][3]int{{1, 1, 1}, {3, 5, 7}, {16, 16, 16}, {17, 31, 33}, {64, 1, 64}, {1, 65, 129}, {48, 64, 0}, {130, 140, 150}, {513, 30, 20}, {20, 514, 9}}

func random32(r *rand.Rand, n int) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(r.NormFloat64())
	}
	return x
}

func random64(r *rand.Rand, n int) []float64 {
	x := make([]float64, n)
	for i := range x {
		x[i] = r.NormFloat64()
	}
	return x
}

// at is element (i,j) of op(x).
func at[T float32 | float64](x []T, ld int, trans bool, i, j int) float64 {
	if trans {
		i, j = j, i
	}
	return float64(x[i*ld+j])
}

// checkGemmResult compares got with alpha·op(A)op(B)+beta·C0 formed in float64:
// each element within (k+2)·eps times the sum of the magnitudes of its terms,
// the bound of a sum in any order. Elements between rows must be untouched.
func checkGemmResult[T float32 | float64](t *testing.T, eps float64, ta, tb bool, m, n, k int, alpha T, a []T, lda int, b []T, ldb int, beta T, c0, got []T, ldc int) {
	t.Helper()
	for i := range m {
		for j := range ldc {
			p := i*ldc + j
			if p >= len(got) {
				break
			}
			if j >= n {
				if got[p] != c0[p] {
					t.Fatalf("element (%d,%d) outside C was changed", i, j)
				}
				continue
			}
			var sum, abs float64
			for q := range k {
				v := at(a, lda, ta, i, q) * at(b, ldb, tb, q, j)
				sum += v
				abs += math.Abs(v)
			}
			sum, abs = float64(alpha)*sum, math.Abs(float64(alpha))*abs
			if beta != 0 {
				sum += float64(beta) * float64(c0[p])
				abs += math.Abs(float64(beta) * float64(c0[p]))
			}
			if d := math.Abs(float64(got[p]) - sum); !(d <= float64(k+2)*eps*abs) {
				t.Fatalf("element (%d,%d) is %g, want %g ± %g", i, j, got[p], sum, float64(k+2)*eps*abs)
			}
		}
	}
}

func eachGemm(t *testing.T, f func(t *testing.T, r *rand.Rand, w *Worker, ta, tb bool, m, n, k int, alpha, beta float64)) {
	for _, s := range gemmSizes {
		for mode := range 4 {
			for _, c := range [][2]float64{{1, 0}, {-0.5, 2}} {
				ta, tb := mode&1 != 0, mode&2 != 0
				t.Run(fmt.Sprintf("%dx%dx%d/ta=%v/tb=%v/beta=%g", s[0], s[1], s[2], ta, tb, c[1]), func(t *testing.T) {
					r := rand.New(rand.NewPCG(1, uint64(s[0]*1000+s[2])))
					f(t, r, nil, ta, tb, s[0], s[1], s[2], c[0], c[1])
				})
			}
		}
	}
}

func stored(trans bool, rows, cols int) (r, ld int) {
	if trans {
		rows, cols = cols, rows
	}
	return rows, cols + 3
}

func TestGemm32(t *testing.T) {
	eachGemm(t, func(t *testing.T, r *rand.Rand, w *Worker, ta, tb bool, m, n, k int, alpha, beta float64) {
		ra, lda := stored(ta, m, k)
		rb, ldb := stored(tb, k, n)
		a, b, c0 := random32(r, ra*lda), random32(r, rb*ldb), random32(r, m*(n+2))
		if beta == 0 {
			c0[0] = float32(math.NaN()) // must not be read
		}
		c := append([]float32(nil), c0...)
		Gemm32(w, ta, tb, m, n, k, float32(alpha), a, lda, b, ldb, float32(beta), c, n+2)
		checkGemmResult(t, 1.0/(1<<23), ta, tb, m, n, k, float32(alpha), a, lda, b, ldb, float32(beta), c0, c, n+2)
		again := append([]float32(nil), c0...)
		Do(func(w *Worker) {
			Gemm32(w, ta, tb, m, n, k, float32(alpha), a, lda, b, ldb, float32(beta), again, n+2)
		})
		for i := range c {
			if math.Float32bits(c[i]) != math.Float32bits(again[i]) {
				t.Fatalf("element %d: %g over all workers, %g on one", i, c[i], again[i])
			}
		}
	})
}

// A product by one worker, of which a row does not depend on how many there are.
func TestDots32(t *testing.T) {
	for _, s := range [][3]int{{0, 3, 5}, {3, 2, 0}, {1, 1, 1}, {7, 33, 100}, {64, 50, 513}, {200, 512, 777}, {512, 16, 2048}} {
		m, n, k := s[0], s[1], s[2]
		r := rand.New(rand.NewPCG(8, uint64(k)))
		a, b, c := random32(r, m*k), random32(r, n*k), make([]float32, m*n)
		if m*n > 0 {
			c[0] = float32(math.NaN())
		}
		Do(func(w *Worker) { Dots32(w, m, n, k, a, b, c) })
		checkGemmResult(t, 1.0/(1<<22), false, true, m, n, k, 1, a, max(1, k), b, max(1, k), 0, make([]float32, m*n), c, n)
	}
	defer func() {
		if recover() == nil {
			t.Error("a short matrix is taken")
		}
	}()
	Dots32(nil, 2, 2, 3, make([]float32, 6), make([]float32, 5), make([]float32, 4))
}

func TestGemm64(t *testing.T) {
	eachGemm(t, func(t *testing.T, r *rand.Rand, w *Worker, ta, tb bool, m, n, k int, alpha, beta float64) {
		ra, lda := stored(ta, m, k)
		rb, ldb := stored(tb, k, n)
		a, b, c0 := random64(r, ra*lda), random64(r, rb*ldb), random64(r, m*(n+2))
		if beta == 0 {
			c0[0] = math.NaN()
		}
		c := append([]float64(nil), c0...)
		Gemm64(w, ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, n+2)
		checkGemmResult(t, 1.0/(1<<52), ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c0, c, n+2)
	})
}

func TestSyrkT64(t *testing.T) {
	for _, s := range [][2]int{{1, 1}, {7, 3}, {64, 100}, {130, 0}, {129, 65}, {600, 40}} {
		for _, beta := range []float64{0, 0.5} {
			n, k, lda, ldc := s[0], s[1], s[0]+1, s[0]+2
			r := rand.New(rand.NewPCG(2, uint64(n)))
			a, c0 := random64(r, k*lda), random64(r, n*ldc)
			for i := range n {
				for j := range i {
					c0[j*ldc+i] = c0[i*ldc+j]
				}
			}
			c := append([]float64(nil), c0...)
			for i := range n {
				for j := i + 1; j < n; j++ {
					c[i*ldc+j] = math.NaN() // the upper triangle must not be read
				}
			}
			SyrkT64(nil, n, k, 0.25, a, lda, beta, c, ldc)
			checkGemmResult(t, 1.0/(1<<52), true, false, n, n, k, 0.25, a, lda, a, lda, beta, c0, c, ldc)
			for i := range n {
				for j := range i {
					if c[i*ldc+j] != c[j*ldc+i] {
						t.Fatalf("n=%d: (%d,%d) is %g, its mirror %g", n, i, j, c[i*ldc+j], c[j*ldc+i])
					}
				}
			}
		}
	}
}

func TestTrmm64(t *testing.T) {
	for _, s := range [][2]int{{1, 1}, {5, 9}, {64, 33}, {130, 20}, {20, 600}, {515, 4}} {
		for mode := range 4 {
			left, trans := mode&1 != 0, mode&2 != 0
			m, n := s[0], s[1]
			order := n
			if left {
				order = m
			}
			r := rand.New(rand.NewPCG(3, uint64(m)))
			l, b := random64(r, order*(order+1)), random64(r, m*(n+2))
			full := make([]float64, order*order)
			for i := range order {
				copy(full[i*order:][:i+1], l[i*(order+1):])
				for j := i + 1; j < order; j++ {
					l[i*(order+1)+j] = math.NaN() // not read
				}
			}
			got := append([]float64(nil), b...)
			Trmm64(nil, left, trans, m, n, 1.5, l, order+1, got, n+2)
			if left {
				checkGemmResult(t, 1.0/(1<<52), trans, false, m, n, m, 1.5, full, order, b, n+2, 0, b, got, n+2)
			} else {
				checkGemmResult(t, 1.0/(1<<52), false, trans, m, n, n, 1.5, b, n+2, full, order, 0, b, got, n+2)
			}
		}
	}
}

func TestShortSlicePanics(t *testing.T) {
	for name, f := range map[string]func(){
		"Gemm32 a": func() {
			Gemm32(nil, false, false, 2, 2, 2, 1, make([]float32, 3), 2, make([]float32, 4), 2, 0, make([]float32, 4), 2)
		},
		"Gemm64 ld": func() {
			Gemm64(nil, false, false, 2, 2, 2, 1, make([]float64, 4), 1, make([]float64, 4), 2, 0, make([]float64, 4), 2)
		},
		"SyrkT64 c": func() { SyrkT64(nil, 2, 2, 1, make([]float64, 4), 2, 0, make([]float64, 3), 2) },
		"Trmm64 b":  func() { Trmm64(nil, true, false, 2, 2, 1, make([]float64, 4), 2, make([]float64, 3), 2) },
		"Cholesky":  func() { _ = Cholesky64(nil, 2, make([]float64, 3), 2) },
		"SymEig64":  func() { _, _ = SymEig64(nil, 2, make([]float64, 3), 2, true) },
		"SVD":       func() { _, _ = SingularValues64(nil, 3, 2, make([]float64, 5), 2) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			f()
		}()
	}
}

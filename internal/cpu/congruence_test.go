package cpu

import (
	"math"
	"math/rand/v2"
	"testing"
)

// Against the triple product written out, with both unread triangles poisoned.
func TestCongruence64(t *testing.T) {
	before := calls.congruence.Load()
	for _, n := range []int{1, 2, 5, 33, 100, 130} {
		lda, ldl := n+3, n+1
		r := rand.New(rand.NewPCG(8, uint64(n)))
		s, l := make([]float64, n*n), make([]float64, n*n)
		a, lower := make([]float64, n*lda), make([]float64, n*ldl)
		for i := range n {
			for j := range n {
				if j > i {
					a[i*lda+j], lower[i*ldl+j] = math.NaN(), math.NaN()
					continue
				}
				s[i*n+j], l[i*n+j] = r.NormFloat64(), r.NormFloat64()
				s[j*n+i] = s[i*n+j]
				a[i*lda+j], lower[i*ldl+j] = s[i*n+j], l[i*n+j]
			}
		}
		Congruence64(nil, n, a, lda, lower, ldl)
		p := make([]float64, n*n) // S·L, and its absolute values for the bound
		size := make([]float64, n*n)
		for i := range n {
			for j := range n {
				for k := j; k < n; k++ {
					p[i*n+j] += s[i*n+k] * l[k*n+j]
					size[i*n+j] += math.Abs(s[i*n+k] * l[k*n+j])
				}
			}
		}
		for i := range n {
			for j := range i + 1 {
				want, bound := 0.0, 0.0
				for k := i; k < n; k++ {
					want += l[k*n+i] * p[k*n+j]
					bound += math.Abs(l[k*n+i]) * size[k*n+j]
				}
				// two products of n terms, each term rounded at most n+1 times, and the blocks' symmetric halves
				if tol := 4 * float64(n+1) / (1 << 52) * bound; !(math.Abs(a[i*lda+j]-want) <= tol) {
					t.Fatalf("n=%d: (%d,%d) is %g, want %g within %.2g", n, i, j, a[i*lda+j], want, tol)
				}
			}
			for j := i + 1; j < n; j++ {
				if !math.IsNaN(a[i*lda+j]) {
					t.Fatalf("n=%d: (%d,%d) above the diagonal was written", n, i, j)
				}
			}
		}
	}
	ranNatively(t, "Congruence64", before, calls.congruence.Load())
}

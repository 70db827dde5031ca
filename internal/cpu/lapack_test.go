package cpu

import (
	"errors"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
)

var eigSizes = []int{1, 2, 5, 32, 33, 100, 257}

// spd is a random symmetric positive definite n×n matrix.
func spd(seed uint64, n int) []float64 {
	x := random64(rand.New(rand.NewPCG(seed, uint64(n))), (n+4)*n)
	a := make([]float64, n*n)
	for i := range n {
		for j := range n {
			for k := range n + 4 {
				a[i*n+j] += x[k*n+i] * x[k*n+j]
			}
		}
	}
	return a
}

func norm(a []float64) float64 {
	s := 0.0
	for _, v := range a {
		s += v * v
	}
	return math.Sqrt(s)
}

func TestCholesky64(t *testing.T) {
	for _, n := range eigSizes {
		a := spd(4, n)
		lda := n + 2
		l := make([]float64, n*lda)
		for i := range n {
			copy(l[i*lda:], a[i*n:][:i+1])
			for j := i + 1; j < n; j++ {
				l[i*lda+j] = math.NaN() // not read
			}
		}
		if err := Cholesky64(nil, n, l, lda); err != nil {
			t.Fatal(err)
		}
		for i := range n {
			for j := range n {
				s := 0.0
				for k := range n {
					s += l[i*lda+k] * l[j*lda+k]
				}
				// |A - LLᵀ| <= (n+1) eps |L||Lᵀ| <= (n+1) eps √(aii ajj) (Higham, theorem 10.3)
				if tol := float64(n+1) / (1 << 52) * math.Sqrt(a[i*n+i]*a[j*n+j]); !(math.Abs(s-a[i*n+j]) <= tol) {
					t.Fatalf("n=%d: LLᵀ(%d,%d) is %g, want %g", n, i, j, s, a[i*n+j])
				}
				if j > i && l[i*lda+j] != 0 {
					t.Fatalf("n=%d: L(%d,%d) is %g above the diagonal", n, i, j, l[i*lda+j])
				}
			}
		}
	}
}

func TestCholesky64NamesThePivot(t *testing.T) {
	for _, n := range []int{3, 40, 200} {
		for _, pivot := range []int{0, 1, n - 1} {
			a := make([]float64, n*n)
			for i := range n {
				a[i*n+i] = 1
			}
			a[pivot*n+pivot] = -0.25
			var e *NotPositiveDefinite
			if err := Cholesky64(nil, n, a, n); !errors.As(err, &e) || e.N != n || e.Pivot != pivot || e.Value != -0.25 {
				t.Errorf("n=%d: got %v, want pivot %d at -0.25", n, err, pivot)
			}
		}
		a := make([]float64, n*n)
		for i := range n {
			a[i*n+i] = 1
		}
		a[(n-1)*n+(n-1)] = math.NaN()
		var e *NotPositiveDefinite
		if err := Cholesky64(nil, n, a, n); !errors.As(err, &e) || e.Value == e.Value {
			t.Errorf("n=%d: got %v, want a pivot that is NaN", n, err)
		}
	}
}

func TestSymEig64(t *testing.T) {
	for _, n := range eigSizes {
		a := spd(5, n)
		scale := norm(a)
		lda := n + 1
		load := func() []float64 {
			v := make([]float64, n*lda)
			for i := range n {
				copy(v[i*lda:], a[i*n:][:i+1])
				for j := i + 1; j < n; j++ {
					v[i*lda+j] = math.NaN() // not read
				}
			}
			return v
		}
		v := load()
		values, err := SymEig64(nil, n, v, lda, true)
		if err != nil {
			t.Fatal(err)
		}
		// Backward stable: residual and orthogonality within a small multiple of n eps |A|.
		tol := 8 * float64(n) / (1 << 52)
		for i := range n {
			if i > 0 && values[i] < values[i-1] {
				t.Fatalf("n=%d: eigenvalues not ascending at %d", n, i)
			}
			row := v[i*lda:][:n]
			for p := range n {
				s := 0.0
				for q := range n {
					s += a[p*n+q] * row[q]
				}
				if !(math.Abs(s-values[i]*row[p]) <= tol*scale) {
					t.Fatalf("n=%d: (A v%d)[%d] is %g, want %g", n, i, p, s, values[i]*row[p])
				}
			}
			for j := range i + 1 {
				dot, want := 0.0, 0.0
				if i == j {
					want = 1
				}
				for q := range n {
					dot += row[q] * v[j*lda+q]
				}
				if !(math.Abs(dot-want) <= tol) {
					t.Fatalf("n=%d: v%d·v%d is %g", n, i, j, dot)
				}
			}
		}
		only, err := SymEig64(nil, n, load(), lda, false)
		if err != nil {
			t.Fatal(err)
		}
		for i := range only {
			if !(math.Abs(only[i]-values[i]) <= tol*scale) {
				t.Fatalf("n=%d: eigenvalue %d is %g without vectors, %g with", n, i, only[i], values[i])
			}
		}
	}
}

// The second difference has the eigenvalues 2-2cos(πi/(n+1)).
func TestSymEig64KnownSpectrum(t *testing.T) {
	const n = 150
	a := make([]float64, n*n)
	for i := range n {
		a[i*n+i] = 2
		if i > 0 {
			a[i*n+i-1] = -1
		}
	}
	values, err := SymEig64(nil, n, a, n, false)
	if err != nil {
		t.Fatal(err)
	}
	for i, got := range values {
		if want := 2 - 2*math.Cos(math.Pi*float64(i+1)/(n+1)); !(math.Abs(got-want) <= 4*n/float64(1<<52)) {
			t.Errorf("eigenvalue %d is %.17g, want %.17g", i, got, want)
		}
	}
}

func TestSingularValues64(t *testing.T) {
	for _, s := range [][2]int{{1, 1}, {7, 3}, {3, 7}, {64, 64}, {130, 40}, {33, 150}} {
		m, n, lda := s[0], s[1], s[1]+2
		x := random64(rand.New(rand.NewPCG(6, uint64(m))), m*lda)
		gram := make([]float64, m*m) // its eigenvalues are the squares
		for i := range m {
			for j := range m {
				for k := range n {
					gram[i*m+j] += x[i*lda+k] * x[j*lda+k]
				}
			}
		}
		want, err := SymEig64(nil, m, gram, m, false)
		if err != nil {
			t.Fatal(err)
		}
		got, err := SingularValues64(nil, m, n, x, lda)
		if err != nil {
			t.Fatal(err)
		}
		if len(got) != min(m, n) {
			t.Fatalf("%dx%d: %d values", m, n, len(got))
		}
		tol := 32 * float64(m+n) / (1 << 52) * got[0] * got[0]
		for i, v := range got {
			if i > 0 && v > got[i-1] {
				t.Fatalf("%dx%d: not descending at %d", m, n, i)
			}
			if w := want[m-1-i]; !(math.Abs(v*v-w) <= tol) {
				t.Fatalf("%dx%d: square of value %d is %g, want %g", m, n, i, v*v, w)
			}
		}
	}
}

func TestNotFiniteIsRefused(t *testing.T) {
	for _, bad := range []float64{math.NaN(), math.Inf(1)} {
		a := []float64{1, 0, bad, 1}
		if _, err := SymEig64(nil, 2, a, 2, true); err == nil || !strings.Contains(err.Error(), "(1,0)") {
			t.Errorf("SymEig64: %v", err)
		}
		if _, err := SingularValues64(nil, 2, 2, a, 2); err == nil || !strings.Contains(err.Error(), "(1,0)") {
			t.Errorf("SingularValues64: %v", err)
		}
	}
}

// Semidefinite64 factors a matrix of short rank, keeps clear of eigenvalues that
// are rounding or negative, and passes on what is not finite.
func TestSemidefinite64(t *testing.T) {
	for _, c := range []struct {
		n, rank  int
		negative float64 // added to the diagonal's last element of an otherwise exact matrix
	}{{1, 1, 0}, {5, 5, 0}, {9, 3, 0}, {40, 17, 0}, {6, 0, 0}, {8, 4, -1e-7}} {
		x := make([]float64, c.rank*c.n)
		for i := range x {
			x[i] = float64((i*i*7919+i*31+13)%101-50) / 32
		}
		want := make([]float64, c.n*c.n)
		for i := range c.n {
			for j := range c.n {
				for k := range c.rank {
					want[i*c.n+j] += x[k*c.n+i] * x[k*c.n+j]
				}
			}
		}
		want[c.n*c.n-1] += c.negative
		rows, r, values, err := Semidefinite64(nil, c.n, append([]float64(nil), want...))
		if err != nil || r != c.rank || len(values) != c.n {
			t.Errorf("order %d: rank %d and %d values (%v), want rank %d", c.n, r, len(values), err, c.rank)
			continue
		}
		scale := max(1, values[c.n-1])
		for i := range c.n {
			for j := range c.n {
				got := 0.0
				for k := range r {
					got += rows[k*c.n+i] * rows[k*c.n+j]
				}
				if !(math.Abs(got-want[i*c.n+j]) <= 1e-13*scale+math.Abs(c.negative)) {
					t.Errorf("order %d, rank %d: [%d,%d] = %g, want %g", c.n, c.rank, i, j, got, want[i*c.n+j])
				}
			}
		}
	}
	if _, _, _, err := Semidefinite64(nil, 2, []float64{1, 0, math.NaN(), 1}); err == nil {
		t.Error("NaN was factored")
	}
}

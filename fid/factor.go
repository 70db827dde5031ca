package fid

import (
	"math"

	"github.com/fidlab/fidlab/internal/cpu"
)

const eps = 0x1p-52

// factor is a matrix A with AᵀA = Σ, in one of two shapes: the rows of a [r,d]
// matrix, or, where Σ has full rank, the transpose of a lower triangular [d,d].
type factor struct {
	r      int
	rows   []float64 // [r,d]; nil for a triangle
	lower  []float64 // L, [d,d]
	kind   string    // "features", "cholesky", "pivoted", "clipped"
	spread float64   // largest variance over least pivot: the condition number is no less, "cholesky" only
	below  float64   // the most negative eigenvalue that was set to zero, "clipped" only
}

func (f *factor) full(d int) bool { return f.lower != nil && f.r == d }

// factorOf chooses the cheapest factor that keeps the digits: the centred
// features when they are fewer than d, else Cholesky's, else, where the rank
// is short, Cholesky's with pivots, else the clipped eigenvectors. who is for
// the message of an indefinite Σ.
func factorOf(w *cpu.Worker, s *Stats, who string) (*factor, error) {
	if s.lowRank() {
		return &factor{r: s.N, rows: s.scaledRows(w), kind: "features"}, nil
	}
	d := s.Dim()
	largest := 0.0
	sigma := s.Covariance()
	for i := range d {
		largest = max(largest, sigma[i*d+i])
	}
	noise := float64(d) * eps * largest
	l := append([]float64(nil), sigma...)
	if err := cpu.Cholesky64(w, d, l, d); err == nil {
		least := math.Inf(1)
		for i := range d {
			least = min(least, l[i*d+i]*l[i*d+i])
		}
		if least > noise { // else the last pivots are rounding errors of a short rank
			return &factor{r: d, lower: l, kind: "cholesky", spread: largest / least}, nil
		}
	}
	copy(l, sigma)
	rows, r, rest := pivotedCholesky(w, d, l, noise)
	if rest <= 1e-10*largest {
		return &factor{r: r, rows: rows, kind: "pivoted"}, nil
	}
	return clipped(w, s, who)
}

// clipped is the factor √max(λ,0)·vᵀ of a Σ that is not positive semidefinite
// to rounding, such as one that was summed in float32. It refuses a Σ whose
// most negative eigenvalue no such rounding explains.
func clipped(w *cpu.Worker, s *Stats, who string) (*factor, error) {
	d := s.Dim()
	v := append([]float64(nil), s.Covariance()...)
	rows, r, values, err := cpu.Semidefinite64(w, d, v)
	if err != nil {
		return nil, numeric("%s: eigenvalues of the covariance: %w", who, err)
	}
	least, largest := values[0], values[d-1]
	if least < -1e-5*largest {
		return nil, numeric("%s: the covariance is indefinite: its eigenvalues go from %g to %g, and none of a covariance is negative",
			who, least, largest)
	}
	return &factor{r: r, rows: rows, kind: "clipped", below: min(least, 0)}, nil
}

// pivotedCholesky factors the symmetric positive semidefinite d×d matrix a,
// which it destroys, taking the largest remaining variance as the next pivot
// until none exceeds noise. It returns A [r,d] with AᵀA = a, and the largest
// absolute value of what is left of a: at most noise when a was semidefinite.
func pivotedCholesky(w *cpu.Worker, d int, a []float64, noise float64) (rows []float64, r int, rest float64) {
	const panel = 32
	l := make([]float64, d*d) // row i belongs to variable perm[i]
	perm := make([]int, d)
	for i := range perm {
		perm[i] = i
	}
	done := make([]float64, d) // Σ of squares of this panel's columns, by row
	for start := 0; start < d; start += panel {
		end := min(start+panel, d)
		clear(done)
		j := start
		for ; j < end; j++ {
			p, best := j, math.Inf(-1)
			for i := j; i < d; i++ {
				if j > start {
					done[i] += l[i*d+j-1] * l[i*d+j-1]
				}
				if v := a[i*d+i] - done[i]; v > best {
					p, best = i, v
				}
			}
			if !(best > noise) {
				break
			}
			swapSymmetric(a, d, j, p)
			swapRows(l, d, j, p)
			perm[j], perm[p] = perm[p], perm[j]
			done[j], done[p] = done[p], done[j]
			pivot := math.Sqrt(best)
			l[j*d+j] = pivot
			lj := l[j*d+start : j*d+j]
			for i := j + 1; i < d; i++ {
				sum := a[j*d+i]
				for k, x := range l[i*d+start : i*d+j] {
					sum -= x * lj[k]
				}
				l[i*d+j] = sum / pivot
			}
		}
		if n := d - j; n > 0 { // what is left of a, for the next panel or the verdict
			cpu.Gemm64(w, false, true, n, n, j-start, -1, l[j*d+start:], d, l[j*d+start:], d, 1, a[j*d+j:], d)
		}
		r = j
		if j < end {
			break
		}
	}
	for i := r; i < d; i++ {
		for _, x := range a[i*d+r : (i+1)*d] {
			rest = max(rest, math.Abs(x))
		}
	}
	rows = make([]float64, r*d)
	for i, v := range perm {
		for k := range min(i+1, r) {
			rows[k*d+v] = l[i*d+k]
		}
	}
	return rows, r, rest
}

func swapRows(a []float64, d, i, j int) {
	if i == j {
		return
	}
	x, y := a[i*d:][:d], a[j*d:][:d]
	for k := range x {
		x[k], y[k] = y[k], x[k]
	}
}

func swapSymmetric(a []float64, d, i, j int) {
	if i == j {
		return
	}
	swapRows(a, d, i, j)
	for k := range d {
		a[k*d+i], a[k*d+j] = a[k*d+j], a[k*d+i]
	}
}

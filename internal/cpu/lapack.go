package cpu

import (
	"fmt"
	"math"
)

// NotPositiveDefinite is Cholesky64's error: the matrix has no factor.
type NotPositiveDefinite struct {
	N     int     // order of the matrix
	Pivot int     // index of the first pivot that is not positive, from 0
	Value float64 // that pivot: what is left of the diagonal element; NaN for input that is not finite
}

func (e *NotPositiveDefinite) Error() string {
	return fmt.Sprintf("cpu: Cholesky64: matrix of order %d is not positive definite: pivot %d is %g, want > 0", e.N, e.Pivot, e.Value)
}

// Cholesky64 overwrites the symmetric n×n matrix A, row-major, by its lower
// Cholesky factor L, A = L·Lᵀ, with zeros above the diagonal. Only A's lower
// triangle is read. The error is a *NotPositiveDefinite, and A is then
// undefined. It panics when a is too short.
func Cholesky64(w *Worker, n int, a []float64, lda int) error {
	matrix("Cholesky64", "a", n, n, len(a), lda)
	if n == 0 {
		return nil
	}
	pivot := -1
	exclusive(w, func(w *Worker, threads int) {
		var ok bool
		if pivot, ok = nativeCholesky64(threads, n, a, lda); !ok {
			pivot = goCholesky64(n, a, lda)
		}
	})
	if pivot >= 0 {
		return &NotPositiveDefinite{N: n, Pivot: pivot, Value: a[pivot*lda+pivot]}
	}
	for i := range n {
		clear(a[i*lda+i+1:][:n-i-1])
		if d := a[i*lda+i]; !(d > 0) || math.IsInf(d, 0) { // libraries compare d <= 0, which lets NaN through
			return &NotPositiveDefinite{N: n, Pivot: i, Value: math.NaN()}
		}
	}
	return nil
}

// Congruence64 overwrites the symmetric n×n matrix A, row-major, by LᵀAL, with
// L lower triangular as Cholesky64 leaves it. Only the lower triangles of A and
// L are read, and only A's is written: what SymEig64 reads. It costs half of two
// calls of Trmm64. It panics when a slice is too short.
func Congruence64(w *Worker, n int, a []float64, lda int, l []float64, ldl int) {
	matrix("Congruence64", "a", n, n, len(a), lda)
	matrix("Congruence64", "l", n, n, len(l), ldl)
	if n == 0 {
		return
	}
	exclusive(w, func(w *Worker, threads int) {
		if !nativeCongruence64(threads, n, a, lda, l, ldl) {
			goCongruence64(n, a, lda, l, ldl)
		}
	})
}

// SymEig64 is the eigenvalues of the symmetric n×n matrix A, row-major, in
// ascending order. Only A's lower triangle is read, and A is overwritten: with
// vectors set, row i of A becomes the unit eigenvector of the i-th eigenvalue,
// so that A before = Σ λᵢ·rowᵢᵀ·rowᵢ; without, A is undefined. The error names
// an element that is not finite, or says that the iteration did not converge.
// It panics when a is too short.
func SymEig64(w *Worker, n int, a []float64, lda int, vectors bool) ([]float64, error) {
	matrix("SymEig64", "a", n, n, len(a), lda)
	if n == 0 {
		return nil, nil
	}
	for i := range n {
		if err := finite("SymEig64", i, a[i*lda:][:i+1]); err != nil {
			return nil, err
		}
	}
	values := make([]float64, n)
	var err error
	exclusive(w, func(w *Worker, threads int) {
		var ok bool
		if ok, err = nativeSymEig64(threads, n, a, lda, vectors, values); !ok {
			err = goSymEig64(n, a, lda, vectors, values)
		}
	})
	if err != nil {
		return nil, err
	}
	return values, nil
}

// Semidefinite64 is a factor R, [r,n], of the symmetric n×n matrix A, row-major
// and dense, with RᵀR = A where A is positive semidefinite: the rows √λᵢ·vᵢᵀ of
// the eigenvalues that exceed both rounding, n·2^-52 of the largest, and the
// magnitude of the most negative one, whose like rounding can be. It overwrites
// A, of which rows is a part. values are all eigenvalues, ascending, for the
// caller to judge; errors and panics are SymEig64's.
func Semidefinite64(w *Worker, n int, a []float64) (rows []float64, r int, values []float64, err error) {
	values, err = SymEig64(w, n, a, n, true)
	if err != nil {
		return nil, 0, nil, err
	}
	cut := max(float64(n)*0x1p-52*values[n-1], -values[0])
	first := n
	for first > 0 && values[first-1] > cut {
		first--
	}
	rows, r = a[first*n:], n-first
	for i := range r {
		root := math.Sqrt(values[first+i])
		for j := range n {
			rows[i*n+j] *= root
		}
	}
	return rows, r, values, nil
}

// SingularValues64 is the min(m,n) singular values of the m×n matrix A,
// row-major, in descending order. A is destroyed. The error names an element
// that is not finite, or says that the iteration did not converge. It panics
// when a is too short.
func SingularValues64(w *Worker, m, n int, a []float64, lda int) ([]float64, error) {
	matrix("SingularValues64", "a", m, n, len(a), lda)
	if m == 0 || n == 0 {
		return nil, nil
	}
	for i := range m {
		if err := finite("SingularValues64", i, a[i*lda:][:n]); err != nil {
			return nil, err
		}
	}
	values := make([]float64, min(m, n))
	var err error
	exclusive(w, func(w *Worker, threads int) {
		var ok bool
		if ok, err = nativeSingularValues64(threads, m, n, a, lda, values); !ok {
			err = goSingularValues64(m, n, a, lda, values)
		}
	})
	if err != nil {
		return nil, err
	}
	return values, nil
}

func finite(op string, row int, x []float64) error {
	for j, v := range x {
		if v-v != 0 {
			return fmt.Errorf("cpu: %s: element (%d,%d) is %g, want finite numbers", op, row, j, v)
		}
	}
	return nil
}

package cpu

import (
	"fmt"
	"math"

	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/lapack"
	lapackgonum "gonum.org/v1/gonum/lapack/gonum"
)

var gonumLapack lapackgonum.Implementation

// goCholesky64 factors the lower triangle by blocks, left-looking. It returns
// the index of the first pivot that is not positive, with the pivot's value
// left on the diagonal, or -1.
func goCholesky64(n int, a []float64, lda int) int {
	const block = 64
	for j := 0; j < n; j += block {
		m := min(block, n-j)
		d := a[j*lda+j:]
		if j > 0 {
			gonumBlas.Dsyrk(blas.Lower, blas.NoTrans, m, j, -1, a[j*lda:], lda, 1, d, lda)
		}
		for q := range m {
			s := d[q*lda+q]
			for _, v := range d[q*lda:][:q] {
				s -= v * v
			}
			d[q*lda+q] = s
			if !(s > 0) {
				return j + q
			}
			s = math.Sqrt(s)
			d[q*lda+q] = s
			for r := q + 1; r < m; r++ {
				t := d[r*lda+q]
				for i, v := range d[r*lda:][:q] {
					t -= v * d[q*lda+i]
				}
				d[r*lda+q] = t / s
			}
		}
		rest := n - j - m
		if rest == 0 {
			break
		}
		p := a[(j+m)*lda+j:]
		if j > 0 {
			gonumBlas.Dgemm(blas.NoTrans, blas.Trans, rest, m, j, -1, a[(j+m)*lda:], lda, a[j*lda:], lda, 1, p, lda)
		}
		gonumBlas.Dtrsm(blas.Right, blas.Lower, blas.Trans, blas.NonUnit, rest, m, 1, d, lda, p, lda)
	}
	return -1
}

// goCongruence64 forms the whole product in a copy: gonum has no routine that
// halves the work.
func goCongruence64(n int, a []float64, lda int, l []float64, ldl int) {
	p := make([]float64, n*n)
	for i := range n {
		copy(p[i*n:], a[i*lda:][:i+1])
		for j := range i {
			p[j*n+i] = a[i*lda+j]
		}
	}
	gonumBlas.Dtrmm(blas.Right, blas.Lower, blas.NoTrans, blas.NonUnit, n, n, 1, l, ldl, p, n)
	gonumBlas.Dtrmm(blas.Left, blas.Lower, blas.Trans, blas.NonUnit, n, n, 1, l, ldl, p, n)
	for i := range n {
		copy(a[i*lda:], p[i*n:][:i+1])
	}
}

func goSymEig64(n int, a []float64, lda int, vectors bool, values []float64) error {
	job := lapack.EVNone
	if vectors {
		job = lapack.EVCompute
	}
	var size [1]float64
	gonumLapack.Dsyev(job, blas.Lower, n, a, lda, values, size[:], -1)
	work := make([]float64, int(size[0]))
	if !gonumLapack.Dsyev(job, blas.Lower, n, a, lda, values, work, len(work)) {
		return fmt.Errorf("cpu: SymEig64: the QR iteration did not converge on a matrix of order %d", n)
	}
	if vectors { // they are columns here
		for i := range n {
			for j := range i {
				a[i*lda+j], a[j*lda+i] = a[j*lda+i], a[i*lda+j]
			}
		}
	}
	return nil
}

func goSingularValues64(m, n int, a []float64, lda int, values []float64) error {
	var size [1]float64
	gonumLapack.Dgesvd(lapack.SVDNone, lapack.SVDNone, m, n, a, lda, values, nil, 1, nil, 1, size[:], -1)
	work := make([]float64, int(size[0]))
	if !gonumLapack.Dgesvd(lapack.SVDNone, lapack.SVDNone, m, n, a, lda, values, nil, 1, nil, 1, work, len(work)) {
		return fmt.Errorf("cpu: SingularValues64: the QR iteration did not converge on a %d×%d matrix", m, n)
	}
	return nil
}

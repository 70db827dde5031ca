package fid

import (
	"math"

	"github.com/fidlab/fidlab/internal/cpu"
)

// Effects says of each generated vector by how much the Fréchet distance would fall without it; below 0 it would rise. Each is
// right to about eight digits of the distance, at the cost of a distance. The sum of a group's is what the group does only to first order:
// each is of one vector less. gen needs its features.
//
// Without a vector, Σ₂ less a multiple of z·zᵀ remains, and of the root's trace the integral
//
//	tr A^½ - tr (A - z·zᵀ)^½ = 1/π·∫ -log(1 - zᵀ(A + s²)⁻¹z) ds, s from 0 to ∞
//
// is gone, which in the eigenvectors of A is one sum over them for each s and vector.
func Effects(ref, gen *Stats) ([]float64, error) {
	if err := needVectors(sides[1], "effects", gen, 3); err != nil {
		return nil, err
	}
	d, n := gen.Dim(), gen.N
	if ref.Dim() != d {
		return nil, badInput("the reference has %d features, the generated set %d; extract both with one extractor", ref.Dim(), d)
	}
	if !ref.lowRank() {
		if err := ref.check(sides[0]); err != nil {
			return nil, err
		}
	}
	f, err := factorOf(nil, ref, sides[0])
	if err != nil {
		return nil, err
	}
	rows := gen.scaledRows(nil) // Σ₂ = rowsᵀ·rows
	out, square := make([]float64, n), make([]float64, n)
	total := 0.0 // tr Σ₂
	scale := math.Sqrt(float64(n - 1))
	shift := make([]float64, d)
	for j := range shift {
		shift[j] = gen.Mu[j] - ref.Mu[j]
	}
	for i := range n {
		along := 0.0
		for j, v := range rows[i*d : (i+1)*d] {
			along += shift[j] * v
			square[i] += v * v
		}
		// The mean moves by -x/(n-1), x = scale·row.
		out[i] = 2*along*scale/float64(n-1) - square[i]/float64(n-1)
		total += square[i]
	}
	p, r := f.project(rows, n, d)
	// Without x: Σ₂·(n-1)/(n-2) - x·xᵀ·n/((n-1)(n-2)), and x·xᵀ is (n-1) of the rows' product.
	grow, drop := float64(n-1)/float64(n-2), float64(n)/float64(n-2)
	root, lost, err := rootsWithout(p, n, r, drop/grow)
	if err != nil {
		return nil, numeric("%w", err)
	}
	for i := range n {
		trace := grow*total - drop*square[i]
		out[i] += total - 2*root - (trace - 2*math.Sqrt(grow)*(root-lost[i]))
	}
	return out, nil
}

// project is rows·Aᵀ, [n, r], which it may make in rows' place.
func (f *factor) project(rows []float64, n, d int) (p []float64, r int) {
	if f.full(d) {
		cpu.Trmm64(nil, false, false, n, d, 1, f.lower, d, rows, d)
		return rows, d
	}
	p = make([]float64, n*f.r)
	if f.r > 0 {
		cpu.Gemm64(nil, false, true, n, f.r, d, 1, rows, d, f.rows, d, 0, p, f.r)
	}
	return p, f.r
}

// rootsWithout is the trace of (PᵀP)^½, P [n, r], and how much less it is, for each row p, of PᵀP - share·p·pᵀ.
func rootsWithout(p []float64, n, r int, share float64) (root float64, lost []float64, err error) {
	lost = make([]float64, n)
	if r == 0 {
		return 0, lost, nil
	}
	values, z, err := inEigenvectors(p, n, r)
	if err != nil || len(values) == 0 {
		return 0, lost, err
	}
	k := len(values)
	for _, l := range values {
		root += math.Sqrt(l)
	}
	nodes, weights := logNodes(math.Sqrt(values[0]), math.Sqrt(values[k-1]))
	m := len(nodes)
	// zᵀ(A + s²)⁻¹z keeps its digits where s is large; where it is near 1, 1 less it does as what it is at s = 0 and a rise
	// that is never below 0.
	falls, rises := make([]float64, k*m), make([]float64, k*m)
	for i, l := range values {
		for j, s := range nodes {
			falls[i*m+j] = share / (l + s*s)
			rises[i*m+j] = share * s * s / (l * (l + s*s))
		}
	}
	independent := k == n-1 // then it is 0: nothing else reaches where the vector does
	const chunk = 128
	cpu.Each((n+chunk-1)/chunk, func(w *cpu.Worker, c int) {
		from := c * chunk
		rows := min(chunk, n-from)
		fall, rise := make([]float64, rows*m), make([]float64, rows*m)
		cpu.Gemm64(w, false, false, rows, m, k, 1, z[from*k:], k, falls, m, 0, fall, m)
		cpu.Gemm64(w, false, false, rows, m, k, 1, z[from*k:], k, rises, m, 0, rise, m)
		for i := range rows {
			start := 0.0
			if !independent {
				leverage := 0.0
				for j, v := range z[(from+i)*k : (from+i+1)*k] {
					leverage += v / values[j]
				}
				start = max(0, 1-share*leverage)
			}
			for j, v := range fall[i*m : (i+1)*m] {
				l := math.Log1p(-v)
				if v > 0.5 {
					l = math.Log(start + rise[i*m+j])
				}
				lost[from+i] -= weights[j] * l / math.Pi
			}
		}
	})
	return root, lost, nil
}

// logNodes are places and weights of a sum for the integral over 0 to ∞ of a function that changes between lo and hi and has its
// poles on the imaginary axis: the rule of trapezoids over the logarithm.
func logNodes(lo, hi float64) (nodes, weights []float64) {
	const step, beyond = 0.3, 22 // e⁻²² of the whole is left out on either side
	for u := math.Log(lo) - beyond; u < math.Log(hi)+beyond; u += step {
		nodes, weights = append(nodes, math.Exp(u)), append(weights, step*math.Exp(u))
	}
	return nodes, weights
}

// inEigenvectors is the eigenvalues of PᵀP that rounding does not hide, rising, and the squares of P's rows in their
// eigenvectors, [n, eigenvalues].
func inEigenvectors(p []float64, n, r int) (values, squares []float64, err error) {
	order := min(n, r)
	gram := make([]float64, order*order)
	if n <= r {
		cpu.Gemm64(nil, false, true, n, n, r, 1, p, r, p, r, 0, gram, n)
	} else {
		cpu.SyrkT64(nil, r, n, 1, p, r, 0, gram, r)
	}
	all, err := oneThread(order, gram, true) // a row is a vector
	if err != nil {
		return nil, nil, err
	}
	cut, first := max(8*float64(max(n, r))*eps*all[order-1], -all[0]), 0
	if n <= r {
		first = 1 // the rows have mean 0
	}
	for first < order && all[first] <= cut {
		first++
	}
	values, gram = all[first:], gram[first*order:]
	k := len(values)
	squares = make([]float64, n*k)
	if k == 0 {
		return nil, nil, nil
	}
	if n > r {
		cpu.Gemm64(nil, false, true, n, k, r, 1, p, r, gram, r, 0, squares, k)
		each(nil, n, func(i int) {
			for j, y := range squares[i*k : (i+1)*k] {
				squares[i*k+j] = y * y
			}
		})
		return values, squares, nil
	}
	for j, l := range values { // P's rows are √λ·v there, v the vectors of PPᵀ
		for i, v := range gram[j*n : (j+1)*n] {
			squares[i*k+j] = l * v * v
		}
	}
	return values, squares, nil
}

package fid

import (
	"math"
	"slices"

	"github.com/fidlab/fidlab/internal/cpu"
)

// Spectra are the eigenvalues of a covariance and what they say of its rank.
type Spectra struct {
	Values []float64 // falling; min(d, n-1) of them while the vectors are there and few, else d; rounding below 0 is 0
	Rank   int       // values above rounding
	Ninety int       // directions that hold 90 % of the variance
	// Effective is the exponential of the entropy of the values as shares of their sum (Roy and Vetterli 2007).
	Effective float64
}

// SpectrumOf decomposes the covariance of a set, at the cost of a distance.
func SpectrumOf(s *Stats) (*Spectra, error) {
	d := s.Dim()
	var m []float64
	order := d
	if s.lowRank() { // the products of the vectors have the same values
		order = s.N
		rows := s.scaledRows(nil)
		m = make([]float64, order*order)
		cpu.Gemm64(nil, false, true, order, order, d, 1, rows, d, rows, d, 0, m, order)
	} else {
		if err := s.check("covariance spectrum"); err != nil {
			return nil, err
		}
		m = slices.Clone(s.Covariance())
	}
	values, err := symmetricValues(order, m, false)
	if err != nil {
		return nil, err
	}
	slices.Reverse(values)
	if s.lowRank() {
		values = values[:order-1] // the vectors have mean 0
	}
	out := &Spectra{Values: values}
	total := 0.0
	for i, v := range values {
		values[i] = max(v, 0)
		total += values[i]
	}
	cut := float64(order) * eps * values[0]
	sum, entropy := 0.0, 0.0
	for _, v := range values {
		if v > cut {
			out.Rank++
		}
		if sum < 0.9*total {
			out.Ninety++
		}
		sum += v
		if p := v / total; p > 0 {
			entropy -= p * math.Log(p)
		}
	}
	if total > 0 {
		out.Effective = math.Exp(entropy)
	}
	return out, nil
}

// oneThread is cpu.SymEig64 of a matrix [n, n] on one thread: with more its bits depend on their number.
func oneThread(n int, a []float64, vectors bool) (values []float64, err error) {
	cpu.Each(1, func(w *cpu.Worker, _ int) { values, err = cpu.SymEig64(w, n, a, n, vectors) })
	return values, err
}

// symmetricValues are the eigenvalues of a matrix, rising; with vectors, its rows become theirs.
func symmetricValues(n int, a []float64, vectors bool) ([]float64, error) {
	values, err := oneThread(n, a, vectors)
	if err != nil {
		return nil, numeric("the covariance gives no eigenvalues: %w", err)
	}
	return values, nil
}

// Projection shows two sets in the plane of their first principal components.
type Projection struct {
	// Share is the part of the variance that each axis holds: of the mixture of both sets in equal parts, so that the larger does not decide.
	Share [2]float64
	Sets  [2]Projected // the reference, the generated
	Axes  [2][]float64 // unit vectors of d
	Mean  []float64    // of the mixture: the origin
}

// Projected is a set in the plane.
type Projected struct {
	Mean   [2]float64
	Cov    [3]float64   // of x, of x and y, of y: the ellipses of the whole set
	Points [][2]float64 // of each vector; nil where they were not kept
}

// Project finds the plane. It needs no features, which give the points alone.
func Project(ref, gen *Stats) (*Projection, error) {
	d := ref.Dim()
	if gen.Dim() != d {
		return nil, badInput("the reference has %d features, the generated set %d; extract both with one extractor", d, gen.Dim())
	}
	if d < 2 {
		return nil, badInput("%d features give no plane", d)
	}
	both := [2]*Stats{ref, gen}
	p := &Projection{Mean: make([]float64, d)}
	shift := make([]float64, d) // half of the difference of the means
	for j := range d {
		p.Mean[j] = (ref.Mu[j] + gen.Mu[j]) / 2
		shift[j] = (gen.Mu[j] - ref.Mu[j]) / 2
	}
	var rows []float64 // whose products sum to the mixture's covariance
	if ref.lowRank() && gen.lowRank() && ref.N+gen.N < d {
		for _, s := range both {
			for _, v := range s.scaledRows(nil) {
				rows = append(rows, v*math.Sqrt2/2)
			}
		}
		rows = append(rows, shift...)
	}
	var values, axes []float64
	var err error
	if rows != nil {
		n := len(rows) / d
		gram := make([]float64, n*n)
		cpu.Gemm64(nil, false, true, n, n, d, 1, rows, d, rows, d, 0, gram, n)
		if values, err = symmetricValues(n, gram, true); err != nil {
			return nil, err
		}
		axes = make([]float64, 2*d) // vᵀ·rows, of the last two
		cpu.Gemm64(nil, false, false, 2, d, n, 1, gram[(n-2)*n:], n, rows, d, 0, axes, d)
	} else {
		for i, s := range both {
			if err := s.check(sides[i]); err != nil {
				return nil, err
			}
		}
		a, b := ref.Covariance(), gen.Covariance()
		m := make([]float64, d*d)
		for i := range d {
			for j := range d {
				m[i*d+j] = (a[i*d+j]+b[i*d+j])/2 + shift[i]*shift[j]
			}
		}
		if values, err = symmetricValues(d, m, true); err != nil {
			return nil, err
		}
		axes = m[(d-2)*d:]
	}
	total := 0.0
	for _, v := range values {
		total += max(v, 0)
	}
	for k := range 2 {
		v := axes[(1-k)*d:][:d]
		normalise(v)
		p.Axes[k] = v
		if total > 0 {
			p.Share[k] = max(values[len(values)-1-k], 0) / total
		}
	}
	for i, s := range both {
		p.Sets[i] = p.of(s)
	}
	return p, nil
}

// normalise makes the length 1 and the largest entry positive.
func normalise(v []float64) {
	length, at := norm(v), 0
	if length == 0 {
		v[0] = 1 // all vectors are equal: any axis is as good
		return
	}
	for j, x := range v {
		if math.Abs(x) > math.Abs(v[at]) {
			at = j
		}
	}
	length = math.Copysign(length, v[at])
	for j := range v {
		v[j] /= length
	}
}

func (p *Projection) of(s *Stats) Projected {
	d := s.Dim()
	var out Projected
	for k, axis := range p.Axes {
		for j, a := range axis {
			out.Mean[k] += a * (s.Mu[j] - p.Mean[j])
		}
	}
	if len(s.Features) == s.N*d && s.N > 0 {
		offset := s.offset()
		out.Points = make([][2]float64, s.N)
		each(nil, s.N, func(i int) {
			for j, x := range s.Features[i*d:][:d] {
				v := float64(x) + offset[j] - p.Mean[j]
				out.Points[i][0] += v * p.Axes[0][j]
				out.Points[i][1] += v * p.Axes[1][j]
			}
		})
	}
	if s.lowRank() {
		for _, q := range out.Points {
			x, y := q[0]-out.Mean[0], q[1]-out.Mean[1]
			out.Cov[0], out.Cov[1], out.Cov[2] = out.Cov[0]+x*x, out.Cov[1]+x*y, out.Cov[2]+y*y
		}
		for k := range out.Cov {
			out.Cov[k] /= float64(s.N - 1)
		}
		return out
	}
	sigma := s.Covariance()
	for i := range d {
		along := [2]float64{}
		for j, v := range sigma[i*d:][:d] {
			along[0] += v * p.Axes[0][j]
			along[1] += v * p.Axes[1][j]
		}
		out.Cov[0] += p.Axes[0][i] * along[0]
		out.Cov[1] += p.Axes[0][i] * along[1]
		out.Cov[2] += p.Axes[1][i] * along[1]
	}
	return out
}

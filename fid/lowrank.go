package fid

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/fidlab/fidlab/internal/cpu"
	"github.com/fidlab/fidlab/rng"
)

// LowRank is the mean and the leading eigenpairs of the covariance (ddof 1) of a
// set of vectors, in float64.
type LowRank struct {
	N       int
	Mu      []float64 // [d]
	Values  []float64 // [r], falling
	Vectors []float64 // [r,d], unit rows, of which the largest entry is positive
	Rest    float64   // mean of the d-r eigenvalues that were discarded
}

// Spectrum is the low-rank statistics of a set and, where they were asked for, of
// each of its classes: what samplers need of a training set.
type Spectrum struct {
	LowRank
	Classes []ClassLowRank // rising labels; nil without
	// Sigma is the covariance of the whole set [d,d], so that other tools read the
	// file; nil where d is too large for it.
	Sigma []float64
	// Shape and Range say which values the vectors are: of pictures of that shape,
	// with black and white at the ends of the range; nil and 0, 0 when unknown.
	Shape      []int
	Range      [2]float64
	Provenance *Provenance
}

// ClassLowRank is the statistics of the vectors of one class.
type ClassLowRank struct {
	Label int
	LowRank
}

// VectorSet calls yield for every vector of a set, with its class or -1, in one
// order whenever it is called; FitSpectrum calls it several times. The vector is
// only valid during the call.
type VectorSet func(ctx context.Context, yield func(label int, x []float64) error) error

// SpectrumOptions say how FitSpectrum works.
type SpectrumOptions struct {
	Rank     int // 0 is d, at most 256
	PerClass bool
	// Exact is the most dimensions of which the covariance is made and decomposed;
	// beyond, a randomised subspace iteration finds the leading pairs in
	// Passes passes over the set. 0 is 4096 and 4.
	Exact, Passes int
	Seed          uint64 // of the iteration's start
}

const (
	defaultRank = 256
	exactDims   = 4096
	passes      = 4
	oversampled = 16  // vectors of the iteration beyond the rank (Halko et al. 2011 advise 5 to 10)
	chunkRows   = 256 // rows in one product
)

// FitSpectrum computes the statistics of vectors of d values. Every class needs
// two vectors at least; of a set that has no more vectors than Rank a note of the
// result's provenance says that the last pairs are empty.
func FitSpectrum(ctx context.Context, set VectorSet, d int, o SpectrumOptions) (*Spectrum, error) {
	if d < 1 {
		panic(fmt.Sprintf("fid: FitSpectrum: vectors of %d values", d))
	}
	if o.Rank == 0 {
		o.Rank = min(d, defaultRank)
	}
	if o.Exact == 0 {
		o.Exact = exactDims
	}
	if o.Passes == 0 {
		o.Passes = passes
	}
	if o.Rank < 1 || o.Rank > d || o.Passes < 1 || o.Exact < 1 {
		return nil, badInput("rank %d of vectors of %d values in %d passes; want 1 to %d, in 1 pass or more", o.Rank, d, o.Passes, d)
	}
	s := &Spectrum{Provenance: &Provenance{}}
	var err error
	if d <= o.Exact {
		err = s.exact(ctx, set, d, o)
	} else {
		err = s.randomised(ctx, set, d, o)
	}
	if err != nil {
		return nil, err
	}
	for _, l := range append([]ClassLowRank{{-1, s.LowRank}}, s.Classes...) {
		who := "the set"
		if l.Label >= 0 {
			who = fmt.Sprintf("class %d", l.Label)
		}
		if l.N < 2 {
			return nil, numeric("%s has %d vectors; a covariance needs 2 at least", who, l.N)
		}
		if l.N <= o.Rank {
			s.Provenance.Notes = append(s.Provenance.Notes, fmt.Sprintf("%s has %d vectors, which span %d of %d dimensions; take a rank below them, or more vectors", who, l.N, l.N-1, o.Rank))
		}
	}
	return s, nil
}

// labelled keeps something of the whole set, at -1, and of each class.
type labelled[T any] map[int]*T

func (m labelled[T]) labels() []int {
	var all []int
	for l := range m {
		if l >= 0 {
			all = append(all, l)
		}
	}
	slices.Sort(all)
	return all
}

// each calls f with what a vector of a class belongs to.
func (m labelled[T]) each(label int, perClass bool, f func(t *T) error, create func() *T) error {
	keys := [2]int{-1, label}
	n := 1
	if perClass && label >= 0 {
		n = 2
	}
	for _, k := range keys[:n] {
		if m[k] == nil {
			m[k] = create()
		}
		if err := f(m[k]); err != nil {
			return err
		}
	}
	return nil
}

func (s *Spectrum) exact(ctx context.Context, set VectorSet, d int, o SpectrumOptions) error {
	all := labelled[Moments]{-1: NewMoments(d)}
	err := set(ctx, func(label int, x []float64) error {
		return all.each(label, o.PerClass, func(m *Moments) error { return m.Add64(x) }, func() *Moments { return NewMoments(d) })
	})
	if err != nil {
		return err
	}
	low := func(m *Moments) (LowRank, []float64, error) {
		if m.N() < 2 {
			return LowRank{N: m.N()}, nil, nil // refused by the caller
		}
		st := m.Stats()
		l, err := leading(st.N, st.Mu, st.Sigma, o.Rank)
		return l, st.Sigma, err
	}
	if s.LowRank, s.Sigma, err = low(all[-1]); err != nil {
		return err
	}
	for _, k := range all.labels() {
		l, _, err := low(all[k])
		if err != nil {
			return err
		}
		s.Classes = append(s.Classes, ClassLowRank{k, l})
	}
	return nil
}

// leading is the statistics of a covariance, which it does not change.
func leading(n int, mu, sigma []float64, rank int) (LowRank, error) {
	d := len(mu)
	v := slices.Clone(sigma)
	lambda, err := cpu.SymEig64(nil, d, v, d, true)
	if err != nil {
		return LowRank{}, numeric("the covariance gives no eigenvalues: %w", err)
	}
	if lambda[0] < -1e-6*lambda[d-1] {
		return LowRank{}, numeric("the covariance has the eigenvalue %g beside the largest of %g; it is none", lambda[0], lambda[d-1])
	}
	l := LowRank{N: n, Mu: mu}
	for k := range rank {
		l.Values = append(l.Values, max(lambda[d-1-k], 0))
		l.Vectors = append(l.Vectors, v[(d-1-k)*d:][:d]...)
	}
	for _, e := range lambda[:d-rank] {
		l.Rest += max(e, 0) / float64(d-rank)
	}
	l.sign()
	return l, nil
}

// sign makes the largest entry of every vector positive: which of the two it is
// would be the library's whim.
func (l *LowRank) sign() {
	d := len(l.Mu)
	for k := range l.Values {
		row, at := l.Vectors[k*d:][:d], 0
		for j, v := range row {
			if math.Abs(v) > math.Abs(row[at]) {
				at = j
			}
		}
		if row[at] < 0 {
			for j := range row {
				row[j] = -row[j]
			}
		}
	}
}

// sketch is the subspace iteration of one set (Halko, Martinsson and Tropp 2011,
// "Finding structure with randomness", algorithm 4.4): Q ← orth(Q·Σ), and at the
// end the eigenpairs of Q·Σ·Qᵀ.
type sketch struct {
	n     int
	mu    []float64
	trace float64   // of the scatter
	q, b  []float64 // [l,d] each: the basis, and what a pass adds up of Q·scatter
	rows  []float64 // [chunkRows,d], centred
	have  int
}

func (s *Spectrum) randomised(ctx context.Context, set VectorSet, d int, o SpectrumOptions) error {
	l := min(o.Rank+oversampled, d)
	all := labelled[sketch]{}
	err := set(ctx, func(label int, x []float64) error {
		return all.each(label, o.PerClass, func(k *sketch) error {
			k.n++
			for j, v := range x {
				if v-v != 0 {
					return numeric("value %d of vector %d is %g; every value must be finite", j, k.n-1, v)
				}
				k.mu[j] += (v - k.mu[j]) / float64(k.n)
			}
			return nil
		}, func() *sketch { return &sketch{mu: make([]float64, d)} })
	})
	if err != nil {
		return err
	}
	if all[-1] == nil || all[-1].n < 2 {
		n := 0
		if all[-1] != nil {
			n = all[-1].n
		}
		return numeric("the set has %d vectors; a covariance needs 2 at least", n)
	}
	labels := append([]int{-1}, all.labels()...)
	for i, k := range labels {
		v := all[k]
		v.q, v.b, v.rows = make([]float64, l*d), make([]float64, l*d), make([]float64, chunkRows*d)
		rng.New(o.Seed, uint64(i)).FillNormal64(v.q)
		orthonormalise(v.q, l, d)
	}
	for pass := range o.Passes {
		for _, v := range all {
			clear(v.b)
			v.trace = 0
		}
		err := set(ctx, func(label int, x []float64) error {
			return all.each(label, o.PerClass, func(k *sketch) error { k.add(x, l); return nil }, func() *sketch { panic("fid: the set changes between passes") })
		})
		if err != nil {
			return err
		}
		for _, k := range labels {
			v := all[k]
			v.fold(l)
			if pass < o.Passes-1 {
				copy(v.q, v.b)
				orthonormalise(v.q, l, d)
			}
		}
	}
	for _, k := range labels {
		low, err := all[k].ritz(l, d, o.Rank)
		if err != nil {
			return err
		}
		if k < 0 {
			s.LowRank = low
		} else {
			s.Classes = append(s.Classes, ClassLowRank{k, low})
		}
	}
	return nil
}

func (k *sketch) add(x []float64, l int) {
	d := len(k.mu)
	row := k.rows[k.have*d:][:d]
	for j, v := range x {
		row[j] = v - k.mu[j]
		k.trace += row[j] * row[j]
	}
	if k.have++; k.have == chunkRows {
		k.fold(l)
	}
}

// fold adds Qᵀ-weighted products of the pending rows: B += (Y·Qᵀ)ᵀ·Y.
func (k *sketch) fold(l int) {
	if k.have == 0 {
		return
	}
	d := len(k.mu)
	p := make([]float64, k.have*l)
	cpu.Gemm64(nil, false, true, k.have, l, d, 1, k.rows, d, k.q, d, 0, p, l)
	cpu.Gemm64(nil, true, false, l, d, k.have, 1, p, l, k.rows, d, 1, k.b, d)
	k.have = 0
}

// ritz is the eigenpairs of the covariance within the subspace.
func (k *sketch) ritz(l, d, rank int) (LowRank, error) {
	low := LowRank{N: k.n, Mu: k.mu}
	if k.n < 2 {
		return low, nil // refused by the caller
	}
	t := make([]float64, l*l)
	cpu.Gemm64(nil, false, true, l, l, d, 1/float64(k.n-1), k.b, d, k.q, d, 0, t, l)
	for i := range l { // rounding
		for j := range i {
			m := (t[i*l+j] + t[j*l+i]) / 2
			t[i*l+j], t[j*l+i] = m, m
		}
	}
	lambda, err := cpu.SymEig64(nil, l, t, l, true)
	if err != nil {
		return low, numeric("the covariance gives no eigenvalues: %w", err)
	}
	low.Vectors = make([]float64, rank*d)
	turn := make([]float64, rank*l)
	kept := 0.0
	for i := range rank {
		v := max(lambda[l-1-i], 0)
		low.Values = append(low.Values, v)
		kept += v
		copy(turn[i*l:], t[(l-1-i)*l:][:l])
	}
	cpu.Gemm64(nil, false, false, rank, d, l, 1, turn, l, k.q, d, 0, low.Vectors, d)
	if d > rank {
		low.Rest = max(k.trace/float64(k.n-1)-kept, 0) / float64(d-rank)
	}
	low.sign()
	return low, nil
}

// orthonormalise makes the l rows of d values an orthonormal set (Gram and
// Schmidt, twice); a row that lies in the span of those before becomes a unit
// vector across it.
func orthonormalise(q []float64, l, d int) {
	dot := make([]float64, l)
	for i := range l {
		row := q[i*d:][:d]
		before := norm(row)
		for try := 0; ; try++ {
			for range 2 {
				if i > 0 {
					cpu.Gemm64(nil, false, true, 1, i, d, 1, row, d, q, d, 0, dot, i)
					cpu.Gemm64(nil, false, false, 1, d, i, -1, dot, i, q, d, 1, row, d)
				}
			}
			if n := norm(row); n > 1e-12*before && n > 0 {
				for j := range row {
					row[j] /= n
				}
				break
			}
			clear(row)
			row[(i+try)%d], before = 1, 1
		}
	}
}

func norm(x []float64) (sum float64) {
	for _, v := range x {
		sum += v * v
	}
	return math.Sqrt(sum)
}

package fid

import (
	"fmt"
	"math"

	"github.com/fidlab/fidlab/internal/cpu"
)

// Distance is the Fréchet distance of two sets and how it was found.
type Distance struct {
	Value    float64 // MeanTerm + CovTerm, never negative
	MeanTerm float64 // ‖μ₁-μ₂‖²
	CovTerm  float64 // tr Σ₁ + tr Σ₂ - 2·tr (Σ₁Σ₂)^½, never negative
	// Route names the computation: "identical", or how each side was factored
	// ("features", "cholesky", "pivoted", "clipped") and what was taken of the
	// product ("singular values", "eigenvalues", "polar factor on a GPU").
	Route   string
	Ranks   [2]int     // of the covariances, as far as rounding lets see
	Traces  [2]float64 // of the covariances
	Clamped float64    // the negative covariance term that rounding gave, set to zero; else 0
	Notes   []string
}

// exactDim is the width up to which singular values are always taken: they
// keep more digits than eigenvalues and cost little there.
const exactDim = 256

// Frechet is the Fréchet distance between the normal distributions that a (the
// reference) and b (the generated set) describe. It uses features where a side
// kept no more than d of them: routes over a rank-deficient covariance lose
// half of the digits. It is never negative and never NaN. Widths that differ
// are a BadInputError, meaningless statistics a NumericError.
//
// tr (Σ₁Σ₂)^½ is the nuclear norm of A₁A₂ᵀ for any Aᵢ with AᵢᵀAᵢ = Σᵢ: its
// singular values squared are the eigenvalues of Σ₁Σ₂.
func Frechet(a, b *Stats) (Distance, error) { return frechet(nil, a, b, nil) }

// frechet is Frechet on worker w. f is a's factor where a has been checked and
// factored before, else nil.
func frechet(w *cpu.Worker, a, b *Stats, f *factor) (Distance, error) {
	return frechetBy(w, a, b, f, exactDim, nil)
}

// frechetBy is frechet; above the width over, on takes the nuclear norm of covariances of full rank where it is not nil and can.
func frechetBy(w *cpu.Worker, a, b *Stats, f *factor, over int, on *frechetDevice) (Distance, error) {
	var out Distance
	d := a.Dim()
	if b.Dim() != d {
		return out, badInput("the reference has %d features, the generated set %d; extract both with one extractor", d, b.Dim())
	}
	if d == 0 {
		return out, badInput("both sets have no features")
	}
	for i, s := range []*Stats{a, b} {
		if s.lowRank() || i == 0 && f != nil {
			continue // made from finite features, or seen before
		}
		if err := s.check(sides[i]); err != nil {
			return out, err
		}
	}
	for j, x := range a.Mu {
		out.MeanTerm += (x - b.Mu[j]) * (x - b.Mu[j])
	}
	if same(a, b) {
		out.Route, out.Ranks = "identical", [2]int{-1, -1}
		out.Notes = append(out.Notes, "the two sets have identical statistics")
		return out, nil
	}
	var err error
	if f == nil {
		if f, err = factorOf(w, a, sides[0]); err != nil {
			return out, err
		}
	}
	var g *factor
	var roots []float64
	if on != nil && f.full(d) && d > over && !b.lowRank() {
		if g, err = factorOf(w, b, sides[1]); err != nil {
			return out, err
		}
		norm, ok, err := on.norm(a, b, f, g)
		if err != nil {
			return out, err
		}
		if ok {
			out.Ranks, out.Route = [2]int{d, d}, "cholesky, cholesky: polar factor on a GPU"
			return out.finish([]float64{norm}, a, b, f, g)
		}
	}
	if f.full(d) && d > exactDim && !b.lowRank() {
		var quick *factor
		if roots, quick = rootsByCongruence(w, d, f, a, b, out.MeanTerm); g == nil {
			g = quick
		}
	}
	if g == nil {
		if g, err = factorOf(w, b, sides[1]); err != nil {
			return out, err
		}
	}
	if roots != nil && g.kind == "cholesky" {
		out.Ranks, out.Route = [2]int{d, d}, "cholesky, covariance: eigenvalues"
		return out.finish(roots, a, b, f, g)
	}
	out.Ranks = [2]int{f.rank(d), g.rank(d)}
	roots, what, err := nuclear(w, d, f, g)
	if err != nil {
		return out, numeric("%w", err)
	}
	out.Route = fmt.Sprintf("%s, %s: %s", f.kind, g.kind, what)
	return out.finish(roots, a, b, f, g)
}

// finish sums up: the covariance term from the traces and the roots, the value and the notes.
func (out Distance) finish(roots []float64, a, b *Stats, f, g *factor) (Distance, error) {
	traceA, traceB := a.trace(f), b.trace(g)
	sum := cpu.Sum{}
	sum.Add(traceA)
	sum.Add(traceB)
	for _, s := range roots {
		sum.Add(-2 * s)
	}
	out.Traces = [2]float64{traceA, traceB}
	out.CovTerm = sum.Value()
	if out.CovTerm < 0 {
		out.Clamped = out.CovTerm
		out.CovTerm = 0
		out.Notes = append(out.Notes, fmt.Sprintf("the covariance term came out as %.3g by rounding and is set to 0", out.Clamped))
	}
	out.Value = out.MeanTerm + out.CovTerm
	if out.Value-out.Value != 0 {
		return out, numeric("the distance is %g: the statistics are too large for float64 (traces %g and %g)", out.Value, traceA, traceB)
	}
	for i, s := range []*Stats{a, b} {
		out.Notes = append(out.Notes, rankNotes(sides[i], s, []*factor{f, g}[i])...)
	}
	return out, nil
}

// population is the distance of the same vectors with covariances of ddof 0: both are smaller by (n-1)/n.
func (d Distance) population(n, m int) Distance {
	a, b := float64(n-1)/float64(n), float64(m-1)/float64(m)
	if d.Route == "identical" {
		return d
	}
	d.Traces[0] *= a
	d.Traces[1] *= b
	// What stays of the term after the common factor is taken out is small, so that nothing cancels that did not before.
	both := math.Sqrt(a * b)
	d.CovTerm = max(0, both*d.CovTerm+(a-both)/a*d.Traces[0]+(b-both)/b*d.Traces[1])
	d.Value = d.MeanTerm + d.CovTerm
	return d
}

var sides = [2]string{"reference", "generated"}

// nuclear is the singular values of A₁A₂ᵀ.
func nuclear(w *cpu.Worker, d int, f, g *factor) (roots []float64, what string, err error) {
	m, n := f.r, g.r
	if m == 0 || n == 0 {
		return nil, "zero covariance", nil
	}
	var p []float64 // A₁A₂ᵀ, [m,n]
	switch {
	case f.full(d) && g.full(d): // L₁ᵀL₂
		p = g.lower // not needed any more
		cpu.Trmm64(w, true, true, d, d, 1, f.lower, d, p, d)
	case f.full(d): // L₁ᵀA₂ᵀ = (A₂L₁)ᵀ, whose singular values are A₂L₁'s
		p = append([]float64(nil), g.rows[:n*d]...)
		cpu.Trmm64(w, false, false, n, d, 1, f.lower, d, p, d)
		m, n = n, d
	case g.full(d):
		p = append([]float64(nil), f.rows[:m*d]...)
		cpu.Trmm64(w, false, false, m, d, 1, g.lower, d, p, d)
	default:
		p = make([]float64, m*n)
		cpu.Gemm64(w, false, true, m, n, d, 1, f.rows, d, g.rows, d, 0, p, n)
	}
	roots, err = cpu.SingularValues64(w, m, n, p, n)
	return roots, "singular values", err
}

// rootsByCongruence is the square roots of the eigenvalues of LᵀΣ₂L, which are
// those of Σ₁Σ₂, where L is f's triangle: the quickest way between two
// covariances of full rank. The roots are nil where b's covariance may be
// singular or indefinite, which the signs of the eigenvalues tell (Sylvester's
// law of inertia), and where the digits that squares cost would show in the
// distance: an error of eps·λmax in each eigenvalue. g stands for b's factor
// where the eigenvalues alone show that it has nothing to note: no pivot of Σ₂
// is below its least eigenvalue, which is at least theirs over tr Σ₁.
func rootsByCongruence(w *cpu.Worker, d int, f *factor, a, b *Stats, meanTerm float64) (roots []float64, g *factor) {
	sigma := b.Covariance()
	m := append([]float64(nil), sigma...)
	cpu.Congruence64(w, d, m, d, f.lower, d)
	values, err := cpu.SymEig64(w, d, m, d, false)
	if err != nil || values[0] <= float64(d)*eps*values[d-1] {
		return nil, nil
	}
	traceA, largest := a.trace(f), 0.0
	for i := range d {
		largest = max(largest, sigma[i*d+i])
	}
	spread := largest * traceA / values[0] // no less than a factor's would be
	scale := traceA + b.trace(&factor{})
	value, lost := meanTerm+scale, 0.0
	step := eps * values[d-1]
	for i, v := range values {
		values[i] = math.Sqrt(v)
		value -= 2 * values[i]
		lost += step / (2 * values[i])
	}
	if lost > max(1e-9*value, 1e-11*scale) {
		return nil, nil
	}
	if spread <= nearlySingular {
		g = &factor{r: d, kind: "cholesky", spread: spread}
	}
	return values, g
}

// nearlySingular is the condition number from which a note tells of it.
const nearlySingular = 1e10

func (f *factor) rank(d int) int {
	if f.kind == "features" {
		return min(f.r-1, d)
	}
	return f.r
}

// lowRank tells whether s keeps so few features that they are the better
// description of its covariance.
func (s *Stats) lowRank() bool {
	return s.Features != nil && s.N >= 2 && s.N <= s.Dim() && len(s.Features) == s.N*s.Dim()
}

func (s *Stats) trace(f *factor) float64 {
	sum := cpu.Sum{}
	if f.kind == "features" {
		for _, x := range f.rows {
			sum.Add(x * x)
		}
		return sum.Value()
	}
	sigma := s.Covariance()
	for i := range s.Dim() {
		sum.Add(sigma[i*s.Dim()+i])
	}
	return sum.Value()
}

func same(a, b *Stats) bool {
	if a == b {
		return true
	}
	if a.lowRank() && b.lowRank() {
		return equal(a.Mu, b.Mu) && equal(a.Features, b.Features)
	}
	return equal(a.Mu, b.Mu) && equal(a.Covariance(), b.Covariance())
}

func equal[T float32 | float64](a, b []T) bool {
	if len(a) != len(b) {
		return false
	}
	for i, x := range a {
		if x != b[i] {
			return false
		}
	}
	return true
}

func rankNotes(who string, s *Stats, f *factor) []string {
	d := s.Dim()
	var out []string
	switch r := f.rank(d); {
	case s.N > 0 && s.N <= d:
		out = append(out, fmt.Sprintf("%s: %d images give a covariance of rank at most %d in %d dimensions; the distance is then biased upwards by far: use more than %d images, or compare only with sets of equally many",
			who, s.N, s.N-1, d, d))
	case r == 0:
		out = append(out, who+": all vectors are equal: the covariance is zero")
	case r < d:
		out = append(out, fmt.Sprintf("%s: the covariance has rank %d in %d dimensions", who, r, d))
	}
	if f.spread > nearlySingular {
		out = append(out, fmt.Sprintf("%s: the covariance is nearly singular (condition number at least %.1g); digits of its smallest directions are rounding", who, f.spread))
	}
	if f.kind == "clipped" {
		out = append(out, fmt.Sprintf("%s: the covariance has eigenvalues down to %.3g (rounding in whatever made it); they were set to 0", who, f.below))
	}
	return out
}

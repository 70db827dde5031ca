package fid

import (
	"fmt"
	"math"

	"github.com/fidlab/fidlab/internal/cpu"
)

// Stats describe one set of feature vectors.
type Stats struct {
	N  int       // vectors; 0 where a file does not tell
	Mu []float64 // [d]
	// Sigma is [d,d], ddof 1. It may be nil while Features are no more than d:
	// their distances need none. Covariance makes it.
	Sigma []float64
	// Features are the vectors themselves where they were kept, [N,d]. From a
	// file they are centred; Mu is their mean in either case.
	Features   []float32
	Provenance *Provenance // nil where a file has none
	// Parts are the statistics of what else was extracted of the same pictures, by
	// name: PartLogits, PartSpatial.
	Parts map[string]*Stats

	dropped bool // there were features, more than could be kept
}

// Provenance says how statistics were made.
type Provenance struct {
	Version   string        `json:"version"` // of fidlab
	Input     string        `json:"input"`   // as imageio describes it
	Extractor ExtractorInfo `json:"extractor"`
	Device    string        `json:"device"`
	Decoders  []string      `json:"decoders,omitempty"` // what decoded the pictures
	Skipped   int           `json:"skipped,omitempty"`  // pictures left out
	Notes     []string      `json:"notes,omitempty"`
}

// Dim is the number of features.
func (s *Stats) Dim() int { return len(s.Mu) }

// Covariance is Sigma, computed from Features when it is not there yet; that
// first call must not run beside others on the same Stats.
func (s *Stats) Covariance() []float64 {
	if s.Sigma == nil && s.Features != nil {
		m := NewMoments(s.Dim())
		if err := m.Add(s.Features); err != nil {
			panic(err) // FromFeatures and StatsOf saw finite values
		}
		s.Sigma = m.Stats().Sigma
	}
	return s.Sigma
}

// FromFeatures makes the statistics of n vectors of d features, which it keeps.
// It panics when features does not hold n·d values.
func FromFeatures(features []float32, n, d int) (*Stats, error) {
	if len(features) != n*d {
		panic(fmt.Sprintf("fid: FromFeatures: %d values are not %d×%d", len(features), n, d))
	}
	m := NewMoments(d)
	if n <= d {
		m = newMeans(d)
	}
	if err := m.Add(features); err != nil {
		return nil, err
	}
	s := m.Stats()
	s.Features = features
	return s, nil
}

// part is the statistics of some of the rows; offset is s.offset(), which takes all rows.
func (s *Stats) part(rows []int, offset []float64) (*Stats, error) {
	d := s.Dim()
	x := make([]float32, 0, len(rows)*d)
	for _, i := range rows {
		x = append(x, s.Features[i*d:(i+1)*d]...)
	}
	out, err := FromFeatures(x, len(rows), d)
	if err != nil {
		return nil, err
	}
	for j, o := range offset {
		out.Mu[j] += o
	}
	return out, nil
}

// Check returns a NumericError when the statistics are meaningless: a value
// that is not finite, a negative variance, a covariance that is not symmetric
// or fewer than two vectors. It panics when the lengths disagree.
func (s *Stats) Check() error { return s.check("statistics") }

// check names whose statistics they are in its error.
func (s *Stats) check(who string) error {
	d := len(s.Mu)
	sigma := s.Covariance()
	if len(sigma) != d*d {
		panic(fmt.Sprintf("fid: Stats: %d means but %d covariances", d, len(sigma)))
	}
	if s.N == 1 {
		return numeric("%s: one vector has no covariance; at least 2 images are needed, better more than the %d features", who, d)
	}
	for i, x := range s.Mu {
		if x-x != 0 {
			return numeric("%s: mean %d is %g; every mean must be finite", who, i, x)
		}
	}
	largest := 0.0
	for i := range d {
		for j, x := range sigma[i*d:][:d] {
			if x-x != 0 {
				return numeric("%s: covariance (%d,%d) is %g; every value must be finite", who, i, j, x)
			}
		}
		v := sigma[i*d+i]
		if v < 0 {
			return numeric("%s: variance %d is %g; no variance is negative", who, i, v)
		}
		largest = max(largest, v)
	}
	skew, at, to := s.asymmetry()
	if skew > 1e-6*largest {
		return numeric("%s: the covariance is not symmetric: (%d,%d) is %g but (%d,%d) is %g; the largest variance is %g",
			who, at, to, s.Sigma[at*d+to], to, at, s.Sigma[to*d+at], largest)
	}
	return nil
}

// asymmetry is the largest |Σij-Σji| and where it is.
func (s *Stats) asymmetry() (largest float64, at, to int) {
	const tile = 64 // both triangles pass through the cache in squares
	d := len(s.Mu)
	for i0 := 0; i0 < d; i0 += tile {
		for j0 := 0; j0 <= i0; j0 += tile {
			for i := i0; i < min(i0+tile, d); i++ {
				for j := j0; j < min(j0+tile, i); j++ {
					if e := math.Abs(s.Sigma[i*d+j] - s.Sigma[j*d+i]); e > largest {
						largest, at, to = e, i, j
					}
				}
			}
		}
	}
	return largest, at, to
}

// MergeStats joins the statistics of disjoint parts of one set, exactly up to
// rounding: sums run in the order given. Features are kept while they are all
// there and no more than the dimension. Parts that were not made alike, or whose
// number of vectors is not known, are a BadInputError.
func MergeStats(parts ...*Stats) (*Stats, error) {
	if len(parts) == 0 {
		panic("fid: MergeStats: nothing to merge")
	}
	first := parts[0]
	d := first.Dim()
	m := NewMoments(d)
	scatter := make([]float64, d*d)
	keep, total := true, 0
	for i, p := range parts {
		if p.Dim() != d {
			return nil, badInput("part %d has %d features, part 1 has %d; extract both with one extractor", i+1, p.Dim(), d)
		}
		if p.N < 1 {
			return nil, badInput("part %d does not tell how many vectors it summarises; only statistics with their n can be merged", i+1)
		}
		if err := CheckAlike(first, p); err != nil {
			return nil, fmt.Errorf("part %d: %w", i+1, err)
		}
		for k, x := range p.Covariance() {
			scatter[k] = x * float64(p.N-1)
		}
		m.mergeMoments(p.N, p.Mu, scatter)
		total += p.N
		keep = keep && p.Features != nil
	}
	s := m.Stats()
	if keep && total <= d {
		s.Features = make([]float32, 0, total*d)
		for _, p := range parts {
			shift := p.offset()
			for i := range p.N {
				for j, x := range p.Features[i*d:][:d] {
					s.Features = append(s.Features, float32(float64(x)+shift[j]-s.Mu[j]))
				}
			}
		}
	}
	s.Provenance = mergeProvenance(parts)
	if first.Parts[PartSpatial] != nil {
		var maps []*Stats
		for _, p := range parts {
			if q := p.Parts[PartSpatial]; q != nil {
				maps = append(maps, q)
			}
		}
		if len(maps) == len(parts) { // a part without one leaves the whole without
			joined, err := MergeStats(maps...)
			if err != nil {
				return nil, err
			}
			s.Parts = map[string]*Stats{PartSpatial: joined}
		}
	}
	return s, nil
}

func mergeProvenance(parts []*Stats) *Provenance {
	if parts[0].Provenance == nil {
		return nil
	}
	out := *parts[0].Provenance
	out.Notes = append([]string(nil), out.Notes...)
	seen := map[string]bool{}
	for _, dec := range out.Decoders {
		seen[dec] = true
	}
	for _, p := range parts[1:] {
		if p.Provenance == nil {
			continue
		}
		out.Input += " + " + p.Provenance.Input
		out.Skipped += p.Provenance.Skipped
		for _, dec := range p.Provenance.Decoders {
			if !seen[dec] {
				seen[dec] = true
				out.Decoders = append(out.Decoders[:len(out.Decoders):len(out.Decoders)], dec)
			}
		}
	}
	return &out
}

// offset is what has to be added to Features to get the vectors: zero, or the
// mean when the features are centred.
func (s *Stats) offset() []float64 {
	d := s.Dim()
	mean := columnMeans(s.Features, d)
	for j := range mean {
		mean[j] = s.Mu[j] - mean[j]
	}
	return mean
}

// columnMeans is the mean of each column, relative to the first row so that
// equal rows give it exactly.
func columnMeans(rows []float32, d int) []float64 {
	n := len(rows) / d
	sum := make([]float64, d)
	for i := 1; i < n; i++ {
		for j, x := range rows[i*d:][:d] {
			sum[j] += float64(x) - float64(rows[j])
		}
	}
	for j := range sum {
		sum[j] = float64(rows[j]) + sum[j]/float64(n)
	}
	return sum
}

// scaledRows is A = centred features / √(n-1) in float64, [n,d]: AᵀA = Σ.
func (s *Stats) scaledRows(w *cpu.Worker) []float64 {
	d := s.Dim()
	mean := columnMeans(s.Features, d)
	f := 1 / math.Sqrt(float64(s.N-1))
	a := make([]float64, len(s.Features))
	each(w, s.N, func(i int) {
		for j, x := range s.Features[i*d:][:d] {
			a[i*d+j] = (float64(x) - mean[j]) * f
		}
	})
	return a
}

// each runs f(i) for i of 0..n-1 on w, or in chunks over all workers when w is nil.
func each(w *cpu.Worker, n int, f func(i int)) {
	if w != nil || n < 64 {
		for i := range n {
			f(i)
		}
		return
	}
	const chunk = 32
	cpu.Each((n+chunk-1)/chunk, func(_ *cpu.Worker, c int) {
		for i := c * chunk; i < min((c+1)*chunk, n); i++ {
			f(i)
		}
	})
}

package fid

import (
	"fmt"
	"slices"

	"github.com/fidlab/fidlab/internal/cpu"
)

// The further vectors that metrics may need beside the features.
const (
	PartLogits  = "logits"  // a classifier's answers before the softmax
	PartSpatial = "spatial" // a part of a map that keeps its places: sFID's
)

// Part is further vectors that an extractor makes in the same pass.
type Part struct {
	Name string
	Dim  int
}

// PartExtractor is an Extractor whose rows hold further vectors: Features writes
// Info().Dim values for each image, then those of each part.
type PartExtractor interface {
	Extractor
	Parts() []Part
}

// partsOf are the parts of an extractor, none for most.
func partsOf(ex Extractor) []Part {
	if p, ok := ex.(PartExtractor); ok {
		return p.Parts()
	}
	return nil
}

// rowOf is how many values an extractor writes for an image.
func rowOf(ex Extractor) int {
	d := ex.Info().Dim
	for _, p := range partsOf(ex) {
		d += p.Dim
	}
	return d
}

// splitter gathers features and parts of an extractor's rows apart.
type splitter struct {
	dims  []int
	into  []*gatherer
	parts []Part
	buf   [][]float32
}

func newSplitter(ex Extractor, keep bool, bytes int64) *splitter {
	s := &splitter{dims: []int{ex.Info().Dim}, into: []*gatherer{newGatherer(ex.Info().Dim, keep, bytes)}, parts: partsOf(ex)}
	for _, p := range s.parts {
		s.dims = append(s.dims, p.Dim)
		// A classifier's answers have no mean to speak of: all are kept.
		s.into = append(s.into, newGatherer(p.Dim, keep || p.Name == PartLogits, max(bytes, partBytes)))
	}
	s.buf = make([][]float32, len(s.dims))
	return s
}

// partBytes is what a part that is kept may take: 130,000 answers of 1008 classes.
const partBytes = 512 << 20

func (s *splitter) add(w *cpu.Worker, rows []float32) error {
	if len(s.dims) == 1 {
		return s.into[0].add(w, rows)
	}
	total := 0
	for _, d := range s.dims {
		total += d
	}
	n, from := len(rows)/total, 0
	for k, d := range s.dims {
		s.buf[k] = slices.Grow(s.buf[k][:0], n*d)[:n*d]
		for i := range n {
			copy(s.buf[k][i*d:(i+1)*d], rows[i*total+from:])
		}
		from += d
		if err := s.into[k].add(w, s.buf[k]); err != nil {
			if k > 0 {
				return fmt.Errorf("%s: %w", s.parts[k-1].Name, err)
			}
			return err
		}
	}
	return nil
}

// stats are the features' statistics, with those of the parts.
func (s *splitter) stats() *Stats {
	out := s.into[0].stats()
	for k, p := range s.parts {
		if out.Parts == nil {
			out.Parts = map[string]*Stats{}
		}
		out.Parts[p.Name] = s.into[k+1].stats()
	}
	return out
}

// computeSFID is sFID (Nash et al. 2021, in ADM's form): the Fréchet distance of
// the first 7 channels of the block Mixed_6d, at all 17×17 places; in pyiqa's form of the block Mixed_6a.
func computeSFID(c *comparison) (Value, []string, error) {
	p, q := c.ref.Parts[PartSpatial], c.gen.Parts[PartSpatial]
	for i, s := range []*Stats{p, q} {
		if s == nil {
			return nil, nil, badInput("%s: sfid needs maps of the Inception network: give pictures, with --features inception, or statistics with mu_s and sigma_s", sides[i])
		}
	}
	d, err := Frechet(p, q)
	if err != nil {
		return nil, nil, err
	}
	var notes []string
	for _, n := range d.Notes {
		notes = append(notes, "sfid: "+n)
	}
	return SFIDValue{d.Value, d.MeanTerm, d.CovTerm}, notes, nil
}

// SFIDValue is the outcome of "sfid".
type SFIDValue struct {
	Value    float64 `json:"value"`
	MeanTerm float64 `json:"mean_term"`
	CovTerm  float64 `json:"cov_term"`
}

// Number is the distance.
func (v SFIDValue) Number() float64 { return v.Value }

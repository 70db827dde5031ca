package fid

import (
	"fmt"

	"github.com/fidlab/fidlab/tensor"
)

// The members of a spectrum beside mu, sigma, n and the provenance; class_… has
// the same of every class.
const (
	keyValues  = "eigenvalues"  // [r], falling
	keyVectors = "eigenvectors" // [r,d]
	keyRest    = "eigenrest"    // one number
	keyLabels  = "class_labels" // [c]
	keyShape   = "shape"        // of a picture
	keyRange   = "range"        // [2]
	ofClass    = "class_"
)

// WriteSpectrum writes s to path as an .npz archive: mu, n, eigenvalues,
// eigenvectors and eigenrest; sigma where there is one, so that whoever reads
// statistics reads this; class_labels, class_n, class_mu and so on of its classes;
// shape, range and provenance. An existing file is refused unless
// tensor.Overwrite is given.
func WriteSpectrum(path string, s *Spectrum, opt ...tensor.FileOption) error {
	d, r := len(s.Mu), len(s.Values)
	entries := []tensor.NPZEntry{{Name: keyMu, Array: tensor.FromF64(s.Mu, d)}}
	if s.Sigma != nil {
		entries = append(entries, tensor.NPZEntry{Name: keySigma, Array: tensor.FromF64(s.Sigma, d, d)})
	}
	entries = append(entries,
		tensor.NPZEntry{Name: keyN, Array: tensor.FromI64([]int64{int64(s.N)})},
		tensor.NPZEntry{Name: keyValues, Array: tensor.FromF64(s.Values, r)},
		tensor.NPZEntry{Name: keyVectors, Array: tensor.FromF64(s.Vectors, r, d)},
		tensor.NPZEntry{Name: keyRest, Array: tensor.FromF64([]float64{s.Rest}, 1)},
	)
	if c := len(s.Classes); c > 0 {
		var labels, n []int64
		var mu, values, vectors, rest []float64
		for _, k := range s.Classes {
			labels, n = append(labels, int64(k.Label)), append(n, int64(k.N))
			mu, values, vectors, rest = append(mu, k.Mu...), append(values, k.Values...), append(vectors, k.Vectors...), append(rest, k.Rest)
		}
		entries = append(entries,
			tensor.NPZEntry{Name: keyLabels, Array: tensor.FromI64(labels, c)},
			tensor.NPZEntry{Name: ofClass + keyN, Array: tensor.FromI64(n, c)},
			tensor.NPZEntry{Name: ofClass + keyMu, Array: tensor.FromF64(mu, c, d)},
			tensor.NPZEntry{Name: ofClass + keyValues, Array: tensor.FromF64(values, c, r)},
			tensor.NPZEntry{Name: ofClass + keyVectors, Array: tensor.FromF64(vectors, c, r, d)},
			tensor.NPZEntry{Name: ofClass + keyRest, Array: tensor.FromF64(rest, c)},
		)
	}
	if s.Shape != nil {
		shape := make([]int64, len(s.Shape))
		for i, v := range s.Shape {
			shape[i] = int64(v)
		}
		entries = append(entries, tensor.NPZEntry{Name: keyShape, Array: tensor.FromI64(shape, len(shape))})
	}
	if s.Range[0] < s.Range[1] {
		entries = append(entries, tensor.NPZEntry{Name: keyRange, Array: tensor.FromF64(s.Range[:], 2)})
	}
	if s.Provenance != nil {
		p, err := s.Provenance.entry()
		if err != nil {
			return err
		}
		entries = append(entries, p)
	}
	return tensor.WriteNPZ(path, entries, false, opt...)
}

// ReadSpectrum reads what WriteSpectrum has written, without sigma, of which it
// keeps the rank leading pairs, 0 for all there are; the variances of those
// dropped go into Rest. Of other statistics, an archive with mu and sigma alone,
// it makes the pairs, 0 for 256 or all dimensions.
func ReadSpectrum(path string, rank int) (*Spectrum, error) {
	z, err := tensor.OpenNPZ(path)
	if err != nil {
		return nil, &BadInputError{fmt.Errorf("fid: %w", err)}
	}
	defer z.Close()
	if !z.Has(keyValues) {
		return spectrumOf(path, rank)
	}
	r := spectrumReader{z: z}
	s := &Spectrum{}
	s.Mu = r.floats(keyMu, -1)
	d := len(s.Mu)
	s.Values = r.floats(keyValues, -1)
	all := len(s.Values)
	s.Vectors = r.floats(keyVectors, all, d)
	s.Rest = r.number(keyRest)
	s.N = r.whole(keyN)
	if z.Has(keyLabels) {
		labels := r.floats(keyLabels, -1)
		c := len(labels)
		n, mu := r.floats(ofClass+keyN, c), r.floats(ofClass+keyMu, c, d)
		values, vectors, rest := r.floats(ofClass+keyValues, c, all), r.floats(ofClass+keyVectors, c, all, d), r.floats(ofClass+keyRest, c)
		for i := 0; i < c && r.err == nil; i++ {
			s.Classes = append(s.Classes, ClassLowRank{int(labels[i]), LowRank{int(n[i]), mu[i*d:][:d], values[i*all:][:all], vectors[i*all*d:][:all*d], rest[i]}})
		}
	}
	if z.Has(keyShape) {
		for _, v := range r.floats(keyShape, -1) {
			s.Shape = append(s.Shape, int(v))
		}
	}
	if z.Has(keyRange) {
		copy(s.Range[:], r.floats(keyRange, 2))
	}
	if r.err != nil {
		return nil, r.err
	}
	if p, err := readProvenance(z); err != nil {
		return nil, err
	} else if p != nil {
		s.Provenance = p
	}
	if err := s.cut(path, rank); err != nil {
		return nil, err
	}
	return s, nil
}

// spectrumOf makes the pairs of statistics that have none.
func spectrumOf(path string, rank int) (*Spectrum, error) {
	st, err := ReadStats(path)
	if err != nil {
		return nil, err
	}
	if rank == 0 {
		rank = min(st.Dim(), defaultRank)
	}
	if rank < 1 || rank > st.Dim() {
		return nil, badInput("%s: rank %d of %d dimensions; want 1 to %d", path, rank, st.Dim(), st.Dim())
	}
	low, err := leading(st.N, st.Mu, st.Covariance(), rank)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return &Spectrum{LowRank: low, Provenance: st.Provenance}, nil
}

// cut keeps the rank leading pairs, and refuses numbers that are no statistics.
func (s *Spectrum) cut(path string, rank int) error {
	all := len(s.Values)
	if rank == 0 {
		rank = all
	}
	if rank < 1 || rank > all {
		return badInput("%s: rank %d of the %d pairs that are there; want 1 to %d, or statistics of a higher rank", path, rank, all, all)
	}
	lows := []*LowRank{&s.LowRank}
	for i := range s.Classes {
		if s.Classes[i].Label < 0 {
			return badInput("%s: class label %d; want 0 or more", path, s.Classes[i].Label)
		}
		lows = append(lows, &s.Classes[i].LowRank)
	}
	for _, l := range lows {
		if err := l.check(path); err != nil {
			return err
		}
		d := len(l.Mu)
		sum := l.Rest * float64(d-all)
		for _, v := range l.Values[rank:] {
			sum += v
		}
		if d > rank {
			l.Rest = sum / float64(d-rank)
		}
		l.Values, l.Vectors = l.Values[:rank], l.Vectors[:rank*d]
	}
	return nil
}

// check refuses numbers that are not finite, and negative variances beyond rounding.
func (l *LowRank) check(path string) error {
	for _, list := range [][]float64{l.Mu, l.Values, l.Vectors, {l.Rest}} {
		for i, v := range list {
			if v-v != 0 {
				return numeric("%s: value %d of the mean or of the eigenpairs is %g; every value must be finite", path, i, v)
			}
		}
	}
	largest := 0.0
	for _, v := range l.Values {
		largest = max(largest, v)
	}
	for i, v := range append(l.Values[:len(l.Values):len(l.Values)], l.Rest) {
		if v < -1e-6*largest {
			return numeric("%s: eigenvalue %d is %g beside the largest of %g; no variance is negative", path, i, v, largest)
		}
	}
	return nil
}

// spectrumReader reads members of known shapes until one fails.
type spectrumReader struct {
	z   *tensor.NPZ
	err error
}

// floats is a member of that shape, -1 for any.
func (r *spectrumReader) floats(name string, shape ...int) []float64 {
	if r.err != nil {
		return nil
	}
	a, err := readArray(r.z, name, func(got []int) bool {
		if len(got) != len(shape) {
			return false
		}
		values := 1
		for i, n := range got {
			if n < 1 || shape[i] >= 0 && n != shape[i] || values > maxSpectrumValues/n {
				return false
			}
			values *= n
		}
		return true
	}, fmt.Sprintf("%v, -1 for any", shape))
	if err != nil {
		r.err = err
		return nil
	}
	return a.F64()
}

// maxSpectrumValues bounds a member: 2 GiB of float64.
const maxSpectrumValues = 1 << 28

func (r *spectrumReader) number(name string) float64 {
	if v := r.floats(name, 1); v != nil {
		return v[0]
	}
	return 0
}

func (r *spectrumReader) whole(name string) int {
	if r.err != nil {
		return 0
	}
	a, err := readArray(r.z, name, func(shape []int) bool { return product(shape) == 1 }, "one number")
	if err != nil {
		r.err = err
		return 0
	}
	n, err := wholeNumber(r.z.Path(), name, a.F64()[0])
	r.err = err
	return n
}

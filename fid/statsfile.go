package fid

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/fidlab/fidlab/tensor"
)

// The members of a statistics archive. pytorch-fid, clean-fid, EDM and ADM
// write the first two; ADM adds mu_s and sigma_s, of sFID's map.
const (
	keyMu         = "mu"
	keySigma      = "sigma"
	keySpatialMu  = "mu_s"
	keySpatial    = "sigma_s"
	keyN          = "n"
	keyProvenance = "provenance" // JSON as uint8

	keySpatialFeatures = "features_s"
	keyFeatures        = "features" // float32 [n,d], centred
)

// maxProvenance bounds the JSON that is read from a file.
const maxProvenance = 1 << 20

// ReadStats reads an .npz archive with mu and sigma: pytorch-fid's, clean-fid's
// (float32 mu), EDM's, ADM's, or one written by WriteStats; or a pickle of
// EDM2's or stylegan2-ada-pytorch's. mu may be [d] or [1,d], of any real dtype
// and byte order; other members are ignored. Files that are not that are a
// BadInputError, meaningless values a NumericError.
func ReadStats(path string) (*Stats, error) {
	s, err := readStats(path)
	if err != nil {
		return nil, err
	}
	if err := s.check(path); err != nil {
		return nil, err
	}
	for _, p := range s.Parts {
		if err := p.check(path + ": mu_s and sigma_s"); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func readStats(path string) (*Stats, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, &BadInputError{fmt.Errorf("fid: %w", err)}
	}
	var head [2]byte
	_, err = io.ReadFull(f, head[:])
	f.Close()
	if err != nil {
		return nil, badInput("%s: too short for statistics: %w", path, err)
	}
	if head[0] == 0x80 { // every pickle since protocol 2
		return readPickle(path)
	}
	z, err := tensor.OpenNPZ(path)
	if err != nil {
		return nil, &BadInputError{err}
	}
	defer z.Close()
	return readNPZ(z)
}

func readNPZ(z *tensor.NPZ) (*Stats, error) {
	if !z.Has(keyMu) || !z.Has(keySigma) {
		return nil, badInput("%s: statistics need the arrays mu and sigma; it has %q", z.Path(), z.Names())
	}
	s, err := readMoments(z, keyMu, keySigma)
	if err != nil {
		return nil, err
	}
	if z.Has(keyN) {
		n, err := readArray(z, keyN, func(shape []int) bool { return product(shape) == 1 }, "one number")
		if err != nil {
			return nil, err
		}
		if s.N, err = wholeNumber(z.Path(), keyN, n.F64()[0]); err != nil {
			return nil, err
		}
	}
	if err := s.readFeatures(z, keyFeatures); err != nil {
		return nil, err
	}
	if z.Has(keySpatialMu) && z.Has(keySpatial) {
		part, err := readMoments(z, keySpatialMu, keySpatial)
		if err != nil {
			return nil, err
		}
		part.N = s.N
		if err := part.readFeatures(z, keySpatialFeatures); err != nil {
			return nil, err
		}
		s.Parts = map[string]*Stats{PartSpatial: part}
	}
	p, err := readProvenance(z)
	if err != nil {
		return nil, err
	}
	s.Provenance = p
	return s, nil
}

// readMoments reads a mean and a covariance.
func readMoments(z *tensor.NPZ, keyMu, keySigma string) (*Stats, error) {
	var shapes [2][]int
	for i, name := range []string{keyMu, keySigma} { // before anything is allocated
		r, err := z.Open(name)
		if err != nil {
			return nil, &BadInputError{err}
		}
		shapes[i] = r.Shape()
		r.Close()
	}
	if err := checkShapes(z.Path(), shapes[0], shapes[1]); err != nil {
		return nil, err
	}
	any := func([]int) bool { return true }
	mu, err := readArray(z, keyMu, any, "")
	if err != nil {
		return nil, err
	}
	sigma, err := readArray(z, keySigma, any, "")
	if err != nil {
		return nil, err
	}
	return &Stats{Mu: mu.F64(), Sigma: sigma.F64()}, nil
}

// readFeatures reads the vectors of statistics where there are some.
func (s *Stats) readFeatures(z *tensor.NPZ, key string) error {
	if !z.Has(key) {
		return nil
	}
	d := s.Dim()
	f, err := readArray(z, key, func(shape []int) bool {
		return len(shape) == 2 && shape[0] == s.N && shape[1] == d
	}, fmt.Sprintf("[%d,%d]", s.N, d))
	if err != nil {
		return err
	}
	s.Features = f.F32()
	if i := notFinite(s.Features); i >= 0 {
		return numeric("%s: feature %d of row %d is %g", z.Path(), i%d, i/d, s.Features[i])
	}
	return nil
}

// centred are the vectors less their mean.
func (s *Stats) centred() *tensor.Array {
	d := s.Dim()
	mean := columnMeans(s.Features, d)
	c := make([]float32, len(s.Features))
	for i, x := range s.Features {
		c[i] = float32(float64(x) - mean[i%d])
	}
	return tensor.FromF32(c, s.N, d)
}

// readProvenance is nil where there is none.
func readProvenance(z *tensor.NPZ) (*Provenance, error) {
	if !z.Has(keyProvenance) {
		return nil, nil
	}
	p, err := readArray(z, keyProvenance, func(shape []int) bool {
		return len(shape) == 1 && shape[0] <= maxProvenance
	}, fmt.Sprintf("at most %d bytes", maxProvenance))
	if err != nil {
		return nil, err
	}
	out := new(Provenance)
	if err := json.Unmarshal(p.Data, out); err != nil || p.DType != tensor.U8 {
		return nil, badInput("%s: the provenance is not JSON in uint8: %v", z.Path(), err)
	}
	return out, nil
}

// readArray reads a member once its shape is right, so that a wrong or huge one
// costs nothing.
func readArray(z *tensor.NPZ, name string, ok func(shape []int) bool, want string) (*tensor.Array, error) {
	r, err := z.Open(name)
	if err != nil {
		return nil, &BadInputError{err}
	}
	defer r.Close()
	if !ok(r.Shape()) {
		return nil, badInput("%s: %s has shape %v; want %s", z.Path(), name, r.Shape(), want)
	}
	a, err := r.ReadAll()
	if err != nil {
		return nil, &BadInputError{fmt.Errorf("%s: %s: %w", z.Path(), name, err)}
	}
	return a, nil
}

func product(shape []int) int {
	n := 1
	for _, d := range shape {
		n *= d
	}
	return n
}

func notFinite(x []float32) int {
	for i, v := range x {
		if v-v != 0 {
			return i
		}
	}
	return -1
}

// WriteStats writes s to path as an .npz archive that pytorch-fid and its
// relatives read: mu and sigma in float64, n, the provenance, and the centred
// features in float32 when they are no more than d, so that the accurate route
// survives; sFID's map likewise, as ADM names it. The same statistics give the same bytes. An existing file is
// refused unless tensor.Overwrite is given.
func WriteStats(path string, s *Stats, opt ...tensor.FileOption) error {
	d := s.Dim()
	entries := []tensor.NPZEntry{
		{Name: keyMu, Array: tensor.FromF64(s.Mu, d)},
		{Name: keySigma, Array: tensor.FromF64(s.Covariance(), d, d)},
	}
	if s.N > 0 {
		entries = append(entries, tensor.NPZEntry{Name: keyN, Array: tensor.FromI64([]int64{int64(s.N)})})
	}
	if s.Provenance != nil {
		p, err := s.Provenance.entry()
		if err != nil {
			return err
		}
		entries = append(entries, p)
	}
	if s.lowRank() {
		entries = append(entries, tensor.NPZEntry{Name: keyFeatures, Array: s.centred()})
	}
	if p := s.Parts[PartSpatial]; p != nil {
		k := p.Dim()
		entries = append(entries, tensor.NPZEntry{Name: keySpatialMu, Array: tensor.FromF64(p.Mu, k)},
			tensor.NPZEntry{Name: keySpatial, Array: tensor.FromF64(p.Covariance(), k, k)})
		if p.lowRank() {
			entries = append(entries, tensor.NPZEntry{Name: keySpatialFeatures, Array: p.centred()})
		}
	}
	return tensor.WriteNPZ(path, entries, false, opt...)
}

// entry is the provenance as an archive's member.
func (p *Provenance) entry() (tensor.NPZEntry, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(p)
	return tensor.NPZEntry{Name: keyProvenance, Array: tensor.FromU8(b.Bytes(), b.Len())}, err
}

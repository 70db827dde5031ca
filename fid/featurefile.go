package fid

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/fidlab/fidlab/tensor"
)

// ReadFeatures makes the statistics of an .npy file of feature vectors, [n,d]
// of any real dtype, reading it row by row. The vectors are kept (in float32)
// while they are no more than d or, where keep is set, take no more than bytes
// (0: DefaultFeatureBytes).
func ReadFeatures(path string, keep bool, bytes int64) (*Stats, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, &BadInputError{fmt.Errorf("fid: %w", err)}
	}
	defer f.Close()
	limit := int64(-1)
	if st, err := f.Stat(); err == nil && st.Mode().IsRegular() {
		limit = st.Size()
	}
	r, err := tensor.NewNPYReader(f, limit)
	if err != nil {
		return nil, &BadInputError{fmt.Errorf("%s: %w", path, err)}
	}
	shape := r.Shape()
	if len(shape) != 2 || shape[0] < 1 || shape[1] < 1 {
		return nil, badInput("%s: shape %v; want feature vectors [n,d]", path, shape)
	}
	if err := checkDim(path, shape[1]); err != nil {
		return nil, err
	}
	if bytes == 0 {
		bytes = DefaultFeatureBytes
	}
	d := shape[1]
	g := newGatherer(d, keep, bytes)
	g.keep.expect(shape[0], d)
	if !fitsF32(r.DType()) {
		g.moments = NewMoments(d) // of more digits than the features that are kept
	}
	const rows = 256
	buf := make([]byte, min(rows, shape[0])*r.RowBytes())
	for {
		n, err := r.ReadRows(rows, buf)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, &BadInputError{fmt.Errorf("%s: %w", path, err)}
		}
		a := &tensor.Array{DType: r.DType(), Shape: []int{n, d}, Data: buf[:n*r.RowBytes()]}
		if err := g.addArray(a); err != nil {
			return nil, &NumericError{fmt.Errorf("%s: %w", path, err)}
		}
	}
	return g.stats(), nil
}

// fitsF32 tells whether every value of the type is a float32.
func fitsF32(t tensor.DType) bool { return t.Size() <= 2 || t == tensor.F32 }

// addArray is add for an array of any type; where moments are summed from the
// start they take all the digits.
func (g *gatherer) addArray(a *tensor.Array) error {
	if fitsF32(a.DType) {
		return g.add(nil, a.F32())
	}
	g.keep.add(a.F32())
	return g.moments.Add64(a.F64())
}

package fid

import (
	"context"
	"fmt"
	"math"

	"github.com/fidlab/fidlab/rng"
)

// Where the extrapolation takes its sizes.
const (
	infinitySizes  = 15
	infinityLeast  = 5000
	infinityStream = 0xf1d << 48
)

// InfinityValue is the outcome of "fid-inf".
type InfinityValue struct {
	Value    float64   `json:"value"`    // at 1/N = 0
	Slope    float64   `json:"slope"`    // by 1/N
	Residual float64   `json:"residual"` // root mean square of the fit
	StdErr   float64   `json:"std_err"`  // of the value, as least squares of independent points have it
	N        []int     `json:"n"`
	FID      []float64 `json:"fid"`
}

// Number is the extrapolated distance.
func (v InfinityValue) Number() float64 { return v.Value }

// computeInfinity extrapolates the Fréchet distance to infinitely many generated
// vectors (Chong and Forsyth 2020): the intercept of a line through FID_N over
// 1/N, for 15 sizes N from 5000 to all, equal steps, each a random part of the
// generated set. A set of less than 50,000 begins at a tenth of it, but with
// more vectors than features where it has them.
func computeInfinity(ctx context.Context, c *comparison) (Value, []string, error) {
	gen := c.gen
	if gen.Features == nil {
		return nil, nil, badInput("%s: fid-inf needs the feature vectors, and there are only statistics; give the images or an .npy of features", sides[1])
	}
	d, n := gen.Dim(), gen.N
	first := min(infinityLeast, n/10)
	if first <= d {
		first = min(d+1, n/2)
	}
	if first < 2 || n < first+infinitySizes {
		return nil, nil, numeric("%s: fid-inf needs more vectors than %d", sides[1], n)
	}
	v, offset := InfinityValue{}, gen.offset()
	var notes []string
	if first <= d {
		notes = append(notes, fmt.Sprintf("fid-inf: its smallest parts have %d vectors of %d features, where the distance is no line over 1/N any more", first, d))
	}
	for i := range infinitySizes {
		if err := ctx.Err(); err != nil {
			return nil, nil, err
		}
		size := first + (n-first)*i/(infinitySizes-1)
		part := gen
		if size < n {
			rows := subset(rng.New(c.opt.Interval.Seed, infinityStream+uint64(i)), n, size)
			var err error
			if part, err = gen.part(rows, offset); err != nil {
				return nil, nil, err
			}
		}
		dist, err := Frechet(c.ref, part)
		if err != nil {
			return nil, nil, err
		}
		v.N, v.FID = append(v.N, size), append(v.FID, dist.Value)
	}
	v.fit()
	return v, notes, nil
}

// fit is the line through the distances over 1/N by least squares.
func (v *InfinityValue) fit() {
	n := float64(len(v.N))
	var mx, my, xx, xy float64
	for i, size := range v.N {
		mx += 1 / float64(size) / n
		my += v.FID[i] / n
	}
	for i, size := range v.N {
		x := 1/float64(size) - mx
		xx += x * x
		xy += x * (v.FID[i] - my)
	}
	v.Slope = xy / xx
	v.Value = my - v.Slope*mx
	residual := make([]float64, len(v.N))
	for i, size := range v.N {
		residual[i] = v.FID[i] - v.Value - v.Slope/float64(size)
	}
	v.Residual = deviation(residual, 0)
	v.StdErr = v.Residual * math.Sqrt(n/(n-2)*(1/n+mx*mx/xx))
}

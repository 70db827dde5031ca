package fid

import (
	"fmt"
	"math"

	"github.com/fidlab/fidlab/tensor"
)

// readPickle reads statistics that NVIDIA's tools pickled: EDM2's dictionary of
// sets by metric ("fid", "fd_dinov2"), of which the first that exists is taken;
// a bare {mu, sigma}; or the sums that stylegan2-ada-pytorch caches. The pickle
// is interpreted, never executed.
func readPickle(path string) (*Stats, error) {
	v, err := tensor.ReadPickle(path)
	if err != nil {
		return nil, &BadInputError{err}
	}
	top, ok := v.(*tensor.Dict)
	if !ok {
		return nil, badInput("%s: the pickle holds %T; want a dictionary of statistics", path, v)
	}
	if top.Get("raw_mean") != nil {
		return readSums(path, top)
	}
	set := top
	for _, key := range []string{"fid", "fd_dinov2"} {
		if d, ok := top.Get(key).(*tensor.Dict); ok {
			set = d
			break
		}
	}
	s, err := pickledMoments(path, set, keyMu, keySigma)
	if err != nil {
		return nil, err
	}
	if top.Get("num_images") != nil {
		if s.N, err = pickledCount(path, top, "num_images"); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// readSums turns Σx and Σxxᵀ into mean and covariance. stylegan2-ada-pytorch
// divides by n; here the covariance is the unbiased one, as everywhere else.
func readSums(path string, top *tensor.Dict) (*Stats, error) {
	s, err := pickledMoments(path, top, "raw_mean", "raw_cov")
	if err != nil {
		return nil, err
	}
	if s.N, err = pickledCount(path, top, "num_items"); err != nil {
		return nil, err
	}
	n := float64(s.N)
	if s.N < 2 {
		return nil, numeric("%s: one vector has no covariance", path)
	}
	for i := range s.Mu {
		s.Mu[i] /= n
	}
	for i, x := range s.Mu {
		for j, y := range s.Mu {
			s.Sigma[i*len(s.Mu)+j] = (s.Sigma[i*len(s.Mu)+j] - n*(x*y)) / (n - 1)
		}
	}
	return s, nil
}

func pickledMoments(path string, d *tensor.Dict, mean, cov string) (*Stats, error) {
	mu, ok1 := d.Get(mean).(*tensor.Array)
	sigma, ok2 := d.Get(cov).(*tensor.Array)
	if !ok1 || !ok2 {
		return nil, badInput("%s: no arrays %s and %s in the pickle; it has the keys %v", path, mean, cov, d.Keys)
	}
	if err := checkShapes(path, mu.Shape, sigma.Shape); err != nil {
		return nil, err
	}
	return &Stats{Mu: mu.F64(), Sigma: sigma.F64()}, nil
}

func pickledCount(path string, d *tensor.Dict, key string) (int, error) {
	switch v := d.Get(key).(type) {
	case int64:
		if v >= 1 {
			return int(v), nil
		}
	case *tensor.Array:
		if v.Len() == 1 {
			return wholeNumber(path, key, v.F64()[0])
		}
	}
	return 0, badInput("%s: %s is %v; want the number of vectors", path, key, d.Get(key))
}

func wholeNumber(path, key string, v float64) (int, error) {
	if v != math.Trunc(v) || v < 1 || v > 1<<53 {
		return 0, badInput("%s: %s is %g; want the number of vectors", path, key, v)
	}
	return int(v), nil
}

// checkShapes refuses a mu that is not [d], [1,d] or [d,1], and a sigma that
// does not belong to it.
func checkShapes(path string, mu, sigma []int) error {
	if !(len(mu) == 1 || len(mu) == 2 && (mu[0] == 1 || mu[1] == 1)) {
		return badInput("%s: mu has shape %v; want [d] or [1,d]", path, mu)
	}
	d := product(mu)
	if d == 0 {
		return badInput("%s: mu is empty", path)
	}
	if !(len(sigma) == 2 && sigma[0] == d && sigma[1] == d || d == 1 && product(sigma) == 1) {
		return badInput("%s: sigma has shape %v; want %s", path, sigma, fmt.Sprintf("[%d,%d], since mu has %d values", d, d, d))
	}
	return nil
}

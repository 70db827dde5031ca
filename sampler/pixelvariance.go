package sampler

import (
	"fmt"
	"math"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/ops"
)

// PixelVariance is the mean unbiased variance of the values of an image of x,
// [n, ...]: TimeShift's v0.
func PixelVariance(x *gpu.Tensor) (float64, error) {
	n := 0
	if s := x.Shape(); len(s) > 0 {
		n = s[0]
	}
	if n == 0 || x.Len() < 2*n {
		return 0, fmt.Errorf("sampler: the variance of images of shape %v; wanted at least one image of at least 2 values", x.Shape())
	}
	v := make([]float64, n)
	ops.RowVariance(v, x)
	if err := x.Device().Err(); err != nil {
		return 0, err
	}
	sum := 0.0
	for i, of := range v {
		if of-of != 0 {
			return 0, fmt.Errorf("sampler: image %d of %d has values that are not finite", i, n)
		}
		sum += of
	}
	return sum / float64(n), nil
}

// PixelVariance is its images' mean variance in closed form. With μ and Σ the mean
// and covariance of all D values in a component, and 1 the vector of ones,
//
//	Σ_k w_k·(tr Σ + |μ|² - (1ᵀΣ1 + (1ᵀμ)²)/D)/(D-1)
func (m *Mixture) PixelVariance() (float64, error) {
	D, d := m.size(), m.d
	if D < 2 {
		return 0, fmt.Errorf("sampler: gmm: images of %d value have no variance; wanted at least 2", D)
	}
	// Of the values: the components' coordinates themselves, or what the basis spans.
	ones, back := make([]float64, d), func(mu []float64) []float64 { return mu }
	for i := range ones {
		ones[i] = 1
	}
	outside := [2]float64{} // tr and 1ᵀΣ1 of the complement
	if m.mean != nil {
		inside := 0.0
		for i := range d {
			ones[i] = 0
			for _, v := range m.basis[i*D : (i+1)*D] {
				ones[i] += v
			}
			inside += ones[i] * ones[i]
		}
		outside = [2]float64{m.residual * float64(D-d), m.residual * (float64(D) - inside)}
		back = func(mu []float64) []float64 {
			x := append([]float64{}, m.mean...)
			for i, z := range mu {
				for j, v := range m.basis[i*D : (i+1)*D] {
					x[j] += z * v
				}
			}
			return x
		}
	}
	total := 0.0
	for k := range m.logw {
		trace, along := outside[0], outside[1]
		for i := range d {
			lambda, dot := m.lambda[k*d+i], ones[i]
			if m.vectors != nil {
				dot = 0
				for j, v := range m.vectors[(k*d+i)*d : (k*d+i+1)*d] {
					dot += v * ones[j]
				}
			}
			trace += lambda
			along += lambda * dot * dot
		}
		sum, squares := 0.0, 0.0
		for _, v := range back(m.means[k*d : (k+1)*d]) {
			sum, squares = sum+v, squares+v*v
		}
		total += math.Exp(m.logw[k]) * (trace + squares - (along+sum*sum)/float64(D)) / float64(D-1)
	}
	return total, nil
}

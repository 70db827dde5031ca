package gaussteleport

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/sampler"
)

// Spectral is a denoiser that is a function of a covariance: mean + gain(λ,
// sigma)·(x/A - mean) along every eigenvector.
type Spectral struct {
	G    *sampler.Gaussian
	Gain func(lambda, sigma float64) float64
}

// Isotropic is the denoiser of the Gaussian of the same mean and total variance
// that looks alike in all directions: σ0² = tr Σ/D, the score (μ-x)/(σ²+σ0²).
func Isotropic(g *sampler.Gaussian) Spectral {
	n := 1
	for _, d := range g.Shape() {
		n *= d
	}
	v := g.Variance() / float64(n)
	return Spectral{g, func(_, sigma float64) float64 { return v / (v + sigma*sigma) }}
}

// Expansion is the Gaussian's denoiser with (Σ+σ²)⁻¹ expanded in Σ/σ² to an order,
// 1 or 2: the score is σ⁻²(1 - Σ/σ² + Σ²/σ⁴)(μ-x), which is the gain λ/σ² - λ²/σ⁴. Below
// the largest deviation of the data it grows without bound.
func Expansion(g *sampler.Gaussian, order int) Spectral {
	return Spectral{g, func(lambda, sigma float64) float64 {
		r := lambda / (sigma * sigma)
		if order == 1 {
			return r
		}
		return r - r*r
	}}
}

// Denoise implements sampler.Denoiser.
func (s Spectral) Denoise(ctx context.Context, out, x *gpu.Tensor, sigma []float64, c sampler.Cond) error {
	return s.DenoiseAt(ctx, out, x, diffusion.VEPoints(sigma), c)
}

// DenoiseAt implements sampler.PointDenoiser for images that are all at one finite level above zero.
func (s Spectral) DenoiseAt(ctx context.Context, out, x *gpu.Tensor, at []diffusion.Point, _ sampler.Cond) error {
	if len(at) == 0 {
		return nil
	}
	p := at[0]
	if p.A == 0 || p.B == 0 || slices.ContainsFunc(at, func(q diffusion.Point) bool { return q.A != p.A || q.B != p.B }) {
		return fmt.Errorf("gaussteleport: levels %v; wanted one finite level above zero for all", at)
	}
	return s.G.Spectral(ctx, out, x, at, 1, func(lambda float64) float64 { return s.Gain(lambda, p.Sigma()) / p.A })
}

// MixtureOptions are those of FitScore.
type MixtureOptions struct {
	Components int
	Dims       int // of the principal subspace of all
	Rank       int // of each component's covariance within it; 0 is Dims
	// Iterations of expectation maximisation after k-means; the paper's comparison has none.
	Iterations int
	Seed       uint64
}

// FitScore is the mixture denoiser of a set by k-means, with covariances of low
// rank: those of the clusters in the principal subspace, cut to their Rank leading
// pairs, and the mean of what was cut elsewhere in it; outside it the variance of
// the whole set.
func FitScore(ctx context.Context, x sampler.Rows, shape []int, o MixtureOptions) (*sampler.Mixture, error) {
	spec, err := sampler.FitMixture(ctx, x, nil, sampler.FitOptions{
		Components: o.Components, Dims: o.Dims, Iterations: o.Iterations, Residual: 1, Pool: 1, Seed: o.Seed,
	}, nil)
	if err != nil {
		return nil, err
	}
	spec.Shape = shape
	if o.Rank > 0 && o.Rank < o.Dims {
		for k, cov := range spec.Covs {
			if spec.Covs[k], err = cut(cov, o.Rank); err != nil {
				return nil, fmt.Errorf("gaussteleport: component %d: %w", k, err)
			}
		}
	}
	return sampler.NewMixture(*spec)
}

// cut is a covariance of the same trace of which all but the rank leading variances are alike.
func cut(cov [][]float64, rank int) ([][]float64, error) {
	d := len(cov)
	flat := gpu.CPU().From64(slices.Concat(cov...), d, d)
	g, err := sampler.NewGaussian(gpu.CPU().Empty64(d), flat, rank, nil)
	if err != nil {
		return nil, err
	}
	// The map x → Σx of the low-rank form, a row at a time.
	id, out := gpu.CPU().Empty64(d, d), gpu.CPU().Empty64(d, d)
	for i := range d {
		id.F64()[i*d+i] = 1
	}
	at := make([]diffusion.Point, d)
	for i := range at {
		at[i] = diffusion.Point{A: 1, B: 1}
	}
	if err := g.Spectral(context.Background(), out, id, at, 1, func(l float64) float64 { return l }); err != nil {
		return nil, err
	}
	rows := make([][]float64, d)
	for i := range rows {
		rows[i] = out.F64()[i*d:][:d]
	}
	for i := range d { // to the last bit
		for j := range i {
			m := (rows[i][j] + rows[j][i]) / 2
			if math.IsNaN(m) {
				return nil, fmt.Errorf("covariance (%d,%d) is not a number", i, j)
			}
			rows[i][j], rows[j][i] = m, m
		}
	}
	return rows, nil
}

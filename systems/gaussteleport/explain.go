package gaussteleport

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/ops"
	"github.com/fidlab/fidlab/rng"
	"github.com/fidlab/fidlab/sampler"
)

// Score is a model of a score, by its denoiser.
type Score struct {
	Name string
	Den  sampler.Denoiser
}

// Share is how much of a denoiser's score a model explains at a noise level: 1 -
// E|s - s_model|²/E|s|² on x = x0 + sigma·n. It is 1 for an equal score, 0 for one
// that says as little as none, and negative for a worse one.
type Share struct {
	Model    string  `json:"model"`
	Sigma    float64 `json:"sigma"`
	Explains float64 `json:"explains"`
	Lo       float64 `json:"lo"` // 95 % interval over samples
	Hi       float64 `json:"hi"`
	// RMS is the root mean square, over values, of the difference of what both say of
	// the clean picture. In many dimensions the score is mostly that of the noise, and a
	// share near 1 may hide a difference that shows in pictures.
	RMS float64 `json:"rms"`
}

// ExplainOptions are those of Explain.
type ExplainOptions struct {
	Sigmas []float64
	Cond   sampler.Cond // of the images
	Seed   uint64       // of the noise, which is the same at every level
	Batch  int          // images at a time; 0 is 64
}

// Explain compares the score of den with those of models at every level, on images
// x0 [N, shape...] in float32 or float64, which should be none that a model was
// made of. With D for a denoised x the score is (D-x)/sigma², so that the share is
// 1 - Σ|D-D_model|²/Σ|D-x|², and its standard error that of a ratio of means. The
// order of the result is that of models within that of levels.
func Explain(ctx context.Context, den sampler.Denoiser, models []Score, x0 *gpu.Tensor, o ExplainOptions) ([]Share, error) {
	N := x0.Shape()[0]
	if o.Batch == 0 {
		o.Batch = 64
	}
	switch {
	case N < 2:
		return nil, fmt.Errorf("gaussteleport: %d images to compare scores on; wanted 2 at least", N)
	case len(models) == 0 || len(o.Sigmas) == 0:
		return nil, fmt.Errorf("gaussteleport: %d models at %d levels; wanted some", len(models), len(o.Sigmas))
	}
	var all []Share
	size := x0.Len() / N
	total, off := make([]float64, N), make([][]float64, len(models))
	for m := range models {
		off[m] = make([]float64, N)
	}
	for _, sigma := range o.Sigmas {
		if !(sigma > 0) || math.IsInf(sigma, 0) {
			return nil, fmt.Errorf("gaussteleport: level %g; wanted finite ones above 0", sigma)
		}
		for lo := 0; lo < N; lo += o.Batch {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			n := min(o.Batch, N-lo)
			images := x0.Rows(lo, lo+n)
			x, said, model := images.Like(), images.Like(), images.Like()
			ops.AddNoise(x, images, []float64{1, sigma}, ops.ImageNoise(o.Seed, uint64(lo), rng.Init))
			c, levels := part(o.Cond, lo, lo+n), make([]float64, n)
			for i := range levels {
				levels[i] = sigma
			}
			if err := den.Denoise(ctx, said, x, levels, c); err != nil {
				return nil, err
			}
			if i, ok := ops.Finite(said); !ok {
				return nil, &sampler.NotFiniteError{Sigma: sigma, Image: lo + i/size}
			}
			squares(total[lo:], said, x, size)
			for m, s := range models {
				if err := s.Den.Denoise(ctx, model, x, levels, c); err != nil {
					return nil, fmt.Errorf("gaussteleport: model %s: %w", s.Name, err)
				}
				squares(off[m][lo:], said, model, size)
			}
		}
		for m, s := range models {
			share := shareOf(off[m], total)
			share.Model, share.Sigma = s.Name, sigma
			for _, v := range off[m] {
				share.RMS += v
			}
			share.RMS = math.Sqrt(share.RMS / float64(x0.Len()))
			all = append(all, share)
		}
	}
	return all, nil
}

// part is the condition of images lo to hi, of those parts that a score may have.
func part(c sampler.Cond, lo, hi int) sampler.Cond {
	if c.Classes != nil {
		c.Classes = c.Classes[lo:hi]
	}
	in := map[string]*gpu.Tensor{}
	for name, t := range c.Inputs {
		in[name] = t.Rows(lo, hi)
	}
	c.Inputs = in
	return c
}

// squares writes |a-b|² of every image.
func squares(out []float64, a, b *gpu.Tensor, size int) {
	for i := range a.Shape()[0] {
		var sum float64
		if a.Double() {
			for j, v := range a.F64()[i*size:][:size] {
				d := v - b.F64()[i*size+j]
				sum += d * d
			}
		} else {
			for j, v := range a.F32()[i*size:][:size] {
				d := float64(v) - float64(b.F32()[i*size+j])
				sum += d * d
			}
		}
		out[i] = sum
	}
}

// shareOf is 1 - Σoff/Σtotal with the interval of a ratio of means.
func shareOf(off, total []float64) Share {
	n := float64(len(off))
	var a, b float64
	for i := range off {
		a, b = a+off[i], b+total[i]
	}
	r := a / b
	var v float64
	for i := range off {
		e := off[i] - r*total[i]
		v += e * e
	}
	half := 1.96 * math.Sqrt(v*n/(n-1)) / b
	return Share{Explains: 1 - r, Lo: 1 - r - half, Hi: 1 - r + half}
}

// Reach is the lowest level from which on up all shares of a model are good, among
// those compared; +Inf where that of the highest is not.
func Reach(all []Share, model string, good func(s Share) bool) float64 {
	reach := math.Inf(1)
	var own []Share
	for _, s := range all {
		if s.Model == model {
			own = append(own, s)
		}
	}
	slices.SortFunc(own, func(a, b Share) int { return cmp.Compare(b.Sigma, a.Sigma) })
	for _, s := range own {
		if !good(s) {
			break
		}
		reach = s.Sigma
	}
	return reach
}

// Deviation is the root of the mean variance of the values of x [N, ...].
func Deviation(x *gpu.Tensor) float64 {
	n := x.Shape()[0]
	size := x.Len() / n
	at := func(i int) float64 {
		if x.Double() {
			return x.F64()[i]
		}
		return float64(x.F32()[i])
	}
	mean, sum := make([]float64, size), 0.0
	for i := range x.Len() {
		mean[i%size] += at(i) / float64(n)
	}
	for i := range x.Len() {
		d := at(i) - mean[i%size]
		sum += d * d
	}
	return math.Sqrt(sum / float64(x.Len()))
}

// Levels are n levels between two, even in their logarithm, falling.
func Levels(hi, lo float64, n int) ([]float64, error) {
	g, err := diffusion.Build(diffusion.VE{Min: lo, Max: hi}, diffusion.Spec{Rule: "exponential", Steps: n - 1, End: diffusion.Keep})
	if err != nil {
		return nil, err
	}
	return g.Sigmas(), nil
}

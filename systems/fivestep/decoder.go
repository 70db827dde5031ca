package fivestep

import (
	"context"
	"fmt"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/imageio"
	"github.com/fidlab/fidlab/internal/cpu"
	"github.com/fidlab/fidlab/sampler"
	"github.com/fidlab/fidlab/systems"
	"github.com/fidlab/fidlab/systems/bases"
)

// latents is the decoder experiment: digits in the principal coordinates of the
// testbed, scaled to a mean deviation of 1 as latents are, and the same digits as
// pictures of 196 values, along the path of Stable Diffusion.
//
// The coordinates are an encoder's means. An encoder that adds noise of deviation
// s to them, as a VAE's does, makes the best decoder in the sense of squares, which
// is what training leads to, the posterior mean E[z|z + s·n], followed by the
// picture of it. For a mixture it is in closed form; so is the best linear one.
type latents struct {
	latent, pixel *task
	bed           *bases.Mixture // the latents' law
	linear        []float64      // best linear decoder of noise decoderNoise: [D, D] on x - mean
}

// decoderNoise is the deviation of the noise that the decoders are made for: the
// level at which the presets for Stable Diffusion 1.5 stop. A choice; that model's
// own encoder adds less (from memory).
const decoderNoise = 0.13

// lastLevels are the noise levels at which arms may stop, or step to zero from.
func lastLevels() []systems.Params { return each("last", 0.05, 0.13, 0.3) }

func newLatents(digits *bases.Mixture) (*latents, error) {
	bed, err := scaled(digits, 2)
	if err != nil {
		return nil, err
	}
	l := &latents{bed: bed}
	law := lawOf(bed)
	law.pictures = func(x *gpu.Tensor, n int) []*imageio.Image { // of the testbed's own scale
		half := x.Like()
		for i, v := range x.F64() {
			half.F64()[i] = v / 2
		}
		return digits.Pictures(half, n)
	}
	if l.latent, err = newTask("latents", law, "vp-scaled"); err != nil {
		return nil, err
	}
	if l.linear, err = wiener(bed, decoderNoise); err != nil {
		return nil, err
	}
	pixels, err := pixelLaw(digits)
	if err != nil {
		return nil, err
	}
	l.pixel, err = newTask("pixels", pixels, "vp-scaled")
	return l, err
}

// scaled is a testbed with all values multiplied by f.
func scaled(m *bases.Mixture, f float64) (*bases.Mixture, error) {
	s := m.Spec
	s.Means, s.Covs = nil, nil
	for k := range m.Spec.Means {
		mean := make([]float64, m.Dims)
		cov := make([][]float64, m.Dims)
		for i, v := range m.Spec.Means[k] {
			mean[i] = f * v
			cov[i] = make([]float64, m.Dims)
			for j, c := range m.Spec.Covs[k][i] {
				cov[i][j] = f * f * c
			}
		}
		s.Means, s.Covs = append(s.Means, mean), append(s.Covs, cov)
	}
	return bases.NewMixture(s)
}

// wiener is the linear decoder of least squares for latents with noise of
// deviation s: z ≈ mean + W·(x - mean), W = C·(C + s²)⁻¹ with C the covariance.
func wiener(bed *bases.Mixture, s float64) ([]float64, error) {
	_, cov := bed.Moments()
	d := bed.Dims
	a, w := append([]float64{}, cov...), append([]float64{}, cov...)
	for i := range d {
		a[i*d+i] += s * s
	}
	if err := cpu.Cholesky64(nil, d, a, d); err != nil {
		return nil, fmt.Errorf("fivestep: covariance of the latents: %w", err)
	}
	// Row i of W solves (C + s²)·w = C's row i, C being symmetric: by L and then by its transpose.
	for i := range d {
		row := w[i*d : (i+1)*d]
		for j := range d {
			for k := range j {
				row[j] -= a[j*d+k] * row[k]
			}
			row[j] /= a[j*d+j]
		}
		for j := d - 1; j >= 0; j-- {
			for k := j + 1; k < d; k++ {
				row[j] -= a[k*d+j] * row[k]
			}
			row[j] /= a[j*d+j]
		}
	}
	return w, nil
}

// pixelLaw is the law of the testbed's pictures in [-1, 1], 196 values that lie in
// 24 dimensions but for the variance of 8-bit rounding.
func pixelLaw(digits *bases.Mixture) (*law, error) {
	mean, basis, scale := digits.Embedding()
	if basis == nil {
		return nil, fmt.Errorf("fivestep: a testbed without pictures; wanted %s", bases.DigitMixture)
	}
	in, err := scaled(digits, 2/scale)
	if err != nil {
		return nil, err
	}
	spec := in.Spec
	const rounding = (2.0 / 255) * (2.0 / 255) / 12
	sub := &sampler.Subspace{Basis: basis, Residual: rounding}
	for _, v := range mean {
		sub.Mean = append(sub.Mean, 2*v-1)
	}
	spec.Subspace = sub
	m, err := sampler.NewMixture(spec)
	if err != nil {
		return nil, err
	}
	// Moments: those in the subspace, carried over, and the rounding's in every direction across.
	D, d := len(mean), in.Dims
	zMean, zCov := in.Moments()
	pm, pc := make([]float64, D), make([]float64, D*D)
	for i := range D {
		pm[i] = sub.Mean[i]
		pc[i*D+i] = rounding
		for a := range d {
			pm[i] += zMean[a] * basis[a][i]
			for j := range D {
				var v float64
				for b := range d {
					c := zCov[a*d+b]
					if a == b {
						c -= rounding
					}
					v += c * basis[b][j]
				}
				pc[i*D+j] += basis[a][i] * v
			}
		}
	}
	for i := range D { // to the last digit
		for j := range i {
			pc[i*D+j] = pc[j*D+i]
		}
	}
	return &law{
		shape: []int{D}, den: func(systems.Params) sampler.Denoiser { return m },
		mean: gpu.CPU().From64(pm, 1, D), cov: gpu.CPU().From64(pc, 1, D, D),
	}, nil
}

// decode is an arm that decodes what it has drawn by the decoder that its settings name.
func (l *latents) decode(ctx context.Context, d systems.Draw) (*systems.Outcome, error) {
	return l.decoded(ctx, l.latent, d)
}

// show is decode with pictures.
func (l *latents) show(ctx context.Context, d systems.Draw) (*systems.Outcome, error) {
	return l.decoded(ctx, l.latent.showing(true), d)
}

func (l *latents) decoded(ctx context.Context, t *task, d systems.Draw) (*systems.Outcome, error) {
	r, err := t.sample(ctx, d, d.Params)
	if err != nil {
		return nil, err
	}
	x := r.X
	switch d.Params.Text("decoder") {
	case "posterior mean":
		if x, err = l.posterior(ctx, x, decoderNoise); err != nil {
			return nil, err
		}
	case "least squares":
		x = l.leastSquares(x)
	}
	return t.outcome(ctx, d, x, float64(r.NFE))
}

// posterior is the mean of the latents given them with noise of deviation s.
func (l *latents) posterior(ctx context.Context, x *gpu.Tensor, s float64) (*gpu.Tensor, error) {
	out, sigma := x.Like(), make([]float64, x.Shape()[0])
	for i := range sigma {
		sigma[i] = s
	}
	return out, l.bed.Denoise(ctx, out, x, sigma, sampler.Cond{})
}

// leastSquares is the linear decoder of decoderNoise.
func (l *latents) leastSquares(x *gpu.Tensor) *gpu.Tensor {
	mean, _ := l.bed.Moments()
	d, out := l.bed.Dims, x.Like()
	for n := range x.Shape()[0] {
		from, to := x.F64()[n*d:(n+1)*d], out.F64()[n*d:(n+1)*d]
		for i := range to {
			to[i] = mean[i]
			for j, v := range from {
				to[i] += l.linear[i*d+j] * (v - mean[j])
			}
		}
	}
	return out
}

// decoders by name and what they are.
var decoders = []struct{ name, text string }{
	{"plain", "the picture of the latents as they are"},
	{"least squares", "the best linear decoder of latents with noise 0.13"},
	{"posterior mean", "the best decoder of latents with noise 0.13"},
}

// decoding compares stopping at a noise level with stepping from it to zero.
func (l *latents) decoding(solver string, steps int, size systems.Size, tier systems.Tier) systems.Experiment {
	base := systems.Params{"solver": solver, "steps": steps, "rule": "last-noise"}
	e := systems.Experiment{
		Name:     fmt.Sprintf("decoder-%s-%d", orders(solver), steps),
		Question: fmt.Sprintf("does a decoder that removes noise make it worth while to stop early, in %d %s steps?", steps, orders(solver)),
		Size:     size, Measures: measures(),
	}
	last := trials(tier, lastLevels())
	var zeros []string
	for _, dec := range decoders {
		for _, end := range []string{"zero", "keep"} {
			a := l.latent.tuned(endName(end)+", "+dec.name, dec.text, settings(base, systems.Params{"end": end, "decoder": dec.name}), last)
			if a.Run = l.decode; solver == "dpm++2m" && steps == 8 {
				a.Run = l.show
			}
			e.Arms = append(e.Arms, a)
		}
		zeros = append(zeros, endName("zero")+", "+dec.name)
	}
	more := l.latent.tuned("to zero, one step more", "an evaluation in place of the decoder's", settings(base, systems.Params{"steps": steps + 1, "end": "zero"}), last)
	e.Arms = append(e.Arms, more)
	kept := "stopped, posterior mean"
	e.Criteria = []systems.Criterion{
		{Name: "decoder", Claim: "with a decoder made for noise, stopping early has at most 0.97 of the distance of stepping to zero", Measure: "fd", Arm: kept, Against: []string{"to zero, posterior mean"}, Bound: 0.97, Expect: 0.75, Spread: 0.06},
		{Name: "linear decoder", Claim: "the same with the best linear decoder", Measure: "fd", Arm: "stopped, least squares", Against: []string{"to zero, least squares"}, Bound: 0.97, Shown: true},
		{Name: "plain decoder", Claim: "with a decoder that removes nothing, stopping early is no better", Measure: "fd", Arm: "stopped, plain", Against: []string{"to zero, plain"}, Bound: 1, AtLeast: true, Shown: true},
		{Name: "against the best to zero", Claim: "stopping early beats stepping to zero with whichever decoder suits that best", Measure: "fd", Arm: kept, Against: zeros, Bound: 1, Shown: true},
		{Name: "error", Claim: "and lies nearer to the exact end", Measure: "error", Arm: kept, Against: zeros, Bound: 1, Shown: true},
		{
			Name: "against a step more", Claim: "the decoder beats another step", Measure: "fd", Arm: kept, Against: []string{more.Name}, Bound: 1, Shown: true,
			Unequal: "a latent model's decoder runs in any case; here the posterior mean costs as much as an evaluation, which the rival gets",
		},
	}
	return e
}

// endName is what a grid's end does, in words.
func endName(end string) string {
	if end == "keep" {
		return "stopped"
	}
	return "to zero"
}

// pixels is the same without a decoder, in pictures: noise stays in all 196
// directions, of which the digits use 24.
func (l *latents) pixels(solver string, steps int, size systems.Size, tier systems.Tier) systems.Experiment {
	base := systems.Params{"solver": solver, "steps": steps, "rule": "last-noise"}
	last := trials(tier, lastLevels())
	size.N = max(size.N/2, 2*len(l.pixel.law.mean.F64())) // samples must outnumber the dimensions
	return systems.Experiment{
		Name:     fmt.Sprintf("pixels-%s-%d", orders(solver), steps),
		Question: fmt.Sprintf("and in pictures, where nothing is decoded, in %d %s steps?", steps, orders(solver)),
		Size:     size, Measures: measures(),
		Arms: []systems.Arm{
			l.pixel.tuned("to zero", "the last step to zero", settings(base, systems.Params{"end": "zero"}), last),
			l.pixel.tuned("stopped", "the noise stays", settings(base, systems.Params{"end": "keep"}), last),
		},
		Criteria: []systems.Criterion{
			{Name: "no decoder", Claim: "in pictures without a decoder stopping early is no better than stepping to zero", Measure: "fd", Arm: "stopped", Against: []string{"to zero"}, Bound: 1, AtLeast: true, Expect: 1.16, Spread: 0.1},
			{Name: "error", Claim: "nor nearer to the exact end", Measure: "error", Arm: "stopped", Against: []string{"to zero"}, Bound: 1, AtLeast: true, Shown: true},
		},
	}
}

// curves are the figure of the final noise level: eight steps, decoded.
func (l *latents) curves(size systems.Size, tier systems.Tier) systems.Experiment {
	values := []float64{0.03, 0.05, 0.08, 0.13, 0.2, 0.3, 0.45}
	if tier == systems.Tiny {
		values = []float64{0.05, 0.3}
	}
	e := systems.Experiment{
		Name: "curves-decoder", Question: "how does the distance depend on the level at which sampling stops?", Size: size, Measures: measures(),
		Sweep: &systems.Sweep{Param: "last", Label: "noise level at which eight steps stop, or from which the last leads to zero", Values: values},
	}
	for _, end := range []string{"keep", "zero"} {
		for _, dec := range decoders {
			s := systems.Params{"solver": "dpm++2m", "steps": 8, "rule": "last-noise", "end": end, "decoder": dec.name}
			e.Arms = append(e.Arms, systems.Arm{Name: endName(end) + ", " + dec.name, Text: dec.text, Set: s, Run: l.decode})
		}
	}
	return e
}

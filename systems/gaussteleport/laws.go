package gaussteleport

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/fid"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/ops"
	"github.com/fidlab/fidlab/sampler"
)

// Rest says what variance a Gaussian of low rank has across its eigenvectors.
type Rest string

// The two that the paper's code knows.
const (
	MeanRest Rest = "mean" // the mean of the variances that were discarded
	ZeroRest Rest = "zero"
)

// GaussianOf is the law of a set's statistics, for samples of a shape.
func GaussianOf(l fid.LowRank, rest Rest, shape []int) (*sampler.Gaussian, error) {
	v := l.Rest
	switch rest {
	case ZeroRest:
		v = 0
	case MeanRest:
	default:
		return nil, fmt.Errorf("gaussteleport: no rest %q; there are mean and zero", rest)
	}
	d := len(l.Mu)
	return sampler.GaussianOf(gpu.CPU().From64(l.Mu, d), gpu.CPU().From64(l.Vectors, len(l.Values), d), l.Values, v, shape)
}

// LawOf is the law of statistics: a Gaussian, and one for each class where there are any.
func LawOf(s *fid.Spectrum, rest Rest, shape []int) (sampler.Law, error) {
	all, err := GaussianOf(s.LowRank, rest, shape)
	if err != nil || s.Classes == nil {
		return all, err
	}
	b := &ByClass{All: all, Of: map[int]*sampler.Gaussian{}}
	for _, c := range s.Classes {
		if b.Of[c.Label], err = GaussianOf(c.LowRank, rest, shape); err != nil {
			return nil, fmt.Errorf("class %d: %w", c.Label, err)
		}
	}
	return b, nil
}

// ByClass is the law of data with classes, a Gaussian each; images without a class
// have the law of all.
type ByClass struct {
	All *sampler.Gaussian
	Of  map[int]*sampler.Gaussian
}

// Serves implements sampler.Law.
func (b *ByClass) Serves(shape []int, c sampler.Cond) error {
	for i, k := range c.Classes {
		if k >= 0 && b.Of[k] == nil {
			return fmt.Errorf("gaussteleport: image %d is of class %d, of which there are no statistics; there are those of %v: fit them with it", i, k, slices.Sorted(maps.Keys(b.Of)))
		}
	}
	return b.All.Serves(shape, c)
}

// each calls f with the rows of each class that occurs, in rising order.
func (b *ByClass) each(n int, c sampler.Cond, f func(g *sampler.Gaussian, rows []int) error) error {
	of := map[int][]int{}
	for i := range n {
		k := -1
		if c.Classes != nil {
			k = max(c.Classes[i], -1)
		}
		of[k] = append(of[k], i)
	}
	for _, k := range slices.Sorted(maps.Keys(of)) {
		g := b.All
		if k >= 0 {
			if g = b.Of[k]; g == nil {
				return fmt.Errorf("gaussteleport: no statistics of class %d", k)
			}
		}
		if err := f(g, of[k]); err != nil {
			return err
		}
	}
	return nil
}

// taken is a copy of the rows of x, which put writes back.
func taken(x *gpu.Tensor, rows []int) *gpu.Tensor {
	out := x.Device().New(x.DType(), append([]int{len(rows)}, x.Shape()[1:]...)...)
	for i, r := range rows {
		out.Rows(i, i+1).Copy(x.Rows(r, r+1))
	}
	return out
}

func put(x, part *gpu.Tensor, rows []int) {
	for i, r := range rows {
		x.Rows(r, r+1).Copy(part.Rows(i, i+1))
	}
}

// Flow implements sampler.Law.
func (b *ByClass) Flow(ctx context.Context, x *gpu.Tensor, from, to diffusion.Point, c sampler.Cond) error {
	return b.each(x.Shape()[0], c, func(g *sampler.Gaussian, rows []int) error {
		part := taken(x, rows)
		if err := g.Flow(ctx, part, from, to, sampler.Cond{}); err != nil {
			return err
		}
		put(x, part, rows)
		return nil
	})
}

// Denoise implements sampler.Denoiser.
func (b *ByClass) Denoise(ctx context.Context, out, x *gpu.Tensor, sigma []float64, c sampler.Cond) error {
	return b.DenoiseAt(ctx, out, x, diffusion.VEPoints(sigma), c)
}

// DenoiseAt implements sampler.PointDenoiser.
func (b *ByClass) DenoiseAt(ctx context.Context, out, x *gpu.Tensor, at []diffusion.Point, c sampler.Cond) error {
	return b.each(len(at), c, func(g *sampler.Gaussian, rows []int) error {
		part, where := taken(x, rows), make([]diffusion.Point, len(rows))
		for i, r := range rows {
			where[i] = at[r]
		}
		said := part.Like()
		if err := g.DenoiseAt(ctx, said, part, where, sampler.Cond{}); err != nil {
			return err
		}
		put(out, said, rows)
		return nil
	})
}

// Integrated is a law of which the exact denoiser is known and the flow is not, a
// mixture of several Gaussians: the flow is integrated, which asks the denoiser
// some hundred times and a network never.
type Integrated struct {
	sampler.PointDenoiser
	Shape []int
	// PerE is how many steps of the classical Runge-Kutta method, four questions
	// each, a fall of sigma by the factor e takes; 0 is 24.
	PerE int
}

// Serves implements sampler.Law.
func (l *Integrated) Serves(shape []int, c sampler.Cond) error {
	if !slices.Equal(shape, l.Shape) {
		return fmt.Errorf("gaussteleport: samples of shape %v; the mixture's have %v", shape, l.Shape)
	}
	m, ok := l.PointDenoiser.(interface{ Labels() []int })
	for i, k := range c.Classes {
		if k >= 0 && !(ok && slices.Contains(m.Labels(), k)) {
			return fmt.Errorf("gaussteleport: image %d is of class %d; the mixture has no component of it", i, k)
		}
	}
	return nil
}

// farSigma is where a flow from pure noise is taken to by a straight step of the
// noise, x = E[x0] + sigma·n: what that leaves out, variance/(2·sigma) per unit of
// noise, has shrunk by to/farSigma on arrival.
const farSigma = 1e4

// Flow implements sampler.Law.
func (l *Integrated) Flow(ctx context.Context, x *gpu.Tensor, from, to diffusion.Point, c sampler.Cond) error {
	if from.B == 0 || to.B == 0 {
		return fmt.Errorf("gaussteleport: a mixture's flow from sigma %g to %g; wanted noise at both ends", from.Sigma(), to.Sigma())
	}
	start := from.Sigma()
	if from.A > 0 {
		ops.LinComb(x, []float64{1 / from.A}, x)
	} else {
		start = farSigma * max(1, to.Sigma())
		mean := x.Like()
		at := make([]diffusion.Point, x.Shape()[0])
		for i := range at {
			at[i] = from
		}
		if err := l.DenoiseAt(ctx, mean, x, at, c); err != nil {
			return err
		}
		ops.LinComb(x, []float64{start / from.B, 1}, x, mean)
	}
	per := l.PerE
	if per == 0 {
		per = 24
	}
	n := max(1, int(math.Ceil(float64(per)*math.Log(start/to.Sigma()))))
	g, err := diffusion.Build(diffusion.VE{Min: to.Sigma(), Max: start}, diffusion.Spec{Rule: "exponential", Steps: n, End: diffusion.Keep})
	if err != nil {
		return err
	}
	e := sampler.NewEval(ctx, l.PointDenoiser, x, c, nil)
	step := sampler.RK4().Start(x)
	for i := range g.Steps {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := step.Step(e, x, g, i); err != nil {
			return err
		}
	}
	if to.A != 1 {
		ops.LinComb(x, []float64{to.A}, x)
	}
	return nil
}

package sampler

import (
	"context"
	"fmt"
	"math"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/ops"
	"github.com/fidlab/fidlab/rng"
)

// LikelihoodOptions say how LogLikelihood goes about it.
type LikelihoodOptions struct {
	// SigmaMin and SigmaMax are where the walk from images to noise starts and
	// ends; 0 is the path's own end, and a thousandth where that is without noise.
	SigmaMin, SigmaMax float64
	RTol, ATol         float64 // of states and of ln p; 0 is 1e-5
	// Probes is how many random directions estimate the trace, each image with its
	// own; 0 takes every direction once, which is exact and costs an image's size.
	Probes int
	Seed   uint64
	First  int  // index of the first image: image i has the same probes in every run of this seed
	Batch  int  // images at a time; default 64
	Cond   Cond // of all images
}

// Likelihood is what LogLikelihood has found of every image.
type Likelihood struct {
	Nats   []float64 // ln p, as a density over the image's values
	StdErr []float64 // of Nats, by the spread of the probes; nil with one probe or the exact trace
	Each   []Count
	size   int
}

// BitsPerDim is -ln p of image i in bits, per value. For images of 256 levels that
// fill [-1, 1] in steps of 1/128, add 7: the density of a whole step is its share.
func (l *Likelihood) BitsPerDim(i int) float64 { return -l.Nats[i] / (math.Ln2 * float64(l.size)) }

// LogLikelihood is ln p of clean images x [N, ...] under the probability flow of
// den, which is that of images with noise SigmaMin (Chen et al. 2018, arXiv
// 1806.07366, theorem 1; Song et al. 2021, arXiv 2011.13456, section 4.3): with
// dy/dτ = (y - D)/τ as Runge-Kutta methods have it,
//
//	ln p(y_0) = ln N(y_T; 0, τ_T²) + ∫ tr(I - ∂D/∂y)/τ dτ,
//
// both integrated by Dormand and Prince's pair. The trace is Hutchinson's
// estimate vᵀ(∂D/∂y)v of one fixed v of values ±1 per probe, derivatives as
// tangent takes them. That the noise's end is the normal distribution of its
// variance neglects the data's mean m and variance there: exact on a flow path to
// τ = 1, else off by about m·y_T/σ² at σ = SigmaMax.
func LogLikelihood(ctx context.Context, den Denoiser, path diffusion.Path, x *gpu.Tensor, o LikelihoodOptions) (*Likelihood, error) {
	from, to, err := o.check(path, x)
	if err != nil {
		return nil, err
	}
	g := &diffusion.Grid{Name: "likelihood", Space: path.Space(), Steps: []diffusion.Step{{From: to, To: from}}}
	if err := checkGrid(den, g); err != nil {
		return nil, err
	}
	n := x.Shape()[0]
	l := &Likelihood{size: x.Len() / n}
	for lo := 0; lo < n; lo += o.Batch {
		hi := min(n, lo+o.Batch)
		b := newLikelihoodBatch(x.Rows(lo, hi), &o, o.First+lo)
		e := NewEval(ctx, den, b.x, Cond{}, nil)
		e.begin(o.First+lo, lo, o.Cond.of(lo, hi))
		tellStep(den, g, 0)
		if err := b.walk(e, path.Space(), from, to); err != nil {
			return nil, err
		}
		if err := b.report(l, e, path.Space(), from, to); err != nil {
			return nil, err
		}
	}
	return l, nil
}

// check fills in defaults and finds the ends.
func (o *LikelihoodOptions) check(path diffusion.Path, x *gpu.Tensor) (from, to diffusion.Point, err error) {
	refuse := func(format string, args ...any) (diffusion.Point, diffusion.Point, error) {
		return from, to, fmt.Errorf("sampler: likelihood: "+format, args...)
	}
	if s := x.Shape(); len(s) < 2 || x.Len() == 0 {
		return refuse("images of shape %v; wanted [N, ...], not empty", s)
	}
	if i, ok := ops.Finite(x); !ok {
		return refuse("the images are not finite at element %d", i)
	}
	if o.Batch == 0 {
		o.Batch = 64
	}
	if n := x.Shape()[0]; o.Cond.Classes != nil && len(o.Cond.Classes) != n {
		return refuse("%d classes for %d images; wanted one each", len(o.Cond.Classes), n)
	}
	if o.Probes < 0 || o.Batch < 0 || o.First < 0 {
		return refuse("%d probes, batches of %d, first image %d; wanted none below 0", o.Probes, o.Batch, o.First)
	}
	for _, tol := range []*float64{&o.RTol, &o.ATol} {
		if *tol == 0 {
			*tol = 1e-5
		}
		if !(*tol > 0 && *tol < 1) {
			return refuse("tolerance %g; wanted more than 0 and less than 1", *tol)
		}
	}
	most, least := path.Range()
	from, to = diffusion.AtTime(path, least), diffusion.AtTime(path, most)
	if from.B == 0 {
		from = diffusion.At(path, 1e-3)
	}
	if o.SigmaMin != 0 {
		from = diffusion.At(path, o.SigmaMin)
	}
	if o.SigmaMax != 0 {
		to = diffusion.At(path, o.SigmaMax)
	}
	if !(from.Sigma() > 0 && from.Sigma() < to.Sigma()) {
		return refuse("from sigma %g to %g; wanted a rise from above 0", from.Sigma(), to.Sigma())
	}
	if to.A == 0 && path.Space() != diffusion.FlowSpace {
		return refuse("path %s ends at infinite sigma, where the walk in sigma never comes; give SigmaMax", path.Name())
	}
	return from, to, nil
}

// likelihoodBatch is one batch on its way.
type likelihoodBatch struct {
	x      *gpu.Tensor   // states
	probes []*gpu.Tensor // none for the exact trace
	space  diffusion.Space
	grad   *tangent
	g      *integrator

	in, v, jv *gpu.Tensor // rows of x and of a probe, and J·v
	hv, hj    []float64
}

func newLikelihoodBatch(images *gpu.Tensor, o *LikelihoodOptions, first int) *likelihoodBatch {
	b := &likelihoodBatch{
		x: images.Like(), grad: newTangent(images), g: newIntegrator(images, o.RTol, o.ATol),
		in: images.Like(), v: images.Like(), jv: images.Like(),
		hv: make([]float64, images.Len()), hj: make([]float64, images.Len()),
	}
	b.x.Copy(images)
	n, per := images.Shape()[0], max(o.Probes, 1)
	for k := range o.Probes {
		streams := make([]*rng.Stream, n)
		for i := range streams {
			streams[i] = rng.ForImage(o.Seed, uint64(first+i), rng.Probe)
		}
		size := images.Len() / n
		b.probes = append(b.probes, probe(images, func(i, j int) float32 {
			bit := k*size + j
			return 1 - 2*float32(streams[i].Uint32At(uint64(bit/32))>>(bit%32)&1)
		}))
	}
	b.g.side = &side{per: per, slopes: b.slopes, value: make([]float64, n*per)}
	for j := range b.g.side.q {
		b.g.side.q[j] = make([]float64, n*per)
	}
	return b
}

// probe is a tensor of like's shape whose value j of image i is f(i, j).
func probe(like *gpu.Tensor, f func(i, j int) float32) *gpu.Tensor {
	size := like.Len() / like.Shape()[0]
	v := make([]float32, like.Len())
	for i := range v {
		v[i] = f(i/size, i%size)
	}
	return like.Device().FromAs(like.DType(), v, like.Shape()...)
}

// direction is probe k of the images rows, or the unit vector of value k.
func (b *likelihoodBatch) direction(k int, like *gpu.Tensor, rows []int) *gpu.Tensor {
	if len(b.probes) > 0 {
		return gather(b.v, b.probes[k], rows)
	}
	return probe(like, func(_, j int) float32 {
		if j == k {
			return 1
		}
		return 0
	})
}

// walk takes the images to noise.
func (b *likelihoodBatch) walk(e *Eval, space diffusion.Space, from, to diffusion.Point) error {
	b.space = space
	ops.LinComb(b.x, []float64{from.A}, b.x)
	if err := b.g.start(e, b.x, space, from); err != nil {
		return err
	}
	return b.g.walk(e, b.x, space, from, to)
}

// slopes is tr(I - ∂D/∂y)/τ by each probe, or as a whole.
func (b *likelihoodBatch) slopes(e *Eval, q []float64, u *gpu.Tensor, at []diffusion.Point, rows []int) error {
	per := b.g.side.per
	size := u.Len() / u.Shape()[0]
	for _, r := range rows {
		clear(q[r*per : (r+1)*per])
	}
	in, jv := gather(b.in, u, rows), b.jv.Rows(0, len(rows))
	directions := len(b.probes)
	if directions == 0 {
		directions = size
	}
	for k := range directions {
		v := b.direction(k, in, rows)
		if err := b.grad.along(e, jv, in, v, at, rows); err != nil {
			return err
		}
		if err := v.Read64(b.hv[:v.Len()]); err != nil {
			return err
		}
		if err := jv.Read64(b.hj[:v.Len()]); err != nil {
			return err
		}
		for i, r := range rows {
			dot := 0.0
			for j := i * size; j < (i+1)*size; j++ {
				dot += b.hv[j] * b.hj[j]
			}
			q[r*per+k%per] += dot
		}
	}
	for i, r := range rows {
		s, tau := lineScale(b.space, at[i]), lineTime(b.space, at[i])
		for k := r * per; k < (r+1)*per; k++ {
			q[k] = (float64(size) - s*q[k]) / tau
		}
	}
	return nil
}

// report adds the batch to l.
func (b *likelihoodBatch) report(l *Likelihood, e *Eval, space diffusion.Space, from, to diffusion.Point) error {
	end := make([]float64, b.x.Len())
	if err := b.x.Read64(end); err != nil {
		return err
	}
	per, size := b.g.side.per, float64(l.size)
	for i := range b.g.images {
		sum := 0.0
		for _, v := range end[i*l.size : (i+1)*l.size] {
			sum += v / to.B * (v / to.B)
		}
		nats := -sum/2 - size*(math.Log(2*math.Pi)/2+math.Log(lineTime(space, to)))
		if space == diffusion.FlowSpace {
			nats += size * math.Log(from.A) // of x, at the start A times the image
		}
		mean, spread := meanAndError(b.g.side.value[i*per : (i+1)*per])
		l.Nats = append(l.Nats, nats+mean)
		if per > 1 {
			l.StdErr = append(l.StdErr, spread)
		}
		l.Each = append(l.Each, e.Count(i))
	}
	return nil
}

// meanAndError is the mean of v and its standard error.
func meanAndError(v []float64) (mean, stderr float64) {
	n := float64(len(v))
	for _, x := range v {
		mean += x / n
	}
	for _, x := range v {
		stderr += (x - mean) * (x - mean)
	}
	return mean, math.Sqrt(stderr / (n * max(n-1, 1)))
}

package fivestep

import (
	"context"
	"fmt"
	"math"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/imageio"
	"github.com/fidlab/fidlab/ops"
	"github.com/fidlab/fidlab/sampler"
	"github.com/fidlab/fidlab/systems"
	"github.com/fidlab/fidlab/systems/bases"
)

// law is a distribution whose denoiser is exact.
type law struct {
	shape []int
	// den is the denoiser for an arm's settings, a new one each time where it keeps scratch memory.
	den      func(s systems.Params) sampler.Denoiser
	cond     func(n int) sampler.Cond
	pictures func(x *gpu.Tensor, n int) []*imageio.Image // may be nil
	// mean and cov are the exact moments; nil where they have no closed form, and the
	// exact ends of much noise stand for them.
	mean, cov *gpu.Tensor
	// setting names what of the settings the law itself depends on, "" for nothing.
	setting string
}

func (l *law) options(seed uint64, n int) sampler.Options {
	o := sampler.Options{Seed: seed, N: n, Batch: 512, Shape: l.shape, Double: true}
	if l.cond != nil {
		o.Cond = l.cond(n)
	}
	return o
}

// lawOf is the law of a testbed.
func lawOf(bed *bases.Mixture) *law {
	mean, cov := bed.Moments()
	d := bed.Dims
	return &law{
		shape: []int{d}, den: func(systems.Params) sampler.Denoiser { return bed }, pictures: bed.Pictures,
		mean: gpu.CPU().From64(mean, 1, d), cov: gpu.CPU().From64(cov, 1, d, d),
	}
}

// task is drawing from a law along a path.
type task struct {
	name string // unique: what the exact ends are kept under
	law  *law
	path *diffusion.VP
	show bool // pictures of the first seed
}

// showing is the same task, with pictures if so.
func (t *task) showing(so bool) *task {
	c := *t
	c.show = so
	return &c
}

func newTask(name string, l *law, path string) (*task, error) {
	p, err := diffusion.PathByName(path)
	if err != nil {
		return nil, err
	}
	vp, ok := p.(*diffusion.VP)
	if !ok {
		return nil, fmt.Errorf("fivestep: path %s has no table of noise levels; wanted one that has", path)
	}
	return &task{name: name, law: l, path: vp}, nil
}

// key names what the exact ends depend on beside the noise.
func (t *task) key(s systems.Params) string {
	if t.law.setting == "" {
		return "fivestep " + t.name
	}
	return fmt.Sprintf("fivestep %s %g", t.name, s.Num(t.law.setting))
}

// lowest is the level from which the exact flow steps to zero: far below the
// least deviation of any law here.
const lowest = 1e-4

// exact are the ends, without noise, of the noise of a seed at the path's most
// noise: 50 steps of the classical Runge-Kutta method, equal in ln sigma.
func (t *task) exact(ctx context.Context, env *systems.Env, s systems.Params, seed uint64, n int) (*gpu.Tensor, error) {
	return systems.Memo(env, fmt.Sprintf("%s ends %d %d", t.key(s), seed, n), func() (*gpu.Tensor, error) {
		most, _ := t.path.Range()
		top := t.path.Sigma(most)
		const steps = 50
		fine := diffusion.Spec{Rule: "sigmas"}
		for i := range steps + 1 {
			fine.List = append(fine.List, top*math.Pow(lowest/top, float64(i)/steps))
		}
		g, err := diffusion.Build(diffusion.DefaultVE(), fine)
		if err != nil {
			return nil, err
		}
		r, err := sampler.Run(ctx, t.law.den(s), sampler.RK4(), g, t.law.options(seed, n))
		if err != nil {
			return nil, err
		}
		return r.X, nil
	})
}

// momentSeed is the seed of the noise whose exact ends stand for moments; no
// arm's seed comes near it.
const momentSeed = 1 << 40

// moments are the law's, [1, D] and [1, D, D], or those of four times d's number of exact ends.
func (t *task) moments(ctx context.Context, d systems.Draw) (mean, cov *gpu.Tensor, err error) {
	if t.law.mean != nil {
		return t.law.mean, t.law.cov, nil
	}
	type pair struct{ mean, cov *gpu.Tensor }
	p, err := systems.Memo(d.Env, fmt.Sprintf("%s moments %d", t.key(d.Params), d.N), func() (pair, error) {
		x, err := t.exact(ctx, d.Env, d.Params, momentSeed, 4*d.N)
		if err != nil {
			return pair{}, err
		}
		mean, cov := bases.MomentsOf(x)
		return pair{mean, cov}, nil
	})
	return p.mean, p.cov, err
}

// compare is the Fréchet distance of samples to moments, and their total variance
// over that of the moments.
func compare(mean, cov, x *gpu.Tensor) (fd, variance float64, err error) {
	n := x.Shape()[0]
	d := x.Len() / n
	if n < 2 {
		return 0, 0, fmt.Errorf("fivestep: %d samples to measure; wanted 2 at least", n)
	}
	m, c := bases.MomentsOf(x)
	out := gpu.CPU().Empty64(1)
	if err := ops.Frechet(out, mean, cov, m, c); err != nil {
		return 0, 0, err
	}
	var got, want float64
	for i := range d {
		got += c.F64()[i*d+i]
		want += cov.F64()[i*d+i]
	}
	return out.F64()[0], got / want, nil
}

package pfgmpp

import (
	"context"
	"fmt"
	"math"
	"slices"

	"gonum.org/v1/gonum/stat"

	"github.com/fidlab/fidlab/data/mnist"
	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/ops"
	"github.com/fidlab/fidlab/rng"
	"github.com/fidlab/fidlab/sampler"
	"github.com/fidlab/fidlab/systems"
	"github.com/fidlab/fidlab/systems/bases"
)

// gaussian stands for infinitely many added dimensions, in settings, which are written as JSON.
const gaussian = 0

// kernelOf is the kernel of D added dimensions for data of n values.
func kernelOf(d float64, n int) diffusion.PFGMPP {
	if d == gaussian {
		d = math.Inf(1)
	}
	return diffusion.PFGMPP{N: n, D: d}
}

// exact is the task without training: digits in the testbed's coordinates, whose denoiser under a kernel is known.
type exact struct {
	sizes
	bed       *bases.Mixture
	set       []float32 // [images, dims]
	mean, cov *gpu.Tensor
	grid      *diffusion.Grid
}

func newExact(bed *bases.Mixture, s sizes) (*exact, error) {
	digits, err := mnist.Load(mnist.Train)
	if err != nil {
		return nil, err
	}
	mean, basis, scale := bed.Embedding()
	e := &exact{sizes: s, bed: bed}
	x := gpu.CPU().Empty64(1, s.images, bed.Dims)
	pooled := make([]float64, len(mean))
	for i := range s.images {
		bases.Pool2(pooled, digits.Images[i])
		for k, b := range basis {
			var v float64
			for p, w := range b {
				v += w * (pooled[p] - mean[p])
			}
			e.set = append(e.set, float32(scale*v))
			x.F64()[i*bed.Dims+k] = scale * v
		}
	}
	e.mean, e.cov = gpu.CPU().Empty64(1, bed.Dims), gpu.CPU().Empty64(1, bed.Dims, bed.Dims)
	ops.Covariance(e.cov, e.mean, x, 0) // the set is all that there is: its own covariance
	e.grid, err = diffusion.Build(diffusion.DefaultVE(), diffusion.Spec{Rule: "karras", Steps: 18})
	return e, err
}

// draw draws by Heun's method, disturbed by alpha.
func (e *exact) draw(ctx context.Context, seed uint64, n int, d, alpha float64) (*sampler.Result, error) {
	k := kernelOf(d, e.bed.Dims)
	den, err := sampler.NewDeltaMixture(e.set, []int{e.bed.Dims}, nil, k)
	if err != nil {
		return nil, err
	}
	o := e.bed.Options(seed, n)
	o.Kernel, o.Disturb = k, alpha
	return sampler.Run(ctx, den, sampler.Heun{}, e.grid, o)
}

// robust compares D under the first protocol: noise of alpha times the level before every step.
func (e *exact) robust() systems.Experiment {
	run := func(ctx context.Context, d systems.Draw) (*systems.Outcome, error) {
		out := &systems.Outcome{Values: map[string]float64{}}
		var at [3]float64
		for i, alpha := range []float64{0, 0.1, 0.2} {
			r, err := e.draw(ctx, d.Seed, d.N, d.Params.Num("D"), alpha)
			if err != nil {
				return nil, err
			}
			if at[i], err = bases.FrechetTo(e.mean, e.cov, r.X); err != nil {
				return nil, err
			}
			out.Cost.NFE += float64(r.NFE)
		}
		out.Values["fd"], out.Values["fd 0.1"], out.Values["fd 0.2"], out.Values["rise"] = at[0], at[1], at[2], at[2]/at[0]
		return out, nil
	}
	const nfe = 3 * 35
	x := systems.Experiment{
		Name: "exact", Question: "Does a finite D forgive noise that is added before every step, where the denoiser is exact?",
		Size: systems.Size{N: e.n, Seeds: e.seeds}, TuneBy: "rise",
		Measures: []systems.Measure{
			{Name: "rise", Text: "distance when disturbed by 0.2 of the level, over that when not"},
			{Name: "fd", Text: "Fréchet distance to the digits, not disturbed", Least: 25},
			{Name: "fd 0.1", Text: "that when disturbed by 0.1 of the level"},
			{Name: "fd 0.2", Text: "that when disturbed by 0.2 of the level"},
		},
	}
	x.Arms = append(x.Arms, systems.Arm{
		Name: "the better of D = 32 and D = 128", Text: "as tuning chooses", Run: run, Cost: systems.Cost{NFE: nfe},
		Tune: []systems.Params{{"D": 32.}, {"D": 128.}},
	})
	for _, d := range []float64{8, 32, 128, 2048, gaussian} {
		x.Arms = append(x.Arms, systems.Arm{Name: nameOf(d), Set: systems.Params{"D": d}, Run: run, Cost: systems.Cost{NFE: nfe}})
	}
	x.Criteria = []systems.Criterion{{
		Name: "gentler", Claim: "disturbed by 0.2, the distance rises by at most 0.9 of what it does with infinite D", Measure: "rise", Arm: x.Arms[0].Name,
		Against: []string{nameOf(gaussian)}, Bound: 0.9, Unequal: "diffusion has no D to choose; the arm chooses one of two",
	}}
	for _, d := range []float64{8, 32, 128, 2048} {
		x.Criteria = append(x.Criteria, systems.Criterion{
			Name: "as good at " + nameOf(d), Claim: "not disturbed, the distance is at most 1.15 of that with infinite D", Measure: "fd", Arm: nameOf(d),
			Against: []string{nameOf(gaussian)}, Bound: 1.15, Shown: d == 8, // outside the card's range of useful D for so few dimensions
		})
	}
	return x
}

// curves are the figure: the distance by D, disturbed and not.
func (e *exact) curves(tier systems.Tier) systems.Experiment {
	values := []float64{4, 8, 16, 32, 64, 128, 512, 2048, 16384}
	if tier == systems.Tiny {
		values = []float64{8, 2048}
	}
	x := systems.Experiment{
		Name: "curves", Question: "How does what disturbance costs depend on D?", Size: systems.Size{N: e.n, Seeds: e.sweep},
		Measures: []systems.Measure{{Name: "fd", Text: "Fréchet distance to the digits", Least: 25}},
		Sweep:    &systems.Sweep{Param: "D", Label: "added dimensions D (24 of data)", Values: values},
	}
	for _, alpha := range []float64{0, 0.1, 0.2} {
		x.Arms = append(x.Arms, systems.Arm{
			Name: fmt.Sprintf("disturbed by %g", alpha), Run: func(ctx context.Context, d systems.Draw) (*systems.Outcome, error) {
				r, err := e.draw(ctx, d.Seed, d.N, d.Params.Num("D"), alpha)
				if err != nil {
					return nil, err
				}
				fd, err := bases.FrechetTo(e.mean, e.cov, r.X)
				return &systems.Outcome{Values: map[string]float64{"fd": fd}, Cost: systems.Cost{NFE: float64(r.NFE)}}, err
			},
		})
	}
	return x
}

// alignment is the table of radii: with sigma = r/√D noise is about sigma·√N long, whatever D is, with tails that grow as D falls.
func alignment(tier systems.Tier) systems.Experiment {
	const dims = 24
	n := 20000
	if tier == systems.Tiny {
		n = 200
	}
	x := systems.Experiment{
		Name: "alignment", Question: "How long is the noise at one sigma?", Size: systems.Size{N: n, Seeds: 2},
		Measures: []systems.Measure{
			{Name: "median", Text: "median of |noise|/(sigma·√N), N = 24"},
			{Name: "low", Text: "its quantile 0.05"}, {Name: "high", Text: "its quantile 0.95"},
			{Name: "expected", Text: "root of its mean square by the formula, √(D/(D-2)); 0 where that is infinite"},
		},
	}
	for _, d := range []float64{1, 8, 32, 128, 2048, gaussian} {
		x.Arms = append(x.Arms, systems.Arm{
			Name: nameOf(d), Set: systems.Params{"D": d},
			Run: func(_ context.Context, dr systems.Draw) (*systems.Outcome, error) {
				k := kernelOf(d, dims)
				v, r := make([]float64, dims), make([]float64, dr.N)
				for i := range r {
					k.Prior(v, 1, rng.ForImage(dr.Seed, uint64(i), rng.Init))
					for _, e := range v {
						r[i] += e * e
					}
					r[i] = math.Sqrt(r[i] / dims)
				}
				slices.Sort(r)
				q := func(p float64) float64 { return stat.Quantile(p, stat.LinInterp, r, nil) }
				expected := 1.0
				if d != gaussian {
					if expected = 0; d > 2 {
						expected = math.Sqrt(d / (d - 2))
					}
				}
				return &systems.Outcome{Values: map[string]float64{"low": q(0.05), "median": q(0.5), "high": q(0.95), "expected": expected}}, nil
			},
		})
	}
	return x
}

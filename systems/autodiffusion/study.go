package autodiffusion

import (
	"context"
	"fmt"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/fid"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/sampler"
	"github.com/fidlab/fidlab/sampler/search"
	"github.com/fidlab/fidlab/systems"
	"github.com/fidlab/fidlab/systems/bases"
)

// size is how much a tier searches and draws.
type size struct {
	n, seeds    int // of the test
	samples     int // of a candidate
	evaluations int // of a search, the second ranking apart
	rank        int // candidates ranked again, on four times the samples
	// Of a search over layers too, which has more to find and, as published, fewer
	// samples for each candidate.
	thinSamples, thinEvaluations int
}

var sizes = map[systems.Tier]size{
	systems.Tiny:  {n: 100, seeds: 2, samples: 40, evaluations: 12, rank: 2, thinSamples: 40, thinEvaluations: 24},
	systems.Short: {n: 1000, seeds: 3, samples: 250, evaluations: 110, rank: 10, thinSamples: 120, thinEvaluations: 400},
	systems.Full:  {n: 2000, seeds: 8, samples: 500, evaluations: 260, rank: 10, thinSamples: 250, thinEvaluations: 710},
}

// trials is what a search draws in candidates' worth of samples; arms that are
// tuned get as many trials.
func (z size) trials() int { return z.evaluations + 4*z.rank }

// thin is the size of a search over layers too.
func (z size) thin() size {
	z.samples, z.evaluations = z.thinSamples, z.thinEvaluations
	return z
}

// study is a model on which steps are searched, and the truth it is measured by.
type study struct {
	name   string
	bed    *bases.Mixture // whose exact moments are the reference
	den    sampler.Denoiser
	solver sampler.Solver
	levels *search.Levels
	ref    *fid.Reference
	size   size
	// classes, where not nil, are drawn in turn, under guidance of that weight.
	classes []int
	weight  float64
	unit    bool // starts are unit noise, whatever the first level is
}

// newStudy is DDIM on the digits' mixture with the linear table of 1000 betas.
func newStudy(bed *bases.Mixture, z size) (*study, error) {
	p, err := diffusion.PathByName("vp")
	if err != nil {
		return nil, err
	}
	l, err := search.NewLevels(p, 0)
	if err != nil {
		return nil, err
	}
	mean, cov := bed.Moments()
	ref, err := fid.NewReference(&fid.Stats{Mu: mean, Sigma: cov})
	if err != nil {
		return nil, err
	}
	return &study{name: "digits", bed: bed, den: bed.Mixture, solver: sampler.DDIM{}, levels: l, ref: ref, size: z}, nil
}

// cond draws the study's classes in turn.
func (s *study) cond(n int) sampler.Cond {
	if s.classes == nil {
		return sampler.Cond{}
	}
	c := sampler.Cond{Classes: make([]int, n)}
	for i := range c.Classes {
		c.Classes[i] = s.classes[i%len(s.classes)]
	}
	return c
}

// wrap puts the study's guidance around a denoiser.
func (s *study) wrap(den sampler.Denoiser) (sampler.Denoiser, error) {
	if s.weight == 0 {
		return den, nil
	}
	return &sampler.Guided{Den: den, Weight: s.weight}, nil
}

// The noise of a search is of its own seeds, which no test and no validation has.
const (
	searchNoise = 1 << 40
	rankNoise   = 2 << 40
)

// images is the fitness of a search whose seed is that.
func (s *study) images(seed uint64) *search.Images {
	o := s.bed.Options(seed+searchNoise, s.size.samples)
	o.UnitStart = s.unit
	return &search.Images{Den: s.den, Wrap: s.wrap, Solver: s.solver, Levels: s.levels, Ref: s.ref, Cond: s.cond, Run: o}
}

// settings of a search beside its space.
type settings struct {
	name   string
	o      search.Options
	unrank bool // take the best by the search's own noise
	fresh  bool // give every candidate noise of its own, as the released code does
}

// find searches a space, once for each seed.
func (s *study) find(ctx context.Context, env *systems.Env, seed uint64, space search.Space[search.Choice], what string, set settings) (*search.Outcome[search.Choice], error) {
	key := fmt.Sprintf("autodiffusion %s %s %s %s %g %v %d", s.name, s.solver.Name(), what, set.name, s.weight, s.size, seed)
	return systems.Memo(env, key, func() (*search.Outcome[search.Choice], error) {
		m := s.images(seed)
		fitness := search.Fitness[search.Choice](m.Fitness)
		if set.fresh {
			n := uint64(0)
			fitness = func(ctx context.Context, c search.Choice) (float64, error) {
				n++
				one := s.images(seed + n<<20)
				return one.Fitness(ctx, c)
			}
		}
		set.o.Seed = seed
		set.o.Epochs = 1000
		set.o.Evaluations = s.size.evaluations
		if set.unrank {
			set.o.Evaluations = s.size.trials()
		}
		if s.size.evaluations < 50 { // the tiny tier
			set.o.Population, set.o.Parents = 6, 3
			if set.o.Mutants > 0 { // no random candidates
				set.o.Mutants, set.o.Crosses = 4, 2
			}
		}
		out, err := search.Evolve(ctx, space, fitness, set.o)
		if err != nil || set.unrank {
			return out, err
		}
		held, err := m.Held(seed+rankNoise, 4*s.size.samples)
		if err != nil {
			return nil, err
		}
		return out, search.Rank(ctx, space, out, s.size.rank, held.Fitness, set.o)
	})
}

// draw runs the sampler on a grid and measures what it gives.
func (s *study) draw(ctx context.Context, d systems.Draw, den sampler.Denoiser, g *diffusion.Grid, cost systems.Cost) (*systems.Outcome, error) {
	o := s.bed.Options(d.Seed, d.N)
	o.Cond, o.UnitStart = s.cond(d.N), s.unit
	den, err := s.wrap(den)
	if err != nil {
		return nil, err
	}
	r, err := sampler.Run(ctx, den, s.solver, g, o)
	if err != nil {
		return nil, err
	}
	fd, err := s.bed.Frechet(r.X)
	if err != nil {
		return nil, err
	}
	out := &systems.Outcome{Values: map[string]float64{"fd": fd}, Cost: cost}
	if d.First {
		out.Pictures = s.bed.Pictures(r.X, 10)
	}
	return out, s.exact(ctx, d, r.X, out)
}

// exact adds the error to the exact end of the same noise from the most noise of
// the path, wherever the steps begin; 0 where the study has classes, which the
// exact end has not.
func (s *study) exact(ctx context.Context, d systems.Draw, x *gpu.Tensor, out *systems.Outcome) error {
	if s.classes != nil || s.den != sampler.Denoiser(s.bed.Mixture) {
		return nil
	}
	whole, err := s.levels.Grid([]int{s.levels.Len() - 1})
	if err != nil {
		return err
	}
	end, err := s.bed.Fine(ctx, d.Env, whole, d.Seed, d.N)
	if err != nil {
		return err
	}
	out.Values["error"] = bases.RMSE(x, end)
	return nil
}

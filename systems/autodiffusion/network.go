package autodiffusion

import (
	"context"
	"fmt"
	"math"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/sampler"
	"github.com/fidlab/fidlab/sampler/network"
	"github.com/fidlab/fidlab/sampler/search"
	"github.com/fidlab/fidlab/systems"
	"github.com/fidlab/fidlab/systems/bases"
)

// parts are the claims on trained networks. The U-Net, whose denoiser takes any
// level, is searched on the paper's table of 1000 betas, the transformer on its own
// path, the flow's.
func parts() []systems.Part {
	const text = "four steps of DDIM searched by FID (at most 0.7 of uniform steps), against random search and rules tuned as long; blocks left out of the network"
	return bases.NetworkParts(text, planNetwork)
}

// netSize is how much a tier searches on a network.
type netSize struct {
	samples     int // of a candidate
	evaluations int // of a search, the second ranking apart
	rank        int // candidates ranked again, on four times the samples
}

func (z netSize) trials() int { return z.evaluations + 4*z.rank }

var netSizes = map[systems.Tier]netSize{
	systems.Tiny:  {samples: 16, evaluations: 6, rank: 1},
	systems.Short: {samples: 32, evaluations: 8, rank: 1},
	systems.Full:  {samples: 512, evaluations: 60, rank: 5},
}

// netSteps are those of a search, as the paper's hardest case has them.
const netSteps = 4

// netStudy is a network on which steps are searched.
type netStudy struct {
	*bases.Bench
	netSize
	levels *search.Levels
	flow   bool
	notes  []string
}

func planNetwork(ctx context.Context, env *systems.Env, name string, tier systems.Tier) ([]systems.Experiment, error) {
	s := &netStudy{netSize: netSizes[tier]}
	var err error
	if s.Bench, err = bases.NewBench(ctx, env, name, tier); err != nil {
		return nil, err
	}
	path := s.Net.Path
	if s.flow = path.Space() == diffusion.FlowSpace; !s.flow {
		if path, err = diffusion.PathByName("vp"); err != nil {
			return nil, err
		}
	}
	if s.levels, err = search.NewLevels(path, 0); err != nil {
		return nil, err
	}
	if s.notes, err = s.Notes(ctx); err != nil {
		return nil, err
	}
	out := []systems.Experiment{s.steps(tier)}
	if tier == systems.Short {
		return out, nil
	}
	blocks, err := s.blocks()
	return append(out, blocks), err
}

// images is the fitness of a search whose seed is that.
func (s *netStudy) images(seed uint64, den sampler.Denoiser) *search.Images {
	o := s.Net.Options(seed+searchNoise, s.samples)
	o.Cond = sampler.Cond{}
	return &search.Images{
		Den: den, Solver: sampler.DDIM{}, Levels: s.levels, Ref: s.Judge.Reference(), Cond: s.Net.Cond, Run: o, Features: s.Judge.Append,
	}
}

// find searches a space, once for each seed.
func (s *netStudy) find(ctx context.Context, env *systems.Env, seed uint64, what string, space search.Space[search.Choice], den sampler.Denoiser, aimless bool) (*search.Outcome[search.Choice], error) {
	key := fmt.Sprintf("autodiffusion %s %s %s %v %+v %d", s.Net.Name, s.Net.Entry.SHA256, what, aimless, s.netSize, seed)
	return systems.Memo(env, key, func() (*search.Outcome[search.Choice], error) {
		m := s.images(seed, den)
		o := search.Options{Seed: seed, Epochs: 1000, Evaluations: s.evaluations, Aimless: aimless}
		if s.evaluations < 50 {
			o.Population, o.Parents = 6, 3
		}
		out, err := search.Evolve(ctx, space, m.Fitness, o)
		if err != nil {
			return nil, err
		}
		held, err := m.Held(seed+rankNoise, 4*s.samples)
		if err != nil {
			return nil, err
		}
		return out, search.Rank(ctx, space, out, s.rank, held.Fitness, o)
	})
}

// cost of k steps of one evaluation each.
func (s *netStudy) cost(k int) systems.Cost {
	return systems.Cost{NFE: float64(k), FLOPs: float64(k) * s.Net.FLOPs}
}

// draw draws along the levels of those numbers.
func (s *netStudy) draw(ctx context.Context, d systems.Draw, den sampler.Denoiser, steps []int) (*systems.Outcome, error) {
	g, err := s.levels.Grid(steps)
	if err != nil {
		return nil, err
	}
	return s.Draw(ctx, d, bases.Way{Solver: sampler.DDIM{}, Grid: g, Den: den})
}

// searched is an arm that searches k steps by itself, anew for each seed.
func (s *netStudy) searched(name, text string, k int, aimless bool) systems.Arm {
	return systems.Arm{
		Name: name, Text: text, Set: systems.Params{"steps": k}, Trials: s.trials(), Cost: s.cost(k),
		Run: func(ctx context.Context, d systems.Draw) (*systems.Outcome, error) {
			found, err := s.find(ctx, d.Env, d.Seed, fmt.Sprint(k), &search.Steps{T: s.levels.Len(), K: k}, s.Net.Denoiser(), aimless)
			if err != nil {
				return nil, err
			}
			out, err := s.draw(ctx, d, nil, found.Best.C.Steps)
			if err == nil && d.First {
				out.Notes = append(out.Notes, fmt.Sprintf("levels %s of %d, FID %.4g in the search", found.Best.Key, s.levels.Len(), found.Best.Fitness))
			}
			return out, err
		},
	}
}

// ruled is an arm on the grid of a rule; trials are the settings that it is tuned over.
func (s *netStudy) ruled(name, text, rule string, trials []systems.Params) systems.Arm {
	return systems.Arm{
		Name: name, Text: text, Set: systems.Params{"rule": rule}, Tune: trials, Cost: s.cost(netSteps),
		Run: func(ctx context.Context, d systems.Draw) (*systems.Outcome, error) {
			p := d.Params
			spec := diffusion.Spec{Rule: p.Text("rule"), Steps: netSteps}
			if p.Has("rho") {
				spec.Rho, spec.SigmaMax, spec.SigmaMin = p.Num("rho"), p.Num("sigma_max"), p.Num("sigma_min")
			}
			if p.Has("shift") {
				spec.Shift = p.Num("shift")
			}
			g, err := diffusion.Build(s.levels.Path, spec)
			if err != nil {
				return nil, err
			}
			return s.Draw(ctx, d, bases.Way{Solver: sampler.DDIM{}, Grid: g})
		},
	}
}

// curves are n settings that the tuned rule may choose from: Karras' curve by its
// exponent and both ends, or the flow's shift.
func (s *netStudy) curves(n int) (out []systems.Params) {
	if s.flow {
		for i := range n { // from a quarter to eight, evenly in the logarithm
			out = append(out, systems.Params{"shift": 0.25 * math.Pow(2, 5*float64(i)/float64(max(n-1, 1)))})
		}
		return out
	}
	for _, hi := range []float64{80, 20, 10, 5, 3} {
		for _, lo := range []float64{0.02, 0.1, 0.3, 0.6} {
			for _, rho := range []float64{7, 3, 1, 12} {
				out = append(out, systems.Params{"rho": rho, "sigma_max": hi, "sigma_min": lo})
			}
		}
	}
	spread := make([]systems.Params, n)
	for i := range spread {
		spread[i] = out[i*(len(out)-1)/max(n-1, 1)]
	}
	return spread
}

// steps is the pass line: four steps against uniform ones, and against what is tuned as long.
func (s *netStudy) steps(tier systems.Tier) systems.Experiment {
	uniform, tuned := "linspace", "karras"
	rules := []string{"leading", "trailing", "quadratic-ddim", "exponential"}
	if s.flow {
		uniform, tuned, rules = "flow", "flow", []string{"quadratic"}
	}
	if tier != systems.Full {
		rules = rules[:1]
	}
	e := systems.Experiment{
		Name: "four-steps-" + s.Net.Name, Question: fmt.Sprintf("Are %d searched steps of DDIM better than uniform ones, and than rules that are tuned as long?", netSteps),
		Size: s.Size, Measures: bases.NetworkMeasures(false), Notes: s.notes,
		Arms: []systems.Arm{
			s.searched("searched", "evolution, ranked again on other noise", netSteps, false),
			s.searched("random", "random search of the same budget, ranked again likewise", netSteps, true),
			s.ruled("uniform", "the rule "+uniform, uniform, nil),
		},
	}
	fixed := []string{"uniform"}
	for _, rule := range rules {
		e.Arms = append(e.Arms, s.ruled(rule, "", rule, nil))
		fixed = append(fixed, rule)
	}
	e.Arms = append(e.Arms, s.ruled("tuned rule", "the rule "+tuned+", its settings tuned", tuned, s.curves(s.trials())))
	const unequal = "rules without settings have nothing to tune"
	e.Criteria = []systems.Criterion{
		{Name: "uniform", Claim: "at most 0.7 of uniform steps", Measure: "fid", Arm: "searched", Against: []string{"uniform"}, Bound: 0.7, Unequal: unequal},
		{Name: "fixed rules", Claim: "better than the best rule without settings", Measure: "fid", Arm: "searched", Against: fixed, Bound: 1, Unequal: unequal, Shown: true},
		{Name: "tuned rule", Claim: "no worse than a rule that is tuned as long", Measure: "fid", Arm: "searched", Against: []string{"tuned rule"}, Bound: 1, Shown: true},
		{Name: "random search", Claim: "random search of equal budget is worse", Measure: "fid", Arm: "random", Against: []string{"searched"}, Bound: 1, AtLeast: true, Shown: true},
	}
	return e
}

// blocks is the second stage: blocks of the network left out, within nine tenths of those of four whole steps.
func (s *netStudy) blocks() (systems.Experiment, error) {
	layered, err := network.NewLayered(s.Net.Net, s.Net.Path, s.Net.Pred, network.Options{Batch: 16})
	if err != nil {
		return systems.Experiment{}, err
	}
	names := layered.Layers()
	most := len(names) * netSteps * 9 / 10
	choose := func(name, text string, choice func(ctx context.Context, d systems.Draw) (search.Choice, error)) systems.Arm {
		return systems.Arm{
			Name: name, Text: text, Trials: s.trials(),
			Run: func(ctx context.Context, d systems.Draw) (*systems.Outcome, error) {
				c, err := choice(ctx, d)
				if err != nil {
					return nil, err
				}
				if c.Skips == nil {
					c.Skips = make([][]int, len(c.Steps))
				}
				den, skipping, err := search.Without(layered, c)
				if err != nil {
					return nil, err
				}
				out, err := s.draw(ctx, d, den, c.Steps)
				if err != nil {
					return nil, err
				}
				ran := float64(skipping.Ran()) / float64(d.N) // as counted where they run
				if ran > float64(most) {
					return nil, fmt.Errorf("autodiffusion: %g blocks ran for a sample, of at most %d", ran, most)
				}
				out.Cost = systems.Cost{} // what is equal is the budget of blocks
				out.Values["blocks"], out.Values["steps"] = ran, float64(len(c.Steps))
				if d.First {
					out.Notes = append(out.Notes, fmt.Sprintf("levels and blocks left out %s", c.Key()))
				}
				return out, nil
			},
		}
	}
	stepsAlone := func(k int) func(ctx context.Context, d systems.Draw) (search.Choice, error) {
		return func(ctx context.Context, d systems.Draw) (search.Choice, error) {
			found, err := s.find(ctx, d.Env, d.Seed, fmt.Sprint(k), &search.Steps{T: s.levels.Len(), K: k}, s.Net.Denoiser(), false)
			if err != nil {
				return search.Choice{}, err
			}
			return found.Best.C, nil
		}
	}
	e := systems.Experiment{
		Name: "blocks-" + s.Net.Name, Question: fmt.Sprintf("Within %d blocks of the network, nine tenths of those of %d steps, do blocks left out pay for a step more?", most, netSteps),
		Size: s.Size, Notes: s.notes,
		Measures: append(bases.NetworkMeasures(false), systems.Measure{Name: "blocks", Text: "blocks that run for a sample, counted"}, systems.Measure{Name: "steps", Text: "steps of the plan", Higher: true}),
		Arms: []systems.Arm{
			choose("both-stages", "steps and blocks searched", func(ctx context.Context, d systems.Draw) (search.Choice, error) {
				space := &search.Layers{T: s.levels.Len(), Names: names, Most: most, MaxSkip: 0.5}
				found, err := s.find(ctx, d.Env, d.Seed, "blocks", space, layered, false)
				if err != nil {
					return search.Choice{}, err
				}
				return found.Best.C, nil
			}),
			choose("truncated", "four searched steps without the one that is missed least on the search's noise", func(ctx context.Context, d systems.Draw) (search.Choice, error) {
				c, err := stepsAlone(netSteps)(ctx, d)
				if err != nil {
					return c, err
				}
				return leastMissed(ctx, s.images(d.Seed, s.Net.Denoiser()), c)
			}),
			choose("fewer-steps", "three steps with all blocks, searched", stepsAlone(netSteps-1)),
		},
		Criteria: []systems.Criterion{
			{Name: "truncated", Claim: "no worse than the steps alone, truncated to the same cost", Measure: "fid", Arm: "both-stages", Against: []string{"truncated"}, Bound: 1},
			{Name: "fewer-steps", Claim: "no worse than steps alone that were searched for their number", Measure: "fid", Arm: "both-stages", Against: []string{"fewer-steps"}, Bound: 1, Shown: true},
		},
	}
	return e, nil
}

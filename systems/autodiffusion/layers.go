package autodiffusion

import (
	"context"
	"fmt"
	"math"

	"github.com/fidlab/fidlab/sampler"
	"github.com/fidlab/fidlab/sampler/search"
	"github.com/fidlab/fidlab/systems"
)

// The second stage: the mixture in 12 layers of two principal directions each,
// six steps of which take 72, and a budget of nine tenths of that. Whole steps do
// not fill it, which alone would favour layers that are left out; so the budget of
// five whole steps, 60, is searched as well.
const (
	layerCount = 12
	thinSteps  = 6
	thinBudget = layerCount * thinSteps * 9 / 10
	wholeSteps = thinBudget / layerCount
	evenBudget = wholeSteps * layerCount
)

// layers is the second stage against steps with all layers at the same cost.
func (s *study) layers() (systems.Experiment, error) {
	block, err := sampler.NewBlockMixture(s.bed.Spec, layerCount)
	if err != nil {
		return systems.Experiment{}, err
	}
	whole := *s // all layers, with as large a search
	whole.size = s.size.thin()
	s = &whole
	thin := whole
	thin.name, thin.den = "blocks", block
	space := func(most int, share float64) *search.Layers {
		return &search.Layers{T: s.levels.Len(), Names: block.Layers(), Most: most, MaxSkip: share}
	}
	choose := func(name, text string, most int, choice func(ctx context.Context, d systems.Draw) (search.Choice, error)) systems.Arm {
		return systems.Arm{
			Name: name, Text: text, Trials: s.size.trials(),
			Run: func(ctx context.Context, d systems.Draw) (*systems.Outcome, error) {
				c, err := choice(ctx, d)
				if err != nil {
					return nil, err
				}
				g, err := s.levels.Grid(c.Steps)
				if err != nil {
					return nil, err
				}
				if c.Skips == nil {
					c.Skips = make([][]int, len(c.Steps))
				}
				den, skipping, err := search.Without(block, c)
				if err != nil {
					return nil, err
				}
				out, err := thin.draw(ctx, d, den, g, systems.Cost{})
				if err != nil {
					return nil, err
				}
				layers := float64(skipping.Ran()) / float64(d.N) // as counted where they run
				if layers > float64(most) {
					return nil, fmt.Errorf("autodiffusion: %g layers ran for a sample, of at most %d", layers, most)
				}
				out.Values["layers"] = layers
				out.Values["steps"] = float64(len(c.Steps))
				if d.First {
					out.Notes = append(out.Notes, fmt.Sprintf("levels and layers left out %s: %d layers run", c.Key(), c.Executed(layerCount)))
				}
				return out, nil
			},
		}
	}
	both := func(most int) func(ctx context.Context, d systems.Draw) (search.Choice, error) {
		return func(ctx context.Context, d systems.Draw) (search.Choice, error) {
			name := fmt.Sprintf("layers %d", most)
			out, err := thin.find(ctx, d.Env, d.Seed, space(most, 0.5), name, settings{name: name})
			if err != nil {
				return search.Choice{}, err
			}
			return out.Best.C, nil
		}
	}
	e := systems.Experiment{
		Name: "layers", Question: "Do layers that are left out pay for a better sampler at an equal number of executed layers?",
		Size:     systems.Size{N: s.size.n, Seeds: s.size.seeds},
		Measures: []systems.Measure{fdMeasure, {Name: "layers", Text: "layers that run for a sample, counted"}, {Name: "steps", Text: "steps of the plan", Higher: true}},
		Arms: []systems.Arm{
			choose("both-stages", fmt.Sprintf("steps and layers searched, at most %d of %d layers", evenBudget, layerCount*thinSteps), evenBudget, both(evenBudget)),
			choose("nine-tenths", fmt.Sprintf("the same with at most %d layers", thinBudget), thinBudget, both(thinBudget)),
			choose("truncated", "six searched steps without the one that is missed least on the search's noise", evenBudget,
				func(ctx context.Context, d systems.Draw) (search.Choice, error) { return s.truncated(ctx, d) }),
			choose("fewer-steps", "as many steps as the budget pays for with all layers, searched", evenBudget,
				func(ctx context.Context, d systems.Draw) (search.Choice, error) {
					out, err := s.find(ctx, d.Env, d.Seed, s.space(wholeSteps), fmt.Sprint(wholeSteps), settings{name: "searched"})
					if err != nil {
						return search.Choice{}, err
					}
					return out.Best.C, nil
				}),
			choose("random-layers", "the steps of both stages, with as many layers of each left out at random", evenBudget,
				func(ctx context.Context, d systems.Draw) (search.Choice, error) {
					c, err := both(evenBudget)(ctx, d)
					return shuffled(c, d.Seed), err
				}),
			choose("all-layers", "six searched steps with all layers: what the budget does not pay for", layerCount*thinSteps,
				func(ctx context.Context, d systems.Draw) (search.Choice, error) {
					out, err := s.find(ctx, d.Env, d.Seed, s.space(thinSteps), fmt.Sprint(thinSteps), settings{name: "searched"})
					if err != nil {
						return search.Choice{}, err
					}
					return out.Best.C, nil
				}),
		},
	}
	e.Criteria = []systems.Criterion{
		{Name: "truncated", Claim: "no worse than the steps alone, truncated to the same cost", Measure: "fd", Arm: "both-stages", Against: []string{"truncated"}, Bound: 1},
		{Name: "nine-tenths", Claim: "the same at nine tenths of six steps' layers, of which five whole steps use a part", Measure: "fd", Arm: "nine-tenths", Against: []string{"truncated"}, Bound: 1},
		{Name: "fewer-steps", Claim: "no worse than steps alone that were searched for that number", Measure: "fd", Arm: "both-stages", Against: []string{"fewer-steps"}, Bound: 1, Shown: true},
		{Name: "which-layers", Claim: "leaving out other layers is worse", Measure: "fd", Arm: "random-layers", Against: []string{"both-stages"}, Bound: 1, AtLeast: true, Shown: true},
		{Name: "all-layers", Claim: "nearly as good as all layers of six steps", Measure: "fd", Arm: "both-stages", Against: []string{"all-layers"}, Bound: 1.1, Shown: true},
	}
	return e, nil
}

// truncated is the searched plan of thinSteps steps without the one whose loss
// the search's own noise shows least.
func (s *study) truncated(ctx context.Context, d systems.Draw) (search.Choice, error) {
	found, err := s.find(ctx, d.Env, d.Seed, s.space(thinSteps), fmt.Sprint(thinSteps), settings{name: "searched"})
	if err != nil {
		return search.Choice{}, err
	}
	return leastMissed(ctx, s.images(d.Seed), found.Best.C)
}

// leastMissed is a choice without the one of its steps whose loss the fitness m shows least.
func leastMissed(ctx context.Context, m *search.Images, whole search.Choice) (search.Choice, error) {
	var best search.Choice
	least := math.Inf(1)
	for i := range whole.Steps {
		c := search.Choice{}
		for j, t := range whole.Steps {
			if j != i {
				c.Steps = append(c.Steps, t)
			}
		}
		v, err := m.Fitness(ctx, c)
		if err != nil {
			return best, err
		}
		if v < least {
			best, least = c, v
		}
	}
	return best, nil
}

package lion

import (
	"context"
	"fmt"

	"github.com/fidlab/fidlab/models"
	"github.com/fidlab/fidlab/models/dit"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/systems"
)

func init() {
	systems.Register(systems.Recipe{
		Number: 15, Name: "lion", Source: "Chen et al. 2023, arXiv 2302.06675",
		Idea: "Write optimisers as programs, search them by evolution from AdamW on, and choose by a funnel of larger tasks. " +
			"What the paper's search found moves every parameter by the sign of a moving mean of gradients: steps of one size, and half of Adam's memory.",
		Headline: "diffusion/distance",
		Remark:   "half of Adam's state, exactly; but with as many tried settings AdamW is ahead with large batches and on both recipes, Lion with small ones; evolution, tuning and random search end level",
		Plan:     plan,
		Figures: []systems.Figure{
			{File: "search", Experiment: "progress", Measure: "fitness", Title: "The best program so far", Y: "% of validation digits right"},
			{File: "loss", Experiment: "curves", Measure: "loss", Title: "Learning to denoise digits", Y: "validation loss", LogY: true},
		},
		Sheets: []string{"diffusion"},
		Open: []string{
			"ViT on ImageNet, CLIP, language models of the paper's size: pre-training there takes thousands of accelerator hours",
			"batches up to 32768: at a fixed number of samples seen there would be no steps left on this scale",
		},
	})
}

// sizes are how much a tier does.
type sizes struct {
	exact      int // steps of the exactness
	evals      int // programs a search trains
	population int
	tournament int
	keep       int // programs that enter the funnel
	shorter    int // what the steps of the search's tasks, and the digits that they are judged by, are divided by
	samples    int // seen by a training of denoising
	dim        int // of the DiT
	layers     int
	held       int     // digits of the validation loss
	points     int     // of its curve
	rates      int     // tuned learning rates, of four
	faster     float64 // what rates are multiplied by where steps are few
	n          int     // samples drawn for a distance
	draws      int     // steps of DDIM
	steps      int     // of a training of the other uses
	seeds      int
}

var tiers = map[systems.Tier]sizes{
	systems.Tiny:  {exact: 50, evals: 12, population: 6, tournament: 2, keep: 3, shorter: 20, samples: 512, dim: 8, layers: 1, held: 32, points: 4, rates: 1, faster: 5, n: 70, draws: 3, steps: 4, seeds: 2},
	systems.Short: {exact: 200, evals: 250, population: 30, tournament: 8, keep: 6, shorter: 4, samples: 8192, dim: 16, layers: 1, held: 512, points: 16, rates: 4, faster: 3, n: 256, draws: 10, steps: 60, seeds: 3},
	systems.Full:  {exact: 1000, evals: 20000, population: 100, tournament: 25, keep: 30, shorter: 1, samples: 1 << 18, dim: 32, layers: 2, held: 1024, points: 32, rates: 4, faster: 1, n: 2048, draws: 20, steps: 600, seeds: 3},
}

// study is the plan of a tier with what its experiments share.
type study struct {
	env  *systems.Env
	tier systems.Tier
	sizes
}

func plan(ctx context.Context, env *systems.Env, tier systems.Tier) ([]systems.Experiment, error) {
	s := &study{env: env, tier: tier, sizes: tiers[tier]}
	small, err := dit.Preset("digits-dit")
	if err != nil {
		return nil, err
	}
	small.Dim, small.Depth, small.Classes = s.dim, s.layers, 0
	d, err := systems.Memo(env, "lion denoising", func() (*denoising, error) {
		d, err := newDenoising(s.held, func(at nn.Scope) models.Net { return dit.New(at, small) })
		if err == nil {
			d.points = s.points
		}
		return d, err
	})
	if err != nil {
		return nil, err
	}
	u, err := systems.Memo(env, "lion uses", func() (*uses, error) { return newUses(min(s.held, 512)) })
	if err != nil {
		return nil, err
	}
	list := []systems.Experiment{s.exactness()}
	list = append(list, s.searches()...)
	list = append(list, s.diffusion("diffusion", "a small DiT", d, [2]float64{3e-3, 1e-3}, false)...)
	if tier == systems.Full {
		list = append(list, s.diffusion("plain-denoiser", "a network without attention", d.by(func(at nn.Scope) models.Net { return newPlainNet(at, 128, 3) }), [2]float64{1e-3, 1e-4}, true)...)
	}
	list = append(list, s.others(u)...)
	for _, r := range s.recipes() {
		list = append(list, s.onRecipe(r))
	}
	return list, nil
}

// grid are the tuned settings of an optimiser: four rates and two decays, spaced evenly in
// the logarithm. Lion's rates are a fifth of the others' and its decays five times theirs,
// as the paper advises (3 to 10).
func (s *study) grid(optimizer string, rate float64) []systems.Params {
	by := 1.0
	if optimizer == "lion" {
		by = 5
	}
	var out []systems.Params
	for i := range s.rates {
		k := i
		if s.rates < 4 {
			k++ // one in the middle
		}
		for _, decay := range []float64{0.01, 0.1} {
			out = append(out, systems.Params{"lr": short(rate * []float64{1, 3, 10, 30}[k] / by), "decay": short(decay * by)})
		}
	}
	return out
}

// trained is a training by a setting, made once in an Env.
func (s *study) trained(ctx context.Context, what string, of func(batch int, seed uint64) (*job, error), k setting) (*result, error) {
	return systems.Memo(s.env, fmt.Sprintf("lion %s %+v %+v", what, s.sizes, k), func() (*result, error) {
		r, err := train(ctx, of, k, 0.99)
		if err == nil && k.seed == tuneSeed {
			r.average = nil // nothing is drawn from it
		}
		return r, err
	})
}

// tuneSeed is that of the harness's runs on validation noise, of which there is one a
// setting: what is trained here again is found among what was trained there.
const tuneSeed = 1

// tuned is the best of an optimiser's grid, as the harness finds it.
func (s *study) tuned(ctx context.Context, what string, of func(batch int, seed uint64) (*job, error), k setting, grid []systems.Params) (setting, error) {
	best, least := k, 0.0
	for i, p := range grid {
		k.lr, k.decay, k.seed = p.Num("lr"), p.Num("decay"), tuneSeed
		r, err := s.trained(ctx, what, of, k)
		if err != nil {
			return k, err
		}
		if i == 0 || r.loss < least {
			best, least = k, r.loss
		}
	}
	return best, nil
}

// Package shiftsteps proves the time-shift sampler (Li et al. 2023, arXiv
// 2305.15583, TS-DPM) on small scale.
//
// The states of a few-step run are not where the grid says. A step that takes an
// image's own variance for its noise, and so finds the time at which the network has
// seen such states, makes up for some of that (sampler.TimeShift).
//
// Kept: the four variants (the paper's, two released programs', and one of ours that
// takes the data's variance into account), T = 1000 with linear betas, the programs'
// grid, window and cutoff tuned, the solvers of the abstract.
//
// Shrunk: CIFAR-10 and CelebA to MNIST of 14×14 pixels; the U-Net to the exact score
// of a mixture of 8 Gaussians fitted to 4000 digits, which is as imperfect a model of
// other digits as a network is, but whose states go astray by the length of the steps
// alone: the exposure bias of a trained network, which is what the paper is about, is
// not in it. FID in Inception's features to the Fréchet distance in pixels to 4000
// digits that the mixture has not seen, less the distance of exact draws from the same
// noise: the excess, which is what a sampler can do something about.
//
// Added: controls that are tuned as long: a constant shift, scaled noise (Ning et al.
// 2024), one shift for the whole batch, the paper's without its cutoff, and DDIM on
// other grids.
//
// Chosen: the paper's sampler is written from memory of its text; the two programs were
// read, and where they differ from it they are variants of their own.
package shiftsteps

import (
	"context"

	"github.com/fidlab/fidlab/systems"
)

func init() {
	systems.Register(systems.Recipe{
		Number:   6,
		Name:     "shiftsteps",
		Aliases:  []string{"time-shift"},
		Source:   "Li, Qu, Yao, Sun and Moens 2023, arXiv 2305.15583",
		Idea:     "During sampling the next evaluation's time is the one, in a window around the grid's, whose noise has the variance of the sample at hand.",
		Headline: "ten-steps/debiased",
		Plan:     plan,
		Parts:    parts(),
		Figures: []systems.Figure{
			{File: "distance", Experiment: "curves", Measure: "fd", Title: "Fréchet distance to other digits", LogX: true, LogY: true, Cost: true},
			{File: "error", Experiment: "curves", Measure: "rmse", Title: "distance from the exact ends of the same noise", LogX: true, LogY: true, Cost: true},
		},
		Remark: "for the debiased variant, ours; the paper's own gains nothing on this testbed",
		Sheets: []string{"ten-steps"},
		Open: []string{
			"CIFAR-10 with published weights, F-PNDM and DDIM of 10 steps: the adapter takes any ONNX model that predicts eps (docs/systems/06-shiftsteps.md has the commands); no weights are shipped",
		},
	})
}

// size is how much a tier does.
type size struct {
	scale
	n, fewer        int // samples, and those of the curves and the diagnostic
	seeds           int
	windows         []int
	cutoffs         []float64
	steps           [2]int // few and twice as many
	hundred         int    // the many steps of DDIM
	curves          []float64
	diagnosed       []int // windows of the diagnostic
	pndm, dpm2, sde int   // steps of the other solvers
}

var sizes = map[systems.Tier]size{
	systems.Tiny: {
		scale: scale{4, 600, 600, 3}, n: 64, fewer: 64, seeds: 2, windows: []int{20}, cutoffs: []float64{100, 300}, steps: [2]int{5, 10}, hundred: 20,
		curves: []float64{4, 8}, diagnosed: []int{120}, pndm: 5, dpm2: 3, sde: 6,
	},
	systems.Short: {
		scale: scale{2, 4000, 4000, 8}, n: 250, fewer: 250, seeds: 3, windows: []int{10, 40}, cutoffs: []float64{100, 300}, steps: [2]int{10, 20}, hundred: 100,
		curves: []float64{5, 10, 20}, diagnosed: []int{80, 199}, pndm: 10, dpm2: 5, sde: 20,
	},
	systems.Full: {
		scale: scale{2, 4000, 4000, 8}, n: 1000, fewer: 500, seeds: 5, windows: []int{4, 10, 20, 40}, cutoffs: []float64{100, 200, 400}, steps: [2]int{10, 20}, hundred: 100,
		curves: []float64{5, 8, 10, 15, 20, 30, 50}, diagnosed: []int{40, 80, 120, 199}, pndm: 10, dpm2: 5, sde: 20,
	},
}

func plan(ctx context.Context, env *systems.Env, tier systems.Tier) ([]systems.Experiment, error) {
	s := sizes[tier]
	b, err := open(ctx, env, s.scale)
	if err != nil {
		return nil, err
	}
	b.most = s.n
	return (&planner{bed: b, size: s}).experiments(tier), nil
}

func (p *planner) experiments(tier systems.Tier) []systems.Experiment {
	s := p.size
	list := []systems.Experiment{p.few("ten-steps", s.steps[0], true)}
	if tier != systems.Short {
		list = append(list, p.few("twenty-steps", s.steps[1], false))
	}
	return append(list, p.diagnostic("too-much-noise", 0.03), p.diagnostic("too-little-noise", -0.03), p.solvers(), p.hundredfold(), p.curves())
}

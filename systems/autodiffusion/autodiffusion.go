// Package autodiffusion proves that the steps of a sampler, searched by evolution
// without any training, are far better than those of fixed rules (Li et al. 2023,
// "AutoDiffusion: Training-Free Optimization of Time Steps and Architectures for
// Automated Diffusion Model Acceleration", arXiv 2309.10438).
//
// Kept: the search itself, whole, as package sampler/search has it: sizes of the
// population and its operators, the Fréchet distance of few samples as fitness,
// the second stage that leaves out layers within a budget, plans that move to
// another model.
//
// Shrunk: the exact score of a mixture fitted to MNIST in 24 dimensions in place
// of trained networks; its own moments are the reference, so that distances have
// no error of a reference set; candidates draw 500 samples, 300 candidates' worth
// a search. Layers are blocks of principal directions of that mixture.
//
// Added: what the released code does otherwise is an arm of its own (noise of its
// own for each candidate, no second ranking), as are random search of the same
// budget, grids tuned with as many trials, and dynamic programming.
//
// Chosen: 15 crossings, where 10 to 15 are published; steps start from noise
// scaled to their first level, as everywhere here, where the released code starts
// from unit noise whatever that level is; that is an experiment of its own.
package autodiffusion

import (
	"context"

	"github.com/fidlab/fidlab/systems"
	"github.com/fidlab/fidlab/systems/bases"
)

const digitSum = "b3965fa64ea272c88cb0f3502ba0988611d0354e6ec0a073bdf3eb15363c6a83"

func init() {
	systems.Register(systems.Recipe{
		Number: 4, Name: "autodiffusion", Source: "Li et al. 2023, arXiv 2309.10438",
		Idea: "Search the few time steps that a sampler visits, and the network's layers that each of them can do without, " +
			"by evolution on the Fréchet distance of a few hundred samples. Nothing is trained, and the plan is a list of times.",
		Needs:    map[string]string{bases.DigitMixture: digitSum},
		Headline: "four-steps/fixed-grids",
		Plan:     plan,
		Parts:    parts(),
		Figures: []systems.Figure{
			{File: "nfe", Experiment: "nfe", Measure: "fd", Title: "Searched steps and fixed rules", Y: "Fréchet distance", LogX: true, LogY: true},
			{File: "error", Experiment: "nfe", Measure: "error", Title: "The same, by the exact error", Y: "error to the exact ends", LogX: true, LogY: true},
			{File: "curve", Experiment: "curve", Measure: "fitness", Title: "The search at four steps", Y: "least Fréchet distance so far", LogX: true, LogY: true},
		},
		Remark: "a Karras curve whose start is tuned too is as good; what is gained is the low start",
		Sheets: []string{"four-steps"},
		Open: []string{
			"classifier guidance on ImageNet 64×64 with published networks: as ONNX files they can be searched for steps, the weights are not shipped",
		},
	})
}

var fdMeasure = systems.Measure{Name: "fd", Text: "Fréchet distance to the exact moments", Least: 25}

var errorMeasure = systems.Measure{Name: "error", Text: "root mean square distance to the exact ends of the same noise"}

// plan makes the experiments of a tier.
func plan(ctx context.Context, env *systems.Env, tier systems.Tier) ([]systems.Experiment, error) {
	bed, err := systems.Use[*bases.Mixture](ctx, env, bases.DigitMixture)
	if err != nil {
		return nil, err
	}
	s, err := newStudy(bed, sizes[tier])
	if err != nil {
		return nil, err
	}
	four := s.steps("four-steps", 4, tier, bounds{usual: 0.4, rules: 0.5})
	out := []systems.Experiment{four}
	if tier == systems.Full {
		out = append(out, s.steps("six-steps", 6, tier, bounds{usual: 0.6, rules: 0.7}), s.fromUnit().steps("unit-start", 4, tier, bounds{usual: 0.4, rules: 0.5}))
	}
	thin, err := s.layers()
	if err != nil {
		return nil, err
	}
	other, err := s.another(ctx)
	if err != nil {
		return nil, err
	}
	return append(out, s.parts(), thin, other, s.multistep(), s.nfe(tier), s.curve()), nil
}

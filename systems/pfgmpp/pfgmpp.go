// Package pfgmpp is the proof of PFGM++ ("PFGM++: Unlocking the Potential of Physics-Inspired Generative Models", Xu et al. 2023, arXiv
// 2302.04265): data of N values are embedded in N + D dimensions, noise has the tails of a field of charges there, and D leads from
// PFGM (1) to diffusion (infinity).
//
// The kernel is diffusion.PFGMPP, its exact denoiser sampler.DeltaMixture, training and sampling are fidlab train --kernel and fidlab
// sample --kernel --disturb. Here is what finite D is worth: how gently a sampler ends that is disturbed on its way, on the exact
// denoiser of 2,000 digits and on trained networks, whose weights are also rounded to few bits.
//
// Kept: the kernel, EDM's preconditioning, loss, grid and Heun's method unchanged with sigma = r/√D; the two robustness protocols
// (noise added before every step, weights of few bits) and fewer steps.
// Shrunk: CIFAR-10 to digits: 24 principal coordinates for the exact denoiser, 8×8 pixels by class for networks.
// Chosen: weights are rounded with one scale a tensor (the paper does not say); the authors' clip of the radius is left out, since it
// would cut the tails of small N and D off.
package pfgmpp

import (
	"context"
	"fmt"

	"github.com/fidlab/fidlab/systems"
	"github.com/fidlab/fidlab/systems/bases"
)

func init() {
	systems.Register(systems.Recipe{
		Number: 40, Name: "pfgmpp",
		Source: "Xu et al. 2023, PFGM++: Unlocking the Potential of Physics-Inspired Generative Models (ICML), arXiv 2302.04265",
		Idea: "Noise of heavier tails than Gaussian, that of an electric field in D added dimensions: with sigma = r/√D everything else of a diffusion model stays, and a smaller D " +
			"forgives more errors on the way, a larger one is easier to learn.",
		Needs:    map[string]string{bases.DigitMixture: "b3965fa64ea272c88cb0f3502ba0988611d0354e6ec0a073bdf3eb15363c6a83"},
		Headline: "exact/gentler",
		Plan:     plan,
		Figures: []systems.Figure{
			{File: "robust", Experiment: "curves", Measure: "fd", Title: "Disturbed before every step, by added dimensions", LogX: true, LogY: true},
		},
		Sheets: []string{"trained"},
		Open: []string{
			"CIFAR-10 and FFHQ with EDM's networks: image-unet takes --kernel and pictures of that size, and ONNX files sample --kernel; neither was run on them.",
		},
	})
}

// sizes are the numbers of a tier.
type sizes struct {
	images        int // that the exact denoiser knows
	n, seeds      int
	sweep         int // seeds of the figure
	steps         int // of training
	trained, nets int // samples and seeds of networks
	reference     int // digits that networks' are compared with
	draws, few    int // steps of networks' samples: 18 and 6, but in the tiny tier
}

var tiers = map[systems.Tier]sizes{
	systems.Tiny:  {images: 60, n: 64, seeds: 2, sweep: 1, steps: 3, trained: 66, nets: 2, reference: 200, draws: 3, few: 2},
	systems.Short: {images: 500, n: 500, seeds: 3, sweep: 1, steps: 150, trained: 500, nets: 2, reference: 2000, draws: 18, few: 6},
	systems.Full:  {images: 2000, n: 2000, seeds: 20, sweep: 5, steps: 3000, trained: 2048, nets: 8, reference: 10000, draws: 18, few: 6},
}

func plan(ctx context.Context, env *systems.Env, tier systems.Tier) ([]systems.Experiment, error) {
	s := tiers[tier]
	bed, err := systems.Use[*bases.Mixture](ctx, env, bases.DigitMixture)
	if err != nil {
		return nil, err
	}
	e, err := newExact(bed, s)
	if err != nil {
		return nil, err
	}
	return []systems.Experiment{alignment(tier), e.robust(), e.curves(tier), s.networks(tier)}, nil
}

// nameOf is the arm of a number of added dimensions.
func nameOf(d float64) string {
	if d == gaussian {
		return "diffusion"
	}
	return fmt.Sprintf("D = %g", d)
}

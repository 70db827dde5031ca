package flowturbo

import (
	"context"

	"github.com/fidlab/fidlab/systems"
	"github.com/fidlab/fidlab/systems/bases"
)

func init() {
	systems.Register(systems.Recipe{
		Number: 38, Name: "flowturbo",
		Source: "Zhao et al. 2024, FlowTurbo: Towards Real-time Flow-Based Image Generation with Velocity Refiner (NeurIPS), arXiv 2409.18128",
		Idea: "Late on the way of a flow the velocity hardly changes. A network of one block learns the change and takes the place of most late evaluations; before, Heun's method takes its second " +
			"evaluation for the next step's first.",
		Headline: "digits/quicker at equal quality",
		Plan:     plan,
		Parts:    bases.NetworkParts("blocks against Heun's and Euler's methods by FID and time, what the refiner is worth, how velocities change", planNetwork),
		Figures: []systems.Figure{
			{File: "quality", Experiment: "curves", Measure: "fid", Title: "Quality against predictor-equivalent evaluations", Cost: true, LogY: true},
		},
		Sheets: []string{"digits", "digits-" + bases.MNISTUNet, "digits-" + bases.MNISTDiT},
		Open: []string{
			"SiT-XL/2 with its VAE and the released refiner: models/dit has the shape and reads the names (SiT-XL/2), the weights and a GPU were not at hand; the table of times on a GPU with it.",
			"text conditions: train.Refining refuses networks that take captions.",
			"compilation for a fixed shape: kernels here are compiled ahead of time; graphs of a whole block are not captured.",
			"guidance on three of four channels, a habit of published weights: all channels are guided.",
		},
	})
}

// sizes are the numbers of a tier.
type sizes struct {
	n, seeds, trials int
	all              bool // arms
	steps, batch     int  // of the teacher that is trained here
	refine           int  // steps of refiners
	refineBatch      int
	fine             int // steps of Heun's method that ends are compared with
	ends             int // samples whose ends are
	reference        int
	sweep            []float64
	sweepSeeds       int
	along            int // steps along which velocities are looked at
	timed            int // samples that times are taken of; 0: none are, as where two runs must agree in all
}

var tiers = map[systems.Tier]sizes{
	systems.Tiny:  {n: 66, seeds: 2, trials: 1, all: true, steps: 3, batch: 4, refine: 3, refineBatch: 4, fine: 4, ends: 4, reference: 200, sweep: []float64{3}, sweepSeeds: 1, along: 6},
	systems.Short: {n: 200, seeds: 2, trials: 1, all: true, steps: 150, batch: 64, refine: 100, refineBatch: 16, fine: 20, ends: 64, reference: 2000, sweep: []float64{4, 6}, sweepSeeds: 1, along: 30, timed: 32},
	systems.Full:  {n: 2048, seeds: 3, trials: 3, all: true, steps: 1500, batch: 64, refine: 1000, refineBatch: 16, fine: 100, ends: 512, reference: 10000, sweep: []float64{3, 4, 5, 6, 8, 10}, sweepSeeds: 2, along: 30, timed: 64},
}

// The sizes of networks that ship, whose evaluations are dearer.
var netTiers = map[systems.Tier]sizes{
	systems.Tiny:  {n: 66, seeds: 1, trials: 1, refine: 2, refineBatch: 2, fine: 3, ends: 2, reference: 200, along: 4},
	systems.Short: {n: 66, seeds: 2, trials: 1, refine: 40, refineBatch: 16, fine: 10, ends: 8, reference: 2000, along: 30, timed: 16},
	systems.Full:  {n: 1000, seeds: 3, trials: 1, refine: 1500, refineBatch: 16, fine: 40, ends: 64, reference: 10000, along: 30, timed: 32},
}

func plan(_ context.Context, _ *systems.Env, tier systems.Tier) ([]systems.Experiment, error) {
	s := tiers[tier]
	return []systems.Experiment{s.compare("digits", s.trained), s.velocities("velocity", s.trained, 0), s.curves(s.trained)}, nil
}

func planNetwork(ctx context.Context, env *systems.Env, name string, tier systems.Tier) ([]systems.Experiment, error) {
	s := netTiers[tier]
	net, err := systems.Use[*bases.Network](ctx, env, name)
	if err != nil {
		return nil, err
	}
	of := func(ctx context.Context, env *systems.Env, _ uint64) (*subject, error) {
		return s.shipped(ctx, env, net)
	}
	if tier != systems.Full {
		return []systems.Experiment{s.velocities("velocity-"+name, of, net.FLOPs)}, nil // the rest takes minutes
	}
	return []systems.Experiment{s.compare("digits-"+name, of), s.velocities("velocity-"+name, of, net.FLOPs)}, nil
}

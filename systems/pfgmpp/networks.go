package pfgmpp

import (
	"context"
	"fmt"

	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/sampler"
	"github.com/fidlab/fidlab/systems"
	"github.com/fidlab/fidlab/systems/bases"
	"github.com/fidlab/fidlab/train"
)

// task is the network of fidlab train that learns under every kernel: digits of 8×8 by class.
const task = "digits-mlp"

// networks trains one network for each D, alike but for the kernel, and asks what disturbing, rounding and fewer steps cost.
func (s sizes) networks(tier systems.Tier) systems.Experiment {
	cost := systems.Cost{TrainSteps: float64(s.steps)}
	x := systems.Experiment{
		Name: "trained", Question: fmt.Sprintf("Is a network trained under a finite D as good, and does it forgive more? (%s, by class, %d steps)", task, s.steps),
		Size: systems.Size{N: s.trained, Seeds: s.nets},
		Measures: []systems.Measure{
			{Name: "fid", Text: "FID to the test digits in the features of digits-enc, 18 steps", Least: bases.Features + 1},
			{Name: "floor", Text: "that of as many training digits"},
			{Name: "disturbed", Text: "FID when disturbed by 0.2 of the level before every step"},
			{Name: "4 bits", Text: "FID with weights of 4 bits"},
			{Name: "6 bits", Text: "FID with weights of 6 bits"},
			{Name: "6 steps", Text: "FID in 6 steps"},
		},
	}
	for _, d := range []float64{64, 2048, gaussian} {
		x.Arms = append(x.Arms, systems.Arm{
			Name: nameOf(d), Set: systems.Params{"D": d}, Cost: cost,
			Run: func(ctx context.Context, dr systems.Draw) (*systems.Outcome, error) {
				out, err := s.network(ctx, dr, d)
				if err == nil {
					out.Cost = cost
				}
				return out, err
			},
		})
	}
	finite := func(name, claim, measure string, d, bound float64, shown bool) systems.Criterion {
		return systems.Criterion{Name: name, Claim: claim, Measure: measure, Arm: nameOf(d), Against: []string{nameOf(gaussian)}, Bound: bound, Shown: shown}
	}
	x.Criteria = []systems.Criterion{
		finite("not worse", "trained with D = 2048, the FID is at most 1.03 of diffusion's", "fid", 2048, 1.03, false),
		finite("not worse at 64", "and with D = 64", "fid", 64, 1.03, true),
		finite("4 bits", "with weights of 4 bits, D = 64 has at most 0.9 of diffusion's FID", "4 bits", 64, 0.9, false),
		finite("4 bits at 2048", "and D = 2048", "4 bits", 2048, 0.9, true),
		finite("disturbed", "disturbed by 0.2, D = 64 has at most 0.9 of diffusion's FID", "disturbed", 64, 0.9, true),
		finite("few steps", "in 6 steps D = 64 has no more than diffusion's FID", "6 steps", 64, 1, true),
	}
	return x
}

// network trains one and measures it.
func (s sizes) network(ctx context.Context, d systems.Draw, dims float64) (*systems.Outcome, error) {
	found, _ := systems.FindTask(task)
	k := found.Settings
	k.Steps, k.Warmup, k.EMA, k.Seeds = s.steps, s.steps/15, []float64{0.99}, train.SeedsOf(d.Seed)
	if dims != gaussian {
		k.Kernel = fmt.Sprintf("pfgmpp:%g", dims)
	}
	net, _, err := bases.TrainHere(ctx, task, k, false)
	if err != nil {
		return nil, err
	}
	j, err := bases.OpenSmallJudge(ctx, d.Env, s.reference)
	if err != nil {
		return nil, err
	}
	out := &systems.Outcome{Values: map[string]float64{}}
	draw := func(steps int, disturb float64) (*sampler.Result, error) {
		o := net.Options(d.Seed, d.N)
		o.Disturb = disturb
		return net.Heun(ctx, net.Path, net.Rule(), steps, o)
	}
	r, err := draw(s.draws, 0)
	if err != nil {
		return nil, err
	}
	if err := j.Judge(ctx, out, d, net, r.X); err != nil {
		return nil, err
	}
	measure := func(name string, steps int, disturb float64) error {
		r, err := draw(steps, disturb)
		if err != nil {
			return err
		}
		out.Values[name], err = j.FID(ctx, r.X)
		return err
	}
	if err := measure("disturbed", s.draws, 0.2); err != nil {
		return nil, err
	}
	if err := measure("6 steps", s.few, 0); err != nil {
		return nil, err
	}
	weights := net.Net.Params().Value()
	whole := weights.Like()
	whole.Copy(weights)
	for _, bits := range []int{6, 4} {
		weights.Copy(whole)
		if err := nn.RoundWeights(net.Net.Params(), bits); err != nil {
			return nil, err
		}
		if err := measure(fmt.Sprintf("%d bits", bits), s.draws, 0); err != nil {
			return nil, err
		}
	}
	return out, nil
}

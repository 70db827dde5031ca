package ict

import (
	"context"
	"fmt"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/models"
	"github.com/fidlab/fidlab/systems"
	"github.com/fidlab/fidlab/systems/bases"
	"github.com/fidlab/fidlab/train"
)

func init() {
	systems.Register(systems.Recipe{
		Number: 12, Name: "ict",
		Source: "Song and Dhariwal 2024, Improved Techniques for Training Consistency Models (ICLR), arXiv 2310.14189",
		Idea: "A network that maps any noisy point of a diffusion trajectory to its start draws in one evaluation. It learns that from data alone, by agreeing with itself at two " +
			"neighbouring levels; what makes it work is the distance, the weights, the draw of levels, a number of levels that doubles, and a teacher that is the network itself.",
		Headline: "digits/one step",
		Plan:     plan,
		Sheets:   []string{"digits"},
		Open: []string{
			"CIFAR-10 and ImageNet 64: images of that size on a CPU; the loss takes any network (train.Consistency), and consistency models in ONNX files are sampled by --sampler consistency.",
			"dropout: networks this small do not learn 60,000 digits by heart.",
		},
	})
}

// sizes are the numbers of a tier.
type sizes struct {
	n, seeds, steps, trials int
	batch, ringBatch        int
	reference               int
	ringSteps, ringN        int
}

var tiers = map[systems.Tier]sizes{
	systems.Tiny:  {n: 66, seeds: 2, steps: 5, trials: 1, batch: 8, ringBatch: 32, reference: 200, ringSteps: 5, ringN: 64},
	systems.Short: {n: 500, seeds: 2, steps: 60, trials: 1, batch: 128, ringBatch: 1024, reference: 2000, ringSteps: 150, ringN: 500},
	systems.Full:  {n: 2048, seeds: 3, steps: 3000, trials: 2, batch: 128, ringBatch: 1024, reference: 10000, ringSteps: 4000, ringN: 2000},
}

// arms of a comparison: a form, and what it is.
type variant struct {
	name, text string
	form       Form
	distil     bool
}

// forms are the two methods, and the first one's parts in the improved one.
func forms() []variant {
	return []variant{
		{"iCT", "the improved form", Form{}, false},
		{"CT", "the first form: squares, all pairs and weights alike, an averaged teacher, levels that grow as a root", FirstForm, false},
		{"averaged teacher", "iCT but for its teacher, an average of decay 0.9 to 0.99", Form{Average: 0.99}, false},
		{"squares", "iCT but for the distance, the squared error", Form{Squares: true}, false},
		{"all pairs alike", "iCT but for the draw of levels", Form{Uniform: true}, false},
		{"no weights", "iCT but for the weights, 1", Form{Plain: true}, false},
		{"no curriculum", "iCT with 160 levels from the first step on", Form{First: 10, Last: 160, Fixed: true}, false},
		{"distilled", "iCT's loss, the lower state from a step along the flow of a trained network", Form{}, true},
	}
}

func plan(_ context.Context, _ *systems.Env, tier systems.Tier) ([]systems.Experiment, error) {
	s := tiers[tier]
	out := []systems.Experiment{s.digits()}
	ring, err := newRing()
	if err != nil {
		return nil, err
	}
	return append(out, ring.experiment(s)), nil
}

// rates that arms are tuned over.
func (s sizes) rates() []systems.Params {
	return []systems.Params{{"lr": 1e-3}, {"lr": 3e-4}}[:s.trials]
}

// settings of a training.
func settings(steps, batch int, rate float64, seed uint64) train.Settings {
	task, _ := systems.FindTask(Task)
	k := task.Settings
	k.Steps, k.Batch, k.Rate, k.EMA, k.Seeds = steps, batch, rate, []float64{0.99}, train.SeedsOf(seed)
	return k
}

// teacher is the trained denoiser that distillation goes along.
func (s sizes) teacher(ctx context.Context, env *systems.Env) (models.Net, error) {
	n, err := systems.Memo(env, fmt.Sprintf("ict teacher %d", s.steps), func() (*bases.Network, error) {
		task, _ := systems.FindTask("digits-mlp")
		k := task.Settings
		k.Steps, k.Batch, k.Seeds = s.steps, s.batch, train.SeedsOf(1<<41)
		net, _, err := bases.TrainHere(ctx, task.Name, k, false)
		return net, err
	})
	if err != nil {
		return nil, err
	}
	return n.Net, nil
}

// digits compares the forms on digits of 8×8 by class.
func (s sizes) digits() systems.Experiment {
	x := systems.Experiment{
		Name: "digits", Question: fmt.Sprintf("Does consistency training in its improved form draw better digits in one step, and what does each part do? (%s, %d steps)", Task, s.steps),
		Size: systems.Size{N: s.n, Seeds: s.seeds},
		Measures: []systems.Measure{
			{Name: "fid", Text: "FID to the test digits in the features of digits-enc, one evaluation", Least: bases.Features + 1},
			{Name: "two", Text: "that of two evaluations"},
			{Name: "gain", Text: "two evaluations' over one's"},
			{Name: "floor", Text: "FID of as many training digits"},
		},
	}
	for _, v := range forms() {
		cost := systems.Cost{TrainSteps: float64(s.steps)}
		x.Arms = append(x.Arms, systems.Arm{
			Name: v.name, Text: v.text, Cost: cost, Tune: s.rates(),
			Run: func(ctx context.Context, d systems.Draw) (*systems.Outcome, error) {
				var flow models.Net
				if v.distil {
					var err error
					if flow, err = s.teacher(ctx, d.Env); err != nil {
						return nil, err
					}
				}
				k := settings(s.steps, s.batch, d.Params.Num("lr"), d.Seed)
				job, err := v.form.Job(gpu.CPU(), k, flow)
				if err != nil {
					return nil, err
				}
				task, _ := systems.FindTask(Task)
				net, _, err := bases.TrainJob(ctx, task, job, k, false)
				if err != nil {
					return nil, err
				}
				j, err := bases.OpenSmallJudge(ctx, d.Env, s.reference)
				if err != nil {
					return nil, err
				}
				out := &systems.Outcome{Values: map[string]float64{}, Cost: cost}
				one, err := draw(ctx, net.Net, d.Seed, d.N, 1, secondLevel)
				if err != nil {
					return nil, err
				}
				if err := j.Judge(ctx, out, d, net, one); err != nil {
					return nil, err
				}
				two, err := draw(ctx, net.Net, d.Seed, d.N, 2, secondLevel)
				if err != nil {
					return nil, err
				}
				if out.Values["two"], err = j.FID(ctx, two); err != nil {
					return nil, err
				}
				out.Values["gain"] = out.Values["two"] / out.Values["fid"]
				return out, nil
			},
		})
	}
	x.Criteria = []systems.Criterion{
		{Name: "one step", Claim: "in one evaluation the improved form has at most 0.7 of the first form's FID", Measure: "fid", Arm: "iCT", Against: []string{"CT"}, Bound: 0.7},
		{Name: "two steps", Claim: "a second evaluation brings the FID to at most 0.95", Measure: "gain", Arm: "iCT", Form: systems.Value, Bound: 0.95},
	}
	for _, v := range forms()[2:7] {
		x.Criteria = append(x.Criteria, systems.Criterion{
			Name: v.name, Claim: "worse than the whole", Measure: "fid", Arm: v.name, Against: []string{"iCT"}, Bound: 1, AtLeast: true, Shown: true,
		})
	}
	x.Criteria = append(x.Criteria, systems.Criterion{
		Name: "distilled", Claim: "training from data alone is as good as distillation", Measure: "fid", Arm: "iCT", Against: []string{"distilled"}, Bound: 1, Shown: true,
		Unequal: "distillation stands on another network that was trained as long",
	})
	return x
}

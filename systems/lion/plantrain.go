package lion

import (
	"context"
	"fmt"
	"math"

	"github.com/fidlab/fidlab/systems"
)

// diffusion trains a denoiser with large and small batches, on as many samples; rates are
// what AdamW's grids begin with. With shown, its criteria are printed only, and no curves
// are drawn.
func (s *study) diffusion(name, network string, d *denoising, rates [2]float64, shown bool) []systems.Experiment {
	e := systems.Experiment{
		Name: name, Question: "Does Lion train " + network + " to denoise digits as well as AdamW, and better with large batches?",
		Size: systems.Size{N: s.n, Seeds: s.seeds}, TuneBy: "loss",
		Measures: []systems.Measure{
			{Name: "fd", Text: "Fréchet distance of samples of the averaged network to test digits, in pixels", Least: pixelCount},
			{Name: "loss", Text: "validation loss at the end"},
			{Name: "reach", Text: "share of the samples after which the loss is AdamW's last one; 2 where it never is"},
			{Name: "relative", Text: "the loss over AdamW's of the same batch and seed"},
		},
	}
	curves := systems.Experiment{
		Name: "curves", Question: "How does the validation loss fall?", Size: systems.Size{N: s.n, Seeds: s.seeds},
		Measures: e.Measures[1:2],
		Sweep:    &systems.Sweep{Param: "share", Label: "% of the samples seen", Values: []float64{5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100}},
	}
	for i, batch := range []int{1024, 32} {
		rate := rates[i] * s.faster
		for _, by := range []string{"adamw", "lion"} {
			a := &denoiseArm{study: s, what: name, d: d, k: setting{optimizer: by, batch: batch, steps: max(1, s.samples/batch)}, rate: rate}
			e.Arms = append(e.Arms, systems.Arm{
				Name: fmt.Sprintf("%s, batch %d", by, batch), Text: fmt.Sprintf("%d steps", a.k.steps),
				Tune: s.grid(by, rate), Cost: a.cost(), Run: a.run,
			})
			curves.Arms = append(curves.Arms, systems.Arm{Name: fmt.Sprintf("%s, batch %d", by, batch), Run: a.curve})
		}
	}
	ratio := func(name, claim, measure, arm, rival string, bound float64, also bool, unequal string) systems.Criterion {
		return systems.Criterion{Name: name, Claim: claim, Measure: measure, Arm: arm, Against: []string{rival}, Bound: bound, Shown: shown || also, Unequal: unequal}
	}
	e.Criteria = []systems.Criterion{
		ratio("distance", "at batches of 1024 the distance is at most 1.05 of AdamW's", "fd", "lion, batch 1024", "adamw, batch 1024", 1.05, false, ""),
		ratio("samples", "and AdamW's last loss is reached by as many samples", "reach", "lion, batch 1024", "adamw, batch 1024", 1, false, ""),
		ratio("batches", "Lion's loss relative to AdamW's is no larger with batches of 1024 than of 32", "relative", "lion, batch 1024", "lion, batch 32", 1, false, "the steps are fewer by as much as the batch is larger: the samples are the same"),
		ratio("loss", "its loss at batches of 1024 is no larger than AdamW's", "loss", "lion, batch 1024", "adamw, batch 1024", 1, true, ""),
		ratio("small batches", "nor at batches of 32", "loss", "lion, batch 32", "adamw, batch 32", 1, true, ""),
		ratio("small distance", "nor the distance at batches of 32", "fd", "lion, batch 32", "adamw, batch 32", 1, true, ""),
	}
	if shown {
		return []systems.Experiment{e}
	}
	return []systems.Experiment{e, curves}
}

// denoiseArm is an optimiser at a batch size.
type denoiseArm struct {
	*study
	what string
	d    *denoising
	k    setting
	rate float64
}

func (a *denoiseArm) cost() systems.Cost {
	j, _ := a.d.job(1, 0)
	return systems.Cost{Params: float64(j.net.Count()), TrainSteps: float64(a.k.steps)}
}

// with is the setting of a draw.
func (a *denoiseArm) with(p systems.Params, seed uint64) setting {
	k := a.k
	k.lr, k.decay, k.seed = p.Num("lr"), p.Num("decay"), seed
	return k
}

func (a *denoiseArm) run(ctx context.Context, d systems.Draw) (*systems.Outcome, error) {
	k := a.with(d.Params, d.Seed)
	r, err := a.trained(ctx, a.what, a.d.job, k)
	if err != nil {
		return nil, err
	}
	// Tuning looks at the loss alone; the rest is of the test.
	out := &systems.Outcome{Values: map[string]float64{"loss": r.loss, "fd": 0, "reach": 0, "relative": 0}, Cost: a.cost()}
	if r.skipped > 0 {
		out.Notes = append(out.Notes, fmt.Sprintf("%d steps skipped, whose gradient was not finite", r.skipped))
	}
	if d.Split == systems.Val {
		return out, nil
	}
	rival, err := a.rival(ctx, d.Seed)
	if err != nil {
		return nil, err
	}
	out.Values["reach"], out.Values["relative"] = reach(r.curve, rival.loss), r.loss/rival.loss
	if k.optimizer == "adamw" {
		out.Values["reach"] = 1
	}
	if r.average == nil {
		return nil, fmt.Errorf("lion: %s diverged after it was tuned (rate %g); widen the grid", k.optimizer, k.lr)
	}
	x, err := a.d.draws(ctx, r.average.model, d.N, a.draws, d.Seed)
	if err != nil {
		return nil, err
	}
	if out.Values["fd"], err = a.d.distance(x); err != nil {
		return nil, err
	}
	if d.First {
		out.Pictures = pictures(x, 12)
	}
	return out, nil
}

// rival is AdamW's training of the same batch and seed, at its best setting.
func (a *denoiseArm) rival(ctx context.Context, seed uint64) (*result, error) {
	k := a.k
	k.optimizer = "adamw"
	best, err := a.tuned(ctx, a.what, a.d.job, k, a.grid("adamw", a.rate))
	if err != nil {
		return nil, err
	}
	best.seed = seed
	return a.trained(ctx, a.what, a.d.job, best)
}

// curve is the loss of the best setting after a share of the steps.
func (a *denoiseArm) curve(ctx context.Context, d systems.Draw) (*systems.Outcome, error) {
	best, err := a.tuned(ctx, a.what, a.d.job, a.k, a.grid(a.k.optimizer, a.rate))
	if err != nil {
		return nil, err
	}
	best.seed = d.Seed
	r, err := a.trained(ctx, a.what, a.d.job, best)
	if err != nil {
		return nil, err
	}
	at := int(math.Round(d.Params.Num("share") / 100 * float64(len(r.curve))))
	return &systems.Outcome{Values: map[string]float64{"loss": r.curve[min(max(at, 1), len(r.curve))-1]}}, nil
}

// others are the abstract's other claims: a classifier, a contrastive pair, an
// autoregressive and a masked model, fine-tuning; against AdamW and Adafactor.
func (s *study) others(u *uses) []systems.Experiment {
	var out []systems.Experiment
	for _, k := range []struct {
		name, question string
		of             func(batch int, seed uint64) (*job, error)
		batch          int
		less           int     // what the steps are divided by
		rate           float64 // that AdamW's grid begins with
	}{
		{"classifier", "Does Lion train a classifier as well?", u.classifier, 256, 1, 3e-3},
		{"contrastive", "Does Lion train two towers that find a digit's lower half by its upper one?", u.contrastive, 256, 1, 3e-3},
		{"autoregressive", "Does Lion train a transformer that says tokens one after the other?", u.autoregressive, 64, 1, 1e-3},
		{"masked", "Does Lion train one that says hidden tokens?", u.masked, 64, 1, 1e-3},
		{"fine-tuning", "Does Lion fine-tune a classifier with 500 digits that lie on their side?", u.fineTuning(s.env, max(2, s.steps)), 64, 4, 3e-3},
	} {
		steps := max(2, s.steps/k.less)
		e := systems.Experiment{
			Name: k.name, Question: k.question, Size: systems.Size{N: k.batch, Seeds: s.seeds}, TuneBy: "loss",
			Measures: []systems.Measure{{Name: "loss", Text: "validation loss at the end, nats"}, {Name: "right", Text: "% told right", Higher: true}},
		}
		for _, name := range []string{"lion", "adamw", "adafactor"} {
			rate := k.rate
			if name == "adafactor" { // relative to the parameters' size
				rate = 1e-2
			}
			e.Arms = append(e.Arms, systems.Arm{
				Name: name, Text: fmt.Sprintf("%d steps of batches of %d", steps, k.batch), Tune: s.grid(name, rate), Cost: systems.Cost{TrainSteps: float64(steps)},
				Run: func(ctx context.Context, d systems.Draw) (*systems.Outcome, error) {
					r, err := s.trained(ctx, k.name, k.of, setting{name, d.Params.Num("lr"), d.Params.Num("decay"), steps, k.batch, d.Seed})
					if err != nil {
						return nil, err
					}
					return &systems.Outcome{Values: map[string]float64{"loss": r.loss, "right": 100 * r.right}, Cost: systems.Cost{TrainSteps: float64(steps)}}, nil
				},
			})
		}
		for _, rival := range []string{"adamw", "adafactor"} {
			e.Criteria = append(e.Criteria, systems.Criterion{
				Name: rival, Claim: "Lion's loss is no larger than that of " + rival, Measure: "loss", Arm: "lion", Against: []string{rival}, Bound: 1, Shown: true,
			})
		}
		out = append(out, e)
	}
	return out
}

package lion

import (
	"context"
	"errors"
	"fmt"

	"github.com/fidlab/fidlab/systems"
	"github.com/fidlab/fidlab/systems/bases"
	training "github.com/fidlab/fidlab/train"
)

// recipe is a network of fidlab train as it is trained here: its own data, loss and
// schedule, with another optimiser and fewer steps.
type recipe struct {
	name         string
	steps, batch int
	draws        int // steps of Heun of a sample
	n, seeds     int
	reference    int  // test digits
	trials       int  // of the six
	quick        bool // judge by the loss of the last batches alone
}

// recipes of a tier. Tiny takes the one that is quick; short takes none.
func (s *study) recipes() []recipe {
	switch s.tier {
	case systems.Tiny:
		return []recipe{{bases.MNISTDiT, 2, 4, 1, 16, 2, 100, 1, true}}
	case systems.Full:
		return []recipe{{bases.MNISTUNet, 300, 64, 18, 1000, 3, 10000, 6, false}, {bases.MNISTDiT, 600, 64, 18, 1000, 3, 10000, 6, false}}
	}
	return nil
}

// recipeEMA is the average that is judged: the recipes' own are too slow for so few steps.
const recipeEMA = 0.98

// recipeGrid are the tuned settings: three rates and two decays around AdamW's usual ones, Lion's rates a fifth of them and its decays five times them.
func recipeGrid(optimizer string, n int) []systems.Params {
	by := 1.0
	if optimizer == "lion" {
		by = 5
	}
	var out []systems.Params
	for _, decay := range []float64{0.01, 0.1} {
		for _, rate := range []float64{1e-3, 3e-4, 3e-3} {
			out = append(out, systems.Params{"lr": short(rate / by), "decay": short(decay * by)})
		}
	}
	return out[:n]
}

// recipeResult is a training of a recipe.
type recipeResult struct {
	loss    float64 // on digits held out
	skipped int
	net     *bases.Network // nil where it diverged
}

// train trains the recipe's network.
func (r *recipe) train(ctx context.Context, optimizer string, rate, decay float64, seed uint64) (*recipeResult, error) {
	task, ok := systems.FindTask(r.name)
	if !ok {
		return nil, fmt.Errorf("lion: no network %s to train", r.name)
	}
	k := task.Settings
	k.Optimizer, k.Rate, k.Decay, k.Seeds = optimizer, rate, decay, training.SeedsOf(seed)
	k.Steps, k.Batch, k.Warmup, k.EMA, k.Skip = r.steps, r.batch, r.steps/20, []float64{recipeEMA}, mostSkips
	net, res, err := bases.TrainHere(ctx, r.name, k, !r.quick)
	var fault *training.FaultError
	if errors.As(err, &fault) {
		return &recipeResult{loss: worstLoss}, nil
	}
	if err != nil {
		return nil, err
	}
	out := &recipeResult{loss: res.Loss, skipped: res.Skipped, net: net}
	if !r.quick {
		out.loss = res.Scores[0]
	}
	if !(out.loss < worstLoss) {
		out.loss, out.net = worstLoss, nil
	}
	return out, nil
}

// onRecipe compares Lion with AdamW on a recipe of fidlab train.
func (s *study) onRecipe(r recipe) systems.Experiment {
	cost := systems.Cost{TrainSteps: float64(r.steps)}
	e := systems.Experiment{
		Name: "recipe-" + r.name, Question: fmt.Sprintf("Does Lion train %s, as fidlab train has it, as well as AdamW in %d steps of %d digits?", r.name, r.steps, r.batch),
		Size: systems.Size{N: r.n, Seeds: r.seeds}, TuneBy: "loss", Measures: append([]systems.Measure{{Name: "loss", Text: "loss on digits held out, of the averaged network"}}, bases.NetworkMeasures(false)...),
	}
	for _, by := range []string{"adamw", "lion"} {
		e.Arms = append(e.Arms, systems.Arm{
			Name: by, Tune: recipeGrid(by, r.trials), Cost: cost,
			Run: func(ctx context.Context, d systems.Draw) (*systems.Outcome, error) {
				t, err := r.train(ctx, by, d.Params.Num("lr"), d.Params.Num("decay"), d.Seed)
				if err != nil {
					return nil, err
				}
				out := &systems.Outcome{Values: map[string]float64{"loss": t.loss, "fid": 0, "floor": 0}, Cost: cost}
				if t.skipped > 0 {
					out.Notes = append(out.Notes, fmt.Sprintf("%d steps skipped, whose gradient was not finite", t.skipped))
				}
				if d.Split == systems.Val {
					return out, nil // tuning looks at the loss alone
				}
				if t.net == nil {
					return nil, fmt.Errorf("lion: %s diverged after it was tuned (rate %g); widen the grid", by, d.Params.Num("lr"))
				}
				return out, r.judge(ctx, d, t.net, out)
			},
		})
	}
	ratio := func(name, claim, measure string, bound float64) systems.Criterion {
		return systems.Criterion{Name: name, Claim: claim, Measure: measure, Arm: "lion", Against: []string{"adamw"}, Bound: bound, Shown: true}
	}
	e.Criteria = []systems.Criterion{
		ratio("fid", "the FID is at most 1.05 of AdamW's", "fid", 1.05),
		ratio("loss", "the loss is no larger than AdamW's", "loss", 1),
	}
	return e
}

// judge draws d's pictures with a trained network and measures them.
func (r *recipe) judge(ctx context.Context, d systems.Draw, net *bases.Network, out *systems.Outcome) error {
	j, err := bases.OpenJudge(ctx, d.Env, r.reference)
	if err != nil {
		return err
	}
	res, err := net.Heun(ctx, net.Path, net.Rule(), r.draws, net.Options(d.Seed, d.N))
	if err != nil {
		return err
	}
	if err := j.Judge(ctx, out, d, net, res.X); err != nil {
		return err
	}
	if d.First {
		text, err := j.Bias(ctx, d.Env, d.N)
		if err != nil {
			return err
		}
		out.Notes = append(out.Notes, text)
	}
	return nil
}

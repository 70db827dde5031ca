package arflow

import (
	"context"
	"fmt"
	"time"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/models"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/systems"
	"github.com/fidlab/fidlab/systems/bases"
	"github.com/fidlab/fidlab/train"
)

func init() {
	systems.Register(systems.Recipe{
		Number: 19, Name: "arflow",
		Source: "Hui et al. 2025, ARFlow: Autoregressive Flow with Hybrid Linear Attention, arXiv 2501.16085",
		Idea: "A flow's transformer learns from sequences of noised pictures of a class, each less noisy than the one before: softmax attention sees within a picture, linear attention with a decaying state " +
			"across them. When it draws, the state carries all earlier steps.",
		Headline: "hidden/after and alone",
		Remark:   "the past is hardly listened to by networks this small: pictures of another style or class in its place are nearly as good, and single pictures train better",
		Plan:     plan,
		Figures: []systems.Figure{
			{File: "times", Experiment: "times", Measure: "loss", Title: "With and without the sequence: error of velocities by time"},
			{File: "length", Experiment: "length", Measure: "ratio", Title: "Hybrid attention beside softmax attention", Y: "time over that of softmax attention", LogX: true, LogY: true},
		},
		Sheets: []string{"digits"},
		Open: []string{
			"ImageNet at 128² and 256²: the published weights (ARFlow-XL/2) and a GPU were not at hand; names, shapes and a network of the same kind with random weights are tests, and fidlab system arflow sample draws latents from such a file.",
			"the authors' clipping of single gradients at 3: here a step's gradient is clipped to the norm 1.",
			"guidance of three of four channels, a habit of published weights: all channels are guided.",
		},
	})
}

// sizes are the numbers of a tier.
type sizes struct {
	n, seeds, trials  int
	steps, partSteps  int // of training, and of arms that differ in a part
	images            int // of a step
	draw              int // steps of drawing
	probe, times      int // pictures and times at which losses are compared
	reference         int
	lengths           []float64
	timed             int // rounds of what is timed; 0: nothing is, as where two runs must agree in all
	dim, depth, heads int // 0: the task's
	sweepSeeds        int // of curves
}

var tiers = map[systems.Tier]sizes{
	systems.Tiny:  {n: 66, seeds: 2, trials: 1, steps: 3, partSteps: 2, images: 20, draw: 3, probe: 16, times: 2, reference: 200, lengths: []float64{1, 2}, dim: 8, depth: 1, heads: 2, sweepSeeds: 1},
	systems.Short: {n: 200, seeds: 2, trials: 1, steps: 30, partSteps: 8, images: 40, draw: 8, probe: 64, times: 3, reference: 2000, lengths: []float64{1, 4, 16}, timed: 3, sweepSeeds: 1},
	systems.Full:  {n: 1000, seeds: 3, trials: 2, steps: 1200, partSteps: 500, images: 80, draw: 50, probe: 400, times: 9, reference: 10000, lengths: []float64{1, 2, 4, 8, 16, 32, 64}, timed: 15, sweepSeeds: 2},
}

func plan(_ context.Context, _ *systems.Env, tier systems.Tier) ([]systems.Experiment, error) {
	s := tiers[tier]
	return []systems.Experiment{s.hidden(), s.digits(), s.partsOf(), s.byTime(), s.byLength()}, nil
}

// tuned is an arm with the rates that it is tuned over, or with one where there is none to choose.
func (s sizes) tuned(a systems.Arm) systems.Arm {
	if s.trials < 2 {
		a.Set = systems.Params{"lr": fixedRate}
		return a
	}
	a.Tune = []systems.Params{{"lr": fixedRate}, {"lr": 2e-3}}
	return a
}

// fixedRate is that of arms that are not tuned.
const fixedRate = 4e-3

// The arms.
const (
	whole   = "ARFlow"
	single  = "single pictures"
	longer  = "single pictures, longer"
	equal   = 1.25 // steps of the longer training over the others', which is what a step of sequences takes of one of single pictures
	guided  = 1.5
	pastRow = "after four others"
)

// form is how a network is trained.
type form struct {
	hidden bool
	seq    int
	gate   Gate
	parts  int
	steps  int
}

// net is a trained network.
type net struct {
	*Net
	form
}

// as is the network as it draws: without a past where it learned none.
func (n *net) as() models.Net {
	if n.seq == 1 {
		return Alone{n.Net}
	}
	return n.Net
}

// recipe is the task of a form.
func (s sizes) recipe(f form) recipe {
	r := digitsRecipe()
	if f.hidden {
		r = hiddenRecipe()
	}
	r.net.Gate, r.net.Parts = f.gate, f.parts
	if s.dim > 0 {
		r.net.Dim, r.net.Depth, r.net.Heads = s.dim, s.depth, s.heads
	}
	return r
}

// clock is the time of a training of a form over that of ARFlow's of as many steps as base, by the least of some steps of both, one beside the
// other; 1 where nothing is timed.
func (s sizes) clock(f form, base int) (float64, error) {
	if s.timed == 0 {
		return 1, nil
	}
	var least [2]time.Duration
	var steps [2]func()
	for i, f := range []form{f, {hidden: f.hidden, seq: sequence}} {
		r := s.recipe(f)
		k := settings(1, s.images/f.seq, f.seq, fixedRate, 1)
		job, made, err := r.job(gpu.CPU(), k)
		if err != nil {
			return 0, err
		}
		tape := nn.NewTape(gpu.CPU(), gpu.Float32)
		steps[i] = func() {
			tape.Run(func() { tape.Backward(job.Loss(&train.Batch{Tape: tape, Size: k.Batch, Seeds: k.Seeds})) })
			made.params.ZeroGrad()
		}
	}
	for round := range s.timed + 1 {
		for i, step := range steps {
			start := time.Now()
			step()
			if took := time.Since(start); round > 0 && (least[i] == 0 || took < least[i]) {
				least[i] = took
			}
		}
	}
	return least[0].Seconds() / least[1].Seconds() * float64(f.steps) / float64(base), nil
}

// train trains a network of a form, or takes the one that was trained so before.
func (s sizes) train(ctx context.Context, env *systems.Env, f form, rate float64, seed uint64) (*net, error) {
	return systems.Memo(env, fmt.Sprintf("arflow %+v %+v %g %d", s, f, rate, seed), func() (*net, error) {
		r := s.recipe(f)
		k := settings(f.steps, s.images/f.seq, f.seq, rate, seed)
		job, made, err := r.job(gpu.CPU(), k)
		if err != nil {
			return nil, err
		}
		_, err = bases.TrainThen(ctx, job, k, func(saved *train.Saved) error {
			return saved.Load(job.Nets[0].Params, job.Nets[0].Name, saved.Averages()[0])
		})
		return &net{made, f}, err
	})
}

// losses compares the losses of a network after others and alone, on pictures held out.
func (s sizes) losses(ctx context.Context, n *net, times []float64, length int, seed uint64) (ProbeLoss, error) {
	task := Task
	if n.hidden {
		task = Hidden
	}
	g, err := HeldOut(task, length)
	if err != nil {
		return ProbeLoss{}, err
	}
	return Losses(ctx, n.Net, g, Probe{Length: length, N: s.probe, Times: times, Seed: seed, Alone: n.seq == 1})
}

// best is the loss of a network as it was trained: after others, or alone.
func (n *net) best(l ProbeLoss) float64 {
	if n.seq == 1 {
		return l.Alone
	}
	return l.After
}

// hidden asks what the past is worth where nothing else says what it says.
func (s sizes) hidden() systems.Experiment {
	x := systems.Experiment{
		Name: "hidden", Question: fmt.Sprintf("Is a picture's velocity told better after four others of its hidden style? (digits turned and thickened, %d steps of %d pictures)", s.steps, s.images),
		Size: systems.Size{N: s.probe, Seeds: s.seeds}, TuneBy: "loss",
		Measures: []systems.Measure{
			{Name: "loss", Text: "squared error of velocities at equal times up to 0.9, of a sequence's fifth picture, or of a single one where the network learned by those"},
			{Name: "after over alone", Text: "of the fifth picture over that of the same one as the first (1 of a network without a past)"},
			{Name: "after over another's", Text: "of the fifth picture over that of the same one after four pictures of another style (1 of a network without a past)"},
		},
		Notes: []string{
			"first pictures of a sequence are noisy ones: at late times the network has hardly learned to do without a past, so the loss of the fifth picture over the first's is less than 1 also where the past tells nothing. " +
				"What the past tells is the comparison with pictures of another style, and with a network of single pictures.",
		},
	}
	for _, a := range []struct {
		name, text string
		seq        int
	}{
		{whole, "sequences of five pictures of a style", sequence},
		{single, "the same block without the past, as many pictures", 1},
	} {
		cost := systems.Cost{TrainSteps: float64(s.steps)}
		x.Arms = append(x.Arms, s.tuned(systems.Arm{Name: a.name, Text: a.text, Cost: cost, Run: func(ctx context.Context, d systems.Draw) (*systems.Outcome, error) {
			n, err := s.train(ctx, d.Env, form{hidden: true, seq: a.seq, steps: s.steps}, d.Params.Num("lr"), d.Seed)
			if err != nil {
				return nil, err
			}
			out := &systems.Outcome{Cost: cost}
			out.Values, err = s.past(ctx, n, d.Seed)
			return out, err
		}}))
	}
	x.Criteria = []systems.Criterion{
		{Name: "after and alone", Claim: "at equal times the fifth picture's loss is at most 0.9 of the first's", Measure: "after over alone", Arm: whole, Form: systems.Value, Bound: 0.9},
		{Name: "its own past", Claim: "and at most 0.9 of that after pictures of another style", Measure: "after over another's", Arm: whole, Form: systems.Value, Bound: 0.9, Shown: true},
		{Name: "against single pictures", Claim: "and at most 0.9 of that of a network that learned by single pictures", Measure: "loss", Arm: whole, Against: []string{single}, Bound: 0.9, Shown: true},
	}
	return x
}

// past are the losses of a network as values of an outcome.
func (s sizes) past(ctx context.Context, n *net, seed uint64) (map[string]float64, error) {
	l, err := s.losses(ctx, n, Matched(s.times), max(n.seq, 2), seed)
	if err != nil {
		return nil, err
	}
	v := map[string]float64{"loss": n.best(l), "after over alone": 1, "after over another's": 1}
	if n.seq > 1 {
		v["after over alone"], v["after over another's"] = l.After/l.Alone, l.After/l.Other
	}
	return v, nil
}

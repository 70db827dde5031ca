package ddo

import (
	"context"
	"fmt"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/systems"
	"github.com/fidlab/fidlab/systems/bases"
	"github.com/fidlab/fidlab/train"
)

func init() {
	systems.Register(systems.Recipe{
		Number: 33, Name: "ddo",
		Source: "Zheng et al. 2025, Direct Discriminative Optimization (ICML), arXiv 2503.01103",
		Idea: "A trained generator with a likelihood is its own discriminator: how much likelier it finds a picture than a frozen copy of itself does. " +
			"Learning to tell data from what the copy draws, in a few rounds of little cost, improves its samples.",
		Headline: "digits/better samples",
		Remark:   "for a diffusion network, by its bound; a model of exact likelihood that is converged stands still under the loss, and gains nothing",
		Plan:     plan,
		Sheets:   []string{"digits", "tokens"},
		Open: []string{
			"CIFAR-10, ImageNet and the released networks: a CPU does not train them; fidlab system ddo finetune takes any checkpoint of fidlab train that removes noise.",
			"the networks that ship: fine-tuning mnist-unet over seeds takes hours of a CPU.",
		},
	})
}

// sizes are the numbers of a tier.
type sizes struct {
	seeds, trials, rounds int
	// Of the digits: examples that are drawn and judged, pretraining, a round, the pool, looks.
	n, pretrain, steps, every, pool, count, batch, reference int
	// Of the tokens.
	tokenN, tokenPretrain, tokenSteps, tokenPool, tokenCount int
	// Of the mixtures.
	mixtures, draws, descents, recover int
}

var tiers = map[systems.Tier]sizes{
	systems.Tiny: {seeds: 2, trials: 1, rounds: 2, n: 66, pretrain: 6, steps: 4, every: 2, pool: 64, count: 66, batch: 16, reference: 200,
		tokenN: 66, tokenPretrain: 3, tokenSteps: 2, tokenPool: 64, tokenCount: 66, mixtures: 2, draws: 100, descents: 20, recover: 200},
	systems.Short: {seeds: 2, trials: 1, rounds: 2, n: 500, pretrain: 1000, steps: 60, every: 30, pool: 1000, count: 500, batch: 128, reference: 2000,
		tokenN: 500, tokenPretrain: 200, tokenSteps: 20, tokenPool: 500, tokenCount: 200, mixtures: 3, draws: 300, descents: 60, recover: 10000},
	systems.Full: {seeds: 3, trials: 4, rounds: 2, n: 5000, pretrain: 16000, steps: 400, every: 50, pool: 10000, count: 2000, batch: 128, reference: 10000,
		tokenN: 5000, tokenPretrain: 8000, tokenSteps: 200, tokenPool: 5000, tokenCount: 2000, mixtures: 8, draws: 1000, descents: 300, recover: 100000},
}

func plan(_ context.Context, _ *systems.Env, tier systems.Tier) ([]systems.Experiment, error) {
	s := tiers[tier]
	return []systems.Experiment{s.digits(), s.tokens(), s.lines(), s.family()}, nil
}

// The arms of the networks.
const (
	method = "DDO"
	single = "DDO, one round"
	real   = "data alone"
	longer = "more likelihood"
	before = "before"
)

// subject is a network as it was trained, and who judges it.
type subject struct {
	base  *Base
	set   *train.Examples
	score Score
	took  float64 // evaluations of an example in its training
	// measure sets an outcome by examples of a network.
	measure func(ctx context.Context, out *systems.Outcome, d systems.Draw, n *Net) error
}

// kind is a family of networks that the same comparison is made of.
type kind struct {
	name, question string
	n              int
	draw           float64 // evaluations of a sample
	of             func(ctx context.Context, env *systems.Env, seed uint64) (*subject, error)
	measures       []systems.Measure
	tune           []systems.Params // of the method; of likelihood the rates
	rates          []systems.Params
	settings       func(rate float64, seed uint64) Options
	whole          bool // with the arms of the method's parts
	bound          float64
	claim          string
}

// experiment compares a network before and after.
func (s sizes) experiment(k kind) systems.Experiment {
	x := systems.Experiment{
		Name: k.name, Question: k.question, Size: systems.Size{N: k.n, Seeds: s.seeds},
		Measures: append([]systems.Measure{
			{Name: "fid", Text: "FID to the test digits", Least: bases.Features + 1},
			{Name: "floor", Text: "that of as many training digits"},
			{Name: "share", Text: "evaluations of a round over those of the network's whole training, a walk back as two; without looks"},
		}, k.measures...),
	}
	type form struct {
		name, text string
		change     func(o *Options)
	}
	forms := []form{
		{method, fmt.Sprintf("%d rounds", s.rounds), func(*Options) {}},
		{longer, "as many steps more of what trained the network, chosen likewise", func(o *Options) { o.Likelihood = true }},
		{before, "the network as it was", nil},
	}
	if k.whole {
		forms = append(forms, form{single, "the same, without the second round's new reference", func(o *Options) { o.Rounds = 1 }},
			form{real, "without fakes, α = 0", func(o *Options) { o.Alpha = 0 }})
	}
	for _, a := range forms {
		arm := systems.Arm{Name: a.name, Text: a.text}
		switch {
		case a.change == nil:
		case a.name == longer:
			arm.Tune = k.rates[:s.trials]
		default:
			arm.Tune = k.tune[:s.trials]
		}
		arm.Run = func(ctx context.Context, d systems.Draw) (*systems.Outcome, error) {
			sub, err := k.of(ctx, d.Env, d.Seed)
			if err != nil {
				return nil, err
			}
			out := &systems.Outcome{Values: map[string]float64{"share": 0}}
			best, err := sub.base.New()
			if err != nil {
				return nil, err
			}
			if a.change != nil {
				o := k.settings(d.Params.Num("lr"), d.Seed)
				o.Alpha, o.Beta = 1, 1
				if d.Params.Has("beta") {
					o.Alpha, o.Beta = d.Params.Num("alpha"), d.Params.Num("beta")
				}
				a.change(&o)
				if best, _, err = Finetune(ctx, sub.base, sub.set, sub.score, o); err != nil {
					return nil, err
				}
				out.Values["share"] = o.evaluations(k.draw) / sub.took
			}
			return out, sub.measure(ctx, out, d, best)
		}
		x.Arms = append(x.Arms, arm)
	}
	x.Criteria = []systems.Criterion{
		{Name: "better samples", Claim: k.claim, Measure: "fid", Arm: method, Against: []string{longer}, Bound: k.bound},
		{Name: "better than before", Claim: "FID at most that of the network as it was", Measure: "fid", Arm: method, Against: []string{before}, Bound: 1, Shown: true,
			Unequal: "it is trained no further, and nothing of it is tuned"},
		{Name: "converged", Claim: "more of the same training gains less than a hundredth", Measure: "fid", Arm: longer, Against: []string{before}, Bound: 0.99, AtLeast: true, Shown: true,
			Unequal: "it is trained no further, and nothing of it is tuned"},
		{Name: "cost", Claim: "a round takes at most a tenth of the evaluations of the network's training", Measure: "share", Arm: method, Form: systems.Value, Bound: 0.1, Shown: true},
	}
	if k.whole {
		x.Criteria = append(x.Criteria, systems.Criterion{Name: "two rounds", Claim: "a second round against a new reference helps", Measure: "fid", Arm: method, Against: []string{single}, Bound: 1, Shown: true},
			systems.Criterion{Name: "fakes", Claim: "without fakes it is no better than more likelihood", Measure: "fid", Arm: real, Against: []string{longer}, Bound: 0.98, AtLeast: true, Shown: true})
	}
	return x
}

// evaluations are those of an example in a round: its pool, the network forward and back, the reference beside it.
func (o *Options) evaluations(draw float64) float64 {
	seen := float64(o.Steps) * float64(o.Batch)
	if o.Likelihood {
		return 3 * seen
	}
	return draw*float64(o.Pool) + 4*seen
}

// pretraining is that of a network from nothing.
func pretraining(steps, batch, count int, rate float64, seed uint64) Options {
	return Options{
		Settings: train.Settings{Steps: steps, Batch: batch, Rate: rate, Schedule: "cosine", Warmup: min(100, steps/4), Clip: 1, EMA: []float64{0.998}, Seeds: train.SeedsOf(seed)},
		Every:    max(1, steps/4), Count: count,
	}
}

// tuning is a round's settings: a constant rate, an average of the last fifty steps or so.
func tuning(steps, batch, every, pool, count, rounds int, rate float64, seed uint64) Options {
	return Options{
		Settings: train.Settings{Steps: steps, Batch: batch, Rate: rate, Warmup: min(20, steps/4), Clip: 1, EMA: []float64{0.98}, Seeds: train.SeedsOf(seed)},
		Rounds:   rounds, Pool: pool, Every: every, Count: count,
	}
}

// trained is the memo of a subject, whose base is pretrained.
func (s sizes) trained(ctx context.Context, env *systems.Env, name string, seed uint64, o Options, sub *subject) (*subject, error) {
	return systems.Memo(env, fmt.Sprintf("ddo %s %d %d", name, o.Steps, seed), func() (*subject, error) {
		base, _, err := pretrain(ctx, sub.base, sub.set, sub.score, o)
		if err != nil {
			return nil, err
		}
		sub.base, sub.took = base, 3*float64(o.Steps)*float64(o.Batch)
		return sub, nil
	})
}

func (s sizes) digits() systems.Experiment {
	return s.experiment(kind{
		name: "digits", question: "Does a diffusion network of 8×8 digits that is too small for them draw better ones after fine-tuning by its own likelihood's bound than after more training?",
		n: s.n, draw: 2*digitSteps - 1, of: s.digitSubject,
		measures: []systems.Measure{{Name: "guided", Text: fmt.Sprintf("FID with guidance of weight %g", guided)}},
		tune:     []systems.Params{{"lr": 1e-4, "beta": 0.02, "alpha": 1.}, {"lr": 1e-4, "beta": 0.05, "alpha": 1.}, {"lr": 1e-4, "beta": 0.2, "alpha": 1.}, {"lr": 2e-4, "beta": 0.02, "alpha": 1.}},
		rates:    []systems.Params{{"lr": 1e-4}, {"lr": 3e-4}, {"lr": 3e-5}, {"lr": 1e-3}},
		settings: func(rate float64, seed uint64) Options {
			return tuning(s.steps, s.batch, s.every, s.pool, s.count, s.rounds, rate, seed)
		},
		whole: true, bound: 0.95, claim: "FID at most 0.95 of that after more training",
	})
}

func (s sizes) digitSubject(ctx context.Context, env *systems.Env, seed uint64) (*subject, error) {
	learn, _, err := bases.SmallDigits()
	if err != nil {
		return nil, err
	}
	j, err := bases.OpenSmallJudge(ctx, env, s.reference)
	if err != nil {
		return nil, err
	}
	score := func(ctx context.Context, e *train.Examples) (float64, error) { return j.FID(ctx, pictures(e)) }
	sub := &subject{
		set: learn, score: score,
		base: &Base{Job: "small digits", Sampler: SamplerOf(digitSteps), New: func() (*Net, error) {
			n, _, err := small(smallConfig(), seed, nil)
			return n, err
		}},
		measure: func(ctx context.Context, out *systems.Outcome, d systems.Draw, n *Net) error {
			_, net, err := small(smallConfig(), seed, n.Params)
			if err != nil {
				return err
			}
			x, err := n.Draw(ctx, d.Seed, d.N)
			if err != nil {
				return err
			}
			if err := j.Judge(ctx, out, d, net, pictures(x)); err != nil {
				return err
			}
			if x, err = DrawDenoiser(ctx, net, d.Seed, d.N, digitSteps, guided); err != nil {
				return err
			}
			out.Values["guided"], err = score(ctx, x)
			return err
		},
	}
	return s.trained(ctx, env, "digits", seed, pretraining(s.pretrain, s.batch, s.count, 2e-3, seed), sub)
}

// pictures are examples as a tensor.
func pictures(e *train.Examples) *gpu.Tensor {
	return gpu.CPU().From(e.X, append([]int{e.Len()}, e.Shape...)...)
}

func (s sizes) tokens() systems.Experiment {
	return s.experiment(kind{
		name: "tokens", question: "And a small autoregressive network of binary digits of 14×14, whose likelihood is exact?",
		n: s.tokenN, draw: 1, of: s.tokenSubject,
		measures: []systems.Measure{{Name: "nll", Text: "nats a test digit"}},
		tune:     []systems.Params{{"lr": 1e-4, "beta": 1., "alpha": 1.}, {"lr": 3e-4, "beta": 1., "alpha": 1.}, {"lr": 1e-4, "beta": 0.2, "alpha": 1.}, {"lr": 1e-4, "beta": 1., "alpha": 1.5}},
		rates:    []systems.Params{{"lr": 1e-4}, {"lr": 3e-4}, {"lr": 1e-3}, {"lr": 3e-5}},
		settings: func(rate float64, seed uint64) Options {
			return tuning(s.tokenSteps, s.batch, s.every, s.tokenPool, s.tokenCount, s.rounds, rate, seed)
		},
		bound: 0.92, claim: "FID at most 0.92 of that after more training",
	})
}

func (s sizes) tokenSubject(ctx context.Context, env *systems.Env, seed uint64) (*subject, error) {
	type digits struct{ learn, held *train.Examples }
	both, err := systems.Memo(env, "ddo binary", func() (digits, error) {
		learn, held, err := bases.Digits()
		if err != nil {
			return digits{}, err
		}
		return digits{binaryTokens(learn), binaryTokens(held)}, nil
	})
	if err != nil {
		return nil, err
	}
	j, err := systems.Memo(env, "ddo binary judge", func() (*bases.Judge, error) {
		return bases.OpenJudgeOf(ctx, env, s.reference, "mnist", "binary", binaryPictures(first(both.learn, s.reference)), binaryPictures(first(both.held, s.reference)))
	})
	if err != nil {
		return nil, err
	}
	sub := &subject{
		set: both.learn, score: judgeTokens(j),
		base: &Base{Job: "binary digits", Sampler: TokenSampler, New: func() (*Net, error) { return newTokens(tokenConfig(), seed) }},
		measure: func(ctx context.Context, out *systems.Outcome, d systems.Draw, n *Net) error {
			return s.measureTokens(ctx, out, d, n, j, both.held)
		},
	}
	return s.trained(ctx, env, "tokens", seed, pretraining(s.tokenPretrain, min(64, s.batch), s.tokenCount, 2e-3, seed), sub)
}

// first are the first n examples.
func first(e *train.Examples, n int) *train.Examples {
	n = min(n, e.Len())
	return &train.Examples{Shape: e.Shape, X: e.X[:n*len(e.X)/e.Len()], Labels: e.Labels[:n]}
}

// measureTokens draws and judges, and asks how likely test digits are.
func (s sizes) measureTokens(ctx context.Context, out *systems.Outcome, d systems.Draw, n *Net, j *bases.Judge, held *train.Examples) error {
	x, err := n.Draw(ctx, d.Seed, d.N)
	if err != nil {
		return err
	}
	p := binaryPictures(x)
	if out.Values["fid"], err = j.FID(ctx, pictures(p)); err != nil {
		return err
	}
	if out.Values["floor"], err = j.Floor(ctx, d.Env, d.Seed, d.N); err != nil {
		return err
	}
	if d.First {
		out.Pictures = bases.Pictures(p.X[:12*len(p.X)/p.Len()], p.Shape)
	}
	out.Values["nll"], err = meanNLL(ctx, n, held, min(d.N, held.Len()))
	return err
}

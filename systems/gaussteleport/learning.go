package gaussteleport

import (
	"context"
	"fmt"
	"slices"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/sampler"
	"github.com/fidlab/fidlab/systems"
)

var shareMeasures = []systems.Measure{{Name: "unexplained", Text: "share of the score left unexplained (at most 100)"}}

// compared are the models of a score: made of the training set, but for the truth.
func (b *bench) compared(ctx context.Context) ([]Score, error) {
	d := b.bed.Dims
	points := make([]float32, b.data.Len())
	for i, v := range b.data.F64() {
		points[i] = float32(v)
	}
	delta, err := sampler.NewDeltaMixture(points, []int{d}, nil, nil)
	if err != nil {
		return nil, err
	}
	rows := sampler.Rows{N: b.train, D: d, At: func(i int, dst []float64) { copy(dst, b.data.F64()[i*d:][:d]) }}
	clusters, err := FitScore(ctx, rows, []int{d}, MixtureOptions{Components: 12, Dims: d, Seed: 1})
	if err != nil {
		return nil, err
	}
	low, err := FitScore(ctx, rows, []int{d}, MixtureOptions{Components: 12, Dims: d, Rank: d / 3, Seed: 1})
	if err != nil {
		return nil, err
	}
	return []Score{
		{"gaussian", b.law},
		{"isotropic", Isotropic(b.law)},
		{"first order", Expansion(b.law, 1)},
		{"second order", Expansion(b.law, 2)},
		{"12 clusters", clusters},
		{"12 clusters, low rank", low},
		{"training set", delta},
		{"truth", b.bed},
	}, nil
}

// worstShare is what is shown of a score that is further off: one of zero is at 1.
const worstShare = 100

// score is an arm that measures what a model leaves of den's score at a level.
func (b *bench) score(m Score, sigma float64, cost systems.Cost, den func(ctx context.Context, d systems.Draw) (sampler.Denoiser, error)) systems.Arm {
	return systems.Arm{
		Name: fmt.Sprintf("%s at %g", m.Name, sigma), Set: systems.Params{"sigma": sigma}, Cost: cost,
		Run: func(ctx context.Context, d systems.Draw) (*systems.Outcome, error) {
			of, err := den(ctx, d)
			if err != nil {
				return nil, err
			}
			share, err := Explain(ctx, of, []Score{m}, b.bed.Draws(d.Seed, d.N), ExplainOptions{Sigmas: []float64{d.Params.Num("sigma")}, Seed: d.Seed, Batch: 256})
			if err != nil {
				return nil, err
			}
			return &systems.Outcome{Values: map[string]float64{"unexplained": min(1-share[0].Explains, worstShare)}, Cost: cost}, nil
		},
	}
}

// exact is the testbed's own score.
func (b *bench) exact(context.Context, systems.Draw) (sampler.Denoiser, error) { return b.bed, nil }

// scores compares models with the exact score of other data of the distribution.
func (b *bench) scores(ctx context.Context) ([]systems.Experiment, error) {
	all, err := b.compared(ctx)
	if err != nil {
		return nil, err
	}
	of := func(name string) Score {
		return all[slices.IndexFunc(all, func(s Score) bool { return s.Name == name })]
	}
	at := func(name string, sigma float64) systems.Arm { return b.score(of(name), sigma, systems.Cost{}, b.exact) }
	size := systems.Size{N: b.held, Seeds: b.seeds}
	e := systems.Experiment{
		Name: "score", Question: "Which simple scores explain the exact one?", Size: size, Measures: shareMeasures,
		Arms: []systems.Arm{
			at("gaussian", 5), at("isotropic", 5), at("gaussian", 2), at("isotropic", 2), at("gaussian", 1), at("second order", 1), at("12 clusters", 0.1), at("12 clusters, low rank", 0.1), at("training set", 0.1), at("gaussian", 0.1),
		},
		Criteria: []systems.Criterion{
			{Name: "high noise", Claim: "at sigma 5, ten deviations of the data, the Gaussian explains all but 0.1 % of the score", Measure: "unexplained", Arm: "gaussian at 5", Form: systems.Value, Bound: 0.001},
			{Name: "moderate noise", Claim: "and at 2 all but 1 %", Measure: "unexplained", Arm: "gaussian at 2", Form: systems.Value, Bound: 0.01},
			{Name: "covariance", Claim: "where one variance for all directions leaves twice as much", Measure: "unexplained", Arm: "gaussian at 2", Against: []string{"isotropic at 2"}, Bound: 0.5},
			{Name: "expansion", Claim: "at sigma 1, near the data's deviations, its second-order expansion leaves more than it does", Measure: "unexplained", Arm: "gaussian at 1", Against: []string{"second order at 1"}, Bound: 0.5},
			{Name: "mixture at low noise", Claim: "at sigma 0.1 clusters fit better than the training set itself", Measure: "unexplained", Arm: "12 clusters at 0.1", Against: []string{"training set at 0.1"}, Bound: 0.5},
			{Name: "mixture over Gaussian", Claim: "and better than a Gaussian", Measure: "unexplained", Arm: "12 clusters at 0.1", Against: []string{"gaussian at 0.1"}, Bound: 0.8},
		},
	}
	sweep := systems.Experiment{
		Name: "shares", Question: "How much of the exact score do simple scores leave, at every noise level?", Size: systems.Size{N: b.held, Seeds: b.sweep}, Measures: shareMeasures,
		Sweep: &systems.Sweep{Param: "sigma", Label: "noise level sigma", Values: []float64{0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 80}},
	}
	if b.n < 1000 {
		sweep.Sweep.Values = []float64{0.5, 5}
	}
	for _, m := range all[:len(all)-1] {
		a := b.score(m, 0, systems.Cost{}, b.exact)
		a.Name, a.Set = m.Name, nil
		sweep.Arms = append(sweep.Arms, a)
	}
	return []systems.Experiment{e, sweep}, nil
}

// early and late are the updates at which the trained score is judged.
func (s sizes) early() int { return s.steps[1] }
func (s sizes) late() int  { return slices.Max(s.steps) }

// net is a network trained on the training set from a seed, after some updates.
func (b *bench) net(ctx context.Context, d systems.Draw, step int) (*MLP, error) {
	all, err := systems.Memo(b.env, fmt.Sprintf("gaussteleport nets %d %d %v", d.Seed, b.width, b.steps), func() (map[int]*MLP, error) {
		out := map[int]*MLP{}
		n := NewMLP(b.bed.Dims, b.width, d.Seed)
		err := n.Train(ctx, b.data.F64(), TrainOptions{Seed: d.Seed, At: slices.Sorted(slices.Values(b.steps)), See: func(step int) error {
			out[step] = n.Copy()
			return nil
		}})
		return out, err
	})
	if err != nil {
		return nil, err
	}
	return all[step], nil
}

// learning asks what of the score a network learns first.
func (b *bench) learning() []systems.Experiment {
	const sigma = 0.5
	models := map[string]sampler.Denoiser{"gaussian": b.law, "truth": b.bed, "isotropic": Isotropic(b.law)}
	size := NewMLP(b.bed.Dims, b.width, 0)
	cost := func(step int) systems.Cost {
		return systems.Cost{Params: float64(size.Params()), TrainSteps: float64(step)}
	}
	arm := func(model string, step int, sigma float64) systems.Arm {
		a := b.score(Score{model, models[model]}, sigma, cost(step), func(ctx context.Context, d systems.Draw) (sampler.Denoiser, error) { return b.net(ctx, d, step) })
		a.Name = fmt.Sprintf("%s, %s", model, map[int]string{b.early(): "early", b.late(): "late"}[step])
		if sigma != 0.5 {
			a.Name += fmt.Sprintf(", sigma %g", sigma)
		}
		a.Text = fmt.Sprintf("after %d updates", step)
		return a
	}
	longer := "how long it was trained is the question"
	judged := systems.Experiment{
		Name: "learning", Question: fmt.Sprintf("Is the Gaussian part of a score learned first? (a trained network at sigma %g, after %d and %d updates)", sigma, b.early(), b.late()),
		Size: systems.Size{N: b.held, Seeds: b.seeds}, Measures: shareMeasures,
		Arms: []systems.Arm{arm("gaussian", b.early(), sigma), arm("truth", b.early(), sigma), arm("gaussian", b.late(), sigma), arm("truth", b.late(), sigma), arm("gaussian", b.late(), 2)},
		Criteria: []systems.Criterion{
			{Name: "Gaussian first", Claim: "early the score is nearer to the Gaussian's than to the truth", Measure: "unexplained", Arm: "gaussian, early", Against: []string{"truth, early"}, Bound: 0.5},
			{Name: "truth later", Claim: "late it is nearer to the truth than to the Gaussian's", Measure: "unexplained", Arm: "truth, late", Against: []string{"gaussian, late"}, Bound: b.later},
			{Name: "away again", Claim: "it comes near the Gaussian's and goes away again", Measure: "unexplained", Arm: "gaussian, late", Against: []string{"gaussian, early"}, Bound: 1.5, AtLeast: true, Unequal: longer},
			{Name: "dominated", Claim: "at sigma 2 the Gaussian explains all but 1 % of a trained score", Measure: "unexplained", Arm: "gaussian, late, sigma 2", Form: systems.Value, Bound: 0.01},
		},
	}
	sweep := systems.Experiment{
		Name: "training", Question: "What explains a score while it is trained?", Size: systems.Size{N: b.held, Seeds: b.sweep}, Measures: shareMeasures,
		Sweep: &systems.Sweep{Param: "step", Label: "updates"},
	}
	for _, s := range slices.Sorted(slices.Values(b.steps)) {
		sweep.Sweep.Values = append(sweep.Sweep.Values, float64(s))
	}
	for _, m := range []string{"isotropic", "gaussian", "truth"} {
		sweep.Arms = append(sweep.Arms, systems.Arm{
			Name: m, Run: func(ctx context.Context, d systems.Draw) (*systems.Outcome, error) {
				return arm(m, d.Params.Int("step"), sigma).Run(ctx, withSigma(d, sigma))
			},
		})
	}
	return []systems.Experiment{judged, sweep}
}

// withSigma is d with a noise level among its settings.
func withSigma(d systems.Draw, sigma float64) systems.Draw {
	p := systems.Params{"sigma": sigma}
	for k, v := range d.Params {
		p[k] = v
	}
	d.Params = p
	return d
}

// trained is the second pass line with a network in place of the exact score.
func (b *bench) trained() systems.Experiment {
	flops := NewMLP(b.bed.Dims, b.width, 0).FLOPs()
	heun := way{solver: sampler.Heun{}, steps: 18, flops: flops}
	arm := func(name, text string, set systems.Params) systems.Arm {
		a := b.arm(name, text, heun, set)
		a.Run = func(ctx context.Context, d systems.Draw) (*systems.Outcome, error) {
			net, err := b.net(ctx, d, b.late())
			if err != nil {
				return nil, err
			}
			w := heun.with(d.Params)
			w.den = net
			return b.draw(ctx, d, w, func() (*gpu.Tensor, error) { return b.ends(ctx, d, net) })
		}
		return a
	}
	return systems.Experiment{
		Name: "trained", Question: "And are they with a trained network in place of the exact score?", Size: systems.Size{N: b.n, Seeds: b.seeds}, Measures: sampleMeasures,
		Arms: []systems.Arm{arm("18 steps", "35 evaluations", nil), arm("6 of them skipped", "23 evaluations", systems.Params{"skip": 6.})},
		Criteria: []systems.Criterion{
			{Name: "same distance", Claim: "a third of the steps skipped costs a trained network nothing in distance", Measure: "fd", Arm: "6 of them skipped", Against: []string{"18 steps"}, Bound: 1.1, Unequal: fewer},
			{Name: "same ends", Claim: "nor in each sample's distance to where the network's own flow leads", Measure: "rmse", Arm: "6 of them skipped", Against: []string{"18 steps"}, Bound: 1.1, Unequal: fewer},
		},
	}
}

// ends are where a network's own flow leads the noise of a seed.
func (b *bench) ends(ctx context.Context, d systems.Draw, net *MLP) (*gpu.Tensor, error) {
	return systems.Memo(d.Env, fmt.Sprintf("gaussteleport ends %p %d %d", net, d.Seed, d.N), func() (*gpu.Tensor, error) {
		g, err := diffusion.Build(b.path, diffusion.Spec{Rule: "exponential", Steps: 50})
		if err != nil {
			return nil, err
		}
		r, err := sampler.Run(ctx, net, sampler.RK4(), g, b.bed.Options(d.Seed, d.N))
		if err != nil {
			return nil, err
		}
		return r.X, nil
	})
}

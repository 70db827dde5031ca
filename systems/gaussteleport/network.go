package gaussteleport

import (
	"context"
	"fmt"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/sampler"
	"github.com/fidlab/fidlab/systems"
	"github.com/fidlab/fidlab/systems/bases"
)

// parts are the claims on trained networks of 28×28 pictures.
func parts() []systems.Part {
	const text = "18 steps of Heun without their first six by FID (at most 1.10 of all); few evaluations against a tuned start; how much of its score is Gaussian"
	return bases.NetworkParts(text, planNetwork)
}

// netSize is what a tier does on a network.
type netSize struct {
	images, rank int  // that the Gaussian is of, and its leading pairs
	classes      bool // of each class too
	many, skip   int  // steps of Heun, and how many are skipped
	few          int  // steps at few evaluations
	trials       int  // of a tuned arm, of the six
	held         int  // digits that scores are compared on
}

var netSizes = map[systems.Tier]netSize{
	systems.Tiny:  {images: 200, rank: 8, many: 3, skip: 1, few: 2, trials: 2, held: 4},
	systems.Short: {images: 3000, rank: 128, many: 6, skip: 2, few: 3, trials: 3, held: 32},
	systems.Full:  {images: 60000, rank: 256, classes: true, many: 18, skip: 6, few: 5, trials: 6, held: 500},
}

// netBench is a network with the Gaussian of its data.
type netBench struct {
	*bases.Bench
	netSize
	law     sampler.Law // of all digits
	classes sampler.Law // of each class; nil where there is none
	notes   []string
}

func planNetwork(ctx context.Context, env *systems.Env, name string, tier systems.Tier) ([]systems.Experiment, error) {
	b := &netBench{netSize: netSizes[tier]}
	var err error
	if b.Bench, err = bases.NewBench(ctx, env, name, tier); err != nil {
		return nil, err
	}
	stats, err := b.Gaussian(ctx, b.images, b.rank, b.netSize.classes)
	if err != nil {
		return nil, err
	}
	if b.law, err = GaussianOf(stats.LowRank, MeanRest, b.Net.Shape); err != nil {
		return nil, err
	}
	if stats.Classes != nil {
		if b.classes, err = LawOf(stats, MeanRest, b.Net.Shape); err != nil {
			return nil, err
		}
	}
	if b.notes, err = b.Notes(ctx); err != nil {
		return nil, err
	}
	if tier == systems.Short && name != bases.MNISTUNet {
		return []systems.Experiment{b.shares()}, nil // a minute is for one network
	}
	skip, err := b.skipped()
	if err != nil {
		return nil, err
	}
	few, err := b.fewer()
	if err != nil {
		return nil, err
	}
	return []systems.Experiment{skip, few, b.shares()}, nil
}

// netWay is how an arm on a network places its levels: by the path's usual rule,
// or along the curve of the paper's sampler, from "max" or with the flow's "shift" where these are set, the first "skip"
// steps taken by the law; or along Karras' curve from "jump", to which the law leads.
type netWay struct {
	solver sampler.Solver
	law    sampler.Law
	steps  int
	edm    bool
}

// The curve's ends on a path that begins with pure noise and ends without any: those of the paper's sampler, EDM's.
const highest, lowest = 80, 0.002

func (b *netBench) grid(w netWay, p systems.Params) (g *diffusion.Grid, skip int, err error) {
	spec := diffusion.Spec{Rule: b.Net.Rule(), Steps: w.steps}
	if p.Has("jump") {
		spec.Rule = "karras"
		if b.Net.Path.Space() == diffusion.FlowSpace {
			spec.SigmaMin = lowest
		}
		g, err = sampler.TeleportGrid(b.Net.Path, spec, p.Num("jump"))
		return g, 1, err
	}
	if w.edm && b.Net.Path.Space() == diffusion.FlowSpace {
		spec.Rule, spec.SigmaMax, spec.SigmaMin = "karras", highest, lowest
	}
	if p.Has("max") {
		spec.SigmaMax = p.Num("max")
	}
	if p.Has("shift") {
		spec.Shift = p.Num("shift")
	}
	if p.Has("skip") {
		skip = p.Int("skip")
	}
	g, err = diffusion.Build(b.Net.Path, spec)
	return g, skip, err
}

// arm draws in a way; every trial takes as many evaluations.
func (b *netBench) arm(name, text string, w netWay, set systems.Params, tune ...systems.Params) (systems.Arm, error) {
	a := systems.Arm{Name: name, Text: text, Set: set, Tune: tune}
	var first systems.Params
	if len(tune) > 0 {
		first = tune[0]
	}
	g, skip, err := b.grid(w, merged(set, first))
	if err != nil {
		return a, fmt.Errorf("gaussteleport: %s: %w", name, err)
	}
	a.Cost = b.Cost(w.solver, g.After(skip)) // the law's own 4·784·rank operations a step are little beside an evaluation's
	a.Run = func(ctx context.Context, d systems.Draw) (*systems.Outcome, error) {
		g, skip, err := b.grid(w, d.Params)
		if err != nil {
			return nil, err
		}
		law := w.law
		if law == nil {
			law = b.law
		}
		return b.Draw(ctx, d, bases.Way{
			Solver: &sampler.Teleport{Solver: w.solver, Law: law, Skip: skip}, Grid: g, Path: b.Net.Path, Rule: b.Net.Rule(),
		})
	}
	return a, nil
}

// merged is a and then b.
func merged(a, b systems.Params) systems.Params {
	out := systems.Params{}
	for _, p := range []systems.Params{a, b} {
		for k, v := range p {
			out[k] = v
		}
	}
	return out
}

// skipped is the pass line of a third of the steps, and what as many evaluations do otherwise.
func (b *netBench) skipped() (systems.Experiment, error) {
	heun := netWay{solver: sampler.Heun{}, steps: b.many, edm: true}
	less := netWay{solver: sampler.Heun{}, steps: b.many - b.skip, edm: true}
	own := netWay{solver: sampler.Heun{}, steps: b.many - b.skip}
	all, some := fmt.Sprintf("%d steps", b.many), fmt.Sprintf("%d of them skipped", b.skip)
	e := systems.Experiment{
		Name: "skip-" + b.Net.Name, Question: fmt.Sprintf("Are %d steps of Heun as good without their first %d?", b.many, b.skip),
		Size: b.Size, Measures: bases.NetworkMeasures(true), Notes: b.notes,
	}
	type one struct {
		name, text string
		w          netWay
		set        systems.Params
		tune       []systems.Params
	}
	list := []one{
		{all, "along EDM's curve, from sigma 80", heun, nil, nil},
		{some, "the flow of all digits' Gaussian takes them", heun, systems.Params{"skip": b.skip}, nil},
		{fmt.Sprintf("%d steps", less.steps), "as many evaluations along that curve", less, nil, nil},
		{"best start", "as many evaluations, where its grid starts is tuned", own, nil, b.starts()},
		{"best jump", "as many evaluations, where the flow leads to is tuned", own, nil, b.jumps()},
	}
	if b.classes != nil {
		list = append(list, one{some + ", by class", "the flow of each class's Gaussian takes them", netWay{sampler.Heun{}, b.classes, b.many, true}, systems.Params{"skip": b.skip}, nil})
	}
	for _, o := range list {
		a, err := b.arm(o.name, o.text, o.w, o.set, o.tune...)
		if err != nil {
			return e, err
		}
		e.Arms = append(e.Arms, a)
	}
	e.Criteria = []systems.Criterion{
		{Name: "same distance", Claim: "a third of the steps skipped costs at most a tenth of the FID", Measure: "fid", Arm: some, Against: []string{all}, Bound: 1.1, Unequal: fewer},
		{Name: "same ends", Claim: "and leads each noise nearly where all steps lead it", Measure: "rmse", Arm: some, Against: []string{all}, Bound: 1.1, Unequal: fewer, Shown: true},
		{Name: "beats a coarser grid", Claim: "it is better than as many evaluations along the whole curve", Measure: "fid", Arm: some, Against: []string{list[2].name}, Bound: 1, Shown: true},
		{Name: "beats a tuned start", Claim: "the best jump is no worse than the best start", Measure: "fid", Arm: "best jump", Against: []string{"best start"}, Bound: 1, Shown: true},
	}
	return e, nil
}

// starts are the settings that a plain sampler may choose from: its first level, or on the flow's path, which begins with pure noise, the shift of its times.
func (b *netBench) starts() []systems.Params {
	if b.Net.Path.Space() == diffusion.FlowSpace {
		return trials("shift", 1, 0.5, 2, 3, 0.7, 1.5)[:b.trials]
	}
	return trials("max", 80, 20, 10, 5, 3, 2)[:b.trials]
}

// jumps are as many levels that the law's flow may lead to.
func (b *netBench) jumps() []systems.Params {
	return trials("jump", 20, 5, 10, 3, 2, 1)[:b.trials]
}

// fewer compares both at few evaluations: of DPM-Solver++ 2M, and of Heun where the path begins with pure noise.
func (b *netBench) fewer() (systems.Experiment, error) {
	w := netWay{solver: solver("dpm++2m"), steps: 2*b.few - 1}
	if b.Net.Path.Space() == diffusion.FlowSpace {
		w = netWay{solver: sampler.Heun{}, steps: b.few}
	}
	e := systems.Experiment{
		Name: "few-" + b.Net.Name, Question: fmt.Sprintf("Of %d evaluations of %s, is it better to jump first?", 2*b.few-1, w.solver.Name()),
		Size: b.Size, Measures: bases.NetworkMeasures(true), Notes: b.notes,
	}
	for _, o := range []struct {
		name, text string
		set        systems.Params
		tune       []systems.Params
	}{
		{"plain", "from the path's most noise", nil, nil},
		{"jump to 5", "the flow of all digits' Gaussian leads there", systems.Params{"jump": 5.}, nil},
		{"best start", "where its grid starts is tuned", nil, b.starts()},
		{"best jump", "where the flow leads to is tuned", nil, b.jumps()},
	} {
		a, err := b.arm(o.name, o.text, w, o.set, o.tune...)
		if err != nil {
			return e, err
		}
		e.Arms = append(e.Arms, a)
	}
	e.Criteria = []systems.Criterion{
		{Name: "few evaluations", Claim: "a jump to sigma 5 is better than the path's most noise", Measure: "fid", Arm: "jump to 5", Against: []string{"plain"}, Bound: 1},
		{Name: "tuned", Claim: "the best jump is no worse than the best start", Measure: "fid", Arm: "best jump", Against: []string{"best start"}, Bound: 1, Shown: true},
		{Name: "nearer ends", Claim: "the jump to sigma 5 brings samples nearer to where their noise leads", Measure: "rmse", Arm: "jump to 5", Against: []string{"plain"}, Bound: 1, Shown: true},
	}
	return e, nil
}

// shares is how much of the network's score without a class is that of the Gaussian of all digits.
func (b *netBench) shares() systems.Experiment {
	e := systems.Experiment{
		Name: "score-" + b.Net.Name, Question: "How much of the network's score does the Gaussian of the training digits leave unexplained?",
		Size: systems.Size{N: b.held, Seeds: b.Size.Seeds}, Measures: shareMeasures,
	}
	all := b.law.(*sampler.Gaussian)
	for _, m := range []Score{{"gaussian", all}, {"isotropic", Isotropic(all)}} {
		for _, sigma := range []float64{20, 5, 2, 1, 0.2} {
			e.Arms = append(e.Arms, systems.Arm{
				Name: fmt.Sprintf("%s at %g", m.Name, sigma), Set: systems.Params{"sigma": sigma},
				Run: func(ctx context.Context, d systems.Draw) (*systems.Outcome, error) {
					x, err := b.TestDigits(d.Seed, d.N)
					if err != nil {
						return nil, err
					}
					share, err := Explain(ctx, b.Net.Denoiser(), []Score{m}, x, ExplainOptions{Sigmas: []float64{d.Params.Num("sigma")}, Seed: d.Seed})
					if err != nil {
						return nil, err
					}
					return &systems.Outcome{Values: map[string]float64{"unexplained": min(1-share[0].Explains, worstShare)}}, nil
				},
			})
		}
	}
	e.Criteria = []systems.Criterion{
		{Name: "high noise", Claim: "at sigma 5 the Gaussian explains all but 1 % of the score", Measure: "unexplained", Arm: "gaussian at 5", Form: systems.Value, Bound: 0.01},
		{Name: "covariance", Claim: "at sigma 2 it leaves less than half of what one variance for all directions leaves", Measure: "unexplained", Arm: "gaussian at 2", Against: []string{"isotropic at 2"}, Bound: 0.5, Shown: true},
		{Name: "low noise", Claim: "at sigma 0.2 the network knows more than the Gaussian: it leaves more than at 2", Measure: "unexplained", Arm: "gaussian at 0.2", Against: []string{"gaussian at 2"}, Bound: 1, AtLeast: true, Shown: true},
	}
	return e
}

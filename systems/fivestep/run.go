package fivestep

import (
	"context"
	"math"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/sampler"
	"github.com/fidlab/fidlab/systems"
	"github.com/fidlab/fidlab/systems/bases"
)

// measures of every experiment that draws from the bed itself.
func measures() []systems.Measure {
	return []systems.Measure{
		{Name: "fd", Text: "Fréchet distance to the exact moments", Least: 25},
		{Name: "error", Text: "root mean square distance to the exact end of the same noise"},
		{Name: "variance", Text: "total variance of the samples over the exact one"},
	}
}

// paper are the two-level settings that go with a number of steps.
func paper(steps int) systems.Params {
	if steps <= 6 {
		return systems.Params{"rule": "two-level", "base": 8, "base-rho": 5.0, "cut": 6}
	}
	return systems.Params{"rule": "two-level", "base": 12, "base-rho": 7.0, "cut": 9}
}

// settings joins lists of an arm's settings; later ones win.
func settings(lists ...systems.Params) systems.Params {
	out := systems.Params{}
	for _, l := range lists {
		for k, v := range l {
			out[k] = v
		}
	}
	return out
}

// grid makes what an arm's settings say: "rule" and "steps", "end" (zero unless
// given), and the rule's own. The rule re-spaced-in-sigma is the two-level grid
// that puts its second curve into sigma instead of time, and last-noise spreads
// the steps like two-level down to the level "last".
func (t *task) grid(s systems.Params) (*diffusion.Grid, error) {
	spec := diffusion.Spec{Rule: s.Text("rule"), Steps: s.Int("steps")}
	if s.Has("end") {
		end, err := diffusion.EndByName(s.Text("end"))
		if err != nil {
			return nil, err
		}
		spec.End = end
	}
	num := func(name string) float64 {
		if s.Has(name) {
			return s.Num(name)
		}
		return 0
	}
	spec.Rho, spec.SigmaMin = num("rho"), num("sigma-min")
	spec.BaseSteps, spec.BaseRho, spec.Cut, spec.RespaceRho = int(num("base")), num("base-rho"), int(num("cut")), num("respace")
	switch spec.Rule {
	case "re-spaced-in-sigma", "cut-only":
		// Both are Karras curves from the path's most noise to the cut level.
		cut, rho := t.cutLevel(spec), 1.2
		if spec.Rule == "cut-only" {
			rho = spec.BaseRho
		}
		spec = diffusion.Spec{Rule: "karras", Steps: spec.Steps, End: spec.End, Rho: rho, SigmaMin: cut}
	case "last-noise":
		return t.downTo(spec, s.Num("last"))
	}
	return diffusion.Build(t.path, spec)
}

// cutLevel is the level that a two-level grid's curve is cut at.
func (t *task) cutLevel(s diffusion.Spec) float64 {
	most, least := t.path.Range()
	hi, lo := math.Pow(t.path.Sigma(most), 1/s.BaseRho), math.Pow(t.path.Sigma(least), 1/s.BaseRho)
	return math.Pow(hi+float64(s.Cut)/float64(s.BaseSteps-1)*(lo-hi), s.BaseRho)
}

// downTo is a two-level grid that was cut at any level: times evenly in their
// power 1/1.2 from the path's most noise to the one of last.
func (t *task) downTo(s diffusion.Spec, last float64) (*diffusion.Grid, error) {
	n := s.Steps
	if s.End == diffusion.Keep {
		n++
	}
	most, _ := t.path.Range()
	a, b := math.Pow(most, 1/1.2), math.Pow(t.path.TimeBy(last, diffusion.ByLogSigma), 1/1.2)
	list := diffusion.Spec{Rule: "sigmas", End: s.End}
	for i := range n {
		list.List = append(list.List, t.path.SigmaBy(math.Pow(a+float64(i)/float64(n-1)*(b-a), 1.2), diffusion.ByABar))
	}
	return diffusion.Build(t.path, list)
}

// sample draws d's samples as settings say.
func (t *task) sample(ctx context.Context, d systems.Draw, s systems.Params) (*sampler.Result, error) {
	g, err := t.grid(s)
	if err != nil {
		return nil, err
	}
	solver, err := sampler.ByName(s.Text("solver"))
	if err != nil {
		return nil, err
	}
	return sampler.Run(ctx, t.law.den(s), solver, g, t.law.options(d.Seed, d.N))
}

// run is an arm that draws by its settings and measures the samples as they are.
func (t *task) run(ctx context.Context, d systems.Draw) (*systems.Outcome, error) {
	r, err := t.sample(ctx, d, d.Params)
	if err != nil {
		return nil, err
	}
	return t.outcome(ctx, d, r.X, float64(r.NFE))
}

// runPaper is run with the paper's settings for the number of steps.
func (t *task) runPaper(ctx context.Context, d systems.Draw) (*systems.Outcome, error) {
	d.Params = settings(paper(d.Params.Int("steps")), d.Params)
	return t.run(ctx, d)
}

// outcome measures samples x of the noise of d.
func (t *task) outcome(ctx context.Context, d systems.Draw, x *gpu.Tensor, nfe float64) (*systems.Outcome, error) {
	exact, err := t.exact(ctx, d.Env, d.Params, d.Seed, d.N)
	if err != nil {
		return nil, err
	}
	mean, cov, err := t.moments(ctx, d)
	if err != nil {
		return nil, err
	}
	fd, variance, err := compare(mean, cov, x)
	if err != nil {
		return nil, err
	}
	o := &systems.Outcome{Values: map[string]float64{"fd": fd, "error": bases.RMSE(x, exact), "variance": variance}, Cost: systems.Cost{NFE: nfe}}
	if d.First && t.show && t.law.pictures != nil {
		o.Pictures = t.law.pictures(x, 12)
	}
	return o, nil
}

// arm is an untuned arm of a task.
func (t *task) arm(name, text string, s systems.Params) systems.Arm {
	return systems.Arm{Name: name, Text: text, Set: s, Cost: systems.Cost{NFE: s.Num("steps")}, Run: t.run}
}

// tuned is an arm that tries every entry of a list.
func (t *task) tuned(name, text string, s systems.Params, trials []systems.Params) systems.Arm {
	a := t.arm(name, text, s)
	a.Tune = trials
	return a
}

// trials are the products of lists of settings, at most limit of them.
func trials(tier systems.Tier, lists ...[]systems.Params) []systems.Params {
	out := []systems.Params{{}}
	for _, l := range lists {
		var next []systems.Params
		for _, a := range out {
			for _, b := range l {
				next = append(next, settings(a, b))
			}
		}
		out = next
	}
	if tier == systems.Tiny { // the machinery, not the optimum
		out = []systems.Params{out[0], out[len(out)/2]}
	}
	return out
}

// each is one setting by name at each of its values.
func each[T any](name string, values ...T) []systems.Params {
	var out []systems.Params
	for _, v := range values {
		out = append(out, systems.Params{name: v})
	}
	return out
}

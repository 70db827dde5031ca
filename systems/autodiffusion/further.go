package autodiffusion

import (
	"context"
	"fmt"
	"slices"

	"github.com/fidlab/fidlab/rng"
	"github.com/fidlab/fidlab/sampler"
	"github.com/fidlab/fidlab/sampler/search"
	"github.com/fidlab/fidlab/systems"
	"github.com/fidlab/fidlab/systems/bases"
)

// shuffled leaves out as many layers of each step as c does, but others.
func shuffled(c search.Choice, seed uint64) search.Choice {
	r := rng.ForImage(seed, 0, rng.Order)
	out := search.Choice{Steps: c.Steps}
	for _, skip := range c.Skips {
		var other []int
		for len(other) < len(skip) {
			if l := r.Intn(layerCount); !slices.Contains(other, l) {
				other = append(other, l)
			}
		}
		slices.Sort(other)
		out.Skips = append(out.Skips, other)
	}
	return out
}

// The classes of the guided studies: components in three groups.
const (
	classCount = 3
	guidance   = 1.5
)

// Another model of the same data, as a second training would give it: a mixture
// of other components, fitted to draws.
const (
	otherDraws      = 6000
	otherComponents = 7
)

// refit is that mixture.
func refit(ctx context.Context, bed *bases.Mixture) (sampler.MixtureSpec, error) {
	x := bed.Draws(77, otherDraws).F64()
	d := bed.Dims
	rows := sampler.Rows{N: otherDraws, D: d, At: func(i int, dst []float64) { copy(dst, x[i*d:(i+1)*d]) }}
	s, err := sampler.FitMixture(ctx, rows, nil, sampler.FitOptions{Components: otherComponents, Dims: d, Iterations: 10, Seed: 5}, nil)
	if err != nil {
		return sampler.MixtureSpec{}, err
	}
	out := sampler.MixtureSpec{Weights: s.Weights}
	for k, mu := range s.Means { // from the fit's own axes back to the values
		mean, cov := slices.Clone(s.Subspace.Mean), make([][]float64, d)
		half := make([][]float64, d) // C·B
		for a := range d {
			half[a] = make([]float64, d)
			for b := range d {
				for j := range d {
					half[a][j] += s.Covs[k][a][b] * s.Subspace.Basis[b][j]
				}
				mean[b] += mu[a] * s.Subspace.Basis[a][b]
			}
		}
		for i := range d {
			cov[i] = make([]float64, d)
			for a := range d {
				for j := range d {
					cov[i][j] += s.Subspace.Basis[a][i] * half[a][j]
				}
			}
		}
		for i := range d { // symmetric to the last bit
			for j := range i {
				cov[i][j] = (cov[i][j] + cov[j][i]) / 2
				cov[j][i] = cov[i][j]
			}
		}
		out.Means, out.Covs = append(out.Means, mean), append(out.Covs, cov)
	}
	return out, nil
}

// classed gives a mixture classes, the components in turn, and its study guidance.
func (s *study) classed(name string, spec sampler.MixtureSpec, weight float64) (*study, error) {
	spec.Labels = nil
	for k := range spec.Weights {
		spec.Labels = append(spec.Labels, k%classCount)
	}
	m, err := sampler.NewMixture(spec)
	if err != nil {
		return nil, err
	}
	out := *s
	out.name, out.den, out.weight = name, m, weight
	for k := range classCount {
		out.classes = append(out.classes, k)
	}
	return &out, nil
}

// another carries a plan to another model: without guidance, and under the same
// guidance that it was found under.
func (s *study) another(ctx context.Context) (systems.Experiment, error) {
	const k = 4
	var e systems.Experiment
	spec, err := refit(ctx, s.bed)
	if err != nil {
		return e, err
	}
	m, err := sampler.NewMixture(spec)
	if err != nil {
		return e, err
	}
	to := *s
	to.name, to.den = "refit", m
	var guided [2]*study
	if guided[0], err = s.classed("digits-guided", s.bed.Spec, guidance); err != nil {
		return e, err
	}
	if guided[1], err = s.classed("refit-guided", spec, guidance); err != nil {
		return e, err
	}
	// by is an arm that draws from the study to by the plan that was found on from.
	by := func(name, text string, from, to *study) systems.Arm {
		return systems.Arm{
			Name: name, Text: text, Trials: s.size.trials(), Cost: s.cost(k),
			Run: func(ctx context.Context, d systems.Draw) (*systems.Outcome, error) {
				found, err := from.find(ctx, d.Env, d.Seed, s.space(k), fmt.Sprint(k), settings{name: "searched"})
				if err != nil {
					return nil, err
				}
				g, err := s.levels.Grid(found.Best.C.Steps)
				if err != nil {
					return nil, err
				}
				return to.draw(ctx, d, to.den, g, s.cost(k))
			},
		}
	}
	rule := func(s *study, rule, name string) systems.Arm {
		a := s.ruled(rule, "", rule, k, nil)
		a.Name = name
		return a
	}
	e = systems.Experiment{
		Name: "another-model", Question: "Does a plan of four steps serve another model, a mixture of other components fitted to draws of the first?",
		Size: systems.Size{N: s.size.n, Seeds: s.size.seeds}, Measures: []systems.Measure{fdMeasure},
		Arms: []systems.Arm{
			by("transferred", "the first model's plan", s, &to),
			by("own-plan", "a plan searched on this model", &to, &to),
			by("guided-transferred", "guided: the first model's plan, found under the same guidance", guided[0], guided[1]),
			by("guided-own", "guided: a plan searched on this model under the guidance", guided[1], guided[1]),
			by("unguided-plan", "guided: the first model's plan, found without guidance", s, guided[1]),
			rule(&to, "leading", "leading"), rule(&to, "quadratic-ddim", "quadratic-ddim"),
			rule(guided[1], "leading", "guided-leading"), rule(guided[1], "quadratic-ddim", "guided-quadratic"),
		},
	}
	const unequal = "rules without settings have nothing to tune"
	e.Criteria = []systems.Criterion{
		{Name: "unguided", Claim: "a plan found on another model is at most half of the best fixed rule", Measure: "fd", Arm: "transferred", Against: []string{"leading", "quadratic-ddim"}, Bound: 0.5, Unequal: unequal},
		{Name: "guided", Claim: "the same under one guidance", Measure: "fd", Arm: "guided-transferred", Against: []string{"guided-leading", "guided-quadratic"}, Bound: 0.5, Unequal: unequal, Shown: true},
		{Name: "own", Claim: "it is near the model's own plan", Measure: "fd", Arm: "transferred", Against: []string{"own-plan"}, Bound: 1.1, Shown: true},
		{Name: "guided-own", Claim: "under guidance too", Measure: "fd", Arm: "guided-transferred", Against: []string{"guided-own"}, Bound: 1.1, Shown: true},
		{Name: "same-guidance", Claim: "a plan found without guidance serves guidance worse", Measure: "fd", Arm: "unguided-plan", Against: []string{"guided-transferred"}, Bound: 1, AtLeast: true, Shown: true},
	}
	return e, nil
}

// multistep searches on top of another sampler.
func (s *study) multistep() systems.Experiment {
	const k = 5
	m := *s
	solver, err := sampler.ByName("dpm++2m")
	if err != nil {
		panic(err) // the registry has it
	}
	m.solver = solver
	e := systems.Experiment{
		Name: "multistep", Question: "Does the search help a better sampler too: five steps of DPM-Solver++ 2M?",
		Size: systems.Size{N: s.size.n, Seeds: s.size.seeds}, Measures: []systems.Measure{fdMeasure, errorMeasure},
		Arms: []systems.Arm{m.searched("searched", "", k, settings{})},
	}
	usual := []string{"karras"}
	for _, rule := range fixedRules {
		e.Arms = append(e.Arms, m.ruled(rule, "", rule, k, nil))
		usual = append(usual, rule)
	}
	trials := s.size.trials()
	e.Arms = append(e.Arms,
		m.ruled("karras", "Karras' curve from the most noise; exponent and last level tuned", "karras", k, s.karras(trials, false)),
		m.ruled("karras-free", "Karras' curve; exponent, first and last level tuned", "karras", k, s.karras(trials, true)))
	e.Criteria = []systems.Criterion{
		{
			Name: "fixed-grids", Claim: "better than the best fixed grid, tuned Karras included", Measure: "fd", Arm: "searched", Against: usual, Bound: 1,
			Unequal: "rules without settings have nothing to tune; Karras' curve has as many trials as the search",
		},
		{Name: "tuned-start", Claim: "no worse than Karras' curve with a tuned start", Measure: "fd", Arm: "searched", Against: []string{"karras-free"}, Bound: 1, Shown: true},
	}
	return e
}

// nfe is the figure of the distance and the exact error over the number of steps.
func (s *study) nfe(tier systems.Tier) systems.Experiment {
	values := []float64{3, 4, 5, 6, 8, 10}
	if tier != systems.Full {
		values = []float64{4, 6}
	}
	few := min(3, s.size.seeds)
	arm := s.searched("searched", "", 0, settings{})
	arm.Trials, arm.Set = 0, nil
	e := systems.Experiment{
		Name: "nfe", Question: "Over the number of steps?", Size: systems.Size{N: s.size.n, Seeds: few},
		Measures: []systems.Measure{fdMeasure, errorMeasure}, Sweep: &systems.Sweep{Param: "steps", Label: "steps of DDIM", Values: values},
		Arms: []systems.Arm{arm},
	}
	for _, rule := range []string{"linspace", "leading", "karras", "quadratic-ddim"} {
		a := s.ruled(rule, "", rule, 0, nil)
		a.Set = systems.Params{"rule": rule}
		e.Arms = append(e.Arms, a)
	}
	dynamic := s.learned(0, 2.5)
	delete(dynamic.Set, "steps")
	e.Arms = append(e.Arms, dynamic)
	return e
}

// curve is the figure of the search: the least distance after so many candidates.
func (s *study) curve() systems.Experiment {
	const k = 4
	var values []float64
	for _, v := range []float64{1, 2, 5, 10, 20, 35, 50, 75, 100, 150, 200, 260} {
		if int(v) <= s.size.evaluations {
			values = append(values, v)
		}
	}
	arm := func(name, text string, set settings) systems.Arm {
		set.name = name
		return systems.Arm{Name: name, Text: text, Run: func(ctx context.Context, d systems.Draw) (*systems.Outcome, error) {
			found, err := s.find(ctx, d.Env, d.Seed, s.space(k), fmt.Sprint(k), set)
			if err != nil {
				return nil, err
			}
			at := min(d.Params.Int("candidates"), len(found.Curve)) - 1
			return &systems.Outcome{Values: map[string]float64{"fitness": found.Curve[at]}}, nil
		}}
	}
	return systems.Experiment{
		Name: "curve", Question: "How does the search come on?", Size: systems.Size{N: s.size.n, Seeds: s.size.seeds},
		Measures: []systems.Measure{{Name: "fitness", Text: "least Fréchet distance so far, on the search's noise"}},
		Sweep:    &systems.Sweep{Param: "candidates", Label: "candidates evaluated", Values: values},
		Arms: []systems.Arm{
			arm("searched", "evolution", settings{}),
			arm("random", "random search", settings{o: search.Options{Aimless: true}}),
		},
	}
}

package autodiffusion

import (
	"context"
	"fmt"
	"math"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/sampler"
	"github.com/fidlab/fidlab/sampler/search"
	"github.com/fidlab/fidlab/systems"
)

// The space of a number of steps.
func (s *study) space(k int) *search.Steps { return &search.Steps{T: s.levels.Len(), K: k} }

// cost of steps of one evaluation each.
func (s *study) cost(k int) systems.Cost {
	return systems.Cost{NFE: float64(k), FLOPs: float64(k) * s.bed.FLOPs()}
}

// searched is an arm that searches k steps by itself, anew for each seed.
func (s *study) searched(name, text string, k int, set settings) systems.Arm {
	set.name = name
	return systems.Arm{
		Name: name, Text: text, Set: systems.Params{"steps": k}, Trials: s.size.trials(), Cost: s.cost(k),
		Run: func(ctx context.Context, d systems.Draw) (*systems.Outcome, error) {
			k := d.Params.Int("steps")
			found, err := s.find(ctx, d.Env, d.Seed, s.space(k), fmt.Sprint(k), set)
			if err != nil {
				return nil, err
			}
			g, err := s.levels.Grid(found.Best.C.Steps)
			if err != nil {
				return nil, err
			}
			out, err := s.draw(ctx, d, s.den, g, s.cost(k))
			if err == nil && d.First {
				out.Notes = append(out.Notes, fmt.Sprintf("times %s of %d, distance %.4g in the search", found.Best.Key, s.levels.Len(), found.Best.Fitness))
			}
			return out, err
		},
	}
}

// ruled is an arm on the grid of a rule; trials are the settings that it is tuned over.
func (s *study) ruled(name, text, rule string, k int, trials []systems.Params) systems.Arm {
	return systems.Arm{
		Name: name, Text: text, Set: systems.Params{"rule": rule, "steps": k}, Tune: trials, Cost: s.cost(k),
		Run: func(ctx context.Context, d systems.Draw) (*systems.Outcome, error) {
			p := d.Params
			spec := diffusion.Spec{Rule: p.Text("rule"), Steps: p.Int("steps")}
			if p.Has("rho") {
				spec.Rho, spec.SigmaMax, spec.SigmaMin = p.Num("rho"), p.Num("sigma_max"), p.Num("sigma_min")
			}
			g, err := diffusion.Build(s.levels.Path, spec)
			if err != nil {
				return nil, err
			}
			return s.draw(ctx, d, s.den, g, s.cost(p.Int("steps")))
		},
	}
}

// karras is n settings of the curve: over rho and its last level, from the path's
// most noise, or over its first level as well.
func (s *study) karras(n int, free bool) []systems.Params {
	most, _ := s.levels.Path.Range()
	top := s.levels.Path.Sigma(most)
	his := []float64{top}
	los := 1
	if free {
		his = append(his, 80, 40, 20, 10, 5, 3, 2, 1.5, 1)
	}
	for los*los*2 < n/len(his) { // twice as many last levels as exponents or so
		los++
	}
	rhos := max(n/len(his)/los, 1)
	var out []systems.Params
	for i := range rhos {
		rho := 1 + 19*float64(i)/math.Max(float64(rhos-1), 1)
		for j := range los {
			lo := 0.01 * math.Pow(100, float64(j)/math.Max(float64(los-1), 1)) // to 1
			for _, hi := range his {
				out = append(out, systems.Params{"rho": rho, "sigma_max": hi, "sigma_min": math.Min(lo, hi/2)})
			}
		}
	}
	out = out[:min(len(out), n)]
	for i := 0; len(out) < n; i++ { // equal numbers: the first ones again
		out = append(out, out[i])
	}
	return out
}

// fixedRules are grids without settings, by their arms' names.
var fixedRules = []string{"linspace", "leading", "trailing", "exponential", "quadratic-ddim"}

// bounds of the pass lines.
type bounds struct {
	usual float64 // against the rules that the paper's kind of comparison has, and Karras' curve from the most noise
	rules float64 // and against DDIM's quadratic list, which starts at 0.8·T
}

// learned is an arm of exact dynamic programming over a fine grid, whose start is tuned.
func (s *study) learned(k int, tops ...float64) systems.Arm {
	a := systems.Arm{
		Name: "dynamic", Text: "the steps of least error bound among 96, by dynamic programming over 64 trajectories; its first level is tuned",
		Set: systems.Params{"steps": k}, Cost: s.cost(k),
		Run: func(ctx context.Context, d systems.Draw) (*systems.Outcome, error) {
			k, top := d.Params.Int("steps"), d.Params.Num("sigma_max")
			g, err := systems.Memo(d.Env, fmt.Sprintf("autodiffusion learned %s %d %g", s.name, k, top), func() (*diffusion.Grid, error) {
				fine, err := diffusion.Build(s.levels.Path, diffusion.Spec{Rule: "exponential", Steps: 96, SigmaMax: top, SigmaMin: 0.02})
				if err != nil {
					return nil, err
				}
				g, _, err := sampler.LearnGrid(ctx, s.den, fine, k, s.bed.Options(searchNoise, 64))
				return g, err
			})
			if err != nil {
				return nil, err
			}
			return s.draw(ctx, d, s.den, g, s.cost(k))
		},
	}
	for _, top := range tops {
		a.Tune = append(a.Tune, systems.Params{"sigma_max": top})
	}
	if len(tops) == 1 {
		a.Set["sigma_max"], a.Tune = tops[0], nil
	}
	return a
}

// fromUnit is the study with starts of unit noise, as the released code has them.
func (s *study) fromUnit() *study {
	out := *s
	out.name, out.unit = s.name+"-unit", true
	return &out
}

// steps is the first stage: k steps against fixed grids, tuned ones and random search.
func (s *study) steps(name string, k int, tier systems.Tier, b bounds) systems.Experiment {
	seeds := s.size.seeds
	if k == 4 && tier == systems.Full {
		seeds = 24 // what random search loses varies by a tenth or two of itself from seed to seed
	}
	e := systems.Experiment{
		Name:     name,
		Question: fmt.Sprintf("Are %d searched steps of DDIM better than those of fixed rules%s?", k, map[bool]string{true: ", from unit noise"}[s.unit]),
		Size:     systems.Size{N: s.size.n, Seeds: seeds},
		Measures: []systems.Measure{fdMeasure, errorMeasure},
		Arms: []systems.Arm{
			s.searched("searched", "evolution, ranked again on other noise", k, settings{}),
			s.searched("random", "random search of the same budget, ranked again likewise", k, settings{o: search.Options{Aimless: true}}),
		},
	}
	var rules []string
	for _, rule := range fixedRules {
		e.Arms = append(e.Arms, s.ruled(rule, "", rule, k, nil))
		rules = append(rules, rule)
	}
	trials := s.size.trials()
	tops := []float64{3, 2}
	if tier != systems.Tiny {
		tops = []float64{20, 5, 3, 2.5, 2, 1.5}
	}
	e.Arms = append(e.Arms,
		s.ruled("karras", "Karras' curve from the most noise; exponent and last level tuned", "karras", k, s.karras(trials, false)),
		s.ruled("karras-free", "Karras' curve; exponent, first and last level tuned", "karras", k, s.karras(trials, true)),
		s.learned(k, tops...))
	const unequal = "rules without settings have nothing to tune; Karras' curve has as many trials as the search, on four times the samples"
	usual := append([]string{"karras"}, rules[:4]...)
	e.Criteria = []systems.Criterion{
		{
			Name: "fixed-grids", Claim: fmt.Sprintf("at most %g of the best fixed grid that starts at the path's noisy end, tuned Karras included", b.usual),
			Measure: "fd", Arm: "searched", Against: usual, Bound: b.usual, Unequal: unequal,
		},
		{
			Name: "quadratic-too", Claim: fmt.Sprintf("at most %g of the best fixed grid, DDIM's quadratic list included", b.rules),
			Measure: "fd", Arm: "searched", Against: append(usual[:len(usual):len(usual)], "quadratic-ddim"), Bound: b.rules, Unequal: unequal,
		},
		{
			Name: "uniform", Claim: "at most a quarter of the uniform list",
			Measure: "fd", Arm: "searched", Against: []string{"linspace"}, Bound: 0.25, Unequal: unequal, Shown: true,
		},
		{
			Name: "random-search", Claim: "random search of equal budget is 5 % worse at least",
			Measure: "fd", Arm: "random", Against: []string{"searched"}, Bound: 1.05, AtLeast: true,
		},
		{
			Name: "tuned-start", Claim: "no worse than Karras' curve with a tuned start, which has three settings",
			Measure: "fd", Arm: "searched", Against: []string{"karras-free"}, Bound: 1, Shown: true,
		},
		{
			Name: "dynamic-programming", Claim: "no worse than exact dynamic programming with a tuned start",
			Measure: "fd", Arm: "searched", Against: []string{"dynamic"}, Bound: 1, Shown: true,
			Unequal: "dynamic programming tries first levels only; its steps come from trajectories",
		},
	}
	return e
}

// parts takes away, one at a time, what the search is made of.
func (s *study) parts() systems.Experiment {
	const k = 4
	whole := settings{}
	arm := func(name, text string, set settings) systems.Arm { return s.searched(name, text, k, set) }
	e := systems.Experiment{
		Name: "parts", Question: "What does each part of the search do, at four steps?",
		Size: systems.Size{N: s.size.n, Seeds: s.size.seeds}, Measures: []systems.Measure{fdMeasure, errorMeasure},
		Arms: []systems.Arm{
			arm("searched", "the whole search", whole),
			arm("no-crossing", "mutants and random candidates alone", settings{o: search.Options{Crosses: -1}}),
			arm("no-mutation", "crossings and random candidates alone", settings{o: search.Options{Mutants: -1}}),
			arm("no-restarts", "no random candidates after the first population", settings{o: search.Options{Mutants: 30, Crosses: 20}}),
			arm("fresh-noise", "noise of its own for each candidate, as the released code has it", settings{fresh: true}),
			arm("no-ranking", "the best by the search's own noise, of as many more candidates", settings{unrank: true}),
		},
	}
	for _, a := range e.Arms[1:] {
		e.Criteria = append(e.Criteria, systems.Criterion{
			Name: a.Name, Claim: "worse than the whole search", Measure: "fd", Arm: a.Name, Against: []string{"searched"}, Bound: 1, AtLeast: true, Shown: true,
		})
	}
	return e
}

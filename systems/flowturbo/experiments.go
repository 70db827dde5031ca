package flowturbo

import (
	"context"
	"fmt"
	"math"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/sampler"
	"github.com/fidlab/fidlab/systems"
	"github.com/fidlab/fidlab/systems/bases"
)

// The arms of a comparison.
const (
	turbo   = "FlowTurbo"
	whole   = "Heun, 4 steps"
	heun    = "Heun, 3 steps"
	euler   = "Euler, 5 steps"
	pseudo  = "pseudo-corrector, 5 steps"
	kept    = "velocity kept"
	early   = "refined early"
	compat  = "compat"
	doubled = "without pseudo-corrector"
)

// arms by name: the paper's order of blocks at the size of the card, its rivals, and what becomes of it without its parts.
func arms() []struct {
	name, text string
	way        way
} {
	return []struct {
		name, text string
		way        way
	}{
		{turbo, "H1P2R3: four evaluations, five refinements", way{blocks: "H1P2R3"}},
		{whole, "seven evaluations", way{solver: "heun", steps: 4}},
		{heun, "five evaluations", way{solver: "heun", steps: 3}},
		{euler, "five evaluations", way{solver: "ddim", steps: 5}},
		{pseudo, "H1P4: five evaluations", way{blocks: "H1P4"}},
		{kept, "H1P2R3 whose refiner says no change", way{blocks: "H1P2R3", frozen: true}},
		{early, "H1R2H1P1: four evaluations, four refinements, none at the end", way{blocks: "H1R2H1P1"}},
		{compat, "H1P2R3 whose second refinement is told the velocity of the block before", way{blocks: "H1P2R3", compat: true}},
		{doubled, "H2R4: four evaluations, seven refinements", way{blocks: "H2R4"}},
	}
}

// shifts that arms are tuned over: even steps of time, and more of them near data or near noise.
func (s sizes) shifts() []systems.Params {
	return []systems.Params{{"shift": 1.}, {"shift": 0.7}, {"shift": 1.5}}[:s.trials]
}

// declared is the cost of a way where a refinement's share of an evaluation is known only with the network: none.
func (w way) declared() systems.Cost {
	solver, g, err := w.on(nil, 1)
	if err != nil {
		panic(fmt.Sprintf("flowturbo: %+v: %v", w, err)) // ways are the plan's own
	}
	nfe, _ := w.evaluations(solver, g)
	return systems.Cost{NFE: nfe}
}

// compare draws with blocks and with what they replace.
func (s sizes) compare(name string, of maker) systems.Experiment {
	x := systems.Experiment{
		Name: name, Question: "Do blocks of Heun, pseudo-corrector and refiner draw as well in less time, and what is each of them worth?",
		Size: systems.Size{N: s.n, Seeds: s.seeds},
		Measures: []systems.Measure{
			{Name: "fid", Text: "FID to the test digits in the built-in encoder's features", Least: bases.Features + 1},
			{Name: "floor", Text: "that of as many training digits"},
			{Name: "rmse", Text: fmt.Sprintf("root mean square from where %d steps of Heun's method take the same noise", s.fine)},
			{Name: "work", Text: "evaluations, and refinements by their share of an evaluation's operations"},
		},
	}
	if s.timed > 0 {
		x.Measures = append(x.Measures, systems.Measure{Name: "time", Text: "time over that of " + whole + " beside it"})
	}
	list := arms()
	if !s.all {
		list = list[:len(list)-2]
	}
	for _, a := range list {
		cost := a.way.declared()
		x.Arms = append(x.Arms, systems.Arm{
			Name: a.name, Text: a.text, Cost: cost, Tune: s.shifts(),
			Run: func(ctx context.Context, d systems.Draw) (*systems.Outcome, error) {
				out, err := s.measure(ctx, d, of, a.way)
				if err == nil {
					out.Cost = cost
				}
				return out, err
			},
		})
	}
	ratio := func(name, claim, measure, arm, against string, bound float64, shown bool) systems.Criterion {
		return systems.Criterion{Name: name, Claim: claim, Measure: measure, Arm: arm, Against: []string{against}, Bound: bound, Shown: shown,
			Unequal: "fewer evaluations are the claim; refinements are counted in work and time"}
	}
	x.Criteria = []systems.Criterion{
		ratio("quicker at equal quality", "FID at most 1.05 of that of four steps of Heun's method", "fid", turbo, whole, 1.05, false),
		{Name: "at equal time", Claim: "FID at most 0.95 of the better of Euler's and Heun's methods in as much time", Measure: "fid", Arm: turbo, Against: []string{euler, heun}, Bound: 0.95,
			Unequal: "five evaluations are as much time as four and five refinements"},
		{Name: "pseudo-corrector", Claim: "without a refiner, FID at most 0.95 of the better of Euler's and Heun's methods with as many evaluations", Measure: "fid", Arm: pseudo, Against: []string{euler, heun}, Bound: 0.95, Shown: true},
		{Name: "refiner", Claim: "the distance to the exact ends is at least 1.2 times as large where the velocity is kept", Measure: "rmse", Arm: kept, Against: []string{turbo}, Bound: 1.2, AtLeast: true,
			Unequal: "that is what it is worth"},
		ratio("refined early", "refinements early in place of late, with as many evaluations", "fid", early, turbo, 1, true),
	}
	if s.all {
		x.Criteria = append(x.Criteria,
			ratio("compat", "the second refinement as the authors' assembled model has it is worse", "fid", turbo, compat, 1, true),
			ratio("two parts", "the pseudo-corrector is worth more than another whole step", "fid", turbo, doubled, 1, true))
	}
	if s.timed > 0 {
		x.Criteria = append(x.Criteria, systems.Criterion{Name: "time", Claim: "at most 0.65 of the time of four steps of Heun's method", Measure: "time", Arm: turbo, Form: systems.Value, Bound: 0.65})
	}
	return x
}

// measure draws in a way and judges.
func (s sizes) measure(ctx context.Context, d systems.Draw, of maker, w way) (*systems.Outcome, error) {
	sub, err := of(ctx, d.Env, d.Seed)
	if err != nil {
		return nil, err
	}
	shift := d.Params.Num("shift")
	r, work, err := w.draw(ctx, sub, shift, d.Seed, d.N)
	if err != nil {
		return nil, err
	}
	out := &systems.Outcome{Values: map[string]float64{"work": work, "rmse": 0}}
	if err := sub.judge.Judge(ctx, out, d, sub.net, r.X); err != nil {
		return nil, err
	}
	if s.timed > 0 {
		out.Values["time"] = 1
	}
	if d.Split != systems.Test {
		return out, nil // tuning looks at the FID alone
	}
	ends := min(s.ends, d.N)
	fine, err := systems.Memo(d.Env, fmt.Sprintf("flowturbo ends %p %d %d %d", sub, s.fine, d.Seed, ends), func() (*gpu.Tensor, error) {
		r, _, err := way{solver: "heun", steps: s.fine}.draw(ctx, sub, 1, d.Seed, ends)
		if err != nil {
			return nil, err
		}
		return r.X, nil
	})
	if err != nil {
		return nil, err
	}
	out.Values["rmse"] = bases.RMSE(r.X.Rows(0, ends), fine)
	if s.timed > 0 {
		out.Values["time"], err = s.clock(ctx, sub, w, shift, way{solver: "heun", steps: 4}, 1)
	}
	return out, err
}

// velocities looks at how much velocities change on the way. flops are those of an evaluation, 0 where they are not known beforehand.
func (s sizes) velocities(name string, of maker, flops float64) systems.Experiment {
	n := float64(3*s.along - 1) // Heun's method, and one at every state but the last
	cost := systems.Cost{NFE: n, FLOPs: n * flops}
	return systems.Experiment{
		Name: name, Question: "Does the velocity change less late on the way than early?",
		Size: systems.Size{N: min(s.ends, s.n), Seeds: s.seeds},
		Measures: []systems.Measure{
			{Name: "late over early", Text: "mean change of the velocity, over its length, in the last third of the way over that in the first"},
			{Name: "first", Text: fmt.Sprintf("in the first third, a step of 1/%d", s.along)}, {Name: "middle", Text: "in the middle"}, {Name: "last", Text: "in the last"},
		},
		Arms: []systems.Arm{{Name: "the flow", Text: fmt.Sprintf("%d steps of Heun's method", s.along), Cost: cost, Run: func(ctx context.Context, d systems.Draw) (*systems.Outcome, error) {
			sub, err := of(ctx, d.Env, d.Seed)
			if err != nil {
				return nil, err
			}
			thirds, err := changes(ctx, sub, d.Seed, d.N, s.along)
			if err != nil {
				return nil, err
			}
			return &systems.Outcome{Cost: cost, Values: map[string]float64{"first": thirds[0], "middle": thirds[1], "last": thirds[2], "late over early": thirds[2] / thirds[0]}}, nil
		}}},
		Criteria: []systems.Criterion{
			{Name: "late", Claim: "it changes at most half as much in the last third as in the first", Measure: "late over early", Arm: "the flow", Form: systems.Value, Bound: 0.5},
		},
	}
}

// changes are the mean |v' - v|/|v| between states a step apart, of each third of the way.
func changes(ctx context.Context, sub *subject, seed uint64, n, steps int) (out [3]float64, err error) {
	solver, g, err := way{solver: "heun", steps: steps}.on(sub, 1)
	if err != nil {
		return out, err
	}
	o := sub.net.Options(seed, n)
	o.Batch = n
	den := sub.net.Denoiser()
	var before []float32
	var count [3]int
	o.Trajectory = func(e sampler.Event) error {
		if e.At.B == 0 {
			return nil // where velocities are not defined
		}
		d := e.X.Like()
		at := make([]diffusion.Point, n)
		for i := range at {
			at[i] = e.At
		}
		if err := den.DenoiseAt(ctx, d, e.X, at, o.Cond); err != nil {
			return err
		}
		xs, err := e.X.Floats()
		if err != nil {
			return err
		}
		ds, err := d.Floats()
		if err != nil {
			return err
		}
		v := make([]float32, len(xs))
		for i := range v {
			v[i] = (xs[i] - ds[i]) / float32(e.At.B)
		}
		if before != nil {
			third := min(2, int(3*(1-e.At.B)))
			size := len(v) / n
			for i := range n {
				var change, length float64
				for j := i * size; j < (i+1)*size; j++ {
					change += float64(v[j]-before[j]) * float64(v[j]-before[j])
					length += float64(before[j]) * float64(before[j])
				}
				out[third] += math.Sqrt(change / length)
				count[third]++
			}
		}
		before = v
		return nil
	}
	if _, err = sampler.Run(ctx, sub.net.Denoiser(), solver, g, o); err != nil {
		return out, err
	}
	for i := range out {
		out[i] /= float64(count[i])
	}
	return out, nil
}

// curves are FIDs by steps.
func (s sizes) curves(of maker) systems.Experiment {
	x := systems.Experiment{
		Name: "curves", Question: "How good are few evaluations?", Size: systems.Size{N: s.n, Seeds: s.sweepSeeds},
		Measures: []systems.Measure{{Name: "fid", Text: "FID to the test digits", Least: bases.Features + 1}},
		Sweep:    &systems.Sweep{Param: "steps", Label: "steps", Values: s.sweep},
	}
	for _, a := range []struct {
		name string
		way  func(n int) way
	}{
		{"Euler", func(n int) way { return way{solver: "ddim", steps: n} }},
		{"Heun", func(n int) way { return way{solver: "heun", steps: (n + 1) / 2} }},
		{"pseudo-corrector", func(n int) way { return way{blocks: fmt.Sprintf("H1P%d", n-1)} }},
		{"with refiner", func(n int) way { return way{blocks: fmt.Sprintf("H1P%dR%d", (n-1)/2, n-1-(n-1)/2)} }},
	} {
		x.Arms = append(x.Arms, systems.Arm{Name: a.name, Run: func(ctx context.Context, d systems.Draw) (*systems.Outcome, error) {
			sub, err := of(ctx, d.Env, d.Seed)
			if err != nil {
				return nil, err
			}
			r, work, err := a.way(d.Params.Int("steps")).draw(ctx, sub, 1, d.Seed, d.N)
			if err != nil {
				return nil, err
			}
			v, err := sub.judge.FID(ctx, r.X)
			return &systems.Outcome{Values: map[string]float64{"fid": v}, Cost: systems.Cost{NFE: work}}, err
		}})
	}
	return x
}

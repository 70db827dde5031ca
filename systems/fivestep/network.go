package fivestep

import (
	"context"
	"fmt"

	"github.com/fidlab/fidlab/sampler"
	"github.com/fidlab/fidlab/systems"
	"github.com/fidlab/fidlab/systems/bases"
)

// parts are the claims on trained networks of pictures. Both are asked on the table
// of 1000 linear betas, which the two-level grid needs.
func parts() []systems.Part {
	const text = "five steps of first order and eight of second by FID, against usual grids and curves tuned as long; guidance; stopping early in pixels"
	return bases.NetworkParts(text, planNetwork)
}

// netBench is a network on a path with a table.
type netBench struct {
	*bases.Bench
	task   *task // whose grids these are
	trials int   // of a tuned arm
	notes  []string
}

func planNetwork(ctx context.Context, env *systems.Env, name string, tier systems.Tier) ([]systems.Experiment, error) {
	b := &netBench{trials: map[systems.Tier]int{systems.Tiny: 2, systems.Short: 3, systems.Full: 9}[tier]}
	var err error
	if b.Bench, err = bases.NewBench(ctx, env, name, tier); err != nil {
		return nil, err
	}
	if b.task, err = newTask(name, nil, "vp"); err != nil {
		return nil, err
	}
	if b.notes, err = b.Notes(ctx); err != nil {
		return nil, err
	}
	var out []systems.Experiment
	add := func(e systems.Experiment, err error) error {
		out = append(out, e)
		return err
	}
	if err := add(b.schedule("ddim", 5)); err != nil || tier == systems.Short {
		return out, err
	}
	if err := add(b.schedule("dpm++2m", 8)); err != nil {
		return out, err
	}
	if err := add(b.stopping("dpm++2m", 8)); err != nil {
		return out, err
	}
	weights := []float64{1.5, 3, 5}
	if tier == systems.Tiny {
		weights = weights[:1]
	}
	for _, w := range weights {
		if err := add(b.guided(w)); err != nil {
			return out, err
		}
	}
	return out, nil
}

// way is how an arm draws by its settings: as task.grid reads them, the solver, and the guidance.
func (b *netBench) way(s systems.Params) (bases.Way, error) {
	g, err := b.task.grid(s)
	if err != nil {
		return bases.Way{}, err
	}
	solver, err := sampler.ByName(s.Text("solver"))
	if err != nil {
		return bases.Way{}, err
	}
	w := bases.Way{Solver: solver, Grid: g, Path: b.task.path, Rule: "karras"}
	if s.Has("guidance") {
		w.Den, w.Path = &sampler.Guided{Den: b.Net.Denoiser(), Weight: s.Num("guidance")}, nil
	}
	return w, nil
}

func (b *netBench) arm(name, text string, s systems.Params, tune ...systems.Params) (systems.Arm, error) {
	a := systems.Arm{Name: name, Text: text, Set: s, Tune: tune}
	first := s
	if len(tune) > 0 {
		first = settings(s, tune[0])
	}
	w, err := b.way(first)
	if err != nil {
		return a, fmt.Errorf("fivestep: %s: %w", name, err)
	}
	if a.Cost = b.Cost(w.Solver, w.Grid); s.Has("guidance") {
		a.Cost.FLOPs *= 2 // the network is asked with and without the class
	}
	a.Run = func(ctx context.Context, d systems.Draw) (*systems.Outcome, error) {
		w, err := b.way(d.Params)
		if err != nil {
			return nil, err
		}
		return b.Draw(ctx, d, w)
	}
	return a, nil
}

// list is an experiment whose arms are those that add makes.
type list struct {
	b   *netBench
	e   systems.Experiment
	err error
}

func (l *list) add(name, text string, s systems.Params, tune ...systems.Params) {
	a, err := l.b.arm(name, text, s, tune...)
	if err != nil && l.err == nil {
		l.err = err
	}
	l.e.Arms = append(l.e.Arms, a)
}

// some are n of a list, evenly, with its first and last.
func some(all []systems.Params, n int) []systems.Params {
	out := make([]systems.Params, n)
	for i := range out {
		out[i] = all[i*(len(all)-1)/max(n-1, 1)]
	}
	return out
}

// tuned adds the tuned curve and the tuned two-level grid, with as many trials.
func (l *list) tuned(base systems.Params) {
	l.add("tuned Karras", "rho and the last level tuned", settings(base, systems.Params{"rule": "karras"}), some(karrasTrials(systems.Full), l.b.trials)...)
	l.add("tuned two-level", "both curves tuned", settings(base, systems.Params{"rule": "two-level"}), some(twoLevelTrials(systems.Full), l.b.trials)...)
}

// schedule compares grids for one solver and number of steps.
func (b *netBench) schedule(solver string, steps int) (systems.Experiment, error) {
	base := systems.Params{"solver": solver, "steps": steps}
	l := &list{b: b, e: systems.Experiment{
		Name: fmt.Sprintf("%s-%d-%s", orders(solver), steps, b.Net.Name), Question: fmt.Sprintf("which noise levels are best for %d steps of %s?", steps, solver),
		Size: b.Size, Measures: bases.NetworkMeasures(true), Notes: b.notes,
	}}
	grids := usual
	if b.Tier != systems.Full {
		grids = usual[2:4]
	}
	var names []string
	for _, u := range grids {
		l.add(u.name, "the rule "+u.rule+", last step to zero", settings(base, systems.Params{"rule": u.rule}))
		names = append(names, u.name)
	}
	two := settings(base, paper(steps))
	l.add("two-level", "the paper's settings, last step to zero", two)
	l.add("two-level, noise kept", "the paper's settings and its end", settings(two, systems.Params{"end": "keep"}))
	l.tuned(base)
	c := systems.Criterion{Name: "beats the best usual grid", Claim: "at most 0.75 of the best usual grid", Measure: "fid", Arm: "two-level", Against: names, Bound: 0.75}
	if solver != "ddim" {
		c = systems.Criterion{Name: "beats the median of usual grids", Claim: "at most 0.6 of the median of the usual grids", Measure: "fid", Arm: "two-level", Against: names, Pool: systems.Median, Bound: 0.6}
	}
	l.e.Criteria = []systems.Criterion{
		c,
		{Name: "tuned", Claim: "tuned, it is no worse than a curve tuned as long", Measure: "fid", Arm: "tuned two-level", Against: []string{"tuned Karras"}, Bound: 1, Shown: true},
		{Name: "noise kept", Claim: "in pixels the noise that the paper keeps does no good", Measure: "fid", Arm: "two-level, noise kept", Against: []string{"two-level"}, Bound: 1, AtLeast: true, Shown: true},
		{Name: "error", Claim: "its samples lie nearer to where their noise leads than the tuned curve's", Measure: "rmse", Arm: "two-level", Against: []string{"tuned Karras"}, Bound: 1, Unequal: "the paper's settings are not tuned", Shown: true},
	}
	return l.e, l.err
}

// stopping compares stopping at a noise level with stepping from it to zero, in pixels, where nothing is decoded.
func (b *netBench) stopping(solver string, steps int) (systems.Experiment, error) {
	base := systems.Params{"solver": solver, "steps": steps, "rule": "last-noise"}
	l := &list{b: b, e: systems.Experiment{
		Name: "stopping-" + b.Net.Name, Question: fmt.Sprintf("is it worth while to stop %d steps early in pixels, where nothing is decoded?", steps),
		Size: b.Size, Measures: bases.NetworkMeasures(true), Notes: b.notes,
	}}
	last := lastLevels()
	if b.Tier == systems.Tiny {
		last = last[:2]
	}
	l.add("to zero", "the last step to zero", settings(base, systems.Params{"end": "zero"}), last...)
	l.add("stopped", "the noise stays", settings(base, systems.Params{"end": "keep"}), last...)
	l.e.Criteria = []systems.Criterion{
		{Name: "no decoder", Claim: "in pixels stopping early is no better than stepping to zero", Measure: "fid", Arm: "stopped", Against: []string{"to zero"}, Bound: 1, AtLeast: true},
	}
	return l.e, l.err
}

// guided is eight steps of second order under guidance.
func (b *netBench) guided(weight float64) (systems.Experiment, error) {
	base := systems.Params{"solver": "dpm++2m", "steps": 8, "guidance": weight}
	l := &list{b: b, e: systems.Experiment{
		Name: fmt.Sprintf("guidance-%g-%s", weight, b.Net.Name), Question: fmt.Sprintf("which noise levels are best for 8 steps under guidance %g?", weight),
		Size: b.Size, Measures: bases.NetworkMeasures(false), Notes: b.notes,
	}}
	l.add("trailing", "the rule trailing, last step to zero", settings(base, systems.Params{"rule": "trailing"}))
	l.add("two-level", "the paper's settings, last step to zero", settings(base, paper(8)))
	l.tuned(base)
	l.e.Criteria = []systems.Criterion{
		{Name: "usual", Claim: "the paper's grid is better than a usual one", Measure: "fid", Arm: "two-level", Against: []string{"trailing"}, Bound: 1, Shown: true},
		{Name: "tuned", Claim: "tuned, it is no worse than a curve tuned as long", Measure: "fid", Arm: "tuned two-level", Against: []string{"tuned Karras"}, Bound: 1, Shown: true},
	}
	return l.e, l.err
}

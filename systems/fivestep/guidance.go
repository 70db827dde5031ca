package fivestep

import (
	"fmt"

	"github.com/fidlab/fidlab/sampler"
	"github.com/fidlab/fidlab/systems"
	"github.com/fidlab/fidlab/systems/bases"
)

// guided is drawing under classifier-free guidance, D₀ + w·(D_c - D₀). A class is
// a pair of the mixture's twelve components in the order of its file, and sample i
// asks for class i mod 6: the mixture was fitted without labels, so the classes are
// no digits, but guidance between them is as it is between any.
type guided struct{ *task }

// components of a class.
const pair = 2

func newGuided(bed *bases.Mixture) (*guided, error) {
	spec := bed.Spec
	spec.Labels = nil
	for k := range spec.Weights {
		spec.Labels = append(spec.Labels, k/pair)
	}
	labelled, err := bases.NewMixture(spec)
	if err != nil {
		return nil, err
	}
	l := lawOf(labelled)
	classes := len(spec.Weights) / pair
	l.setting = "guidance"
	l.mean, l.cov = nil, nil // what guidance draws has no moments in closed form
	l.pictures = bed.Pictures
	l.den = func(s systems.Params) sampler.Denoiser {
		return &sampler.Guided{Den: labelled, Weight: s.Num("guidance")}
	}
	l.cond = func(n int) sampler.Cond {
		c := make([]int, n)
		for i := range c {
			c[i] = i % classes
		}
		return sampler.Cond{Classes: c}
	}
	t, err := newTask("guided", l, "vp")
	return &guided{t}, err
}

// guidedMeasures are those of experiments under guidance: there are no exact moments.
func guidedMeasures() []systems.Measure {
	m := measures()
	m[0].Text = "Fréchet distance to exact ends of other noise"
	return m
}

// experiment compares the eight-step grids at one weight.
func (g *guided) experiment(w float64, size systems.Size, tier systems.Tier) systems.Experiment {
	const steps = 8
	base := systems.Params{"solver": solverOf(steps), "steps": steps, "guidance": w}
	g = &guided{g.showing(w == 7.5)}
	e := systems.Experiment{
		Name:     fmt.Sprintf("guidance-%g", w),
		Question: fmt.Sprintf("does the grid serve under guidance of weight %g too, in %d steps?", w, steps),
		Size:     size, Measures: guidedMeasures(),
	}
	var names []string
	for _, u := range usual {
		e.Arms = append(e.Arms, g.arm(u.name, "the rule "+u.rule+", last step to zero", settings(base, systems.Params{"rule": u.rule})))
		names = append(names, u.name)
	}
	two := settings(base, paper(steps))
	e.Arms = append(e.Arms,
		g.arm("two-level", "the paper's settings, last step to zero", two),
		g.arm("two-level, noise kept", "the paper's settings and its end", settings(two, systems.Params{"end": "keep"})),
		g.tuned("Karras tuned", "18 curves of rho and least level", settings(base, systems.Params{"rule": "karras"}), karrasTrials(tier)),
		g.tuned("two-level tuned", "18 grids of curve, cut and second rho", settings(base, systems.Params{"rule": "two-level"}), twoLevelTrials(tier)),
		g.arm("leading, 20 steps", "a usual default for 2M", settings(base, systems.Params{"rule": "leading", "steps": 20})),
		g.arm("log-uniform, 20 steps", "a better grid for as many", settings(base, systems.Params{"rule": "exponential", "steps": 20})),
	)
	fewer := "fewer evaluations are the claim"
	e.Criteria = []systems.Criterion{
		{Name: "beats the middle of usual grids", Claim: "two-level has a lower distance than the middle of the usual grids", Measure: "fd", Arm: "two-level", Against: names, Pool: systems.Median, Bound: 1, Expect: 0.53, Spread: 0.1},
		{Name: "error", Claim: "and ends nearer to the exact end", Measure: "error", Arm: "two-level", Against: names, Pool: systems.Median, Bound: 1, Expect: 0.39, Spread: 0.05},
		{Name: "tuned against tuned", Claim: "two-level tuned beats Karras tuned", Measure: "fd", Arm: "two-level tuned", Against: []string{"Karras tuned"}, Bound: 1, Shown: true},
		{Name: "error, tuned against tuned", Claim: "and by the distance to the exact end", Measure: "error", Arm: "two-level tuned", Against: []string{"Karras tuned"}, Bound: 1, Shown: true},
		{Name: "eight steps against twenty", Claim: "eight steps that stop early beat twenty on the grid leading", Measure: "fd", Arm: "two-level, noise kept", Against: []string{"leading, 20 steps"}, Bound: 1, Unequal: fewer, Shown: true},
		{Name: "error, eight against twenty", Claim: "and lie nearer to the exact end", Measure: "error", Arm: "two-level, noise kept", Against: []string{"leading, 20 steps"}, Bound: 1, Unequal: fewer, Shown: true},
		{Name: "eight steps against twenty better ones", Claim: "and twenty on a log-uniform grid", Measure: "fd", Arm: "two-level, noise kept", Against: []string{"log-uniform, 20 steps"}, Bound: 1, Unequal: fewer, Shown: true},
	}
	return e
}

// curves are the figure of guidance: the error at each weight.
func (g *guided) curves(size systems.Size, tier systems.Tier) systems.Experiment {
	const steps = 8
	values := []float64{1, 2, 3, 5, 7.5, 10}
	switch tier {
	case systems.Tiny:
		values = []float64{7.5}
	case systems.Short:
		values = []float64{1, 7.5} // both ends of what is in use
	}
	e := systems.Experiment{
		Name: "curves-guidance", Question: "over which range of guidance weights does the order of the grids hold?", Size: size, Measures: guidedMeasures(),
		Sweep: &systems.Sweep{Param: "guidance", Label: "guidance weight", Values: values},
	}
	base := systems.Params{"solver": solverOf(steps), "steps": steps}
	line := func(name string, s systems.Params) {
		e.Arms = append(e.Arms, systems.Arm{Name: name, Set: settings(base, s), Run: g.run})
	}
	line("two-level", paper(steps))
	line("two-level, noise kept", settings(paper(steps), systems.Params{"end": "keep"}))
	for _, u := range usual {
		line(u.name, systems.Params{"rule": u.rule})
	}
	return e
}

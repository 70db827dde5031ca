package shiftsteps

import (
	"fmt"

	"github.com/fidlab/fidlab/sampler"
	"github.com/fidlab/fidlab/systems"
)

// planner makes the experiments of a tier.
type planner struct {
	*bed
	size size
}

var measures = map[string]systems.Measure{
	"excess": {Name: "excess", Text: "Fréchet distance to other digits above that of exact draws from the same noise"},
	"fd":     {Name: "fd", Text: "Fréchet distance to other digits"},
	"floor":  {Name: "floor", Text: "that of exact draws from the same noise"},
	"rmse":   {Name: "rmse", Text: "root mean square from the exact ends of the same noise"},
	"bias":   {Name: "bias", Text: "|mean variance of the images - what the grid says|, mean over the steps"},
	"start":  {Name: "start", Text: "time of the first evaluation"},
}

func measured(names ...string) []systems.Measure {
	var out []systems.Measure
	for _, n := range names {
		out = append(out, measures[n])
	}
	return out
}

// arm is one of nfe evaluations.
func (p *planner) arm(name, text string, nfe int, set systems.Params, tune []systems.Params) systems.Arm {
	return systems.Arm{
		Name: name, Text: text, Set: set, Tune: tune, Run: p.draw,
		Cost: systems.Cost{NFE: float64(nfe), FLOPs: p.FLOPs() * float64(nfe)},
	}
}

// windows are the trials of a shift: every window with every cutoff.
func (p *planner) windows(windows []int, cutoffs []float64) []systems.Params {
	var out []systems.Params
	for _, w := range windows {
		for _, c := range cutoffs {
			out = append(out, systems.Params{"window": w, "cutoff": c})
		}
	}
	return out
}

// spread takes n settings of a list evenly, its first and last among them: controls
// get as many trials as the shift has.
func spread(list []systems.Params, n int) []systems.Params {
	out := make([]systems.Params, n)
	for i := range out {
		out[i] = list[i*(len(list)-1)/max(n-1, 1)]
	}
	return out
}

// otherGrids are sixteen ways to place DDIM's steps.
var otherGrids = []string{
	"paper", "leading:0.5", "leading:1", "trailing", "linspace", "linspace-drop", "linspace-real", "quadratic", "uniform",
	"leading:0.25", "leading:0.75", "quadratic-ddim", "karras:3", "karras:5", "karras:7", "exponential",
}

// few is experiment A: DDIM of few steps with every variant and its controls.
func (p *planner) few(name string, steps int, ablate bool) systems.Experiment {
	tune := p.windows(p.size.windows, p.size.cutoffs)
	n := len(tune)
	shift := func(name string, mode sampler.ShiftMode, text string, more systems.Params) systems.Arm {
		set := systems.Params{"S": steps, "mode": string(mode)}
		for k, v := range more {
			set[k] = v
		}
		return p.arm(name, text, steps, set, tune)
	}
	var grids, constants, scales, open []systems.Params
	for _, g := range otherGrids {
		grids = append(grids, systems.Params{"grid": g})
	}
	for _, by := range []float64{-10, -5, -2, 2} {
		for _, c := range []float64{100, 200, 300, 400} {
			constants = append(constants, systems.Params{"by": by, "cutoff": c})
		}
	}
	for _, by := range []float64{0.98, 0.99, 0.995, 0.998, 1, 1.002, 1.005, 1.01} {
		for _, slope := range []float64{0, 0.0025} {
			scales = append(scales, systems.Params{"scale": by, "slope": slope})
		}
	}
	for w := 2; w <= 32; w += 2 {
		open = append(open, systems.Params{"window": w})
	}
	seeds := p.size.seeds
	if !ablate {
		seeds = min(seeds, 3)
	}
	e := systems.Experiment{
		Name:     name,
		Question: fmt.Sprintf("Are %d steps of DDIM nearer to other digits with shifted times?", steps),
		Size:     systems.Size{N: p.size.n, Seeds: seeds},
		Measures: measured("excess", "fd", "floor", "rmse", "bias"),
		Arms: []systems.Arm{
			p.arm("ddim", "DDIM on the programs' grid", steps, systems.Params{"S": steps}, nil),
			shift("paper", sampler.ShiftPaper, "the paper's variant", nil),
			shift("debiased", sampler.ShiftDebiased, "the paper's with the data's variance", nil),
			shift("repo-target", sampler.ShiftRepoTarget, "the first program's: the target moves", nil),
			shift("repo-adm", sampler.ShiftRepoADM, "the second program's: the target moves by what the source would", nil),
			p.arm("constant", "control: one shift for all images and steps", steps, systems.Params{"S": steps, "mode": string(sampler.ShiftConstant)}, spread(constants, n)),
			p.arm("scaled noise", "control: the predicted noise divided by scale + slope·step", steps, systems.Params{"S": steps}, spread(scales, n)),
			p.arm("other grids", "control: DDIM on the best of other grids", steps, systems.Params{"S": steps}, spread(grids, n)),
		},
	}
	ratio := func(name, claim string, bound float64, shown bool) {
		e.Criteria = append(e.Criteria, systems.Criterion{
			Name: name, Claim: claim, Measure: "excess", Arm: name, Against: []string{"ddim"}, Bound: bound, Shown: shown,
			Unequal: "DDIM on the programs' grid has nothing to tune; the controls are tuned as long",
		})
	}
	// Controls may come to the floor, where a ratio says nothing.
	less := func(name, claim, arm, rival string) {
		e.Criteria = append(e.Criteria, systems.Criterion{
			Name: name, Claim: claim, Measure: "excess", Arm: arm, Against: []string{rival}, Form: systems.Difference, Bound: 0, Shown: true,
		})
	}
	twenty := !ablate
	ratio("debiased", "the debiased shift takes 7 % of DDIM's excess away", 0.93, twenty)
	ratio("repo-target", "the first program's shift is no worse than DDIM", 1, twenty)
	ratio("paper", "the paper's shift is no worse than DDIM", 1, true)
	ratio("repo-adm", "the second program's shift is no worse than DDIM", 1, true)
	less("constant", "looking at the image is better than one shift for all", "debiased", "constant")
	less("scaled noise", "the debiased shift is better than scaled noise", "debiased", "scaled noise")
	less("other grids", "the debiased shift is better than another grid", "debiased", "other grids")
	if ablate {
		e.Arms = append(e.Arms,
			shift("one for all", sampler.ShiftDebiased, "ablation: debiased, one time for the whole batch", systems.Params{"together": 1}),
			p.arm("no cutoff", "ablation: the paper's variant at all times", steps, systems.Params{"S": steps, "mode": string(sampler.ShiftPaper), "cutoff": 0}, spread(open, n)),
		)
		less("one for all", "a time of each image is better than one for the batch", "debiased", "one for all")
		less("no cutoff", "the paper's cutoff is what keeps its shift from harm", "paper", "no cutoff")
	}
	return e
}

// diagnostic forces an error upon the states and asks whether shifted steps bring
// their variance back.
func (p *planner) diagnostic(name string, e float64) systems.Experiment {
	steps := p.size.steps[0]
	tune := p.windows(p.size.diagnosed, []float64{1, 100})
	arm := func(name string, mode sampler.ShiftMode, text string) systems.Arm {
		return p.arm(name, text, steps, systems.Params{"S": steps, "error": e, "mode": string(mode)}, tune)
	}
	const nothing = "DDIM has nothing to tune"
	return systems.Experiment{
		Name:     name,
		Question: fmt.Sprintf("Where every step multiplies states by %g, does the shift bring their variance back?", 1+e),
		Size:     systems.Size{N: p.size.fewer, Seeds: min(p.size.seeds, 3)},
		Measures: measured("bias", "fd"),
		Arms: []systems.Arm{
			p.arm("ddim", "DDIM with the error", steps, systems.Params{"S": steps, "error": e}, nil),
			arm("paper", sampler.ShiftPaper, "the paper's variant, tuned by the bias"),
			arm("debiased", sampler.ShiftDebiased, "the paper's with the data's variance, tuned by the bias"),
		},
		Criteria: []systems.Criterion{
			{Name: "debiased", Claim: "the variance's bias falls by 30 %", Measure: "bias", Arm: "debiased", Against: []string{"ddim"}, Bound: 0.7, Unequal: nothing},
			{Name: "paper", Claim: "the variance's bias falls by 30 %", Measure: "bias", Arm: "paper", Against: []string{"ddim"}, Bound: 0.7, Unequal: nothing, Shown: true},
			{Name: "distance", Claim: "and the samples are better for it", Measure: "fd", Arm: "debiased", Against: []string{"ddim"}, Bound: 1, Unequal: nothing, Shown: true},
		},
	}
}

// other is a solver of the abstract.
type other struct {
	name, solver, grid string
	steps, nfe         int
}

// others of the abstract. F-PNDM's first three steps cost four evaluations, and
// DPM-Solver-2's last one; deis is a solver of the programs.
func (p *planner) others() []other {
	s := p.size
	return []other{
		{"ddpm", "ddpm", "paper", s.sde, s.sde},
		{"f-pndm", "pndm", "paper", s.pndm, s.pndm + 9},
		{"f-pndm, released grid", "pndm", "released", s.pndm, s.pndm - 1 + 9},
		{"dpm-solver-2", "dpm-solver-2", "paper", s.dpm2, 2*s.dpm2 - 1},
		{"deis", "deis", "paper", s.pndm, s.pndm},
	}
}

// shifted are the trials of both variants that move the source.
func (p *planner) shifted() []systems.Params {
	var out []systems.Params
	windows, cutoffs := p.size.windows, p.size.cutoffs
	if len(windows) > 2 {
		windows, cutoffs = windows[1:], []float64{cutoffs[0], cutoffs[len(cutoffs)-1]}
	}
	for _, mode := range []sampler.ShiftMode{sampler.ShiftPaper, sampler.ShiftDebiased} {
		for _, t := range p.windows(windows, cutoffs) {
			t["mode"] = string(mode)
			out = append(out, t)
		}
	}
	return out
}

// solvers is the shift on DDPM, F-PNDM, DPM-Solver and DEIS.
func (p *planner) solvers() systems.Experiment {
	e := systems.Experiment{
		Name:     "other-solvers",
		Question: "Does the shift help other solvers than DDIM?",
		Size:     systems.Size{N: p.size.n, Seeds: min(p.size.seeds, 3)},
		Measures: measured("excess", "fd", "floor", "rmse", "start"),
	}
	for _, o := range p.others() {
		set := systems.Params{"S": o.steps, "solver": o.solver, "grid": o.grid}
		e.Arms = append(e.Arms,
			p.arm(o.name, fmt.Sprintf("%s, %d steps", o.solver, o.steps), o.nfe, set, nil),
			p.arm(o.name+" shifted", "the same with the better of both shifts", o.nfe, set, p.shifted()))
		e.Criteria = append(e.Criteria, systems.Criterion{
			Name: o.name, Claim: "it is no farther from other digits with the shift", Measure: "excess", Arm: o.name + " shifted", Against: []string{o.name},
			Form: systems.Difference, Unequal: "the solver as it is has nothing to tune", Shown: true,
		})
	}
	return e
}

// hundredfold is the abstract's other claim: 10 steps with the shift against 100 of DDIM.
func (p *planner) hundredfold() systems.Experiment {
	steps, many := p.size.steps[0], p.size.hundred
	const fewer = "fewer evaluations are the claim; DDIM has nothing to tune"
	e := systems.Experiment{
		Name:     "ten-for-a-hundred",
		Question: fmt.Sprintf("Are %d steps with the shift better than %d of DDIM?", steps, many),
		Size:     systems.Size{N: p.size.n, Seeds: min(p.size.seeds, 3)},
		Measures: measured("excess", "fd", "floor", "rmse"),
		Arms: []systems.Arm{
			p.arm(fmt.Sprintf("ddim of %d", many), "DDIM of many steps", many, systems.Params{"S": many}, nil),
			p.arm("ddim shifted", "DDIM of few steps with the better of both shifts", steps, systems.Params{"S": steps}, p.shifted()),
			p.arm("f-pndm shifted", "F-PNDM on as many points, of which the first three cost four evaluations", p.size.pndm+9, systems.Params{"S": p.size.pndm, "solver": "pndm"}, p.shifted()),
		},
	}
	for _, arm := range []string{"ddim shifted", "f-pndm shifted"} {
		e.Criteria = append(e.Criteria, systems.Criterion{
			Name: arm, Claim: "few steps with the shift are no farther from other digits than many of DDIM", Measure: "excess", Arm: arm,
			Against: []string{fmt.Sprintf("ddim of %d", many)}, Form: systems.Difference, Unequal: fewer, Shown: true,
		})
	}
	return e
}

// curves are distance and error against evaluations, with and without the shift. The
// windows are shares of the stride, near what tuning finds at ten steps.
func (p *planner) curves() systems.Experiment {
	arm := func(name, text string, set systems.Params) systems.Arm {
		return systems.Arm{Name: name, Text: text, Set: set, Run: p.draw}
	}
	return systems.Experiment{
		Name:     "curves",
		Question: "How do distance and error fall with the steps, with and without the shift?",
		Size:     systems.Size{N: p.size.fewer, Seeds: min(p.size.seeds, 3)},
		Measures: measured("fd", "rmse"),
		Sweep:    &systems.Sweep{Param: "S", Label: "steps", Values: p.size.curves},
		Arms: []systems.Arm{
			arm("ddim", "DDIM", nil),
			arm("ddim, paper", "with the paper's shift, a window of a fifth of the stride above time 300", systems.Params{"mode": string(sampler.ShiftPaper), "window/stride": 0.2, "cutoff": 300}),
			arm("ddim, debiased", "with the debiased shift, a window of two fifths of the stride above time 100", systems.Params{"mode": string(sampler.ShiftDebiased), "window/stride": 0.4, "cutoff": 100}),
			arm("f-pndm", "F-PNDM", systems.Params{"solver": "pndm"}),
			arm("f-pndm, debiased", "with the debiased shift of the same window", systems.Params{"solver": "pndm", "mode": string(sampler.ShiftDebiased), "window/stride": 0.4, "cutoff": 100}),
		},
	}
}

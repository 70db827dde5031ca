package shiftsteps

import (
	"context"
	"fmt"

	"github.com/fidlab/fidlab/sampler"
	"github.com/fidlab/fidlab/systems"
	"github.com/fidlab/fidlab/systems/bases"
)

// parts are the claims on trained networks, whose exposure bias the paper is about.
// Both are asked on the paper's own path, linear betas with T = 1000: a network's
// denoiser serves any noise level, whatever path it was trained on, and the shift
// needs states whose variance grows with the noise, which the flow's do not have.
func parts() []systems.Part {
	const text = "ten steps of DDIM with the shift by FID (at most 0.95 of DDIM), against a constant shift, scaled noise and other grids tuned as long; F-PNDM; ten steps against a hundred"
	return bases.NetworkParts(text, planNetwork)
}

// netSize is what a tier does on a network.
type netSize struct {
	steps, hundred int // few steps, and the many of DDIM
	pndm           int // points of F-PNDM; it asks nine times more
	windows        []int
	cutoffs        []float64
	modes          []sampler.ShiftMode // that the shift is tuned over
	images         int                 // that the data's variance is of
}

var netSizes = map[systems.Tier]netSize{
	systems.Tiny:  {steps: 3, hundred: 5, pndm: 4, windows: []int{80}, cutoffs: []float64{100}, modes: []sampler.ShiftMode{sampler.ShiftPaper, sampler.ShiftDebiased}, images: 100},
	systems.Short: {steps: 10, windows: []int{40}, cutoffs: []float64{100}, modes: []sampler.ShiftMode{sampler.ShiftPaper, sampler.ShiftDebiased, sampler.ShiftRepoTarget}, images: 1000},
	systems.Full: {
		steps: 10, hundred: 100, pndm: 10, windows: []int{20, 80}, cutoffs: []float64{100, 300},
		modes: []sampler.ShiftMode{sampler.ShiftPaper, sampler.ShiftDebiased, sampler.ShiftRepoTarget, sampler.ShiftRepoADM}, images: 10000,
	},
}

// netBench is a network and the variance of its data.
type netBench struct {
	*bases.Bench
	netSize
	v0    float64
	notes []string
}

func planNetwork(ctx context.Context, env *systems.Env, name string, tier systems.Tier) ([]systems.Experiment, error) {
	b := &netBench{netSize: netSizes[tier]}
	var err error
	if b.Bench, err = bases.NewBench(ctx, env, name, tier); err != nil {
		return nil, err
	}
	if b.v0, err = b.PixelVariance(b.images); err != nil {
		return nil, err
	}
	if b.notes, err = b.Notes(ctx); err != nil {
		return nil, err
	}
	few, err := b.few()
	if err != nil || tier == systems.Short {
		return []systems.Experiment{few}, err
	}
	more, err := b.more()
	return []systems.Experiment{few, more}, err
}

// settle reads the parameters of an arm, as a bed's do.
func (b *netBench) settle(p systems.Params) (bases.Way, *shifts, error) {
	base := &bed{v0: b.v0}
	s, err := base.settleOn(b.Net.Denoiser(), b.Net.Shape, p)
	if err != nil {
		return bases.Way{}, nil, err
	}
	return bases.Way{Solver: s.solver, Grid: s.grid, Den: s.den, Levels: s.levels, Path: vp, Rule: "karras"}, s.moved, nil
}

func (b *netBench) arm(name, text string, set systems.Params, tune []systems.Params) (systems.Arm, error) {
	a := systems.Arm{Name: name, Text: text, Set: set, Tune: tune}
	first := systems.Params{}
	for _, p := range append([]systems.Params{set}, tune[:min(len(tune), 1)]...) {
		for k, v := range p {
			first[k] = v
		}
	}
	w, _, err := b.settle(first)
	if err != nil {
		return a, fmt.Errorf("shiftsteps: %s: %w", name, err)
	}
	a.Cost = b.Cost(w.Solver, w.Grid)
	a.Run = func(ctx context.Context, d systems.Draw) (*systems.Outcome, error) {
		w, moved, err := b.settle(d.Params)
		if err != nil {
			return nil, err
		}
		off := &offsets{v0: b.v0}
		w.See = off.see
		out, err := b.Draw(ctx, d, w)
		if err != nil {
			return nil, err
		}
		out.Values["bias"] = off.mean()
		if n := moved.note(); d.First && n != "" {
			out.Notes = append(out.Notes, n)
		}
		return out, nil
	}
	return a, nil
}

func (b *netBench) measures() []systems.Measure {
	return append(bases.NetworkMeasures(true), measures["bias"])
}

// shifted are the trials of every variant, window and cutoff.
func (b *netBench) shifted() []systems.Params {
	var out []systems.Params
	for _, mode := range b.modes {
		for _, w := range b.windows {
			for _, c := range b.cutoffs {
				out = append(out, systems.Params{"mode": string(mode), "window": w, "cutoff": c})
			}
		}
	}
	return out
}

// few is ten steps of DDIM with the shift, and controls that are tuned as long.
func (b *netBench) few() (systems.Experiment, error) {
	tune := b.shifted()
	n := len(tune)
	var constants, scales, grids []systems.Params
	for _, by := range []float64{-20, -10, -5, 5, 10, 20} {
		for _, c := range []float64{100, 200, 300} {
			constants = append(constants, systems.Params{"by": by, "cutoff": c})
		}
	}
	for _, by := range []float64{0.99, 0.995, 1.0012, 1.005, 1.01, 1.02, 1.04, 1.06} {
		for _, slope := range []float64{0, 0.0025} {
			scales = append(scales, systems.Params{"scale": by, "slope": slope})
		}
	}
	for _, g := range otherGrids {
		grids = append(grids, systems.Params{"grid": g})
	}
	e := systems.Experiment{
		Name: "ten-steps-" + b.Net.Name, Question: fmt.Sprintf("Are %d steps of DDIM nearer to test digits with shifted times?", b.steps),
		Size: b.Size, Measures: b.measures(), Notes: b.notes,
	}
	for _, a := range []struct {
		name, text string
		set        systems.Params
		tune       []systems.Params
	}{
		{"ddim", "DDIM on the programs' grid", nil, nil},
		{"shifted", "the best of the variants, windows and cutoffs", nil, tune},
		{"constant", "control: one shift for all images and steps", systems.Params{"mode": string(sampler.ShiftConstant)}, spread(constants, n)},
		{"scaled noise", "control: the predicted noise divided by scale + slope·step", nil, spread(scales, n)},
		{"other grids", "control: DDIM on the best of other grids", nil, spread(grids, n)},
	} {
		set := systems.Params{"S": b.steps}
		for k, v := range a.set {
			set[k] = v
		}
		arm, err := b.arm(a.name, a.text, set, a.tune)
		if err != nil {
			return e, err
		}
		e.Arms = append(e.Arms, arm)
	}
	e.Criteria = []systems.Criterion{
		{Name: "shifted", Claim: "the shift takes 5 % of DDIM's FID away", Measure: "fid", Arm: "shifted", Against: []string{"ddim"}, Bound: 0.95, Unequal: "DDIM on the programs' grid has nothing to tune; the controls are tuned as long"},
		{Name: "constant", Claim: "looking at the image is better than one shift for all", Measure: "fid", Arm: "shifted", Against: []string{"constant"}, Bound: 1, Shown: true},
		{Name: "scaled noise", Claim: "the shift is better than scaled noise", Measure: "fid", Arm: "shifted", Against: []string{"scaled noise"}, Bound: 1, Shown: true},
		{Name: "other grids", Claim: "the shift is better than another grid", Measure: "fid", Arm: "shifted", Against: []string{"other grids"}, Bound: 1, Shown: true},
		{Name: "ends", Claim: "it brings samples nearer to where their noise leads", Measure: "rmse", Arm: "shifted", Against: []string{"ddim"}, Bound: 1, Unequal: "DDIM has nothing to tune", Shown: true},
	}
	return e, nil
}

// more is F-PNDM with the shift, and ten steps against a hundred.
func (b *netBench) more() (systems.Experiment, error) {
	many := fmt.Sprintf("ddim of %d", b.hundred)
	e := systems.Experiment{
		Name: "ten-for-a-hundred-" + b.Net.Name, Question: fmt.Sprintf("Does the shift help F-PNDM, and are few steps with it better than %d of DDIM?", b.hundred),
		Size: b.Size, Measures: b.measures(), Notes: b.notes,
	}
	for _, a := range []struct {
		name, text string
		set        systems.Params
		tune       []systems.Params
	}{
		{many, "DDIM of many steps", systems.Params{"S": b.hundred}, nil},
		{"f-pndm", fmt.Sprintf("%d points, of which the first three cost four evaluations", b.pndm), systems.Params{"S": b.pndm, "solver": "pndm"}, nil},
		{"f-pndm shifted", "the same with the best of the shifts", systems.Params{"S": b.pndm, "solver": "pndm"}, b.shifted()},
		{"ddim shifted", "DDIM of few steps with the best of the shifts", systems.Params{"S": b.steps}, b.shifted()},
	} {
		arm, err := b.arm(a.name, a.text, a.set, a.tune)
		if err != nil {
			return e, err
		}
		e.Arms = append(e.Arms, arm)
	}
	const nothing = "the solver as it is has nothing to tune"
	const less = "fewer evaluations are the claim; DDIM has nothing to tune"
	e.Criteria = []systems.Criterion{
		{Name: "f-pndm", Claim: "F-PNDM is no worse with the shift", Measure: "fid", Arm: "f-pndm shifted", Against: []string{"f-pndm"}, Bound: 1, Unequal: nothing, Shown: true},
		{Name: "ddim for a hundred", Claim: "DDIM of few steps with the shift is no worse than of many", Measure: "fid", Arm: "ddim shifted", Against: []string{many}, Bound: 1, Unequal: less, Shown: true},
		{Name: "f-pndm for a hundred", Claim: "and F-PNDM", Measure: "fid", Arm: "f-pndm shifted", Against: []string{many}, Bound: 1, Unequal: less, Shown: true},
	}
	return e, nil
}

package gaussteleport

import (
	"context"
	"fmt"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/fid"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/ops"
	"github.com/fidlab/fidlab/sampler"
	"github.com/fidlab/fidlab/systems"
	"github.com/fidlab/fidlab/systems/bases"
)

var sampleMeasures = []systems.Measure{
	{Name: "fd", Text: "Fréchet distance to the exact moments", Least: 25},
	{Name: "rmse", Text: "distance of a sample to the exact end of its noise"},
}

// way is how an arm samples.
type way struct {
	den    sampler.Denoiser // nil is the testbed
	flops  float64          // of an evaluation
	solver sampler.Solver
	law    sampler.Law // nil is the training set's Gaussian
	steps  int
	max    float64 // where it starts; 0 is 80
	jump   float64 // where it jumps to before its steps; 0 is nowhere
	skip   int     // steps that it is spared
}

// with is w with an arm's settings.
func (w way) with(p systems.Params) way {
	if p.Has("max") {
		w.max = p.Num("max")
	}
	if p.Has("jump") {
		w.jump = p.Num("jump")
	}
	if p.Has("skip") {
		w.skip = p.Int("skip")
	}
	return w
}

// grid is the levels of a way, and how many of its steps the law's flow takes.
func (w way) grid(p diffusion.Path) (*diffusion.Grid, int, error) {
	spec := diffusion.Spec{Rule: "karras", Steps: w.steps, SigmaMax: w.max}
	if w.jump > 0 {
		g, err := sampler.TeleportGrid(p, spec, w.jump)
		return g, 1, err
	}
	g, err := diffusion.Build(p, spec)
	return g, w.skip, err
}

// cost is what a sample takes: the evaluations, and the flow's two products.
func (b *bench) cost(w way) systems.Cost {
	g, skip, err := w.grid(b.path)
	if err != nil {
		panic(fmt.Sprintf("gaussteleport: an arm's grid: %v", err)) // grids are the plan's own
	}
	n, d := float64(w.solver.NFE(g.After(skip))), float64(b.bed.Dims)
	each := w.flops
	if each == 0 {
		each = b.bed.FLOPs()
	}
	return systems.Cost{NFE: n, FLOPs: each*n + 4*d*d*float64(skip)}
}

// draw samples, and says what came of it.
func (b *bench) draw(ctx context.Context, d systems.Draw, w way, fine func() (*gpu.Tensor, error)) (*systems.Outcome, error) {
	g, skip, err := w.grid(b.path)
	if err != nil {
		return nil, err
	}
	if w.den == nil {
		w.den = b.bed
	}
	if w.law == nil {
		w.law = b.law
	}
	r, err := sampler.Run(ctx, w.den, &sampler.Teleport{Solver: w.solver, Law: w.law, Skip: skip}, g, b.bed.Options(d.Seed, d.N))
	if err != nil {
		return nil, err
	}
	fd, err := b.bed.Frechet(r.X)
	if err != nil {
		return nil, err
	}
	if fine == nil {
		fine = func() (*gpu.Tensor, error) { return b.bed.Fine(ctx, d.Env, b.whole, d.Seed, d.N) }
	}
	ends, err := fine()
	if err != nil {
		return nil, err
	}
	o := &systems.Outcome{Values: map[string]float64{"fd": fd, "rmse": bases.RMSE(r.X, ends)}, Cost: b.cost(w)}
	o.Cost.NFE = float64(r.NFE)
	if d.First && w.den == sampler.Denoiser(b.bed) {
		o.Pictures = b.bed.Pictures(r.X, 16)
	}
	return o, nil
}

// arm samples in one way, with the settings of p.
func (b *bench) arm(name, text string, w way, set systems.Params, tune ...systems.Params) systems.Arm {
	first := set
	if len(tune) > 0 {
		first = tune[0]
	}
	return systems.Arm{
		Name: name, Text: text, Set: set, Tune: tune, Cost: b.cost(w.with(set).with(first)),
		Run: func(ctx context.Context, d systems.Draw) (*systems.Outcome, error) {
			return b.draw(ctx, d, w.with(d.Params), nil)
		},
	}
}

func (b *bench) size() systems.Size { return systems.Size{N: b.n, Seeds: b.seeds, Tune: b.tune} }

// solver is one of the registry's.
func solver(name string) sampler.Solver {
	s, err := sampler.ByName(name)
	if err != nil {
		panic(fmt.Sprintf("gaussteleport: %v", err))
	}
	return s
}

// trials are settings of one parameter.
func trials(name string, values ...float64) (out []systems.Params) {
	for _, v := range values {
		out = append(out, systems.Params{name: v})
	}
	return out
}

// equal is the first pass line: few steps, as many for both.
func (b *bench) equal() systems.Experiment {
	two, ddim := way{solver: solver("dpm++2m"), steps: 8}, way{solver: solver("ddim"), steps: 8}
	return systems.Experiment{
		Name: "equal", Question: "Of 8 evaluations, is it better to jump to sigma 2 first?", Size: b.size(), Measures: sampleMeasures,
		Arms: []systems.Arm{
			b.arm("dpm++2m", "from sigma 80", two, nil),
			b.arm("dpm++2m, jump to 2", "", two, systems.Params{"jump": 2.}),
			b.arm("ddim", "from sigma 80", ddim, nil),
			b.arm("ddim, jump to 2", "", ddim, systems.Params{"jump": 2.}),
		},
		Criteria: []systems.Criterion{
			{Name: "half the distance", Claim: "a jump to sigma 2 at least halves the distance of dpm++2m at 8 evaluations", Measure: "fd", Arm: "dpm++2m, jump to 2", Against: []string{"dpm++2m"}, Bound: 0.5, Expect: 0.24, Spread: 0.06},
			{Name: "half with ddim", Claim: "and that of ddim", Measure: "fd", Arm: "ddim, jump to 2", Against: []string{"ddim"}, Bound: 0.5},
			{Name: "nearer ends", Claim: "and brings dpm++2m's samples nearer to where their noise leads", Measure: "rmse", Arm: "dpm++2m, jump to 2", Against: []string{"dpm++2m"}, Bound: 0.6},
		},
	}
}

// fewer says why the arms of a criterion may differ in evaluations.
const fewer = "fewer evaluations are the claim"

// skip is the second pass line: a third of the steps is not needed.
func (b *bench) skip() systems.Experiment {
	heun := way{solver: sampler.Heun{}, steps: 18}
	return systems.Experiment{
		Name: "skip", Question: "Are 18 steps of Heun as good without their first six?", Size: b.size(), Measures: sampleMeasures,
		Arms: []systems.Arm{
			b.arm("18 steps", "35 evaluations", heun, nil),
			b.arm("6 of them skipped", "23 evaluations", heun, systems.Params{"skip": 6.}),
			b.arm("8 of them skipped", "19 evaluations", heun, systems.Params{"skip": 8.}),
			b.arm("12 steps", "23 evaluations, from sigma 80", way{solver: sampler.Heun{}, steps: 12}, nil),
		},
		Criteria: []systems.Criterion{
			{Name: "same distance", Claim: "a third of the steps skipped costs nothing in distance", Measure: "fd", Arm: "6 of them skipped", Against: []string{"18 steps"}, Bound: 1.05, Unequal: fewer, Expect: 0.994, Spread: 0.005},
			{Name: "same ends", Claim: "nor in each sample", Measure: "rmse", Arm: "6 of them skipped", Against: []string{"18 steps"}, Bound: 1.1, Unequal: fewer},
			{Name: "beats a coarser grid", Claim: "and beats as many evaluations on a grid from sigma 80", Measure: "fd", Arm: "6 of them skipped", Against: []string{"12 steps"}, Bound: 0.5, Unequal: "as many evaluations; the flow's own products are 2 % of the operations"},
		},
	}
}

// tooFar is the third pass line: the measure sees a jump that goes too far.
func (b *bench) tooFar() systems.Experiment {
	heun := way{solver: sampler.Heun{}, steps: 8}
	return systems.Experiment{
		Name: "too-far", Question: "Does a jump into levels where the data are no Gaussian show?", Size: b.size(), Measures: sampleMeasures,
		Arms: []systems.Arm{
			b.arm("jump to 2", "15 evaluations of heun", heun, systems.Params{"jump": 2.}),
			b.arm("jump to 1", "15 evaluations of heun", heun, systems.Params{"jump": 1.}),
			b.arm("no jump", "15 evaluations of heun", heun, nil),
		},
		Criteria: []systems.Criterion{
			{Name: "shows", Claim: "a jump to sigma 1 is further off in each sample than one to 2", Measure: "rmse", Arm: "jump to 1", Against: []string{"jump to 2"}, Bound: 1.3, AtLeast: true},
		},
	}
}

// solvers are those that the paper combines with.
func (b *bench) solvers() systems.Experiment {
	unipc, v3 := way{solver: solver("unipc"), steps: 8}, way{solver: b.v3, steps: 8}
	return systems.Experiment{
		Name: "solvers", Question: "Does it combine with UniPC and with DPM-Solver-v3?", Size: b.size(), Measures: sampleMeasures,
		Arms: []systems.Arm{
			b.arm("unipc", "8 evaluations from sigma 80", unipc, nil),
			b.arm("unipc, jump to 2", "", unipc, systems.Params{"jump": 2.}),
			b.arm("dpm-solver-v3", "8 evaluations from sigma 80, the model's statistics measured", v3, nil),
			b.arm("dpm-solver-v3, jump to 3", "", v3, systems.Params{"jump": 3.}),
		},
		Criteria: []systems.Criterion{
			{Name: "unipc", Claim: "a jump at least halves the distance of unipc at 8 evaluations", Measure: "fd", Arm: "unipc, jump to 2", Against: []string{"unipc"}, Bound: 0.5},
			{Name: "unipc ends", Claim: "and brings its samples nearer to where their noise leads", Measure: "rmse", Arm: "unipc, jump to 2", Against: []string{"unipc"}, Bound: 0.6},
			{Name: "v3", Claim: "it costs dpm-solver-v3, which is near the floor, no distance", Measure: "fd", Arm: "dpm-solver-v3, jump to 3", Against: []string{"dpm-solver-v3"}, Bound: 1.05},
			{Name: "v3 ends", Claim: "and brings its samples nearer to where their noise leads", Measure: "rmse", Arm: "dpm-solver-v3, jump to 3", Against: []string{"dpm-solver-v3"}, Bound: 0.6},
		},
	}
}

// starts are the settings that tuning tries: where to start, and where to jump to.
var starts, jumps = []float64{80, 20, 10, 5, 3, 2, 1.5}, []float64{20, 10, 5, 3, 2, 1.5, 1}

// tuned gives both as many trials: part of what a jump gains is not to waste steps
// at sigma above 10, which a lower start does as well.
func (b *bench) tuned() systems.Experiment {
	two, heun := way{solver: solver("dpm++2m"), steps: 8}, way{solver: sampler.Heun{}, steps: 12}
	return systems.Experiment{
		Name: "tuned", Question: "What is left of the gain when the plain sampler may choose its first sigma?", Size: b.size(), Measures: sampleMeasures,
		Arms: []systems.Arm{
			b.arm("dpm++2m, best start", "8 evaluations", two, nil, trials("max", starts...)...),
			b.arm("dpm++2m, best jump", "8 evaluations", two, nil, trials("jump", jumps...)...),
			b.arm("heun, best start", "23 evaluations", heun, nil, trials("max", starts...)...),
			b.arm("heun, best jump", "23 evaluations", heun, nil, trials("jump", jumps...)...),
		},
		Criteria: []systems.Criterion{
			{Name: "dpm++2m", Claim: "the best jump is better than the best start at 8 evaluations", Measure: "fd", Arm: "dpm++2m, best jump", Against: []string{"dpm++2m, best start"}, Bound: 1},
			{Name: "heun", Claim: "and at 23 evaluations of heun", Measure: "fd", Arm: "heun, best jump", Against: []string{"heun, best start"}, Bound: 1, Shown: true},
		},
	}
}

// uncentred is tuned on data with a mean.
func (b *bench) uncentred() systems.Experiment {
	e := b.tuned()
	e.Name, e.Question = "uncentred", "And where the data's mean is one deviation from zero, as pictures' are?"
	for i := range e.Criteria {
		e.Criteria[i].Shown = false
		e.Criteria[i].Bound = []float64{0.8, 1}[i]
	}
	return e
}

// skipped is the figure of the error over the skipped share.
func (b *bench) skipped() systems.Experiment {
	var arms []systems.Arm
	for _, s := range []struct {
		name string
		s    sampler.Solver
	}{{"heun", sampler.Heun{}}, {"dpm++2m", solver("dpm++2m")}, {"unipc", solver("unipc")}, {"dpm-solver-v3", b.v3}} {
		w := way{solver: s.s, steps: 18}
		arms = append(arms, systems.Arm{
			Name: s.name, Run: func(ctx context.Context, d systems.Draw) (*systems.Outcome, error) {
				w := w
				w.skip = int(d.Params.Num("percent")*18/100 + 0.5)
				return b.draw(ctx, d, w, nil)
			},
		})
	}
	var at []float64
	for k := 0; k <= 14; k += 2 {
		at = append(at, float64(k)*100/18)
	}
	if b.n < 1000 {
		at = []float64{0, 600. / 18}
	}
	return systems.Experiment{
		Name: "skipped", Question: "How much of 18 steps can be skipped?", Size: systems.Size{N: b.n, Seeds: b.sweep}, Measures: sampleMeasures,
		Arms: arms, Sweep: &systems.Sweep{Param: "percent", Label: "skipped share of the steps in percent", Values: at},
	}
}

// laws takes apart what the jump is made of.
func (b *bench) laws(ctx context.Context) (systems.Experiment, error) {
	d := b.bed.Dims
	flat, zero := b.stats.LowRank, b.stats.LowRank
	flat.Values = make([]float64, d)
	for k := range flat.Values {
		flat.Values[k] = b.law.Variance() / float64(d)
	}
	zero.Values = make([]float64, d)
	low := b.stats.LowRank
	low.Values, low.Vectors = low.Values[:d/3], low.Vectors[:d/3*d]
	for _, v := range b.stats.Values[d/3:] {
		low.Rest += v / float64(d-d/3)
	}
	few, err := fid.FitSpectrum(ctx, rowsOf(b.data.F64()[:100*d], d), d, fid.SpectrumOptions{})
	if err != nil {
		return systems.Experiment{}, err
	}
	of := func(l fid.LowRank, rest Rest) sampler.Law {
		g, e := GaussianOf(l, rest, nil)
		if e != nil {
			err = e
		}
		return g
	}
	none := flat
	none.Mu = make([]float64, d)
	cases := []struct {
		name, text string
		law        sampler.Law
	}{
		{"full covariance", "of the training set", b.law},
		{"one variance", "the same in all directions", of(flat, MeanRest)},
		{"no variance", "the mean alone: x - mean shrinks by sigma'/sigma", of(zero, MeanRest)},
		{"no mean", "one variance about zero", of(none, MeanRest)},
		{"a third of the pairs", "the mean of the others elsewhere", of(low, MeanRest)},
		{"a third, zero elsewhere", "no variance elsewhere", of(low, ZeroRest)},
		{"100 samples", "the covariance of 100 samples", of(few.LowRank, MeanRest)},
		{"one Euler step", "with the same score, in place of the closed form", eulerLaw{b.law}},
		{"the mixture itself", "integrated", &Integrated{PointDenoiser: b.bed.Mixture, Shape: []int{d}}},
	}
	if err != nil {
		return systems.Experiment{}, err
	}
	e := systems.Experiment{
		Name: "laws", Question: "What of the law does a jump to sigma 2 need? (24 steps of heun after it, data with a mean)", Size: b.size(), Measures: sampleMeasures,
		Criteria: []systems.Criterion{
			{Name: "mean", Claim: "a jump without the mean goes astray", Measure: "rmse", Arm: "no mean", Against: []string{"one variance"}, Bound: 2, AtLeast: true},
			{Name: "some variance", Claim: "the spread of the data is worth more than their mean alone", Measure: "rmse", Arm: "one variance", Against: []string{"no variance"}, Bound: 1},
			{Name: "covariance", Claim: "the covariance is worth more than one variance for all directions", Measure: "rmse", Arm: "full covariance", Against: []string{"one variance"}, Bound: 0.8},
			{Name: "closed form", Claim: "the closed form is worth more than a step of Euler with the same score", Measure: "rmse", Arm: "full covariance", Against: []string{"one Euler step"}, Bound: 0.8},
			{Name: "rest", Claim: "directions without a pair want the mean of the variances left out", Measure: "rmse", Arm: "a third of the pairs", Against: []string{"a third, zero elsewhere"}, Bound: 1, Shown: true},
			{Name: "mixture", Claim: "a mixture's flow adds to a Gaussian's", Measure: "rmse", Arm: "the mixture itself", Against: []string{"full covariance"}, Bound: 0.8},
			{Name: "100 samples", Claim: "100 samples make statistics that are good enough", Measure: "rmse", Arm: "100 samples", Against: []string{"full covariance"}, Bound: 1.2, Shown: true},
		},
	}
	for _, c := range cases {
		a := b.arm(c.name, c.text, way{solver: sampler.Heun{}, steps: 24, law: c.law}, systems.Params{"jump": 2.})
		e.Arms = append(e.Arms, a)
	}
	return e, nil
}

// eulerLaw is what the flow is not: one step of Euler along the line with the
// Gaussian's score.
type eulerLaw struct{ *sampler.Gaussian }

func (l eulerLaw) Flow(ctx context.Context, x *gpu.Tensor, from, to diffusion.Point, c sampler.Cond) error {
	d, at := x.Like(), make([]diffusion.Point, x.Shape()[0])
	for i := range at {
		at[i] = from
	}
	if err := l.DenoiseAt(ctx, d, x, at, c); err != nil {
		return err
	}
	r := to.B / from.B
	ops.LinComb(x, []float64{r, to.A - r*from.A}, x, d)
	return nil
}

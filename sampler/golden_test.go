package sampler_test

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strconv"
	"testing"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/sampler"
)

// The golden trajectories of testdata/golden/schedulers, made by another library
// in float64; its README has the formulas of the denoiser.
type goldenIndex struct {
	Beta0   float64 `json:"beta_start"`
	Beta1   float64 `json:"beta_end"`
	Mixture struct {
		Weights []float64   `json:"weights"`
		Means   [][]float64 `json:"means"`
		Stds    []float64   `json:"stds"`
	} `json:"mixture"`
	XT    [][]float64   `json:"x_T"`
	Noise [][][]float64 `json:"noise"`
	Files []string      `json:"files"`
}

type goldenFile struct {
	Output string `json:"model_output"`
	Runs   map[string]struct {
		Init       float64       `json:"init_noise_sigma"`
		CallSigmas []float64     `json:"model_sigma_per_call"`
		Outputs    [][][]float64 `json:"model_outputs"`
		Trajectory [][][]float64 `json:"trajectory"` // the start, then the state after each evaluation
		NoiseUsed  int           `json:"noise_used"`
	} `json:"runs"`
}

// posterior is x0hat of the README for one x = a·x0 + b·n.
func (g *goldenIndex) posterior(x []float64, a, b float64) []float64 {
	m := g.Mixture
	logs, top := make([]float64, len(m.Weights)), math.Inf(-1)
	for k := range logs {
		v := a*a*m.Stds[k]*m.Stds[k] + b*b
		var q float64
		for j := range x {
			q += (x[j] - a*m.Means[k][j]) * (x[j] - a*m.Means[k][j])
		}
		logs[k] = math.Log(m.Weights[k]) - float64(len(x))/2*math.Log(v) - q/(2*v)
		top = max(top, logs[k])
	}
	var sum float64
	for k := range logs {
		logs[k] = math.Exp(logs[k] - top)
		sum += logs[k]
	}
	out := make([]float64, len(x))
	for k, r := range logs {
		v := a*a*m.Stds[k]*m.Stds[k] + b*b
		for j := range x {
			out[j] += r / sum * (m.Means[k][j] + a*m.Stds[k]*m.Stds[k]/v*(x[j]-a*m.Means[k][j]))
		}
	}
	return out
}

// goldenNet answers as the README says for its kind of output, and keeps what it answered.
type goldenNet struct {
	g       *goldenIndex
	path    diffusion.Path
	kind    string
	replay  [][][]float64 // answers to give instead
	answers [][]float64
	sigmas  []float64
}

func (n *goldenNet) Forward(_ context.Context, out, x *gpu.Tensor, t []float64, _ sampler.Cond) error {
	for i, ti := range t {
		sigma := n.path.Sigma(ti)
		a, b := n.path.Input(sigma)
		xi, o := x.F64()[2*i:2*i+2], out.F64()[2*i:2*i+2]
		x0 := n.g.posterior(xi, a, b)
		for j := range o {
			eps := (xi[j] - a*x0[j]) / b
			switch n.kind {
			case "epsilon":
				o[j] = eps
			case "v_prediction":
				o[j] = a*eps - b*x0[j]
			case "sample":
				o[j] = x0[j]
			case "velocity":
				o[j] = eps - x0[j]
			case "edm_F":
				skip, cout := 0.25/(sigma*sigma+0.25), sigma*0.5/math.Hypot(sigma, 0.5)
				o[j] = (x0[j] - skip*xi[j]/a) / cout
			default:
				return fmt.Errorf("golden output %q", n.kind)
			}
		}
		if i == 0 {
			n.sigmas = append(n.sigmas, sigma)
		}
	}
	if len(n.replay) > len(n.answers) {
		copy(out.F64(), flat(n.replay[len(n.answers)]))
	}
	n.answers = append(n.answers, append([]float64(nil), out.F64()...))
	return nil
}

// goldenCase is a file that this package must reproduce: with which solver, and
// how to make its grid for n steps.
type goldenCase struct {
	file   string
	solver string
	path   string
	space  diffusion.Space // of the file's states
	spec   diffusion.Spec

	// What a file may do besides.
	steps  func(p diffusion.Path, g *diffusion.Grid) *diffusion.Grid // makes the file's own steps of the spec's
	wasted int                                                       // last evaluations, for a step from a level to itself, which a Grid refuses
	replay []string                                                  // runs whose levels no path has: the solver is given the file's outputs
}

// goldenCases are all cases; each family of solvers lists its own.
func goldenCases() []goldenCase {
	return slices.Concat(goldenFirst(), goldenMultistep(), goldenSinglestep(), goldenStochastic())
}

func goldenFirst() []goldenCase {
	const vp, ve, flow = diffusion.VPSpace, diffusion.VESpace, diffusion.FlowSpace
	spec := func(rule string) diffusion.Spec { return diffusion.Spec{Rule: rule} }
	min := func(rule string) diffusion.Spec { return diffusion.Spec{Rule: rule, End: diffusion.Min} }
	shift3 := diffusion.Spec{Rule: "flow", Shift: 3, TauMin: diffusion.Shift(0.001, 3)} // the library shifts the last level twice
	return []goldenCase{
		{file: "ddim_leading", solver: "ddim", path: "vp", space: vp, spec: spec("leading"), steps: strided},
		{file: "ddim_leading_alpha0", solver: "ddim", path: "vp", space: vp, spec: spec("leading"), steps: stridedAboveZero, wasted: 1},
		{file: "ddim_trailing", solver: "ddim", path: "vp", space: vp, spec: spec("trailing"), steps: strided},
		{file: "ddim_linspace_vpred", solver: "ddim", path: "vp", space: vp, spec: spec("linspace"), steps: strided},
		{file: "ddim_eta0.7_fixednoise", solver: "ddim:eta=0.7", path: "vp", space: vp, spec: spec("leading"), steps: strided},
		{file: "ddim_clip1", solver: "ddim:clip=1", path: "vp", space: vp, spec: spec("leading"), steps: strided},
		{file: "euler_linspace", solver: "euler", path: "vp", space: ve, spec: spec("linspace-real")},
		{file: "euler_karras", solver: "euler", path: "vp", space: ve, spec: spec("karras")},
		{file: "euler_exponential", solver: "euler", path: "vp", space: ve, spec: spec("exponential")},
		{file: "euler_trailing_vpred", solver: "euler", path: "vp", space: ve, spec: spec("trailing")},
		{file: "euler_ancestral_fixednoise", solver: "euler-a", path: "vp", space: ve, spec: spec("linspace-real")},
		{file: "heun_linspace", solver: "heun", path: "vp", space: ve, spec: spec("linspace-real")},
		{file: "heun_karras", solver: "heun", path: "vp", space: ve, spec: spec("karras")},
		{file: "dpm_multistep_dpmsolver++_o1", solver: "ddim", path: "vp", space: vp, spec: spec("linspace-drop")},
		{file: "dpm_multistep_dpmsolver_o1", solver: "ddim", path: "vp", space: vp, spec: min("linspace-drop")},
		{file: "dpm_singlestep_dpmsolver++_o1", solver: "ddim", path: "vp", space: vp, spec: spec("linspace-drop")},
		{file: "dpm_singlestep_dpmsolver_o1", solver: "ddim", path: "vp", space: vp, spec: min("linspace-drop")},
		{file: "deis_o1", solver: "ddim", path: "vp", space: vp, spec: min("linspace-drop")},
		{file: "edm_euler_karras", solver: "euler", path: "edm", space: ve, spec: spec("karras")},
		{file: "edm_euler_exponential", solver: "euler", path: "edm", space: ve, spec: spec("exponential")},
		{file: "edm_dpm_multistep_o1", solver: "ddim", path: "edm", space: ve, spec: spec("karras")},
		{file: "flowmatch_euler_shift1", solver: "euler", path: "flow", space: flow, spec: spec("flow")},
		{file: "flowmatch_euler_shift3", solver: "euler", path: "flow", space: flow, spec: shift3},
		{file: "flowmatch_heun_shift1", solver: "heun", path: "flow", space: flow, spec: spec("flow")},
		{file: "flowmatch_heun_shift3", solver: "heun", path: "flow", space: flow, spec: shift3},
	}
}

func goldenPath(t *testing.T, g *goldenIndex, name string) diffusion.Path {
	t.Helper()
	if name == "vp" {
		p, err := diffusion.NewVP(diffusion.LinearBetas(1000, g.Beta0, g.Beta1))
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	p, err := diffusion.PathByName(name)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// strided makes the steps of DDIM's stride arithmetic, from t to t - T/n, which
// need not end where the next one starts.
func strided(p diffusion.Path, g *diffusion.Grid) *diffusion.Grid {
	vp, out := p.(*diffusion.VP), &diffusion.Grid{Name: g.Name + " by stride", Space: g.Space}
	for _, s := range g.Steps {
		to := diffusion.Clean(p)
		if prev := s.From.T - float64(vp.Len()/len(g.Steps)); prev >= 0 {
			to = diffusion.AtTime(p, prev)
		}
		out.Steps = append(out.Steps, diffusion.Step{From: s.From, To: to})
	}
	return out
}

// aboveZero leaves out a grid's steps to zero noise.
func aboveZero(_ diffusion.Path, g *diffusion.Grid) *diffusion.Grid {
	out := *g
	out.Steps = slices.DeleteFunc(slices.Clone(g.Steps), func(s diffusion.Step) bool { return s.To.B == 0 })
	return &out
}

func stridedAboveZero(p diffusion.Path, g *diffusion.Grid) *diffusion.Grid {
	return aboveZero(p, strided(p, g))
}

func flat(rows [][]float64) []float64 {
	var out []float64
	for _, r := range rows {
		out = append(out, r...)
	}
	return out
}

// rel is the largest difference in units of the largest value.
func rel(got, want []float64) float64 {
	var d, m float64
	for i := range want {
		d, m = max(d, math.Abs(got[i]-want[i])), max(m, math.Abs(want[i]))
		if math.IsNaN(got[i]) {
			return math.Inf(1)
		}
	}
	return d / m
}

const goldenTol = 1e-9

func TestGoldenSchedulers(t *testing.T) {
	var index goldenIndex
	oracle.GoldenJSON(t, &index, "schedulers", "index.json")
	compared, runs := map[string]bool{}, 0
	for _, c := range goldenCases() {
		var file goldenFile
		oracle.GoldenJSON(t, &file, "schedulers", c.file+".json")
		if compared[c.file] {
			t.Errorf("%s is compared twice", c.file)
		}
		compared[c.file] = true
		for steps := range file.Runs {
			runs++
			t.Run(c.file+"/"+steps, func(t *testing.T) {
				for _, d := range goldenRun(t, &index, &file, c, steps) {
					t.Error(d)
				}
			})
		}
	}
	for _, f := range index.Files {
		if !compared[f] {
			t.Errorf("%s is not compared", f)
		}
	}
	if want := 4 * len(index.Files); runs != want {
		t.Errorf("%d runs compared, want %d", runs, want)
	}
}

// goldenRun walks the file's trajectory and lists what differs from it.
func goldenRun(t *testing.T, index *goldenIndex, file *goldenFile, c goldenCase, steps string) (differences []string) {
	differ := func(format string, args ...any) { differences = append(differences, fmt.Sprintf(format, args...)) }
	want := file.Runs[steps]
	path := goldenPath(t, index, c.path)
	c.spec.Steps, _ = strconv.Atoi(steps)
	grid, err := diffusion.Build(path, c.spec)
	if err != nil {
		t.Fatal(err)
	}
	if c.steps != nil {
		grid = c.steps(path, grid)
	}
	grid = grid.In(c.space)
	pred, err := diffusion.PredByName(map[string]string{"edm_F": "edm"}[file.Output] + map[string]string{
		"epsilon": "eps", "v_prediction": "v", "sample": "x0", "velocity": "flow",
	}[file.Output])
	if err != nil {
		t.Fatal(err)
	}
	solver, err := sampler.ByName(c.solver)
	if err != nil {
		t.Fatal(err)
	}
	start := flat(index.XT)
	for i := range start {
		start[i] *= want.Init
	}
	net := &goldenNet{g: index, path: path, kind: file.Output}
	if slices.Contains(c.replay, steps) {
		net.replay = want.Outputs
	}
	type state struct {
		evaluations int
		x           []float64
	}
	var states []state
	drawn := 0
	res, err := sampler.Run(context.Background(), sampler.Adapt(net, path, pred), solver, grid, sampler.Options{
		N: len(index.XT), Shape: []int{2}, Double: true, State: gpu.CPU().From64(start, len(index.XT), 2),
		StepNoise: func(_, _ int, z *gpu.Tensor) {
			noise := flat(index.Noise[drawn])
			if drawn++; drawn > want.NoiseUsed {
				noise = slices.Repeat([]float64{math.NaN()}, len(noise)) // a draw beyond the file's may not count
			}
			copy(z.F64(), noise)
		},
		Trajectory: func(ev sampler.Event) error {
			states = append(states, state{len(net.answers), append([]float64(nil), ev.X.F64()...)})
			return nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	calls := len(want.CallSigmas) - c.wasted
	if res.NFE != calls || len(net.sigmas) != calls {
		t.Fatalf("%d evaluations, want %d", res.NFE, calls)
	}
	if drawn < want.NoiseUsed {
		differ("%d draws of noise, want %d", drawn, want.NoiseUsed)
	}
	if net.replay == nil {
		for i, s := range want.CallSigmas[:calls] {
			if c.path == "flow" { // there "sigma" is the noise fraction
				s /= 1 - s
			}
			if got := net.sigmas[i]; got != s && !(math.Abs(got-s) <= goldenTol*s) {
				differ("evaluation %d at sigma %.15g, want %.15g", i, got, s)
			}
		}
	}
	for i, w := range want.Outputs[:calls] {
		if e := rel(net.answers[i], flat(w)); e > goldenTol {
			differ("output %d differs by %.2g", i, e)
		}
	}
	// The file has a state after every evaluation, the solver one after every step.
	for i, s := range states {
		if e := rel(s.x, flat(want.Trajectory[s.evaluations])); e > goldenTol {
			differ("state %d differs by %.2g", i, e)
		}
	}
	if e := rel(states[len(states)-1].x, flat(want.Trajectory[len(want.Trajectory)-1])); e > goldenTol {
		differ("the last state differs by %.2g", e)
	}
	return differences
}

// A copy of a file with one number changed beyond the tolerance must be noticed,
// whichever number it is, and one changed within it must not.
func TestGoldenNoticesChanges(t *testing.T) {
	var index goldenIndex
	oracle.GoldenJSON(t, &index, "schedulers", "index.json")
	cases := goldenCases()
	c := cases[slices.IndexFunc(cases, func(c goldenCase) bool { return c.file == "dpm_multistep_dpmsolver++_o2" })]
	for name, change := range map[string]func(f *goldenFile, by float64){
		"state":  func(f *goldenFile, by float64) { f.Runs["10"].Trajectory[7][2][1] *= 1 + by },
		"end":    func(f *goldenFile, by float64) { f.Runs["10"].Trajectory[10][0][0] *= 1 + by },
		"output": func(f *goldenFile, by float64) { f.Runs["10"].Outputs[3][1][0] *= 1 + by },
		"sigma":  func(f *goldenFile, by float64) { f.Runs["10"].CallSigmas[4] *= 1 + by },
	} {
		for _, by := range []float64{0, 1e-12, 1e-7} {
			var file goldenFile
			oracle.GoldenJSON(t, &file, "schedulers", c.file+".json")
			change(&file, by)
			d := goldenRun(t, &index, &file, c, "10")
			if noticed := len(d) > 0; noticed != (by > goldenTol) {
				t.Errorf("%s of %s changed by %g: differences %q", name, c.file, by, d)
			}
		}
	}
}

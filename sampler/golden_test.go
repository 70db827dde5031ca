package sampler_test

import (
	"context"
	"encoding/json"
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
}

type goldenFile struct {
	Space  string          `json:"space"`
	Config json.RawMessage `json:"config"`
	Output string          `json:"model_output"`
	Runs   map[string]struct {
		Timesteps  []float64     `json:"timesteps"`
		Init       float64       `json:"init_noise_sigma"`
		CallSigmas []float64     `json:"model_sigma_per_call"`
		Outputs    [][][]float64 `json:"model_outputs"`
		Trajectory [][][]float64 `json:"trajectory"`
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
	n.answers = append(n.answers, append([]float64(nil), out.F64()...))
	return nil
}

// goldenCase is a file that this package must reproduce: how to make its grid for n steps.
type goldenCase struct {
	file   string
	solver string
	path   string
	space  diffusion.Space // of the file's states
	spec   diffusion.Spec
	stride bool // DDIM's "previous timestep", which does not end where the next step starts
	alpha0 bool // its last step goes from the table's first level to itself: a wasted evaluation, which a Grid refuses
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
		{"ddim_leading", "ddim", "vp", vp, spec("leading"), true, false},
		{"ddim_leading_alpha0", "ddim", "vp", vp, spec("leading"), true, true},
		{"ddim_trailing", "ddim", "vp", vp, spec("trailing"), true, false},
		{"ddim_linspace_vpred", "ddim", "vp", vp, spec("linspace"), true, false},
		{"ddim_eta0.7_fixednoise", "ddim:eta=0.7", "vp", vp, spec("leading"), true, false},
		{"ddim_clip1", "ddim:clip=1", "vp", vp, spec("leading"), true, false},
		{"euler_linspace", "euler", "vp", ve, spec("linspace-real"), false, false},
		{"euler_karras", "euler", "vp", ve, spec("karras"), false, false},
		{"euler_exponential", "euler", "vp", ve, spec("exponential"), false, false},
		{"euler_trailing_vpred", "euler", "vp", ve, spec("trailing"), false, false},
		{"euler_ancestral_fixednoise", "euler-a", "vp", ve, spec("linspace-real"), false, false},
		{"heun_linspace", "heun", "vp", ve, spec("linspace-real"), false, false},
		{"heun_karras", "heun", "vp", ve, spec("karras"), false, false},
		{"dpm_multistep_dpmsolver++_o1", "ddim", "vp", vp, spec("linspace-drop"), false, false},
		{"dpm_multistep_dpmsolver_o1", "ddim", "vp", vp, min("linspace-drop"), false, false},
		{"dpm_singlestep_dpmsolver++_o1", "ddim", "vp", vp, spec("linspace-drop"), false, false},
		{"dpm_singlestep_dpmsolver_o1", "ddim", "vp", vp, min("linspace-drop"), false, false},
		{"deis_o1", "ddim", "vp", vp, min("linspace-drop"), false, false},
		{"dpm_multistep_dpmsolver++_o2", "dpm++2m", "vp", vp, spec("linspace-drop"), false, false},
		{"dpm_multistep_dpmsolver++_o2_heun", "dpm++2m-heun", "vp", vp, spec("linspace-drop"), false, false},
		{"dpm_multistep_dpmsolver++_o2_karras", "dpm++2m", "vp", vp, spec("karras"), false, false},
		{"dpm_multistep_dpmsolver++_o2_nolowerfinal_sigmamin", "dpm++2m", "vp", vp, min("linspace-drop"), false, false},
		{"dpm_multistep_dpmsolver++_o2_trailing_vpred", "dpm++2m", "vp", vp, spec("trailing"), false, false},
		{"dpm_multistep_dpmsolver++_o2_x0pred", "dpm++2m", "vp", vp, spec("linspace-drop"), false, false},
		{"edm_euler_karras", "euler", "edm", ve, spec("karras"), false, false},
		{"edm_euler_exponential", "euler", "edm", ve, spec("exponential"), false, false},
		{"edm_dpm_multistep_o1", "ddim", "edm", ve, spec("karras"), false, false},
		{"edm_dpm_multistep_o2", "dpm++2m", "edm", ve, spec("karras"), false, false},
		{"flowmatch_euler_shift1", "euler", "flow", flow, spec("flow"), false, false},
		{"flowmatch_euler_shift3", "euler", "flow", flow, shift3, false, false},
		{"flowmatch_heun_shift1", "heun", "flow", flow, spec("flow"), false, false},
		{"flowmatch_heun_shift3", "heun", "flow", flow, shift3, false, false},
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

// strided makes the steps of DDIM's stride arithmetic, from t to t - T/n, without
// alpha0's last.
func strided(p *diffusion.VP, g *diffusion.Grid, alpha0 bool) *diffusion.Grid {
	n := len(g.Steps)
	out := &diffusion.Grid{Name: g.Name + " by stride", Space: g.Space}
	for _, s := range g.Steps {
		to := diffusion.Clean(p)
		if prev := s.From.T - float64(p.Len()/n); prev >= 0 {
			to = diffusion.AtTime(p, prev)
		} else if alpha0 {
			break
		}
		out.Steps = append(out.Steps, diffusion.Step{From: s.From, To: to})
	}
	return out
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
	files, runs := 0, 0
	for _, c := range goldenCases() {
		var file goldenFile
		oracle.GoldenJSON(t, &file, "schedulers", c.file+".json")
		files++
		for steps := range file.Runs {
			runs++
			t.Run(c.file+"/"+steps, func(t *testing.T) {
				for _, d := range goldenRun(t, &index, &file, c, steps) {
					t.Error(d)
				}
			})
		}
	}
	if files != 32 || runs != 4*32 {
		t.Errorf("%d files with %d runs compared, want 32 with 128", files, runs)
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
	if c.stride {
		grid = strided(path.(*diffusion.VP), grid, c.alpha0)
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
	var states [][]float64
	res, err := sampler.Run(context.Background(), sampler.Adapt(net, path, pred), solver, grid, sampler.Options{
		N: len(index.XT), Shape: []int{2}, Double: true, State: gpu.CPU().From64(start, len(index.XT), 2),
		StepNoise: func(_, step int, z *gpu.Tensor) { copy(z.F64(), flat(index.Noise[step])) },
		Trajectory: func(ev sampler.Event) error {
			states = append(states, append([]float64(nil), ev.X.F64()...))
			return nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	calls := len(want.CallSigmas)
	if c.alpha0 {
		calls--
	}
	if res.NFE != calls || len(net.sigmas) != calls {
		t.Fatalf("%d evaluations, want %d", res.NFE, calls)
	}
	for i, s := range want.CallSigmas[:calls] {
		if c.path == "flow" { // there "sigma" is the noise fraction
			s /= 1 - s
		}
		if got := net.sigmas[i]; got != s && !(math.Abs(got-s) <= goldenTol*s) {
			differ("evaluation %d at sigma %.15g, want %.15g", i, got, s)
		}
	}
	for i, w := range want.Outputs[:calls] {
		if e := rel(net.answers[i], flat(w)); e > goldenTol {
			differ("output %d differs by %.2g", i, e)
		}
	}
	// The file has a state per evaluation; a Heun step's predictor state is not ours to show.
	every := 1
	if c.solver == "heun" {
		every = 2
	}
	for i, s := range states {
		at := min(i*every, len(want.Trajectory)-1)
		if e := rel(s, flat(want.Trajectory[at])); e > goldenTol {
			differ("state %d differs by %.2g", i, e)
		}
	}
	if e := rel(states[len(states)-1], flat(want.Trajectory[len(want.Trajectory)-1])); e > goldenTol {
		differ("the last state differs by %.2g", e)
	}
	return differences
}

// A copy of a file with one number changed beyond the tolerance must be noticed,
// whichever number it is, and one changed within it must not.
func TestGoldenNoticesChanges(t *testing.T) {
	var index goldenIndex
	oracle.GoldenJSON(t, &index, "schedulers", "index.json")
	c := goldenCases()[18]
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

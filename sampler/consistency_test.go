package sampler_test

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/sampler"
)

// gaussianConsistency is the consistency function of N(mean, dev²): where the
// noiseless flow from x ends, at sigma = least.
type gaussianConsistency struct {
	gaussian
	least float64
}

func (d gaussianConsistency) DenoiseAt(_ context.Context, out, x *gpu.Tensor, at []diffusion.Point, _ sampler.Cond) error {
	for i, p := range at {
		k := math.Hypot(d.dev, d.least) / math.Hypot(d.dev, p.Sigma())
		out.F64()[i] = d.mean + k*(x.F64()[i]/p.A-d.mean)
	}
	return nil
}

// A consistency model's samples have the data's law after every step.
func TestConsistencyKeepsTheLaw(t *testing.T) {
	for _, c := range []struct {
		solver, path string
		least        float64
		spec         diffusion.Spec
	}{
		{"consistency", "ve", 0.002, diffusion.Spec{Rule: "sigmas", List: []float64{80, 24, 5, 0.8}}},
		{"consistency:sigma-min=0.3", "ve", 0.3, diffusion.Spec{Rule: "sigmas", List: []float64{80, 24, 5, 0.8}}},
		{"consistency:sigma-min=0", "vp", 0, diffusion.Spec{Rule: "lcm", Steps: 4}},
		{"flow-renoise", "flow", 0, diffusion.Spec{Rule: "flow", Shift: 3, TauMin: 0.2, Steps: 4}},
	} {
		g := build(t, c.path, c.spec)
		if g.Steps[0].From.A == 0 {
			g.Steps = g.Steps[1:]
		}
		den := gaussianConsistency{gaussian{0.3, 0.5}, c.least}
		mean, dev := lawOf(t, den, 0.3, 0.5, solver(t, c.solver), g)
		want := math.Hypot(0.5, c.least)
		if math.Abs(mean-0.3) > 1e-12 || math.Abs(dev-want) > 1e-12 {
			t.Errorf("%s on %s: mean %v, deviation %v, want 0.3 and %v", c.solver, c.path, mean, dev, want)
		}
	}
}

// mixtureConsistency is the consistency function of the golden mixture: 60 steps
// of classical Runge-Kutta in ln sigma to 0.01, then the denoised.
type mixtureConsistency struct{ mixtureDenoiser }

func (d mixtureConsistency) DenoiseAt(_ context.Context, out, x *gpu.Tensor, at []diffusion.Point, _ sampler.Cond) error {
	copy(out.F64(), x.F64())
	for i, p := range at {
		y := out.F64()[2*i : 2*i+2]
		y[0], y[1] = y[0]/p.A, y[1]/p.A
		const n = 60
		h := math.Log(0.01/p.Sigma()) / n
		var k [4][2]float64
		for j := range n {
			v := math.Log(p.Sigma()) + h*float64(j)
			for stage, f := range []float64{0, 0.5, 0.5, 1} {
				z := [2]float64{y[0], y[1]}
				if stage > 0 {
					z[0], z[1] = y[0]+f*h*k[stage-1][0], y[1]+f*h*k[stage-1][1]
				}
				dd := d.g.posterior(z[:], 1, math.Exp(v+f*h))
				k[stage] = [2]float64{z[0] - dd[0], z[1] - dd[1]}
			}
			for e := range y {
				y[e] += h / 6 * (k[0][e] + 2*k[1][e] + 2*k[2][e] + k[3][e])
			}
		}
		copy(y, d.g.posterior(y, 1, 0.01))
	}
	return nil
}

func TestConsistencySamplesAreTheMixture(t *testing.T) {
	g := &goldenIndex{}
	oracle.GoldenJSON(t, g, "schedulers", "index.json")
	r := rand.New(rand.NewPCG(7, 2))
	const n = 600
	energy := newEnergy(g, r, n)
	start := gpu.CPU().From64(g.draws(r, n), n, 2)
	for _, c := range []struct {
		solver, path string
		spec         diffusion.Spec
	}{
		{"consistency:sigma-min=0", "ve", diffusion.Spec{Rule: "sigmas", List: []float64{20, 2}}},
		{"flow-renoise", "flow", diffusion.Spec{Rule: "sigmas", List: []float64{20, 2}}},
		{"lcm", "vp", diffusion.Spec{Rule: "lcm", Steps: 2}},
		{"tcd:gamma=1", "vp", diffusion.Spec{Rule: "lcm", Steps: 2}},
	} {
		res, err := sampler.Run(context.Background(), mixtureConsistency{mixtureDenoiser{g}}, solver(t, c.solver), build(t, c.path, c.spec),
			sampler.Options{Seed: 3, N: n, Batch: n, Shape: []int{2}, Double: true, Image: start})
		if err != nil {
			t.Fatal(err)
		}
		if z := energy.score(res.X.F64()); z > energyLimit {
			t.Errorf("%s: energy distance %.1f deviations above that of exact draws", c.solver, z)
		}
	}
}

// Of an ordinary denoiser renoising makes samples too narrow: in the limit of
// many steps their deviation is the recursion's v' = A'²k²v + B'², here by hand.
func TestRenoiseNarrows(t *testing.T) {
	g := build(t, "flow", diffusion.Spec{Rule: "karras", Steps: 60, SigmaMax: 20, SigmaMin: 0.05})
	from := g.Steps[0].From
	v := from.A*from.A*0.25 + from.B*from.B
	for _, s := range g.Steps {
		k := s.From.A * 0.25 / (s.From.A*s.From.A*0.25 + s.From.B*s.From.B)
		v = s.To.A*s.To.A*k*k*v + s.To.B*s.To.B
	}
	_, dev := lawOf(t, gaussian{0.3, 0.5}, 0.3, 0.5, solver(t, "flow-renoise"), g)
	if math.Abs(dev-math.Sqrt(v)) > 1e-12 || dev > 0.4 {
		t.Errorf("deviation %v, want %v, well below 0.5", dev, math.Sqrt(v))
	}
}

// LCM and TCD by their papers' formulas, on the table's ᾱ.
func TestLatentConsistencySteps(t *testing.T) {
	abar := []float64{}
	prod := 1.0
	for _, b := range diffusion.LinearBetas(1000, 1e-4, 0.02) {
		prod *= 1 - b
		abar = append(abar, prod)
	}
	noise := oracle.Normal(4, 20)
	den := gaussian{0.3, 0.5}
	for name, formula := range map[string]func(x, d float64, t, next int, z float64) float64{
		"lcm": func(x, d float64, t, next int, z float64) float64 {
			u := 10 * float64(t)
			x0 := 0.25/(u*u+0.25)*x + u/math.Sqrt(u*u+0.25)*d
			if next < 0 {
				return x0
			}
			return math.Sqrt(abar[next])*x0 + math.Sqrt(1-abar[next])*z
		},
		"lcm:timestep-scaling=0.001": func(x, d float64, t, next int, z float64) float64 {
			u := 0.001 * float64(t)
			x0 := 0.25/(u*u+0.25)*x + u/math.Sqrt(u*u+0.25)*d
			if next < 0 {
				return x0
			}
			return math.Sqrt(abar[next])*x0 + math.Sqrt(1-abar[next])*z
		},
		"tcd": func(x, d float64, t, next int, z float64) float64 {
			if next < 0 {
				return d
			}
			s := int(0.7 * float64(next))
			eps := (x - math.Sqrt(abar[t])*d) / math.Sqrt(1-abar[t])
			xs := math.Sqrt(abar[s])*d + math.Sqrt(1-abar[s])*eps
			return math.Sqrt(abar[next]/abar[s])*xs + math.Sqrt(1-abar[next]/abar[s])*z
		},
		"tcd:gamma=0": func(x, d float64, t, next int, z float64) float64 { // DDIM
			if next < 0 {
				return d
			}
			return math.Sqrt(abar[next])*d + math.Sqrt(1-abar[next])*(x-math.Sqrt(abar[t])*d)/math.Sqrt(1-abar[t])
		},
	} {
		g := build(t, "vp", diffusion.Spec{Rule: "lcm", Steps: 6})
		times := []int{999, 839, 679, 499, 339, 179, -1}
		drawn := 0
		var states []float64
		res, err := sampler.Run(context.Background(), den, solver(t, name), g, sampler.Options{
			N: 1, Shape: []int{1}, Double: true, State: gpu.CPU().From64([]float64{1.3}, 1, 1),
			StepNoise:  func(_, step int, z *gpu.Tensor) { z.F64()[0] = float64(noise[step]); drawn++ },
			Trajectory: func(e sampler.Event) error { states = append(states, e.X.F64()[0]); return nil },
		})
		if err != nil {
			t.Fatal(err)
		}
		if res.NFE != 6 || name != "tcd:gamma=0" && drawn < 5 {
			t.Errorf("%s: %d evaluations and %d draws", name, res.NFE, drawn)
		}
		x := 1.3
		for i, at := range times[:6] {
			a, b := math.Sqrt(abar[at]), math.Sqrt(1-abar[at])
			kx, k0 := den.coeffs(a, b)
			x = formula(x, kx*x+k0, at, times[i+1], float64(noise[i]))
			if e := math.Abs(states[i+1] - x); e > 1e-11 {
				t.Errorf("%s: after step %d the state is %v, want %v", name, i, states[i+1], x)
			}
		}
	}
}

// The jump of TCD from time 500 to 170 ends at 0.7·170 = 119, however that is rounded.
func TestTCDJumpsToWholeTimes(t *testing.T) {
	g := build(t, "vp", diffusion.Spec{Rule: "times", List: []float64{500, 170}, End: diffusion.Keep})
	a, b := diffusion.VPSpace.Scale(g.Path.Sigma(119)) // of data at 0 the state is noise, of which B_s/B stays
	from := g.Steps[0].From
	res, err := sampler.Run(context.Background(), gaussian{0, 0}, solver(t, "tcd"), g, sampler.Options{
		N: 1, Shape: []int{1}, Double: true, State: gpu.CPU().From64([]float64{from.B}, 1, 1),
		StepNoise: func(_, _ int, z *gpu.Tensor) { clear(z.F64()) },
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := res.X.F64()[0]; math.Abs(got-b/a) > 1e-12 {
		t.Errorf("without noise the state is %v, want %v", got, b/a)
	}
}

// The solvers that VE grids do not serve, on their own: bits by batches, counts.
func TestSolversOfOtherGrids(t *testing.T) {
	mix := testMixture(t, 24, 5)
	for name, g := range map[string]*diffusion.Grid{
		"tcd":      build(t, "vp", diffusion.Spec{Rule: "lcm", Steps: 4}),
		"lcm":      build(t, "vp", diffusion.Spec{Rule: "lcm", Steps: 4}),
		"flow-sde": build(t, "flow", diffusion.Spec{Rule: "flow", Steps: 6, TauMin: 0.04}),
		"ddpm":     build(t, "vp", diffusion.Spec{Rule: "leading", Steps: 5}),
		"dpm++sde": build(t, "flow", diffusion.Spec{Rule: "flow", Steps: 6}),
	} {
		for _, brownian := range []bool{false, true} {
			opt := sampler.Options{Seed: 9, N: 20, Batch: 20, Shape: []int{24}, Brownian: brownian}
			all := bits(t, mix, name, g, opt)
			opt.Batch = 7
			if !slices.Equal(bits(t, mix, name, g, opt), all) {
				t.Errorf("%s, one path %t: batches of 7 give other bits", name, brownian)
			}
		}
		den := &counting{gaussian: gaussian{0, 1}}
		res, err := sampler.Run(context.Background(), den, solver(t, name), g, sampler.Options{N: 1, Shape: []int{3}})
		if err != nil {
			t.Fatal(err)
		}
		want := len(g.Steps)
		if name == "dpm++sde" { // but in the steps from pure noise and to none
			want = 2*want - 2
		}
		if res.NFE != want || den.n != want {
			t.Errorf("%s: %d evaluations, said %d, want %d", name, den.n, res.NFE, want)
		}
	}
}

func TestStochasticRefusals(t *testing.T) {
	for spec, want := range map[string]string{
		"ddim:s-noise=-1":               "s-noise -1; wanted",
		"ddpm:variance=none":            "variance=fixed_small or",
		"ddpm:clip=-1":                  "clip -1",
		"edm:churn=-1":                  "churn -1",
		"edm:churn=NaN":                 "churn NaN",
		"edm:s-min=3,s-max=2":           "sigma 3 and 2",
		"euler-churn:s-noise=0":         "s-noise 0",
		"euler-a-flow:eta=1.5":          "eta 1.5",
		"dpm2-a:eta=-0.1":               "eta -0.1",
		"dpm++2s-a:s-noise=Inf":         "s-noise +Inf",
		"dpm++sde:r=0":                  "r 0; wanted above 0",
		"dpm++sde:eta=2":                "eta 2",
		"sde-dpm++2m:eta=-1":            "eta -1",
		"sde-dpm++3m:third=midpoint":    "third=corrected or",
		"sa-solver:predictor=4":         "orders 4 and 3",
		"sa-solver:corrector=-1":        "orders 3 and -1",
		"sa-solver:tau=5":               "tau² 25",
		"sa-solver:tau-min=2,tau-max=1": "sigma 2 and 1",
		"flow-sde:norm=0":               "norm 0",
		"flow-sde:diffusion=linear":     "diffusion=sigma or",
		"consistency:sigma-min=-1":      "sigma-min -1",
		"lcm:timestep-scaling=0":        "timestep-scaling 0",
		"tcd:gamma=1.1":                 "gamma 1.1",
	} {
		if _, err := sampler.ByName(spec); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q", spec, err, want)
		}
	}
	ve := diffusion.Spec{Rule: "karras", Steps: 2}
	pure := diffusion.Spec{Rule: "flow", Steps: 4}
	for i, c := range []struct {
		solver, path string
		spec         diffusion.Spec
		want         string
	}{
		{"flow-sde", "ve", ve, "wanted a flow's"},
		{"flow-sde:diffusion=sbdm", "flow", pure, "sbdm is infinite"},
		{"lcm", "ve", ve, "wanted VP"},
		{"tcd", "ve", ve, "no VP table"},
		{"tcd", "vp-sde", ve, "no VP table"},
		{"sde-dpm++3m", "ve", ve, "2 of the 3 steps"},
		{"sa-solver", "ve", ve, "2 of the 3 steps"},
		{"ddpm:variance=learned_range", "ve", ve, "predicts no variance"},
	} {
		_, err := sampler.Run(context.Background(), gaussian{0, 1}, solver(t, c.solver), build(t, c.path, c.spec), sampler.Options{N: 1, Shape: []int{1}})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want %q", fmt.Sprint(i, " ", c.solver), err, c.want)
		}
	}
}

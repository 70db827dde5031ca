package sampler_test

import (
	"context"
	"math"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/ops"
	"github.com/fidlab/fidlab/sampler"
)

// lawOf is the mean and deviation of what a solver makes of exact states of
// N(m, s²) at the grid's start, without drawing: where the denoiser is affine, so
// is the solver in the start and in every noise, and images that get one of them
// each show the factors.
func lawOf(t testing.TB, den sampler.Denoiser, m, s float64, solver sampler.Solver, g *diffusion.Grid) (mean, dev float64) {
	t.Helper()
	from := g.Steps[0].From
	draws := 2 * len(g.Steps) // at most two a step
	n := 2 + draws
	start := make([]float64, n)
	for i := range start {
		start[i] = from.A * m
	}
	start[1] += math.Hypot(from.A*s, from.B)
	drawn := 0
	res, err := sampler.Run(context.Background(), den, solver, g, sampler.Options{
		N: n, Batch: n, Shape: []int{1}, Double: true, State: gpu.CPU().From64(start, n, 1),
		StepNoise: func(_, _ int, z *gpu.Tensor) {
			clear(z.F64())
			z.F64()[2+drawn] = 1
			drawn++
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	x := res.X.F64()
	for _, v := range x[1:] {
		dev += (v - x[0]) * (v - x[0])
	}
	return x[0], math.Sqrt(dev)
}

// sdeGrid is a grid of n steps on which a solver of a stochastic equation is to
// keep the law, for its kind of path.
func sdeGrid(t testing.TB, s sampler.Solver, n int) *diffusion.Grid {
	t.Helper()
	g := build(t, "ve", diffusion.Spec{Rule: "exponential", Steps: n, SigmaMax: 20, SigmaMin: 0.05, End: diffusion.Min})
	if s.Check(g) != nil {
		g = g.In(diffusion.FlowSpace)
	}
	return g
}

// keepers are the solvers that keep the law of the data as steps get short, with
// the order at which the deviation of N(m, s²) gets right between n and 2n steps.
var keepers = []struct {
	name  string
	order float64
	n     int
}{
	{"ddim:eta=0.5", 1, 200},
	{"euler-a", 1, 200},
	{"ddpm", 1, 200},
	{"ddpm:variance=fixed_small_log", 1, 200},
	{"ddpm:variance=fixed_large", 1, 200},
	{"ddpm:variance=fixed_large_log", 1, 200},
	{"ddpm:clip=100", 1, 200},
	{"edm:churn=10,s-min=0,s-max=100,s-noise=1", 2, 200},
	{"euler-churn:churn=10,s-min=0,s-max=100,s-noise=1", 1, 400},
	{"euler-a-flow", 1, 200},
	{"euler-a-flow:eta=0.5", 1, 200},
	{"dpm2-a", 2, 100},
	{"dpm2-a:eta=0.5", 2, 100},
	{"dpm++2s-a", 2, 100},
	{"dpm++2s-a:eta=0.5", 2, 100},
	{"dpm++sde", 2, 100},
	{"dpm++sde:eta=0.5", 2, 100},
	{"dpm++sde:r=1", 2, 200},
	{"dpm++sde:r=0.75", 2, 200},
	{"sde-dpm++1", 1, 200},
	{"sde-dpm++1:eta=2", 1, 200},
	{"sde-dpm++2m", 2, 100},
	{"sde-dpm++2m:form=heun", 2, 100},
	{"sde-dpm++2m:eta=0.5", 2, 100},
	{"sde-dpm++3m", 2, 200}, // the third order is the drift's
	{"sde-dpm++3m:third=published", 2, 200},
	{"sde-dpm++3m:third=diffusers", 1, 100},
	{"sa-solver", 2, 100},
	{"sa-solver:corrector=0", 2, 200},
	{"sa-solver:predictor=1,corrector=0", 1, 200},
	{"sa-solver:predictor=1,corrector=1", 1, 400},
	{"flow-sde", 1, 400},
	{"flow-sde:diffusion=constant,last=tweedie", 1, 200},
	{"flow-sde:diffusion=sbdm", 1, 200},
	{"flow-sde:diffusion=decreasing", 1, 200},
	{"flow-sde:diffusion=increasing-decreasing", 1, 200},
}

// The mean of N(m, s²) is kept exactly, its deviation at the solver's order.
func TestStochasticLawConverges(t *testing.T) {
	for _, c := range keepers {
		s := solver(t, c.name)
		var off [2]float64
		for i, n := range []int{c.n, 2 * c.n} {
			g := sdeGrid(t, s, n)
			mean, dev := lawOf(t, gaussian{0.3, 0.5}, 0.3, 0.5, s, g)
			if math.Abs(mean-0.3) > 1e-13 {
				t.Errorf("%s: mean %v, want 0.3", c.name, mean)
			}
			off[i] = dev/math.Hypot(0.5, g.Steps[n-1].To.Sigma()) - 1
		}
		if got := math.Log2(math.Abs(off[0] / off[1])); math.Abs(got-c.order) > 0.1*c.order {
			t.Errorf("%s: order %.2f (deviation off by %.2g, %.2g), want %g", c.name, got, off[0], off[1], c.order)
		}
	}
}

// What is drawn has the mean and the variance that the law says, within 4.9
// standard errors, with independent noise and with that of one path.
func TestStochasticDraws(t *testing.T) {
	den := gaussian{0.3, 0.5}
	for _, c := range keepers {
		s := solver(t, c.name)
		const n = 2500
		g := sdeGrid(t, s, 12)
		from := g.Steps[0].From
		wantMean, wantDev := lawOf(t, den, 0.3, 0.5, s, g)
		start := gpu.CPU().Empty64(n, 1)
		ops.Normals(start, ops.Noise{Seed: 8})
		for i, z := range start.F64() {
			start.F64()[i] = from.A*0.3 + math.Hypot(from.A*0.5, from.B)*z
		}
		for _, brownian := range []bool{false, true} {
			if brownian && strings.Contains(c.name, "=") && !strings.HasPrefix(c.name, "edm") && !strings.Contains(c.name, "eta") {
				continue // the path is no matter of these options
			}
			res, err := sampler.Run(context.Background(), den, s, g, sampler.Options{
				Seed: 3, N: n, Batch: n, Shape: []int{1}, Double: true, State: start, Brownian: brownian,
			})
			if err != nil {
				t.Fatal(err)
			}
			mean, dev := moments(res.X.F64())
			if z := (mean - wantMean) / (wantDev / math.Sqrt(n)); math.Abs(z) > 4.9 {
				t.Errorf("%s, one path %t: mean %.4f is %.1f standard errors off %.4f", c.name, brownian, mean, z, wantMean)
			}
			if z := (dev*dev/(wantDev*wantDev) - 1) * math.Sqrt(n/2.0); math.Abs(z) > 4.9 {
				t.Errorf("%s, one path %t: variance is %.1f standard errors off (deviation %.4f, want %.4f)", c.name, brownian, z, dev, wantDev)
			}
		}
	}
}

// moments are the mean and the deviation of a sample.
func moments(x []float64) (mean, dev float64) {
	for _, v := range x {
		mean += v / float64(len(x))
	}
	for _, v := range x {
		dev += (v - mean) * (v - mean) / float64(len(x))
	}
	return mean, math.Sqrt(dev)
}

// A factor of the noise counts once, in the size of every draw.
func TestNoiseFactor(t *testing.T) {
	den := gaussian{0.3, 0.5}
	for _, name := range []string{"euler-a", "euler-a-flow", "dpm2-a", "dpm++2s-a", "dpm++sde", "edm:s-noise=1", "euler-churn:s-noise=1"} {
		with := name + ":s-noise=2"
		if strings.Contains(name, ":") {
			with = strings.Replace(name, "=1", "=2", 1)
		}
		g := build(t, "ve", diffusion.Spec{Rule: "sigmas", List: []float64{3, 1}, End: diffusion.Keep})
		_, without := lawOf(t, den, 0.3, 0, solver(t, name), g) // the start's part is the same in both
		_, got := lawOf(t, den, 0.3, 0, solver(t, with), g)
		none := noiseless(t, den, solver(t, name), g)
		if want := math.Sqrt(none*none + 4*(without*without-none*none)); math.Abs(got-want) > 1e-12*want || without <= none {
			t.Errorf("%s: deviation %v, want %v (%v with factor 1, %v without noise)", with, got, want, without, none)
		}
	}
}

// noiseless is the deviation that the start alone gives.
func noiseless(t *testing.T, den sampler.Denoiser, s sampler.Solver, g *diffusion.Grid) float64 {
	t.Helper()
	res, err := sampler.Run(context.Background(), den, s, g, sampler.Options{
		N: 2, Shape: []int{1}, Double: true, State: gpu.CPU().From64([]float64{0, g.Steps[0].From.B}, 2, 1),
		StepNoise: func(_, _ int, z *gpu.Tensor) { clear(z.F64()) },
	})
	if err != nil {
		t.Fatal(err)
	}
	return math.Abs(res.X.F64()[1] - res.X.F64()[0])
}

// From pure noise the mean is kept exactly too, and the deviation gets right: the
// first step has no logarithm to go by, and its error must vanish with its length.
func TestStochasticLawFromPureNoise(t *testing.T) {
	for _, c := range keepers {
		s := solver(t, c.name)
		var off [2]float64
		for i, n := range []int{200, 400} {
			g := build(t, "flow", diffusion.Spec{Rule: "flow", Steps: n, TauMin: 0.05, End: diffusion.Keep})
			if s.Check(g) != nil {
				continue // sbdm, whose diffusion is infinite there
			}
			mean, dev := lawOf(t, gaussian{0.3, 0.5}, 0.3, 0.5, s, g)
			if math.Abs(mean-0.3) > 1e-12 {
				t.Errorf("%s: mean %v, want 0.3", c.name, mean)
			}
			off[i] = dev/math.Hypot(0.5, g.Steps[n-1].To.Sigma()) - 1
		}
		if got := math.Log2(math.Abs(off[0] / off[1])); off[1] != 0 && got < 0.8*c.order {
			t.Errorf("%s: order %.2f (deviation off by %.2g, %.2g), want %g", c.name, got, off[0], off[1], c.order)
		}
	}
}

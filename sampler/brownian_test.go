package sampler_test

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/ops"
	"github.com/fidlab/fidlab/rng"
	"github.com/fidlab/fidlab/sampler"
)

// With data at one point a step of sde-dpm++1 is exact, so with one path the end
// is a matter of the path alone: the same for every grid of the same ends.
func TestBrownianEndDoesNotDependOnSteps(t *testing.T) {
	for _, eta := range []float64{0.5, 1} {
		s := solver(t, fmt.Sprintf("sde-dpm++1:eta=%g", eta))
		var want []float64
		for _, n := range []int{1, 3, 4, 8, 50} {
			for _, rule := range []string{"exponential", "karras"} {
				g := build(t, "ve", diffusion.Spec{Rule: rule, Steps: n, SigmaMax: 20, SigmaMin: 0.05, End: diffusion.Min})
				res, err := sampler.Run(context.Background(), gaussian{0.3, 0}, s, g, sampler.Options{Seed: 5, N: 4, Shape: []int{6}, Double: true, Brownian: true})
				if err != nil {
					t.Fatal(err)
				}
				if want == nil {
					want = slices.Clone(res.X.F64())
					// By the path itself: x' = c + r^(1+η)·(x-c) + sigma'^(1+η)·(W(u')-W(u)).
					for i, got := range want {
						st := rng.ForImage(5, uint64(i/6), rng.Bridge)
						r := 0.05 / 20.0
						z := normalOf(rng.Brownian{Rate: eta}, st, uint64(i%6), math.Log(20), math.Log(0.05))
						x := 20 * rng.ForImage(5, uint64(i/6), rng.Init).NormalAt(uint64(i%6))
						exact := 0.3 + math.Pow(r, 1+eta)*(x-0.3) + 0.05*math.Sqrt(1-math.Pow(r, 2*eta))*z
						if math.Abs(got-exact) > 1e-13 {
							t.Errorf("eta %g: value %d is %v, by its path %v", eta, i, got, exact)
						}
					}
				}
				if e := rel(res.X.F64(), want); e > 1e-12 {
					t.Errorf("eta %g, %d %s steps: end differs by %.2g from one step's", eta, n, rule, e)
				}
			}
		}
	}
}

// normalOf is the unit normal of a step in a path, by the path's knots.
func normalOf(b rng.Brownian, s *rng.Stream, value uint64, v0, v1 float64) float64 {
	at := func(v float64) float64 {
		var z [rng.BrownianKnots]float64
		knots := b.Knots(nil, v)
		for i, k := range knots {
			z[i] = k.Left*z[k.L] + k.Right*z[k.R] + k.Dev*s.NormalAt(k.ID<<32+value)
		}
		return z[len(knots)-1]
	}
	from, to := b.Increment(v0 - v1)
	return from*at(v0) + to*at(v1)
}

// asking is a solver that asks for the noise of its own list of steps only.
type asking struct {
	sampler.Solver
	steps [][3]float64 // ln sigma from and to, churn
	got   [][]float64
}

func (*asking) NFE(*diffusion.Grid) int { return 0 }

func (a *asking) Start(*gpu.Tensor) sampler.Stepper { return a }

func (a *asking) Step(e *sampler.Eval, x *gpu.Tensor, _ *diffusion.Grid, _ int) error {
	z := x.Like()
	for _, s := range a.steps {
		if err := e.Increment(z, diffusion.Point{A: 1, B: math.Exp(s[0])}, diffusion.Point{A: 1, B: math.Exp(s[1])}, s[2]); err != nil {
			return err
		}
		a.got = append(a.got, slices.Clone(z.F64()))
	}
	return nil
}

// What is asked before changes nothing: steps that do not follow each other, the
// same again, two in one of the path's intervals, another churn.
func TestBrownianDoesNotDependOnTheOrderOfQuestions(t *testing.T) {
	a := &asking{Solver: solver(t, "euler-a"), steps: [][3]float64{
		{3, 2, 1},
		{2, 1.5, 1},
		{5, 4, 1},
		{3, 2, 1},
		{2, 1.9999, 1},
		{1.9999, 1.9997, 1},
		{2, 1.9997, 1},
		{3, 2, 0.5},
		{2, -1, 0.5},
		{2, -1, 1},
		{-15, -15.5, 1},
		{15.9, -15.9, 1},
	}}
	g := build(t, "ve", diffusion.Spec{Rule: "sigmas", List: []float64{2, 1}, End: diffusion.Keep})
	if _, err := sampler.Run(context.Background(), gaussian{0, 1}, a, g, sampler.Options{Seed: 6, First: 40, N: 2, Shape: []int{3}, Double: true, Brownian: true}); err != nil {
		t.Fatal(err)
	}
	for i, s := range a.steps {
		from, to := math.Log(math.Exp(s[0])), math.Log(math.Exp(s[1])) // an ulp moves the path by its root
		for k, got := range a.got[i] {
			want := normalOf(rng.Brownian{Rate: s[2]}, rng.ForImage(6, uint64(40+k/3), rng.Bridge), uint64(k%3), from, to)
			if math.Abs(got-want) > 1e-11 { // a rounding over the root of a step of 2e-4
				t.Errorf("question %d, ln sigma %g to %g, churn %g: value %d is %v, want %v", i, s[0], s[1], s[2], k, got, want)
			}
		}
	}
}

// Of one path, runs of n and 2n steps approach each other, at the strong order 1
// of methods that see the noise only in their own stages; with independent draws
// they don't.
func TestBrownianRunsConvergeStrongly(t *testing.T) {
	den := gaussian{0.3, 0.5}
	for _, name := range []string{
		"euler-a", "edm:churn=10,s-min=0,s-max=100,s-noise=1", "euler-a-flow", "dpm++2s-a", "dpm++sde",
		"sde-dpm++1:eta=0.5", "sde-dpm++3m", "sa-solver:tau=0.7", "flow-sde",
	} {
		s := solver(t, name)
		ends := func(n int, brownian bool) []float64 {
			res, err := sampler.Run(context.Background(), den, s, sdeGrid(t, s, n), sampler.Options{
				Seed: 1, N: 250, Batch: 250, Shape: []int{2}, Double: true, Brownian: brownian,
			})
			if err != nil {
				t.Fatal(err)
			}
			return res.X.F64()
		}
		apart := func(a, b []float64) (d float64) {
			for i := range a {
				d += (a[i] - b[i]) * (a[i] - b[i]) / float64(len(a))
			}
			return math.Sqrt(d)
		}
		a, b, c := ends(40, true), ends(80, true), ends(160, true)
		if order := math.Log2(apart(a, b) / apart(b, c)); math.Abs(order-1) > 0.25 { // 500 values tell it to 0.07
			t.Errorf("%s: strong order %.2f, want 1: runs of 40, 80 and 160 steps are %.3g and %.3g apart", name, order, apart(a, b), apart(b, c))
		}
		// Independent ends differ by √2 of their deviation, less what the start decides.
		if name != "euler-a" {
			continue
		}
		if d := apart(ends(40, false), ends(80, false)); d < 0.4 {
			t.Errorf("%s: independent draws are only %.3g apart", name, d)
		}
	}
}

// The path is the image's own: the same in any batch, run and dtype, also where
// images have levels of their own.
func TestBrownianOfSingleImages(t *testing.T) {
	mix := testMixture(t, 24, 5)
	for _, name := range []string{"dpm++sde", "sa-solver"} {
		g := build(t, "ve", diffusion.Spec{Rule: "karras", Steps: 6})
		opt := sampler.Options{Seed: 9, N: 23, Batch: 23, Shape: []int{24}, Brownian: true}
		all := bits(t, mix, name, g, opt)
		for _, batch := range []int{1, 7, 16} {
			opt.Batch = batch
			if !slices.Equal(bits(t, mix, name, g, opt), all) {
				t.Errorf("%s: batches of %d give other bits", name, batch)
			}
		}
		opt.First, opt.N = 20, 3
		if !slices.Equal(bits(t, mix, name, g, opt), all[20*24:]) {
			t.Errorf("%s: images 20 to 22 alone have other bits", name)
		}
		if opt.Brownian = false; slices.Equal(bits(t, mix, name, g, opt), all[20*24:]) {
			t.Errorf("%s: independent noise is the path's", name)
		}
	}
	g := build(t, "ve", diffusion.Spec{Rule: "karras", Steps: 6})
	o := sampler.Options{Seed: 9, N: 5, Batch: 5, Shape: []int{24}, Double: true, Brownian: true}
	together := bits(t, mix, "sde-dpm++2m", g, o)
	o.Levels = func(int, *gpu.Tensor, []diffusion.Point, []diffusion.Point) error { return nil }
	if !slices.Equal(bits(t, mix, "sde-dpm++2m", g, o), together) {
		t.Error("levels of single images that are all the same give other bits")
	}
}

// Steps that inpainting repeats get new noise, not the path's again.
func TestBrownianRepeatsDrawAnew(t *testing.T) {
	const n = 4000
	nothing := gpu.CPU().Empty64(n, 1)
	var devs [2]float64
	for i, brownian := range []bool{false, true} {
		s := &sampler.Inpaint{Solver: solver(t, "euler-a"), Known: nothing, Mask: nothing, Repeat: 6}
		res, err := sampler.Run(context.Background(), gaussian{0.3, 0.5}, s, sdeGrid(t, s, 12), sampler.Options{
			Seed: 4, N: n, Batch: n, Shape: []int{1}, Double: true, Brownian: brownian,
		})
		if err != nil {
			t.Fatal(err)
		}
		_, devs[i] = moments(res.X.F64())
	}
	if z := (devs[1]/devs[0] - 1) * math.Sqrt(n); math.Abs(z) > 4.9 { // each is good to 1/√(2n)
		t.Errorf("deviation %.4f with one path, %.4f without: %.1f standard errors apart", devs[1], devs[0], z)
	}
}

func TestBrownianRefusals(t *testing.T) {
	for _, list := range [][]float64{{1e8, 1}, {1, 1e-8, 1e-9}} {
		g := build(t, "ve", diffusion.Spec{Rule: "sigmas", List: list, End: diffusion.Keep})
		_, err := sampler.Run(context.Background(), gaussian{0, 1}, solver(t, "euler-a"), g, sampler.Options{N: 1, Shape: []int{1}, Brownian: true})
		if err == nil || !strings.Contains(err.Error(), "Brownian noise at sigma 1e") {
			t.Errorf("%v: error %v", list, err)
		}
	}
	// Pure noise is where a path starts.
	zt, err := diffusion.NewVP(diffusion.ZeroTerminalSNR(diffusion.LinearBetas(1000, 1e-4, 0.02)))
	if err != nil {
		t.Fatal(err)
	}
	g, err := diffusion.Build(zt, diffusion.Spec{Rule: "trailing", Steps: 5})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"euler-a", "dpm++sde", "dpm++2s-a", "sde-dpm++3m", "sa-solver", "ddpm:variance=fixed_large"} {
		if _, err := sampler.Run(context.Background(), gaussian{0, 1}, solver(t, name), g, sampler.Options{N: 3, Shape: []int{2}, Brownian: true}); err != nil {
			t.Errorf("%s from pure noise: %v", name, err)
		}
	}
}

// BenchmarkIncrement is the noise of 20 steps of one path. "draws" is its time in
// plain draws of as many normals, the best of each, taken in turns.
func BenchmarkIncrement(b *testing.B) {
	g := build(b, "ve", diffusion.Spec{Rule: "karras", Steps: 20, End: diffusion.Min})
	x := gpu.CPU().Empty(64, 3, 32, 32)
	path, plain := time.Hour, time.Hour
	best := func(t *time.Duration, f func()) {
		start := time.Now()
		f()
		*t = min(*t, time.Since(start))
	}
	for b.Loop() {
		best(&plain, func() {
			for i := range g.Steps {
				ops.Normals(x, ops.Noise{From: uint64(i) * 3072})
			}
		})
		best(&path, func() {
			if _, err := sampler.Run(context.Background(), free{}, solver(b, "euler-a"), g, sampler.Options{N: 64, Shape: []int{3, 32, 32}, Brownian: true}); err != nil {
				b.Fatal(err)
			}
		})
	}
	b.ReportMetric(path.Seconds()/plain.Seconds(), "draws")
	b.ReportMetric(path.Seconds()/20*1e3, "ms/step")
	b.ReportMetric(0, "ns/op")
}

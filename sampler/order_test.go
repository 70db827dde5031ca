package sampler_test

import (
	"context"
	"math"
	"sync"
	"testing"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/sampler"
)

// problem is a noiseless sampling equation whose solution is known.
type problem struct {
	name string
	den  sampler.Denoiser
	// exact is where the flow takes x/A from noise level s0 to s1.
	exact func(x []float64, s0, s1 float64) []float64
}

// gaussianProblem: the flow of N(m, s²) takes x/A at sigma to m + (x-m)·√(s²+sigma'²)/√(s²+sigma²).
var gaussianProblem = problem{"gaussian", gaussian{0.3, 0.5}, func(x []float64, s0, s1 float64) []float64 {
	out := make([]float64, len(x))
	for i, v := range x {
		out[i] = 0.3 + (v-0.3)*math.Hypot(0.5, s1)/math.Hypot(0.5, s0)
	}
	return out
}}

// mixtureDenoiser is the golden files' mixture, by their formula.
type mixtureDenoiser struct{ g *goldenIndex }

func (d mixtureDenoiser) DenoiseAt(_ context.Context, out, x *gpu.Tensor, at []diffusion.Point, _ sampler.Cond) error {
	for i, p := range at {
		copy(out.F64()[2*i:2*i+2], d.g.posterior(x.F64()[2*i:2*i+2], p.A, p.B))
	}
	return nil
}

func (d mixtureDenoiser) Denoise(ctx context.Context, out, x *gpu.Tensor, sigma []float64, c sampler.Cond) error {
	return d.DenoiseAt(ctx, out, x, points(sigma), c)
}

func points(sigma []float64) []diffusion.Point {
	var at []diffusion.Point
	for _, s := range sigma {
		at = append(at, diffusion.Point{A: 1, B: s})
	}
	return at
}

// mixtureFlows are the flows of mixtureProblem that tests have asked for.
var mixtureFlows sync.Map

// mixtureProblem has no closed form: classical Runge-Kutta of 20,000 steps in
// ln sigma stands for it, whose error is far below what the solvers are asked.
func mixtureProblem(t testing.TB) problem {
	t.Helper()
	g := &goldenIndex{}
	oracle.GoldenJSON(t, g, "schedulers", "index.json")
	slope := func(x []float64, u float64) []float64 { // dx/d ln sigma = x - D
		d := g.posterior(x, 1, math.Exp(u))
		return []float64{x[0] - d[0], x[1] - d[1]}
	}
	flow := func(x []float64, s0, s1 float64) []float64 {
		k := [4]float64{x[0], x[1], s0, s1}
		if v, ok := mixtureFlows.Load(k); ok {
			return v.([]float64)
		}
		const n = 20000
		u, h := math.Log(s0), (math.Log(s1)-math.Log(s0))/n
		y := append([]float64(nil), x...)
		add := func(k []float64, f float64) []float64 { return []float64{y[0] + f*k[0], y[1] + f*k[1]} }
		for i := range n {
			at := u + h*float64(i)
			k1 := slope(y, at)
			k2 := slope(add(k1, h/2), at+h/2)
			k3 := slope(add(k2, h/2), at+h/2)
			k4 := slope(add(k3, h), at+h)
			for j := range y {
				y[j] += h / 6 * (k1[j] + 2*k2[j] + 2*k3[j] + k4[j])
			}
		}
		mixtureFlows.Store(k, y)
		return y
	}
	return problem{"mixture", mixtureDenoiser{g}, func(x []float64, s0, s1 float64) (out []float64) {
		for i := 0; i < len(x); i += 2 {
			out = append(out, flow(x[i:i+2], s0, s1)...)
		}
		return out
	}}
}

// errorOf is the largest error of a solver's end on a grid, relative to the solution's size.
func errorOf(t testing.TB, p problem, s sampler.Solver, g *diffusion.Grid) float64 {
	t.Helper()
	from, to := g.Steps[0].From, g.Steps[len(g.Steps)-1].To
	n := []float64{0.7, -1.1, 0.2, 0.9} // two images of two values
	res, err := sampler.Run(context.Background(), p.den, s, g, sampler.Options{
		N: 2, Shape: []int{2}, Double: true, Noise: gpu.CPU().From64(n, 2, 2),
	})
	if err != nil {
		t.Fatal(err)
	}
	x := make([]float64, len(n))
	for i := range x {
		x[i] = from.B / from.A * n[i]
	}
	return rel(res.X.F64(), p.exact(x, from.Sigma(), to.Sigma()))
}

// orderOf is the order of convergence of a solver between n and 2n steps of the
// grid that spec describes: halving the step of a method of order p divides the
// error by 2^p.
func orderOf(t testing.TB, p problem, s sampler.Solver, path string, spec diffusion.Spec, n int) (order, err float64) {
	t.Helper()
	spec.Steps = n
	e1 := errorOf(t, p, s, build(t, path, spec))
	spec.Steps = 2 * n
	e2 := errorOf(t, p, s, build(t, path, spec))
	return math.Log2(e1 / e2), e2
}

// smoothGrids end above zero, where every method keeps its order.
var smoothGrids = []struct {
	path string
	spec diffusion.Spec
}{
	{"ve", diffusion.Spec{Rule: "karras", SigmaMax: 10, SigmaMin: 0.05, End: diffusion.Min}},
	{"vp-sde", diffusion.Spec{Rule: "exponential", SigmaMax: 10, SigmaMin: 0.05, End: diffusion.Min}},
	{"flow", diffusion.Spec{Rule: "karras", Rho: 3, SigmaMax: 10, SigmaMin: 0.05, End: diffusion.Min}},
}

// wantOrder fails unless a solver has the order within 10 % on every smooth grid of both problems.
func wantOrder(t *testing.T, name string, want float64, n int) {
	t.Helper()
	for _, p := range []problem{gaussianProblem, mixtureProblem(t)} {
		for _, g := range smoothGrids {
			if got, e := orderOf(t, p, solver(t, name), g.path, g.spec, n); math.Abs(got-want) > 0.1*want {
				t.Errorf("%s, %s on %s: order %.2f at %d steps (error %.2g), want %g", name, p.name, g.path, got, 2*n, e, want)
			}
		}
	}
}

func TestOrderOfConvergence(t *testing.T) {
	for name, order := range map[string]float64{"ddim": 1, "euler": 1, "heun": 2, "dpm++2m": 2, "dpm++2m-heun": 2} {
		wantOrder(t, name, order, 160)
	}
}

package sampler_test

import (
	"context"
	"math"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/sampler"
)

// meanError is the root mean square error of DDIM's ends on a grid, for noise of a seed.
func meanError(t *testing.T, p problem, g *diffusion.Grid, seed uint64) float64 {
	t.Helper()
	const n = 40
	noise := gpu.CPU().FromAs(gpu.Float64, oracle.Normal(seed, 2*n), n, 2)
	r, err := sampler.Run(context.Background(), p.den, sampler.DDIM{}, g, sampler.Options{N: n, Shape: []int{2}, Double: true, Noise: noise})
	if err != nil {
		t.Fatal(err)
	}
	from, to := g.Steps[0].From, g.Steps[len(g.Steps)-1].To
	x := make([]float64, 2*n)
	for i, z := range noise.F64() {
		x[i] = from.B / from.A * z
	}
	var sum float64
	for i, w := range p.exact(x, from.Sigma(), max(to.Sigma(), 1e-3)) {
		sum += (r.X.F64()[i] - w) * (r.X.F64()[i] - w)
	}
	return math.Sqrt(sum / float64(2*n))
}

// On noise that it was not chosen by, a learned grid is better than the rules
// of as many steps, and the cost that it was chosen by bounds its error.
func TestLearnedGridIsBetter(t *testing.T) {
	p := mixtureProblem(t)
	spec := diffusion.Spec{Rule: "exponential", Steps: 96, SigmaMax: 20, SigmaMin: 0.02}
	fine := build(t, "ve", spec)
	for _, steps := range []int{5, 8} {
		learned, cost, err := sampler.LearnGrid(context.Background(), p.den, fine, steps, sampler.Options{N: 64, Shape: []int{2}, Seed: 5})
		if err != nil {
			t.Fatal(err)
		}
		if len(learned.Steps) != steps || learned.Steps[0].From != fine.Steps[0].From || learned.Steps[steps-1].To != fine.Steps[95].To {
			t.Errorf("%d steps: %v", steps, learned.Sigmas())
		}
		own := meanError(t, p, learned, 11)
		if own > cost {
			t.Errorf("%d steps: error %.4g above the bound %.4g", steps, own, cost)
		}
		for _, rule := range []string{"karras", "exponential"} {
			s := spec
			s.Rule, s.Steps = rule, steps
			if e := meanError(t, p, build(t, "ve", s), 11); own > 0.9*e {
				t.Errorf("%d steps: error %.4g learned, %.4g on %s", steps, own, e, rule)
			}
		}
	}
}

// Of chains of two steps the least is found by trying all.
func TestLearnGridFindsTheLeast(t *testing.T) {
	den := gaussian{0.3, 0.5}
	fine := build(t, "ve", diffusion.Spec{Rule: "exponential", Steps: 9, SigmaMax: 10, SigmaMin: 0.1, End: diffusion.Min})
	o := sampler.Options{N: 8, Shape: []int{3}, Seed: 1}
	whole, cost9, err := sampler.LearnGrid(context.Background(), den, fine, 9, o)
	if err != nil || len(whole.Steps) != 9 {
		t.Fatalf("%v, %v", whole, err)
	}
	best, cost := 0, math.Inf(1)
	two, cost2, err := sampler.LearnGrid(context.Background(), den, fine, 2, o)
	if err != nil {
		t.Fatal(err)
	}
	for i := 1; i < 9; i++ {
		if e := onePath(t, den, fine, i); e < cost {
			best, cost = i, e
		}
	}
	if want := fine.Steps[best].From; two.Steps[0].To != want || math.Abs(cost-cost2) > 1e-9*cost || !(cost9 < cost2) {
		t.Errorf("learned over sigma %.4g for %.6g, the least is over %.4g for %.6g; nine steps cost %.4g", two.Steps[0].To.B, cost2, want.B, cost, cost9)
	}
}

// onePath is LearnGrid's cost of the chain first–i–last, by the definition.
func onePath(t *testing.T, den gaussian, fine *diffusion.Grid, i int) float64 {
	t.Helper()
	var states [][]float64
	_, err := sampler.Run(context.Background(), den, sampler.Heun{}, fine, sampler.Options{
		N: 8, Shape: []int{3}, Seed: 1, Double: true,
		Trajectory: func(e sampler.Event) error {
			states = append(states, append([]float64(nil), e.X.F64()...))
			return nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	sigmas := fine.Sigmas()
	step := func(a, b int) float64 {
		kx, k0 := den.coeffs(1, sigmas[a])
		r, sum := sigmas[b]/sigmas[a], 0.0
		for k, x := range states[a] {
			e := r*x + (1-r)*(kx*x+k0) - states[b][k]
			sum += e * e
		}
		return math.Sqrt(sum/float64(len(states[a]))) * deviation(states[9]) / deviation(states[b])
	}
	return step(0, i) + step(i, 9)
}

func TestLearnGridRefusals(t *testing.T) {
	for want, c := range map[string]struct {
		g     *diffusion.Grid
		steps int
	}{
		"12 steps out of 9": {build(t, "ve", diffusion.Spec{Rule: "karras", Steps: 9}), 12},
		"0 steps":           {build(t, "ve", diffusion.Spec{Rule: "karras", Steps: 9}), 0},
		"infinite":          {build(t, "flow", diffusion.Spec{Rule: "flow", Steps: 9}), 3},
	} {
		if _, _, err := sampler.LearnGrid(context.Background(), gaussian{0, 1}, c.g, c.steps, sampler.Options{N: 1, Shape: []int{1}}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

package sampler_test

import (
	"context"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/sampler"
)

// draws is n exact draws of the golden files' mixture, [n, 2].
func (g *goldenIndex) draws(r *rand.Rand, n int) []float64 {
	x := make([]float64, 0, 2*n)
	for range n {
		u, k := r.Float64(), 0
		for ; u > g.Mixture.Weights[k]; k++ {
			u -= g.Mixture.Weights[k]
		}
		for j := range 2 {
			x = append(x, g.Mixture.Means[k][j]+g.Mixture.Stds[k]*r.NormFloat64())
		}
	}
	return x
}

// meanDistance is E|X-Y| of two samples of points of the plane.
func meanDistance(x, y []float64) (sum float64) {
	for i := 0; i < len(x); i += 2 {
		for j := 0; j < len(y); j += 2 {
			a, b := x[i]-y[j], x[i+1]-y[j+1]
			sum += math.Sqrt(a*a + b*b)
		}
	}
	return sum / float64(len(x)/2*(len(y)/2))
}

// within is E|X-X'| of a sample.
func within(x []float64) (sum float64) {
	for i := 0; i < len(x); i += 2 {
		for j := 0; j < i; j += 2 {
			a, b := x[i]-x[j], x[i+1]-x[j+1]
			sum += math.Sqrt(a*a + b*b)
		}
	}
	return 2 * sum / float64(len(x)/2*(len(x)/2))
}

// energyTo measures the energy distance 2·E|X-Y| - E|X-X'| - E|Y-Y'| of samples
// to fixed draws of the mixture, and knows what draws of the mixture themselves
// come to: mean and deviation over many.
type energyTo struct {
	y         []float64
	spread    float64 // E|Y-Y'|
	mean, dev float64
}

func newEnergy(g *goldenIndex, r *rand.Rand, n int) *energyTo {
	e := &energyTo{y: g.draws(r, n)}
	e.spread = within(e.y)
	var d []float64
	for range 40 {
		d = append(d, e.of(g.draws(r, n)))
	}
	e.mean, e.dev = moments(d)
	return e
}

func (e *energyTo) of(x []float64) float64 {
	return 2*meanDistance(x, e.y) - within(x) - e.spread
}

// score is how many deviations x is farther off than exact draws are.
func (e *energyTo) score(x []float64) float64 { return (e.of(x) - e.mean) / e.dev }

// The scores of exact draws are a skewed sum of squares: 7 deviations are beyond
// what one of a hundred thousand does.
const energyLimit = 7

// Every solver that keeps the law draws the mixture: its samples are no farther
// from exact draws than other exact draws are.
func TestStochasticSamplesAreTheMixture(t *testing.T) {
	g := &goldenIndex{}
	oracle.GoldenJSON(t, g, "schedulers", "index.json")
	r := rand.New(rand.NewPCG(7, 1))
	const n = 1000
	energy := newEnergy(g, r, n)
	start := gpu.CPU().From64(g.draws(r, n), n, 2)
	for _, c := range keepers {
		s := solver(t, c.name)
		steps := 120
		if c.order > 1 {
			steps = 60
		}
		spec := diffusion.Spec{Rule: "karras", Steps: steps, SigmaMax: 20, SigmaMin: 0.02}
		grid := build(t, "vp-sde", spec)
		if s.Check(grid) != nil {
			spec.Steps, spec.SigmaMin = 250, 0.04/0.96 // as the paper walks it
			grid = build(t, "flow", spec)
		}
		res, err := sampler.Run(context.Background(), mixtureDenoiser{g}, s, grid, sampler.Options{Seed: 12, N: n, Batch: n, Shape: []int{2}, Double: true, Image: start})
		if err != nil {
			t.Fatal(err)
		}
		if z := energy.score(res.X.F64()); z > energyLimit {
			t.Errorf("%s: energy distance %.1f deviations above that of exact draws", c.name, z)
		}
	}
	// What the distance can see.
	narrow := g.draws(r, n)
	for i := range narrow {
		narrow[i] *= 0.9
	}
	if z := energy.score(narrow); z < energyLimit {
		t.Errorf("a mixture a tenth too small is only %.1f deviations off", z)
	}
}

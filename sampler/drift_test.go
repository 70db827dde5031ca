package sampler_test

import (
	"context"
	"math"
	"testing"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/sampler"
)

// driftEnd is where the stochastic equation of churn eta goes without its noise:
// dx/d ln sigma = (1+eta)·(x-D), by classical Runge-Kutta of 6,000 steps.
func driftEnd(g *goldenIndex, x []float64, eta, s0, s1 float64) []float64 {
	const n = 6000
	h := math.Log(s1/s0) / n
	x = append([]float64(nil), x...)
	slope := func(x [2]float64, v float64) (k [2]float64) {
		d := g.posterior(x[:], 1, math.Exp(v))
		for j := range k {
			k[j] = (1 + eta) * (x[j] - d[j])
		}
		return k
	}
	for b := 0; b < len(x); b += 2 {
		y := [2]float64{x[b], x[b+1]}
		add := func(k [2]float64, f float64) [2]float64 { return [2]float64{y[0] + f*k[0], y[1] + f*k[1]} }
		for i := range n {
			v := math.Log(s0) + h*float64(i)
			k1 := slope(y, v)
			k2 := slope(add(k1, h/2), v+h/2)
			k3 := slope(add(k2, h/2), v+h/2)
			k4 := slope(add(k3, h), v+h)
			for j := range y {
				y[j] += h / 6 * (k1[j] + 2*k2[j] + 2*k3[j] + k4[j])
			}
		}
		x[b], x[b+1] = y[0], y[1]
	}
	return x
}

// The order of a multistep method for a stochastic equation is its drift's: with
// the noise set to zero the end converges at that order, on a mixture.
func TestDriftOrders(t *testing.T) {
	index := &goldenIndex{}
	oracle.GoldenJSON(t, index, "schedulers", "index.json")
	noise := []float64{0.7, -1.1, 0.2, 0.9}
	for _, c := range []struct {
		name  string
		eta   float64
		order float64
	}{
		{"sde-dpm++1", 1, 1},
		{"sde-dpm++2m", 1, 2},
		{"sde-dpm++2m:form=heun", 1, 2},
		{"sde-dpm++3m", 1, 3},

		{"sde-dpm++3m:third=published", 1, 2},
		{"sde-dpm++3m:third=diffusers", 1, 1},
		{"sa-solver:predictor=1,corrector=0", 1, 1},
		{"sa-solver:predictor=2,corrector=0", 1, 2},
		{"sa-solver:predictor=3,corrector=0", 1, 3},
		{"sa-solver:predictor=1,corrector=1", 1, 1},
		{"sa-solver:predictor=2,corrector=2", 1, 2},
		{"sa-solver", 1, 3},
		{"sa-solver:tau=0.5", 0.25, 3},
	} {
		s := solver(t, c.name)
		var off [2]float64
		for i, n := range []int{200, 400} {
			g := build(t, "vp-sde", diffusion.Spec{Rule: "exponential", Steps: n, SigmaMax: 10, SigmaMin: 0.05, End: diffusion.Min})
			res, err := sampler.Run(context.Background(), mixtureDenoiser{index}, s, g, sampler.Options{
				N: 2, Shape: []int{2}, Double: true, Noise: gpu.CPU().From64(noise, 2, 2),
				StepNoise: func(_, _ int, z *gpu.Tensor) { clear(z.F64()) },
			})
			if err != nil {
				t.Fatal(err)
			}
			x := make([]float64, len(noise))
			for j, v := range noise {
				x[j] = 10 * v
			}
			off[i] = rel(res.X.F64(), driftEnd(index, x, c.eta, 10, 0.05))
		}
		got := math.Log2(off[0] / off[1])
		if math.Abs(got-c.order) > 0.1*c.order {
			t.Errorf("%s: order %.2f (off by %.2g and %.2g), want %g", c.name, got, off[0], off[1], c.order)
		}
	}
}

// Without their noise the solvers are of the order that the registry says, on the
// noiseless flow.
func TestStochasticOrdersWithoutNoise(t *testing.T) {
	for name, order := range map[string]float64{
		"edm:churn=0": 2, "euler-churn:churn=0": 1, "euler-a-flow:eta=0": 1, "dpm2-a:eta=0": 2, "dpm++2s-a:eta=0": 2,
		"sde-dpm++1:eta=0": 1, "sde-dpm++2m:eta=0": 2, "dpm++sde:eta=0": 2,
	} {
		wantOrder(t, name, order, 160)
	}
}

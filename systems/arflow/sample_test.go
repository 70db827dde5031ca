package arflow

import (
	"math"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/models"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/sampler"
	"github.com/fidlab/fidlab/sampler/network"
)

// Sampling is the paper's, written out: with v of the class and of none, each with a state of its own,
//
//	x' = x + (v + w·s)·Δt + √(2wΔt)·z,   w = 1-t,   s = (t·v - x)/(1-t)
//
// from t = 0 in equal steps to 0.96, and a last step of 0.04 without noise.
func TestSamplingIsThePapers(t *testing.T) {
	c := tiny()
	net := stirred(gpu.CPU(), gpu.Float64, c)
	const n, steps, weight = 3, 6, 1.5
	size := c.Channels * c.Height * c.Width
	noise := func(first, step int) []float64 { return wide(oracle.Normal(uint64(100+first*50+step), n*size), same) }
	g, err := Grid(steps)
	if err != nil {
		t.Fatal(err)
	}
	start := wide(oracle.Normal(7, n*size), same)
	o := sampler.Options{
		N: n, Shape: []int{c.Channels, c.Height, c.Width}, Double: true, Noise: gpu.CPU().From64(start, n, c.Channels, c.Height, c.Width), Cond: sampler.Cond{Classes: []int{0, 1, 2}},
		StepNoise: func(first, step int, z *gpu.Tensor) { copy(z.F64(), noise(first, step)) },
	}
	got, err := sampler.Run(t.Context(), &sampler.Guided{Den: network.Denoiser(net, path, pred, network.Options{Batch: 4}), Weight: weight}, sampler.FlowSDE{Norm: 1}, g, o)
	if err != nil {
		t.Fatal(err)
	}
	x := append([]float64{}, start...)
	for i := range x {
		x[i] = start[i]
	}
	var states [2][]*gpu.Tensor
	tape := nn.NewTape(gpu.CPU(), gpu.Float64)
	for i := range steps {
		at, dt := float64(i)*0.96/(steps-1), 0.96/(steps-1)
		if i == steps-1 {
			dt = 0.04
		}
		var v [2][]float64
		for k := range v {
			tape.Run(func() {
				tape.NoGrad(func() {
					ids := []int32{0, 1, 2}
					if k == 1 {
						ids = []int32{3, 3, 3}
					}
					var past []*nn.Var
					for _, s := range states[k] {
						past = append(past, tape.Input(s))
					}
					y, next := net.Step(tape.Input(gpu.CPU().From64(append([]float64{}, x...), n, c.Channels, c.Height, c.Width)), tape.Const(at, n), models.Inputs{Classes: gpu.CPU().FromInt32(ids, n)}, past)
					v[k] = values(t, y)
					states[k] = nil
					for _, s := range next {
						states[k] = append(states[k], gpu.CPU().From64(values(t, s), s.Shape()...))
					}
				})
			})
		}
		z := noise(0, i)
		for j := range x {
			u := v[1][j] + weight*(v[0][j]-v[1][j])
			w, s := 1-at, (at*u-x[j])/(1-at)
			x[j] += (u + w*s) * dt
			if i < steps-1 {
				x[j] += math.Sqrt(2*w*dt) * z[j]
			}
		}
	}
	if e := apart(floats(t, got.X), x); e > 1e-9 {
		t.Errorf("%g from the formula", e)
	}
}

// Without its past, at every step, the network draws other pictures; in other batches it draws the same ones.
func TestPastIsOfTheSample(t *testing.T) {
	net := stirred(gpu.CPU(), gpu.Float32, tiny())
	draw := func(m models.Net, batch int, weight float64) []float64 {
		t.Helper()
		x, err := Draw(t.Context(), m, Request{Seed: 3, N: 7, Steps: 5, Guidance: weight, Batch: batch})
		if err != nil {
			t.Fatal(err)
		}
		return floats(t, x)
	}
	for _, weight := range []float64{1, 1.5} {
		whole := draw(net, 7, weight)
		for _, batch := range []int{1, 3} {
			if e := apart(draw(net, batch, weight), whole); e != 0 {
				t.Errorf("guidance %g: pictures depend on their batch: %g", weight, e)
			}
		}
		if apart(draw(Alone{net}, 7, weight), whole) < 1e-3 {
			t.Errorf("guidance %g: the past makes no difference", weight)
		}
	}
}

// A solver of two evaluations a step would make the state go on twice.
func TestHeunIsRefused(t *testing.T) {
	net := stirred(gpu.CPU(), gpu.Float32, tiny())
	g, err := Grid(4)
	if err != nil {
		t.Fatal(err)
	}
	o := sampler.Options{N: 1, Shape: []int{2, 4, 6}}
	_, err = sampler.Run(t.Context(), network.Denoiser(net, path, pred, network.Options{}), sampler.Heun{}, g, o)
	if err == nil || !strings.Contains(err.Error(), "heun evaluates 2 times in 1 of the 4 steps") {
		t.Errorf("error %v", err)
	}
	if _, err = sampler.Run(t.Context(), network.Denoiser(Alone{net}, path, pred, network.Options{}), sampler.Heun{}, g, o); err != nil {
		t.Errorf("a network without a past: %v", err)
	}
	if _, err := Draw(t.Context(), net, Request{N: 1, Steps: 1, Guidance: 1}); err == nil || !strings.Contains(err.Error(), "1 steps; want 2 or more") {
		t.Errorf("error %v", err)
	}
}

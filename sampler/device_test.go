package sampler_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"testing"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/internal/oracle/device"
	"github.com/fidlab/fidlab/ops"
	"github.com/fidlab/fidlab/rng"
	"github.com/fidlab/fidlab/sampler"
)

// normalData is the exact denoiser of data N(mean, s²), computed where x is.
type normalData struct {
	mean, s float64
	mu      *gpu.Tensor // the mean in every value
	coeffs  []float64
}

// gain is the factor of x in the denoised x at p, and offset what is added.
func (d *normalData) gain(p diffusion.Point) (gain, offset float64) {
	gain = p.A * d.s * d.s / (p.A*p.A*d.s*d.s + p.B*p.B)
	return gain, (1 - gain*p.A) * d.mean
}

func (d *normalData) Denoise(ctx context.Context, out, x *gpu.Tensor, sigma []float64, c sampler.Cond) error {
	var at []diffusion.Point
	for _, s := range sigma {
		at = append(at, diffusion.Point{A: 1, B: s})
	}
	return d.DenoiseAt(ctx, out, x, at, c)
}

func (d *normalData) DenoiseAt(_ context.Context, out, x *gpu.Tensor, at []diffusion.Point, _ sampler.Cond) error {
	if d.mu == nil || d.mu.Len() != x.Len() || d.mu.Device() != x.Device() {
		ones := make([]float32, x.Len())
		for i := range ones {
			ones[i] = 1
		}
		d.mu = x.Device().FromAs(x.DType(), ones, x.Shape()...)
	}
	d.coeffs = d.coeffs[:0]
	for _, p := range at {
		g, o := d.gain(p)
		d.coeffs = append(d.coeffs, g, o)
	}
	ops.LinCombRows(out, d.coeffs, x, d.mu)
	return nil
}

// On every device Euler's method is the recursion x' = kx·x + kd·D(x) of each
// value on its own, here in float64 from package rng's normals.
func TestRunOnDevices(t *testing.T) {
	g := build(t, "vp", diffusion.Spec{Rule: "trailing", Steps: 7})
	den := &normalData{mean: 0.25, s: 0.5}
	const n, side = 5, 6
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		states := map[int][]float64{}
		r, err := sampler.Run(context.Background(), den, sampler.Euler{}, g, sampler.Options{
			Seed: 9, First: 3, N: n, Batch: 2, Shape: []int{1, side, side - 1}, Device: dev,
			Trajectory: func(e sampler.Event) error {
				v := make([]float64, e.X.Len())
				states[e.Step] = append(states[e.Step], v...)
				return e.X.Read64(states[e.Step][len(states[e.Step])-len(v):])
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		size := side * (side - 1)
		check := func(step, i int, got, want, scale float64) {
			// Six units of 2^-24 for the normal, then two roundings to float32 a step
			// (the denoised x, the state), which no step enlarges.
			if bound := float64(6+2*step) * 0x1p-24 * scale; !(math.Abs(got-want) <= bound) {
				t.Fatalf("after %d steps value %d is %v, want %v", step, i, got, want)
			}
		}
		last := make([]float64, r.X.Len())
		if err := r.X.Read64(last); err != nil {
			t.Fatal(err)
		}
		for i := range last {
			x := g.Steps[0].From.B * rng.ForImage(9, uint64(3+i/size), rng.Init).NormalAt(uint64(i%size))
			scale := math.Abs(x) + 2
			check(0, i, states[0][i], x, scale)
			for j, s := range g.Steps {
				gain, offset := den.gain(s.From)
				k := s.To.B / s.From.B
				x = k*x + (s.To.A-s.From.A*k)*(gain*x+offset)
				check(j+1, i, states[j+1][i], x, scale)
			}
			check(len(g.Steps), i, last[i], x/g.Steps[len(g.Steps)-1].To.A, scale)
		}
	})
}

// From the same noise a GPU gives the CPU's bits with every solver.
func TestRunHasTheCPUsBits(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		for _, spec := range append([]string{
			"euler", "heun", "dpm++2m", "dpm++2m-heun", "ddim", "ddim:eta=0.5", "ddim:clip=1", "midpoint", "rk4", "dopri5", "dpm-adaptive",
			"ddpm:clip=1", "edm", "dpm2-a", "dpm++2s-a", "dpm++sde", "sde-dpm++3m", "sa-solver", "consistency",
		}, singlesteps...) {
			for _, double := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s/f64=%t", spec, double), func(t *testing.T) {
					g := build(t, "ve", diffusion.Spec{Rule: "karras", Steps: 5})
					var got [2][]float64
					for i, d := range []*gpu.Device{gpu.CPU(), dev} {
						noise, z := gpu.CPU().Empty(3, 11, 3), gpu.CPU().Empty(3, 11, 3)
						if double {
							noise, z = gpu.CPU().Empty64(3, 11, 3), gpu.CPU().Empty64(3, 11, 3)
						}
						ops.Normals(noise, ops.Noise{Seed: 4})
						r, err := sampler.Run(context.Background(), &normalData{mean: 0.25, s: 0.5}, solver(t, spec), g, sampler.Options{
							N: 3, Shape: []int{11, 3}, Double: double, Device: d, Noise: noise.To(d),
							StepNoise: func(_, step int, out *gpu.Tensor) {
								ops.Normals(z, ops.Noise{Seed: 5, From: uint64(40 * step)})
								out.Copy(z)
							},
						})
						if err != nil {
							t.Fatal(err)
						}
						got[i] = make([]float64, r.X.Len())
						if err := r.X.Read64(got[i]); err != nil {
							t.Fatal(err)
						}
					}
					for i, want := range got[0] {
						if math.Float64bits(want) != math.Float64bits(got[1][i]) {
							t.Fatalf("value %d is %v, on the CPU %v", i, got[1][i], want)
						}
					}
				})
			}
		}
	})
}

// A stochastic solver's noise goes on where it stopped, and the mixture's
// denoiser serves a GPU by way of the host.
func TestStochasticRunOnDevices(t *testing.T) {
	g := build(t, "ve", diffusion.Spec{Rule: "karras", Steps: 4})
	m, err := sampler.NewMixture(sampler.MixtureSpec{Weights: []float64{0.25, 0.75}, Means: [][]float64{{-1, 0, 1}, {2, 1, 0}}, Vars: []float64{0.1, 0.2}})
	if err != nil {
		t.Fatal(err)
	}
	run := func(dev *gpu.Device, brownian bool) []float64 {
		r, err := sampler.Run(context.Background(), m, sampler.DDIM{Eta: 1}, g, sampler.Options{Seed: 2, N: 4, Batch: 3, Shape: []int{3}, Device: dev, Brownian: brownian})
		if err != nil {
			t.Fatal(err)
		}
		v := make([]float64, r.X.Len())
		if err := r.X.Read64(v); err != nil {
			t.Fatal(err)
		}
		return v
	}
	for _, brownian := range []bool{false, true} {
		want := run(gpu.CPU(), brownian)
		// The noise of sigma 80 differs by 6 units of 2^-24, and a path's by that at
		// each of its knots; the steps shrink it.
		bound := 80 * 4 * 6 * 0x1p-24
		if brownian {
			bound *= rng.BrownianKnots
		}
		device.Each(t, func(t *testing.T, dev *gpu.Device) {
			for i, got := range run(dev, brownian) {
				if d := math.Abs(got - want[i]); !(d <= bound) {
					t.Errorf("one path %t: value %d is %v, on the CPU %v", brownian, i, got, want[i])
				}
			}
		})
	}
}

func TestStartOnAnotherDeviceIsRefused(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		if !dev.CUDA() {
			return
		}
		g := build(t, "ve", diffusion.Spec{Rule: "karras", Steps: 2})
		_, err := sampler.Run(context.Background(), &normalData{}, sampler.Euler{}, g, sampler.Options{N: 1, Shape: []int{2}, Device: dev, State: gpu.CPU().Empty(1, 2)})
		if err == nil {
			t.Error("a start on the CPU is accepted by a run on the GPU")
		}
	})
}

var errLost = errors.New("the device is lost")

// lost fails the device in its second evaluation, as a fault of a kernel would.
type lost struct {
	normalData
	n int
}

func (l *lost) DenoiseAt(ctx context.Context, out, x *gpu.Tensor, at []diffusion.Point, c sampler.Cond) error {
	if l.n++; l.n == 2 {
		out.Device().Stream().Fail(errLost)
	}
	return l.normalData.DenoiseAt(ctx, out, x, at, c)
}

func TestRunTellsOfADeviceLostMidway(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		if !dev.CUDA() {
			return
		}
		g := build(t, "ve", diffusion.Spec{Rule: "karras", Steps: 6})
		den := &lost{normalData: normalData{s: 1}}
		_, err := sampler.Run(context.Background(), den, sampler.Heun{}, g, sampler.Options{N: 2, Shape: []int{3}, Device: dev})
		if !errors.Is(err, errLost) {
			t.Errorf("error is %v, want that of the device", err)
		}
		if den.n != 2 {
			t.Errorf("%d evaluations, want none after the device was lost", den.n)
		}
		if err := dev.Recover(); !errors.Is(err, errLost) {
			t.Errorf("the device keeps %v", err)
		}
	})
}

// hosted runs a denoiser of the CPU for states on any device.
type hosted struct{ d *conditional }

func (h hosted) DenoiseAt(ctx context.Context, out, x *gpu.Tensor, at []diffusion.Point, c sampler.Cond) error {
	cpu := gpu.CPU()
	hx := x.To(cpu)
	ho := hx.Like()
	c.Inputs = maps.Clone(c.Inputs)
	for name, t := range c.Inputs {
		c.Inputs[name] = t.To(cpu)
	}
	if err := h.d.DenoiseAt(ctx, ho, hx, at, c); err != nil {
		return err
	}
	out.Copy(ho)
	return nil
}

func (h hosted) Denoise(ctx context.Context, out, x *gpu.Tensor, sigma []float64, c sampler.Cond) error {
	return h.DenoiseAt(ctx, out, x, points(sigma), c)
}

// Guidance, limits and inpainting are made of operations that every device has.
func TestGuidanceOnDevices(t *testing.T) {
	g := build(t, "vp", diffusion.Spec{Rule: "trailing", Steps: 4})
	_, _, cond := guideInputs()
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		for i, rule := range []sampler.GuidanceRule{
			nil,
			sampler.Standard{Rescale: 0.6},
			sampler.Standard{From: sampler.Weak},
			sampler.Multi{Weights: []float64{1, -0.5}},
			&sampler.PerpNeg{Weights: []float64{-1, -0.5}}, &sampler.Projected{Parallel: 0.3, Norm: 0.4, Momentum: -0.5},
			sampler.Interleaved{A: sampler.Null, B: sampler.Other, WeightB: 2, Share: 0.5},
		} {
			var got [2][]float64
			for k, d := range []*gpu.Device{gpu.CPU(), dev} {
				on := func(c sampler.Cond) sampler.Cond {
					c.Inputs = map[string]*gpu.Tensor{"text": c.Inputs["text"].To(d)}
					return c
				}
				c := on(cond)
				c.Others = []sampler.Cond{on(cond.Others[0]), on(cond.Others[1])}
				given := d.FromAs(gpu.Float64, oracle.Normal(3, 3*guideSize), 3, guideSize)
				mask := make([]float32, 3*guideSize)
				mask[1], mask[7], mask[8] = 1, 1, 0.5
				s := &sampler.Inpaint{Solver: sampler.DDIM{}, Known: given, Mask: d.FromAs(gpu.Float64, mask, 3, guideSize), Jump: 2, Repeat: 2}
				r, err := sampler.Run(context.Background(), &sampler.Limited{Den: &sampler.Guided{
					Den: hosted{&conditional{}}, Weak: hosted{&conditional{bias: 0.3}}, Rule: rule, Weight: 2.5, Null: on(null()), Lo: 0.5,
				}}, s, g, sampler.Options{
					N: 3, Batch: 2, Shape: []int{guideSize}, Double: true, Device: d, Cond: c, Noise: given,
					StepNoise: func(first, step int, z *gpu.Tensor) {
						z.Copy(d.FromAs(gpu.Float64, oracle.Normal(uint64(10*first+step), z.Len()), z.Shape()...))
					},
				})
				if err != nil {
					t.Fatalf("rule %d: %v", i, err)
				}
				got[k] = make([]float64, r.X.Len())
				if err := r.X.Read64(got[k]); err != nil {
					t.Fatal(err)
				}
			}
			if e := rel(got[1], got[0]); e > 1e-12 {
				t.Errorf("rule %d: differs from the CPU by %.2g", i, e)
			}
		}
	})
}

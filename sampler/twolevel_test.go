package sampler_test

import (
	"context"
	"math"
	"testing"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle/device"
	"github.com/fidlab/fidlab/rng"
	"github.com/fidlab/fidlab/sampler"
)

// The two-level presets and their solvers, run in the scaling of their path, are
// the loop of arXiv 2510.02390 on x = x0 + sigma·n: with h = ln(s/s'),
// x' = s'/s·x - expm1(-h)·D, of second order with D + (D - D₋)·h/2h₋ from the
// second step on. It stops at the last level, which is not zero, after as many
// evaluations as there are steps.
func TestTwoLevelRunOnDevices(t *testing.T) {
	den := &normalData{mean: 0.25, s: 0.5}
	const n, size = 4, 15
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		for rule, name := range map[string]string{"f5": "ddim", "f6": "ddim", "f8": "dpm++2m", "f8-sdxl": "dpm++2m"} {
			spec, err := diffusion.TwoLevelPreset(rule)
			if err != nil {
				t.Fatal(err)
			}
			g := build(t, "vp-scaled", spec)
			r, err := sampler.Run(context.Background(), den, solver(t, name), g, sampler.Options{Seed: 2, N: n, Shape: []int{size}, Double: true, Device: dev})
			if err != nil {
				t.Fatal(err)
			}
			got := make([]float64, r.X.Len())
			if err := r.X.Read64(got); err != nil {
				t.Fatal(err)
			}
			s := g.Sigmas()
			if r.NFE != spec.Steps || len(s) != r.NFE+1 || !(s[r.NFE] > 0.05) {
				t.Errorf("%s: %d evaluations, levels %v", rule, r.NFE, s)
			}
			for i, v := range got {
				x := s[0] * rng.ForImage(2, uint64(i/size), rng.Init).NormalAt(uint64(i%size))
				var before, hBefore float64
				for j := range s[:len(s)-1] {
					k := 0.25 / (0.25 + s[j]*s[j]) // of data N(0.25, 0.5²)
					d := k*x + (1-k)*0.25
					h := math.Log(s[j] / s[j+1])
					mixed := d
					if name == "dpm++2m" && j > 0 {
						mixed += (d - before) * h / (2 * hBefore)
					}
					x = s[j+1]/s[j]*x - math.Expm1(-h)*mixed
					before, hBefore = d, h
				}
				if math.Abs(v-x) > 1e-11*(math.Abs(x)+1) {
					t.Fatalf("%s: value %d is %.12g, want %.12g", rule, i, v, x)
				}
			}
		}
	})
}

// halfNet is a network in half precision: what goes in and comes out is rounded
// to binary16. most is the largest |value| it was fed.
type halfNet struct {
	gaussian
	most float64
}

func toHalf(v float64) float64 { return float64(gpu.F16ToFloat(gpu.FloatToF16(float32(v)))) }

func (d *halfNet) DenoiseAt(_ context.Context, out, x *gpu.Tensor, at []diffusion.Point, _ sampler.Cond) error {
	size := x.Len() / len(at)
	for i, v := range x.F32() {
		d.most = max(d.most, math.Abs(float64(v)))
		kx, k0 := d.coeffs(at[i/size].A, at[i/size].B)
		out.F32()[i] = float32(toHalf(kx*toHalf(float64(v)) + k0))
	}
	return nil
}

// Nothing leaves binary16's range (65504) on the grids of Stable Diffusion: at
// their sigma 14.6 not x/A, nor sigma·x/A, which code that computes (x-D)/sigma
// and its like in half precision would make. A table of zero terminal SNR whose
// last level counts as 4096, as some tools patch it, shows that the check can
// fail. The states of a run are float32 in VP scaling whatever the network is, so
// a network in half precision is fed numbers near 1 and costs its rounding only.
func TestTwoLevelInHalfPrecision(t *testing.T) {
	const n, size = 64, 1024
	for _, rule := range []string{"f5", "f6", "f8", "f8-sdxl"} {
		spec, err := diffusion.TwoLevelPreset(rule)
		if err != nil {
			t.Fatal(err)
		}
		g := build(t, "vp-scaled", spec)
		name := "dpm++2m"
		if spec.Steps < 7 {
			name = "ddim"
		}
		data := gaussian{0, 1} // latents, as they are scaled
		most := 0.0
		run := func(den sampler.Denoiser, watch bool) []float64 {
			r, err := sampler.Run(context.Background(), den, solver(t, name), g, sampler.Options{Seed: 3, N: n, Shape: []int{4, 16, 16}, Trajectory: func(e sampler.Event) error {
				for _, v := range values(e.X) {
					ve := math.Abs(v) / e.At.A
					if watch && !(math.Abs(toHalf(ve)) < 65504 && math.Abs(toHalf(ve*e.At.Sigma())) < 65504) {
						t.Fatalf("%s: x = %g at sigma %g leaves binary16", rule, ve, e.At.Sigma())
					}
					most = max(most, ve*e.At.Sigma())
				}
				return nil
			}})
			if err != nil {
				t.Fatal(err)
			}
			return append([]float64{}, values(r.X)...)
		}
		exact, half := run(data, true), &halfNet{gaussian: data}
		got, sum := run(half, true), 0.0
		for i, v := range got {
			sum += (v - exact[i]) * (v - exact[i])
		}
		if rms := math.Sqrt(sum / float64(n*size)); rms > 1e-3 || rms == 0 { // binary16 has 11 bits, 5e-4
			t.Errorf("%s: the network's rounding moves the samples by %g", rule, rms)
		}
		if half.most > 8 {
			t.Errorf("%s: the network was fed %g; VP states are near 1", rule, half.most)
		}
		// 65,536 normals reach 4 to 5; at sigma 14.6 the product is 14.6²·√(1+14.6^-2) of that.
		if most < 14.6*14.6*4 || most > 14.7*14.7*6 {
			t.Errorf("%s: the largest sigma·x is %g", rule, most)
		}
	}
	patched := 4096.0
	if v := 4 * patched; !(toHalf(v) < 65504) {
		t.Errorf("x alone, %g, overflows already", v)
	}
	if v := 4 * patched * patched; !math.IsInf(toHalf(v), 1) {
		t.Errorf("sigma·x = %g does not overflow binary16: the check sees nothing", v)
	}
}

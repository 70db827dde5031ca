package sampler_test

import (
	"context"
	"math"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/rng"
	"github.com/fidlab/fidlab/sampler"
)

// onePoint is the exact denoiser of one image, and a grid in sigma.
func onePoint(t *testing.T, image []float32, k diffusion.Noise) (*sampler.DeltaMixture, *diffusion.Grid) {
	t.Helper()
	m, err := sampler.NewDeltaMixture(image, []int{len(image)}, nil, k)
	if err != nil {
		t.Fatal(err)
	}
	g, err := diffusion.Build(diffusion.DefaultVE(), diffusion.Spec{Rule: "karras", Steps: 5})
	if err != nil {
		t.Fatal(err)
	}
	return m, g
}

// A run under a kernel starts at the largest sigma times its noise, from an image at that beside it, and leads to the same image.
func TestKernelStart(t *testing.T) {
	k := diffusion.PFGMPP{N: 4, D: 8}
	m, g := onePoint(t, []float32{1, -1, 0.5, 2}, k)
	top := g.Sigmas()[0]
	for _, from := range []*gpu.Tensor{nil, gpu.CPU().From64([]float64{3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8}, 3, 4)} {
		o := sampler.Options{Seed: 3, First: 10, N: 3, Batch: 2, Shape: []int{4}, Double: true, Kernel: k, Image: from}
		o.Trajectory = func(e sampler.Event) error {
			for i, v := range e.X.F64() {
				row := e.First - 10 + i/4
				want := make([]float64, 4)
				k.Prior(want, 1, rng.ForImage(3, uint64(10+row), rng.Init))
				w := top * want[i%4]
				if from != nil {
					w += from.F64()[4*row+i%4]
				}
				if e.Step == 0 && math.Abs(v-w) > 1e-12*math.Abs(w) {
					t.Errorf("image %d starts with %g, want %g", row, v, w)
				}
			}
			return nil
		}
		r, err := sampler.Run(context.Background(), m, sampler.Heun{}, g, o)
		if err != nil {
			t.Fatal(err)
		}
		for i, v := range r.X.F64() {
			if math.Abs(v-[]float64{1, -1, 0.5, 2}[i%4]) > 1e-9 {
				t.Errorf("value %d ends at %g", i, v)
			}
		}
	}
}

// Whoever draws Gaussian noise on the way is told, as are kernels made for other images.
func TestKernelRefused(t *testing.T) {
	k := diffusion.PFGMPP{N: 4, D: 8}
	m, g := onePoint(t, []float32{1, -1, 0.5, 2}, k)
	o := sampler.Options{N: 2, Shape: []int{4}, Kernel: k}
	ddpm, err := sampler.ByName("ddim:eta=1")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := sampler.Run(context.Background(), m, ddpm, g, o); err == nil || !strings.Contains(err.Error(), "draws Gaussian noise on the way, and the kernel is pfgmpp:8") {
		t.Errorf("a stochastic solver: %v", err)
	}
	o.Kernel = diffusion.PFGMPP{N: 5, D: 8}
	if _, err := sampler.Run(context.Background(), m, sampler.Heun{}, g, o); err == nil || !strings.Contains(err.Error(), "made for data of 5 values; these have 4") {
		t.Errorf("another N: %v", err)
	}
	for _, bad := range []float64{-0.1, math.NaN(), math.Inf(1)} {
		if _, err := sampler.Run(context.Background(), m, sampler.Heun{}, g, sampler.Options{N: 1, Shape: []int{4}, Disturb: bad}); err == nil || !strings.Contains(err.Error(), "disturbed by") {
			t.Errorf("disturbed by %g: %v", bad, err)
		}
	}
}

// A state is disturbed before each step by so much of its level: with one image, a step to sigma' multiplies what a state is off by
// sigma'/sigma, so that after step i the variance is sigma'²·(1 + i·alpha²), in any scaling.
func TestDisturb(t *testing.T) {
	const n, alpha = 20000, 0.5
	m, ve := onePoint(t, []float32{0.25}, nil)
	path, err := diffusion.PathByName("vp")
	if err != nil {
		t.Fatal(err)
	}
	vp, err := diffusion.Build(path, diffusion.Spec{Rule: "karras", Steps: 5})
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range []*diffusion.Grid{ve, vp} {
		steps := 0
		o := sampler.Options{Seed: 1, N: n, Batch: n, Shape: []int{1}, Double: true, Disturb: alpha}
		o.Trajectory = func(e sampler.Event) error {
			if e.At.B == 0 {
				return nil
			}
			var sum float64
			for _, v := range e.X.F64() {
				d := v/e.At.A - 0.25
				sum += d * d / n
			}
			want := e.At.Sigma() * e.At.Sigma() * (1 + float64(e.Step)*alpha*alpha)
			// A sample variance is off by √(2/n) = 1 % in one case of three.
			if math.Abs(sum/want-1) > 0.05 {
				t.Errorf("%s: after step %d the variance is %g, want %g", g.Name, e.Step, sum, want)
			}
			steps++
			return nil
		}
		if _, err := sampler.Run(context.Background(), m, sampler.DDIM{}, g, o); err != nil {
			t.Fatal(err)
		}
		if steps != 5 {
			t.Errorf("%d states seen", steps)
		}
	}
}

package sampler_test

import (
	"context"
	"math"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/sampler"
)

// The known part comes out exactly; the rest, of a distribution whose values
// depend on each other, comes out as the condition on the known part says, the
// better the more often steps are repeated (the paper's point).
func TestInpaint(t *testing.T) {
	// Two values of deviation 0.5 and correlation 0.9, as a mixture of one component.
	mix, err := sampler.NewMixture(sampler.MixtureSpec{Weights: []float64{1}, Means: [][]float64{{0, 0}}, Covs: [][][]float64{{{0.25, 0.225}, {0.225, 0.25}}}})
	if err != nil {
		t.Fatal(err)
	}
	const n = 4000
	known, mask := gpu.CPU().Empty64(n, 2), gpu.CPU().Empty64(n, 2)
	for i := range n {
		known.F64()[2*i], mask.F64()[2*i] = 0.6, 1
		known.F64()[2*i+1] = math.Pi // not known: must not be seen
	}
	g := build(t, "ve", diffusion.Spec{Rule: "karras", Steps: 24, SigmaMax: 20, SigmaMin: 0.02})
	off := map[int]float64{}
	for _, repeat := range []int{1, 10} {
		s := &sampler.Inpaint{Solver: sampler.DDIM{Eta: 1}, Known: known, Mask: mask, Jump: 1, Repeat: repeat}
		r, err := sampler.Run(context.Background(), mix, s, g, sampler.Options{N: n, Batch: 1500, Seed: 4, Shape: []int{2}, Double: true})
		if err != nil {
			t.Fatal(err)
		}
		if want := 24 * repeat; r.NFE != want {
			t.Errorf("repeat %d: %d evaluations, want %d", repeat, r.NFE, want)
		}
		var mean float64
		for i := range n {
			if r.X.F64()[2*i] != 0.6 {
				t.Fatalf("repeat %d: image %d has %v where 0.6 is known", repeat, i, r.X.F64()[2*i])
			}
			mean += r.X.F64()[2*i+1] / n
		}
		off[repeat] = math.Abs(mean - 0.9*0.6) // E[x1|x0] = ρ·x0
	}
	// 0.218 = 0.5·√(1-0.9²) is the deviation of a right answer.
	if se := 0.218 / math.Sqrt(n); !(off[10] < 0.1*0.54+4*se) || !(off[10] < 0.5*off[1]) {
		t.Errorf("the mean of the unknown part is %.3f off without repeats and %.3f with ten", off[1], off[10])
	}
}

// A jump takes whole blocks of steps again; what is left at the end is made once.
func TestInpaintJumps(t *testing.T) {
	g := build(t, "vp", diffusion.Spec{Rule: "karras", Steps: 7})
	known, mask := gpu.CPU().Empty(3, 2), gpu.CPU().Empty(3, 2)
	for jump, want := range map[int]int{1: 7 * 3, 2: 7 + 2*6, 3: 7 + 2*6, 7: 21} {
		s := &sampler.Inpaint{Solver: sampler.Euler{}, Known: known, Mask: mask, Jump: jump, Repeat: 3}
		r, err := sampler.Run(context.Background(), gaussian{0, 1}, s, g, sampler.Options{N: 3, Batch: 2, Shape: []int{2}})
		if err != nil || r.NFE != want {
			t.Errorf("jump %d: %+v, %v; want %d evaluations", jump, r, err, want)
		}
	}
	heun := &sampler.Inpaint{Solver: sampler.Heun{}, Known: known, Mask: mask}
	if r, err := sampler.Run(context.Background(), gaussian{0, 1}, heun, g, sampler.Options{N: 3, Shape: []int{2}}); err != nil || r.NFE != 13 {
		t.Errorf("heun: %+v, %v", r, err)
	}
}

func TestInpaintRefusals(t *testing.T) {
	g := build(t, "ve", diffusion.Spec{Rule: "karras", Steps: 3})
	two, three := gpu.CPU().Empty(2, 2), gpu.CPU().Empty(3, 2)
	for want, s := range map[string]*sampler.Inpaint{
		"repeat -1":               {Solver: sampler.Euler{}, Known: two, Mask: two, Repeat: -1},
		"of one shape":            {Solver: sampler.Euler{}, Known: two, Mask: three},
		"remembers earlier steps": {Solver: sampler.DPMMultistep{}, Known: two, Mask: two, Repeat: 2},
		"jumps of 5":              {Solver: sampler.Euler{}, Known: two, Mask: two, Jump: 5, Repeat: 2},
		"wanted the run's images": {Solver: sampler.Euler{}, Known: two, Mask: two},
		"eta 3":                   {Solver: sampler.DDIM{Eta: 3}, Known: two, Mask: two},
	} {
		if _, err := sampler.Run(context.Background(), gaussian{0, 1}, s, g, sampler.Options{N: 3, Shape: []int{2}}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// Thresholding and clipping stand between the denoiser and the solver, and hide no NaN.
func TestLimited(t *testing.T) {
	x := gpu.CPU().From([]float32{-4, -2, 0.5, 1, 0.1, 0.2, 0.3, 0.4}, 2, 4)
	at := []diffusion.Point{{A: 1, B: 1}, {A: 1, B: 1}}
	out := x.Like()
	clip := &sampler.Limited{Den: identity{}}
	if err := clip.DenoiseAt(context.Background(), out, x, at, sampler.Cond{}); err != nil || out.F32()[0] != -1 || out.F32()[2] != 0.5 {
		t.Errorf("clip: %v, %v", out.F32(), err)
	}
	th := &sampler.Limited{Den: identity{}, Quantile: 1, Most: 3}
	if err := th.DenoiseAt(context.Background(), out, x, at, sampler.Cond{}); err != nil || out.F32()[0] != -1 || out.F32()[3] != float32(1./3) || out.F32()[5] != 0.2 {
		t.Errorf("threshold: %v, %v", out.F32(), err)
	}
	g := build(t, "ve", diffusion.Spec{Rule: "karras", Steps: 3})
	_, err := sampler.Run(context.Background(), &sampler.Limited{Den: &broken{at: 2, bad: float32(math.NaN())}}, sampler.Euler{}, g, sampler.Options{N: 5, Batch: 3, First: 10, Shape: []int{3}})
	if err == nil || !strings.Contains(err.Error(), "step 1,") || !strings.Contains(err.Error(), "image 12") {
		t.Errorf("NaN: %v", err)
	}
	_, err = sampler.Run(context.Background(), th, sampler.Euler{}, g, sampler.Options{N: 1, Shape: []int{3}, Double: true})
	if err == nil || !strings.Contains(err.Error(), "float32") {
		t.Errorf("float64: %v", err)
	}
	if err := (&sampler.Limited{Den: identity{}, Quantile: 2}).Check(g); err == nil {
		t.Error("quantile 2 is accepted")
	}
}

// identity denoises nothing.
type identity struct{}

func (identity) Denoise(_ context.Context, out, x *gpu.Tensor, _ []float64, _ sampler.Cond) error {
	out.Copy(x)
	return nil
}

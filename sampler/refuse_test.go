package sampler_test

import (
	"context"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/sampler"
)

// broken returns one bad value at its nth evaluation.
type broken struct {
	gaussian
	at, n int
	bad   float32
}

func (b *broken) DenoiseAt(ctx context.Context, out, x *gpu.Tensor, at []diffusion.Point, c sampler.Cond) error {
	b.n++
	err := b.gaussian.DenoiseAt(ctx, out, x, at, c)
	if b.n == b.at {
		out.F32()[7] = b.bad
	}
	return err
}

func TestNotFiniteIsRefused(t *testing.T) {
	g := build(t, "ve", diffusion.Spec{Rule: "sigmas", List: []float64{8, 4, 2, 1}})
	for _, bad := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
		den := &broken{at: 3, bad: float32(bad)}
		_, err := sampler.Run(context.Background(), den, sampler.Euler{}, g, sampler.Options{N: 5, Shape: []int{3}})
		var nf *sampler.NotFiniteError
		if !errors.As(err, &nf) || nf.Step != 2 || nf.Sigma != 2 || nf.Image != 2 {
			t.Errorf("%v: error %v, want step 2, sigma 2, image 2", bad, err)
		}
	}
}

// The state before a step that failed can be kept: the step that made it, run
// again without the fault, gives the same.
func TestRescue(t *testing.T) {
	g := build(t, "ve", diffusion.Spec{Rule: "sigmas", List: []float64{8, 4, 2, 1}})
	var states []float64
	o := sampler.Options{N: 5, First: 7, Batch: 3, Shape: []int{3}, Trajectory: func(e sampler.Event) error {
		if e.Step == 2 && e.First == 7 {
			states = append(states, values(e.X)...)
		}
		return nil
	}}
	if _, err := sampler.Run(context.Background(), gaussian{}, sampler.DPMMultistep{}, g, o); err != nil {
		t.Fatal(err)
	}
	o.Trajectory = nil
	var kept []float64
	o.Rescue = func(e sampler.Event) error {
		if e.Step != 2 || e.First != 7 || e.At.B != 2 {
			t.Errorf("rescued %+v", e)
		}
		kept = values(e.X)
		return errors.New("disk full")
	}
	_, err := sampler.Run(context.Background(), &broken{at: 3, bad: float32(math.NaN())}, sampler.DPMMultistep{}, g, o)
	var nf *sampler.NotFiniteError
	if !errors.As(err, &nf) || !strings.Contains(err.Error(), "disk full") || !slices.Equal(kept, states) {
		t.Errorf("%v; kept %v, want %v", err, kept, states)
	}
	kept = nil
	o.Trajectory = func(sampler.Event) error { return errors.New("stop") }
	if _, err := sampler.Run(context.Background(), gaussian{}, sampler.DPMMultistep{}, g, o); err == nil || kept != nil {
		t.Errorf("another error: %v, rescued %v", err, kept)
	}
}

// A step's noise pushes finite states and finite outputs over the edge.
func TestOverflowOfTheStateIsRefused(t *testing.T) {
	g := build(t, "ve", diffusion.Spec{Rule: "sigmas", List: []float64{8, 4, 2}})
	_, err := sampler.Run(context.Background(), &broken{}, sampler.DDIM{Eta: 1}, g, sampler.Options{
		N: 2, Shape: []int{3},
		StepNoise: func(_, step int, z *gpu.Tensor) {
			if step == 1 {
				z.F32()[4] = -math.MaxFloat32
			}
		},
	})
	var nf *sampler.NotFiniteError
	if !errors.As(err, &nf) || !nf.State || nf.Step != 1 || nf.Image != 1 {
		t.Errorf("error %v, want an overflow of image 1 in step 1", err)
	}
}

func TestRunRefusals(t *testing.T) {
	ve := build(t, "ve", diffusion.Spec{Rule: "karras", Steps: 3})
	zt, err := diffusion.NewVP(diffusion.ZeroTerminalSNR(diffusion.LinearBetas(1000, 1e-4, 0.02)))
	if err != nil {
		t.Fatal(err)
	}
	inf, err := diffusion.Build(zt, diffusion.Spec{Rule: "trailing", Steps: 4})
	if err != nil {
		t.Fatal(err)
	}
	rising := &diffusion.Grid{Name: "mine", Steps: []diffusion.Step{{From: diffusion.Point{A: 1, B: 1}, To: diffusion.Point{A: 1, B: 2}}}}
	ok := sampler.Options{N: 2, Shape: []int{2}}
	cpu := gpu.CPU()
	for name, c := range map[string]struct {
		den  sampler.Denoiser
		s    sampler.Solver
		g    *diffusion.Grid
		o    sampler.Options
		want string
	}{
		"no images":      {gaussian{0, 1}, sampler.Euler{}, ve, sampler.Options{Shape: []int{2}}, "0 images"},
		"batch":          {gaussian{0, 1}, sampler.Euler{}, ve, sampler.Options{N: 1, Batch: -1, Shape: []int{2}}, "batches of -1"},
		"first":          {gaussian{0, 1}, sampler.Euler{}, ve, sampler.Options{N: 1, First: -1, Shape: []int{2}}, "images -1"},
		"shape":          {gaussian{0, 1}, sampler.Euler{}, ve, sampler.Options{N: 1, Shape: []int{2, 0}}, "[2 0]"},
		"classes":        {gaussian{0, 1}, sampler.Euler{}, ve, sampler.Options{N: 2, Shape: []int{2}, Cond: sampler.Cond{Classes: []int{1}}}, "1 classes for 2"},
		"no steps":       {gaussian{0, 1}, sampler.Euler{}, &diffusion.Grid{Name: "mine"}, ok, "no steps"},
		"rising":         {gaussian{0, 1}, sampler.Euler{}, rising, ok, "from sigma 1 to 2"},
		"eta":            {gaussian{0, 1}, sampler.DDIM{Eta: 1.5}, ve, ok, "eta 1.5"},
		"eps at ZT":      {sampler.Adapt(&goldenNet{}, zt, diffusion.PredEps), sampler.DDIM{}, inf, ok, "zero terminal SNR"},
		"heun at ZT":     {gaussian{0, 1}, sampler.Heun{}, inf, ok, "infinite sigma"},
		"VE denoiser ZT": {veOnly{gaussian{0, 1}}, sampler.DDIM{}, inf, ok, "infinite noise"},
		"start shape":    {gaussian{0, 1}, sampler.Euler{}, ve, sampler.Options{N: 2, Shape: []int{2}, Noise: cpu.Empty(2, 3)}, "[2 3]; wanted [2 2]"},
		"start dtype":    {gaussian{0, 1}, sampler.Euler{}, ve, sampler.Options{N: 2, Shape: []int{2}, Noise: cpu.Empty64(2, 2)}, "dtype"},
		"two starts":     {gaussian{0, 1}, sampler.Euler{}, ve, sampler.Options{N: 2, Shape: []int{2}, Noise: cpu.Empty(2, 2), State: cpu.Empty(2, 2)}, "more than one"},
		"start NaN":      {gaussian{0, 1}, sampler.Euler{}, ve, sampler.Options{N: 2, Shape: []int{2}, Noise: cpu.From([]float32{0, 0, 0, float32(math.NaN())}, 2, 2)}, "element 3 (image 1)"},
		"mixture shape":  {testMixture(t, 24, 5), sampler.Euler{}, ve, ok, "images of 2 values; the mixture has 24"},
		"mixture class":  {testMixture(t, 2, 5), sampler.Euler{}, ve, sampler.Options{N: 2, Shape: []int{2}, Cond: sampler.Cond{Classes: []int{-1, 3}}}, "class 3"},
	} {
		if _, err := sampler.Run(context.Background(), c.den, c.s, c.g, c.o); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want %q", name, err, c.want)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := sampler.Run(ctx, gaussian{0, 1}, sampler.Euler{}, ve, ok); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// Zero terminal SNR works where it can: v and x0 predictions, from pure noise.
func TestZeroTerminalSNR(t *testing.T) {
	zt, err := diffusion.NewVP(diffusion.ZeroTerminalSNR(diffusion.LinearBetas(1000, 1e-4, 0.02)))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range append([]string{"ddim", "euler"}, multisteps...) {
		g, err := diffusion.Build(zt, diffusion.Spec{Rule: "trailing", Steps: 200})
		if err != nil {
			t.Fatal(err)
		}
		if solver(t, name).Check(g) != nil { // pndm and plms
			continue
		}
		net := &vNet{den: gaussian{0.3, 0.5}, path: zt}
		res, err := sampler.Run(context.Background(), sampler.Adapt(net, zt, diffusion.PredV), solver(t, name), g, sampler.Options{
			N: 1, Shape: []int{1}, Double: true, Noise: gpu.CPU().From64([]float64{0.7}, 1, 1),
		})
		if err != nil {
			t.Fatal(err)
		}
		// The exact flow from sigma = ∞ takes n to m + s·n; 200 steps are within 1 %.
		if want := 0.3 + 0.5*0.7; math.Abs(res.X.F64()[0]-want) > 0.01*want {
			t.Errorf("%s: %g, want about %g", name, res.X.F64()[0], want)
		}
	}
}

// vNet answers v = A·n - B·x0 for an exact denoiser, in a form without 0/0 at A = 0.
type vNet struct {
	den  gaussian
	path diffusion.Path
}

func (n *vNet) Forward(_ context.Context, out, x *gpu.Tensor, t []float64, _ sampler.Cond) error {
	a, b := n.path.Input(n.path.Sigma(t[0]))
	kx, k0 := n.den.coeffs(a, b)
	for i, v := range x.F64() {
		x0 := kx*v + k0
		out.F64()[i] = a*(v-a*x0)/b - b*x0
	}
	return nil
}

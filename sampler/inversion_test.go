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

// Inversion takes images to their noise, and the same grid downwards takes that
// back: to the first order of both walks.
func TestInversion(t *testing.T) {
	den := gaussian{0.3, 0.5}
	for name, order := range map[string]float64{
		"ddim": 1, "euler": 1, "heun": 2, "dpm++2m": 2, "dpm++3m": 3, "dpm-2m": 2, "dpm-3m": 3, "lms": 3, "deis": 3, "ipndm": 2, "pndm": 2, "plms": 2,
		"unipc": 3, "unipc:predict=eps": 3,
	} {
		off := func(steps int) float64 {
			g := build(t, "vp-sde", diffusion.Spec{Rule: "exponential", Steps: steps, SigmaMax: 20, SigmaMin: 0.01, End: diffusion.Min})
			images := gpu.CPU().From64([]float64{0.4, -0.9, 1.3, 0.2}, 2, 2)
			o := sampler.Options{N: 2, Shape: []int{2}, Double: true, Image: images}
			up, err := sampler.Run(context.Background(), den, solver(t, name), g.Reversed(), o)
			if err != nil {
				t.Fatal(err)
			}
			s := g.Steps[0].From
			for i, x0 := range images.F64() { // the exact flow of a Gaussian
				n := (s.A * (0.3 + (x0-0.3)*math.Hypot(0.5, s.Sigma())/math.Hypot(0.5, 0.01))) / s.B
				if d := math.Abs(up.X.F64()[i] - n); d > 0.2 {
					t.Errorf("%s: noise %d is %.4f, want %.4f", name, i, up.X.F64()[i], n)
				}
			}
			o.Image, o.Noise = nil, up.X
			down, err := sampler.Run(context.Background(), den, solver(t, name), g, o)
			if err != nil {
				t.Fatal(err)
			}
			return rel(down.X.F64(), images.F64())
		}
		if got := math.Log2(off(80) / off(160)); got < order-0.2 { // errors of the two walks may cancel
			t.Errorf("%s: order %.2f there and back, want %g", name, got, order)
		}
	}
	g := build(t, "ve", diffusion.Spec{Rule: "karras", Steps: 4}).Reversed()
	if len(g.Steps) != 3 || !g.Rising() || g.Reversed().Rising() {
		t.Errorf("reversed: %+v", g)
	}
	for name, o := range map[string]sampler.Options{
		"cannot walk": {N: 1, Shape: []int{1}, Image: gpu.CPU().Empty(1, 1)}, "none were given": {N: 1, Shape: []int{1}},
	} {
		s := solver(t, "euler-a")
		if name == "none were given" {
			s = sampler.Euler{}
		}
		if _, err := sampler.Run(context.Background(), den, s, g, o); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%v, want %q", err, name)
		}
	}
}

// picky answers what its images' inputs say.
type picky struct{ gaussian }

func (picky) Cost(p diffusion.Point) int { return 3 }

func (picky) DenoiseAt(_ context.Context, out, x *gpu.Tensor, _ []diffusion.Point, c sampler.Cond) error {
	for i := range out.F64() {
		out.F64()[i] = c.Inputs["text"].F64()[i]
	}
	return nil
}

func TestInputsFollowTheirImages(t *testing.T) {
	g := build(t, "ve", diffusion.Spec{Rule: "karras", Steps: 2})
	text := gpu.CPU().From64([]float64{1, 2, 3, 4, 5}, 5, 1)
	o := sampler.Options{N: 5, Batch: 2, Shape: []int{1}, Double: true, Cond: sampler.Cond{Inputs: map[string]*gpu.Tensor{"text": text}}}
	r, err := sampler.Run(context.Background(), picky{}, sampler.Euler{}, g, o)
	if err != nil {
		t.Fatal(err)
	}
	if e := rel(r.X.F64(), text.F64()); e > 1e-15 {
		t.Errorf("images %v of inputs %v", r.X.F64(), text.F64())
	}
	if r.NFE != 2 || r.Network != 6 || r.Rejected != 0 || r.Each != nil {
		t.Errorf("counts %+v", r.Count)
	}
	o.N = 4
	if _, err := sampler.Run(context.Background(), picky{}, sampler.Euler{}, g, o); err == nil || !strings.Contains(err.Error(), `"text" has shape [5 1] for 4`) {
		t.Errorf("too many rows: %v", err)
	}
	e := sampler.NewEval(context.Background(), picky{}, text, o.Cond, nil)
	out := gpu.CPU().Empty64(2, 1)
	if err := e.DenoiseRows(out, gpu.CPU().Empty64(2, 1), []diffusion.Point{{A: 1, B: 1}, {A: 1, B: 2}}, []int{3, 1}); err != nil || out.F64()[0] != 4 || out.F64()[1] != 2 {
		t.Errorf("rows 3 and 1: %v, %v", out.F64(), err)
	}
	if e.Count(3) != (sampler.Count{NFE: 1, Network: 3}) || e.Count(0) != (sampler.Count{}) {
		t.Errorf("counts %+v %+v", e.Count(3), e.Count(0))
	}
}

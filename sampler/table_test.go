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

// Images that go through levels of their own go as if each were alone on a grid
// of those levels.
func TestLevelsOfSingleImages(t *testing.T) {
	mix := testMixture(t, 3, 4)
	vp := build(t, "vp", diffusion.Spec{Rule: "karras", Steps: 7, End: diffusion.Min})
	base := vp
	shift := func(image, step int, p diffusion.Point) diffusion.Point {
		s := p.Sigma() * (1 + 0.05*float64(image)) * (1 + 0.01*float64(step%3*image))
		a, b := base.Space.Scale(s)
		return diffusion.Point{A: a, B: b}
	}
	levels := func(from, to diffusion.Point, image, step int) (diffusion.Point, diffusion.Point) {
		return shift(image, step, from), shift(image, step+1, to)
	}
	for _, name := range allSolvers {
		s := solver(t, name)
		if _, ok := s.(sampler.Table); !ok || strings.Contains(name, "clip") {
			continue
		}
		if base = vp; s.Check(vp) != nil {
			base = vp.In(diffusion.FlowSpace)
		}
		const n = 4
		o := sampler.Options{Seed: 3, N: n, Batch: 3, Shape: []int{3}, Double: true, Noise: gpu.CPU().FromAs(gpu.Float64, oracle.Normal(5, 3*n), n, 3)}
		first := 0
		o.Trajectory = func(e sampler.Event) error { first = e.First; return nil }
		o.Levels = func(step int, x *gpu.Tensor, from, to []diffusion.Point) error {
			for b := range from {
				from[b], to[b] = levels(from[b], to[b], first+b, step)
			}
			return nil
		}
		got, err := sampler.Run(context.Background(), mix, s, base, o)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for i := range n {
			own := &diffusion.Grid{Name: "own", Space: base.Space}
			for k, st := range base.Steps {
				from, to := levels(st.From, st.To, i, k)
				own.Steps = append(own.Steps, diffusion.Step{From: from, To: to})
			}
			// The start and the end are the shared grid's in scale.
			start := o.Noise.Rows(i, i+1).Like()
			for j, v := range o.Noise.F64()[3*i : 3*i+3] {
				start.F64()[j] = v * base.Steps[0].From.B
			}
			want, err := sampler.Run(context.Background(), mix, s, own, sampler.Options{Seed: 3, First: i, N: 1, Shape: []int{3}, Double: true, State: start})
			if err != nil {
				t.Fatal(err)
			}
			last := len(base.Steps) - 1
			scale := own.Steps[last].To.A / base.Steps[last].To.A
			for j, v := range want.X.F64() {
				if g := got.X.F64()[3*i+j]; !(math.Abs(g-v*scale) <= 1e-12) {
					t.Errorf("%s: image %d is %v, alone %v", name, i, g, v*scale)
				}
			}
		}
	}
	_, err := sampler.Run(context.Background(), mix, sampler.Heun{}, vp, sampler.Options{
		N: 1, Shape: []int{3},
		Levels: func(int, *gpu.Tensor, []diffusion.Point, []diffusion.Point) error { return nil },
	})
	if err == nil || !strings.Contains(err.Error(), "same levels") {
		t.Errorf("heun: %v", err)
	}
}

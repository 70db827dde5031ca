package sampler_test

import (
	"context"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/rng"
	"github.com/fidlab/fidlab/sampler"
)

// A unit start is the images' own normals, given or drawn, at any batch size; any
// other is B of the first level times them.
func TestUnitStart(t *testing.T) {
	const n, size = 5, 3
	g := build(t, "vp", diffusion.Spec{Rule: "times", List: []float64{400, 100}})
	b := g.Steps[0].From.B
	if b > 0.95 {
		t.Fatalf("the grid starts at pure noise: B = %g", b)
	}
	noise := gpu.CPU().Empty64(n, size)
	for i := range n {
		rng.ForImage(7, uint64(i), rng.Init).FillNormal64(noise.F64()[i*size : (i+1)*size])
	}
	den := &normalData{s: 0.5}
	for _, unit := range []bool{false, true} {
		for _, given := range []*gpu.Tensor{nil, noise} {
			for _, batch := range []int{2, n} {
				o := sampler.Options{N: n, Batch: batch, Seed: 7, Shape: []int{size}, Double: true, Noise: given, UnitStart: unit}
				o.Trajectory = func(e sampler.Event) error {
					for i := range e.X.Len() {
						want := noise.F64()[e.First*size+i]
						if !unit {
							want *= b
						}
						if got := e.X.F64()[i]; e.Step == 0 && !near(got, want) {
							t.Errorf("unit %t: the start of value %d is %g, want %g", unit, i, got, want)
						}
					}
					return nil
				}
				if _, err := sampler.Run(context.Background(), den, sampler.DDIM{}, g, o); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	o := sampler.Options{N: n, Shape: []int{size}, Double: true, UnitStart: true}
	for what, c := range map[string]struct {
		g     *diffusion.Grid
		state *gpu.Tensor
	}{"VE scaling": {g: g.In(diffusion.VESpace)}, "states": {g, noise}} {
		o := o
		o.State = c.state
		if _, err := sampler.Run(context.Background(), den, sampler.DDIM{}, c.g, o); err == nil || !strings.Contains(err.Error(), "a start of unit noise in grid") {
			t.Errorf("%s: %v", what, err)
		}
	}
	o.Image = noise
	if _, err := sampler.Run(context.Background(), den, sampler.DDIM{}, g.Reversed(), o); err == nil || !strings.Contains(err.Error(), "a start of unit noise") {
		t.Errorf("a rising grid: %v", err)
	}
}

// near tells whether two numbers are equal but for rounding.
func near(a, b float64) bool { return a-b < 1e-15 && b-a < 1e-15 }

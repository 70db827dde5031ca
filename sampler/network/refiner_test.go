package network

import (
	"context"
	"math"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/models"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/sampler"
)

// changing says 2·x - 3·v + time + class, of two channels.
type changing struct {
	net     *nn.Params
	classes int
}

func newChanging(dt gpu.DType, classes int) changing {
	c := changing{nn.NewParams(gpu.CPU(), dt), classes}
	c.net.At("").Param("scale", nn.Ones, 1)
	c.net.Init(0)
	return c
}

func (c changing) Params() *nn.Params { return c.net }

func (c changing) Takes() models.Takes {
	return models.Takes{Channels: 2, Out: 2, Extra: 2, Classes: c.classes}
}

func (c changing) Forward(x, time *nn.Var, in models.Inputs) *nn.Var {
	n := x.Shape()[0]
	y := x.Scale(2).Add(in.Extra.Scale(-3)).Add(time.Reshape(n, 1, 1, 1))
	if c.classes > 0 {
		class := make([]float64, n)
		for i, k := range in.Classes.I32() {
			class[i] = float64(k)
		}
		y = y.Add(x.Tape().Input(gpu.CPU().From64(class, n, 1, 1, 1)))
	}
	return y
}

// A refiner is told the state, the velocity, the network's own time and the class, in batches of any size; guidance is that of
// velocities, from the class for none.
func TestRefiner(t *testing.T) {
	const n = 5
	x, v := states(n, true), states(n, true)
	for i := range v.F64() {
		v.F64()[i] = 0.1 * float64(i)
	}
	classes := []int{2, 0, 1, 2, 0}
	p := diffusion.Point{A: 0.25, B: 0.75}
	for _, weight := range []float64{1, 1.5} {
		for _, path := range []diffusion.Path{diffusion.Flow{}, diffusion.Flow{DataAtOne: true}} {
			r, err := NewRefiner(newChanging(gpu.Float64, 4), path, weight, Options{Batch: 2})
			if err != nil {
				t.Fatal(err)
			}
			out := x.Like()
			if err := r.Refine(context.Background(), out, x, v, p, sampler.Cond{Classes: classes}); err != nil {
				t.Fatal(err)
			}
			time := 0.75
			if path.(diffusion.Flow).DataAtOne {
				time = 0.25
			}
			size := out.Len() / n
			for i, got := range out.F64() {
				class := float64(classes[i/size])
				want := 2*x.F64()[i] - 3*v.F64()[i] + time + 4 + weight*(class-4)
				if math.Abs(got-want) > 1e-12 {
					t.Fatalf("weight %g, %s, value %d: %g, want %g", weight, path.Name(), i, got, want)
				}
			}
		}
	}
	// Without classes nothing is guided: there is nothing to lead away from.
	r, err := NewRefiner(newChanging(gpu.Float64, 4), diffusion.Flow{}, 1.5, Options{})
	if err != nil {
		t.Fatal(err)
	}
	out := x.Like()
	if err := r.Refine(context.Background(), out, x, v, p, sampler.Cond{}); err != nil {
		t.Fatal(err)
	}
	if got, want := out.F64()[0], 2*x.F64()[0]-3*v.F64()[0]+0.75+4; math.Abs(got-want) > 1e-12 {
		t.Errorf("without classes %g, want %g", got, want)
	}
	if err := r.Refine(context.Background(), out, x, v, p, sampler.Cond{Classes: []int{7, 0, 0, 0, 0}}); err == nil || !strings.Contains(err.Error(), "class 7") {
		t.Errorf("class 7: %v", err)
	}
	if _, err := NewRefiner(newChanging(gpu.Float64, 0), diffusion.Flow{}, 2, Options{}); err == nil || !strings.Contains(err.Error(), "knows no classes") {
		t.Errorf("guidance without classes: %v", err)
	}
	if _, err := NewRefiner(newExact(t, gpu.Float64, diffusion.Flow{}, diffusion.PredFlow), diffusion.Flow{}, 1, Options{}); err == nil || !strings.Contains(err.Error(), "further channels") {
		t.Errorf("a network that takes no velocity: %v", err)
	}
}

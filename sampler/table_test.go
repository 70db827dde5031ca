package sampler_test

import (
	"context"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/sampler"
)

// ownLevels tells whether a solver takes images through levels of their own: the
// Tables do, and the solvers of several evaluations that the documentation names.
func ownLevels(s sampler.Solver) bool {
	switch s.(type) {
	case sampler.Table, sampler.PNDM, sampler.DPMSolver:
		return true
	}
	return false
}

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
	served := 0
	for _, name := range allSolvers {
		if s := solver(t, name); sampler.OwnLevels(s) != ownLevels(s) {
			t.Errorf("%s: OwnLevels is %t", name, sampler.OwnLevels(s))
		}
	}
	for _, name := range append([]string{"ddim:clip=2,eta=0.5", "dpm-solver-2:form=taylor", "dpm-solver-3:form=taylor"}, allSolvers...) {
		s := solver(t, name)
		if !ownLevels(s) {
			continue
		}
		served++
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
	if served < 30 {
		t.Errorf("%d solvers have levels of single images, want 30", served)
	}
	_, err := sampler.Run(context.Background(), mix, sampler.Heun{}, vp, sampler.Options{
		N: 1, Shape: []int{3},
		Levels: func(int, *gpu.Tensor, []diffusion.Point, []diffusion.Point) error { return nil },
	})
	if err == nil || !strings.Contains(err.Error(), "same levels") {
		t.Errorf("heun: %v", err)
	}
}

// A step along the grid, between steps of the images' own levels, is the step to
// the grid's levels, whatever the history holds, and images do not depend on
// their batch; a run of nothing else is a run without Levels, bit for bit.
func TestGridLevels(t *testing.T) {
	mix := testMixture(t, 3, 4)
	raw := sampler.Adapt(epsOf{mix}, diffusion.DefaultVPSDE(), diffusion.PredEps)
	base := build(t, "vp", diffusion.Spec{Rule: "karras", Steps: 8, End: diffusion.Min})
	own := func(step int, x *gpu.Tensor, from, to []diffusion.Point) {
		size := x.Len() / len(from)
		for b := range from {
			for _, p := range []*diffusion.Point{&from[b], &to[b]} {
				s := p.Sigma() * (1 + 0.01*math.Tanh(x.F64()[b*size]))
				p.A, p.B = base.Space.Scale(s)
			}
		}
	}
	for _, name := range allSolvers {
		s := solver(t, name)
		if !ownLevels(s) || s.Check(base) != nil {
			continue
		}
		o := sampler.Options{Seed: 3, N: 5, Batch: 5, Shape: []int{3}, Double: true}
		run := func(den sampler.Denoiser, levels func(step int, x *gpu.Tensor, from, to []diffusion.Point) error, batch int) []float64 {
			o.Levels, o.Batch = levels, batch
			res, err := sampler.Run(context.Background(), den, s, base, o)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			return res.X.F64()
		}
		along := func(int, *gpu.Tensor, []diffusion.Point, []diffusion.Point) error { return sampler.ErrGridLevels }
		for _, den := range []sampler.Denoiser{mix, raw} {
			if plain := run(den, nil, 5); !slices.Equal(plain, run(den, along, 5)) {
				t.Errorf("%s: steps along the grid have other bits than a run without levels", name)
			}
			mixed := func(step int, x *gpu.Tensor, from, to []diffusion.Point) error {
				if step%4 > 1 {
					own(step, x, from, to)
					return nil
				}
				clear(from) // what is written does not matter
				return sampler.ErrGridLevels
			}
			all := func(step int, x *gpu.Tensor, from, to []diffusion.Point) error {
				if step%4 > 1 {
					own(step, x, from, to)
				}
				return nil
			}
			got := run(den, mixed, 5)
			for i, want := range run(den, all, 5) {
				if !(math.Abs(got[i]-want) <= 1e-11*(1+math.Abs(want))) {
					t.Errorf("%s: value %d is %v where steps go along the grid, %v where each image is told its levels", name, i, got[i], want)
				}
			}
			for _, batch := range []int{1, 2} {
				if !slices.Equal(got, run(den, mixed, batch)) {
					t.Errorf("%s: batches of %d give other bits", name, batch)
				}
			}
		}
	}
}

// epsOf is a network that predicts the noise that an exact denoiser sees.
type epsOf struct{ den sampler.PointDenoiser }

func (n epsOf) Forward(ctx context.Context, out, x *gpu.Tensor, t []float64, c sampler.Cond) error {
	at := make([]diffusion.Point, len(t))
	for i, v := range t {
		at[i] = diffusion.AtTime(diffusion.DefaultVPSDE(), v)
	}
	if err := n.den.DenoiseAt(ctx, out, x, at, c); err != nil {
		return err
	}
	size := x.Len() / len(t)
	for i, p := range at {
		for j := i * size; j < (i+1)*size; j++ {
			if out.Double() {
				out.F64()[j] = (x.F64()[j] - p.A*out.F64()[j]) / p.B
			} else {
				out.F32()[j] = float32((float64(x.F32()[j]) - p.A*float64(out.F32()[j])) / p.B)
			}
		}
	}
	return nil
}

// A step to levels of single images allocates nothing either, once it has its memory.
func TestOwnLevelsAllocateNothing(t *testing.T) {
	for _, name := range allSolvers {
		g := build(t, "vp", diffusion.Spec{Rule: "karras", Steps: 8})
		s := solver(t, name)
		if !ownLevels(s) || s.Check(g) != nil {
			continue
		}
		// Runs of 8 and of 16 steps of one grid allocate as much: what a run needs.
		allocs := func(repeat int) float64 {
			return oracle.Allocations(5, func() {
				x := gpu.CPU().Empty(4, 3, 5)
				e := sampler.NewEval(context.Background(), gaussian{0, 1}, x, sampler.Cond{}, func(_ int, z *gpu.Tensor) { clear(z.F32()) })
				sampler.SetLevels(e, func(step int, _ *gpu.Tensor, from, to []diffusion.Point) error {
					for b := range from {
						from[b].B *= 1 + 0.01*float64(b)
					}
					return nil
				})
				st := s.Start(x)
				for range repeat {
					for i := range g.Steps {
						if err := st.Step(e, x, g, i); err != nil {
							t.Fatal(err)
						}
					}
				}
			})
		}
		if once, thrice := allocs(1), allocs(3); thrice > once+1 { // the pool of ops may have been emptied
			t.Errorf("%s: %v allocations in %d steps, %v in %d; want none in a step", name, once, len(g.Steps), thrice, 3*len(g.Steps))
		}
	}
}

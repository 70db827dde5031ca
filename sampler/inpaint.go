package sampler

import (
	"fmt"
	"math"
	"slices"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/ops"
)

// Inpaint keeps a known part of every image while another solver draws the rest
// (Lugmayr et al. 2022, RePaint, arXiv 2201.09865, eq. 8): after a step to (A, B)
//
//	x = Mask·(A·Known + B·z) + (1-Mask)·x
//
// with new noise z, so that the result has the known part exactly. Both parts
// fit together better when steps are repeated: after every Jump steps, noise
// takes the state back to where they began, x ← (A/A')·x + √(B² - (A/A')²·B'²)·z,
// and they are made again, Repeat times in all (the paper's jump length and
// number of resamplings, 10 and 10).
type Inpaint struct {
	Solver Solver
	Known  *gpu.Tensor // [N, Shape...] of the run
	Mask   *gpu.Tensor // the same: 1 where Known holds, 0 where the solver draws
	Jump   int         // 0 is 1
	Repeat int         // 0 is 1: every step once
}

// Name is the inner solver's, with what was added.
func (s *Inpaint) Name() string {
	return fmt.Sprintf("inpaint(%s,jump=%d,repeat=%d)", s.Solver.Name(), s.jump(), s.repeat())
}

func (s *Inpaint) jump() int   { return max(s.Jump, 1) }
func (s *Inpaint) repeat() int { return max(s.Repeat, 1) }

// Check refuses repeats with a solver that remembers earlier steps: going back
// would mix its memory up.
func (s *Inpaint) Check(g *diffusion.Grid) error {
	if s.Jump < 0 || s.Repeat < 0 {
		return fmt.Errorf("sampler: inpaint: jump %d, repeat %d; wanted 1 or more", s.Jump, s.Repeat)
	}
	if s.Known == nil || s.Mask == nil || !slices.Equal(s.Known.Shape(), s.Mask.Shape()) {
		return fmt.Errorf("sampler: inpaint: wanted known images and a mask of one shape")
	}
	if t, ok := s.Solver.(Table); s.repeat() > 1 && !(ok && t.Keep() == 1) {
		return fmt.Errorf("sampler: inpaint: %s remembers earlier steps, which repeats undo; use ddim, euler or euler-a, or repeat 1", s.Solver.Name())
	}
	if g != nil && s.repeat() > 1 && s.jump() > len(g.Steps) {
		return fmt.Errorf("sampler: inpaint: jumps of %d steps on a grid of %d; wanted at most that many", s.jump(), len(g.Steps))
	}
	if g != nil && s.Solver.NFE(g) == Varies {
		return fmt.Errorf("sampler: inpaint: %s takes steps of its own; use a solver of fixed steps", s.Solver.Name())
	}
	return s.Solver.Check(g)
}

// NFE counts repeated steps as often as they are made.
func (s *Inpaint) NFE(g *diffusion.Grid) int {
	if s.repeat() == 1 {
		return s.Solver.NFE(g)
	}
	// A Table asks once a step.
	jumps := len(g.Steps) / s.jump()
	return len(g.Steps) + jumps*s.jump()*(s.repeat()-1)
}

// Start implements Solver.
func (s *Inpaint) Start(like *gpu.Tensor) Stepper {
	return &inpainting{Inpaint: s, inner: s.Solver.Start(like), z: like.Like(), known: like.Like()}
}

type inpainting struct {
	*Inpaint
	inner    Stepper
	z, known *gpu.Tensor
}

func (s *inpainting) Step(e *Eval, x *gpu.Tensor, g *diffusion.Grid, i int) error {
	if err := s.one(e, x, g, i); err != nil {
		return err
	}
	if (i+1)%s.jump() != 0 {
		return nil
	}
	path := e.path // its increments are used up: what is repeated draws independently
	e.path = nil
	defer func() { e.path = path }()
	first := i + 1 - s.jump()
	back, at := g.Steps[first].From, g.Steps[i].To
	for range s.repeat() - 1 {
		e.Noise(s.z)
		k := back.A / at.A
		c := [2]float64{k, math.Sqrt(max(back.B*back.B-k*k*at.B*at.B, 0))}
		ops.LinComb(x, c[:], x, s.z)
		for j := first; j <= i; j++ {
			if err := s.one(e, x, g, j); err != nil {
				return err
			}
		}
	}
	return nil
}

// one is a step of the inner solver, and the known part.
func (s *inpainting) one(e *Eval, x *gpu.Tensor, g *diffusion.Grid, i int) error {
	if err := s.inner.Step(e, x, g, i); err != nil {
		return err
	}
	known, err := e.batch("the known images", s.Known, x)
	if err != nil {
		return err
	}
	mask, err := e.batch("the mask", s.Mask, x)
	if err != nil {
		return err
	}
	to := g.Steps[i].To
	if to.B == 0 {
		c := [1]float64{to.A}
		ops.LinComb(s.known, c[:], known)
	} else {
		e.Noise(s.z)
		c := [2]float64{to.A, to.B}
		ops.LinComb(s.known, c[:], known, s.z)
	}
	ops.Blend(x, mask, s.known, x)
	return nil
}

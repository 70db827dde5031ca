package sampler

import (
	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
)

// Euler is Euler's method on the probability-flow ODE dx/dτ = (x - D)/τ, with
// τ = sigma on x/A, or τ the noise fraction of the flow (Karras et al. 2022, eq.
// 4; Lipman et al. 2023):
//
//	x' = x + (τ'-τ)·(x - D)/τ
//
// In the points of a grid both read x' = (B'/B)·x + (A' - A·B'/B)·D, which is
// DDIM with η = 0: the scaling of the state changes nothing at first order.
type Euler struct{}

// Name is "euler".
func (Euler) Name() string { return "euler" }

// Check accepts every grid.
func (Euler) Check(*diffusion.Grid) error { return nil }

// NFE is one per step.
func (Euler) NFE(g *diffusion.Grid) int { return len(g.Steps) }

// Start implements Solver.
func (Euler) Start(like *gpu.Tensor) Stepper { return &euler{d: like.Like()} }

type euler struct{ d *gpu.Tensor }

func (s *euler) Step(e *Eval, x *gpu.Tensor, g *diffusion.Grid, i int) error {
	from, to := g.Steps[i].From, g.Steps[i].To
	if err := e.ask(s.d, x, from); err != nil {
		return err
	}
	k := to.B / from.B
	c := [2]float64{k, to.A - from.A*k}
	return e.update(from, s.d, x, c[:], x, s.d)
}

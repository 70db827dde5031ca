package sampler

import (
	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
)

// Heun is the trapezoid rule on dx/dτ = (x - D)/τ (Karras et al. 2022,
// algorithm 1), with τ = sigma on x/A, or τ the noise fraction of the flow.
// With r = τ'/τ, D1 = D(x, τ), x1 = r·x + (1-r)·D1 and D2 = D(x1, τ'):
//
//	x' = x1 + (1-r)/(2r)·(D2 - D1)
//
// A step to τ' = 0, where D2 is not defined, is Euler's.
type Heun struct{}

// Name is "heun".
func (Heun) Name() string { return "heun" }

// Check refuses infinite noise unless the states are scaled for the flow: the
// straight line in sigma has no start there.
func (s Heun) Check(g *diffusion.Grid) error { return checkHeun(s, g) }

// checkHeun is Check for every solver of Heun's steps.
func checkHeun(s Solver, g *diffusion.Grid) error {
	if g != nil && g.Space == diffusion.FlowSpace {
		return nil
	}
	return finiteStart(s, g)
}

// Rises is true: the formula has no direction.
func (Heun) Rises() bool { return true }

// NFE is two per step, one for a step to zero.
func (Heun) NFE(g *diffusion.Grid) int {
	n := 0
	for _, s := range g.Steps {
		n++
		if s.To.B > 0 {
			n++
		}
	}
	return n
}

// Start implements Solver.
func (Heun) Start(like *gpu.Tensor) Stepper {
	return &heun{d1: like.Like(), d2: like.Like()}
}

type heun struct{ d1, d2 *gpu.Tensor }

func (s *heun) Step(e *Eval, x *gpu.Tensor, g *diffusion.Grid, i int) error {
	return s.between(e, x, g.Space, g.Steps[i].From, g.Steps[i].To)
}

// between is a step between any two points of a space.
func (s *heun) between(e *Eval, x *gpu.Tensor, space diffusion.Space, from, to diffusion.Point) error {
	if err := e.ask(s.d1, x, from); err != nil {
		return err
	}
	// In sigma the state is x/A: A'/A rescales it, and A' the denoised ones.
	r, kx, kd := to.B/from.B, 1.0, 1.0
	if space != diffusion.FlowSpace {
		r, kx, kd = to.Sigma()/from.Sigma(), to.A/from.A, to.A
	}
	c := [2]float64{r * kx, (1 - r) * kd}
	if err := e.update(from, s.d1, x, c[:], x, s.d1); err != nil || to.B == 0 {
		return err
	}
	if err := e.ask(s.d2, x, to); err != nil { // x is x1 now: one array less to move
		return err
	}
	half := (1 - r) / (2 * r) * kd
	k := [3]float64{1, -half, half}
	return e.update(to, s.d2, x, k[:], x, s.d1, s.d2)
}

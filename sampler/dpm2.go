package sampler

import (
	"fmt"
	"math"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
)

// DPM2 is the midpoint rule on dy/dσ = (y - D)/σ, y = x/A, with the middle taken
// in ln σ (k-diffusion's sampler of that name, on the equation of Karras et al.
// 2022). With σ_m = √(σσ'), r = σ_m/σ, y_m = r·y + (1-r)·D and D_m the
// denoised state there:
//
//	y' = y + (σ' - σ)/σ_m·(y_m - D_m)
//
// A step to zero, which has no middle, is Euler's.
type DPM2 struct{}

// Name is "dpm2".
func (DPM2) Name() string { return "dpm2" }

// Check refuses infinite noise, where steps in sigma have no length.
func (s DPM2) Check(g *diffusion.Grid) error { return finiteStart(s, g) }

// finiteStart refuses grids that start at infinite sigma.
func finiteStart(s Solver, g *diffusion.Grid) error {
	if g == nil || len(g.Steps) == 0 || g.Steps[0].From.A > 0 {
		return nil
	}
	return fmt.Errorf("sampler: %s: grid %s starts at infinite sigma, where its steps in sigma have no length; take a lower start, or ddim or dpm++2m", s.Name(), g.Name)
}

// Rises is true: the formula has no direction.
func (DPM2) Rises() bool { return true }

// NFE is two per step, one for a step to zero.
func (DPM2) NFE(g *diffusion.Grid) int { return Heun{}.NFE(g) }

// Start implements Solver.
func (DPM2) Start(like *gpu.Tensor) Stepper { return newDPM2(like) }

func newDPM2(like *gpu.Tensor) *dpm2 {
	return &dpm2{u: like.Like(), d: like.Like(), dm: like.Like()}
}

// dpm2 is the deterministic step, also of the ancestral sampler, which takes it
// to a level below the next one and adds noise.
type dpm2 struct{ u, d, dm *gpu.Tensor }

func (s *dpm2) Step(e *Eval, x *gpu.Tensor, g *diffusion.Grid, i int) error {
	return s.step(e, x, g.Space, g.Steps[i].From, g.Steps[i].To)
}

// step takes x in place from one point to another.
func (s *dpm2) step(e *Eval, x *gpu.Tensor, space diffusion.Space, from, to diffusion.Point) error {
	if err := e.ask(s.d, x, from); err != nil {
		return err
	}
	if to.B == 0 {
		c := [2]float64{0, to.A}
		return e.update(from, s.d, x, c[:], x, s.d)
	}
	sigma, next := from.Sigma(), to.Sigma()
	a, b := space.Scale(math.Sqrt(sigma * next))
	mid := diffusion.Point{A: a, B: b}
	r := mid.Sigma() / sigma
	c := [2]float64{mid.A / from.A * r, mid.A * (1 - r)}
	if err := e.update(from, s.d, s.u, c[:], x, s.d); err != nil {
		return err
	}
	if err := e.ask(s.dm, s.u, mid); err != nil {
		return err
	}
	w := (next - sigma) / mid.Sigma()
	k := [3]float64{to.A / from.A * (1 + w*r), to.A * w * (1 - r), -to.A * w}
	return e.update(mid, s.dm, x, k[:], x, s.d, s.dm)
}

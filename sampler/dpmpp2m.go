package sampler

import (
	"math"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
)

// DPMpp2M is the second-order multistep DPM-Solver++ (Lu et al. 2022,
// "DPM-Solver++", algorithm 2). With λ = ln(A/B), h = λ'-λ, h₋ the previous
// step's, D and D₋ the denoised x of this step and the previous one:
//
//	x' = (B'/B)·x - A'·expm1(-h)·D + c·(D - D₋)
//	c  = -A'·expm1(-h)·h/(2h₋)               midpoint form
//	c  = A'·(expm1(-h)/h + 1)·h/h₋           Heun form (the Taylor expansion's)
//
// The first step, and a step to zero noise, are of first order (DDIM).
type DPMpp2M struct {
	HeunForm   bool
	LowerFinal bool // the last step is of first order even when it ends above zero
}

// Name is "dpm++2m" or "dpm++2m-heun".
func (s DPMpp2M) Name() string {
	name := "dpm++2m"
	if s.HeunForm {
		name += "-heun"
	}
	if s.LowerFinal {
		name += ":lower-final=1"
	}
	return name
}

// Check accepts every grid.
func (DPMpp2M) Check(*diffusion.Grid) error { return nil }

// NFE is one per step.
func (DPMpp2M) NFE(g *diffusion.Grid) int { return len(g.Steps) }

// Start implements Solver.
func (s DPMpp2M) Start(like *gpu.Tensor) Stepper {
	return &dpmpp2m{DPMpp2M: s, d: like.Like(), old: like.Like()}
}

type dpmpp2m struct {
	DPMpp2M
	d, old *gpu.Tensor // this step's denoised x, and the previous step's
}

func (s *dpmpp2m) Step(e *Eval, x *gpu.Tensor, g *diffusion.Grid, i int) error {
	from, to := g.Steps[i].From, g.Steps[i].To
	s.d, s.old = s.old, s.d
	if err := e.ask(s.d, x, from); err != nil {
		return err
	}
	kx := to.B / from.B
	kd := to.A - from.A*kx // = -A'·expm1(-h)
	var extra float64
	if i > 0 && to.B > 0 && !(s.LowerFinal && i == len(g.Steps)-1) {
		h := math.Log(from.Sigma() / to.Sigma())
		last := math.Log(g.Steps[i-1].From.Sigma() / from.Sigma()) // +Inf after pure noise: no extrapolation from there
		if s.HeunForm {
			extra = to.A * (math.Expm1(-h)/h + 1) * h / last
		} else {
			extra = kd * h / (2 * last)
		}
	}
	if extra == 0 {
		c := [2]float64{kx, kd}
		return e.update(from, s.d, x, c[:], x, s.d)
	}
	c := [3]float64{kx, kd + extra, -extra}
	return e.update(from, s.d, x, c[:], x, s.d, s.old)
}

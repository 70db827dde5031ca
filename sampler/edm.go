package sampler

import (
	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
)

// EDM is the stochastic sampler of Karras et al. 2022 (algorithm 2): fresh noise
// before each step, as Churn says, then Heun's step from there, or Euler's. For
// ImageNet-64 the paper takes 256 steps, S_churn 40, S_min 0.05, S_max 50 and
// S_noise 1.003, the defaults.
type EDM struct {
	Churn
	Euler bool // Euler's step: one evaluation
}

// DefaultEDM has the paper's constants for ImageNet-64.
func DefaultEDM() EDM { return EDM{Churn: Churn{Amount: 40, Min: 0.05, Max: 50, Noise: 1.003}} }

// Name is "edm" or "euler-churn" with its options.
func (s EDM) Name() string {
	base := "edm"
	if s.Euler {
		base = "euler-churn"
	}
	return name(base, "churn=40", s.Amount, "s-min=0.05", s.Min, "s-max=50", s.Max, "s-noise=1.003", s.Noise)
}

// Check refuses constants out of range, and for Heun's step grids that Heun cannot walk.
func (s EDM) Check(g *diffusion.Grid) error {
	if err := s.check(s.Name()); err != nil || s.Euler {
		return err
	}
	return checkHeun(s, g)
}

// NFE is Heun's, or one per step.
func (s EDM) NFE(g *diffusion.Grid) int {
	if s.Euler {
		return len(g.Steps)
	}
	return Heun{}.NFE(g)
}

// Start implements Solver.
func (s EDM) Start(like *gpu.Tensor) Stepper {
	st := &edm{EDM: s, z: like.Like()}
	st.heun.d1 = like.Like()
	if !s.Euler {
		st.heun.d2 = like.Like()
	}
	return st
}

type edm struct {
	EDM
	heun heun
	z    *gpu.Tensor
}

func (s *edm) Step(e *Eval, x *gpu.Tensor, g *diffusion.Grid, i int) error {
	from, err := s.add(e, x, s.z, g, i)
	if err != nil {
		return err
	}
	if to := g.Steps[i].To; s.Euler {
		return firstOrder(e, x, s.heun.d1, from, to)
	}
	return s.heun.between(e, x, g.Space, from, g.Steps[i].To)
}

// firstOrder is a step of DDIM without noise, with one evaluation into d.
func firstOrder(e *Eval, x, d *gpu.Tensor, from, to diffusion.Point) error {
	if err := e.ask(d, x, from); err != nil {
		return err
	}
	k := [2]float64{to.B / from.B}
	k[1] = to.A - from.A*k[0]
	return e.update(from, d, x, k[:], x, d)
}

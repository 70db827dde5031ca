package sampler

import (
	"fmt"
	"math"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
)

// TCD is the strategic stochastic sampler of trajectory consistency models
// (Zheng et al. 2024, arXiv 2402.19159, algorithm 4): a jump along the
// trajectory to an earlier time than the step's end, s = ⌊(1-γ)·t'⌋ of the VP
// table, then noise up to t':
//
//	x_s = A_s·D + B_s·(x-A·D)/B
//	x'  = (A'/A_s)·x_s + √(1-A'²/A_s²)·z
//
// γ = 0 is DDIM, γ = 1 jumps to the table's first time. A step to zero noise is x' = D.
type TCD struct{ Gamma float64 }

// Name is "tcd" with its options.
func (s TCD) Name() string { return name("tcd", "gamma=0.3", s.Gamma) }

// Check refuses γ outside [0,1], and grids that were not built on a VP table.
func (s TCD) Check(g *diffusion.Grid) error {
	if !(s.Gamma >= 0 && s.Gamma <= 1) {
		return fmt.Errorf("sampler: tcd: gamma %g; wanted 0 to 1", s.Gamma)
	}
	if g == nil {
		return nil
	}
	if _, ok := g.Path.(*diffusion.VP); !ok || g.Space != diffusion.VPSpace {
		return fmt.Errorf("sampler: tcd: grid %s has no VP table, whose times its jumps need; take path vp, or ddim", g.Name)
	}
	return nil
}

// NFE is one per step.
func (TCD) NFE(g *diffusion.Grid) int { return len(g.Steps) }

// Start implements Solver.
func (s TCD) Start(like *gpu.Tensor) Stepper {
	return &tcd{TCD: s, d: like.Like(), z: like.Like()}
}

type tcd struct {
	TCD
	d, z *gpu.Tensor
	k    [3]float64
}

func (s *tcd) Step(e *Eval, x *gpu.Tensor, g *diffusion.Grid, i int) error {
	from, to := g.Steps[i].From, g.Steps[i].To
	if to.B == 0 {
		return firstOrder(e, x, s.d, from, to)
	}
	if err := e.ask(s.d, x, from); err != nil {
		return err
	}
	const slack = 1e-9 // (1-0.3)·170 is 119, which rounding may miss
	a, b := diffusion.VPSpace.Scale(g.Path.Sigma(math.Floor((1-s.Gamma)*to.T + slack)))
	if a < to.A { // a first time that is noisier than the step's end
		a, b = to.A, to.B
	}
	r := to.A / a
	s.k[0] = r * b / from.B
	s.k[1] = to.A - from.A*s.k[0]
	s.k[2] = math.Sqrt((1 - r) * (1 + r))
	if s.k[2] == 0 {
		return e.update(from, s.d, x, s.k[:2], x, s.d)
	}
	if err := e.Increment(s.z, from, to, 1); err != nil {
		return err
	}
	return e.update(from, s.d, x, s.k[:], x, s.d, s.z)
}

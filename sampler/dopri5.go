package sampler

import (
	"fmt"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/ops"
)

// DormandPrince is the adaptive Runge-Kutta pair of orders 5 and 4 (Dormand and
// Prince 1980), on the flow's velocity on a flow grid and on x/A in sigma
// elsewhere: see integrator. Every image has steps of its own. A grid's levels
// are where it stops on the way, so that few of them leave it free: two levels
// and zero do. A step to zero noise is Euler's, with the slope that is known.
type DormandPrince struct {
	RTol, ATol float64 // of x/A
}

// Name is "dopri5" with its options.
func (s DormandPrince) Name() string {
	return name("dopri5", "rtol=1e-05", s.RTol, "atol=1e-05", s.ATol)
}

// Check refuses tolerances that are not above zero, infinite noise unless the
// states are scaled for the flow, and a single step to zero.
func (s DormandPrince) Check(g *diffusion.Grid) error {
	if err := tolerances(s, s.RTol, s.ATol, g); err != nil {
		return err
	}
	return RungeKutta{&dormandPrince}.Check(g)
}

// tolerances refuses what no adaptive solver can work with.
func tolerances(s Solver, rtol, atol float64, g *diffusion.Grid) error {
	if !(rtol > 0 && rtol < 1) || !(atol > 0 && atol < 1) {
		return fmt.Errorf("sampler: %s: relative tolerance %g, absolute %g; wanted more than 0 and less than 1", s.Name(), rtol, atol)
	}
	if g != nil && len(g.Steps) == 1 && g.Steps[0].To.B == 0 {
		return fmt.Errorf("sampler: %s: grid %s has one step, to zero noise, which would be of first order; give it a level above zero to reach first", s.Name(), g.Name)
	}
	return nil
}

// Rises is true: the method has no direction.
func (DormandPrince) Rises() bool { return true }

// NFE is Varies.
func (DormandPrince) NFE(*diffusion.Grid) int { return Varies }

// Start implements Solver.
func (s DormandPrince) Start(like *gpu.Tensor) Stepper {
	return dopri5{newIntegrator(like, s.RTol, s.ATol)}
}

type dopri5 struct{ *integrator }

func (s dopri5) Step(e *Eval, x *gpu.Tensor, g *diffusion.Grid, i int) error {
	from, to := g.Steps[i].From, g.Steps[i].To
	if i == 0 || g.Steps[i-1].To != from {
		if err := s.start(e, x, g.Space, from); err != nil {
			return err
		}
	}
	if to.B == 0 {
		ops.LinComb(x, []float64{to.A}, s.d[0])
		return nil
	}
	return s.walk(e, x, g.Space, from, to)
}

package sampler

import (
	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
)

// RungeKutta is an explicit Runge-Kutta method of fixed steps on dy/dτ = (y-D)/τ:
// of the flow's velocity on a flow grid, else of y = x/A in sigma. The midpoint
// rule is
//
//	y_m = y + h/2·v(y, τ),  y' = y + h·v(y_m, τ + h/2),  v = (y - D)/τ, h = τ' - τ,
//
// and the classical method (Kutta 1901) averages four slopes by 1, 2, 2, 1. A
// method that would take a slope at zero noise, where there is none, is the
// midpoint rule in a step to it.
type RungeKutta struct{ t *tableau }

// Midpoint is the midpoint rule.
func Midpoint() RungeKutta { return RungeKutta{&midpoint} }

// RK4 is the classical method of order 4.
func RK4() RungeKutta { return RungeKutta{&rk4} }

// Name is "midpoint" or "rk4".
func (s RungeKutta) Name() string { return s.t.name }

// Check refuses infinite noise unless the states are scaled for the flow.
func (s RungeKutta) Check(g *diffusion.Grid) error {
	if g != nil && g.Space == diffusion.FlowSpace {
		return nil
	}
	return finiteStart(s, g)
}

// Rises is true: the methods have no direction.
func (RungeKutta) Rises() bool { return true }

// method is the tableau of a step to a point.
func (s RungeKutta) method(to diffusion.Point) *tableau {
	if to.B == 0 {
		return &midpoint
	}
	return s.t
}

// NFE is the method's stages per step, two in a step to zero.
func (s RungeKutta) NFE(g *diffusion.Grid) int {
	n := 0
	for _, st := range g.Steps {
		n += len(s.method(st.To).c)
	}
	return n
}

// Start implements Solver.
func (s RungeKutta) Start(like *gpu.Tensor) Stepper {
	st := &rungeKutta{RungeKutta: s, u: like.Like(), terms: make([]*gpu.Tensor, 0, 1+maxStages)}
	for range s.t.c {
		st.d = append(st.d, like.Like())
	}
	return st
}

type rungeKutta struct {
	RungeKutta
	d     []*gpu.Tensor
	u     *gpu.Tensor
	terms []*gpu.Tensor
	now   stages
	c     wide
}

func (s *rungeKutta) Step(e *Eval, x *gpu.Tensor, g *diffusion.Grid, i int) error {
	from, to := g.Steps[i].From, g.Steps[i].To
	t := s.method(to)
	s.now.begin(t, g.Space, from, lineTime(g.Space, to)-lineTime(g.Space, from))
	at, state := from, x
	s.terms = append(s.terms[:0], x)
	for j := range t.c {
		if err := e.ask(s.d[j], state, at); err != nil {
			return err
		}
		s.terms = append(s.terms, s.d[j])
		asked, out := at, s.u
		if j+1 < len(t.c) {
			at, s.c = s.now.stage(j+1, to)
		} else {
			s.c, out = s.now.end(to), x
		}
		if err := e.update(asked, s.d[j], out, s.c[:j+2], s.terms...); err != nil {
			return err
		}
		state = s.u
	}
	return nil
}

package sampler

import (
	"fmt"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/ops"
)

// PNDM is the pseudo numerical method of Liu et al. 2022 ("Pseudo Numerical
// Methods for Diffusion Models on Manifolds"): the fourth formula of IPNDM from
// the fourth step on, after a start that costs evaluations. With φ(x, N, p → q) =
// (A_q/A_p)·x + (B_q - B_p·A_q/A_p)·N, DDIM's step, the start's steps are
//
//	N1 = N(x, p)                       pseudo Runge-Kutta (F-PNDM):
//	N2 = N(φ(x, N1, p → m), m)         three steps of four evaluations, m half way
//	N3 = N(φ(x, N2, p → m), m)         in the path's time
//	N4 = N(φ(x, N3, p → q), q)
//	x' = φ(x, (N1 + 2·N2 + 2·N3 + N4)/6, p → q)
//
//	x' = φ(x, (N1 + N(φ(x, N1, p → q), q))/2, p → q)    PLMS: one step of two
//
// After PLMS's start the next steps have as many points as there are. Beyond the
// times of the grid's path m is half way in ln sigma. Both are of second order, as
// the paper proves.
type PNDM struct {
	PLMS bool // the short start
}

// Name is "pndm" or "plms".
func (s PNDM) Name() string {
	if s.PLMS {
		return "plms"
	}
	return "pndm"
}

// startSteps is how many steps are the start's, and what each costs.
func (s PNDM) startSteps() (steps, evaluations int) {
	if s.PLMS {
		return 1, 2
	}
	return 3, 4
}

// Check refuses fewer than four steps, and starts from pure noise and to none,
// where the predicted noise of another point makes no step.
func (s PNDM) Check(g *diffusion.Grid) error {
	if err := needSteps(s, g, 4); err != nil || g == nil {
		return err
	}
	n, _ := s.startSteps()
	for i, st := range g.Steps[:n] {
		if st.From.A == 0 || st.To.B == 0 {
			return fmt.Errorf("sampler: %s: step %d of grid %s goes from sigma %.4g to %.4g; its first steps combine noise of both ends, which needs finite levels above 0 (take ipndm)",
				s.Name(), i, g.Name, st.From.Sigma(), st.To.Sigma())
		}
	}
	return nil
}

// Rises is true: the formulas have no direction.
func (PNDM) Rises() bool { return true }

// NFE is one per step, and the start's.
func (s PNDM) NFE(g *diffusion.Grid) int {
	n, each := s.startSteps()
	return len(g.Steps) + n*(each-1)
}

// Start implements Solver.
func (s PNDM) Start(like *gpu.Tensor) Stepper {
	images := like.Shape()[0]
	st := &pndm{PNDM: s, later: StartTable(IPNDM{}, like).(*table), before: like.Like(), n: like.Like()}
	if !s.PLMS {
		st.sum, st.mid = like.Like(), make([]diffusion.Point, images)
	}
	st.c, st.terms = make([]float64, 3*images), make([]*gpu.Tensor, 0, 3)
	return st
}

type pndm struct {
	PNDM
	later  *table      // of the steps after the start; it keeps N1 of all steps
	before *gpu.Tensor // the state at the step's start
	n      *gpu.Tensor // noise of another evaluation
	sum    *gpu.Tensor
	mid    []diffusion.Point // of each image
	c      []float64
	terms  []*gpu.Tensor
}

func (*pndm) ownLevels() {}

func (s *pndm) Step(e *Eval, x *gpu.Tensor, g *diffusion.Grid, i int) error {
	if n, _ := s.startSteps(); i >= n {
		return s.later.Step(e, x, g, i)
	}
	shared, err := s.later.look(e, x, g, i, false)
	if err != nil {
		return err
	}
	rows := len(s.later.from) // levels and coefficients: of each image, or one for all
	if shared {
		rows = 1
	}
	from, to := s.later.from[:rows], s.later.to[:rows]
	n1, d1 := s.later.d[0], s.later.fresh
	s.before.Copy(x)
	if s.PLMS {
		if err := s.transfer(e, x, d1, from, to, n1); err != nil {
			return err
		}
		if err := s.ask(e, x, to); err != nil {
			return err
		}
		return s.transfer(e, x, d1, from, to, n1, s.n)
	}
	mid := s.mid[:rows]
	for b := range mid {
		mid[b] = halfway(g, from[b], to[b])
	}
	last := n1
	for k, p := range [...][]diffusion.Point{mid, mid, to} {
		if err := s.transfer(e, x, d1, from, p, last); err != nil {
			return err
		}
		if err := s.ask(e, x, p); err != nil {
			return err
		}
		last = s.n
		c := [...]float64{1, 2}
		switch k {
		case 0:
			ops.LinComb(s.sum, c[:], n1, s.n)
		case 1:
			ops.LinComb(s.sum, c[:], s.sum, s.n)
		}
	}
	for b := range from {
		x0, mean := gain(from[b], to[b], true)
		s.c[3*b], s.c[3*b+1], s.c[3*b+2] = x0, mean/6, mean/6
	}
	s.terms = append(s.terms[:0], s.before, s.sum, s.n)
	return e.updateOn(from, d1, x, s.c[:3*rows], s.terms...)
}

// ask sets n to the noise predicted for states at those points.
func (s *pndm) ask(e *Eval, x *gpu.Tensor, at []diffusion.Point) error {
	if err := e.askOn(s.n, x, at); err != nil {
		return err
	}
	for b, p := range at {
		s.c[2*b], s.c[2*b+1] = 1/p.B, -p.A/p.B
	}
	s.terms = append(s.terms[:0], x, s.n)
	combineOn(len(at), s.n, s.c[:2*len(at)], s.terms...)
	return nil
}

// transfer sets x to φ of the step's start with the mean of the noises. d is what
// the denoiser said there.
func (s *pndm) transfer(e *Eval, x, d *gpu.Tensor, from, to []diffusion.Point, noises ...*gpu.Tensor) error {
	s.terms = append(append(s.terms[:0], s.before), noises...)
	k := len(s.terms)
	for b := range from {
		x0, mean := gain(from[b], to[b], true)
		c := s.c[b*k : (b+1)*k]
		c[0] = x0
		for j := range noises {
			c[1+j] = mean / float64(len(noises))
		}
	}
	return e.updateOn(from, d, x, s.c[:len(from)*k], s.terms...)
}

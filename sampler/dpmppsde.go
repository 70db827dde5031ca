package sampler

import (
	"fmt"
	"math"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
)

// DPMppSDE is the second-order single step of DPM-Solver++ for the stochastic
// equation (k-diffusion's dpmpp_sde; Lu et al. 2022, arXiv 2211.01095): with R
// in (0,1] and h = λ'-λ, an ancestral step to λ_m = λ + R·h, whose end x_m is
// denoised, then the whole step with both denoised states. With sigma_down and
// the noise's size of each as in the ancestral Euler sampler, on x/A:
//
//	x_m = (s_m,down/s)·x + (1-s_m,down/s)·D + s_m,up·z_m
//	x'  = (s_down/s)·x + (1-s_down/s)·((1-1/2R)·D + 1/2R·D_m) + s_up·z
//
// z_m and z are increments of one path in the clock sigma^-2, z over the whole
// step: of independent z_m and z₊ for its two parts, z = (√(u_m-u)·z_m +
// √(u'-u_m)·z₊)/√(u'-u). A step from pure noise, or to zero noise, is the
// ancestral Euler's.
type DPMppSDE struct{ Eta, Noise, R float64 }

// Name is "dpm++sde" with its options.
func (s DPMppSDE) Name() string {
	return name("dpm++sde", "eta=1", s.Eta, "s-noise=1", s.Noise, "r=0.5", s.R)
}

// Check refuses η outside [0,1], a factor of the noise not above 0, and r outside (0,1].
func (s DPMppSDE) Check(*diffusion.Grid) error {
	if !(s.R > 0 && s.R <= 1) {
		return fmt.Errorf("sampler: %s: r %g; wanted above 0, at most 1", s.Name(), s.R)
	}
	return checkAncestral(s, s.Eta, s.Noise)
}

// NFE is two per step, one from pure noise or to zero.
func (DPMppSDE) NFE(g *diffusion.Grid) int {
	n := len(g.Steps)
	for _, st := range g.Steps {
		if st.From.A > 0 && st.To.B > 0 {
			n++
		}
	}
	return n
}

// Start implements Solver.
func (s DPMppSDE) Start(like *gpu.Tensor) Stepper {
	st := &dpmppSDE{DPMppSDE: s, d: like.Like(), m: like.Like(), dm: like.Like()}
	if s.Eta > 0 {
		st.z, st.zm = like.Like(), like.Like()
	}
	return st
}

type dpmppSDE struct {
	DPMppSDE
	d, m, dm, z, zm *gpu.Tensor
	k               [5]float64
	terms           [5]*gpu.Tensor
}

func (s *dpmppSDE) Step(e *Eval, x *gpu.Tensor, g *diffusion.Grid, i int) error {
	from, to := g.Steps[i].From, g.Steps[i].To
	if err := e.ask(s.d, x, from); err != nil {
		return err
	}
	down, noise := ancestral(from, to, s.Eta)
	s.k[0] = down.B / from.B
	s.k[1] = down.A - from.A*s.k[0]
	if from.A == 0 || to.B == 0 {
		terms := append(s.terms[:0], x, s.d)
		if noise > 0 {
			if err := e.Increment(s.z, from, to, 1); err != nil {
				return err
			}
			s.k[2] = noise * s.Noise
			terms = append(terms, s.z)
		}
		return e.update(from, s.d, x, s.k[:len(terms)], terms...)
	}
	sigma, sigma1 := from.Sigma(), to.Sigma()
	a, b := g.Space.Scale(math.Exp((1-s.R)*math.Log(sigma) + s.R*math.Log(sigma1)))
	mid := diffusion.Point{A: a, B: b}
	mdown, mnoise := ancestral(from, mid, s.Eta)
	k := [3]float64{mdown.B / from.B, 0, mnoise * s.Noise}
	k[1] = mid.A - from.A*k[0]
	terms := append(s.terms[:0], x, s.d)
	if s.z != nil {
		if err := e.Increment(s.zm, from, mid, 1); err != nil {
			return err
		}
		terms = append(terms, s.zm)
	}
	if err := e.update(from, s.d, s.m, k[:len(terms)], terms...); err != nil {
		return err
	}
	if err := e.ask(s.dm, s.m, mid); err != nil {
		return err
	}
	terms = append(s.terms[:0], x, s.d, s.dm)
	share := 1 / (2 * s.R)
	s.k[1], s.k[2] = s.k[1]*(1-share), s.k[1]*share
	if s.z != nil {
		noise *= s.Noise
		all, first := 1/(sigma1*sigma1)-1/(sigma*sigma), 1/(mid.Sigma()*mid.Sigma())-1/(sigma*sigma)
		s.k[3] = noise * math.Sqrt(first/all)
		terms = append(terms, s.zm)
		if rest := all - first; s.R < 1 && rest > 0 {
			if err := e.Increment(s.z, mid, to, 1); err != nil {
				return err
			}
			s.k[4] = noise * math.Sqrt(rest/all)
			terms = append(terms, s.z)
		}
	}
	return e.update(mid, s.dm, x, s.k[:len(terms)], terms...)
}

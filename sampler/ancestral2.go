package sampler

import (
	"math"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
)

// Ancestral2 is a second-order single step to sigma_down, then fresh noise up to
// sigma' (k-diffusion's DPM2 ancestral and DPM++ 2S ancestral; sigma_down and the
// noise as in the ancestral Euler sampler). The second evaluation is at the
// middle of the noiseless step in ln sigma, sigma_m = √(sigma·sigma_down), from
// x_m, an Euler step there. With D and D_m the denoised x and x_m, on x/A,
//
//	x' = x + (sigma_down-sigma)·(x_m-D_m)/sigma_m              DPM2 (Karras et al. 2022's terms)
//	x' = (sigma_down/sigma)·x + (1-sigma_down/sigma)·D_m      DPM++ 2S (Lu et al. 2022, arXiv 2211.01095, algorithm 1, r = 1/2)
//
// plus B'·η·√(1-r²)·S_noise·z. A step from pure noise or to zero noise has no
// middle: it is the first-order one.
type Ancestral2 struct {
	DPMpp      bool
	Eta, Noise float64
}

// Name is "dpm2-a" or "dpm++2s-a" with its options.
func (s Ancestral2) Name() string {
	base := "dpm2-a"
	if s.DPMpp {
		base = "dpm++2s-a"
	}
	return name(base, "eta=1", s.Eta, "s-noise=1", s.Noise)
}

// Check refuses η outside [0,1] and a factor of the noise that is not above 0.
func (s Ancestral2) Check(*diffusion.Grid) error { return checkAncestral(s, s.Eta, s.Noise) }

// NFE is two per step, one where there is no middle.
func (s Ancestral2) NFE(g *diffusion.Grid) int {
	n := len(g.Steps)
	for _, st := range g.Steps {
		if down, _ := ancestral(st.From, st.To, s.Eta); st.From.A > 0 && down.B > 0 {
			n++
		}
	}
	return n
}

// Start implements Solver.
func (s Ancestral2) Start(like *gpu.Tensor) Stepper {
	return &ancestral2{Ancestral2: s, d: like.Like(), m: like.Like(), z: like.Like()}
}

type ancestral2 struct {
	Ancestral2
	d, m, z *gpu.Tensor
	k       [4]float64
	terms   [4]*gpu.Tensor
}

func (s *ancestral2) Step(e *Eval, x *gpu.Tensor, g *diffusion.Grid, i int) error {
	from, to := g.Steps[i].From, g.Steps[i].To
	down, noise := ancestral(from, to, s.Eta)
	if err := e.ask(s.d, x, from); err != nil {
		return err
	}
	at, terms := from, append(s.terms[:0], x, s.d)
	s.k[0] = down.B / from.B
	s.k[1] = down.A - from.A*s.k[0]
	if from.A > 0 && down.B > 0 {
		a, b := g.Space.Scale(math.Sqrt(from.Sigma() * down.Sigma()))
		mid := diffusion.Point{A: a, B: b}
		k := [2]float64{mid.B / from.B}
		k[1] = mid.A - from.A*k[0]
		if err := e.update(from, s.d, s.m, k[:], x, s.d); err != nil {
			return err
		}
		if err := e.ask(s.d, s.m, mid); err != nil {
			return err
		}
		at = mid
		if !s.DPMpp {
			slope := down.A * (down.Sigma() - from.Sigma()) / mid.Sigma()
			s.k[0], s.k[1], s.k[2] = down.A/from.A, -slope, slope/mid.A
			terms = append(terms, s.m)
		}
	}
	if noise > 0 {
		if err := e.Increment(s.z, from, to, 1); err != nil {
			return err
		}
		s.k[len(terms)] = noise * s.Noise
		terms = append(terms, s.z)
	}
	return e.update(at, s.d, x, s.k[:len(terms)], terms...)
}

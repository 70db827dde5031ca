package sampler

import (
	"fmt"
	"math"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/ops"
)

// DDIM is the sampler of Song, Meng and Ermon 2021 (eq. 12 and 16). From (A, B)
// to (A', B'), with D the denoised x, sigma = B/A and r = sigma'/sigma:
//
//	x' = A'·D + B'·√(1-η²(1-r²))·(x - A·D)/B + η·B'·√(1-r²)·z
//
// η = 0 is the first-order exponential integrator (DPM-Solver-1, and Euler on
// the straight line of either scaling); η = 1 is DDPM's posterior, and the
// ancestral Euler sampler of k-diffusion. That is so in every scaling, the flow's
// too: r is of B/A, so no rescaling is needed for the law to stay (AncestralFlow
// counts the noise of the same η otherwise).
type DDIM struct {
	Eta  float64 // noise, 0 (none) to 1
	Clip float64 // limit of |D| in the first term, as some VP models need; 0 is none
	// Noise is a factor of z, a little above 1 where a model removes too much; 0 means 1.
	Noise float64
}

// Name is "ddim" with its options.
func (s DDIM) Name() string {
	return name("ddim", "eta=0", s.Eta, "clip=0", s.Clip, "s-noise=1", s.noise())
}

func (s DDIM) noise() float64 {
	if s.Noise == 0 {
		return 1
	}
	return s.Noise
}

// Check refuses η outside [0,1], a negative clip and a factor of the noise that is not above 0.
func (s DDIM) Check(*diffusion.Grid) error {
	if !(s.Clip >= 0) {
		return fmt.Errorf("sampler: ddim: clip %g; wanted a number above 0, or 0 for none", s.Clip)
	}
	return checkAncestral(s, s.Eta, s.noise())
}

// Rises tells that DDIM inversion is the same formula; not with noise or a clip.
func (s DDIM) Rises() bool { return s.Eta == 0 && s.Clip == 0 }

// NFE is one per step.
func (s DDIM) NFE(g *diffusion.Grid) int { return len(g.Steps) }

// Start implements Solver.
func (s DDIM) Start(like *gpu.Tensor) Stepper {
	if s.Clip == 0 {
		return StartTable(s, like)
	}
	n := like.Shape()[0]
	st := &clippedDDIM{DDIM: s, d: like.Like(), from: make([]diffusion.Point, n), to: make([]diffusion.Point, n), c: make([]float64, 3*n), k: make([]float64, 3*n)}
	if s.Noisy() {
		st.z = like.Like()
	}
	return st
}

// Keep is 1.
func (DDIM) Keep() int { return 1 }

// Noisy is true unless η is 0.
func (s DDIM) Noisy() bool { return s.Eta > 0 }

// Coeffs implements Table, without the clip.
func (s DDIM) Coeffs(c []float64, h *History) {
	from, to := h.At[0], h.To
	r := to.Sigma() / from.Sigma()
	keep := s.Eta * s.Eta * (1 - r*r)
	c[0] = to.B * math.Sqrt(1-keep) / from.B
	c[1] = to.A - c[0]*from.A
	if s.Noisy() {
		c[2] = to.B * math.Sqrt(keep) * s.noise()
	}
}

// clippedDDIM clips D, but not in the direction of the noise.
type clippedDDIM struct {
	DDIM
	d, z     *gpu.Tensor
	h        History
	at       [1]diffusion.Point
	from, to []diffusion.Point // of each image
	k        []float64         // Coeffs of each image
	c        []float64
}

func (*clippedDDIM) ownLevels() {}

func (s *clippedDDIM) Step(e *Eval, x *gpu.Tensor, g *diffusion.Grid, i int) error {
	from, to, err := e.levelsOn(x, g, i, s.from, s.to)
	if err != nil {
		return err
	}
	if err := e.askOn(s.d, x, from); err != nil {
		return err
	}
	s.h = History{At: s.at[:], Step: i, Steps: len(g.Steps)}
	for b, p := range from {
		s.at[0], s.h.To = p, to[b]
		k := s.k[3*b : 3*b+3]
		s.Coeffs(k, &s.h)
		s.c[2*b], s.c[2*b+1] = k[0], -k[0]*p.A
	}
	if err := e.updateOn(from, s.d, x, s.c[:2*len(from)], x, s.d); err != nil { // before the clamp hides an infinity
		return err
	}
	ops.Clamp(s.d, s.d, -s.Clip, s.Clip)
	if s.z == nil {
		for b, p := range to {
			s.c[2*b], s.c[2*b+1] = 1, p.A
		}
		return e.updateOn(from, s.d, x, s.c[:2*len(from)], x, s.d)
	}
	if err := e.incrementOn(s.z, from, to); err != nil {
		return err
	}
	for b, p := range to {
		s.k[3*b], s.k[3*b+1] = 1, p.A
	}
	return e.updateOn(from, s.d, x, s.k[:3*len(from)], x, s.d, s.z)
}

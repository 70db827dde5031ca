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
// ancestral Euler sampler of k-diffusion.
type DDIM struct {
	Eta  float64 // noise, 0 (none) to 1
	Clip float64 // limit of |D| in the first term, as some VP models need; 0 is none
}

// Name is "ddim" with its options.
func (s DDIM) Name() string {
	name := "ddim"
	sep := ":"
	if s.Eta != 0 {
		name += fmt.Sprintf("%seta=%g", sep, s.Eta)
		sep = ","
	}
	if s.Clip != 0 {
		name += fmt.Sprintf("%sclip=%g", sep, s.Clip)
	}
	return name
}

// Check refuses η outside [0,1] and a negative clip.
func (s DDIM) Check(*diffusion.Grid) error {
	if !(s.Eta >= 0 && s.Eta <= 1) {
		return fmt.Errorf("sampler: ddim: eta %g; wanted 0 to 1", s.Eta)
	}
	if !(s.Clip >= 0) {
		return fmt.Errorf("sampler: ddim: clip %g; wanted a number above 0, or 0 for none", s.Clip)
	}
	return nil
}

// NFE is one per step.
func (s DDIM) NFE(g *diffusion.Grid) int { return len(g.Steps) }

// Start implements Solver.
func (s DDIM) Start(like *gpu.Tensor) Stepper {
	st := &ddim{DDIM: s, d: like.Like()}
	if s.Eta > 0 {
		st.z = like.Like()
	}
	return st
}

type ddim struct {
	DDIM
	d, z *gpu.Tensor
}

func (s *ddim) Step(e *Eval, x *gpu.Tensor, g *diffusion.Grid, i int) error {
	from, to := g.Steps[i].From, g.Steps[i].To
	if err := e.ask(s.d, x, from); err != nil {
		return err
	}
	r := to.Sigma() / from.Sigma()
	keep := s.Eta * s.Eta * (1 - r*r)
	kx := to.B * math.Sqrt(1-keep) / from.B
	kz := to.B * math.Sqrt(keep)
	kd := to.A - kx*from.A
	if s.Clip > 0 { // the direction keeps the unclipped D
		c := [2]float64{kx, -kx * from.A}
		if err := e.update(from, s.d, x, c[:], x, s.d); err != nil { // before the clamp hides an infinity
			return err
		}
		ops.Clamp(s.d, s.d, -s.Clip, s.Clip)
		kx, kd = 1, to.A
	}
	if kz > 0 {
		e.Noise(s.z)
		c := [3]float64{kx, kd, kz}
		return e.update(from, s.d, x, c[:], x, s.d, s.z)
	}
	c := [2]float64{kx, kd}
	return e.update(from, s.d, x, c[:], x, s.d)
}

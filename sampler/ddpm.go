package sampler

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/ops"
)

// DDPM is ancestral sampling of Ho, Jain and Abbeel 2020 (arXiv 2006.11239, eq.
// 7), with the variances of Nichol and Dhariwal 2021 (arXiv 2102.09672). With
// ᾱ = 1/(1+sigma²), α = ᾱ/ᾱ' and β = 1-α, on states of VP scaling:
//
//	x' = √ᾱ'·β/(1-ᾱ)·D + √α·(1-ᾱ')/(1-ᾱ)·x + √v·z
//	v  = (1-ᾱ')/(1-ᾱ)·β  small: the posterior's for data of no variance
//	v  = β               large: for data of variance 1
//
// learned_range takes v = β^f·v_small^(1-f) with f = (1+o)/2 of the denoiser's
// second output o, learned takes o itself (VarianceDenoiser); no variance counts
// as less than 1e-20 there. The names that end in _log are the same numbers here.
//
// A step to zero noise adds none. The original adds the large variance's there
// too, unless the step starts at time 0: EndNoise.
type DDPM struct {
	Variance string  // "fixed_small", "fixed_small_log", "fixed_large", "fixed_large_log", "learned" or "learned_range"; "" is fixed_small
	Clip     float64 // limit of |D|; 0 is none
	EndNoise bool
}

var ddpmVariances = []string{"fixed_small", "fixed_small_log", "fixed_large", "fixed_large_log", "learned", "learned_range"}

// VarianceDenoiser is a denoiser of a network that also predicts the variance of
// a DDPM step. DenoiseVariance is DenoiseAt with that second output as the
// network gives it, shaped like x.
type VarianceDenoiser interface {
	PointDenoiser
	DenoiseVariance(ctx context.Context, out, variance, x *gpu.Tensor, at []diffusion.Point, c Cond) error
}

// Name is "ddpm" with its options.
func (s DDPM) Name() string {
	variance := s.Variance
	if variance == "" {
		variance = ddpmVariances[0]
	}
	return name("ddpm", "variance=fixed_small", variance, "clip=0", s.Clip, "end-noise=0", s.EndNoise)
}

// Check refuses unknown variances and a negative clip.
func (s DDPM) Check(*diffusion.Grid) error {
	if s.Variance != "" && !slices.Contains(ddpmVariances, s.Variance) {
		return fmt.Errorf("sampler: ddpm: variance %q; there are %v", s.Variance, ddpmVariances)
	}
	if !(s.Clip >= 0) {
		return fmt.Errorf("sampler: ddpm: clip %g; wanted a number above 0, or 0 for none", s.Clip)
	}
	return nil
}

// NFE is one per step.
func (DDPM) NFE(g *diffusion.Grid) int { return len(g.Steps) }

// Keep is 1.
func (DDPM) Keep() int { return 1 }

// Noisy is true.
func (DDPM) Noisy() bool { return true }

func (s DDPM) learned() bool { return s.Variance == "learned" || s.Variance == "learned_range" }

// Start implements Solver.
func (s DDPM) Start(like *gpu.Tensor) Stepper {
	if s.Clip == 0 && !s.learned() {
		return StartTable(s, like)
	}
	n := like.Shape()[0]
	st := &ddpm{DDPM: s, d: like.Like(), z: like.Like(), from: make([]diffusion.Point, n), to: make([]diffusion.Point, n), c: make([]float64, 3*n)}
	if s.learned() {
		st.v = like.Like()
	}
	return st
}

// variances are v small and large of a step, for states of variance-preserving scaling.
func variances(from, to diffusion.Point) (small, large float64) {
	s, s1 := from.Sigma(), to.Sigma()
	if math.IsInf(s, 1) {
		return to.B * to.B / (to.A*to.A + to.B*to.B), 1
	}
	q := s * s // ᾱ = 1/(1+s²): β = (s²-s'²)/(1+s²) and (1-ᾱ')/(1-ᾱ) = s'²·(1+s²)/(s²·(1+s'²))
	large = (s - s1) * (s + s1) / (1 + q)
	return large * s1 * s1 * (1 + q) / (q * (1 + s1*s1)), large
}

// Coeffs implements Table, without the clip and for a fixed variance.
func (s DDPM) Coeffs(c []float64, h *History) {
	from, to := h.At[0], h.To
	c[0], _ = churned(from, to, 1)
	c[1] = to.A - from.A*c[0]
	small, large := variances(from, to)
	scale := math.Hypot(to.A, to.B) // of the state, from VP scaling
	switch {
	case to.B == 0 && !(s.EndNoise && from.T != 0):
	case s.Variance == "fixed_large" || s.Variance == "fixed_large_log":
		c[2] = scale * math.Sqrt(large)
	default:
		c[2] = scale * math.Sqrt(small)
	}
}

// ddpm is the step that clips or scales the noise value by value.
type ddpm struct {
	DDPM
	d, z, v  *gpu.Tensor
	h        History
	at       [1]diffusion.Point
	from, to []diffusion.Point // of each image
	c        []float64
}

func (*ddpm) ownLevels() {}

func (s *ddpm) Step(e *Eval, x *gpu.Tensor, g *diffusion.Grid, i int) error {
	from, to, err := e.levelsOn(x, g, i, s.from, s.to)
	if err != nil {
		return err
	}
	switch {
	case s.v == nil:
		err = e.askOn(s.d, x, from)
	case len(from) == 1:
		err = e.askVariance(s.d, s.v, x, e.count(from[0]))
	default:
		err = e.askVariance(s.d, s.v, x, e.countEach(from))
	}
	if err != nil {
		return err
	}
	if at, ok := ops.Finite(s.d); !ok {
		return e.notFinite(from[at/(s.d.Len()/len(from))], s.d, at)
	}
	if s.Clip > 0 {
		ops.Clamp(s.d, s.d, -s.Clip, s.Clip)
	}
	s.h = History{At: s.at[:], Step: i, Steps: len(g.Steps)}
	c := s.c[:3*len(from)]
	clear(c)
	noise := false
	for b, p := range from {
		s.at[0], s.h.To = p, to[b]
		row := c[3*b : 3*b+3]
		s.Coeffs(row, &s.h)
		if s.v != nil && to[b].B > 0 {
			row[2] = math.Hypot(to[b].A, to[b].B) // scaleNoise has the rest
		}
		noise = noise || row[2] != 0
	}
	if err := e.incrementOn(s.z, from, to); err != nil {
		return err
	}
	if !noise {
		for b := range from {
			c[2*b], c[2*b+1] = c[3*b], c[3*b+1]
		}
		return e.updateOn(from, s.d, x, c[:2*len(from)], x, s.d)
	}
	if s.v != nil {
		if err := s.scaleNoise(e, from, to); err != nil {
			return err
		}
	}
	return e.updateOn(from, s.d, x, c, x, s.d, s.z)
}

// scaleNoise multiplies z by √v of each value, by way of the host.
func (s *ddpm) scaleNoise(e *Eval, from, to []diffusion.Point) error {
	const least = 1e-20
	var lo, hi float64
	factor := func(o float64) float64 {
		if s.Variance == "learned" {
			return math.Sqrt(max(o, least))
		}
		f := (1 + o) / 2
		return math.Exp((f*hi + (1-f)*lo) / 2)
	}
	size := s.v.Len() / len(from)
	if at, ok := ops.Finite(s.v); !ok {
		return e.notFinite(from[at/size], s.v, at)
	}
	z, v := s.z.To(gpu.CPU()), s.v.To(gpu.CPU())
	if err := s.z.Device().Err(); err != nil {
		return err
	}
	for i := range z.Len() {
		if i%size == 0 {
			small, large := variances(from[i/size], to[i/size])
			lo, hi = math.Log(max(small, least)), math.Log(large)
		}
		if z.Double() {
			z.F64()[i] *= factor(v.F64()[i])
		} else {
			z.F32()[i] *= float32(factor(float64(v.F32()[i])))
		}
	}
	if z != s.z {
		s.z.Copy(z)
	}
	return nil
}

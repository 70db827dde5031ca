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
	st := &ddpm{DDPM: s, d: like.Like(), z: like.Like()}
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
	d, z, v *gpu.Tensor
	h       History
	at      [1]diffusion.Point
	c       [3]float64
}

func (s *ddpm) Step(e *Eval, x *gpu.Tensor, g *diffusion.Grid, i int) error {
	from, to := g.Steps[i].From, g.Steps[i].To
	var err error
	if s.v != nil {
		err = e.askVariance(s.d, s.v, x, from)
	} else {
		err = e.ask(s.d, x, from)
	}
	if err != nil {
		return err
	}
	if at, ok := ops.Finite(s.d); !ok {
		return e.notFinite(from, s.d, at)
	}
	if s.Clip > 0 {
		ops.Clamp(s.d, s.d, -s.Clip, s.Clip)
	}
	s.at[0] = from
	s.h = History{At: s.at[:], To: to, Step: i, Steps: len(g.Steps)}
	clear(s.c[:])
	s.Coeffs(s.c[:], &s.h)
	if err := e.Increment(s.z, from, to, 1); err != nil {
		return err
	}
	if s.v != nil && to.B > 0 {
		if err := s.scaleNoise(e, from, to); err != nil {
			return err
		}
		s.c[2] = math.Hypot(to.A, to.B)
	}
	if s.c[2] == 0 {
		return e.update(from, s.d, x, s.c[:2], x, s.d)
	}
	return e.update(from, s.d, x, s.c[:], x, s.d, s.z)
}

// scaleNoise multiplies z by √v of each value, by way of the host.
func (s *ddpm) scaleNoise(e *Eval, from, to diffusion.Point) error {
	const least = 1e-20
	small, large := variances(from, to)
	lo, hi := math.Log(max(small, least)), math.Log(large)
	factor := func(o float64) float64 {
		if s.Variance == "learned" {
			return math.Sqrt(max(o, least))
		}
		f := (1 + o) / 2
		return math.Exp((f*hi + (1-f)*lo) / 2)
	}
	if at, ok := ops.Finite(s.v); !ok {
		return e.notFinite(from, s.v, at)
	}
	z, v := s.z.To(gpu.CPU()), s.v.To(gpu.CPU())
	if err := s.z.Device().Err(); err != nil {
		return err
	}
	for i := range z.Len() {
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

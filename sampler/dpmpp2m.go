package sampler

import (
	"math"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
)

// DPMpp2M is the second-order multistep DPM-Solver++ (Lu et al. 2022,
// "DPM-Solver++", algorithm 2). With λ = ln(A/B), h = λ'-λ, h₋ the previous
// step's, D and D₋ the denoised x of this step and the previous one:
//
//	x' = (B'/B)·x - A'·expm1(-h)·D + c·(D - D₋)
//	c  = -A'·expm1(-h)·h/(2h₋)               midpoint form
//	c  = A'·(expm1(-h)/h + 1)·h/h₋           Heun form (the Taylor expansion's)
//
// The first step, and a step to zero noise, are of first order (DDIM).
type DPMpp2M struct {
	HeunForm   bool
	LowerFinal bool // the last step is of first order even when it ends above zero
}

// Name is "dpm++2m" or "dpm++2m-heun".
func (s DPMpp2M) Name() string {
	base := "dpm++2m"
	if s.HeunForm {
		base += "-heun"
	}
	return name(base, "lower-final=0", s.LowerFinal)
}

// Check refuses a single step, which would be of first order.
func (s DPMpp2M) Check(g *diffusion.Grid) error { return needSteps(s, g, 2) }

// NFE is one per step.
func (DPMpp2M) NFE(g *diffusion.Grid) int { return len(g.Steps) }

// Start implements Solver.
func (s DPMpp2M) Start(like *gpu.Tensor) Stepper { return StartTable(s, like) }

// Keep is 2.
func (DPMpp2M) Keep() int { return 2 }

// Noisy is false.
func (DPMpp2M) Noisy() bool { return false }

// Coeffs implements Table.
func (s DPMpp2M) Coeffs(c []float64, h *History) {
	from, to := h.At[0], h.To
	c[0] = to.B / from.B
	c[1] = to.A - from.A*c[0] // = -A'·expm1(-h)
	if len(h.At) < 2 || to.B == 0 || s.LowerFinal && h.Last() {
		return
	}
	step := math.Log(from.Sigma() / to.Sigma())
	last := math.Log(h.At[1].Sigma() / from.Sigma()) // +Inf after pure noise: no extrapolation from there
	extra := c[1] * step / (2 * last)
	if s.HeunForm {
		extra = to.A * (math.Expm1(-step)/step + 1) * step / last
	}
	c[1] += extra
	c[2] = -extra
}

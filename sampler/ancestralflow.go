package sampler

import (
	"fmt"
	"math"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
)

// AncestralFlow is the ancestral Euler sampler in the form for rectified flows
// (k-diffusion's and LTX-Video's tools; own derivation): with the noise fraction
// τ = sigma/(1+sigma), the noiseless step ends below τ', at
//
//	τ_down = τ'·(1 + η·(τ'/τ - 1)),
//
// and noise brings the state back, rescaled so that data keeps its weight 1-τ':
//
//	x' = (1-τ')/(1-τ_down)·((τ_down/τ)·x + (1-τ_down/τ)·D) + √(τ'² - τ_down²(1-τ')²/(1-τ_down)²)·S_noise·z
//
// It keeps the law of the path at any η. So does DDIM (euler-a), which needs no
// rescaling because it counts noise by B/A; on a flow grid the two differ only
// in how much noise the same η means: DDIM's noiseless part ends at sigma_down =
// sigma'·√(1-η²(1-r²)), r = sigma'/sigma, here at sigma = τ_down/(1-τ_down), which
// is less noise where τ is near 1.
type AncestralFlow struct{ Eta, Noise float64 }

// Name is "euler-a-flow" with its options.
func (s AncestralFlow) Name() string {
	return name("euler-a-flow", "eta=1", s.Eta, "s-noise=1", s.Noise)
}

// Check refuses η outside [0,1] and a factor of the noise that is not above 0.
func (s AncestralFlow) Check(*diffusion.Grid) error { return checkAncestral(s, s.Eta, s.Noise) }

func checkAncestral(s Solver, eta, noise float64) error {
	if !(eta >= 0 && eta <= 1) {
		return fmt.Errorf("sampler: %s: eta %g; wanted 0 to 1", s.Name(), eta)
	}
	if !(noise > 0) || math.IsInf(noise, 1) {
		return fmt.Errorf("sampler: %s: s-noise %g; wanted a finite number above 0", s.Name(), noise)
	}
	return nil
}

// NFE is one per step.
func (AncestralFlow) NFE(g *diffusion.Grid) int { return len(g.Steps) }

// Start implements Solver.
func (s AncestralFlow) Start(like *gpu.Tensor) Stepper { return StartTable(s, like) }

// Keep is 1.
func (AncestralFlow) Keep() int { return 1 }

// Noisy is true unless η is 0.
func (s AncestralFlow) Noisy() bool { return s.Eta > 0 }

// Coeffs implements Table, for states of any scaling.
func (s AncestralFlow) Coeffs(c []float64, h *History) {
	from, to := h.At[0], h.To
	tau, tau1 := from.B/(from.A+from.B), to.B/(to.A+to.B)
	down := tau1 * (1 + s.Eta*(tau1/tau-1))
	k := (1 - tau1) / (1 - down)
	scale := to.A + to.B // of the state at the end, from the flow's
	c[0] = scale * k * down / tau / (from.A + from.B)
	c[1] = to.A - from.A*c[0]
	if s.Noisy() {
		c[2] = scale * math.Sqrt(max(0, tau1*tau1-down*down*k*k)) * s.Noise
	}
}

package sampler

import (
	"fmt"
	"math"
	"slices"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
)

// FlowSDE is Euler-Maruyama on the stochastic equation of a flow (Ma et al. 2024,
// "SiT", arXiv 2401.08740, eq. 4 and table 1), which has the flow's marginals
// for any diffusion w ≥ 0. From noise fraction τ to τ' < τ, Δ = τ-τ', with the
// velocity v = (x-D)/τ towards noise and the score s = -(x-(1-τ)·D)/τ²:
//
//	x' = x - Δ·v + Δ·w·s + √(2wΔ)·z
//
// and w, times Norm: sigma τ, constant 1, sbdm τ/(1-τ), decreasing (Norm·cos(π(1-τ))+1)²/4,
// increasing-decreasing sin²(πτ).
//
// The step to τ' = 0, where the score has no value, is the last step of that
// paper's code: "mean" leaves its noise out, "tweedie" is x' = D, which is also
// Euler's step of the flow. Both are meant for a last level well above 0: 0.04
// there. Under a diffusion that does not vanish with τ, as constant, mean takes
// out more noise than there is; take tweedie.
type FlowSDE struct {
	Diffusion string // "" is sigma
	Norm      float64
	Last      string // "mean" or "tweedie"; "" is mean
}

var flowDiffusions = []string{"sigma", "constant", "sbdm", "decreasing", "increasing-decreasing"}

func (s FlowSDE) diffusion() string {
	if s.Diffusion == "" {
		return flowDiffusions[0]
	}
	return s.Diffusion
}

func (s FlowSDE) last() string {
	if s.Last == "" {
		return "mean"
	}
	return s.Last
}

// Name is "flow-sde" with its options.
func (s FlowSDE) Name() string {
	return name("flow-sde", "diffusion=sigma", s.diffusion(), "norm=1", s.Norm, "last=mean", s.last())
}

// Check refuses unknown words, a negative norm, grids of another scaling than
// the flow's, and pure noise where the diffusion is infinite.
func (s FlowSDE) Check(g *diffusion.Grid) error {
	switch {
	case !slices.Contains(flowDiffusions, s.diffusion()):
		return fmt.Errorf("sampler: flow-sde: diffusion %q; there are %v", s.Diffusion, flowDiffusions)
	case s.last() != "mean" && s.last() != "tweedie":
		return fmt.Errorf("sampler: flow-sde: last step %q; there are mean and tweedie", s.Last)
	case !(s.Norm > 0) || math.IsInf(s.Norm, 1):
		return fmt.Errorf("sampler: flow-sde: norm %g; wanted a finite number above 0", s.Norm)
	case g == nil:
		return nil
	case g.Space != diffusion.FlowSpace:
		return fmt.Errorf("sampler: flow-sde: grid %s keeps states in %v scaling; wanted a flow's: take path flow, or sde-dpm++2m", g.Name, g.Space)
	case s.diffusion() == "sbdm" && len(g.Steps) > 0 && g.Steps[0].From.A == 0:
		return fmt.Errorf("sampler: flow-sde: grid %s starts at pure noise, where diffusion sbdm is infinite; take diffusion=sigma, or start lower", g.Name)
	}
	return nil
}

// NFE is one per step.
func (FlowSDE) NFE(g *diffusion.Grid) int { return len(g.Steps) }

// Start implements Solver.
func (s FlowSDE) Start(like *gpu.Tensor) Stepper { return StartTable(s, like) }

// Keep is 1.
func (FlowSDE) Keep() int { return 1 }

// Noisy is true.
func (FlowSDE) Noisy() bool { return true }

// w is the diffusion at noise fraction tau.
func (s FlowSDE) w(tau float64) float64 {
	switch s.diffusion() {
	case "constant":
		return s.Norm
	case "sbdm":
		return s.Norm * tau / (1 - tau)
	case "decreasing":
		c := s.Norm*math.Cos(math.Pi*(1-tau)) + 1
		return c * c / 4
	case "increasing-decreasing":
		r := math.Sin(math.Pi * tau)
		return s.Norm * r * r
	}
	return s.Norm * tau
}

// Coeffs implements Table.
func (s FlowSDE) Coeffs(c []float64, h *History) {
	tau, tau1 := h.At[0].B, h.To.B
	if tau1 == 0 && s.last() == "tweedie" {
		c[1] = 1
		return
	}
	step, w := tau-tau1, s.w(tau)
	score := step * w / (tau * tau)
	c[0] = tau1/tau - score
	c[1] = step/tau + score*(1-tau)
	if tau1 > 0 {
		c[2] = math.Sqrt(2 * w * step)
	}
}

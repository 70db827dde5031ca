package sampler

import (
	"cmp"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
)

// DEIS is the multistep exponential integrator of Zhang and Chen 2023 ("Fast
// Sampling of Diffusion Models with Exponential Integrator"), with the polynomial
// in ln ρ, ρ = B/A, as its users have it:
//
//	x'/A' = x/A + Σ_j c_j·N_j,   c_j = ∫_ρ^ρ' Π_{k≠j} ln(s/ρ_k)/ln(ρ_j/ρ_k) ds
//
// over the latest points, as many as the order. In λ = -ln ρ this is a polynomial
// under the weight e^-λ, so the integrals are those of DPM-Solver: DEIS of second
// order is its Heun form, of third order its third with the right coefficient.
// (With the polynomial in ρ itself DEIS is LMS; with one point, DDIM.)
//
// The first step is of first order, the second at most of second. PlainStart as
// for LMS.
type DEIS struct {
	onePerStep
	Order      int // 1 to 3; 0 means 3
	PlainStart bool
	LowerFinal LowerFinal
}

func (s DEIS) order() int { return cmp.Or(s.Order, 3) }

// Name is "deis" with its options.
func (s DEIS) Name() string {
	return name("deis", "order=3|2|1", s.order(), startOption, start(s.PlainStart), lowerShort, s.LowerFinal.String())
}

// Check refuses other orders, and fewer steps than the order.
func (s DEIS) Check(g *diffusion.Grid) error {
	return needOrder(s, g, s.order(), 1, 3)
}

// Start implements Solver.
func (s DEIS) Start(like *gpu.Tensor) Stepper { return StartTable(s, like) }

// Keep is the order.
func (s DEIS) Keep() int { return s.order() }

// KeepsNoise implements NoiseTable.
func (DEIS) KeepsNoise() bool { return true }

// Coeffs implements Table.
func (s DEIS) Coeffs(c []float64, h *History) {
	order := s.LowerFinal.limit(h.order(s.order()), h)
	if h.To.B == 0 { // ln ρ is infinite there
		order = 1
	}
	w := weights{1}
	if order > 1 {
		var r [maxWeights]float64
		w.exponential(h, order, true)
		w.interpolate(h.logNodes(r[:], order))
	}
	w.step(c, h, order, true)
	if h.Step == 1 && s.order() > 2 && !s.PlainStart {
		first := h.before()
		mendStart(c, h, first.ramp(true), true)
	}
}

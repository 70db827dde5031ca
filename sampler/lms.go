package sampler

import (
	"cmp"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
)

// LMS is the linear multistep method of Adams and Bashforth with steps of any
// length on dx/dσ = N, for y = x/A and σ = B/A (K. Crowson's k-diffusion; the
// ρAB variant of Zhang and Chen 2023, "DEIS"):
//
//	y' = y + Σ_j c_j·N_j,   c_j = ∫_σ^σ' Π_{k≠j} (s - σ_k)/(σ_j - σ_k) ds
//
// over the latest points, as many as the order. The integrals are exact here: the
// c_j/(σ'-σ) solve a Vandermonde system whose right side is 1, 1/2, 1/3, …
//
// The first step is of first order, the second of second, and so on. The error
// of the first alone limits the whole method's order to 2, however high that of
// its later steps; unless PlainStart asks for just that, the evaluation at the
// first step's end mends it, N_0 giving way to the trapezoid rule's mean, and the
// order is 3 with steps of third and fourth.
type LMS struct {
	onePerStep
	Order      int // of the steps, 1 to 4; 0 means 4
	PlainStart bool
}

func (s LMS) order() int { return cmp.Or(s.Order, 4) }

// Name is "lms" with its options.
func (s LMS) Name() string {
	return name("lms", "order=4|3|2|1", s.order(), startOption, start(s.PlainStart))
}

// Check refuses other orders, and fewer steps than the order.
func (s LMS) Check(g *diffusion.Grid) error {
	return needOrder(s, g, s.order(), 1, 4)
}

// Start implements Solver.
func (s LMS) Start(like *gpu.Tensor) Stepper { return StartTable(s, like) }

// Keep is the order.
func (s LMS) Keep() int { return s.order() }

// KeepsNoise implements NoiseTable.
func (LMS) KeepsNoise() bool { return true }

// Coeffs implements Table.
func (s LMS) Coeffs(c []float64, h *History) {
	order := h.order(s.order())
	var w weights
	var r [maxWeights]float64
	w.uniform(order)
	w.interpolate(h.nodes(r[:], order))
	w.step(c, h, order, true)
	if h.Step == 1 && s.order() > 2 && !s.PlainStart {
		mendStart(c, h, 0.5, true)
	}
}

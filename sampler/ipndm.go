package sampler

import (
	"cmp"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
)

// IPNDM is the improved pseudo linear multistep method (Zhang and Chen 2023,
// "DEIS"): that of Liu et al. 2022 ("Pseudo Numerical Methods for Diffusion Models
// on Manifolds") whose first steps are of lower order,
// instead of a start that costs evaluations. A step is DDIM's with the noise
//
//	N_0
//	(3·N_0 - N_1)/2
//	(23·N_0 - 16·N_1 + 5·N_2)/12
//	(55·N_0 - 59·N_1 + 37·N_2 - 9·N_3)/24
//
// of as many points as the order. These are the weights of Adams and Bashforth for
// steps of one length and a mean over time of one weight; DDIM's step has neither,
// so that from two points on every variant is of second order (as measured, and as
// Liu et al. prove for theirs). LMS and DEIS have the weights of the steps at hand.
type IPNDM struct {
	onePerStep
	Order int // points, 1 to 4; 0 means 4
}

func (s IPNDM) order() int { return cmp.Or(s.Order, 4) }

// Name is "ipndm" with its order.
func (s IPNDM) Name() string { return name("ipndm", "order=4|3|2|1", s.order()) }

// Check refuses other orders, and fewer steps than the order.
func (s IPNDM) Check(g *diffusion.Grid) error {
	return needOrder(s, g, s.order(), 1, 4)
}

// Start implements Solver.
func (s IPNDM) Start(like *gpu.Tensor) Stepper { return StartTable(s, like) }

// Keep is the order.
func (s IPNDM) Keep() int { return s.order() }

// KeepsNoise implements NoiseTable.
func (IPNDM) KeepsNoise() bool { return true }

var adamsBashforth = [...]weights{
	{1},
	{3. / 2, -1. / 2},
	{23. / 12, -16. / 12, 5. / 12},
	{55. / 24, -59. / 24, 37. / 24, -9. / 24},
}

// Coeffs implements Table.
func (s IPNDM) Coeffs(c []float64, h *History) {
	order := h.order(s.order())
	adamsBashforth[order-1].step(c, h, order, true)
}

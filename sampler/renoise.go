package sampler

import (
	"fmt"
	"math"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
)

// Renoise denoises all the way and noises up again: the multistep sampler of
// consistency models (Song et al. 2023, arXiv 2303.01469, algorithm 1), and on a
// flow grid the stochastic sampler of flow models, x' = (1-τ')·D + τ'·z:
//
//	x' = A'·(D + √(max(0, sigma'² - Least²))·z)
//
// D of a consistency model is a sample at noise Least, the least it was trained
// with; for others Least is 0. The law is right where D is such a sample, as of
// a consistency model. Of an ordinary denoiser, whose D is the mean of all that
// x may have been, the samples get too narrow, the more so the more steps.
type Renoise struct {
	Least float64
	Flow  bool // its name: flow-renoise, where Least is 0
}

// Name is "consistency" or "flow-renoise" with its options.
func (s Renoise) Name() string {
	if s.Flow {
		return "flow-renoise"
	}
	return name("consistency", "sigma-min=0.002", s.Least)
}

// Check refuses a least noise level that is not a level of noise.
func (s Renoise) Check(*diffusion.Grid) error {
	if !(s.Least >= 0) || math.IsInf(s.Least, 1) {
		return fmt.Errorf("sampler: %s: sigma-min %g; wanted the model's least sigma, 0 or above", s.Name(), s.Least)
	}
	return nil
}

// NFE is one per step.
func (Renoise) NFE(g *diffusion.Grid) int { return len(g.Steps) }

// Start implements Solver.
func (s Renoise) Start(like *gpu.Tensor) Stepper { return StartTable(s, like) }

// Keep is 1.
func (Renoise) Keep() int { return 1 }

// Noisy is true.
func (Renoise) Noisy() bool { return true }

// Coeffs implements Table.
func (s Renoise) Coeffs(c []float64, h *History) {
	c[1], c[2] = h.To.A, h.To.B
	if s.Least > 0 {
		sigma := h.To.Sigma()
		c[2] = h.To.A * math.Sqrt(max(0, (sigma-s.Least)*(sigma+s.Least)))
	}
}

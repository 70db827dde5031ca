package sampler

import (
	"fmt"
	"math"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
)

// LCM is the sampler of latent consistency models (Luo et al. 2023, arXiv
// 2310.04378, algorithm 3): the consistency function made of a denoised D by its
// boundary conditions, then noise. At time t of the table, with u = Scaling·t,
//
//	x0 = c_skip·x + c_out·D,   c_skip = s²/(u²+s²),   c_out = u/√(u²+s²),   s = 0.5
//	x' = A'·x0 + B'·z
//
// on states of VP scaling. Only at t = 0, the least noise, does c_skip matter.
// Its grid is the rule "lcm", which visits the times that such models know.
type LCM struct{ Scaling float64 }

// Name is "lcm" with its options.
func (s LCM) Name() string { return name("lcm", "timestep-scaling=10", s.Scaling) }

// Check refuses a scaling that is not above 0, and grids off a VP path.
func (s LCM) Check(g *diffusion.Grid) error {
	if !(s.Scaling > 0) || math.IsInf(s.Scaling, 1) {
		return fmt.Errorf("sampler: lcm: timestep-scaling %g; wanted a finite number above 0", s.Scaling)
	}
	if g != nil && g.Space != diffusion.VPSpace {
		return fmt.Errorf("sampler: lcm: grid %s keeps states in %v scaling; wanted VP: take path vp, or consistency or flow-renoise", g.Name, g.Space)
	}
	return nil
}

// NFE is one per step.
func (LCM) NFE(g *diffusion.Grid) int { return len(g.Steps) }

// Start implements Solver.
func (s LCM) Start(like *gpu.Tensor) Stepper { return StartTable(s, like) }

// Keep is 1.
func (LCM) Keep() int { return 1 }

// Noisy is true.
func (LCM) Noisy() bool { return true }

// Coeffs implements Table.
func (s LCM) Coeffs(c []float64, h *History) {
	const data = 0.5
	u := s.Scaling * h.At[0].T
	c[0] = h.To.A * data * data / (u*u + data*data)
	c[1] = h.To.A * u / math.Hypot(u, data)
	c[2] = h.To.B
}

package sampler

import (
	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
)

// Euler is Euler's method on the probability-flow ODE dx/dτ = (x - D)/τ, with
// τ = sigma on x/A, or τ the noise fraction of the flow (Karras et al. 2022, eq.
// 4; Lipman et al. 2023):
//
//	x' = x + (τ'-τ)·(x - D)/τ
//
// In the points of a grid both read x' = (B'/B)·x + (A' - A·B'/B)·D, which is
// DDIM with η = 0: the scaling of the state changes nothing at first order.
type Euler struct{}

// Name is "euler".
func (Euler) Name() string { return "euler" }

// Check accepts every grid.
func (Euler) Check(*diffusion.Grid) error { return nil }

// Rises is true: the formula has no direction.
func (Euler) Rises() bool { return true }

// NFE is one per step.
func (Euler) NFE(g *diffusion.Grid) int { return len(g.Steps) }

// Start implements Solver.
func (s Euler) Start(like *gpu.Tensor) Stepper { return StartTable(s, like) }

// Keep is 1.
func (Euler) Keep() int { return 1 }

// Noisy is false.
func (Euler) Noisy() bool { return false }

// Coeffs implements Table.
func (Euler) Coeffs(c []float64, h *History) {
	c[0] = h.To.B / h.At[0].B
	c[1] = h.To.A - h.At[0].A*c[0]
}

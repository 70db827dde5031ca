package sampler

import (
	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
)

// DPM2 is the midpoint rule on dy/dσ = (y - D)/σ, y = x/A, with the middle taken
// in ln σ (k-diffusion's sampler of that name, on the equation of Karras et al.
// 2022). With σ_m = √(σσ'), r = σ_m/σ, y_m = r·y + (1-r)·D and D_m the
// denoised state there:
//
//	y' = y + (σ' - σ)/σ_m·(y_m - D_m)
//
// A step to zero, which has no middle, is Euler's.
type DPM2 struct{}

// Name is "dpm2".
func (DPM2) Name() string { return "dpm2" }

// Check refuses infinite noise, where steps in sigma have no length.
func (s DPM2) Check(g *diffusion.Grid) error { return finiteStart(s, g) }

// Rises is true: the formula has no direction.
func (DPM2) Rises() bool { return true }

// NFE is two per step, one for a step to zero.
func (DPM2) NFE(g *diffusion.Grid) int { return Heun{}.NFE(g) }

// Start implements Solver: the ancestral sampler of that name without noise.
func (DPM2) Start(like *gpu.Tensor) Stepper { return &ancestral2{d: like.Like(), m: like.Like()} }

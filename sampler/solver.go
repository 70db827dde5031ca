package sampler

import (
	"fmt"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
)

// Solver integrates from the first level of a grid to the last.
type Solver interface {
	// Name is the registry's name, with options that differ from the defaults.
	Name() string
	// Check refuses options out of range and, unless g is nil, grids that the
	// method cannot walk, with the reason.
	Check(g *diffusion.Grid) error
	// NFE is the exact number of evaluations of the denoiser on g, or Varies.
	NFE(g *diffusion.Grid) int
	// Start makes the memory for batches of like's shape and dtype.
	Start(like *gpu.Tensor) Stepper
}

// Stepper walks one batch at a time; step 0 forgets what came before.
type Stepper interface {
	// Step takes x in place from g.Steps[i].From to its To. Unless the solver's
	// NFE varies, it allocates nothing.
	Step(e *Eval, x *gpu.Tensor, g *diffusion.Grid, i int) error
}

// Varies is the NFE of a solver that decides on the way how often it evaluates;
// Result then says what every image took.
const Varies = -1

// Riser is a Solver that can also walk a rising grid, from data to noise.
type Riser interface {
	Solver
	// Rises tells whether it can, with its present options.
	Rises() bool
}

// needSteps refuses a grid of fewer steps than a multistep method's order, on
// which it would be a method of lower order under a wrong name.
func needSteps(s Solver, g *diffusion.Grid, order int) error {
	if g == nil || len(g.Steps) >= order {
		return nil
	}
	return fmt.Errorf("sampler: %s: grid %s has %d of the %d steps that its order needs; take more steps, or a solver of lower order (ddim)",
		s.Name(), g.Name, len(g.Steps), order)
}

// finiteStart refuses grids that start at infinite sigma.
func finiteStart(s Solver, g *diffusion.Grid) error {
	if g == nil || len(g.Steps) == 0 || g.Steps[0].From.A > 0 {
		return nil
	}
	return fmt.Errorf("sampler: %s: grid %s starts at infinite sigma, where its steps in sigma have no length; take a lower start, a flow path with heun, or ddim or dpm++2m", s.Name(), g.Name)
}

package sampler

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/ops"
)

// Law is a distribution whose probability-flow equation needs no network: a
// Gaussian has its solution in closed form, a mixture can be integrated. Its
// denoiser is the exact one.
type Law interface {
	PointDenoiser
	// Flow takes the states x of the batch, all of the marginal at from, in place to
	// the one at to along the equation. from may be pure noise.
	Flow(ctx context.Context, x *gpu.Tensor, from, to diffusion.Point, c Cond) error
	// Serves refuses samples of a shape, and conditions, that the law is not of.
	Serves(shape []int, c Cond) error
}

// Teleport is a solver whose first steps are those of a Law's flow, without an
// evaluation of the denoiser (Wang and Vastola 2024, "The Unreasonable
// Effectiveness of Gaussian Score Approximation for Diffusion Models and its
// Applications"): at high noise a trained score is nearly that of a Gaussian with
// the data's mean and covariance, of which the flow is known. The noise that a
// run starts from, and with it the picture that an image becomes, is that of the
// solver alone; NFE counts what the denoiser is asked and nothing else.
//
// The flow knows nothing of guidance or limits that the denoiser is wrapped in:
// they begin where it ends. A solver that draws noise begins to there as well.
type Teleport struct {
	Solver Solver
	Law    Law
	Skip   int // steps of the grid that the flow takes; 0 is the solver alone
}

// Name is the inner solver's, with how many steps it is spared.
func (s *Teleport) Name() string {
	return fmt.Sprintf("teleport(%s,skip=%d)", s.Solver.Name(), s.Skip)
}

// Check refuses to skip all steps, grids that rise, and what the inner solver
// refuses of the steps that remain.
func (s *Teleport) Check(g *diffusion.Grid) error {
	if s.Solver == nil || s.Law == nil {
		return fmt.Errorf("sampler: teleport: wanted a solver and a law")
	}
	if s.Skip < 0 {
		return fmt.Errorf("sampler: teleport: %d steps skipped; wanted 0 or more", s.Skip)
	}
	if g == nil {
		return s.Solver.Check(nil)
	}
	if g.Rising() {
		return fmt.Errorf("sampler: teleport: grid %s rises, and the flow starts from noise; take it without teleportation", g.Name)
	}
	if s.Skip >= len(g.Steps) {
		return fmt.Errorf("sampler: teleport: %d of the %d steps of grid %s skipped; wanted at least one left for the denoiser", s.Skip, len(g.Steps), g.Name)
	}
	return s.Solver.Check(g.After(s.Skip))
}

// NFE is the inner solver's on the steps that remain.
func (s *Teleport) NFE(g *diffusion.Grid) int { return s.Solver.NFE(g.After(s.Skip)) }

// Start implements Solver.
func (s *Teleport) Start(like *gpu.Tensor) Stepper {
	return &teleporting{Teleport: s, inner: s.Solver.Start(like)}
}

type teleporting struct {
	*Teleport
	inner      Stepper
	grid, left *diffusion.Grid // the present grid, and its part for the inner solver
}

func (s *teleporting) Step(e *Eval, x *gpu.Tensor, g *diffusion.Grid, i int) error {
	if g != s.grid {
		s.grid, s.left = g, g.After(s.Skip)
	}
	if i >= s.Skip {
		return s.inner.Step(e, x, s.left, i-s.Skip)
	}
	if i == 0 {
		if err := s.Law.Serves(x.Shape()[1:], e.cond); err != nil {
			return err
		}
	}
	from, to := g.Steps[i].From, g.Steps[i].To
	if err := s.Law.Flow(e.ctx, x, from, to, e.cond); err != nil {
		return fmt.Errorf("sampler: step %d: %w", i, err)
	}
	if at, ok := ops.Finite(x); !ok {
		err := e.notFinite(to, x, at)
		err.State = true
		return err
	}
	return nil
}

// boundedRules are the rules of diffusion.Build whose levels start at SigmaMax.
var boundedRules = []string{"karras", "exponential", "lu", "logsnr", "polyexponential", "beta"}

// TeleportGrid is a grid for Teleport with Skip 1: a step from the most noise of
// the path, or s.SigmaMax, to sigma, and from there s.Steps steps by the rule of s
// as if sigma were the most. It refuses a sigma outside the range and rules whose
// first level is not for the caller to say.
func TeleportGrid(p diffusion.Path, s diffusion.Spec, sigma float64) (*diffusion.Grid, error) {
	s.Rule = strings.ToLower(s.Rule)
	if !slices.Contains(boundedRules, s.Rule) {
		return nil, fmt.Errorf("sampler: teleport: grid %s does not start where it is told to; take karras, exponential, polyexponential or beta, or skip steps of this grid", s.Rule)
	}
	most, least := p.Range()
	start := diffusion.AtTime(p, most)
	if s.SigmaMax > 0 {
		start = diffusion.At(p, s.SigmaMax)
	}
	low := s.SigmaMin
	if low == 0 {
		low = p.Sigma(least)
	}
	if !(sigma < start.Sigma() && sigma > low) || math.IsNaN(sigma) {
		return nil, fmt.Errorf("sampler: teleport: to sigma %g, on a way from %g to %g; wanted a level between them", sigma, start.Sigma(), low)
	}
	s.SigmaMax = sigma
	rest, err := diffusion.Build(p, s)
	if err != nil {
		return nil, err
	}
	g := rest.From(start)
	g.Name = fmt.Sprintf("%s from sigma %.4g", rest.Name, sigma)
	g.Notes = nil // what they say of the start is not so
	return g, g.Check()
}

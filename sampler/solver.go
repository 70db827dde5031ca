package sampler

import (
	"context"
	"fmt"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/ops"
)

// Solver integrates from the first level of a grid to the last.
type Solver interface {
	// Name is the registry's name, with options that differ from the defaults.
	Name() string
	// Check refuses options out of range and, unless g is nil, grids that the
	// method cannot walk, with the reason.
	Check(g *diffusion.Grid) error
	// NFE is the exact number of evaluations of the denoiser on g.
	NFE(g *diffusion.Grid) int
	// Start makes the memory for batches of like's shape and dtype.
	Start(like *gpu.Tensor) Stepper
}

// Stepper walks one batch at a time; step 0 forgets what came before.
type Stepper interface {
	// Step takes x in place from g.Steps[i].From to its To. It allocates nothing.
	Step(e *Eval, x *gpu.Tensor, g *diffusion.Grid, i int) error
}

// Eval is what a step may ask for: evaluations of the denoiser, counted and
// checked, and noise.
type Eval struct {
	NFE int // evaluations so far in this batch

	ctx    context.Context
	den    Denoiser
	at     PointDenoiser // den, when it is one
	cond   Cond
	step   int
	first  int // index of the batch's first image
	points []diffusion.Point
	sigmas []float64
	scaled *gpu.Tensor
	noise  func(step int, z *gpu.Tensor)
}

// NewEval prepares evaluations of den for a batch of like's shape. noise fills
// z, of that shape, with normals for a step.
func NewEval(ctx context.Context, den Denoiser, like *gpu.Tensor, c Cond, noise func(step int, z *gpu.Tensor)) *Eval {
	n := like.Shape()[0]
	e := &Eval{ctx: ctx, den: den, cond: c, points: make([]diffusion.Point, n), sigmas: make([]float64, n), noise: noise}
	e.at, _ = den.(PointDenoiser)
	return e
}

// Denoise writes the denoised x, a state at point p, to out. It refuses an
// output that is not finite with a *NotFiniteError.
func (e *Eval) Denoise(out, x *gpu.Tensor, p diffusion.Point) error {
	if err := e.ask(out, x, p); err != nil {
		return err
	}
	if i, ok := ops.Finite(out); !ok {
		return e.notFinite(p, out, i)
	}
	return nil
}

func (e *Eval) notFinite(p diffusion.Point, x *gpu.Tensor, i int) *NotFiniteError {
	return &NotFiniteError{Step: e.step, Sigma: p.Sigma(), Image: e.first + i/(x.Len()/len(e.points))}
}

// update sets out to Σ_j c[j]·xs[j], where d, one of the xs, is what ask wrote
// for point p and nobody has looked at yet. The sum is not finite where d isn't,
// so this check costs no pass over memory. The error names d when it is to
// blame, else the state, which then has overflowed.
func (e *Eval) update(p diffusion.Point, d, out *gpu.Tensor, c []float64, xs ...*gpu.Tensor) error {
	if ops.LinCombFinite(out, c, xs...) {
		return nil
	}
	if i, ok := ops.Finite(d); !ok {
		return e.notFinite(p, d, i)
	}
	i, _ := ops.Finite(out)
	err := e.notFinite(p, out, i)
	err.State = true
	return err
}

// ask is Denoise without the check of the output.
func (e *Eval) ask(out, x *gpu.Tensor, p diffusion.Point) error {
	e.NFE++
	var err error
	switch {
	case e.at != nil:
		for i := range e.points {
			e.points[i] = p
		}
		err = e.at.DenoiseAt(e.ctx, out, x, e.points, e.cond)
	case p.A == 0:
		return fmt.Errorf("sampler: step %d: the denoiser takes x0 + sigma·n and cannot be asked at infinite noise; start the grid lower", e.step)
	default:
		sigma := p.Sigma()
		for i := range e.sigmas {
			e.sigmas[i] = sigma
		}
		if p.A != 1 {
			if e.scaled == nil {
				e.scaled = x.Like()
			}
			k := [1]float64{1 / p.A}
			ops.LinComb(e.scaled, k[:], x)
			x = e.scaled
		}
		err = e.den.Denoise(e.ctx, out, x, e.sigmas, e.cond)
	}
	return err
}

// Noise fills z with normals, each image's from its own stream.
func (e *Eval) Noise(z *gpu.Tensor) { e.noise(e.step, z) }

// NotFiniteError says that a denoiser returned NaN or an infinity.
type NotFiniteError struct {
	Step  int
	Sigma float64
	Image int  // the first image concerned
	State bool // the denoiser's output was finite, but the state made of it is not
}

func (e *NotFiniteError) Error() string {
	if e.State {
		return fmt.Sprintf("sampler: step %d, sigma %.6g: the state of image %d overflowed; the denoiser's output or the start is too large", e.Step, e.Sigma, e.Image)
	}
	return fmt.Sprintf("sampler: step %d, sigma %.6g: the denoiser returned NaN or an infinity for image %d; check its weights and the grid's range", e.Step, e.Sigma, e.Image)
}

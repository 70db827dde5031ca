package sampler

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/ops"
)

// Cond is what a denoiser may be conditioned on; the zero value means nothing.
type Cond struct {
	Classes []int                  // one per image, -1 for unconditional; nil when all are
	Inputs  map[string]*gpu.Tensor // [images, ...] each, by the network's names: texts, controls
	Others  []Cond                 // further conditions of the same images, for guidance by several
}

// of is the condition of images lo to hi.
func (c Cond) of(lo, hi int) Cond {
	if c.Classes != nil {
		c.Classes = c.Classes[lo:hi]
	}
	c.Inputs = maps.Clone(c.Inputs)
	for name, t := range c.Inputs {
		c.Inputs[name] = t.Rows(lo, hi)
	}
	c.Others = slices.Clone(c.Others)
	for i, o := range c.Others {
		c.Others[i] = o.of(lo, hi)
	}
	return c
}

// pick is the condition of the images rows.
func (c Cond) pick(rows []int) Cond {
	var out Cond
	for _, o := range c.Others {
		out.Others = append(out.Others, o.pick(rows))
	}
	for _, r := range rows {
		if c.Classes != nil {
			out.Classes = append(out.Classes, c.Classes[r])
		}
	}
	for name, t := range c.Inputs {
		if out.Inputs == nil {
			out.Inputs = map[string]*gpu.Tensor{}
		}
		out.Inputs[name] = picked(t, rows)
	}
	return out
}

// check refuses a condition of other than n images.
func (c Cond) check(n int) error {
	for name, t := range c.Inputs {
		if s := t.Shape(); len(s) == 0 || s[0] != n {
			return fmt.Errorf("sampler: input %q has shape %v for %d images; wanted [%d, ...]", name, s, n, n)
		}
	}
	if c.Classes != nil && len(c.Classes) != n {
		return fmt.Errorf("sampler: %d classes for %d images; wanted one each", len(c.Classes), n)
	}
	for _, o := range c.Others {
		if err := o.check(n); err != nil {
			return err
		}
	}
	return nil
}

// Denoiser estimates the clean images. Denoise writes to out the denoised x,
// where x[i] = x0 + sigma[i]·n in the variance-exploding scaling: x and out are
// [B, ...], of one dtype, and may not overlap; len(sigma) is B.
type Denoiser interface {
	Denoise(ctx context.Context, out, x *gpu.Tensor, sigma []float64, c Cond) error
}

// PointDenoiser is a Denoiser that also takes states in other scalings, x[i] =
// at[i].A·x0 + at[i].B·n, among them pure noise (A = 0). It reads A and B only:
// a network's time is its own function of B/A. Run prefers it, which spares a
// rescaling of the state.
type PointDenoiser interface {
	Denoiser
	DenoiseAt(ctx context.Context, out, x *gpu.Tensor, at []diffusion.Point, c Cond) error
}

// raw is a PointDenoiser that can say x0 as ax·x + af·f, for images that are all
// at one level. f is valid until it is asked again.
type raw interface {
	unconverted(ctx context.Context, x *gpu.Tensor, at []diffusion.Point, c Cond) (f *gpu.Tensor, ax, af float64, err error)
}

// Checker is implemented by denoisers that cannot serve every grid; Run asks
// before it starts.
type Checker interface {
	Check(g *diffusion.Grid) error
}

// checkGrid asks den, if it has anything to say.
func checkGrid(den Denoiser, g *diffusion.Grid) error {
	if c, ok := den.(Checker); ok {
		return c.Check(g)
	}
	return nil
}

// Coster is implemented by denoisers that ask their network more than once, or
// not at all. Cost is how often, for an image at p.
type Coster interface {
	Cost(p diffusion.Point) int
}

// Stepped is implemented by denoisers that want to know where a run stands. Run
// tells them before every step; step 0 begins a batch.
type Stepped interface {
	AtStep(g *diffusion.Grid, i int)
}

// tellStep tells den, if it wants to know.
func tellStep(den Denoiser, g *diffusion.Grid, i int) {
	if s, ok := den.(Stepped); ok {
		s.AtStep(g, i)
	}
}

// asker asks a denoiser in the form that it knows.
type asker struct {
	den    Denoiser
	at     PointDenoiser // den, when it is one
	raw    raw           // den, when it is one
	sigmas []float64
	scales []float64
	scaled *gpu.Tensor
}

func newAsker(den Denoiser) asker {
	at, _ := den.(PointDenoiser)
	r, _ := den.(raw)
	return asker{den: den, at: at, raw: r}
}

func (a *asker) ask(ctx context.Context, out, x *gpu.Tensor, at []diffusion.Point, c Cond) error {
	if a.at != nil {
		return a.at.DenoiseAt(ctx, out, x, at, c)
	}
	same := true
	a.sigmas, a.scales = a.sigmas[:0], a.scales[:0]
	for _, p := range at {
		if p.A == 0 {
			return fmt.Errorf("the denoiser takes x0 + sigma·n and cannot be asked at infinite noise; start the grid lower")
		}
		a.sigmas, a.scales = append(a.sigmas, p.Sigma()), append(a.scales, 1/p.A)
		same = same && p.A == 1
	}
	if !same {
		a.scaled = fitting(a.scaled, x)
		ops.LinCombRows(a.scaled, a.scales, x)
		x = a.scaled
	}
	return a.den.Denoise(ctx, out, x, a.sigmas, c)
}

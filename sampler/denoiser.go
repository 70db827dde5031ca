package sampler

import (
	"context"
	"maps"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
)

// Cond is what a denoiser may be conditioned on; the zero value means nothing.
type Cond struct {
	Classes []int                  // one per image, -1 for unconditional; nil when all are
	Inputs  map[string]*gpu.Tensor // [images, ...] each, by the network's names: texts, controls
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
	return c
}

// pick is the condition of the images rows.
func (c Cond) pick(rows []int) Cond {
	var out Cond
	for _, r := range rows {
		if c.Classes != nil {
			out.Classes = append(out.Classes, c.Classes[r])
		}
	}
	for name, t := range c.Inputs {
		if out.Inputs == nil {
			out.Inputs = map[string]*gpu.Tensor{}
		}
		o := t.Device().New(t.DType(), append([]int{len(rows)}, t.Shape()[1:]...)...)
		for i, r := range rows {
			o.Rows(i, i+1).Copy(t.Rows(r, r+1))
		}
		out.Inputs[name] = o
	}
	return out
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

// Checker is implemented by denoisers that cannot serve every grid; Run asks
// before it starts.
type Checker interface {
	Check(g *diffusion.Grid) error
}

// Coster is implemented by denoisers that ask their network more than once, or
// not at all. Cost is how often, for an image at p.
type Coster interface {
	Cost(p diffusion.Point) int
}

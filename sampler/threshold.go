package sampler

import (
	"context"
	"fmt"
	"math"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/ops"
)

// Limited is a denoiser whose answers are brought into the data's range [-1, 1],
// which guidance leaves. With Quantile 0 they are clipped; else each image is
// clipped to the Quantile of its own |x0|, at least 1 and at most Most, and
// divided by that (dynamic thresholding, Saharia et al. 2022, arXiv 2205.11487,
// with quantile 0.995). Thresholding needs float32 states.
type Limited struct {
	Den      Denoiser
	Quantile float64
	Most     float64 // 0 is no limit

	den asker
}

// Check implements Checker.
func (d *Limited) Check(g *diffusion.Grid) error {
	if !(d.Quantile >= 0 && d.Quantile <= 1) || d.Most != 0 && !(d.Most >= 1) {
		return fmt.Errorf("sampler: thresholding at quantile %g up to %g; wanted a quantile of 0 to 1 and a limit of at least 1", d.Quantile, d.Most)
	}
	return checkGrid(d.Den, g)
}

// AtStep implements Stepped.
func (d *Limited) AtStep(g *diffusion.Grid, i int) { tellStep(d.Den, g, i) }

// Cost implements Coster.
func (d *Limited) Cost(p diffusion.Point) int { return costOf(d.Den, p) }

// Denoise implements Denoiser.
func (d *Limited) Denoise(ctx context.Context, out, x *gpu.Tensor, sigma []float64, c Cond) error {
	return d.DenoiseAt(ctx, out, x, diffusion.VEPoints(sigma), c)
}

// DenoiseAt implements PointDenoiser. What is not finite stays so.
func (d *Limited) DenoiseAt(ctx context.Context, out, x *gpu.Tensor, at []diffusion.Point, c Cond) error {
	if d.den.den == nil {
		d.den = newAsker(d.Den)
	}
	if err := d.den.ask(ctx, out, x, at, c); err != nil {
		return err
	}
	if i, ok := ops.Finite(out); !ok { // a limit would hide it
		size := out.Len() / len(at)
		return &NotFiniteError{Sigma: at[i/size].Sigma(), Image: i / size}
	}
	switch {
	case d.Quantile == 0:
		ops.Clamp(out, out, -1, 1)
	case out.DType() != gpu.Float32:
		return fmt.Errorf("sampler: dynamic thresholding has no %v states; use float32", out.DType())
	default:
		most := math.Inf(1)
		if d.Most != 0 {
			most = d.Most
		}
		ops.DynamicThreshold(out, out, d.Quantile, 1, most)
	}
	return nil
}

// costOf is how often an evaluation of d at p asks its network.
func costOf(d Denoiser, p diffusion.Point) int {
	if c, ok := d.(Coster); ok {
		return c.Cost(p)
	}
	return 1
}

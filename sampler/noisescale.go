package sampler

import (
	"context"
	"fmt"
	"math"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/ops"
)

// ScaledNoise is a denoiser whose predicted noise is divided by By + Slope·i in step
// i of a run, i = 0 at the noisy end: epsilon scaling (Ning et al. 2024, arXiv
// 2308.15321), the other training-free remedy for exposure bias. With s that
// divisor, x = A·D + B·N and N' = N/s,
//
//	D' = (x - B·N')/A = D/s + (1 - 1/s)·x/A
//
// A divisor of 1 leaves every bit as it is.
type ScaledNoise struct {
	Den       Denoiser
	By, Slope float64

	den    asker
	step   int
	coeffs []float64
}

// Check refuses divisors that are not above 0, and grids that start at infinite
// noise, where D' would be.
func (d *ScaledNoise) Check(g *diffusion.Grid) error {
	last := d.By + d.Slope*float64(len(g.Steps)-1)
	if !(d.By > 0) || !(last > 0) || math.IsInf(d.By, 1) || math.IsInf(last, 1) {
		return fmt.Errorf("sampler: scaled noise: divided by %g at first and by %g in step %d; wanted numbers above 0", d.By, last, len(g.Steps)-1)
	}
	if g.Steps[0].From.A == 0 && d.By != 1 {
		return fmt.Errorf("sampler: scaled noise: grid %s starts at infinite noise, where there is no x0 of a scaled noise; start it lower", g.Name)
	}
	return checkGrid(d.Den, g)
}

// AtStep implements Stepped.
func (d *ScaledNoise) AtStep(g *diffusion.Grid, i int) {
	d.step = i
	tellStep(d.Den, g, i)
}

// Cost implements Coster.
func (d *ScaledNoise) Cost(p diffusion.Point) int { return costOf(d.Den, p) }

// Denoise implements Denoiser.
func (d *ScaledNoise) Denoise(ctx context.Context, out, x *gpu.Tensor, sigma []float64, c Cond) error {
	return d.DenoiseAt(ctx, out, x, diffusion.VEPoints(sigma), c)
}

// DenoiseAt implements PointDenoiser.
func (d *ScaledNoise) DenoiseAt(ctx context.Context, out, x *gpu.Tensor, at []diffusion.Point, c Cond) error {
	if d.den.den == nil {
		d.den = newAsker(d.Den)
	}
	if err := d.den.ask(ctx, out, x, at, c); err != nil {
		return err
	}
	by := d.By + d.Slope*float64(d.step)
	if by == 1 {
		return nil
	}
	d.coeffs = d.coeffs[:0]
	for _, p := range at {
		d.coeffs = append(d.coeffs, 1/by, (1-1/by)/p.A)
	}
	ops.LinCombRows(out, d.coeffs, out, x)
	return nil
}

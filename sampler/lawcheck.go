package sampler

import (
	"context"
	"fmt"
	"math"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/ops"
	"github.com/fidlab/fidlab/rng"
)

// LawError says that a denoiser is not of a law's data: of another range, say.
type LawError struct {
	Sigma float64 // where both were asked
	Off   float64 // how far the denoiser's mean answer lies from the law's, over the size of the law's mean
	// The denoiser's mean answer is about Gain times the law's mean plus Shift.
	Gain, Shift float64
}

func (e *LawError) Error() string {
	return fmt.Sprintf("sampler: teleport: at sigma %.4g the model answers about %.3g·mean %+.3g where the statistics' mean is, %.2g of its size away (at most %.2g is usual): the statistics seem to be of values in another range; fit them in the model's own",
		e.Sigma, e.Gain, e.Shift, e.Off, lawSlack)
}

const (
	lawSlack = 0.2 // of a mean's size
	lawDraws = 16  // of noise, over which answers are averaged
)

// CheckLaw compares a denoiser with a law at a high noise level, where all that
// either can say is near the mean of its data: on states A·mean + B·n the answers
// of both are averaged over 16 draws of n, and their distance must be at most 0.2
// of the size of the law's mean, or of a quarter of its spread where the mean is
// smaller than that. The law's own answer stands in for the mean itself, since at
// a finite noise a right denoiser follows n a little. The error is a *LawError
// when they differ. class is -1 for none; inputs are of one sample, as in Cond.
func CheckLaw(ctx context.Context, den Denoiser, law Law, p diffusion.Point, shape []int, class int, inputs map[string]*gpu.Tensor) error {
	c := Cond{}
	if class >= 0 {
		c.Classes = make([]int, lawDraws)
		for i := range c.Classes {
			c.Classes[i] = class
		}
	}
	for name, t := range inputs {
		if c.Inputs == nil {
			c.Inputs = map[string]*gpu.Tensor{}
		}
		all := gpu.CPU().New(t.DType(), append([]int{lawDraws}, t.Shape()[1:]...)...)
		for i := range lawDraws {
			all.Rows(i, i+1).Copy(t.Rows(0, 1).To(gpu.CPU()))
		}
		c.Inputs[name] = all
	}
	if err := law.Serves(shape, c); err != nil {
		return err
	}
	noise := gpu.CPU().Empty(append([]int{lawDraws}, shape...)...)
	ops.Normals(noise, ops.ImageNoise(0, 0, rng.Init))
	mean, err := answers(ctx, law, noise, pure, c)
	if err != nil {
		return err
	}
	x := noise.Like()
	for i, n := range noise.F32() {
		x.F32()[i] = float32(p.A*mean[i%len(mean)] + p.B*float64(n))
	}
	want, err := answers(ctx, law, x, p, c)
	if err != nil {
		return err
	}
	got, err := answers(ctx, den, x, p, c)
	if err != nil {
		return err
	}
	spread, err := lawSpread(ctx, law, noise, mean, c)
	if err != nil {
		return err
	}
	var off, size float64
	for j, m := range mean {
		got[j] += m - want[j] // what the denoiser says of the mean
		off += (got[j] - m) * (got[j] - m)
		size += m * m
	}
	e := &LawError{Sigma: p.Sigma(), Off: math.Sqrt(off / max(size, spread/16))}
	if e.Off <= lawSlack {
		return nil
	}
	e.Gain, e.Shift = line1(mean, got)
	return e
}

// pure is the point of pure noise.
var pure = diffusion.Point{A: 0, B: 1}

// answers is the mean over the batch of what a denoiser says of x at p.
func answers(ctx context.Context, den Denoiser, x *gpu.Tensor, p diffusion.Point, c Cond) ([]float64, error) {
	n := x.Shape()[0]
	at := make([]diffusion.Point, n)
	for i := range at {
		at[i] = p
	}
	out := x.Like()
	a := newAsker(den)
	if err := a.ask(ctx, out, x, at, c); err != nil {
		return nil, err
	}
	if i, ok := ops.Finite(out); !ok {
		return nil, &NotFiniteError{Sigma: p.Sigma(), Image: i / (out.Len() / n)}
	}
	mean := make([]float64, x.Len()/n)
	for i, v := range out.F32() {
		mean[i%len(mean)] += float64(v) / float64(n)
	}
	return mean, nil
}

// lawSpread is the mean squared distance of the law's samples from its mean.
func lawSpread(ctx context.Context, law Law, noise *gpu.Tensor, mean []float64, c Cond) (sum float64, err error) {
	x := noise.Like()
	x.Copy(noise)
	end := diffusion.Point{A: 1, B: 1e-3}
	if err := law.Flow(ctx, x, pure, end, c); err != nil {
		return 0, err
	}
	for i, v := range x.F32() {
		d := float64(v) - mean[i%len(mean)]
		sum += d * d / float64(noise.Shape()[0])
	}
	return sum, nil
}

// line1 fits y by gain·x + shift; without a spread of x the gain is 1.
func line1(x, y []float64) (gain, shift float64) {
	n := float64(len(x))
	var mx, my, xx, xy float64
	for i := range x {
		mx, my = mx+x[i]/n, my+y[i]/n
	}
	for i := range x {
		xx, xy = xx+(x[i]-mx)*(x[i]-mx), xy+(x[i]-mx)*(y[i]-my)
	}
	if gain = 1; xx > 0 {
		gain = xy / xx
	}
	return gain, my - gain*mx
}

package sampler

import (
	"context"
	"fmt"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/ops"
)

// Net is a network as it was trained: Forward writes to out its raw prediction
// for x, scaled as its path's Input says, at the path's times t, one per image.
type Net interface {
	Forward(ctx context.Context, out, x *gpu.Tensor, t []float64, c Cond) error
}

// Adapted is a Net under the convention of Denoiser.
type Adapted struct {
	net  Net
	path diffusion.Path
	pred diffusion.Pred

	raw    *gpu.Tensor // the net's answer, when it is not x0
	scaled *gpu.Tensor // the net's input, when its scaling is not the state's
	points []diffusion.Point
	times  []float64
	scale  []float64 // [B]
	coeffs []float64 // [B, 2]
}

// Adapt makes a denoiser of a network that predicts pred on path. This is the
// only place that knows of parametrisations: with (a, b) the scaling of the
// net's input at the state's noise level and k = a/A the rescaling of the state,
//
//	x0 = cx·k·x + cf·net(k·x, t),   (cx, cf) = pred.ToX0(a, b),   t = path.Time(sigma).
//
// It keeps scratch memory, so one Adapted serves one goroutine at a time.
func Adapt(net Net, path diffusion.Path, pred diffusion.Pred) *Adapted {
	return &Adapted{net: net, path: path, pred: pred}
}

// Check refuses grids on which the prediction says nothing about x0: eps at
// infinite noise.
func (d *Adapted) Check(g *diffusion.Grid) error {
	for i, s := range g.Steps {
		a, b := d.path.Input(s.From.Sigma())
		if _, _, err := d.pred.ToX0(a, b); err != nil {
			return fmt.Errorf("sampler: step %d of grid %s: %w", i, g.Name, err)
		}
	}
	return nil
}

// Denoise implements Denoiser.
func (d *Adapted) Denoise(ctx context.Context, out, x *gpu.Tensor, sigma []float64, c Cond) error {
	d.points = d.points[:0]
	for _, s := range sigma {
		d.points = append(d.points, diffusion.Point{A: 1, B: s})
	}
	return d.DenoiseAt(ctx, out, x, d.points, c)
}

// DenoiseAt implements PointDenoiser.
func (d *Adapted) DenoiseAt(ctx context.Context, out, x *gpu.Tensor, at []diffusion.Point, c Cond) error {
	mustBatch("Adapted", out, x, len(at))
	if d.pred == diffusion.PredX0 {
		_, _, err := d.forward(ctx, out, x, at, c)
		return err
	}
	d.raw = fitting(d.raw, x)
	in, _, err := d.forward(ctx, d.raw, x, at, c)
	if err != nil {
		return err
	}
	ops.LinCombRows(out, d.coeffs, in, d.raw)
	return nil
}

// forward asks the net and leaves in coeffs what makes x0 of its input and its
// answer, for each image; scale is the input's over x's.
func (d *Adapted) forward(ctx context.Context, out, x *gpu.Tensor, at []diffusion.Point, c Cond) (in *gpu.Tensor, scale float64, err error) {
	d.times, d.scale, d.coeffs = d.times[:0], d.scale[:0], d.coeffs[:0]
	same := true
	for _, p := range at {
		sigma := p.Sigma()
		a, b := d.path.Input(sigma)
		cx, cf, err := d.pred.ToX0(a, b)
		if err != nil {
			return nil, 0, err
		}
		k := 1.0
		if a != p.A || b != p.B {
			if k = b / p.B; p.A > p.B { // the larger of the two keeps its digits
				k = a / p.A
			}
			same = same && k == 1
		}
		d.times = append(d.times, d.path.Time(sigma))
		d.scale = append(d.scale, k)
		d.coeffs = append(d.coeffs, cx, cf)
	}
	in = x
	if !same {
		d.scaled = fitting(d.scaled, x)
		in = d.scaled
		ops.LinCombRows(in, d.scale, x)
	}
	return in, d.scale[0], d.net.Forward(ctx, out, in, d.times, c)
}

// unconverted implements raw: a solver's step that takes x0 = ax·x + af·f apart
// needs no pass over memory to make it.
func (d *Adapted) unconverted(ctx context.Context, x *gpu.Tensor, at []diffusion.Point, c Cond) (f *gpu.Tensor, ax, af float64, err error) {
	mustBatch("Adapted", x, x, len(at))
	d.raw = fitting(d.raw, x)
	f = d.raw
	_, scale, err := d.forward(ctx, f, x, at, c)
	if err != nil {
		return nil, 0, 0, err
	}
	return f, d.coeffs[0] * scale, d.coeffs[1], nil
}

// mustBatch panics unless x and out are [n, ...] of one shape and dtype.
func mustBatch(who string, out, x *gpu.Tensor, n int) {
	if s := x.Shape(); len(s) == 0 || s[0] != n || out.Len() != x.Len() || out.Double() != x.Double() {
		panic(fmt.Sprintf("sampler: %s: x is %v, out %v, and there are %d noise levels; want one shape and dtype, one level per image",
			who, x.Shape(), out.Shape(), n))
	}
}

// NetFunc makes a Net of a function that takes the parts of a condition, such as
// the method Forward of a model of package onnx.
type NetFunc func(ctx context.Context, out, x *gpu.Tensor, t []float64, classes []int, inputs map[string]*gpu.Tensor) error

// Forward calls f.
func (f NetFunc) Forward(ctx context.Context, out, x *gpu.Tensor, t []float64, c Cond) error {
	return f(ctx, out, x, t, c.Classes, c.Inputs)
}

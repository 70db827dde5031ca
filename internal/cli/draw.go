package cli

import (
	"context"
	"fmt"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/imageio"
	"github.com/fidlab/fidlab/sampler"
	"github.com/fidlab/fidlab/tensor"
)

// onSheet is how many samples the contact sheet shows.
const onSheet = 64

// maxKept bounds the values that are kept in memory for samples.npy.
const maxKept = 1 << 29

// drawSamples runs the sampler and writes every batch to d as it comes.
func drawSamples(ctx context.Context, a *app, o *sampleOptions, m *model, s sampler.Solver, g *diffusion.Grid, d *outDir, run *sampleRun) (seconds float64, err error) {
	opt := sampler.Options{
		Seed: o.seed, First: o.first, N: o.n, Batch: o.batch, Shape: m.shape, Double: o.precision == "fp64",
		Cond: sampler.Cond{Classes: inTurn(o.classes, o.n)},
	}
	if o.init != "" {
		if opt.Noise, err = readInit(o, m, run); err != nil {
			return 0, err
		}
	}
	var rec *sampler.Recorder
	if o.trajectory.path != "" {
		if rec, err = sampler.NewRecorder(g, opt); err != nil {
			return 0, usagef("--trajectory: %w", err)
		}
		opt.Trajectory = rec.Record
	}
	out := &sampleWriter{d: d, m: m, noGrid: o.noGrid}
	out.h, out.w, out.c, out.pictures = pictureShape(m.shape)
	out.keep = !out.pictures || o.npy
	if out.keep && o.n > maxKept/size(m.shape) {
		return 0, usagef("-n %d: samples.npy of shape %s each would not fit in memory; draw fewer at a time with --first", o.n, describe(m.shape))
	}
	opt.Each = out.batch
	p := a.progress("sampling "+m.name, "evaluations", -1)
	opt.Progress = func(done, total int) {
		p.SetTotal(total)
		p.Set(done)
	}
	r, err := sampler.Run(ctx, m.den, s, g, opt)
	seconds = p.End()
	if err != nil {
		return 0, err
	}
	run.NFE = r.NFE
	if err := out.finish(o.n); err != nil {
		return 0, err
	}
	if rec == nil {
		return seconds, nil
	}
	return seconds, tensor.WriteNPZ(o.trajectory.path, rec.Entries(), false, o.trajectory.options()...)
}

// inTurn repeats the classes over n samples; nil stays nil.
func inTurn(classes []int, n int) []int {
	if len(classes) == 0 {
		return nil
	}
	out := make([]int, n)
	for i := range out {
		out[i] = classes[i%len(classes)]
	}
	return out
}

func size(shape []int) int {
	n := 1
	for _, d := range shape {
		n *= d
	}
	return n
}

// sampleWriter writes samples as they are drawn.
type sampleWriter struct {
	d        *outDir
	m        *model
	pictures bool
	h, w, c  int
	noGrid   bool
	sheet    []*imageio.Image
	keep     bool // for samples.npy
	f32      []float32
	f64      []float64
}

func (s *sampleWriter) batch(first int, x *gpu.Tensor) error {
	n := x.Shape()[0]
	if s.keep {
		s.f32 = append(s.f32, x.F32()...)
		s.f64 = append(s.f64, x.F64()...)
	}
	if !s.pictures {
		return nil
	}
	v := values(x)
	per := len(v) / n
	for i := range n {
		m := toPicture(v[i*per:][:per], s.h, s.w, s.c, s.m.lo, s.m.hi)
		if err := writePNG(s.d.File(fmt.Sprintf("%06d.png", first+i)), m); err != nil {
			return err
		}
		if len(s.sheet) < onSheet {
			s.sheet = append(s.sheet, m)
		}
	}
	return nil
}

func (s *sampleWriter) finish(n int) error {
	if s.keep {
		shape := append([]int{n}, s.m.shape...)
		var all *tensor.Array
		if s.f64 != nil {
			all = tensor.FromF64(s.f64, shape...)
		} else {
			all = tensor.FromF32(s.f32, shape...)
		}
		if err := tensor.WriteNPYFile(s.d.File("samples.npy"), all); err != nil {
			return err
		}
	}
	if !s.pictures || s.noGrid {
		return nil
	}
	return writePNG(s.d.File("grid.png"), contactSheet(s.sheet))
}

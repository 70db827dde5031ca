package cli

import (
	"context"
	"maps"
	"path/filepath"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/sampler"
	"github.com/fidlab/fidlab/tensor"
)

// onSheet is how many samples the contact sheet shows.
const onSheet = 64

// drawing is everything that a run of fidlab sample needs.
type drawing struct {
	o    *sampleOptions
	m    *model
	den  sampler.Denoiser // m's, with guidance and limits
	s    sampler.Solver
	g    *diffusion.Grid
	kind *sampleKind
	opt  sampler.Options // of all samples
	rec  *sampler.Recorder
	film *film
	part int // samples that were there already
}

// watch hangs the recorders into the run.
func (d *drawing) watch(a *app) error {
	var err error
	var all []func(sampler.Event) error
	if d.o.trajectory.path != "" {
		if d.rec, err = sampler.NewRecorder(d.g, d.opt); err != nil {
			return usagef("--trajectory: %w", err)
		}
		all = append(all, d.rec.Record)
	}
	if d.o.film.path != "" {
		d.film = newFilm(d.kind, d.o.first, len(d.g.Steps))
		all = append(all, d.film.see)
	}
	if d.o.preview != "" {
		p := &preview{sampleKind: d.kind, path: d.o.preview, now: a.env.Now, steps: len(d.g.Steps)}
		all = append(all, p.see)
	}
	if all == nil {
		return nil
	}
	d.opt.Trajectory = func(e sampler.Event) error {
		for _, see := range all {
			if err := see(e); err != nil {
				return err
			}
		}
		return nil
	}
	return nil
}

// draw runs the sampler and hands every batch to out as it comes.
func (d *drawing) draw(ctx context.Context, a *app, out sampleSink) (seconds float64, nfe sampler.Count, err error) {
	opt := d.opt
	if d.part > 0 {
		opt.First, opt.N = opt.First+d.part, opt.N-d.part
		for _, t := range []**gpu.Tensor{&opt.Noise, &opt.Image, &opt.State} {
			if *t != nil {
				*t = (*t).Rows(d.part, d.kind.n)
			}
		}
		if opt.Cond.Classes != nil {
			opt.Cond.Classes = opt.Cond.Classes[d.part:]
		}
		opt.Cond.Inputs = maps.Clone(opt.Cond.Inputs)
		for name, t := range opt.Cond.Inputs {
			opt.Cond.Inputs[name] = t.Rows(d.part, d.kind.n)
		}
	}
	opt.Rescue = func(e sampler.Event) error { return d.rescue(a, e) }
	opt.Each = func(first int, x *gpu.Tensor) error {
		b := d.kind.batch(first, x)
		if err := x.Device().Err(); err != nil {
			return err
		}
		return out.put(b)
	}
	p := a.progress("sampling "+d.m.name, "evaluations", -1)
	opt.Progress = func(done, total int) {
		if total > 0 {
			p.SetTotal(total)
		}
		p.Set(done)
	}
	r, err := sampler.Run(ctx, d.den, d.s, d.g, opt)
	seconds = p.End()
	if err != nil {
		return 0, nfe, err
	}
	return seconds, r.Count, nil
}

// rescue writes the state before a step that failed, so that the fault can be looked at.
func (d *drawing) rescue(a *app, e sampler.Event) error {
	path := d.o.out.path
	if d.o.out.form() == "stdout" {
		path = "samples"
	}
	path = filepath.Clean(path) + ".failed.npz"
	shape := e.X.Shape()
	states := tensor.FromF64(values(e.X), shape...)
	err := tensor.WriteNPZ(path, []tensor.NPZEntry{
		{Name: "state", Array: states},
		{Name: "a", Array: tensor.FromF64([]float64{e.At.A})},
		{Name: "b", Array: tensor.FromF64([]float64{e.At.B})},
		{Name: "time", Array: tensor.FromF64([]float64{e.At.T})},
		{Name: "step", Array: tensor.FromI64([]int64{int64(e.Step)})},
		{Name: "first", Array: tensor.FromI64([]int64{int64(e.First)})},
	}, false, tensor.Overwrite)
	if err != nil {
		return err
	}
	a.say("%s: the state before the step that failed: [batch, sample], a·x0 + b·noise; sample %d is the first", path, e.First)
	return nil
}

// records writes what was recorded beside the samples.
func (d *drawing) records() error {
	if d.rec != nil {
		if err := tensor.WriteNPZ(d.o.trajectory.path, d.rec.Entries(), false, d.o.trajectory.options()...); err != nil {
			return err
		}
	}
	if d.film != nil {
		return d.film.write(d.o.film.path, d.o.film.options()...)
	}
	return nil
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

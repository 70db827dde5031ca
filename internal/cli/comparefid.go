package cli

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/fidlab/fidlab/fid"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/imageio"
	"github.com/fidlab/fidlab/sampler"
)

// maxPictures bounds the bytes of a set's pictures.
const maxPictures = 1 << 30

// pictureSet is a Source of pictures in memory.
type pictureSet struct {
	name   string
	images []*imageio.Image
}

func (s *pictureSet) Describe() string { return fmt.Sprintf("%s (%d images)", s.name, len(s.images)) }

func (s *pictureSet) Len() int { return len(s.images) }

func (s *pictureSet) Each(ctx context.Context, yield func(imageio.Item) error) error {
	for i, m := range s.images {
		if err := ctx.Err(); err != nil {
			return err
		}
		item := imageio.Item{Name: fmt.Sprintf("%s/%06d", s.name, i), Label: -1, Load: func() (*imageio.Image, error) { return m, nil }}
		if err := yield(item); err != nil {
			return err
		}
	}
	return nil
}

// measureFID fills the cells with the distance of their images to the reference
// set: the mean over the seeds, with Student's t.
func (r *comparison) measureFID(ctx context.Context, a *app, entry *modelEntry) error {
	o := r.o
	ref, err := a.openInput(ctx, o.ref, &o.x)
	if err != nil {
		return err
	}
	defer ref.close()
	m, err := r.open(ctx, a, entry)
	if err != nil {
		return err
	}
	h, w, _, ok := m.pictures()
	switch {
	case !ok:
		return usagef("model %s draws arrays of shape %s, no pictures: fid has nothing to look at; use --measure error", m.name, describe(m.shape))
	case o.n > maxPictures/(3*h*w):
		return usagef("-n %d: that many images of %s would not fit in memory; draw fewer, with more --seeds", o.n, describe(m.shape))
	}
	sized := ref.src
	if sized == nil { // what tells the pictures' size
		sized = &pictureSet{m.name, []*imageio.Image{{Width: w, Height: h, Pix: make([]uint8, 3*h*w)}}}
	}
	e, err := a.openFitting(ctx, &o.x, sized, ref)
	if err != nil {
		return err
	}
	if ref.src != nil {
		got, err := a.collect(ctx, ref, e, &o.x, keeping{interval: true})
		if err != nil {
			return err
		}
		a.sayCollected(ref.src, got)
	}
	r.ref, r.extractor = ref.stats, e.Info()
	least := math.Inf(1)
	var closest *fid.Stats
	var closestName string
	for _, c := range r.cells {
		first, err := r.score(ctx, a, c, e)
		if err != nil {
			return err
		}
		if c.value < least {
			least, closest, closestName = c.value, first, r.nameOf(c)
		}
	}
	if err := r.noteBias(ctx, a, closest, closestName); err != nil {
		return err
	}
	rate(r.rows, func(c, best *cell) [3]float64 { return powerRatio(c.sums, best.sums, 1, o.ciLevel) })
	return nil
}

// score draws and measures a cell's images; it returns the first seed's statistics.
func (r *comparison) score(ctx context.Context, a *app, c *cell, e fid.Extractor) (first *fid.Stats, err error) {
	o, name := r.o, r.nameOf(c)
	kind := kindOf(r.model, o.n)
	p := a.progress(name, "images", o.n*o.seeds)
	for s := range o.seeds {
		set := &pictureSet{name: name}
		den, err := r.denoiser(c.grid)
		if err != nil {
			p.End()
			return nil, err
		}
		opt := sampler.Options{Seed: o.seed + uint64(s), N: o.n, Shape: r.model.shape, Kernel: r.model.kernel, Cond: r.cond(0, o.n), Each: func(first int, x *gpu.Tensor) error {
			set.images = append(set.images, kind.batch(first, x).pictures...)
			p.Set(s*o.n + len(set.images))
			return nil
		}}
		res, err := sampler.Run(ctx, den, c.solver, c.grid, opt)
		if err != nil {
			p.End()
			return nil, err
		}
		for _, each := range res.Each {
			c.nfe += float64(each.NFE) / float64(o.n*o.seeds)
		}
		stats, _, err := fid.StatsOf(ctx, set, e, fid.CollectOptions{Batch: o.x.batch, Keep: s == 0, Version: version})
		if err != nil {
			p.End()
			return nil, ofImages(e, err)
		}
		if s == 0 {
			first = stats
		}
		got, err := fid.Compare(ctx, r.ref, stats, fid.Options{Force: o.x.force, Version: version})
		if err != nil {
			p.End()
			return nil, err
		}
		c.sums = append(c.sums, got.Metrics["fid"].Number())
		for _, n := range got.Notes {
			r.note(n)
		}
	}
	p.End()
	mean, half := fid.MeanInterval(c.sums, o.ciLevel)
	c.value, c.lo, c.hi = mean, max(0, mean-half), mean+half
	a.say("%s: FID %s over %s", name, withInterval(c), seedsText(o.seeds))
	return first, nil
}

// noteBias says by how much so few images raise every value.
func (r *comparison) noteBias(ctx context.Context, a *app, closest *fid.Stats, name string) error {
	if r.ref.Dim() >= wide {
		a.say("estimating by how much %d images raise the values", r.o.n)
	}
	ci, err := fid.ConfidenceInterval(ctx, r.ref, closest, fid.IntervalOptions{Level: r.o.ciLevel, Seed: r.o.seed})
	var refused *fid.NumericError
	switch {
	case errors.Is(err, fid.ErrNoFeatures), errors.As(err, &refused):
		r.note("few images raise every FID; by how much cannot be told without the feature vectors of both sets: compare with values of as many images only")
	case err != nil:
		return err
	case ci.AtN:
		r.note(fmt.Sprintf("%d images are too few for %d features: they raise every FID by %.3g or more (estimated on %s); compare with values of as many images only", r.o.n, r.ref.Dim(), ci.Bias, name))
	default:
		r.note(fmt.Sprintf("%d images raise every FID by about %.3g (estimated on %s); compare with values of as many images only", r.o.n, max(ci.Bias, 0), name))
	}
	return nil
}

// note adds a remark once.
func (r *comparison) note(text string) {
	if !slices.Contains(r.notes, text) {
		r.notes = append(r.notes, text)
	}
}

func seedsText(n int) string {
	if n == 1 {
		return "1 seed"
	}
	return fmt.Sprintf("%d seeds", n)
}

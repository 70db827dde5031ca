package cli

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"os"
	"runtime"
	"strconv"
	"strings"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/fid"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/imageio"
	"github.com/fidlab/fidlab/internal/cpu"
	"github.com/fidlab/fidlab/sampler"
	"github.com/fidlab/fidlab/sampler/search"
	"github.com/fidlab/fidlab/tensor"
)

// planSearch is a search that is ready to run.
type planSearch struct {
	o      *searchOptions
	m      *model
	images *search.Images
	space  search.Space[search.Choice]
	names  []string // of the layers
	set    search.Setting
	ref    string // what it is measured by
}

// prepare makes the space, the model's wrapping and the reference.
func (p *planSearch) prepare(ctx context.Context, a *app, solver sampler.Solver, levels *search.Levels) error {
	o, m := p.o, p.m
	den := m.den
	p.space = &search.Steps{T: levels.Len(), K: o.steps, Around: o.around, Radius: o.radius}
	if o.arch {
		layered, err := o.layered(m)
		if err != nil {
			return err
		}
		den, p.names = layered, layered.Layers()
		p.space = &search.Layers{T: levels.Len(), Names: p.names, Most: o.maxLayers, MaxSkip: o.maxSkip}
	}
	if err := p.space.Check(); err != nil {
		return usagef("%w", err)
	}
	first, err := levels.Grid(p.space.First()[0].Steps)
	if err != nil {
		return err
	}
	if o.unitStart && first.Space != diffusion.VPSpace {
		return usagef("--unit-start: path %s keeps no states in VP scaling; leave it out", p.set.Path)
	}
	if err := sampler.Walks(solver, first); err != nil {
		return usagef("%w", err)
	}
	if solver.NFE(first) == sampler.Varies {
		return usagef("--sampler %s: it decides itself how often it evaluates; wanted one whose steps are the grid's", solver.Name())
	}
	p.images = &search.Images{
		Den: den, Solver: solver, Levels: levels,
		Run: sampler.Options{N: o.n, Seed: o.s.Seed, Shape: m.shape, Kernel: m.kernel, UnitStart: o.unitStart},
		Cond: func(n int) sampler.Cond {
			c := sampler.Cond{Classes: inTurn(o.classes, n)}
			for name, t := range m.inputs {
				if c.Inputs == nil {
					c.Inputs = map[string]*gpu.Tensor{}
				}
				c.Inputs[name] = repeated(t, n)
			}
			return c
		},
		Wrap: func(d sampler.Denoiser) (sampler.Denoiser, error) {
			with := *m
			with.den = d
			return o.guide.wrap(&with, &o.net, gpu.CPU(), o.classes != nil, false, first)
		},
	}
	return p.reference(ctx, a)
}

// layered is the model in layers that can be left out.
func (o *searchOptions) layered(m *model) (sampler.Layered, error) {
	if l, ok := m.den.(sampler.Layered); ok {
		return l, nil
	}
	if m.layers == nil {
		return nil, usagef("--arch: model %s is opaque: no layer of it can be left out, as of networks in ONNX files; search the steps alone", m.name)
	}
	l, err := m.layers(o.layers)
	if err != nil {
		return nil, usagef("--arch: %w", err)
	}
	return l, nil
}

// reference reads the reference and says how samples are compared with it.
func (p *planSearch) reference(ctx context.Context, a *app) error {
	o, m := p.o, p.m
	kind := kindOf(m, o.n)
	if !kind.pictures {
		p.ref = "values"
		stats, err := o.valueStats(m)
		if err != nil {
			return err
		}
		p.images.Ref, err = fid.NewReference(stats)
		return err
	}
	ref, err := a.openInput(ctx, o.ref, &o.x)
	if err != nil {
		return err
	}
	defer ref.close()
	sized := ref.src
	if sized == nil {
		sized = &pictureSet{m.name, []*imageio.Image{blankPicture(kind)}}
	}
	e, err := a.openFitting(ctx, &o.x, sized, ref)
	if err != nil {
		return err
	}
	if ref.src != nil {
		got, err := a.collect(ctx, ref, e, &o.x, keeping{})
		if err != nil {
			return err
		}
		a.sayCollected(ref.src, got)
	}
	p.ref = e.Info().Name
	p.images.Features = func(ctx context.Context, first int, x *gpu.Tensor, dst []float32) ([]float32, error) {
		set := &pictureSet{m.name, kind.batch(first, x).pictures}
		_, err := fid.EachFeatures(ctx, set, e, fid.CollectOptions{Batch: o.x.batch}, func(_ *cpu.Worker, rows []float32) error {
			dst = append(dst, rows...)
			return nil
		})
		return dst, ofImages(e, err)
	}
	p.images.Ref, err = fid.NewReference(ref.stats)
	return err
}

// valueStats reads a reference of plain values of a model's size: statistics, or
// an array [n, shape of a sample] or [n,d].
func (o *searchOptions) valueStats(m *model) (*fid.Stats, error) {
	d := size(m.shape)
	if strings.HasSuffix(strings.ToLower(o.ref), ".npy") {
		x, err := tensor.ReadNPY(o.ref)
		if err != nil {
			return nil, &inputError{err}
		}
		if len(x.Shape) < 2 || size(x.Shape[1:]) != d {
			return nil, inputf("%s has shape %v, a sample of model %s %v; wanted [n, ...] of such values", o.ref, x.Shape, m.name, m.shape)
		}
		rows := make([]float32, x.Shape[0]*d)
		for i, v := range x.F64() {
			rows[i] = float32(v)
		}
		return fid.FromFeatures(rows, x.Shape[0], d)
	}
	if !strings.HasSuffix(strings.ToLower(o.ref), ".npz") {
		return nil, usagef("--ref %s: model %s draws values, no pictures; wanted statistics (.npz) or an array (.npy, [n, ...]) of such values", o.ref, m.name)
	}
	s, err := fid.ReadStats(o.ref)
	if err != nil {
		return nil, err
	}
	if s.Dim() != d {
		return nil, inputf("%s is of vectors of %d values, model %s draws %d; wanted a reference of the same", o.ref, s.Dim(), m.name, d)
	}
	if pr := s.Provenance; pr != nil && pr.Extractor.Name != "" && !o.x.force {
		return nil, inputf("%s was made by the extractor %s, samples of model %s are their own features; wanted their values (--force compares all the same)", o.ref, pr.Extractor.Name, m.name)
	}
	return s, nil
}

// run searches, ranks and writes the plan.
func (p *planSearch) run(ctx context.Context, a *app) error {
	o := p.o
	held, err := p.images.Held(o.heldSeed, o.rankN)
	if err != nil {
		return err
	}
	o.s.Budget, o.s.Now = o.budget, a.env.Now
	o.s.Identity = p.identity()
	total := o.s.Epochs * o.s.Population
	if o.s.Evaluations > 0 {
		total = min(total, o.s.Evaluations)
	}
	bar := a.progress("searching steps of "+p.m.name, "candidates", total)
	o.s.Progress = func(done int, _ float64) { bar.Set(done) }
	out, err := search.Evolve(ctx, p.space, p.images.Fitness, o.s)
	bar.End()
	var journal *search.JournalError
	if errors.As(err, &journal) {
		return &inputError{err}
	}
	if err != nil {
		return err
	}
	for i, e := range out.Epochs {
		a.say("epoch %d: best %.5g of %d candidates (%d mutants, %d crossings, %d random; %d known, %d repaired, %d failed)",
			i, e.Best, e.Evaluations, e.Mutants, e.Crosses, e.First+e.Random, e.Known, e.Repaired, e.Failed)
	}
	searched := out.Best.Fitness
	if err := search.Rank(ctx, p.space, out, o.rank, held.Fitness, o.s); err != nil {
		return err
	}
	memory := peakMemory()
	a.say("%d candidates in %.1f s, %.3g a second, %.0f MB of memory at most; ended by %s", out.Evaluations, out.Seconds, perSecond(out), memory/1e6, out.Ended)
	plan, err := search.NewPlan(out.Best.C, p.images.Levels, p.names, p.set)
	if err != nil {
		return err
	}
	if plan.Version = version; o.unitStart {
		plan.Start = search.UnitStart
	}
	plan.Record = &search.Record{
		Reference: o.ref, Features: p.ref, Seed: o.s.Seed, Evaluations: out.Evaluations,
		Search: search.Measured{Distance: out.Best.Fitness, N: o.n, Seed: o.s.Seed},
		Held:   &search.Measured{Distance: out.Best.Held, N: o.rankN, Seed: o.heldSeed},
	}
	if err := plan.Write(o.out.path, o.out.options()...); err != nil {
		return err
	}
	if a.json {
		finite(out.Curve) // -1 stands for infinity here too
		for i := range out.Epochs {
			if math.IsInf(out.Epochs[i].Best, 1) {
				out.Epochs[i].Best = -1
			}
		}
		return a.printJSON(searchResult{plan, out.Epochs, out.Curve, perSecond(out), memory, out.Seconds, out.Ended})
	}
	a.printf("%s\n", o.out.path)
	a.say("%s: %s at times %v: distance %.5g on %d samples of other noise (%.5g on the search's, whose best was %.5g)",
		o.out.path, p.set.Sampler, plan.Times, out.Best.Held, o.rankN, out.Best.Fitness, searched)
	return nil
}

// searchResult is what --json prints.
type searchResult struct {
	Plan    *search.Plan   `json:"plan"`
	Epochs  []search.Epoch `json:"epochs"`
	Curve   []float64      `json:"curve"`
	Rate    float64        `json:"candidates_per_second"`
	Memory  float64        `json:"peak_memory_bytes"`
	Seconds float64        `json:"seconds"`
	Ended   string         `json:"ended"`
}

// perSecond is the candidates of a second.
func perSecond(out *search.Outcome[search.Choice]) float64 {
	return float64(out.Evaluations) / math.Max(out.Seconds, 1e-9)
}

// identity is all that a candidate's distance depends on.
func (p *planSearch) identity() string {
	o := p.o
	h := sha256.New()
	fmt.Fprint(h, p.images.Ref.Stats().Mu, p.images.Ref.Stats().Covariance())
	return fmt.Sprintf("model %s, sampler %s, guidance %q, schedule %s, reference %s by %s %s of %s, %d samples of seed %d, ranked on %d of seed %d, classes %v, inputs %v, space %T %d %v %d %d %g %d, unit start %t",
		p.set.ModelHash, p.set.Sampler, p.set.Guidance, p.images.Levels.Hash(), o.ref, p.ref, o.x.preset, hex.EncodeToString(h.Sum(nil)), o.n, o.s.Seed, o.rankN, o.heldSeed, o.classes, o.net.inputs,
		p.space, o.steps, o.around, o.radius, o.maxLayers, o.maxSkip, len(p.names), o.unitStart)
}

// blankPicture tells a model's size.
func blankPicture(k *sampleKind) *imageio.Image {
	return &imageio.Image{Width: k.w, Height: k.h, Pix: make([]uint8, k.pixelBytes())}
}

// peakMemory is the most bytes that the process has had, as far as the system tells.
func peakMemory() float64 {
	b, err := os.ReadFile("/proc/self/status")
	if err == nil {
		for line := range strings.SplitSeq(string(b), "\n") {
			if kb, ok := strings.CutPrefix(line, "VmHWM:"); ok {
				if n, err := strconv.ParseFloat(strings.TrimSuffix(strings.TrimSpace(kb), " kB"), 64); err == nil {
					return 1024 * n
				}
			}
		}
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.Sys)
}

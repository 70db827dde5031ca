package cli

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/fid"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/imageio"
	"github.com/fidlab/fidlab/internal/cpu"
	"github.com/fidlab/fidlab/sampler"
	"github.com/fidlab/fidlab/sampler/search"
)

func init() { systemVerbs = append(systemVerbs, newAutoDiffusion) }

func newAutoDiffusion(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "autodiffusion VERB",
		Short:   "Search the steps of a sampler, and the layers that they can do without",
		Long:    "Search the steps that suit a model best, and the layers of its network that each\nof them can do without.",
		Example: "  fidlab system autodiffusion search --model mnist-gmm --steps 4 --ref mnist:test -n 500 -o plan.json",
		Args:    cobra.ArbitraryArgs,
		RunE:    needsVerb,
	}
	cmd.AddCommand(newPlanSearch(a))
	return cmd
}

// searchOptions are the flags of the search.
type searchOptions struct {
	model, sampler, path, ref string
	steps, n, rank, rankN     int
	heldSeed                  uint64
	classes                   []int
	around                    []int
	radius                    int
	arch                      bool
	maxLayers, layers         int
	maxSkip                   float64
	budget                    time.Duration
	s                         search.Options
	x                         extraction
	guide                     guideOptions
	net                       netOptions
	out                       target
	given                     func(flag string) bool
}

func newPlanSearch(a *app) *cobra.Command {
	var o searchOptions
	cmd := &cobra.Command{
		Use:   "search --model M --steps K --ref R -o PLAN.json",
		Short: "Find the K steps after which samples are nearest to a reference",
		Long: `Find the K steps, among the T times of a model, after which its samples are
nearest to a reference set, by an evolutionary search: every candidate draws -n
samples of one fixed noise, and their Fréchet distance decides. The best are
ranked again on other noise. fidlab sample --plan follows the file.

--arch also searches the layers that each step leaves out, within a budget of
layers that run in all steps together; it needs a network of named layers, which
gmm: has (--layers), and a network in an ONNX file has not.

R is as for fidlab fid. Samples that are no pictures are their own features; R is
then statistics (.npz) or vectors (.npy) of such values.`,
		Example: `  fidlab system autodiffusion search --model mnist-gmm --steps 4 --ref mnist:test -n 500 -o plan.json
  fidlab sample --model mnist-gmm --plan plan.json -n 64 -o digits/
  fidlab system autodiffusion search --model net.onnx --sampler dpm++2m --steps 5 --ref real.npz --journal five.jsonl --time 2h -o five.json
  fidlab system autodiffusion search --model gmm:toy.json --arch --layers 8 --max-layers 40 --ref toy.npz -o thin.json`,
		Args: nargs("no arguments", 0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error { return runPlanSearch(cmd.Context(), a, &o) },
	}
	f := cmd.Flags()
	o.given = f.Changed
	f.StringVar(&o.model, "model", "", "search for the model `M` (fidlab models lists them)")
	f.StringVar(&o.sampler, "sampler", "ddim", "search for the sampler `S` or S:option=value")
	f.IntVar(&o.steps, "steps", 0, "take `K` steps")
	f.StringVar(&o.path, "path", "", "choose among the times of path `P`; default: the model's, vp where it takes any")
	f.StringVar(&o.ref, "ref", "", "the reference set `R`")
	f.IntVarP(&o.n, "num", "n", 1000, "draw `N` samples by each candidate")
	f.Uint64Var(&o.s.Seed, "seed", 0, "draw candidates and noise from seed `S`")
	f.Uint64Var(&o.heldSeed, "held-seed", 1, "draw the noise of the second ranking from seed `S`")
	f.IntVar(&o.rank, "rank", 10, "rank the `N` best again, by other noise")
	f.IntVar(&o.rankN, "rank-num", 0, "on `N` samples each; 0 is four times -n")
	f.IntVar(&o.s.Epochs, "epochs", 0, "stop after `N` populations; 0 is 10, with --arch 15")
	f.IntVar(&o.s.Population, "population", 50, "of `N` candidates each")
	f.IntVar(&o.s.Parents, "parents", 10, "of which the `N` best so far are mutated and crossed")
	f.IntVar(&o.s.Evaluations, "evaluations", 0, "stop after `N` candidates; 0 is no limit")
	f.DurationVar(&o.budget, "time", 0, "begin no candidate after `T`, such as 90s or 2h; 0 is no limit")
	f.StringVar(&o.s.Journal, "journal", "", "keep every evaluation in `F.jsonl`, and go on from there if it is there")
	f.BoolVar(&o.s.Aimless, "random", false, "draw all candidates at random, to compare with")
	f.IntSliceVar(&o.around, "around", nil, "stay near the times `T,T`, one for each step, from the least noise")
	f.IntVar(&o.radius, "radius", 0, "by at most `N`; 0 is a hundredth of the times")
	f.BoolVar(&o.arch, "arch", false, "search the layers that each step leaves out too")
	f.IntVar(&o.maxLayers, "max-layers", 0, "let `N` layers run in all steps together (--arch)")
	f.Float64Var(&o.maxSkip, "max-skip", 0.1, "let a step leave out the share `X` of the layers (--arch)")
	f.IntVar(&o.layers, "layers", 8, "cut a gmm: model into `N` layers (--arch)")
	f.IntSliceVar(&o.classes, "class", nil, "draw class `C`, or several in turn (0,1,2)")
	o.guide.flags(f)
	o.net.flags(f)
	o.x.flags(cmd)
	o.out.flags(f, "the plan")
	f.SortFlags = false
	completes(cmd, "model", modelNames()...)
	completes(cmd, "sampler", samplerNames()...)
	return cmd
}

func (o *searchOptions) check() error {
	switch {
	case o.model == "":
		return usagef("want --model M; fidlab models lists them")
	case o.ref == "":
		return usagef("want --ref R, the reference set")
	case o.arch && o.maxLayers == 0:
		return usagef("--arch: want --max-layers N, the layers that may run in all steps together")
	case o.arch && o.steps != 0:
		return usagef("--steps %d: with --arch the budget of --max-layers says how many steps there are", o.steps)
	case !o.arch && o.steps < 1:
		return usagef("--steps %d: want at least 1", o.steps)
	case !o.arch && (o.maxLayers != 0 || o.given("max-skip") || o.given("layers")):
		return usagef("--max-layers, --max-skip and --layers are for --arch")
	case o.arch && o.around != nil:
		return usagef("--around is for a search over steps alone; leave out --arch")
	case o.n < 2 || o.n > 1e6 || o.rankN < 0 || o.rankN > 1e6:
		return usagef("-n %d, --rank-num %d: want 2 to 1000000 samples", o.n, o.rankN)
	case o.rank < 1:
		return usagef("--rank %d: want at least 1", o.rank)
	case o.heldSeed == o.s.Seed:
		return usagef("--held-seed %d is --seed: the second ranking needs noise that the search has not seen", o.heldSeed)
	case o.s.Population < 1 || o.s.Parents < 1 || o.s.Population < o.s.Parents:
		return usagef("--population %d, --parents %d: want at least 1, and no more parents than candidates", o.s.Population, o.s.Parents)
	case o.s.Epochs < 0 || o.s.Evaluations < 0 || o.budget < 0:
		return usagef("--epochs %d, --evaluations %d, --time %v: want limits above 0, or 0 for none", o.s.Epochs, o.s.Evaluations, o.budget)
	}
	if o.s.Epochs == 0 {
		if o.s.Epochs = 10; o.arch {
			o.s.Epochs = 15
		}
	}
	if o.rankN == 0 {
		o.rankN = 4 * o.n
	}
	if err := o.out.check(); err != nil {
		return err
	}
	return o.x.check()
}

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

func runPlanSearch(ctx context.Context, a *app, o *searchOptions) error {
	if err := o.check(); err != nil {
		return err
	}
	if _, err := a.useDevice(); err != nil {
		return err
	}
	solver, err := sampler.ByName(o.sampler)
	if err != nil {
		return usagef("--sampler: %w", err)
	}
	entry, err := findModel(o.model)
	if err != nil {
		return err
	}
	own, err := entry.path(o.model)
	if err != nil {
		return err
	}
	levels, pathName, err := o.levels(own)
	if err != nil {
		return err
	}
	m, err := entry.open(ctx, a, opening{o.model, max(o.n, o.rankN), o.classes, o.net})
	if err != nil {
		return err
	}
	defer m.done()
	p := &planSearch{o: o, m: m, set: search.Setting{
		Path: pathName, Prediction: m.pred, Guidance: o.guide.text(), Sampler: solver.Name(), Model: m.name, ModelHash: m.sha256,
	}}
	if err := p.prepare(ctx, a, solver, levels); err != nil {
		return err
	}
	return p.run(ctx, a)
}

// levels are the times to choose from.
func (o *searchOptions) levels(own diffusion.Path) (*search.Levels, string, error) {
	name := o.path
	if name == "" && anyPath(own) {
		name = "vp"
	}
	p := own
	if name != "" {
		var err error
		if p, err = diffusion.PathByName(name); err != nil {
			return nil, "", usagef("--path: %w", err)
		}
	} else {
		name = own.Name()
	}
	l, err := search.NewLevels(p, 0)
	return l, name, err
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
	if err := sampler.Walks(solver, first); err != nil {
		return usagef("%w", err)
	}
	if solver.NFE(first) == sampler.Varies {
		return usagef("--sampler %s: it decides itself how often it evaluates; wanted one whose steps are the grid's", solver.Name())
	}
	cond := sampler.Cond{Classes: inTurn(o.classes, o.n)}
	if len(m.inputs) > 0 {
		cond.Inputs = map[string]*gpu.Tensor{}
	}
	for name, t := range m.inputs {
		if t.Shape()[0] > 1 {
			return usagef("--input %s: the candidates draw %d samples and the second ranking %d: give one input for all, [1, ...]", name, o.n, o.rankN)
		}
		cond.Inputs[name] = repeated(t, max(o.n, o.rankN))
	}
	p.images = &search.Images{
		Den: den, Solver: solver, Levels: levels,
		Run: sampler.Options{N: o.n, Seed: o.s.Seed, Shape: m.shape, Cond: cond},
		Wrap: func(d sampler.Denoiser) (sampler.Denoiser, error) {
			with := *m
			with.den = d
			return o.guide.wrap(&with, &o.net, gpu.CPU(), o.classes != nil, first)
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
	ref, err := a.openInput(ctx, o.ref, o.x.skipBad)
	if err != nil {
		return err
	}
	defer ref.close()
	kind := kindOf(m, o.n)
	if !kind.pictures {
		p.ref = "values"
		if err := valuesFit(ref, o.x.force, size(m.shape), m.name); err != nil {
			return err
		}
		p.images.Ref, err = fid.NewReference(ref.stats)
		return err
	}
	why := o.x.choose(ref)
	sized := ref.src
	if sized == nil {
		sized = &pictureSet{m.name, blankPictures(kind, 1)}
	}
	e, err := a.openExtractor(ctx, &o.x, why, sized)
	if err != nil {
		return err
	}
	if err := fits(e, o.x.force, ref); err != nil {
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

// valuesFit refuses a reference that is not of plain values of a model's size.
func valuesFit(ref *input, force bool, d int, model string) error {
	if ref.stats == nil {
		return usagef("--ref %s: model %s draws values, no pictures; wanted statistics (.npz) or vectors (.npy, [n,%d]) of such values", ref.arg, model, d)
	}
	if got := ref.stats.Dim(); got != d {
		return inputf("%s has vectors of %d values, model %s draws %d; wanted a reference of the same", ref.arg, got, model, d)
	}
	if pr := ref.stats.Provenance; pr != nil && pr.Extractor.Name != "" && !force {
		return inputf("%s was made by the extractor %s, samples of model %s are their own features; wanted their values (--force compares all the same)", ref.arg, pr.Extractor.Name, model)
	}
	return nil
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
	plan.Version = version
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
	return fmt.Sprintf("model %s, sampler %s, guidance %q, schedule %s, reference %s by %s %s of %s, %d samples of seed %d, ranked on %d of seed %d, classes %v, inputs %v, space %T %d %v %d %d %g %d",
		p.set.ModelHash, p.set.Sampler, p.set.Guidance, p.images.Levels.Hash(), o.ref, p.ref, o.x.preset, hex.EncodeToString(h.Sum(nil)), o.n, o.s.Seed, o.rankN, o.heldSeed, o.classes, o.net.inputs,
		p.space, o.steps, o.around, o.radius, o.maxLayers, o.maxSkip, len(p.names))
}

// blankPictures are n pictures that tell a model's size.
func blankPictures(k *sampleKind, n int) []*imageio.Image {
	var out []*imageio.Image
	for range n {
		out = append(out, &imageio.Image{Width: k.w, Height: k.h, Pix: make([]uint8, k.pixelBytes())})
	}
	return out
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

package cli

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/fid"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/imageio"
	"github.com/fidlab/fidlab/report"
	"github.com/fidlab/fidlab/sampler"
)

func init() { systemVerbs = append(systemVerbs, newShiftSteps) }

func newShiftSteps(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "shiftsteps VERB",
		Aliases: []string{"time-shift"},
		Short:   "Time shift: tune its window and cutoff for a model",
		Long:    "Shift each image's time by its own variance (fidlab sample --time-shift). The window\nand the cutoff depend on model, sampler and steps: tune finds them.",
		Example: "  fidlab system shiftsteps tune --model unet.onnx --ref train.npz --data-variance 0.25 --steps 10",
		Args:    cobra.ArbitraryArgs,
		RunE:    needsVerb,
	}
	cmd.AddCommand(newShiftTune(a))
	return cmd
}

// shiftTune is what tune was asked for.
type shiftTune struct {
	sampleOptions
	ref              string
	modes            []string
	windows          []int
	cutoffs          []float64
	variance         float64
	seeds, tuneSeeds int
	x                extraction
}

func newShiftTune(a *app) *cobra.Command {
	var o shiftTune
	cmd := &cobra.Command{
		Use:   "tune --model M --ref R",
		Short: "Find the window and the cutoff of a time shift by FID",
		Long: `Find the window and the cutoff with which samples are nearest to the reference set:
FID of n samples for every pair and variant, all from the same noise. What was
best of each variant is then drawn again from seeds that it was not chosen on,
beside the sampler without a shift: that is what to expect of it, not the value
that it was chosen for.

The variant debiased needs the mean variance of a clean image's values: a mixture
knows its own, else it is that of the first 1000 pictures of R; it is printed,
and what --data-variance of fidlab sample takes.`,
		Example: `  fidlab system shiftsteps tune --model mnist-gmm --path vp --ref mnist:test --steps 10 -n 1000
  fidlab system shiftsteps tune --model unet.onnx --ref cifar.npz --data-variance 0.25 --sampler pndm --steps 10 --windows 4,10,20,40 --cutoffs 200,300,400`,
		Args: nargs("no arguments", 0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error { return runShiftTune(cmd.Context(), a, &o) },
	}
	f := cmd.Flags()
	f.StringVar(&o.model, "model", "", "sample the model `M` (fidlab models lists them)")
	f.StringVar(&o.ref, "ref", "", "the reference set `INPUT`, as REF of fidlab fid")
	f.StringVar(&o.sampler, "sampler", "ddim", "use the sampler `S` or S:option=value, one with levels of single images")
	f.IntVar(&o.steps, "steps", 10, "take `N` steps")
	f.StringVar(&o.grid, "grid", "leading", "place the noise levels by `RULE`")
	o.flags(cmd)
	f.StringSliceVar(&o.modes, "variants", []string{"paper", "debiased", "repo-target"}, "tune the variants `V,V`: "+strings.Join(tunable(), ", "))
	f.IntSliceVar(&o.windows, "windows", []int{4, 10, 20, 40}, "try the windows `W,W`")
	f.Float64SliceVar(&o.cutoffs, "cutoffs", []float64{200, 300, 400}, "try the cutoffs `T,T`")
	f.Float64Var(&o.variance, "data-variance", 0, "mean variance `V` of a clean image's values; default: the mixture's own, or that of the pictures of --ref")
	o.named.flag(f, &o.classes)
	f.StringArrayVar(&o.net.inputs, "input", nil, "give a network its input `NAME=F.npy`, as fidlab sample does")
	f.StringVar(&o.net.library, "onnxruntime", "", "open the onnxruntime of `LIB`, its file or folder")
	f.IntVarP(&o.n, "num", "n", 1000, "draw `K` samples with each setting and seed")
	f.IntVar(&o.tuneSeeds, "tune-seeds", 1, "choose on `N` seeds")
	f.IntVar(&o.seeds, "seeds", 3, "and measure what was chosen on `N` others")
	f.Uint64Var(&o.seed, "seed", 0, "the first of these seeds is `S`")
	o.x.flags(cmd)
	f.SortFlags = false
	completes(cmd, "variants", tunable()...)
	completes(cmd, "grid", gridRules()...)
	return cmd
}

// tunable are the variants with a window and a cutoff.
func tunable() []string {
	return slices.DeleteFunc(sampler.ShiftModes(), func(m string) bool {
		return m == string(sampler.ShiftNone) || m == string(sampler.ShiftConstant)
	})
}

func (o *shiftTune) check() error {
	switch {
	case o.model == "":
		return usagef("want --model M; fidlab models lists them")
	case o.ref == "":
		return usagef("want --ref INPUT, the set to be near to, such as mnist:test")
	case o.n < 2 || o.n > 1e6:
		return usagef("-n %d: want 2 to 1000000 samples", o.n)
	case o.tuneSeeds < 1 || o.seeds < 1 || o.tuneSeeds+o.seeds > 1000:
		return usagef("--tune-seeds %d, --seeds %d: want at least 1 of each", o.tuneSeeds, o.seeds)
	case len(o.modes) == 0 || len(o.windows) == 0 || len(o.cutoffs) == 0:
		return usagef("--variants, --windows and --cutoffs: want at least one of each")
	}
	for _, m := range o.modes {
		if !slices.Contains(tunable(), m) {
			return unknown("variant", m, tunable())
		}
	}
	o.end = "zero"
	return o.x.check()
}

// shiftTrial is a setting, and its distance in every seed.
type shiftTrial struct {
	Variant string    `json:"variant"` // "none" without a shift
	Window  int       `json:"window,omitempty"`
	Cutoff  float64   `json:"cutoff,omitempty"`
	FID     []float64 `json:"fid"`
}

// shiftResult is tune's JSON.
type shiftResult struct {
	Version      string             `json:"version"`
	Model        string             `json:"model"`
	ModelSHA256  string             `json:"model_sha256"`
	Sampler      string             `json:"sampler"`
	Grid         string             `json:"grid"`
	NFE          int                `json:"nfe"`
	Ref          string             `json:"ref"`
	Extractor    *fid.ExtractorInfo `json:"extractor"`
	DataVariance float64            `json:"data_variance,omitempty"`
	N            int                `json:"n"`
	Seed         uint64             `json:"seed"`
	TuneSeeds    int                `json:"tune_seeds"`
	Seeds        int                `json:"seeds"`
	Tried        []shiftTrial       `json:"tried"`  // on the seeds of the choice
	Chosen       []shiftTrial       `json:"chosen"` // on the others: without a shift first, then the best of each variant
}

// shiftTuner is a run of tune.
type shiftTuner struct {
	*shiftTune
	m     *model
	s     sampler.Solver
	g     *diffusion.Grid
	e     fid.Extractor
	stats *fid.Stats
	v0    float64
	kind  *sampleKind
}

func runShiftTune(ctx context.Context, a *app, o *shiftTune) error {
	if err := o.check(); err != nil {
		return err
	}
	m, s, g, _, err := o.open(ctx, a)
	if err != nil {
		return err
	}
	defer m.done()
	if err := o.fit(m); err != nil {
		return err
	}
	t := &shiftTuner{shiftTune: o, m: m, s: s, g: g, kind: kindOf(m, o.n)}
	if !t.kind.pictures {
		return usagef("model %s draws arrays of shape %s, no pictures: fid has nothing to look at", m.name, describe(m.shape))
	}
	if !sampler.OwnLevels(s) {
		return usagef("--sampler %s takes all images through the same levels; take one of one evaluation a step (ddim, dpm++2m, deis), pndm or dpm-solver-2", s.Name())
	}
	if o.n > maxPictures/t.kind.pixelBytes() {
		return usagef("-n %d: that many images of %s would not fit in memory; draw fewer, on more seeds", o.n, describe(m.shape))
	}
	in, err := a.openInput(ctx, o.ref, &o.x)
	if err != nil {
		return err
	}
	defer in.close()
	if slices.Contains(o.modes, string(sampler.ShiftDebiased)) {
		if err := t.findVariance(ctx, a, in); err != nil {
			return err
		}
	}
	trials, err := t.trials()
	if err != nil {
		return err
	}
	if err := t.reference(ctx, a, in); err != nil {
		return err
	}
	return t.run(ctx, a, trials)
}

// findVariance is v0, from the flag, the model or the pictures of the reference.
func (t *shiftTuner) findVariance(ctx context.Context, a *app, in *input) error {
	known, ok := t.m.den.(interface{ PixelVariance() (float64, error) })
	var err error
	switch {
	case t.variance != 0:
		t.v0 = t.variance
		return nil
	case ok:
		t.v0, err = known.PixelVariance()
	case in.src == nil:
		return usagef("--ref %s has no pictures to take the data's variance from; give --data-variance, or leave debiased out of --variants", t.ref)
	default:
		t.v0, err = t.kind.variance(ctx, in.src)
	}
	if err == nil {
		a.say("data variance %.4g", t.v0)
	}
	return err
}

// variancePictures is how many pictures tell the data's variance.
const variancePictures = 1000

var errEnough = errors.New("enough")

// variance is the mean variance of the first pictures as the model has them.
func (k *sampleKind) variance(ctx context.Context, src imageio.Source) (float64, error) {
	var v []float64
	n := 0
	err := src.Each(ctx, func(it imageio.Item) error {
		m, err := it.Load()
		if err != nil {
			return err
		}
		x, err := k.valuesOf(m)
		if err != nil {
			return inputf("%s: %w; give --data-variance", it.Name, err)
		}
		if v, n = append(v, x...), n+1; n == variancePictures {
			return errEnough
		}
		return nil
	})
	if err != nil && !errors.Is(err, errEnough) {
		return 0, err
	}
	return sampler.PixelVariance(gpu.CPU().From64(v, n, len(v)/max(n, 1)))
}

// shift is a trial's.
func (t *shiftTuner) shift(r *shiftTrial) sampler.TimeShift {
	s := sampler.TimeShift{Mode: sampler.ShiftMode(r.Variant), Window: r.Window, Cutoff: r.Cutoff}
	if s.Mode == sampler.ShiftDebiased {
		s.DataVariance = t.v0
	}
	return s
}

// trials are no shift and every setting, checked before anything is drawn.
func (t *shiftTuner) trials() ([]shiftTrial, error) {
	out := []shiftTrial{{Variant: string(sampler.ShiftNone)}}
	for _, m := range t.modes {
		for _, w := range t.windows {
			for _, c := range t.cutoffs {
				r := shiftTrial{Variant: m, Window: w, Cutoff: c}
				if _, err := t.shift(&r).Levels(t.g, t.m.shape); err != nil {
					return nil, usagef("--variants, --windows, --cutoffs: %w", err)
				}
				out = append(out, r)
			}
		}
	}
	return out, nil
}

// reference makes the statistics that samples are compared with.
func (t *shiftTuner) reference(ctx context.Context, a *app, in *input) error {
	why := t.x.choose(in)
	sized := in.src
	if sized == nil { // what tells the pictures' size
		sized = &pictureSet{t.m.name, []*imageio.Image{{Width: t.kind.w, Height: t.kind.h, Pix: make([]uint8, t.kind.pixelBytes())}}}
	}
	var err error
	if t.e, err = a.openExtractor(ctx, &t.x, why, sized); err != nil {
		return err
	}
	if err := fits(t.e, t.x.force, in); err != nil {
		return err
	}
	if in.src != nil {
		got, err := a.collect(ctx, in, t.e, &t.x, keeping{})
		if err != nil {
			return err
		}
		a.sayCollected(in.src, got)
	}
	t.stats = in.stats
	return nil
}

// distance is the FID of a setting's samples of one seed.
func (t *shiftTuner) distance(ctx context.Context, r *shiftTrial, seed int) (float64, error) {
	levels, err := t.shift(r).Levels(t.g, t.m.shape)
	if err != nil {
		return 0, err
	}
	set := &pictureSet{name: t.m.name}
	cond := sampler.Cond{Classes: inTurn(t.classes, t.n), Inputs: map[string]*gpu.Tensor{}}
	for name, in := range t.m.inputs {
		cond.Inputs[name] = repeated(in, t.n)
	}
	opt := sampler.Options{Seed: t.seed + uint64(seed), N: t.n, Shape: t.m.shape, Kernel: t.m.kernel, Cond: cond, Levels: levels, Each: func(first int, x *gpu.Tensor) error {
		set.images = append(set.images, t.kind.batch(first, x).pictures...)
		return nil
	}}
	if _, err := sampler.Run(ctx, t.m.den, t.s, t.g, opt); err != nil {
		return 0, err
	}
	stats, _, err := fid.StatsOf(ctx, set, t.e, fid.CollectOptions{Batch: t.x.batch, Version: version})
	if err != nil {
		return 0, ofImages(t.e, err)
	}
	got, err := fid.Compare(ctx, t.stats, stats, fid.Options{Force: t.x.force, Version: version})
	if err != nil {
		return 0, err
	}
	return got.Metrics["fid"].Number(), nil
}

// run tries every setting, and measures the best of each variant on other seeds.
func (t *shiftTuner) run(ctx context.Context, a *app, trials []shiftTrial) error {
	best := map[string]int{}
	p := a.progress("tuning on "+t.m.name, "runs", len(trials)*t.tuneSeeds+(1+len(t.modes))*t.seeds)
	done := 0
	measure := func(r *shiftTrial, first, seeds int) error {
		for i := range seeds {
			v, err := t.distance(ctx, r, first+i)
			if err != nil {
				p.End()
				return err
			}
			r.FID = append(r.FID, v)
			done++
			p.Set(done)
		}
		return nil
	}
	for i := range trials {
		r := &trials[i]
		if err := measure(r, 0, t.tuneSeeds); err != nil {
			return err
		}
		if b, ok := best[r.Variant]; !ok || mean(r.FID) < mean(trials[b].FID) {
			best[r.Variant] = i
		}
	}
	var chosen []shiftTrial
	for _, v := range append([]string{string(sampler.ShiftNone)}, t.modes...) {
		r := trials[best[v]]
		r.FID = nil
		if err := measure(&r, t.tuneSeeds, t.seeds); err != nil {
			return err
		}
		chosen = append(chosen, r)
	}
	p.End()
	info := t.e.Info()
	out := shiftResult{
		Version: version, Model: t.m.name, ModelSHA256: t.m.sha256, Sampler: t.s.Name(), Grid: t.g.Name, NFE: t.s.NFE(t.g), Ref: t.ref, Extractor: &info,
		DataVariance: t.v0, N: t.n, Seed: t.seed, TuneSeeds: t.tuneSeeds, Seeds: t.seeds, Tried: trials, Chosen: chosen,
	}
	if a.json {
		return a.printJSON(out)
	}
	return t.print(a, &out)
}

// print writes what was tried, what was chosen, and the flags of the best.
func (t *shiftTuner) print(a *app, r *shiftResult) error {
	text := func(s shiftTrial) []string {
		w, c := "-", "-"
		if s.Variant != string(sampler.ShiftNone) {
			w, c = strconv.Itoa(s.Window), strconv.FormatFloat(s.Cutoff, 'g', -1, 64)
		}
		return []string{s.Variant, w, c}
	}
	tried := report.Table{Columns: report.Columns("variant", "window>", "cutoff>", "FID>")}
	for _, s := range r.Tried {
		tried.Rows = append(tried.Rows, append(text(s), fmt.Sprintf("%.4g", mean(s.FID))))
	}
	if err := tried.WriteText(a.stdout); err != nil {
		return err
	}
	a.printf("\non %s that nothing was chosen on:\n", seedsText(r.Seeds))
	plain := r.Chosen[0].FID
	chosen := report.Table{Columns: report.Columns("variant", "window>", "cutoff>", "FID>", "× unshifted>", "95 % interval>")}
	least := 0
	for i, s := range r.Chosen {
		ratio, interval := "1", "-"
		if i > 0 {
			v := powerRatio(s.FID, plain, 1, 0.95)
			ratio = report.Number(v[0], v[1], v[2])
			if !math.IsNaN(v[1]) {
				interval = report.Range(v[0], v[1], v[2])
			}
		}
		chosen.Rows = append(chosen.Rows, append(text(s), fmt.Sprintf("%.4g", mean(s.FID)), ratio, interval))
		if mean(s.FID) < mean(r.Chosen[least].FID) {
			least = i
		}
	}
	if err := chosen.WriteText(a.stdout); err != nil {
		return err
	}
	if least == 0 {
		a.printf("\nno shift is better than none here\n")
		return nil
	}
	s := r.Chosen[least]
	a.printf("\n--time-shift %s --window %d --cutoff %g", s.Variant, s.Window, s.Cutoff)
	if s.Variant == string(sampler.ShiftDebiased) {
		a.printf(" --data-variance %.4g", r.DataVariance)
	}
	a.printf("\n")
	return nil
}

func mean(v []float64) float64 { return sum(v) / float64(len(v)) }

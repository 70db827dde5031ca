package cli

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/fidlab/fidlab/fid"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/imageio"
)

// wide is how many features make an interval take long enough to announce.
const wide = 1024

type fidOptions struct {
	ref, gen string
	dev      *gpu.Device // where sets are compared, once they are
	test     string
	metrics  []string
	nearest  int
	boundary string
	splits   int
	inOrder  bool
	tool     fid.Options // constants of the tool that --preset names
	x        extraction
	ci, noCI bool
	ciLevel  float64
	seed     uint64
	report   target
}

func newFID(a *app) *cobra.Command {
	var o fidOptions
	cmd := &cobra.Command{
		Use:   "fid REF GEN...",
		Short: "Compare sets of images: FID, with its confidence interval",
		Long: `Compare a reference set REF with a generated set GEN. The value alone goes to
standard output: 12.3456, or one line "metric value" each when --metrics names
several or one has several figures; a result that is no FID says so after the
value. The interval, what
was compared and the notes go to standard error; --json has everything.

Several generated sets are ranked by their FID: a table with the difference of
each to the one before it and the interval of that difference, in which the
chance of the reference, the same for all, drops out.

` + inputHelp + `

Statistics and features that say how they were made are compared with images
extracted in the same way; sets that were not made alike are refused.`,
		Example: `  fidlab fid real/ fake/
  fidlab fid real.npz fake.zip --json | jq .metrics.fid.value
  fidlab fid mnist:train digits/ --report digits.html
  fidlab fid real.npy a/ b/ c/
  fidlab fid mnist:train digits/ --metrics fid,fdr,fld --test mnist:test
  fidlab fid train/ fake/ --metrics fdr --test val/ --features inception,dinov2-vitl14,clip-vit-l14`,
		Args: nargs("a reference and a generated set", 2, -1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.ref, o.gen = args[0], args[1]
			o.useTool(a, cmd.Flags().Changed)
			if cmd.Flags().Changed("ci") && o.noCI {
				return usagef("--ci and --no-ci exclude each other")
			}
			if len(args) > 2 && len(o.x.spaces()) > 1 {
				return usagef("--features %s: several sets are ranked by one extractor", o.x.features)
			}
			if len(o.x.spaces()) > 1 {
				return runSpaces(cmd.Context(), a, &o)
			}
			if len(args) > 2 {
				return runRank(cmd.Context(), a, &o, args[1:])
			}
			return runFID(cmd.Context(), a, &o)
		},
	}
	f := cmd.Flags()
	f.StringSliceVar(&o.metrics, "metrics", []string{"fid"}, "compute `M,M`: "+strings.Join(metricNames(), ", "))
	f.StringVar(&o.test, "test", "", "fdr and fld: the `SET` of real pictures that the generator was not trained on, where REF is what it was")
	o.x.flags(cmd)
	f.Lookup("features").Usage += "; several with commas between them are compared one after another, with the mean of fdr"
	f.IntVar(&o.nearest, "nearest-k", 0, "balls of pr and dc reach to the `K`-th nearest neighbour; 0 is 3 and 5, as the papers have it")
	f.StringVar(&o.boundary, "boundary", "", "whether a ball's boundary counts as in it: `RULE` inclusive or strict; default: pr inclusive, dc strict")
	f.IntVar(&o.splits, "is-splits", 10, "the Inception score is the mean over `N` parts")
	f.BoolVar(&o.inOrder, "is-in-order", false, "take its parts in the order of the images, as ADM and StyleGAN do, not shuffled as torch-fidelity does")
	f.BoolVar(&o.ci, "ci", true, "estimate a confidence interval")
	f.BoolVar(&o.noCI, "no-ci", false, "estimate none, which is faster")
	f.Float64Var(&o.ciLevel, "ci-level", 0.95, "confidence `LEVEL` of the interval")
	f.Uint64Var(&o.seed, "seed", 0, "seed `S` of the interval's resamples")
	f.StringVar(&o.report.path, "report", "", "write a page with the result to `FILE.html`")
	f.BoolVar(&o.report.overwrite, "overwrite", false, "replace the page if it exists")
	completes(cmd, "metrics", metricNames()...)
	completes(cmd, "boundary", "inclusive", "strict")
	return cmd
}

// useTool takes the constants of the tool that --preset names, but for those that were given.
func (o *fidOptions) useTool(a *app, given func(flag string) bool) {
	t, ok := fid.FindTool(o.x.preset)
	if !ok {
		return
	}
	if t.Options.NearestK > 0 && !given("nearest-k") {
		o.nearest = t.Options.NearestK
	}
	if t.Options.Boundary != "" && !given("boundary") {
		o.boundary = t.Options.Boundary
	}
	if !given("is-in-order") {
		o.inOrder = t.Options.InOrder
	}
	if !given("is-splits") {
		o.tool.SplitSize = t.Options.SplitSize
	}
	o.tool.Population = t.Options.Population
	if t.About != "" {
		a.say("%s: %s", t.Name, t.About)
	}
}

func metricNames() []string {
	var names []string
	for _, m := range fid.Metrics() {
		names = append(names, m.Name)
	}
	return names
}

func (o *fidOptions) check() error {
	if len(o.metrics) == 0 {
		return usagef("--metrics is empty; there are: %s", strings.Join(metricNames(), " "))
	}
	for _, m := range o.metrics {
		if fid.CheckMetrics([]string{m}) != nil {
			return unknown("metric", m, metricNames())
		}
	}
	switch need := fid.NeedTest(o.metrics); {
	case len(need) > 0 && o.test == "":
		return usagef("--metrics %s needs --test SET, real pictures that the generator was not trained on", need[0])
	case len(need) == 0 && o.test != "":
		return usagef("--test is for the metrics fdr and fld, and --metrics names none of them")
	}
	if o.nearest < 0 {
		return usagef("--nearest-k %d: want 1 or more, or 0 for the papers' numbers", o.nearest)
	}
	if o.splits < 1 {
		return usagef("--is-splits %d: want 1 or more", o.splits)
	}
	if o.boundary != "" && o.boundary != "inclusive" && o.boundary != "strict" {
		return usagef("--boundary %q: want inclusive or strict", o.boundary)
	}
	if !(o.ciLevel > 0 && o.ciLevel < 1) {
		return usagef("--ci-level %g: want a number between 0 and 1, such as 0.95", o.ciLevel)
	}
	if dashes := slices.DeleteFunc([]string{o.ref, o.gen, o.test}, func(s string) bool { return s != "-" }); len(dashes) > 1 {
		return usagef("%d sets are -, but there is one standard input", len(dashes))
	}
	if o.report.path != "" {
		if err := o.report.check(); err != nil {
			return err
		}
	}
	return o.x.check()
}

func runFID(ctx context.Context, a *app, o *fidOptions) error {
	if err := o.check(); err != nil {
		return err
	}
	res, sets, note, err := a.compareTwo(ctx, o)
	if err != nil {
		return err
	}
	if o.report.path != "" {
		if err := writeReport(ctx, &o.report, o, res, sets); err != nil {
			return err
		}
		a.say("report: %s", o.report.path)
	}
	if a.json {
		return a.printJSON(res)
	}
	a.sayResult(o, res)
	for _, m := range o.metrics {
		figures := figuresOf(m, res.Metrics[m])
		for _, f := range figures {
			line := valueText(f.Value)
			if len(o.metrics) > 1 || len(figures) > 1 {
				line = f.Name + " " + line
			}
			a.printf("%s%s\n", line, note)
		}
	}
	return nil
}

// compareTwo reads both sets, and the test set where there is one, and compares them; sets are their statistics, note is what every line of the result must carry.
func (a *app) compareTwo(ctx context.Context, o *fidOptions) (res *fid.Result, sets [2]*fid.Stats, note string, err error) {
	ins, closeAll, err := a.openSets(ctx, o, o.ref, o.gen)
	if err != nil {
		return nil, sets, "", err
	}
	defer closeAll()
	ref, gen := ins[0], ins[1]
	o.x.parts = fid.NeedParts(o.metrics)
	if slices.Equal(o.metrics, []string{"cmmd"}) {
		o.x.usual = fid.CMMDExtractor
	}
	read, err := a.collectAll(ctx, &o.x, o.keeping(), ins...)
	if err != nil {
		return nil, sets, "", err
	}
	if o.ci && !o.noCI && ref.stats.Dim() >= wide && ref.stats.Features != nil && gen.stats.Features != nil {
		a.say("comparing, with a confidence interval (--no-ci leaves it out)")
	}
	opt, err := o.compare(a)
	if err != nil {
		return nil, sets, "", err
	}
	opt.Test = testOf(ins[2:])
	if res, err = fid.Compare(ctx, ref.stats, gen.stats, opt); err != nil {
		return nil, sets, "", err
	}
	addReading(res, read...)
	return res, [2]*fid.Stats{ref.stats, gen.stats}, inBrackets(extractorNote(ref, gen)), nil
}

// openSets opens the sets of the arguments, and after them the test set where there is one.
func (a *app) openSets(ctx context.Context, o *fidOptions, args ...string) (ins []*input, closeAll func(), err error) {
	if o.test != "" {
		args = append(args, o.test)
	}
	closeAll = func() {
		for _, in := range ins {
			in.close()
		}
	}
	for _, arg := range args {
		in, err := a.openSet(ctx, &o.x, arg, args...)
		if err != nil {
			closeAll()
			return nil, nil, err
		}
		ins = append(ins, in)
	}
	return ins, closeAll, nil
}

// testOf is the test set's vectors; nil where there is none.
func testOf(ins []*input) *fid.Stats {
	if len(ins) == 0 {
		return nil
	}
	return ins[0].stats
}

// addReading adds to a result what reading its sets took and left out.
func addReading(res *fid.Result, read ...*fid.Collected) {
	for _, c := range read {
		if c == nil {
			continue
		}
		res.Seconds.Read += c.Seconds.Read
		res.Seconds.Features += c.Seconds.Features
		res.Skipped = append(res.Skipped, c.Skipped...)
	}
}

// keeping is what the vectors are wanted for.
func (o *fidOptions) keeping() keeping {
	return keeping{interval: o.ci && !o.noCI, metric: fid.NeedFeatures(o.metrics)}
}

// collectAll extracts what is still pictures, all sets in one way, and says of
// each what reading it came to, nil where its vectors were there. What cannot be
// compared is refused before the first picture is decoded.
func (a *app) collectAll(ctx context.Context, x *extraction, keep keeping, ins ...*input) ([]*fid.Collected, error) {
	read := make([]*fid.Collected, len(ins))
	var e fid.Extractor
	for i, in := range ins {
		if in.src == nil {
			continue
		}
		if e == nil {
			var err error
			if e, err = a.openFitting(ctx, x, in.src, ins...); err != nil {
				return nil, err
			}
		}
		c, err := a.collect(ctx, in, e, x, keep)
		if err != nil {
			return nil, err
		}
		a.saySkipped(c.Summary.Bad)
		read[i] = c
	}
	return read, nil
}

// openFitting opens the extractor that suits all sets, for pictures like src's.
func (a *app) openFitting(ctx context.Context, x *extraction, src imageio.Source, ins ...*input) (fid.Extractor, error) {
	e, err := a.openExtractor(ctx, x, x.choose(ins...), src)
	if err != nil {
		return nil, err
	}
	return e, fits(e, x.force, ins...)
}

// fits refuses an extractor whose features could not be compared with those of
// a side that has them already.
func fits(e fid.Extractor, force bool, ins ...*input) error {
	info := e.Info()
	for _, in := range ins {
		if in.stats == nil {
			continue
		}
		if d := in.stats.Dim(); d != info.Dim {
			return inputf("%s has %d features, the extractor %s makes %d; name the one it was made with: --features NAME", in.arg, d, info.Name, info.Dim)
		}
		if force {
			continue
		}
		if err := fid.CheckAlike(in.stats, &fid.Stats{Provenance: &fid.Provenance{Extractor: info}}); err != nil {
			return fmt.Errorf("%s: %w", in.arg, err)
		}
	}
	return nil
}

// extractorNote is the label that every output of an extractor must carry.
func extractorNote(ins ...*input) string {
	for _, in := range ins {
		if p := in.stats.Provenance; p != nil && p.Extractor.Note != "" {
			return p.Extractor.Note
		}
	}
	return ""
}

// valueText has at least four decimals, and six digits of a small or a huge value.
func valueText(v float64) string {
	if a := math.Abs(v); a >= 0.01 && a < 1e9 || a == 0 {
		return fmt.Sprintf("%.4f", v)
	}
	return fmt.Sprintf("%.6g", v)
}

// sayResult writes to standard error what makes the value comparable.
func (a *app) sayResult(o *fidOptions, r *fid.Result) {
	for _, m := range o.metrics {
		if v, ok := r.Metrics[m].(fid.KIDValue); ok {
			a.say("%s %s, standard deviation over subsets %s", m, valueText(v.Value), valueText(v.Std))
			continue
		}
		switch v := r.Metrics[m].(type) {
		case fid.SFIDValue:
			a.say("%s %s: mean term %s, covariance term %s", m, valueText(v.Value), valueText(v.MeanTerm), valueText(v.CovTerm))
		case fid.ISValue:
			a.say("%s %s, standard deviation over %d parts %s, %d classes", m, valueText(v.Value), v.Splits, valueText(v.Std), v.Classes)
		case fid.MMDValue:
			a.say("%s %s, standard error %s, kernel %s", m, valueText(v.Value), valueText(v.StdErr), v.Kernel)
		case fid.SlicedValue:
			a.say("%s %s, standard error over the directions %s", m, valueText(v.Value), valueText(v.StdErr))
		case fid.InfinityValue:
			a.say("%s %s, standard error %s: a line through %d sizes from %d to %d, residual %s", m, valueText(v.Value), valueText(v.StdErr), len(v.N), v.N[0], v.N[len(v.N)-1], valueText(v.Residual))
		case fid.PRValue:
			a.say("precision %s, recall %s, F1 %s: balls to neighbour %d, %s", valueText(v.Precision), valueText(v.Recall), valueText(v.F1), v.K, v.Rule)
		case fid.DCValue:
			a.say("density %s, coverage %s: balls to neighbour %d, %s", valueText(v.Density), valueText(v.Coverage), v.K, v.Rule)
		case fid.AuthValue:
			a.say("%s %s %%; %s %% of the generated are copies of a reference to the last bit", m, valueText(v.Percent), valueText(100*v.Copies))
		case fid.FDRValue:
			a.say("%s %s: %s over the test set's %s", m, valueText(v.Value), valueText(v.FD), valueText(v.Floor))
		case fid.FLDValue:
			a.say("fld %s, gap %s: %s nats a dimension over the %s of half of the reference, %d centres, %d epochs", valueText(v.Value), valueText(v.Gap), valueText(v.NLL), valueText(v.Baseline), v.Centres, v.Epochs)
		case fid.VendiValue:
			a.say("%s %s generated, %s reference", m, valueText(v.Gen), valueText(v.Ref))
		}
		v, ok := r.Metrics[m].(fid.FIDValue)
		if !ok {
			continue
		}
		ci := ""
		if v.CI != nil {
			ci = fmt.Sprintf(", %g %% interval %s to %s", 100*v.CILevel, valueText(v.CI[0]), valueText(v.CI[1]))
		}
		a.say("%s %s%s: mean term %s, covariance term %s", m, valueText(v.Value), ci, valueText(v.MeanTerm), valueText(v.CovTerm))
	}
	a.say("n: %s reference, %s generated", count(r.N.Ref), count(r.N.Gen))
	sha := r.Extractor.SHA256
	if len(sha) > 12 {
		sha = " " + sha[:12]
	}
	name := r.Extractor.Name
	if name == "" {
		name = "unknown"
	}
	a.say("extractor: %s%s, %d features, preset %s, %s on %s", name, sha, r.Extractor.Dim, r.Preset, r.Precision, r.Device)
	for _, n := range r.Notes {
		a.say("note: %s", n)
	}
	a.detail("seconds: reading %.2f, features %.2f, metric %.2f", r.Seconds.Read, r.Seconds.Features, r.Seconds.Metric)
}

func count(n int) string {
	if n == 0 {
		return "unknown"
	}
	return fmt.Sprint(n)
}

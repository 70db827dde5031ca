package cli

import (
	"context"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/fidlab/fidlab/fid"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/report"
	"github.com/fidlab/fidlab/sampler"
	"github.com/fidlab/fidlab/systems/gaussteleport"
	"github.com/fidlab/fidlab/tensor"
)

type analyzeOptions struct {
	data, stats, train string
	values             valuesOptions
	against            []string
	n, trainN, dims    int
	rank, levels       int
	hi, lo             float64
	perClass           bool
	seed               uint64
	figure             target
}

func newTeleportAnalyze(a *app) *cobra.Command {
	var o analyzeOptions
	cmd := &cobra.Command{
		Use:   "analyze DATA --model M",
		Short: "Say how much of a model's score simple scores explain",
		Long: `Say how much of a model's score simple scores explain at every noise level: 1 -
E|s-s_simple|²/E|s|², with its 95 % interval, on noisy pictures of DATA, which
should be none that the model or --train has seen. The scores of --against:

  gaussian     of the Gaussian with the training set's mean and covariance
  isotropic    of one that looks alike in all directions
  order1       the Gaussian's, expanded to the first order in covariance/sigma²
  order2       and to the second
  delta        of the training set itself, a point mass on each picture
  gmm:K        of K k-means clusters of it, with their covariances in its leading
  gmm:K:R      dimensions; R cuts each to its R leading pairs

The statistics are those of --stats, or are made of --train, which delta and gmm
need.`,
		Example: `  fidlab system gaussteleport analyze mnist:test --model mnist-gmm --train 'mnist:train?n=4000' --against gaussian,gmm:20,delta --figure shares.png
  fidlab system gaussteleport analyze cifar10/test --model net.onnx --stats cifar.npz --against gaussian,isotropic --json`,
		Args: nargs("one input", 1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.data = args[0]
			return runTeleportAnalyze(cmd.Context(), a, &o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.values.model, "model", "", "analyze the model `M` (fidlab models lists them)")
	f.StringVar(&o.stats, "stats", "", "take the statistics from `F.npz` (fidlab system gaussteleport fit)")
	f.StringVar(&o.train, "train", "", "make them, and what else is needed, of the training set `INPUT`")
	f.StringSliceVar(&o.against, "against", []string{"gaussian", "isotropic", "order1", "order2"}, "compare with these `SCORES`")
	f.IntVarP(&o.n, "num", "n", 256, "look at `N` samples of DATA")
	f.IntVar(&o.trainN, "train-num", 0, "take the first `N` of --train; 0 is all")
	f.IntVar(&o.rank, "rank", 0, "use the `R` leading eigenpairs; 0 is all in the file, or 256")
	f.IntVar(&o.dims, "dims", 64, "fit mixtures in the `D` leading dimensions")
	f.Float64Var(&o.hi, "sigma-max", 80, "start at noise level `S`")
	f.Float64Var(&o.lo, "sigma-min", 0.02, "end at noise level `S`")
	f.IntVar(&o.levels, "levels", 13, "look at `N` levels, even in their logarithm")
	f.BoolVar(&o.perClass, "per-class", false, "ask the model for each sample's own class, and compare with the statistics of that class")
	f.Uint64Var(&o.seed, "seed", 0, "draw the noise of seed `S`")
	f.StringVar(&o.figure.path, "figure", "", "draw what is left unexplained to `F.png`")
	f.BoolVar(&o.figure.overwrite, "overwrite", false, "replace the figure if it exists")
	o.values.net.flags(f)
	f.SortFlags = false
	completes(cmd, "model", modelNames()...)
	return cmd
}

func (o *analyzeOptions) check() error {
	switch {
	case o.values.model == "":
		return usagef("want --model M; fidlab models lists them")
	case o.stats == "" && o.train == "":
		return usagef("want --stats F.npz or --train INPUT, what the scores are made of")
	case o.n < 2 || o.levels < 2 || o.rank < 0 || o.dims < 1 || o.trainN < 0:
		return usagef("-n %d, --levels %d, --rank %d, --dims %d, --train-num %d: want two samples and levels at least, and numbers from 0 on", o.n, o.levels, o.rank, o.dims, o.trainN)
	case !(o.lo > 0 && o.lo < o.hi) || math.IsInf(o.hi, 1):
		return usagef("--sigma-max %g, --sigma-min %g: want finite levels above 0, the first the higher", o.hi, o.lo)
	}
	for _, name := range o.against {
		switch base, _, _ := strings.Cut(name, ":"); {
		case (base == "delta" || base == "gmm") && o.train == "":
			return usagef("--against %s needs --train INPUT", name)
		case base == "gmm":
			if _, _, err := clusters(name); err != nil {
				return err
			}
		case !slices.Contains([]string{"gaussian", "isotropic", "order1", "order2", "delta"}, name):
			return unknown("score", name, []string{"gaussian", "isotropic", "order1", "order2", "delta", "gmm:K", "gmm:K:R"})
		}
	}
	if o.figure.path == "" {
		return nil
	}
	return o.figure.check()
}

// clusters reads gmm:K:R.
func clusters(name string) (k, rank int, err error) {
	parts := strings.Split(name, ":")
	if len(parts) == 2 || len(parts) == 3 {
		k, err = strconv.Atoi(parts[1])
		if err == nil && len(parts) == 3 {
			rank, err = strconv.Atoi(parts[2])
		}
		if err == nil && k >= 1 && (rank >= 1 || len(parts) == 2) {
			return k, rank, nil
		}
	}
	return 0, 0, usagef("--against %s: want gmm:K or gmm:K:R with K clusters of rank R", name)
}

// samplesOf reads the first most of a set, and their classes.
func samplesOf(ctx context.Context, a *app, v *valueSet) (x []float64, labels []int, err error) {
	p := a.progress("reading "+v.describe, "samples", v.n)
	defer p.End()
	err = v.counting(p)(ctx, func(label int, row []float64) error {
		x, labels = append(x, row...), append(labels, label)
		return nil
	})
	return x, labels, err
}

func runTeleportAnalyze(ctx context.Context, a *app, o *analyzeOptions) error {
	if err := o.check(); err != nil {
		return err
	}
	m, err := o.values.open(ctx, a)
	if err != nil {
		return err
	}
	defer m.done()
	k := kindOf(m, 1)
	v, err := openValues(ctx, a, o.data, k, nil, o.n, o.perClass)
	if err != nil {
		return err
	}
	x, labels, err := samplesOf(ctx, a, v)
	if err != nil {
		return err
	}
	n := len(labels)
	opt := gaussteleport.ExplainOptions{Seed: o.seed, Cond: sampler.Cond{Inputs: map[string]*gpu.Tensor{}}}
	if n < 2 {
		return inputf("%s: %d samples; want 2 at least", o.data, n)
	}
	if o.perClass {
		for i, l := range labels {
			if !slices.Contains(m.classes, l) {
				return inputf("%s: sample %d has the class %d (-1 is none); model %s has the classes %v", o.data, i, l, m.name, m.classes)
			}
		}
		opt.Cond.Classes = labels
	}
	for name, t := range m.inputs {
		opt.Cond.Inputs[name] = repeated(t, n)
	}
	if opt.Sigmas, err = gaussteleport.Levels(o.hi, o.lo, o.levels); err != nil {
		return err
	}
	models, err := o.scores(ctx, a, m, k)
	if err != nil {
		return err
	}
	x0 := gpu.CPU().From64(x, append([]int{n}, m.shape...)...)
	a.say("%s against %s on %d samples at %d noise levels", m.name, strings.Join(o.against, ", "), n, len(opt.Sigmas))
	all, err := gaussteleport.Explain(ctx, m.den, models, x0, opt)
	if err != nil {
		return err
	}
	if o.figure.path != "" {
		if err := tensor.WriteAtomic(o.figure.path, func(w io.Writer) error { return o.draw(m.name, all).WritePNG(w) }, o.figure.options()...); err != nil {
			return err
		}
	}
	if a.json {
		return a.printJSON(struct {
			Model       string                `json:"model"`
			ModelSHA256 string                `json:"model_sha256"`
			Data        string                `json:"data"`
			N           int                   `json:"n"`
			Seed        uint64                `json:"seed"`
			Version     string                `json:"version"`
			Shares      []gaussteleport.Share `json:"shares"`
		}{m.name, m.sha256, v.describe, n, o.seed, version, all})
	}
	return o.print(a, all, gaussteleport.Deviation(x0))
}

// scores makes what the model is compared with.
func (o *analyzeOptions) scores(ctx context.Context, a *app, m *model, k *sampleKind) ([]gaussteleport.Score, error) {
	var x []float64
	var labels []int
	var err error
	d := size(m.shape)
	if o.train != "" {
		v, err := openValues(ctx, a, o.train, k, nil, o.trainN, o.perClass)
		if err != nil {
			return nil, err
		}
		if x, labels, err = samplesOf(ctx, a, v); err != nil {
			return nil, err
		}
	}
	var s *fid.Spectrum
	if o.stats != "" {
		if s, err = fid.ReadSpectrum(o.stats, o.rank); err == nil {
			if bad := sameValues(s, m); bad != nil {
				err = inputf("--stats %s: %w", o.stats, bad)
			}
		}
	} else {
		s, err = fid.FitSpectrum(ctx, func(_ context.Context, yield func(int, []float64) error) error {
			for i, l := range labels {
				if err := yield(l, x[i*d:][:d]); err != nil {
					return err
				}
			}
			return nil
		}, d, fid.SpectrumOptions{Rank: o.rank, PerClass: o.perClass})
	}
	if err != nil {
		return nil, err
	}
	law, err := gaussteleport.LawOf(s, gaussteleport.MeanRest, m.shape)
	if err != nil {
		return nil, err
	}
	g, err := gaussteleport.GaussianOf(s.LowRank, gaussteleport.MeanRest, m.shape)
	if err != nil {
		return nil, err
	}
	var out []gaussteleport.Score
	for _, name := range o.against {
		var den sampler.Denoiser
		switch base, _, _ := strings.Cut(name, ":"); base {
		case "gaussian":
			den = law
		case "isotropic":
			den = gaussteleport.Isotropic(g)
		case "order1", "order2":
			den = gaussteleport.Expansion(g, int(name[5]-'0'))
		case "delta":
			points := make([]float32, len(x))
			for i, v := range x {
				points[i] = float32(v)
			}
			classes := labels
			if !o.perClass {
				classes = nil
			}
			den, err = sampler.NewDeltaMixture(points, m.shape, classes, nil)
		case "gmm":
			count, rank, _ := clusters(name)
			rows := sampler.Rows{N: len(labels), D: d, At: func(i int, dst []float64) { copy(dst, x[i*d:][:d]) }}
			den, err = gaussteleport.FitScore(ctx, rows, m.shape, gaussteleport.MixtureOptions{Components: count, Dims: min(o.dims, d), Rank: rank, Seed: o.seed})
		}
		if err != nil {
			return nil, inputf("--against %s: %w", name, err)
		}
		if base, _, _ := strings.Cut(name, ":"); base == "gmm" && o.perClass {
			return nil, usagef("--against %s: the clusters have no classes; leave out --per-class", name)
		}
		out = append(out, gaussteleport.Score{Name: name, Den: den})
	}
	return out, nil
}

// nearEnough is the share of the data's deviation by which what a score and the model
// say of the clean picture may differ where a sampler jumps; found on the testbed and
// on mnist-gmm, where larger jumps cost distance.
const nearEnough = 0.1

// print writes a row a level, and says how far a jump may go.
func (o *analyzeOptions) print(a *app, all []gaussteleport.Share, dev float64) error {
	tw := tabwriter.NewWriter(a.stdout, 0, 8, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(tw, "SIGMA\t")
	for _, name := range o.against {
		fmt.Fprintf(tw, "%s\t±\t", name)
	}
	fmt.Fprintln(tw)
	for i := 0; i < len(all); i += len(o.against) {
		fmt.Fprintf(tw, "%.4g\t", all[i].Sigma)
		for _, s := range all[i : i+len(o.against)] {
			form := "%.5f\t%.1g\t"
			if s.Explains < -10 {
				form = "%.3g\t%.1g\t"
			}
			fmt.Fprintf(tw, form, s.Explains, (s.Hi-s.Lo)/2)
		}
		fmt.Fprintln(tw)
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	for _, name := range o.against {
		r := gaussteleport.Reach(all, name, func(s gaussteleport.Share) bool { return s.RMS <= nearEnough*dev })
		if math.IsInf(r, 1) {
			a.say("%s: what it says of the clean picture differs by more than %g %% of the data's deviation at all of these levels", name, 100*nearEnough)
			continue
		}
		a.say("%s: what it says of the clean picture differs by at most %g %% of the data's deviation from sigma %.4g on, a level to skip to", name, 100*nearEnough, r)
	}
	return nil
}

// The figure shows smaller unexplained shares as leastShare, and none above
// mostShare, where a score is ten times as far off as one of zero.
const leastShare, mostShare = 1e-7, 10

// draw is the share left unexplained over the noise levels.
func (o *analyzeOptions) draw(name string, all []gaussteleport.Share) *report.Lines {
	l := &report.Lines{Title: "Score of " + name, X: "noise level sigma", Y: "share left unexplained", LogX: true, LogY: true}
	for m, score := range o.against {
		s := report.Series{Name: score}
		for i := len(all) - len(o.against); i >= 0; i -= len(o.against) {
			e := all[i+m]
			if 1-e.Explains > mostShare {
				continue
			}
			s.Points = append(s.Points, report.Point{X: e.Sigma, Y: max(1-e.Explains, leastShare), Lo: max(1-e.Hi, leastShare), Hi: max(1-e.Lo, leastShare)})
		}
		if len(s.Points) > 0 {
			l.Series = append(l.Series, s)
		}
	}
	return l
}

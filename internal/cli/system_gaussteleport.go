package cli

import (
	"context"
	"io"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/fidlab/fidlab/fid"
	"github.com/fidlab/fidlab/imageio"
	"github.com/fidlab/fidlab/tensor"
)

func init() { systemVerbs = append(systemVerbs, newGaussTeleport) }

func newGaussTeleport(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "gaussteleport",
		Short: "Statistics for sample --teleport, and what of a score they explain",
		Long: `Statistics of a training set for fidlab sample --teleport, and how much of a
model's score a Gaussian of that mean and covariance, and other simple scores,
explain at every noise level.`,
		Example: `  fidlab system gaussteleport fit mnist:train --model mnist-gmm -o mnist.npz
  fidlab sample --model mnist-gmm --sampler heun --steps 18 --teleport mnist.npz --skip-steps 6 -n 64 -o digits/`,
		Args: cobra.ArbitraryArgs,
		RunE: needsVerb,
	}
	cmd.AddCommand(newTeleportFit(a), newTeleportAnalyze(a))
	return cmd
}

// valuesOptions say which values of a model pictures are.
type valuesOptions struct {
	model, valRange, layout string
	gray                    bool
	net                     netOptions
}

func (o *valuesOptions) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&o.model, "model", "", "take the values that the model `M` has for pictures")
	f.StringVar(&o.valRange, "range", "-1,1", "without --model: black and white are the values `LO,HI`")
	f.StringVar(&o.layout, "layout", "hwc", "without --model: hwc, or chw for planes of one colour")
	f.BoolVar(&o.gray, "gray", false, "without --model: one value a pixel")
	completes(cmd, "model", modelNames()...)
	completes(cmd, "layout", "hwc", "chw")
}

// open is the model, nil where none is named. Its class and inputs do not matter
// for the values that it has.
func (o *valuesOptions) open(ctx context.Context, a *app) (*model, error) {
	if o.model == "" {
		return nil, nil
	}
	entry, err := findModel(o.model)
	if err != nil {
		return nil, err
	}
	return entry.open(ctx, a, opening{o.model, 1, []int{0}, o.net})
}

// kind is what pictures of a size become without a model.
func (o *valuesOptions) kind(h, w int) (*sampleKind, error) {
	lo, hi, ok := strings.Cut(o.valRange, ",")
	k := &sampleKind{h: h, w: w, c: 3, pictures: true, chw: o.layout == "chw"}
	var err1, err2 error
	k.lo, err1 = strconv.ParseFloat(lo, 64)
	k.hi, err2 = strconv.ParseFloat(hi, 64)
	if !ok || err1 != nil || err2 != nil || !(k.lo < k.hi) {
		return nil, usagef("--range %q: want LO,HI with LO below HI", o.valRange)
	}
	if o.layout != "hwc" && o.layout != "chw" {
		return nil, unknown("layout", o.layout, []string{"hwc", "chw"})
	}
	if o.gray {
		k.c = 1
	}
	k.shape = []int{h, w, k.c}
	if k.chw {
		k.shape = []int{k.c, h, w}
	}
	return k, nil
}

// valueSet is an input as a model's values.
type valueSet struct {
	fid.VectorSet
	d        int
	n        int // -1 when only reading tells
	shape    []int
	lo, hi   float64 // of pictures; 0, 0 for values
	describe string
}

// openValues opens pictures, or values as .npy [n, ...], for a kind of samples; nil
// is that of the first picture under o.
func openValues(ctx context.Context, a *app, arg string, k *sampleKind, o *valuesOptions, most int, classes bool) (*valueSet, error) {
	if strings.EqualFold(filepath.Ext(arg), ".npy") {
		return npyValues(arg, k, most)
	}
	src, err := imageio.OpenContext(ctx, arg, imageio.Options{Stdin: a.env.Stdin, Labels: classes})
	if err != nil {
		return nil, err
	}
	if k == nil {
		var first *imageio.Image
		err := src.Each(ctx, func(it imageio.Item) error {
			m, err := it.Load()
			if err != nil {
				return err
			}
			first = m
			return io.EOF
		})
		if err != nil && err != io.EOF {
			return nil, err
		}
		if first == nil {
			return nil, inputf("%s: no pictures", arg)
		}
		if k, err = o.kind(first.Height, first.Width); err != nil {
			return nil, err
		}
	}
	if !k.pictures {
		return nil, inputf("%s: samples of shape %s are no pictures; give values as .npy", arg, describe(k.shape))
	}
	v := &valueSet{d: size(k.shape), n: src.Len(), shape: k.shape, lo: k.lo, hi: k.hi, describe: src.Describe()}
	if most > 0 && (v.n < 0 || v.n > most) {
		v.n = most
	}
	v.VectorSet = func(ctx context.Context, yield func(int, []float64) error) error {
		seen := 0
		err := src.Each(ctx, func(it imageio.Item) error {
			if most > 0 && seen == most {
				return io.EOF
			}
			seen++
			m, err := it.Load()
			if err != nil {
				return err
			}
			x, err := k.valuesOf(m)
			if err != nil {
				return inputf("%s: %w", it.Name, err)
			}
			return yield(it.Label, x)
		})
		if err == io.EOF {
			return nil
		}
		return err
	}
	return v, nil
}

// npyValues is the rows of a file.
func npyValues(path string, k *sampleKind, most int) (*valueSet, error) {
	arr, err := tensor.ReadNPY(path)
	if err != nil {
		return nil, &inputError{err}
	}
	s := arr.Shape
	if arr.DType != tensor.F16 && arr.DType != tensor.F32 && arr.DType != tensor.F64 || len(s) < 2 || s[0] < 1 || size(s) == 0 {
		return nil, inputf("%s: %s of shape %v; wanted floats of shape [n, ...]", path, arr.DType, s)
	}
	v := &valueSet{d: size(s[1:]), n: s[0], shape: s[1:], describe: path}
	if k != nil {
		if v.d != size(k.shape) {
			return nil, inputf("%s: samples of shape %v; those of the model are %s", path, s[1:], describe(k.shape))
		}
		v.shape = k.shape
	}
	if most > 0 {
		v.n = min(v.n, most)
	}
	all := arr.F64()
	v.VectorSet = func(ctx context.Context, yield func(int, []float64) error) error {
		for i := range v.n {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := yield(-1, all[i*v.d:][:v.d]); err != nil {
				return err
			}
		}
		return nil
	}
	return v, nil
}

// counting is a set that moves a bar.
func (v *valueSet) counting(p *progress) fid.VectorSet {
	return func(ctx context.Context, yield func(int, []float64) error) error {
		done := 0
		return v.VectorSet(ctx, func(label int, x []float64) error {
			done++
			p.Set(done)
			return yield(label, x)
		})
	}
}

type teleportFitOptions struct {
	input    string
	values   valuesOptions
	rank, n  int
	perClass bool
	exact    int
	seed     uint64
	out      target
}

func newTeleportFit(a *app) *cobra.Command {
	var o teleportFitOptions
	cmd := &cobra.Command{
		Use:   "fit INPUT -o F.npz",
		Short: "Compute the mean and the leading eigenpairs of a training set",
		Long: `Compute the mean and the leading eigenpairs of the covariance of a training set,
in the values that a model has for its pictures, for fidlab sample --teleport. INPUT
is pictures of one size, or values as .npy [n, ...]. The file is .npz with mu, n,
eigenvalues, eigenvectors and eigenrest, the mean of the variances left out; and
sigma while it has at most --exact dimensions. Beyond, the pairs are found by a
randomised iteration that reads INPUT five times and makes no covariance.`,
		Example: `  fidlab system gaussteleport fit mnist:train --model mnist-gmm -o mnist.npz
  fidlab system gaussteleport fit cifar10/ --layout chw --per-class --rank 512 -o cifar.npz`,
		Args: nargs("one input", 1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.input = args[0]
			return runTeleportFit(cmd.Context(), a, &o)
		},
	}
	f := cmd.Flags()
	o.values.flags(cmd)
	f.IntVar(&o.rank, "rank", 0, "keep the `R` leading eigenpairs; 0 is 256, or all there are")
	f.IntVarP(&o.n, "num", "n", 0, "take the first `N` of the set; 0 is all")
	f.BoolVar(&o.perClass, "per-class", false, "the same of every class as well (sub-folders, digits)")
	f.IntVar(&o.exact, "exact", 4096, "make the covariance of up to `D` values a sample")
	f.Uint64Var(&o.seed, "seed", 0, "start the iteration from seed `S`")
	o.out.flags(f, "the statistics (.npz)")
	o.values.net.flags(f)
	f.SortFlags = false
	return cmd
}

func runTeleportFit(ctx context.Context, a *app, o *teleportFitOptions) error {
	if o.rank < 0 || o.n < 0 || o.exact < 1 {
		return usagef("--rank %d, -n %d, --exact %d: want numbers from 0 on, and 1", o.rank, o.n, o.exact)
	}
	if err := o.out.check(); err != nil {
		return err
	}
	m, err := o.values.open(ctx, a)
	if err != nil {
		return err
	}
	var k *sampleKind
	if m != nil {
		m.done()
		k = kindOf(m, 1)
	}
	v, err := openValues(ctx, a, o.input, k, &o.values, o.n, o.perClass)
	if err != nil {
		return err
	}
	p := a.progress("statistics of "+v.describe, "samples", v.n)
	s, err := fid.FitSpectrum(ctx, v.counting(p), v.d, fid.SpectrumOptions{Rank: o.rank, PerClass: o.perClass, Exact: o.exact, Seed: o.seed})
	p.End()
	if err != nil {
		return err
	}
	s.Shape, s.Range = v.shape, [2]float64{v.lo, v.hi}
	s.Provenance.Version, s.Provenance.Input, s.Provenance.Device = version, v.describe, "cpu"
	s.Provenance.Extractor = fid.ExtractorInfo{Name: "values", Dim: v.d}
	if o.values.model != "" {
		s.Provenance.Extractor.Note = "of the model " + o.values.model
	}
	if o.perClass && len(s.Classes) == 0 {
		return inputf("%s: --per-class, and none has a class; want sub-folders, or a set with labels", o.input)
	}
	for _, n := range s.Provenance.Notes {
		a.say("note: %s", n)
	}
	if err := fid.WriteSpectrum(o.out.path, s, o.out.options()...); err != nil {
		return err
	}
	if a.json {
		return a.printJSON(struct {
			File    string  `json:"file"`
			N       int     `json:"n"`
			Dim     int     `json:"dim"`
			Rank    int     `json:"rank"`
			Kept    float64 `json:"kept"` // share of the variance
			Rest    float64 `json:"rest"`
			Classes int     `json:"classes"`
		}{o.out.path, s.N, v.d, len(s.Values), kept(&s.LowRank), s.Rest, len(s.Classes)})
	}
	a.printf("%s\n", o.out.path)
	a.say("%s: %d samples of %s, %d eigenpairs with %.2f %% of the variance", o.out.path, s.N, describe(v.shape), len(s.Values), 100*kept(&s.LowRank))
	return nil
}

// kept is the share of the variance that the pairs have.
func kept(l *fid.LowRank) float64 {
	var sum float64
	for _, v := range l.Values {
		sum += v
	}
	all := sum + l.Rest*float64(len(l.Mu)-len(l.Values))
	if all == 0 {
		return 1
	}
	return sum / all
}

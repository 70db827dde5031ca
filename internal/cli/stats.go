package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/fidlab/fidlab/fid"
	"github.com/fidlab/fidlab/imageio/survey"
)

type statsOptions struct {
	input string
	x     extraction
	out   target
	sfid  bool
}

func newStats(a *app) *cobra.Command {
	var o statsOptions
	cmd := &cobra.Command{
		Use:   "stats INPUT -o F.npz",
		Short: "Compute the statistics of a set once, to compare with later",
		Long: `Compute the statistics of a set once: the mean and the covariance of its
features, their number, and the record of how they were made, as .npz that other
tools read too. While there are no more vectors than features these are kept in
the file, for the exact route and the confidence interval.

` + inputHelp,
		Example: `  fidlab stats real/ -o real.npz && fidlab fid real.npz fake/
  fidlab stats mnist:train -o train.npz`,
		Args: nargs("one input", 1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.input = args[0]
			return runStats(cmd.Context(), a, &o)
		},
	}
	o.x.flags(cmd)
	cmd.Flags().BoolVar(&o.sfid, "sfid", false, "keep the statistics of sFID's map too (inception)")
	o.out.flags(cmd.Flags(), "the statistics (.npz)")
	return cmd
}

func runStats(ctx context.Context, a *app, o *statsOptions) error {
	if err := o.x.check(); err != nil {
		return err
	}
	if err := o.out.check(); err != nil {
		return err
	}
	if o.sfid {
		o.x.parts = []string{fid.PartSpatial}
	}
	in, err := a.openSet(ctx, &o.x, o.input)
	if err != nil {
		return err
	}
	defer in.close()
	if in.src != nil {
		why := o.x.choose(in)
		e, err := a.openExtractor(ctx, &o.x, why, in.src)
		if err != nil {
			return err
		}
		got, err := a.collect(ctx, in, e, &o.x, keeping{})
		if err != nil {
			return err
		}
		a.sayCollected(in.src, got)
	}
	s := in.stats
	if s.N == 1 {
		return s.Check()
	}
	if err := fid.WriteStats(o.out.path, s, o.out.options()...); err != nil {
		return err
	}
	return a.statsWritten(o.out.path, s)
}

// keeping says what feature vectors are wanted for.
type keeping struct {
	interval, metric, members bool
	surveys                   map[*input]*survey.Survey // of the files, beside; nil for none
}

// metricBytes is what the vectors may take that a metric cannot do without:
// 250,000 of 2048 features.
const metricBytes = 2 << 30

// collect reads a set of pictures and sets its statistics.
func (a *app) collect(ctx context.Context, in *input, e fid.Extractor, x *extraction, keep keeping) (*fid.Collected, error) {
	p := a.progress("features of "+in.src.Describe(), "images", lengthOf(in.src, x.max))
	defer p.End()
	o := x.collect(p)
	cache := a.featureCache(x, e)
	defer cache.close()
	o.Cache = cache.of()
	o.Keep, o.Members = keep.interval || keep.metric, keep.members
	if s := keep.surveys[in]; s != nil {
		o.Look = s.Look
	}
	if keep.metric {
		o.FeatureBytes = metricBytes
	}
	s, got, err := fid.StatsOf(ctx, in.src, e, o)
	if err != nil {
		return nil, ofImages(e, err)
	}
	in.stats = s
	a.sayCached(&got)
	return &got, nil
}

// close gives back what a source holds open.
func (in *input) close() {
	if c, ok := in.src.(interface{ Close() error }); ok {
		c.Close() // it was only read from
	}
}

// Command fidlab-beam compares sets of pictures that are too large for one
// machine: the pipeline of package pipeline, on any runner of Apache Beam.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/log"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/options/jobopts"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/x/beamx"

	"github.com/fidlab/fidlab/beam/pipeline"
	"github.com/fidlab/fidlab/beam/shard"
	"github.com/fidlab/fidlab/fid"
)

// version is set by the linker.
var version = "devel"

const usage = `usage: fidlab-beam [flags] -o OUT REF GEN
       fidlab-beam [flags] -o OUT SET

Compares two sets that lie in shards, or makes the statistics of one, on a runner
of Apache Beam: prism (in this process, the default), flink, dataflow, or another
that takes portable pipelines. The value goes to standard output; OUT, a folder or
gs://bucket/prefix, gets result.json and the statistics ref.npz and gen.npz, which
fidlab reads.

A set is one or more patterns with commas between them: paths, paths with * ? [],
paths with {000..146}, or @FILE with a pattern on each line. A shard is a tar,
tar.gz or zip of images (webdataset), an .npz or .npy of images, a list of images
(.txt) or a folder, a Parquet table of images or feature vectors, or feature
vectors as .npy or .npz. REF may also be one file of statistics. Flags come first.

  fidlab-beam -o out 'real/*.tar' 'fake/{000..015}.tar'
  fidlab-beam -o out --features mnist ref.npz @shards.txt

`

// exit codes as fidlab's.
const exitUsage = 2

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

type options struct {
	job     pipeline.Job
	metrics string
	keep    string
	log     string
	json    bool
	version bool
}

func (o *options) register(f *flag.FlagSet) {
	f.StringVar(&o.job.Out, "o", "", "write result.json and the statistics below `OUT`, a folder or a prefix of a store")
	f.StringVar(&o.metrics, "metrics", "fid", "compute `M,M`; sfid, is, fdr and fld are left to fidlab fid")
	f.StringVar(&o.job.Read.Features, "features", "", "extract features of images by `NAME` or NAME:TAP; default: as REF's statistics were made, else inception")
	f.StringVar(&o.job.Read.Preset, "preset", "", "resize and scale as `TOOL` does; see fidlab extractors")
	f.StringVar(&o.job.Read.Weights, "weights", "", "take the network's weights from `FILE`, a path on every worker or in a store")
	f.StringVar(&o.job.Read.Precision, "precision", "fp32", "compute the network in `P`: fp32, bf16 or bf16x3")
	f.StringVar(&o.job.Read.Column, "column", "", "of Parquet tables take the column `NAME`; default: image, or the only one that fits")
	f.BoolVar(&o.job.Read.SkipBad, "skip-bad", false, "leave out images that cannot be read")
	f.BoolVar(&o.job.Read.Force, "force", false, "accept weights of an unknown hash, and sets not made alike")
	f.StringVar(&o.keep, "keep", "96M", "keep the feature vectors of a set while they take no more than `SIZE` (K, M, G), which the interval and most metrics need")
	f.IntVar(&o.job.Lanes, "lanes", 1, "read `N` shards side by side on Prism, each with all processors; other runners do so by themselves")
	f.IntVar(&o.job.NearestK, "nearest-k", 0, "balls of pr and dc reach to the `K`-th nearest neighbour; 0 is 3 and 5")
	f.BoolVar(&o.job.NoCI, "no-ci", false, "estimate no confidence interval")
	f.Float64Var(&o.job.Level, "ci-level", 0.95, "confidence `LEVEL` of the interval")
	f.Uint64Var(&o.job.Seed, "seed", 0, "seed `S` of the interval's resamples")
	f.StringVar(&o.log, "log", "warn", "show the SDK's messages from `LEVEL` on: debug, info, warn or error")
	f.BoolVar(&o.json, "json", false, "print result.json instead of the value")
	f.BoolVar(&o.version, "version", false, "print the version")
}

// run registers its flags beside those that Beam's runners have.
func run(args []string, stdout, stderr io.Writer) int {
	var o options
	o.register(flag.CommandLine)
	flag.CommandLine.Init("fidlab-beam", flag.ContinueOnError)
	flag.CommandLine.SetOutput(stderr)
	flag.Usage = func() {
		fmt.Fprint(stderr, usage)
		flag.PrintDefaults()
	}
	switch err := flag.CommandLine.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		return exitUsage
	}
	if o.version {
		fmt.Fprintln(stdout, "fidlab-beam", version)
		return 0
	}
	if !slices.Contains([]string{"debug", "info", "warn", "error"}, o.log) {
		return report(stderr, usageError{fmt.Errorf("--log %q: want debug, info, warn or error", o.log)})
	}
	log.LogLevel = o.log
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	beam.Init() // a worker of a remote runner does its work in here and never returns
	return report(stderr, o.compare(ctx, flag.Args(), stdout, stderr))
}

// usageError is a command line that cannot be understood.
type usageError struct{ error }

func report(stderr io.Writer, err error) int {
	if err == nil {
		return 0
	}
	fmt.Fprintln(stderr, "fidlab-beam:", brief(err))
	var u usageError
	if errors.As(err, &u) {
		return exitUsage
	}
	return pipeline.ExitCode(err)
}

// brief is what went wrong in a worker, without the plan around it that the SDK's log has already shown.
func brief(err error) string {
	const mark = "caused by:\n"
	text := err.Error()
	if at := strings.LastIndex(text, mark); at >= 0 {
		text = text[at+len(mark):]
	}
	return strings.TrimSpace(text)
}

func (o *options) compare(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	if err := o.fill(ctx, args); err != nil {
		return err
	}
	j := &o.job
	fmt.Fprintf(stderr, "%d shards of ref, %d of gen; features of images by %s\n", len(j.Ref), len(j.Gen), j.Read.Features)
	p, s := beam.NewPipelineWithRoot()
	pipeline.Build(s, *j)
	if err := beamx.Run(ctx, p); err != nil {
		return err
	}
	if *jobopts.Async {
		fmt.Fprintf(stderr, "the job was handed over; it writes to %s\n", j.Out)
		return nil
	}
	return o.print(ctx, stdout, stderr)
}

// fill makes the job of flags and arguments.
func (o *options) fill(ctx context.Context, args []string) error {
	j := &o.job
	if len(args) < 1 || len(args) > 2 {
		return usageError{fmt.Errorf("%d arguments; want REF and GEN, or one set, after the flags", len(args))}
	}
	if j.Out == "" {
		return usageError{errors.New("give -o OUT, the place for the results")}
	}
	var err error
	if j.Keep, err = bytesOf(o.keep); err != nil {
		return usageError{fmt.Errorf("--keep %q: %w", o.keep, err)}
	}
	j.Metrics, j.Read.Version = strings.Split(o.metrics, ","), version
	if shard.HoldsStats(ctx, args[0]) {
		j.RefStats = args[0]
		if err := o.likeReference(ctx); err != nil {
			return err
		}
	} else if j.Ref, err = shard.Expand(ctx, args[0]); err != nil {
		return err
	}
	if len(args) == 2 {
		if j.Gen, err = shard.Expand(ctx, args[1]); err != nil {
			return err
		}
	}
	if j.Read.Features == "" {
		j.Read.Features = "inception"
	}
	if err := j.Check(); err != nil {
		return usageError{err}
	}
	return nil
}

// likeReference takes the extractor that the reference's statistics were made with.
func (o *options) likeReference(ctx context.Context) error {
	s, err := pipeline.ReadStats(ctx, o.job.RefStats)
	if err != nil {
		return err
	}
	if c := &o.job.Read; s.Provenance != nil && c.Features == "" {
		c.Features = s.Provenance.Extractor.Name
		if c.Preset == "" {
			c.Preset = s.Provenance.Extractor.Preset
		}
	}
	return nil
}

// bytesOf reads a size such as 96M.
func bytesOf(text string) (int64, error) {
	unit := int64(1)
	for i, u := range "KMG" {
		if cut, ok := strings.CutSuffix(text, string(u)); ok {
			text, unit = cut, 1<<(10*(i+1))
		}
	}
	var n int64
	if _, err := fmt.Sscanf(text+"\n", "%d\n", &n); err != nil || n < 0 || n > (1<<40)/unit {
		return 0, errors.New("want a size from 0 to 1024G, such as 96M")
	}
	return n * unit, nil
}

// print shows what the job wrote.
func (o *options) print(ctx context.Context, stdout, stderr io.Writer) error {
	j := &o.job
	if len(j.Gen) == 0 {
		_, err := fmt.Fprintln(stdout, j.StatsPath(pipeline.Ref))
		return err
	}
	local, done, err := shard.Local(ctx, j.Path(pipeline.ResultFile))
	if err != nil {
		return err
	}
	defer done()
	raw, err := os.ReadFile(local)
	if err != nil {
		return err
	}
	if o.json {
		_, err := stdout.Write(raw)
		return err
	}
	var res struct {
		Metrics map[string]json.RawMessage `json:"metrics"`
		N       fid.Counts                 `json:"n"`
		Notes   []string                   `json:"notes"`
	}
	if err := json.Unmarshal(raw, &res); err != nil {
		return fmt.Errorf("%s: %w", j.Path(pipeline.ResultFile), err)
	}
	fmt.Fprintf(stderr, "n: %d reference, %d generated\n", res.N.Ref, res.N.Gen)
	for _, n := range res.Notes {
		fmt.Fprintln(stderr, "note:", n)
	}
	for _, m := range j.Metrics {
		if m == "fid" {
			var v fid.FIDValue
			if err := json.Unmarshal(res.Metrics[m], &v); err != nil {
				return err
			}
			if v.CI != nil {
				fmt.Fprintf(stderr, "fid %.4f, %g %% interval %.4f to %.4f\n", v.Value, 100*v.CILevel, v.CI[0], v.CI[1])
			}
			if len(j.Metrics) == 1 {
				fmt.Fprintf(stdout, "%.4f\n", v.Value)
				continue
			}
		}
		var line bytes.Buffer
		if err := json.Compact(&line, res.Metrics[m]); err != nil {
			return err
		}
		fmt.Fprintf(stdout, "%s %s\n", m, &line)
	}
	return nil
}

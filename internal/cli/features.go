package cli

import (
	"context"
	"errors"
	"strings"

	"github.com/spf13/cobra"

	"github.com/fidlab/fidlab/fid"
	"github.com/fidlab/fidlab/imageio"
	"github.com/fidlab/fidlab/internal/cpu"
	"github.com/fidlab/fidlab/tensor"
)

type featuresOptions struct {
	input string
	x     extraction
	out   target
}

func newFeatures(a *app) *cobra.Command {
	var o featuresOptions
	cmd := &cobra.Command{
		Use:   "features INPUT -o F.npy",
		Short: "Write the feature vectors of images as an array",
		Long: `Write the feature vectors of images as float32 [n,d], in the order of the input,
and beside them F.npy.json, the record of how they were made.

` + inputHelp,
		Example: `  fidlab features photos/ --preset clean -o photos.npy
  fidlab features mnist:test -o test.npy`,
		Args: nargs("one input", 1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.input = args[0]
			return runFeatures(cmd.Context(), a, &o)
		},
	}
	o.x.flags(cmd)
	o.out.flags(cmd.Flags(), "the feature vectors (.npy)")
	return cmd
}

func runFeatures(ctx context.Context, a *app, o *featuresOptions) error {
	if err := o.x.check(); err != nil {
		return err
	}
	if err := o.out.check(); err != nil {
		return err
	}
	record := target{path: recordPath(o.out.path), overwrite: o.out.overwrite}
	if err := record.check(); err != nil {
		return err
	}
	in, err := a.openSet(ctx, &o.x, o.input)
	if err != nil {
		return err
	}
	defer in.close()
	if in.motions {
		return a.writeClips(in, &o.out)
	}
	if in.src == nil {
		return inputf("%s: holds feature vectors or statistics already; want images", o.input)
	}
	why := o.x.choose(in)
	e, err := a.openExtractor(ctx, &o.x, why, in.src)
	if err != nil {
		return err
	}
	rows, got, err := a.extract(ctx, in.src, e, &o.x)
	if err != nil {
		return err
	}
	prov := a.provenance(in.src, e, &got)
	info := e.Info()
	n := len(rows) / info.Dim
	if err := writeVectors(o.out.path, tensor.FromF32(rows, n, info.Dim), prov, o.out.options()...); err != nil {
		return err
	}
	a.sayCollected(in.src, &got)
	if a.json {
		return a.printJSON(map[string]any{
			"file": o.out.path, "n": n, "dim": info.Dim, "skipped": got.Skipped, "provenance": prov,
		})
	}
	a.printf("%s\n", o.out.path)
	a.say("%s: %d vectors of %d features%s", o.out.path, n, info.Dim, inBrackets(info.Note))
	return nil
}

// writeClips writes the feature vectors of motions.
func (a *app) writeClips(in *input, out *target) error {
	s := in.stats
	if err := writeVectors(out.path, tensor.FromF32(s.Features, s.N, s.Dim()), s.Provenance, out.options()...); err != nil {
		return err
	}
	if a.json {
		return a.printJSON(map[string]any{"file": out.path, "n": s.N, "dim": s.Dim(), "skipped": []fid.Skipped{}, "provenance": s.Provenance})
	}
	a.printf("%s\n", out.path)
	a.say("%s: %d vectors of %d features%s", out.path, s.N, s.Dim(), inBrackets(s.Provenance.Extractor.Note))
	return nil
}

// openExtractor settles the device, opens the extractor and says both.
func (a *app) openExtractor(ctx context.Context, x *extraction, why string, src imageio.Source) (fid.Extractor, error) {
	dev, err := a.openDevice("auto")
	if err != nil {
		return nil, err
	}
	e, err := x.open(ctx, a, dev, src)
	if err != nil {
		return nil, err
	}
	info, on := e.Info(), fid.DeviceOf(e)
	a.say("features: %s, preset %s, %s on %s with %d threads%s", info.Name, info.Preset, info.Precision, on, cpu.Workers(), why)
	if on == "cpu" && strings.HasPrefix(a.device, "cuda") {
		a.say("%s has no GPU code: its features are computed on the CPU", info.Name)
	}
	if on == "cpu" && flavour != "native" && x.heavy() {
		a.say("this binary is pure Go, in which the network is slow; make build builds the fast one")
	}
	return e, nil
}

// extract returns the features [n,d] of a source in its order.
func (a *app) extract(ctx context.Context, src imageio.Source, e fid.Extractor, x *extraction) ([]float32, fid.Collected, error) {
	p := a.progress("features of "+src.Describe(), "images", lengthOf(src, x.max))
	defer p.End()
	var rows []float32
	cache := a.featureCache(x, e)
	defer cache.close()
	o := x.collect(p)
	o.Cache = cache.of()
	got, err := fid.EachFeatures(ctx, src, e, o, func(_ *cpu.Worker, r []float32) error {
		rows = append(rows, r...)
		return nil
	})
	if err == nil {
		a.sayCached(&got)
	}
	return rows, got, ofImages(e, err)
}

// collect is the options of reading a set.
func (x *extraction) collect(p *progress) fid.CollectOptions {
	return fid.CollectOptions{Batch: x.batch, Limit: x.max, SkipBad: x.skipBad, Progress: p.Set, Version: version}
}

// inBrackets is " (note)", or nothing for no note.
func inBrackets(note string) string {
	if note == "" {
		return ""
	}
	return " (" + note + ")"
}

// ofImages marks an error that the pictures are to blame for: identity needs them of one size.
func ofImages(e fid.Extractor, err error) error {
	if err != nil && e.Info().Name == "identity" && !errors.Is(err, context.Canceled) {
		return &inputError{err}
	}
	return err
}

// lengthOf is the number of pictures to come, -1 when only reading tells.
func lengthOf(src imageio.Source, limit int) int {
	n := src.Len()
	if limit > 0 && n > limit {
		return limit
	}
	return n
}

func (a *app) provenance(src imageio.Source, e fid.Extractor, got *fid.Collected) *fid.Provenance {
	return &fid.Provenance{
		Version: version, Input: src.Describe(), Extractor: e.Info(), Device: fid.DeviceOf(e),
		Decoders: got.Summary.DecoderNames(), Skipped: len(got.Skipped), Notes: got.Summary.Notes(),
	}
}

// sayCollected tells what reading came across: conversions and what was left out.
func (a *app) sayCollected(src imageio.Source, got *fid.Collected) {
	a.saySkipped(got.Summary.Bad)
	for _, n := range got.Summary.Notes() {
		a.say("%s: %s", src.Describe(), n)
	}
}

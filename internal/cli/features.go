package cli

import (
	"context"
	"slices"
	"sync"

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
	o.x.flags(cmd.Flags())
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
	in, err := a.openInput(o.input, o.x.skipBad)
	if err != nil {
		return err
	}
	if in.src == nil {
		return inputf("%s: holds feature vectors or statistics already; want images", o.input)
	}
	why := o.x.choose(in)
	e, err := a.openExtractor(ctx, &o.x, why, in.src)
	if err != nil {
		return err
	}
	rows, sum, err := a.extract(ctx, in.src, e, &o.x)
	if err != nil {
		return err
	}
	prov := a.provenance(in.src, e, &sum)
	info := e.Info()
	n := len(rows) / info.Dim
	if err := tensor.WriteNPYFile(o.out.path, tensor.FromF32(rows, n, info.Dim), o.out.options()...); err != nil {
		return err
	}
	if err := writeRecord(o.out.path, prov, o.out.options()...); err != nil {
		return err
	}
	a.saySummary(in.src, &sum)
	if a.json {
		return a.printJSON(map[string]any{
			"file": o.out.path, "n": n, "dim": info.Dim, "skipped": orNone(sum.Bad), "provenance": prov,
		})
	}
	a.printf("%s\n", o.out.path)
	a.say("%s: %d vectors of %d features", o.out.path, n, info.Dim)
	return nil
}

// openExtractor settles the device, opens the extractor and says both.
func (a *app) openExtractor(ctx context.Context, x *extraction, why string, src imageio.Source) (fid.Extractor, error) {
	device, err := a.useDevice()
	if err != nil {
		return nil, err
	}
	e, err := x.open(ctx, a, src)
	if err != nil {
		return nil, err
	}
	info := e.Info()
	a.say("features: %s, preset %s, %s on %s with %d threads%s", info.Name, info.Preset, info.Precision, device, cpu.Workers(), why)
	if info.Note != "" {
		a.say("note: %s", info.Note)
	}
	return e, nil
}

// extract returns the features [n,d] of a source in its order.
func (a *app) extract(ctx context.Context, src imageio.Source, e fid.Extractor, x *extraction) ([]float32, imageio.Summary, error) {
	type part struct {
		seq  int
		rows []float32
	}
	var (
		mu    sync.Mutex
		parts []part
		d     = e.Info().Dim
	)
	p := a.progress("features of "+src.Describe(), "images", lengthOf(src, x.max))
	defer p.End()
	o := imageio.BatchOptions{Size: x.batch, Limit: x.max, SkipBad: x.skipBad, Progress: p.Set}
	if o.Size == 0 {
		o.Size = e.Batch()
	}
	sum, err := imageio.Batches(ctx, src, o, func(w *cpu.Worker, b *imageio.Batch) error {
		rows := make([]float32, len(b.Images)*d)
		for at := 0; at < len(b.Images); at += e.Batch() {
			k := min(e.Batch(), len(b.Images)-at)
			if err := e.Features(w, b.Images[at:at+k], rows[at*d:(at+k)*d]); err != nil {
				return ofImages(e, err)
			}
		}
		mu.Lock()
		parts = append(parts, part{b.Seq, rows})
		mu.Unlock()
		return nil
	})
	if err != nil {
		return nil, sum, err
	}
	slices.SortFunc(parts, func(a, b part) int { return a.seq - b.seq })
	rows := make([]float32, 0, sum.Images*d)
	for _, p := range parts {
		rows = append(rows, p.rows...)
	}
	return rows, sum, nil
}

// ofImages marks an error that the pictures are to blame for: identity needs them of one size.
func ofImages(e fid.Extractor, err error) error {
	if e.Info().Name == "identity" {
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

func (a *app) provenance(src imageio.Source, e fid.Extractor, sum *imageio.Summary) *fid.Provenance {
	return &fid.Provenance{
		Version: version, Input: src.Describe(), Extractor: e.Info(), Device: "cpu",
		Decoders: sum.DecoderNames(), Skipped: len(sum.Bad), Notes: sum.Notes(),
	}
}

// saySummary tells what decoding came across: conversions and what was left out.
func (a *app) saySummary(src imageio.Source, sum *imageio.Summary) {
	a.saySkipped(sum.Bad)
	for _, n := range sum.Notes() {
		a.say("%s: %s", src.Describe(), n)
	}
}

// orNone makes a nil list an empty one, which JSON tells apart.
func orNone(bad []imageio.Bad) []imageio.Bad {
	if bad == nil {
		return []imageio.Bad{}
	}
	return bad
}

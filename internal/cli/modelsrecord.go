package cli

import (
	"bytes"
	"encoding/json"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/fidlab/fidlab/assets"
	"github.com/fidlab/fidlab/text"
)

type recordOptions struct {
	index, run, fid, floor, against, note string
	figures                               []string
}

func newModelsRecord(a *app) *cobra.Command {
	var o recordOptions
	cmd := &cobra.Command{
		Use:   "record NAME --index F.json",
		Short: "Write what was measured of a shipped model into an index of assets",
		Long: `Write what was measured of a model into its entry in an index of assets, so that no
figure is copied by hand: the Fréchet distance of its samples from the JSON of
fidlab fid, how they were drawn from their run.json, and the same distance of as
many real pictures, the floor. Files that do not belong together are refused:
another model's samples, another number of them, another extractor or reference.
Other figures come from files of {"name": …, "value": …} with the fields of the
index (docs/models.md). A figure of the same name, encoder and sampling replaces
the one before.`,
		Example: `  fidlab sample --model assets/mnist-unet.safetensors --steps 50 -n 10000 -o /tmp/unet
  fidlab fid mnist:test /tmp/unet --json > unet.json
  fidlab fid mnist:test 'mnist:train?n=10000' --json > floor.json
  fidlab models record mnist-unet --samples /tmp/unet/run.json --fid unet.json --floor floor.json --against mnist:test --index assets/index.json`,
		Args: nargs("the name of an entry", 1, 1),
		RunE: func(_ *cobra.Command, args []string) error { return runRecord(a, &o, args[0]) },
	}
	f := cmd.Flags()
	f.StringVar(&o.index, "index", "", "the index of assets `F.json`")
	f.StringVar(&o.run, "samples", "", "the samples' record `F`, run.json of fidlab sample")
	f.StringVar(&o.fid, "fid", "", "their distance `F`, of fidlab fid --json; - is standard input")
	f.StringVar(&o.floor, "floor", "", "the distance `F` of as many real pictures to the same reference")
	f.StringVar(&o.against, "against", "", "the reference's `NAME`, such as mnist:test")
	f.StringVar(&o.note, "note", "", "`WORDS` to the distance")
	f.StringSliceVar(&o.figures, "figure", nil, "another figure, or a list of them, from `F.json`")
	f.SortFlags = false
	return cmd
}

// fidJSON is what is used of the JSON of fidlab fid.
type fidJSON struct {
	Metrics struct {
		FID *struct {
			Value float64     `json:"value"`
			CI    *[2]float64 `json:"ci"`
			Level float64     `json:"ci_level"`
		} `json:"fid"`
	} `json:"metrics"`
	N struct {
		Ref int `json:"ref"`
		Gen int `json:"gen"`
	} `json:"n"`
	Extractor struct {
		Name   string `json:"name"`
		SHA256 string `json:"sha256"`
	} `json:"extractor"`
}

func runRecord(a *app, o *recordOptions, name string) error {
	switch {
	case o.index == "":
		return usagef("want --index F.json, the index to write into")
	case o.fid == "" && len(o.figures) == 0:
		return usagef("want --fid F or --figure F.json, what was measured")
	case o.fid == "" && (o.floor != "" || o.run != "" || o.against != "" || o.note != ""):
		return usagef("--samples, --floor, --against and --note go with --fid")
	case o.fid != "" && (o.run == "" || o.against == ""):
		return usagef("--fid wants --samples run.json and --against NAME")
	}
	x, err := assets.ReadIndex(o.index)
	if err != nil {
		return &inputError{err}
	}
	e, ok := x.Lookup(name)
	if !ok {
		if best := text.Nearest(name, x.Names()); best != "" {
			return inputf("%s: no entry %q; did you mean %s?", o.index, name, best)
		}
		return inputf("%s: no entry %q; fidlab models export --index makes entries", o.index, name)
	}
	var all []assets.Figure
	if o.fid != "" {
		f, err := o.distance(a, &e)
		if err != nil {
			return err
		}
		all = append(all, f)
	}
	for _, path := range o.figures {
		list, err := readFigures(path)
		if err != nil {
			return err
		}
		all = append(all, list...)
	}
	for _, f := range all {
		e.Measured(f)
	}
	x.Put(e)
	if err := x.Write(o.index); err != nil {
		return err
	}
	if a.json {
		return a.printJSON(e)
	}
	for _, f := range all {
		a.printf("%s\n", figureText(f))
	}
	return nil
}

// distance is the figure of --fid.
func (o *recordOptions) distance(a *app, e *assets.Entry) (assets.Figure, error) {
	var none assets.Figure
	var run sampleRun
	if err := readJSON(a, o.run, &run); err != nil {
		return none, err
	}
	var d, floor fidJSON
	if err := readJSON(a, o.fid, &d); err != nil {
		return none, err
	}
	switch {
	case run.ModelSHA256 != e.SHA256:
		return none, inputf("%s: the samples are of a model of SHA-256 %q; %s has %s: draw them from the file of the index", o.run, run.ModelSHA256, e.Name, e.SHA256)
	case d.Metrics.FID == nil:
		return none, inputf("%s: has no metrics.fid; want what fidlab fid --json printed", o.fid)
	case d.N.Gen != run.N:
		return none, inputf("%s: of %d pictures, and %s of %d: not the same samples", o.fid, d.N.Gen, o.run, run.N)
	}
	f := assets.Figure{
		Name: "fid", Value: d.Metrics.FID.Value, N: run.N, Against: o.against, Encoder: d.Extractor.Name, EncoderSHA256: d.Extractor.SHA256,
		Sampler: run.Sampler, Steps: run.Steps, Guidance: run.Guidance, Seed: run.Seed, Note: o.note,
	}
	if ci := d.Metrics.FID.CI; ci != nil {
		f.Interval, f.Level = ci, d.Metrics.FID.Level
	}
	if o.floor == "" {
		return f, nil
	}
	if err := readJSON(a, o.floor, &floor); err != nil {
		return none, err
	}
	switch {
	case floor.Metrics.FID == nil:
		return none, inputf("%s: has no metrics.fid; want what fidlab fid --json printed", o.floor)
	case floor.N != d.N || floor.Extractor != d.Extractor:
		return none, inputf("%s: %d pictures against %d by %s (%.12s), and %s: %d against %d by %s (%.12s); a floor is measured as the samples are",
			o.floor, floor.N.Gen, floor.N.Ref, floor.Extractor.Name, floor.Extractor.SHA256, o.fid, d.N.Gen, d.N.Ref, d.Extractor.Name, d.Extractor.SHA256)
	}
	f.Floor = &floor.Metrics.FID.Value
	return f, nil
}

// maxRecordJSON bounds the files that are read here.
const maxRecordJSON = 16 << 20

// readJSON reads one JSON object.
func readJSON(a *app, path string, to any) error {
	r := a.env.Stdin
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return &inputError{err}
		}
		defer f.Close()
		r = f
	}
	if err := json.NewDecoder(io.LimitReader(r, maxRecordJSON)).Decode(to); err != nil {
		return inputf("%s: %w", path, err)
	}
	return nil
}

// readFigures reads a figure, or a list of them. A field that figures lack is an error.
func readFigures(path string) ([]assets.Figure, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, &inputError{err}
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxRecordJSON))
	if err != nil {
		return nil, &inputError{err}
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	list := make([]assets.Figure, 1)
	if bytes.HasPrefix(bytes.TrimSpace(b), []byte("[")) {
		err = d.Decode(&list)
	} else {
		err = d.Decode(&list[0])
	}
	if err != nil {
		return nil, inputf("%s: %w; want a figure of an index of assets, or a list of them", path, err)
	}
	for _, f := range list {
		if err := f.Check(); err != nil {
			return nil, inputf("%s: %w", path, err)
		}
	}
	return list, nil
}

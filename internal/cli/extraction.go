package cli

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/fidlab/fidlab/fid"
	"github.com/fidlab/fidlab/fid/extract"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/imageio"
	"github.com/fidlab/fidlab/internal/cpu/plan"
)

// extraction is how pictures become feature vectors: the flags of every
// command that does it.
type extraction struct {
	features  string // name or name:tap; "" for the default
	preset    string
	weights   string
	precision string
	batch     int
	max       int
	skipBad   bool
	force     bool
	labels    bool     // pictures' classes are wanted
	cache     string   // auto, on or off
	parts     []string // what metrics need beside the features
	usual     string   // the extractor that the metrics are published with, "" for inception
}

func (x *extraction) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&x.features, "features", "", "extract features by `NAME` or NAME:TAP (fidlab extractors lists them), or by onnx:net.onnx; default: its own for a set such as mnist:* or shapes:*, else inception")
	f.StringVar(&x.preset, "preset", "", "resize and scale as `TOOL` does: "+strings.Join(presetNames(), ", ")+", or the recipe of one of "+strings.Join(toolNames(), ", ")+"; default: pytorch-fid for inception; other networks have their own, see fidlab extractors")
	f.StringVar(&x.weights, "weights", "", "take the network's weights from `FILE` (default: searched, see fidlab weights list)")
	f.StringVar(&x.precision, "precision", "fp32", "compute the network in `P`: fp32, bf16 or bf16x3")
	f.IntVar(&x.batch, "batch", 0, "hand `N` images at a time to a worker; the features do not depend on it")
	f.IntVar(&x.max, "max-n", 0, "use the first `N` images only; 0 uses all")
	f.BoolVar(&x.skipBad, "skip-bad", false, "leave out images that cannot be read, and list them")
	f.StringVar(&x.cache, "cache", "auto", "keep features of pictures by their content, so that an interrupted run goes on: `WHEN` auto (networks that take their time), on or off")
	completes(cmd, "cache", "auto", "on", "off")
	f.BoolVar(&x.force, "force", false, "accept what would be refused: weights of an unknown hash, sets not made alike")
	completes(cmd, "features", extractorNames()...)
	completes(cmd, "preset", slices.Concat(allPresets(), toolNames())...)
	completes(cmd, "precision", precisionNames()...)
}

func extractorNames() []string {
	var names []string
	for _, e := range extract.List() {
		names = append(names, e.Name)
	}
	return names
}

func precisionNames() []string {
	var names []string
	for _, p := range precisions {
		names = append(names, p.String())
	}
	return names
}

var precisions = []plan.Precision{plan.F32, plan.BF16, plan.SplitBF16}

func presetNames() []string {
	var names []string
	for _, p := range extract.Presets {
		names = append(names, p.Name)
	}
	return names
}

// toolNames are the tools whose recipes fidlab knows.
func toolNames() []string {
	var names []string
	for _, t := range fid.Tools {
		names = append(names, t.Name)
	}
	return names
}

// allPresets are those of every network, each once.
func allPresets() []string {
	names := presetNames()
	for _, e := range extract.List() {
		for _, p := range e.Presets {
			if !slices.Contains(names, p) {
				names = append(names, p)
			}
		}
	}
	return names
}

// check refuses values that no extractor has.
func (x *extraction) check() error {
	if x.batch < 0 || x.max < 0 {
		return usagef("--batch %d, --max-n %d: want 0 or more", x.batch, x.max)
	}
	_, tool := fid.FindTool(x.preset)
	if x.preset != "" && x.preset != "native" && !tool && !slices.Contains(allPresets(), x.preset) {
		return unknown("preset", x.preset, append(allPresets(), "native"))
	}
	if _, err := precisionOf(x.precision); err != nil {
		return err
	}
	if !slices.Contains([]string{"auto", "on", "off"}, x.cache) {
		return unknown("--cache", x.cache, []string{"auto", "on", "off"})
	}
	if x.features == "" {
		return nil
	}
	name, tap, _ := strings.Cut(x.features, ":")
	e, ok := extract.Find(name)
	if !ok {
		return unknown("extractor", name, extractorNames())
	}
	if e.Presets != nil && x.preset != "" && x.preset != "native" && !slices.Contains(e.Presets, x.preset) {
		return unknown("preset of "+name, x.preset, append(slices.Clone(e.Presets), "native"))
	}
	switch {
	case tap == "":
	case e.CheckTap != nil:
		if err := e.CheckTap(tap); err != nil {
			return usagef("--features %s: %w", x.features, err)
		}
	default:
		if _, ok := extract.Taps[tap]; !ok {
			return unknown("tap", tap, slices.Collect(maps.Keys(extract.Taps)))
		}
	}
	return nil
}

func precisionOf(name string) (plan.Precision, error) {
	for _, p := range precisions {
		if p.String() == name {
			return p, nil
		}
	}
	return 0, unknown("precision", name, precisionNames())
}

// ownFeatures are the extractors of sets, which compare their pictures by default.
var ownFeatures = map[string]string{
	"mnist": "mnist", "shapes": "shapes-enc", "shapes16": "shapes16-enc", "digits": "digits-enc",
	"city": "city-enc", "street": "street-enc", "facades": "facade-enc",
}

// choose fills in the default extractor for these inputs, and says why it is that one.
func (x *extraction) choose(ins ...*input) (why string) {
	if x.features != "" {
		return ""
	}
	for _, in := range ins {
		if in.stats != nil && in.stats.Provenance != nil && in.stats.Provenance.Extractor.Name != "" {
			e := in.stats.Provenance.Extractor
			x.features = e.Name
			if x.preset == "" {
				x.preset = e.Preset
			}
			return ", as " + in.arg + " was made"
		}
	}
	for _, in := range ins {
		set, _, ok := strings.Cut(in.arg, ":")
		own := ownFeatures[set]
		if _, known := extract.Find(own); ok && known {
			x.features = own
			return ", the default for " + set + ":*"
		}
	}
	if x.usual != "" {
		x.features = x.usual
		return ", the default for these metrics"
	}
	x.features = "inception"
	return ", the default for images"
}

// heavy tells whether the extractor is a network that takes its time.
func (x *extraction) heavy() bool {
	name, _, _ := strings.Cut(x.features, ":")
	return needsFile(name) || x.network()
}

// network tells whether the extractor is the Inception network, with whatever weights.
func (x *extraction) network() bool {
	name, _, _ := strings.Cut(x.features, ":")
	return name == "inception" || name == "random"
}

// open makes the extractor. The pictures tell the size that identity needs.
func (x *extraction) open(ctx context.Context, a *app, dev *gpu.Device, src imageio.Source) (fid.Extractor, error) {
	name, tap, _ := strings.Cut(x.features, ":")
	o := extract.Options{Preset: x.preset, Parts: x.parts, Tap: tap, Weights: x.weights, Force: x.force, Getenv: a.env.Getenv, Device: dev}
	o.Precision, _ = precisionOf(x.precision) // checked before
	if err := plan.Available(o.Precision); err != nil && !dev.CUDA() {
		return nil, fmt.Errorf("--precision %s: %w; use fp32", x.precision, err)
	}
	if x.preset == "native" && x.network() {
		return nil, usagef("--preset native: %s resizes and scales as a tool does: %s", name, strings.Join(presetNames(), ", "))
	}
	if name == "identity" {
		img, err := firstImage(ctx, src)
		if err != nil {
			return nil, err
		}
		o.Width, o.Height = img.Width, img.Height
	}
	e, err := extract.Open(name, o)
	switch {
	case err == nil:
		if x.heavy() {
			debug.FreeOSMemory() // copies of the weights have served
		}
		return e, nil
	case needsFile(name):
		return nil, &inputError{err} // its weights: missing, damaged or not the published ones
	}
	return nil, usagef("%w", err)
}

// needsFile tells whether an extractor reads weights from a file.
func needsFile(name string) bool {
	e, _ := extract.Find(name)
	return e.Needs != ""
}

// firstImage decodes the first picture of a source that can be read twice.
func firstImage(ctx context.Context, src imageio.Source) (*imageio.Image, error) {
	if src.Len() < 0 {
		return nil, usagef("--features identity needs the size of the pictures before the first is read; a stream cannot tell it")
	}
	var first *imageio.Item
	stop := errors.New("first image")
	err := src.Each(ctx, func(it imageio.Item) error {
		first = &it
		return stop
	})
	if first == nil {
		return nil, fmt.Errorf("%s: %w", src.Describe(), err)
	}
	img, err := first.Load()
	if err != nil {
		return nil, inputf("%s: %w", first.Name, err)
	}
	return img, nil
}

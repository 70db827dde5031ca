package extract

import (
	"fmt"
	"strings"

	"github.com/fidlab/fidlab/fid"
	"github.com/fidlab/fidlab/imageio"
)

// Preset is a published way from a picture to the Inception network's input:
// resize to 299x299, then v*Scale + Offset for v on the scale 0..255.
type Preset struct {
	Name          string
	Resize        imageio.ResizeKind
	Scale, Offset float32
	Used          string // by which tools
	spatial       string // the node of sFID's map, whose first branch's first channels are taken; "" for ADM's
}

// Presets lists the ways that results have been published with; the first is the default.
var Presets = []Preset{
	{"pytorch-fid", imageio.TorchBilinear, 2.0 / 255, -1, "pytorch-fid, clean-fid's legacy_pytorch, dgm-eval", ""},
	{"clean", imageio.PILFloat(imageio.Bicubic), 1.0 / 128, -1, "clean-fid", ""},
	{"tf", imageio.TF1Bilinear, 1.0 / 128, -1, "TTUR, ADM's evaluator, torch-fidelity, EDM", ""},
	{"torchmetrics", imageio.TorchBilinearAA, 1.0 / 128, -1, "torchmetrics since 1.8", ""},
	{"pyiqa", imageio.PILFloat(imageio.Bicubic), 1.0 / 128, -1, "pyiqa: clean-fid's, with sFID of the block Mixed_6a", "Mixed_6a.branch3x3"},
}

// preset is the way of that name, or the way of a tool of that name.
func preset(name string) (Preset, error) {
	if name == "" {
		return Presets[0], nil
	}
	if t, ok := fid.FindTool(name); ok {
		name = t.Inception
	}
	var names []string
	for _, p := range Presets {
		if p.Name == name {
			return p, nil
		}
		names = append(names, p.Name)
	}
	return Preset{}, fmt.Errorf("no preset %q; there are %s", name, strings.Join(names, ", "))
}

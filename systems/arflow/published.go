package arflow

import (
	"slices"
	"strings"

	"github.com/fidlab/fidlab/data"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/tensor"
)

// LoadPublished makes a network of a configuration, say that of Preset("ar-xl-2"), with the weights of a checkpoint of the authors' code as a
// .safetensors file: bare names as models.py has them, or ema. and model. before them as train.py writes, of which the average is
// taken. It refuses a file that lacks a tensor, has another besides, or one of another shape.
func LoadPublished(dev *gpu.Device, path string, c Config) (*Net, error) {
	if err := c.Check(); err != nil {
		return nil, err
	}
	f, err := tensor.OpenSafetensors(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	average := slices.ContainsFunc(f.Names(), func(n string) bool { return strings.HasPrefix(n, "ema.") })
	params := nn.NewParams(dev, gpu.Float32)
	net := New(params.At(""), c)
	params.Init(0)
	if _, err := nn.LoadFrom(f, nn.LoadOptions{Rename: func(n string) string { return publishedName(n, average) }}, nn.Part{Of: params}); err != nil {
		return nil, data.Errorf("arflow: %s as a network of width %d, depth %d, patches of %d: %w", path, c.Dim, c.Depth, c.Patch, err)
	}
	return net, nil
}

// publishedName is the name here of a tensor of a published checkpoint, without the prefixes that wrappers leave; "" for what is not wanted
// of one that has an average.
func publishedName(name string, average bool) string {
	rest, ok := strings.CutPrefix(name, "ema.")
	if average && !ok {
		return ""
	}
	for _, prefix := range []string{"model.", "module.", "_orig_mod."} {
		rest = strings.TrimPrefix(rest, prefix)
	}
	return rest
}

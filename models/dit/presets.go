package dit

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/fidlab/fidlab/nn"
)

// size is a published size of transformers.
type size struct{ dim, depth, heads int }

var sizes = map[string]size{"S": {384, 12, 6}, "B": {768, 12, 12}, "L": {1024, 24, 16}, "XL": {1152, 28, 16}}

// presets are made once, by name.
var presets = makePresets()

func makePresets() map[string]Config {
	all := map[string]Config{
		// Small ones that learn on two processor cores. Times are in [0, 1]: the factor
		// spreads them over the waves.
		"mnist-dit": {
			Height: 28, Width: 28, Channels: 1, Patch: 4, Dim: 96, Depth: 6, Heads: 3, Classes: 10, TimeFactor: 1000,
		},
		"digits-dit": {
			Height: 8, Width: 8, Channels: 1, Patch: 2, Dim: 64, Depth: 4, Heads: 4, Classes: 10, TimeFactor: 1000,
		},
		"shapes-dit": {
			Height: 32, Width: 32, Channels: 3, Patch: 4, Dim: 128, Depth: 6, Heads: 4, TimeFactor: 1000,
			Norm: RMS, MLP: SwiGLU, QKNorm: nn.QKRMS, Rotary: true, Tokens: map[string]int{"text": 64},
		},
	}
	for name, s := range sizes {
		for _, patch := range []int{2, 4, 8} {
			c := Config{Height: 32, Width: 32, Channels: 4, Patch: patch, Dim: s.dim, Depth: s.depth, Heads: s.heads, Classes: 1000}
			c.Sigma = LearnSigma
			all[fmt.Sprintf("DiT-%s/%d", name, patch)] = c
			c.Sigma = DropSigma
			all[fmt.Sprintf("SiT-%s/%d", name, patch)] = c
		}
		// Of latents of 16×16 with 32 channels.
		c := Config{Height: 16, Width: 16, Channels: 32, Dim: s.dim, Depth: s.depth, Heads: s.heads, Classes: 1000, Norm: RMS, MLP: SwiGLU, Rotary: true}
		for _, patch := range []int{1, 2} {
			c.Patch = patch
			all[fmt.Sprintf("LightningDiT-%s/%d", name, patch)] = c
		}
	}
	for _, u := range []struct {
		name               string
		side, ch, patch    int
		dim, blocks, heads int
	}{
		{"S/2", 32, 3, 2, 512, 13, 8}, {"M/4", 64, 3, 4, 768, 17, 12},
		{"L/2", 32, 4, 2, 1024, 21, 16}, {"L/4", 64, 4, 4, 1024, 21, 16}, {"H/2", 32, 4, 2, 1152, 29, 16}, {"H/4", 64, 4, 4, 1152, 29, 16},
	} {
		c := Config{
			Height: u.side, Width: u.side, Channels: u.ch, Patch: u.patch, Dim: u.dim, Depth: u.blocks, Heads: u.heads, Classes: 1000,
			Norm: Layer, MLP: GELU, Modulation: NoModulation, Places: Learned,
			TimeToken: true, ClassToken: true, PlainTime: true, NoQKVBias: true, LongSkips: true, FinalConv: true,
		}
		if u.name == "S/2" { // that of CIFAR-10, which knows no classes
			c.Classes, c.ClassToken = 0, false
		}
		all["U-ViT-"+u.name] = c
	}
	return all
}

// Presets are the names that Preset knows, in order.
func Presets() []string { return slices.Sorted(maps.Keys(presets)) }

// Preset is a named Config: mnist-dit, digits-dit and shapes-dit, which train on a CPU, and
// the published sizes, say DiT-XL/2 (latents of 32×32×4), SiT-XL/2, LightningDiT-XL/1 (latents
// of 16×16×32) and U-ViT-H/2. Networks of other sizes of pictures differ in Height and Width.
func Preset(name string) (Config, error) {
	c, ok := presets[name]
	if !ok {
		return Config{}, fmt.Errorf("dit: no preset %q, want one of %s", name, strings.Join(Presets(), ", "))
	}
	c.Tokens = maps.Clone(c.Tokens)
	return c, nil
}

// FileName is the name here of a tensor in a published checkpoint: without the prefixes that
// wrappers of PyTorch leave. It is "" for the tables of rotations, which are made anew, not
// loaded. It serves as nn.LoadOptions.Rename.
func FileName(name string) string {
	for _, prefix := range []string{"module.", "_orig_mod.", "ema.", "model."} {
		name = strings.TrimPrefix(name, prefix)
	}
	if strings.HasPrefix(name, "feat_rope.") {
		return ""
	}
	return name
}

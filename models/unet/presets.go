package unet

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/fidlab/fidlab/ops"
)

// presets are configurations by name.
var presets = map[string]func() Config{
	// Small ones for two processor cores.
	"mnist-unet": func() Config {
		return Config{
			Channels: 1, Height: 28, Width: 28, Base: 32, Mult: []int{1, 2, 2}, Blocks: 1, AttnAt: []int{4}, HeadWidth: 32,
			Embed: 128, Groups: 8, Classes: 10, NoneRow: true, ScaleShift: true,
		}
	},
	"shapes-unet": func() Config {
		return Config{
			Channels: 3, Height: 32, Width: 32, Base: 32, Mult: []int{1, 2, 3}, Blocks: 1, AttnAt: []int{4, 2}, HeadWidth: 32,
			Embed: 128, Groups: 8, ScaleShift: true,
		}
	},
	// Published ones.
	"ddpm-cifar10": func() Config { // Ho et al. 2020, 35.7 M parameters
		return Config{
			Channels: 3, Height: 32, Width: 32, Base: 128, Mult: []int{1, 2, 2, 2}, Blocks: 2, AttnAt: []int{2}, Attn: Separate, Groups: 32, Eps: 1e-6,
			PadEnd: true, Dropout: 0.1, Waves: ops.WaveConfig{Width: 128, Shift: 1},
		}
	},
	"adm-imagenet64": func() Config { // Dhariwal and Nichol 2021, 296 M
		return Config{
			Channels: 3, Out: 6, Height: 64, Width: 64, Base: 192, Mult: []int{1, 2, 3, 4}, Blocks: 3, AttnAt: []int{2, 4, 8}, HeadWidth: 64, Groups: 32,
			Classes: 1000, ScaleShift: true, ResampleBlocks: true, Dropout: 0.1,
		}
	},
	"adm-imagenet256": func() Config { // 554 M
		return Config{
			Channels: 3, Out: 6, Height: 256, Width: 256, Base: 256, Mult: []int{1, 1, 2, 2, 4, 4}, Blocks: 2, AttnAt: []int{8, 16, 32}, HeadWidth: 64, Groups: 32,
			Classes: 1000, ScaleShift: true, ResampleBlocks: true,
		}
	},
	"edm-cifar10": func() Config { // DDPM++ as Karras et al. 2022 trained it, with classes: 56 M
		return Config{
			Channels: 3, Height: 32, Width: 32, Base: 128, First: 128, Mult: []int{2, 2, 2}, Blocks: 4, AttnAt: []int{2}, UpLast: true, Attn: PackedByChannel, Eps: 1e-6,
			ResampleBlocks: true, ResampleSkip: true, ResidualScale: math.Sqrt(0.5), Dropout: 0.13, Waves: ops.WaveConfig{Width: 128, Shift: 1},
			Classes: 10, Labels: ColumnsFirst,
		}
	},
	"edm-imagenet64": func() Config { // its ADM, 296 M
		return Config{
			Channels: 3, Height: 64, Width: 64, Base: 192, Mult: []int{1, 2, 3, 4}, Blocks: 3, AttnAt: []int{2, 4, 8}, HeadWidth: 64, Attn: PackedByChannel,
			ScaleShift: true, ResampleBlocks: true, Dropout: 0.1, Classes: 1000, Labels: Columns,
		}
	},
	"stable-diffusion-1": func() Config { // Rombach et al. 2022, of latents: 859.5 M
		return Config{
			Channels: 4, Base: 320, Mult: []int{1, 2, 4, 4}, Blocks: 2, AttnAt: []int{1, 2, 4}, Heads: 8, Groups: 32,
			Contexts: []Context{{"text", 768}},
		}
	},
}

// Preset is the configuration of that name.
func Preset(name string) (Config, error) {
	if f, ok := presets[name]; ok {
		return f(), nil
	}
	return Config{}, fmt.Errorf("unet: no preset %q; there are %s", name, strings.Join(Presets(), ", "))
}

// Presets is the names of all presets.
func Presets() []string { return slices.Sorted(maps.Keys(presets)) }

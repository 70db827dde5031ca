// Package flow has flows with an exact likelihood: TarFlow (Zhai et al. 2024, "Normalizing Flows
// are Capable Generative Models", arXiv 2412.06329), blocks of a causal transformer over the
// patches of a picture, each of which maps a patch linearly, by what the patches before it say.
package flow

import (
	"fmt"

	"github.com/fidlab/fidlab/nn/tower"
)

// Config describes a TarFlow; zeros stand for the defaults.
type Config struct {
	PictureHeight, PictureWidth int // in pixels
	Channels                    int
	Patch                       int
	Width                       int // of the transformers
	Heads                       int
	Blocks                      int  // of the flow; every second takes the patches in the reverse order
	Layers                      int  // of each block's transformer
	Classes                     int  // 0: none
	Additive                    bool // patches are shifted and not scaled
}

// Check says what is wrong with a configuration.
func (c Config) Check() error {
	h, w := c.PictureHeight, c.PictureWidth
	switch {
	case c.Patch < 1 || h < 1 || w < 1 || h%c.Patch != 0 || w%c.Patch != 0:
		return fmt.Errorf("flow: Patch is %d for pictures of %d×%d, want a divisor of both", c.Patch, h, w)
	case c.Tokens() < 2:
		return fmt.Errorf("flow: Patch is %d for pictures of %d×%d, want two patches or more: the first one stays as it is", c.Patch, h, w)
	case c.Channels < 1:
		return fmt.Errorf("flow: Channels is %d, want at least 1", c.Channels)
	case c.Blocks < 1:
		return fmt.Errorf("flow: Blocks is %d, want at least 1", c.Blocks)
	case c.Layers < 1:
		return fmt.Errorf("flow: Layers is %d, want at least 1", c.Layers)
	case c.Classes < 0:
		return fmt.Errorf("flow: Classes is %d, want 0 for none, or their number", c.Classes)
	}
	return c.block().Check()
}

// Tokens is the number of patches of a picture.
func (c Config) Tokens() int { return c.PictureHeight / c.Patch * (c.PictureWidth / c.Patch) }

// Dim is the elements of a patch.
func (c Config) Dim() int { return c.Channels * c.Patch * c.Patch }

func (c *Config) block() tower.BlockConfig {
	return tower.BlockConfig{Width: c.Width, Heads: c.Heads, Names: blockNames}
}

// MNIST is a flow of pictures of 28×28 gray pixels as 49 patches: 4 blocks of 2 layers.
func MNIST() Config {
	return Config{PictureHeight: 28, PictureWidth: 28, Channels: 1, Patch: 4, Width: 96, Heads: 4, Blocks: 4, Layers: 2, Classes: 10}
}

// ImageNet64 is the paper's flow of ImageNet at 64×64 pixels in patches of 2.
func ImageNet64() Config {
	return Config{PictureHeight: 64, PictureWidth: 64, Channels: 3, Patch: 2, Width: 768, Heads: 12, Blocks: 8, Layers: 8, Classes: 1000}
}

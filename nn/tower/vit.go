package tower

import (
	"fmt"

	"github.com/fidlab/fidlab/nn"
)

// ImageTower turns pictures into tokens and one vector.
type ImageTower interface {
	// Forward is the tokens [B, n, w] and the vector [B, Width()] of pictures [B, C, H, W].
	Forward(x *nn.Var) (tokens, pooled *nn.Var)
	Width() int
}

// ViTConfig describes a vision transformer as CLIP has it.
type ViTConfig struct {
	Size     int // of pictures, a square
	Patch    int
	Channels int // 0: 3
	Width    int
	Depth    int
	Heads    int
	Hidden   int // 0: 4·Width
	Act      Act
}

// Check says what is wrong with a configuration.
func (c ViTConfig) Check() error {
	switch {
	case c.Size < 1 || c.Patch < 1 || c.Size%c.Patch != 0:
		return fmt.Errorf("tower: Patch is %d for Size %d, want a divisor", c.Patch, c.Size)
	case c.Channels < 0:
		return fmt.Errorf("tower: Channels is %d, want 0 for 3, or more", c.Channels)
	case c.Depth < 1:
		return fmt.Errorf("tower: Depth is %d, want at least 1", c.Depth)
	}
	return c.block().Check()
}

func (c *ViTConfig) block() BlockConfig {
	return BlockConfig{Width: c.Width, Heads: c.Heads, Hidden: c.Hidden, Act: c.Act, Names: CLIPNames}
}

// ViT is a vision transformer (Dosovitskiy et al. 2021, arXiv 2010.11929) as CLIP has it: a
// token for the whole in front, a norm before the blocks and one after for the vector. Names
// of parameters are those of Hugging Face's vision_model.
type ViT struct {
	Config  ViTConfig
	Class   *nn.Param // [Width]
	Patches *nn.PatchEmbed
	Places  *nn.Param // [1+patches, Width]
	Before  *nn.Norm
	Body    *Stack
	After   *nn.Norm
}

// NewViT registers a vision transformer in s. It panics where Check has an error.
func NewViT(s nn.Scope, c ViTConfig) *ViT {
	if err := c.Check(); err != nil {
		panic(err.Error())
	}
	if c.Channels == 0 {
		c.Channels = 3
	}
	e, n := s.At("embeddings"), c.Size/c.Patch
	m := &ViT{Config: c}
	m.Class = e.Param("class_embedding", nn.Normal(0.02), c.Width)
	m.Patches = &nn.PatchEmbed{Patch: c.Patch, W: e.At("patch_embedding").Param("weight", nn.FanIn, c.Width, c.Channels, c.Patch, c.Patch)}
	m.Places = e.At("position_embedding").Param("weight", nn.Normal(0.02), 1+n*n, c.Width)
	m.Before = nn.NewLayerNorm(s.At("pre_layrnorm"), c.Width) // spelt so in the files
	m.Body = NewStack(s.At("encoder.layers"), c.Depth, c.block())
	m.After = nn.NewLayerNorm(s.At("post_layernorm"), c.Width)
	return m
}

// Width is the vector's.
func (m *ViT) Width() int { return m.Config.Width }

// Forward is the tokens of pictures x [B, Channels, Size, Size] after the last block, the one
// for the whole first, [B, 1+patches, Width], and that one normalised, [B, Width].
func (m *ViT) Forward(x *nn.Var) (tokens, pooled *nn.Var) {
	c, s := &m.Config, x.Shape()
	if len(s) != 4 || s[1] != c.Channels || s[2] != c.Size || s[3] != c.Size {
		panic(fmt.Sprintf("tower: ViT: pictures of shape %v, want [B, %d, %d, %d]", s, c.Channels, c.Size, c.Size))
	}
	t := x.Tape()
	class := t.Use(m.Class).Add(t.Const(0, s[0], 1, c.Width))
	tokens = nn.Concat(1, class, m.Patches.Forward(x)).Add(t.Use(m.Places))
	tokens = m.Body.Forward(m.Before.Forward(tokens), Call{})
	return tokens, m.After.Forward(tokens.Slice(1, 0, 1).Reshape(s[0], c.Width))
}

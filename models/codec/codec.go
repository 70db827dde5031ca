// Package codec has networks that turn pictures and motions into a few latents or indices
// and back: a convolutional autoencoder with a normal posterior (KL), one with a book of
// codes (VQ), a vision transformer (ViT), and one of sequences (Motion) that can decode
// while indices still arrive.
package codec

import (
	"fmt"
	"slices"

	"github.com/fidlab/fidlab/nn"
)

// Config describes the convolutional encoder and decoder of KL and VQ, which are those of
// latent diffusion (Rombach et al. 2022, arXiv 2112.10752; Esser et al. 2021, arXiv
// 2012.09841). Zeros stand for the defaults.
type Config struct {
	Channels int   // of pictures: 3
	Latent   int   // channels of the latent
	Widths   []int // channels by level, the finest first; each level after the first has half the size
	Blocks   int   // residual blocks of a level on the way down, one less than on the way up: 1
	Groups   int   // of normalisations: 32, or where a width is no multiple of it: 8
	AttendAt []int // levels whose blocks are followed by attention
	NoMiddle bool  // no attention at the coarsest level between the two halves
	// PointAttention makes the weights of attention's projections convolutions of 1×1, [C, C,
	// 1, 1], as in files of CompVis, and not matrices.
	PointAttention bool
	NoQuantConv    bool // no convolutions of 1×1 before and after the latent
}

func (c Config) filled() Config {
	if c.Channels == 0 {
		c.Channels = 3
	}
	if c.Blocks == 0 {
		c.Blocks = 1
	}
	if c.Groups == 0 {
		c.Groups = 32
		for _, w := range c.Widths {
			if w%32 != 0 {
				c.Groups = 8
			}
		}
	}
	return c
}

// Check says what is wrong with c.
func (c Config) Check() error {
	f := c.filled()
	switch {
	case f.Channels < 1:
		return fmt.Errorf("codec: Channels is %d, want >= 1", c.Channels)
	case c.Latent < 1:
		return fmt.Errorf("codec: Latent is %d, want >= 1", c.Latent)
	case len(c.Widths) == 0:
		return fmt.Errorf("codec: Widths is empty, want a number of channels for each level")
	case f.Blocks < 1:
		return fmt.Errorf("codec: Blocks is %d, want >= 1", c.Blocks)
	case f.Groups < 1:
		return fmt.Errorf("codec: Groups is %d, want >= 1", c.Groups)
	}
	for i, w := range c.Widths {
		if w < 1 || w%f.Groups != 0 {
			return fmt.Errorf("codec: Widths[%d] is %d, want a multiple of the %d groups", i, w, f.Groups)
		}
	}
	for _, l := range c.AttendAt {
		if l < 0 || l >= len(c.Widths) {
			return fmt.Errorf("codec: AttendAt has level %d, want 0 to %d", l, len(c.Widths)-1)
		}
	}
	return nil
}

// Factor is how many times a picture is higher and wider than its latent.
func (c Config) Factor() int { return 1 << (len(c.Widths) - 1) }

// CheckPictures says what is wrong with pictures of that shape.
func (c Config) CheckPictures(shape []int) error {
	f := c.filled()
	if len(shape) != 4 || shape[1] != f.Channels {
		return fmt.Errorf("codec: pictures of shape %v, want [n, %d, height, width]", shape, f.Channels)
	}
	if k := c.Factor(); shape[2] < k || shape[3] < k || shape[2]%k != 0 || shape[3]%k != 0 {
		return fmt.Errorf("codec: pictures of %d×%d, want multiples of %d", shape[2], shape[3], k)
	}
	return nil
}

func (c Config) attends(level int) bool { return slices.Contains(c.AttendAt, level) }

// Decoder makes pictures, or motions, of what a codec's encoder gives.
type Decoder interface {
	Decode(z *nn.Var) *nn.Var
}

// resBlock is x + conv(SiLU(norm(conv(SiLU(norm(x)))))), with a convolution of 1×1 on x where
// the width changes.
type resBlock struct {
	norm1, norm2        *nn.GroupNorm
	conv1, conv2, short *nn.Conv2D // short is nil where the width stays
}

func newNorm(s nn.Scope, groups, width int) *nn.GroupNorm {
	n := nn.NewGroupNorm(s, groups, width)
	n.Eps = 1e-6
	return n
}

func newResBlock(s nn.Scope, groups, in, out int) *resBlock {
	b := &resBlock{
		norm1: newNorm(s.At("norm1"), groups, in), conv1: nn.NewConv2D(s.At("conv1"), in, out, 3),
		norm2: newNorm(s.At("norm2"), groups, out), conv2: nn.NewConv2D(s.At("conv2"), out, out, 3),
	}
	if in != out {
		b.short = nn.NewConv2D(s.At("conv_shortcut"), in, out, 1)
	}
	return b
}

func (b *resBlock) forward(x *nn.Var) *nn.Var {
	h := b.conv1.Forward(b.norm1.Forward(x).SiLU())
	h = b.conv2.Forward(b.norm2.Forward(h).SiLU())
	if b.short != nil {
		x = b.short.Forward(x)
	}
	return x.Add(h)
}

// attention is x plus attention of its places to each other, one head.
type attention struct {
	norm *nn.GroupNorm
	self *nn.SelfAttention
}

func newAttention(s nn.Scope, c *Config, width int) *attention {
	o := nn.AttnOptions{Heads: 1, Names: nn.SeparateNames}
	if c.PointAttention {
		o.PointAxes = 2
	}
	return &attention{norm: newNorm(s.At("group_norm"), c.Groups, width), self: nn.NewSelfAttention(s, width, o)}
}

func (a *attention) forward(x *nn.Var) *nn.Var {
	s := x.Shape()
	n, c, h, w := s[0], s[1], s[2], s[3]
	y := a.norm.Forward(x).Reshape(n, c, h*w).Permute(0, 2, 1)
	y = a.self.Forward(y, nn.AttnMask{}, nil)
	return x.Add(y.Permute(0, 2, 1).Reshape(n, c, h, w))
}

// level is the blocks of one size, each with attention after it where there is any, and the
// step to the next size.
type level struct {
	blocks []*resBlock
	attend []*attention
	change *nn.Conv2D // nil at the last level
}

func (l *level) forward(x *nn.Var) *nn.Var {
	for i, b := range l.blocks {
		x = b.forward(x)
		if l.attend != nil {
			x = l.attend[i].forward(x)
		}
	}
	return x
}

func newLevel(s nn.Scope, c *Config, at, blocks, in, out int) *level {
	l := &level{}
	for i := range blocks {
		l.blocks = append(l.blocks, newResBlock(s.At(fmt.Sprintf("resnets.%d", i)), c.Groups, in, out))
		if c.attends(at) {
			l.attend = append(l.attend, newAttention(s.At(fmt.Sprintf("attentions.%d", i)), c, out))
		}
		in = out
	}
	return l
}

// middle is the blocks of the coarsest size between the two halves.
type middle struct {
	first, second *resBlock
	attend        *attention // nil: none
}

func newMiddle(s nn.Scope, c *Config, width int) *middle {
	m := &middle{first: newResBlock(s.At("resnets.0"), c.Groups, width, width), second: newResBlock(s.At("resnets.1"), c.Groups, width, width)}
	if !c.NoMiddle {
		m.attend = newAttention(s.At("attentions.0"), c, width)
	}
	return m
}

func (m *middle) forward(x *nn.Var) *nn.Var {
	x = m.first.forward(x)
	if m.attend != nil {
		x = m.attend.forward(x)
	}
	return m.second.forward(x)
}

// convEncoder makes features of pictures.
type convEncoder struct {
	in, out *nn.Conv2D
	levels  []*level
	middle  *middle
	norm    *nn.GroupNorm
}

func newConvEncoder(s nn.Scope, c *Config, out int) *convEncoder {
	width := c.Widths[0]
	e := &convEncoder{in: nn.NewConv2D(s.At("conv_in"), c.Channels, width, 3)}
	for i, w := range c.Widths {
		at := s.At(fmt.Sprintf("down_blocks.%d", i))
		l := newLevel(at, c, i, c.Blocks, width, w)
		if width = w; i < len(c.Widths)-1 {
			l.change = nn.NewConv2D(at.At("downsamplers.0.conv"), w, w, 3)
			l.change.Config.Stride, l.change.Config.Pad = 2, [4]int{0, 1, 0, 1} // zeros below and right alone
		}
		e.levels = append(e.levels, l)
	}
	e.middle = newMiddle(s.At("mid_block"), c, width)
	e.norm, e.out = newNorm(s.At("conv_norm_out"), c.Groups, width), nn.NewConv2D(s.At("conv_out"), width, out, 3)
	return e
}

func (e *convEncoder) forward(x *nn.Var) *nn.Var {
	x = e.in.Forward(x)
	for _, l := range e.levels {
		if x = l.forward(x); l.change != nil {
			x = l.change.Forward(x)
		}
	}
	return e.out.Forward(e.norm.Forward(e.middle.forward(x)).SiLU())
}

// convDecoder makes pictures of features.
type convDecoder struct {
	in, out *nn.Conv2D
	middle  *middle
	levels  []*level
	norm    *nn.GroupNorm
}

func newConvDecoder(s nn.Scope, c *Config, in int) *convDecoder {
	last := len(c.Widths) - 1
	width := c.Widths[last]
	d := &convDecoder{in: nn.NewConv2D(s.At("conv_in"), in, width, 3), middle: newMiddle(s.At("mid_block"), c, width)}
	for i := range c.Widths {
		at, w := s.At(fmt.Sprintf("up_blocks.%d", i)), c.Widths[last-i]
		l := newLevel(at, c, last-i, c.Blocks+1, width, w)
		if width = w; i < last {
			l.change = nn.NewConv2D(at.At("upsamplers.0.conv"), w, w, 3)
		}
		d.levels = append(d.levels, l)
	}
	d.norm, d.out = newNorm(s.At("conv_norm_out"), c.Groups, width), nn.NewConv2D(s.At("conv_out"), width, c.Channels, 3)
	return d
}

func (d *convDecoder) forward(z *nn.Var) *nn.Var {
	x := d.middle.forward(d.in.Forward(z))
	for _, l := range d.levels {
		if x = l.forward(x); l.change != nil {
			x = l.change.Forward(x.Upsample(2))
		}
	}
	return d.out.Forward(d.norm.Forward(x).SiLU())
}

func must(err error) {
	if err != nil {
		panic(err.Error())
	}
}

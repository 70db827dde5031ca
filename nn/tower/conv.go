package tower

import (
	"fmt"

	"github.com/fidlab/fidlab/nn"
)

// ConvConfig describes a small convolutional network.
type ConvConfig struct {
	Channels int   // of pictures; 0: 3
	Widths   []int // channels of each level; from the second on each halves the picture
	Groups   int   // of the norms, a divisor of all widths; 0: 8
}

// Check says what is wrong with a configuration.
func (c ConvConfig) Check() error {
	if c.Channels < 0 {
		return fmt.Errorf("tower: Channels is %d, want 0 for 3, or more", c.Channels)
	}
	if len(c.Widths) == 0 {
		return fmt.Errorf("tower: Widths is empty, want the channels of at least one level")
	}
	if c.Groups < 0 {
		return fmt.Errorf("tower: Groups is %d, want 0 for 8, or more", c.Groups)
	}
	for i, w := range c.Widths {
		if w < 1 || w%c.groups() != 0 {
			return fmt.Errorf("tower: Widths[%d] is %d, want a multiple of the %d Groups", i, w, c.groups())
		}
	}
	return nil
}

func (c *ConvConfig) groups() int {
	if c.Groups == 0 {
		return 8
	}
	return c.Groups
}

// Conv is a convolutional network for small pictures: on each level a convolution of 3×3, with
// step 2 from the second level on, and a residual block of two (He et al. 2016, arXiv 1512.03385),
// with group norms; then the mean over places.
type Conv struct {
	Config ConvConfig
	levels []convLevel
	taps   []string
}

type convLevel struct {
	in, a, b       *nn.Conv2D
	norm, mid, end *nn.GroupNorm
}

// NewConv registers levels 0, 1, ... in s. It panics where Check has an error.
func NewConv(s nn.Scope, c ConvConfig) *Conv {
	if err := c.Check(); err != nil {
		panic(err.Error())
	}
	if c.Channels == 0 {
		c.Channels = 3
	}
	m, from := &Conv{Config: c}, c.Channels
	for i, w := range c.Widths {
		at := s.At(fmt.Sprint("levels.", i))
		l := convLevel{
			in: nn.NewConv2D(at.At("in"), from, w, 3), norm: nn.NewGroupNorm(at.At("norm"), c.groups(), w),
			a: nn.NewConv2D(at.At("conv1"), w, w, 3), mid: nn.NewGroupNorm(at.At("norm1"), c.groups(), w),
			b: nn.NewConv2D(at.At("conv2"), w, w, 3), end: nn.NewGroupNorm(at.At("norm2"), c.groups(), w),
		}
		if i > 0 {
			l.in.Config.Stride = 2
		}
		m.levels = append(m.levels, l)
		m.taps = append(m.taps, at.Name(""))
		from = w
	}
	return m
}

// Width is that of the tokens and the vector.
func (m *Conv) Width() int { return m.Config.Widths[len(m.Config.Widths)-1] }

// Taps are the names under which the results of the levels, [B, C, H, W], pass a tap.
func (m *Conv) Taps() []string { return m.taps }

// Forward is the last level's places as tokens, row by row, and their mean.
func (m *Conv) Forward(x *nn.Var) (tokens, pooled *nn.Var) {
	if s := x.Shape(); len(s) != 4 || s[1] != m.Config.Channels {
		panic(fmt.Sprintf("tower: Conv: pictures of shape %v, want [B, %d, H, W]", s, m.Config.Channels))
	}
	for i, l := range m.levels {
		x = l.norm.Forward(l.in.Forward(x)).SiLU()
		h := l.mid.Forward(l.a.Forward(x)).SiLU()
		x = x.Add(l.end.Forward(l.b.Forward(h))).SiLU().Tap(m.taps[i])
	}
	s := x.Shape()
	tokens = x.Reshape(s[0], s[1], s[2]*s[3]).Permute(0, 2, 1)
	return tokens, tokens.Mean(1).Reshape(s[0], s[1])
}

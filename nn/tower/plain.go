package tower

import (
	"fmt"

	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/ops"
)

// PlainConfig describes a convolutional network without residual blocks.
type PlainConfig struct {
	Channels int   // of pictures; 0: 3
	Widths   []int // channels of each layer
	Steps    []int // of each layer's convolution; nil: 2 each
	Groups   int   // of the norms, a divisor of all widths; 0: 8
	Out      int   // of the vector; 0: the last of Widths
}

// Check says what is wrong with a configuration.
func (c PlainConfig) Check() error {
	if err := (ConvConfig{Channels: c.Channels, Widths: c.Widths, Groups: c.Groups}).Check(); err != nil {
		return err
	}
	if c.Steps != nil && len(c.Steps) != len(c.Widths) {
		return fmt.Errorf("tower: %d Steps for %d Widths, want one each, or none for 2 each", len(c.Steps), len(c.Widths))
	}
	for i, s := range c.Steps {
		if s < 1 {
			return fmt.Errorf("tower: Steps[%d] is %d, want at least 1", i, s)
		}
	}
	if c.Out < 0 {
		return fmt.Errorf("tower: Out is %d, want 0 for the last of Widths, or more", c.Out)
	}
	return nil
}

// Plain is a convolutional network for small pictures at little cost: layers of a convolution of
// 3×3, a group norm and SiLU, then a linear layer of the means over places and the greatest values
// there, which tell that something is somewhere as means tell how much of it there is.
type Plain struct {
	Config PlainConfig
	Last   *nn.Linear // from twice the last of Widths to Out
	layers []plainLayer
	taps   []string
}

type plainLayer struct {
	conv *nn.Conv2D
	norm *nn.GroupNorm
}

// NewPlain registers layers 0, 1, ... and the linear one in s. It panics where Check has an error.
func NewPlain(s nn.Scope, c PlainConfig) *Plain {
	if err := c.Check(); err != nil {
		panic(err.Error())
	}
	if c.Channels == 0 {
		c.Channels = 3
	}
	if c.Groups == 0 {
		c.Groups = 8
	}
	m, from := &Plain{Config: c}, c.Channels
	for i, w := range c.Widths {
		at := s.At(fmt.Sprint("layers.", i))
		l := plainLayer{nn.NewConv2D(at.At("conv"), from, w, 3), nn.NewGroupNorm(at.At("norm"), c.Groups, w).Then(ops.SiLU)}
		l.conv.Config.Stride, l.conv.Config.Last, l.norm.Last = 2, true, true
		if c.Steps != nil {
			l.conv.Config.Stride = c.Steps[i]
		}
		m.layers = append(m.layers, l)
		m.taps = append(m.taps, at.Name(""))
		from = w
	}
	if m.Config.Out == 0 {
		m.Config.Out = from
	}
	m.Last = nn.NewLinear(s.At("pool"), 2*from, m.Config.Out)
	return m
}

// Width is that of the vector.
func (m *Plain) Width() int { return m.Config.Out }

// Taps are the names under which the results of the layers, [B, H, W, C], pass a tap.
func (m *Plain) Taps() []string { return m.taps }

// Forward is the last layer's places as tokens [B, places, last of Widths], row by row, and the vector [B, Width()] of
// pictures [B, C, H, W].
func (m *Plain) Forward(x *nn.Var) (tokens, pooled *nn.Var) {
	if s := x.Shape(); len(s) != 4 || s[1] != m.Config.Channels {
		panic(fmt.Sprintf("tower: Plain: pictures of shape %v, want [B, %d, H, W]", s, m.Config.Channels))
	}
	x = x.Permute(0, 2, 3, 1)
	for i, l := range m.layers {
		x = l.norm.Forward(l.conv.Forward(x)).Tap(m.taps[i])
	}
	s := x.Shape()
	tokens = x.Reshape(s[0], s[1]*s[2], s[3])
	most := tokens.Permute(0, 2, 1).MaxLast()
	return tokens, m.Last.Forward(nn.Concat(1, tokens.Mean(1).Reshape(s[0], s[3]), most))
}

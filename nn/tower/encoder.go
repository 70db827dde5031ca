package tower

import (
	"fmt"

	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/ops"
)

// EncoderConfig describes a small convolutional encoder of pictures with linear heads.
type EncoderConfig struct {
	Channels int   `json:"channels"`
	Height   int   `json:"height"`
	Width    int   `json:"width"`
	Widths   []int `json:"widths"` // channels of each convolution of 3×3
	Steps    []int `json:"steps"`  // and its step, 1 or 2
	Groups   int   `json:"groups"` // of the norms, a divisor of all widths; 0: 8
	// Cells are the cells of a side over each of which mean and maximum are taken, a divisor of
	// both sides of the last map; 0: 1, the whole map.
	Cells   int `json:"cells"`
	Dim     int `json:"dim"`     // features
	Outputs int `json:"outputs"` // of the heads, all of them
}

// filled is c with the defaults in place of zeros.
func (c EncoderConfig) filled() EncoderConfig {
	if c.Groups == 0 {
		c.Groups = 8
	}
	if c.Cells == 0 {
		c.Cells = 1
	}
	return c
}

// Check says what is wrong with a configuration, by field.
func (c EncoderConfig) Check() error {
	for _, f := range []struct {
		name  string
		v, lo int
	}{
		{"Channels", c.Channels, 1}, {"Height", c.Height, 1}, {"Width", c.Width, 1}, {"Groups", c.Groups, 0},
		{"Cells", c.Cells, 0}, {"Dim", c.Dim, 1}, {"Outputs", c.Outputs, 1},
	} {
		if f.v < f.lo {
			return fmt.Errorf("tower: Encoder: %s is %d, want at least %d", f.name, f.v, f.lo)
		}
	}
	c = c.filled()
	if len(c.Widths) == 0 || len(c.Steps) != len(c.Widths) {
		return fmt.Errorf("tower: Encoder: Widths %v and Steps %v, want one of each for every convolution, at least one", c.Widths, c.Steps)
	}
	for i, w := range c.Widths {
		if w < 1 || w%c.Groups != 0 {
			return fmt.Errorf("tower: Encoder: Widths[%d] is %d, want a multiple of the %d Groups", i, w, c.Groups)
		}
		if s := c.Steps[i]; s != 1 && s != 2 {
			return fmt.Errorf("tower: Encoder: Steps[%d] is %d, want 1 or 2", i, s)
		}
	}
	if h, w := c.lastMap(); h%c.Cells != 0 || w%c.Cells != 0 {
		return fmt.Errorf("tower: Encoder: Cells is %d, want a divisor of both sides of the last map, %d×%d", c.Cells, h, w)
	}
	return nil
}

// lastMap is the size of the map that is pooled.
func (c *EncoderConfig) lastMap() (h, w int) {
	h, w = c.Height, c.Width
	for _, s := range c.Steps {
		h, w = (h+s-1)/s, (w+s-1)/s
	}
	return h, w
}

// Encoder is convolutions of 3×3, each with a group norm and SiLU; mean and maximum over the cells
// of the last map; a linear layer, whose result is the features; and linear heads on these.
type Encoder struct {
	Config EncoderConfig
	convs  []*nn.Conv2D
	norms  []*nn.GroupNorm
	last   *nn.Linear
	heads  *nn.Linear
	tap    string
}

// NewEncoder registers conv1, norm1, conv2, …, features and heads in s. It panics where Check has
// an error.
func NewEncoder(s nn.Scope, c EncoderConfig) *Encoder {
	if err := c.Check(); err != nil {
		panic(err.Error())
	}
	c = c.filled()
	m, from := &Encoder{Config: c, tap: s.Name("features")}, c.Channels
	for i, w := range c.Widths {
		conv := nn.NewConv2D(s.At(fmt.Sprint("conv", i+1)), from, w, 3)
		conv.Config.Last, conv.Config.Stride = true, c.Steps[i]
		norm := nn.NewGroupNorm(s.At(fmt.Sprint("norm", i+1)), c.Groups, w).Then(ops.SiLU)
		norm.Last = true
		m.convs, m.norms = append(m.convs, conv), append(m.norms, norm)
		from = w
	}
	m.last = nn.NewLinear(s.At("features"), 2*from*c.Cells*c.Cells, c.Dim)
	m.heads = nn.NewLinear(s.At("heads"), c.Dim, c.Outputs)
	return m
}

// Taps is the name under which the features pass a tap.
func (m *Encoder) Taps() []string { return []string{m.tap} }

// Forward is the features [B, Dim] of pictures x [B, C, H, W].
func (m *Encoder) Forward(x *nn.Var) *nn.Var {
	c := &m.Config
	s := x.Shape()
	if len(s) != 4 || s[1] != c.Channels || s[2] != c.Height || s[3] != c.Width {
		panic(fmt.Sprintf("tower: Encoder: pictures of shape %v, want [B, %d, %d, %d]", s, c.Channels, c.Height, c.Width))
	}
	x = x.Permute(0, 2, 3, 1)
	for i, conv := range m.convs {
		x = m.norms[i].Forward(conv.Forward(x))
	}
	return m.last.Forward(m.pool(x)).Tap(m.tap)
}

// pool is the mean and the maximum of every cell of maps [B, H, W, C], [B, 2·Cells²·C]: the means
// of the first cell, of the second, …, then the maxima.
func (m *Encoder) pool(x *nn.Var) *nn.Var {
	s, n := x.Shape(), m.Config.Cells
	b, h, w, c := s[0], s[1]/n, s[2]/n, s[3]
	if n == 1 {
		x = x.Reshape(b, h*w, c).Permute(0, 2, 1)
	} else {
		x = x.Reshape(b, n, h, n, w, c).Permute(0, 1, 3, 5, 2, 4)
	}
	x = x.Reshape(b, n*n*c, h*w)
	return nn.Concat(1, x.Mean(2).Reshape(b, n*n*c), x.MaxLast())
}

// Heads is what the heads say of features [B, Dim], [B, Outputs].
func (m *Encoder) Heads(features *nn.Var) *nn.Var { return m.heads.Forward(features) }

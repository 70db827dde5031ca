// Package mlp has the least of the networks that denoise: a picture as one row of numbers through
// residual layers, told time and class by the scales and shifts of its norms. It is enough for
// pictures of 8×8, and for points; its training takes a minute.
package mlp

import (
	"fmt"

	"github.com/fidlab/fidlab/models"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/ops"
)

// Config is the size of a network.
type Config struct {
	Channels   int     `json:"channels"` // of pictures
	Height     int     `json:"height"`
	Width      int     `json:"width"`
	Hidden     int     `json:"hidden"`      // width of the residual stream
	Blocks     int     `json:"blocks"`      // residual blocks; each has an inner layer of twice the width
	Classes    int     `json:"classes"`     // 0: it knows none
	TimeFactor float64 `json:"time_factor"` // of times before their waves; 0 stands for 1
}

// Check says which field cannot be.
func (c Config) Check() error {
	for _, f := range []struct {
		name        string
		have, least int
	}{
		{"Channels", c.Channels, 1}, {"Height", c.Height, 1}, {"Width", c.Width, 1}, {"Hidden", c.Hidden, 1}, {"Blocks", c.Blocks, 1}, {"Classes", c.Classes, 0},
	} {
		if f.have < f.least {
			return fmt.Errorf("mlp: %s %d, want %d or more", f.name, f.have, f.least)
		}
	}
	if !(c.TimeFactor >= 0) {
		return fmt.Errorf("mlp: TimeFactor %g, want 0 or more", c.TimeFactor)
	}
	return nil
}

// Net is the network. It predicts 0 before it is trained.
type Net struct {
	config Config
	params *nn.Params
	in     *nn.Linear
	time   *nn.TimeEmbed
	label  *nn.LabelEmbed // nil without classes
	blocks []block
	out    *nn.Linear
}

// block is x + gate·fc2(SiLU(fc1(norm(x)·(1 + scale) + shift))).
type block struct {
	norm     *nn.Norm
	ada      *nn.Linear // shift, scale and gate, which begin at 0
	fc1, fc2 *nn.Linear
}

// New registers the network in s. It panics where Check has an error.
func New(s nn.Scope, c Config) *Net {
	if err := c.Check(); err != nil {
		panic(err.Error())
	}
	if c.TimeFactor == 0 {
		c.TimeFactor = 1
	}
	size := c.Channels * c.Height * c.Width
	n := &Net{config: c, params: s.Params(), in: nn.NewLinear(s.At("in"), size, c.Hidden), time: nn.NewTimeEmbed(s.At("time"), c.Hidden, nn.TimeOptions{})}
	if c.Classes > 0 {
		n.label = nn.NewLabelEmbed(s.At("label"), c.Classes, c.Hidden)
	}
	for i := range c.Blocks {
		b := s.At(fmt.Sprintf("blocks.%d", i))
		n.blocks = append(n.blocks, block{
			norm: &nn.Norm{Eps: 1e-6}, ada: nn.NewLinear(b.At("ada"), c.Hidden, 3*c.Hidden).Zero(),
			fc1: nn.NewLinear(b.At("fc1"), c.Hidden, 2*c.Hidden).Then(ops.SiLU), fc2: nn.NewLinear(b.At("fc2"), 2*c.Hidden, c.Hidden),
		})
	}
	n.out = nn.NewLinear(s.At("out"), c.Hidden, size).Zero()
	return n
}

// Params implements models.Net.
func (n *Net) Params() *nn.Params { return n.params }

// Takes implements models.Net.
func (n *Net) Takes() models.Takes {
	c := n.config
	return models.Takes{Channels: c.Channels, Out: c.Channels, Height: c.Height, Width: c.Width, Classes: c.Classes}
}

// Forward implements models.Net.
func (n *Net) Forward(x, time *nn.Var, in models.Inputs) *nn.Var {
	if err := n.Takes().Check(x.Shape(), in); err != nil {
		panic("mlp: " + err.Error())
	}
	c := n.config
	b := x.Shape()[0]
	cond := n.time.Forward(time.Scale(c.TimeFactor))
	if n.label != nil {
		cond = cond.Add(n.label.Forward(x.Tape(), in.Classes, nil))
	}
	cond = cond.SiLU()
	h := n.in.Forward(x.Reshape(b, -1))
	for i := range n.blocks {
		l := &n.blocks[i]
		a := l.ada.Forward(cond)
		shift, scale, gate := a.Slice(1, 0, c.Hidden), a.Slice(1, c.Hidden, c.Hidden), a.Slice(1, 2*c.Hidden, c.Hidden)
		h = h.AddMul(l.fc2.Forward(l.fc1.Forward(l.norm.Modulate(h, scale, shift))), gate)
	}
	return n.out.Forward(h).Reshape(b, c.Channels, c.Height, c.Width)
}

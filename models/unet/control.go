package unet

import (
	"fmt"

	"github.com/fidlab/fidlab/models"
	"github.com/fidlab/fidlab/nn"
)

// Control is a copy of a U-Net's way down and middle that sees a picture of hints besides, and
// whose results are added to the skips and the middle of the U-Net through convolutions that
// start at zero (Zhang et al. 2023, arXiv 2302.05543), so that at first it changes nothing.
type Control struct {
	encoder
	params *nn.Params
	hint   []*nn.Conv2D
	zero   []*nn.Conv2D
	last   *nn.Conv2D
	takes  models.Takes
	from   ControlConfig
}

// ControlConfig is what a branch is told about its hints.
type ControlConfig struct {
	Channels int   // of hints
	Widths   []int // of the convolutions that hints pass first; nil: 16, 32, 96, 256
	Halvings int   // how often they halve the hints: 3 where a network of latents is controlled by pictures
}

// Check says what is wrong with the configuration, by field.
func (h *ControlConfig) Check() error {
	if h.Channels < 1 {
		return fmt.Errorf("unet: ControlConfig.Channels: %d, want at least 1", h.Channels)
	}
	for _, w := range h.widths() {
		if w < 1 {
			return fmt.Errorf("unet: ControlConfig.Widths: %v, want at least 1 each", h.Widths)
		}
	}
	if n := len(h.widths()) - 1; h.Halvings < 0 || h.Halvings > n {
		return fmt.Errorf("unet: ControlConfig.Halvings: %d, want 0 to %d, one less than there are widths", h.Halvings, n)
	}
	return nil
}

func (h *ControlConfig) widths() []int {
	if h.Widths == nil {
		return []int{16, 32, 96, 256}
	}
	return h.Widths
}

// NewControl registers a branch for U-Nets of configuration c in s; both are as their Checks
// want them.
func NewControl(s nn.Scope, c Config, h ControlConfig) *Control {
	for _, err := range []error{c.Check(), h.Check()} {
		if err != nil {
			panic(err.Error())
		}
	}
	p := c.plan()
	b := &Control{params: s.Params(), from: h, takes: c.takes(p)}
	b.build(s, c, p)
	hs, at, in := s.At("input_hint_block"), 0, h.Channels
	add := func(out int) *nn.Conv2D {
		l := conv(hs.At(fmt.Sprint(at)), in, out, 3)
		b.hint = append(b.hint, l)
		at, in = at+2, out // SiLU has a number too
		return l
	}
	widths := h.widths()
	add(widths[0])
	for i, w := range widths[1:] {
		add(in)
		l := add(w)
		if i < h.Halvings {
			l.Config.Stride = 2
		}
	}
	if len(widths) == 1 {
		add(in)
	}
	add(p.skips[0]).Zero()
	for i, ch := range p.skips {
		b.zero = append(b.zero, conv(s.At(fmt.Sprintf("zero_convs.%d.0", i)), ch, ch, 1).Zero())
	}
	ch := c.channels(c.levels() - 1)
	b.last = conv(s.At("middle_block_out.0"), ch, ch, 1).Zero()
	b.takes.Out, b.takes.Skips = 0, nil
	return b
}

// Params is the branch's parameters, and those of whatever else shares them.
func (b *Control) Params() *nn.Params { return b.params }

// CopyFrom sets the branch's copy of a U-Net to that U-Net's parameters; its own convolutions
// stay as they are. Both are laid out. The U-Net has the branch's configuration.
func (b *Control) CopyFrom(u *UNet) {
	mine, theirs := b.params.All()[b.own[0]:b.own[1]], u.params.All()[u.own[0]:u.own[1]]
	if len(mine) != len(theirs) {
		panic(fmt.Sprintf("unet: Control.CopyFrom: %d parameters, the U-Net's encoder has %d; want the same configuration", len(mine), len(theirs)))
	}
	for i := range mine {
		if fmt.Sprint(mine[i].Shape()) != fmt.Sprint(theirs[i].Shape()) {
			panic(fmt.Sprintf("unet: Control.CopyFrom: %s %v, the U-Net has %s %v; want the same configuration", mine[i].Name, mine[i].Shape(), theirs[i].Name, theirs[i].Shape()))
		}
		mine[i].Value.Copy(theirs[i].Value)
	}
}

// Forward sets to to the residuals of pictures x of the U-Net's and their times, given hints
// [B, channels, H·2^Halvings/Patch, W·2^Halvings/Patch]. in is what the U-Net is told, without Control.
func (b *Control) Forward(to *models.Residuals, x, time, hint *nn.Var, in models.Inputs) {
	mustFit(b.takes, x, time, in)
	f, q := 1<<b.from.Halvings, b.config.patch()
	if s, xs := hint.Shape(), x.Shape(); len(s) != 4 || s[0] != xs[0] || s[1] != b.from.Channels || s[2] != xs[2]/q*f || s[3] != xs[3]/q*f {
		panic(fmt.Sprintf("unet: hints of shape %v for pictures %v, want [%d, %d, %d, %d]", s, xs, xs[0], b.from.Channels, xs[2]/q*f, xs[3]/q*f))
	}
	var p pass
	b.begin(&p, time, in)
	g := last(hint)
	for i, l := range b.hint {
		g = l.Forward(g)
		if i < len(b.hint)-1 {
			g = g.SiLU()
		}
	}
	h := b.first(x, in)
	to.Skips = to.Skips[:0]
	for i, st := range b.input {
		h = through(&p, h, st)
		if i == 0 {
			h = h.Add(g)
		}
		to.Skips = append(to.Skips, b.zero[i].Forward(h))
	}
	to.Middle = b.last.Forward(through(&p, h, b.middle))
}

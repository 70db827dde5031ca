// Package unet has the U-Net of diffusion models in its usual forms under one
// configuration: DDPM's (Ho et al. 2020, arXiv 2006.11239), ADM's (Dhariwal and Nichol 2021,
// arXiv 2105.05233), DDPM++'s in part (Song et al. 2021, arXiv 2011.13456), and the
// text-conditional one of latent diffusion (Rombach et al. 2022, arXiv 2112.10752); and the
// branch that controls one from a picture (Zhang et al. 2023, arXiv 2302.05543).
//
// Parameters have the names and shapes of ADM's code, which latent diffusion shares, so that
// their weights load as they are; FromDiffusers and FromEDM give those of others.
//
// Taps are the names of blocks, as Blocks lists them, and mid: what the middle gives. Where
// a network is registered in a scope, they begin with its name. Inside a network channels are
// the last axis: what passes a tap and the residuals of a control branch are [N, H, W, C].
package unet

import (
	"github.com/fidlab/fidlab/models"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/ops"
)

// UNet is a U-Net, a models.Net.
type UNet struct {
	// Out tells by a block's ID whether it is left out from now on; nil: none is. A residual
	// block is then its skip path and attention the identity.
	Out []bool
	// Mask is the stream that dropout draws from; with Seed 0 nothing is dropped. Its P is
	// Config.Dropout's.
	Mask ops.Mask

	encoder
	params *nn.Params
	output [][]*block
	norm   *nn.GroupNorm
	conv   *nn.Conv2D
	takes  models.Takes
	blocks []Block
}

// Block is a part of a U-Net that can be left out or listened to.
type Block struct {
	ID       int
	Name     string // of its tap: input_blocks.3.0
	Kind     string // conv, res, res-down, res-up, down, up, attention, transformer
	In, Out  int    // channels
	Level    int    // its input is smaller by 2^Level than the network's, an up's by 2^Level too
	Optional bool   // it can be left out
}

// New registers a U-Net in s; c is as Check wants it.
func New(s nn.Scope, c Config) *UNet {
	if err := c.Check(); err != nil {
		panic(err.Error())
	}
	p := c.plan()
	u := &UNet{params: s.Params()}
	u.build(s, c, p)
	for _, st := range p.output {
		u.output = append(u.output, c.stage(s, st))
	}
	ch := c.channels(0)
	u.norm, u.conv = c.norm(s.At("out.0"), ch).Then(ops.SiLU), conv(s.At("out.2"), ch, c.out()*c.patch()*c.patch(), 3).Zero()
	u.takes = c.takes(p)
	p.each(func(l *layer) {
		u.blocks = append(u.blocks, Block{
			ID: l.id, Name: s.Name(l.name), Kind: l.kind.String(), In: l.in, Out: l.out, Level: l.level,
			Optional: l.kind.residual() || l.kind.attends(),
		})
	})
	return u
}

// takes is what a network of the plan may be given.
func (c *Config) takes(p *plan) models.Takes {
	k := models.Takes{
		Channels: c.Channels, Out: c.out(), Height: c.Height, Width: c.Width, Multiple: c.multiple(),
		Classes: c.Classes, Tokens: map[string]int{}, Vectors: map[string]int{}, Extra: c.Extra, Skips: p.skips,
	}
	for _, x := range c.Contexts {
		k.Tokens[x.Name] = x.Width
	}
	for _, x := range c.Vectors {
		k.Vectors[x.Name] = x.Width
	}
	return k
}

// Config is what the network was made of.
func (u *UNet) Config() Config { return u.config }

// Params is the network's parameters, and those of whatever else shares them.
func (u *UNet) Params() *nn.Params { return u.params }

// Takes is what Forward may be given.
func (u *UNet) Takes() models.Takes { return u.takes }

// Blocks is the network's blocks in the order in which they run.
func (u *UNet) Blocks() []Block { return u.blocks }

// Forward is the prediction for x [B, C, H, W] at times [B], [B, Out, H, W].
func (u *UNet) Forward(x, time *nn.Var, in models.Inputs) *nn.Var {
	mustFit(u.takes, x, time, in)
	p := pass{out: u.Out}
	if u.Mask.Seed != 0 {
		p.mask, p.mask.P = u.Mask, u.config.Dropout
	}
	u.begin(&p, time, in)
	h := u.first(x, in)
	var skips [64]*nn.Var
	hs := skips[:0]
	for _, st := range u.input {
		h = through(&p, h, st)
		hs = append(hs, h)
	}
	h = through(&p, h, u.middle)
	if in.Control != nil && in.Control.Middle != nil {
		h = h.Add(in.Control.Middle)
	}
	h = h.Tap(u.mid)
	for _, st := range u.output {
		last := len(hs) - 1
		skip := hs[last]
		if in.Control != nil {
			skip = skip.Add(in.Control.Skips[last])
		}
		h = through(&p, nn.Concat(3, h, skip), st)
		hs = hs[:last]
	}
	y := channelsFirst(u.conv.Forward(u.norm.Forward(h)))
	if p := u.config.patch(); p > 1 {
		y = y.PixelShuffle(p)
	}
	return y
}

// Package critic has networks that tell real from made, and distances by the features of a
// network: what autoencoders and distilled samplers are trained against. The losses are in
// package nn: HingeCritic, SoftplusCritic and their likes.
package critic

import (
	"fmt"
	"math"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/ops"
)

// Norm is how a PatchGAN normalises.
type Norm int

// The norms.
const (
	Batch Norm = iota // over the batch, as in files of VQGAN
	Group             // in groups of channels of each picture: no picture sees another
	None
)

// PatchConfig describes a PatchGAN. Zeros stand for the defaults.
type PatchConfig struct {
	Channels int  // of pictures: 3
	Width    int  // of the first layer: 64
	Layers   int  // between the first and the last: 3
	Norm     Norm // of those layers
	Groups   int  // of Group: 8
}

func (c PatchConfig) filled() PatchConfig {
	for _, d := range []struct {
		to       *int
		standard int
	}{{&c.Channels, 3}, {&c.Width, 64}, {&c.Layers, 3}, {&c.Groups, 8}} {
		if *d.to == 0 {
			*d.to = d.standard
		}
	}
	return c
}

// Check says what is wrong with c.
func (c PatchConfig) Check() error {
	f := c.filled()
	switch {
	case f.Channels < 1:
		return fmt.Errorf("critic: Channels is %d, want >= 1", c.Channels)
	case f.Width < 1:
		return fmt.Errorf("critic: Width is %d, want >= 1", c.Width)
	case f.Layers < 1 || f.Layers > 8:
		return fmt.Errorf("critic: Layers is %d, want 1 to 8", c.Layers)
	case f.Norm < Batch || f.Norm > None:
		return fmt.Errorf("critic: Norm is %d, want Batch, Group or None", c.Norm)
	case f.Norm == Group && (f.Groups < 1 || f.Width*2%f.Groups != 0):
		return fmt.Errorf("critic: Groups is %d for layers of %d channels, want a divisor", f.Groups, 2*f.Width)
	}
	return nil
}

// PatchGAN is a convolutional critic that judges overlapping patches, each by itself (Isola
// et al. 2017, arXiv 1611.07004). Its parameters have the names of VQGAN's.
type PatchGAN struct {
	Config PatchConfig
	convs  []*nn.Conv2D
	batch  []*nn.BatchNorm
	group  []*nn.GroupNorm
}

// NewPatchGAN registers a critic in s.
func NewPatchGAN(s nn.Scope, c PatchConfig) *PatchGAN {
	if err := c.Check(); err != nil {
		panic(err.Error())
	}
	c = c.filled()
	p := &PatchGAN{Config: c}
	at := 0
	conv := func(in, out, stride int, bias bool) {
		l := nn.NewConv2D(s.At(fmt.Sprintf("main.%d", at)), in, out, 4)
		l.W.Start = nn.Normal(0.02)
		l.Config = ops.ConvConfig{Stride: stride, Pad: [4]int{1, 1, 1, 1}}
		p.convs = append(p.convs, l)
		at++
	}
	conv(c.Channels, c.Width, 2, true)
	at++ // the function has a number too
	width := c.Width
	for i := 1; i <= c.Layers; i++ {
		out, stride := c.Width*min(1<<i, 8), 2
		if i == c.Layers {
			stride = 1
		}
		l := s.At(fmt.Sprintf("main.%d", at))
		if c.Norm == Batch { // whose bias makes that of the convolution useless
			w := &nn.Conv2D{W: l.Param("weight", nn.Normal(0.02), out, width, 4, 4), Config: ops.ConvConfig{Stride: stride, Pad: [4]int{1, 1, 1, 1}}}
			p.convs = append(p.convs, w)
			at++
		} else {
			conv(width, out, stride, true)
		}
		norm := s.At(fmt.Sprintf("main.%d", at))
		switch c.Norm {
		case Batch:
			p.batch = append(p.batch, nn.NewBatchNorm(norm, out))
		case Group:
			p.group = append(p.group, nn.NewGroupNorm(norm, c.Groups, out))
		}
		at, width = at+2, out
	}
	conv(width, 1, 1, true)
	return p
}

// Forward is the judgements of pictures x [N, Channels, H, W], [N, 1, H', W']: high for real.
// train is BatchNorm's.
func (p *PatchGAN) Forward(x *nn.Var, train bool) *nn.Var {
	if s := x.Shape(); len(s) != 4 || s[1] != p.Config.Channels || min(s[2], s[3]) < p.Smallest() {
		panic(fmt.Sprintf("critic: PatchGAN: pictures of shape %v, want [n, %d, height, width] of at least %d", s, p.Config.Channels, p.Smallest()))
	}
	last := len(p.convs) - 1
	for i, l := range p.convs {
		x = l.Forward(x)
		switch {
		case i == 0 || i == last:
		case p.batch != nil:
			x = p.batch[i-1].Forward(x, train)
		case p.group != nil:
			x = p.group[i-1].Forward(x)
		}
		if i < last {
			x = x.Map(ops.LeakyReLU(0.2))
		}
	}
	return x
}

// Smallest is the least height and width of pictures.
func (p *PatchGAN) Smallest() int { return 3 << p.Config.Layers }

// Receptive is the height and width of the patch that one judgement is of.
func (p *PatchGAN) Receptive() int {
	r := 1
	for i := len(p.convs) - 1; i >= 0; i-- {
		r = (r-1)*max(1, p.convs[i].Config.Stride) + 4
	}
	return r
}

// NewHead registers a critic of vectors: layers of those widths and one judgement, [..., 1],
// with a leaky ReLU of 0.2 between.
func NewHead(s nn.Scope, widths ...int) *nn.MLP {
	return nn.NewMLP(s, ops.LeakyReLU(0.2), append(append([]int{}, widths...), 1)...)
}

// AdaptiveWeight is how much a loss may weigh so that its gradient by a parameter is as long as
// another one's: |∂base/∂at| / (|∂added/∂at| + eps), at most limit (Esser et al. 2021, arXiv
// 2012.09841: eps 1e-4, limit 1e4, at the decoder's last layer). It is a number, no gradient
// flows by it; the gradients of both losses stay as they are. It walks back twice, over what
// lies between the losses and the parameter alone.
func AdaptiveWeight(base, added *nn.Var, at *nn.Param, eps, limit float64) float64 {
	t := base.Tape()
	p := t.Use(at)
	a, b := gradNorm(t, base, p), gradNorm(t, added, p)
	return min(max(a/(b+eps), 0), limit)
}

func gradNorm(t *nn.Tape, loss, p *nn.Var) float64 {
	var room [1]*gpu.Tensor
	g := t.GradFrom(room[:0], loss, nil, p)[0]
	if g == nil { // the loss does not depend on it
		return 0
	}
	n := math.Sqrt(ops.SumSquares(g))
	t.Arena().Free(g)
	return n
}

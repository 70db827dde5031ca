package network

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/models"
	"github.com/fidlab/fidlab/models/dit"
	"github.com/fidlab/fidlab/models/unet"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/sampler"
)

// Layered is a network as a denoiser whose blocks can be left out one by one: the
// residual and attention blocks of a U-Net, the blocks of a transformer. As every
// denoiser of a network it serves one goroutine at a time, and all those that are
// made of it share the network: they take turns.
type Layered struct {
	*sampler.Adapted
	net   models.Net
	path  diffusion.Path
	pred  diffusion.Pred
	o     Options
	names []string
	// without is the network that leaves out the blocks of those numbers.
	without func(skip []int) models.Net
}

// NewLayered is net as such a denoiser, which predicts pred on path. It refuses
// networks of other kinds, and those that have no block to leave out.
func NewLayered(net models.Net, path diffusion.Path, pred diffusion.Pred, o Options) (*Layered, error) {
	l := &Layered{Adapted: Denoiser(net, path, pred, o), net: net, path: path, pred: pred, o: o}
	switch m := net.(type) {
	case *unet.UNet:
		var ids []int
		for _, b := range m.Blocks() {
			if b.Optional {
				ids, l.names = append(ids, b.ID), append(l.names, b.Name)
			}
		}
		l.without = func(skip []int) models.Net {
			out := make([]bool, len(m.Blocks()))
			for _, s := range skip {
				out[ids[s]] = true
			}
			return &thinUNet{m, out}
		}
	case *dit.Net:
		var at []int
		for i, b := range m.Blocks {
			if b.Kind != dit.Merge && b.Kind != dit.Recover {
				at, l.names = append(at, i), append(l.names, fmt.Sprint("blocks.", i))
			}
		}
		l.without = func(skip []int) models.Net {
			out := make([]bool, len(m.Blocks))
			for _, s := range skip {
				out[at[s]] = true
			}
			return &thinDiT{m, out}
		}
	default:
		return nil, fmt.Errorf("network: NewLayered: a %T has no blocks that can be left out; U-Nets and transformers have", net)
	}
	if len(l.names) == 0 {
		return nil, fmt.Errorf("network: NewLayered: the network has no block that can be left out")
	}
	return l, nil
}

// thinUNet is a U-Net that leaves out blocks.
type thinUNet struct {
	*unet.UNet
	out []bool // by ID
}

func (n *thinUNet) Forward(x, time *nn.Var, in models.Inputs) *nn.Var {
	before := n.Out
	n.Out = n.out
	defer func() { n.Out = before }()
	return n.UNet.Forward(x, time, in)
}

// thinDiT is a transformer that does.
type thinDiT struct {
	*dit.Net
	out []bool
}

func (n *thinDiT) Forward(x, time *nn.Var, in models.Inputs) *nn.Var {
	return n.ForwardWith(x, time, in, dit.Options{Skip: n.out})
}

// Layers implements sampler.Layered.
func (l *Layered) Layers() []string { return slices.Clone(l.names) }

// Without implements sampler.Layered.
func (l *Layered) Without(skip []int, ran *atomic.Int64) (sampler.Denoiser, error) {
	for i, s := range skip {
		if s < 0 || s >= len(l.names) || i > 0 && s <= skip[i-1] {
			return nil, fmt.Errorf("network: blocks %v left out; want rising numbers from 0 to %d", skip, len(l.names)-1)
		}
	}
	return &thin{Denoiser(l.without(skip), l.path, l.pred, l.o), int64(len(l.names) - len(skip)), ran}, nil
}

// thin counts the blocks that it runs, by image.
type thin struct {
	den  *sampler.Adapted
	left int64
	ran  *atomic.Int64
}

// Check implements sampler.Checker.
func (d *thin) Check(g *diffusion.Grid) error { return d.den.Check(g) }

func (d *thin) count(images int) {
	if d.ran != nil {
		d.ran.Add(d.left * int64(images))
	}
}

// Denoise implements sampler.Denoiser.
func (d *thin) Denoise(ctx context.Context, out, x *gpu.Tensor, sigma []float64, c sampler.Cond) error {
	d.count(len(sigma))
	return d.den.Denoise(ctx, out, x, sigma, c)
}

// DenoiseAt implements sampler.PointDenoiser.
func (d *thin) DenoiseAt(ctx context.Context, out, x *gpu.Tensor, at []diffusion.Point, c sampler.Cond) error {
	d.count(len(at))
	return d.den.DenoiseAt(ctx, out, x, at, c)
}

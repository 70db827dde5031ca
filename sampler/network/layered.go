package network

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/models"
	"github.com/fidlab/fidlab/sampler"
)

// Layered is a network as a denoiser whose blocks can be left out one by one. As every
// denoiser of a network it serves one goroutine at a time, and all those that are
// made of it share the network: they take turns.
type Layered struct {
	*sampler.Adapted
	net   models.Layered
	path  diffusion.Path
	pred  diffusion.Pred
	o     Options
	names []string
}

// NewLayered is net as such a denoiser, which predicts pred on path. It refuses
// networks of other kinds, and those that have no block to leave out.
func NewLayered(net models.Net, path diffusion.Path, pred diffusion.Pred, o Options) (*Layered, error) {
	n, ok := net.(models.Layered)
	if !ok {
		return nil, fmt.Errorf("network: NewLayered: a %T has no blocks that can be left out; U-Nets and transformers have", net)
	}
	l := &Layered{Adapted: Denoiser(net, path, pred, o), net: n, path: path, pred: pred, o: o, names: n.Layers()}
	if len(l.names) == 0 {
		return nil, fmt.Errorf("network: NewLayered: the network has no block that can be left out")
	}
	return l, nil
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
	return &thin{Denoiser(l.net.Without(skip), l.path, l.pred, l.o), int64(len(l.names) - len(skip)), ran}, nil
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

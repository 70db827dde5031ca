package ddo

import (
	"context"
	"fmt"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/models"
	"github.com/fidlab/fidlab/sampler"
	"github.com/fidlab/fidlab/systems/bases"
	"github.com/fidlab/fidlab/train"
)

// Denoiser is a network that was trained to remove noise as how says; its likelihood is the bound of train.Denoising. It draws by so many
// steps of Heun's method on an even grid or Karras', as its path has it, without guidance. Dropout that a network has is off, in the
// reference and in itself: the two are to see the same.
func Denoiser(n *bases.Network, how train.Diffusion, steps int) *Net {
	return &Net{
		Params: n.Net.Params(),
		LogP: func(batch int) (train.LogP, error) {
			l, err := how.NewDenoising(n.Net, batch)
			if err != nil {
				return nil, err
			}
			return l.Bound(models.Inputs{}), nil
		},
		Draw: func(ctx context.Context, seed uint64, count int) (*train.Examples, error) {
			return DrawDenoiser(ctx, n, seed, count, steps, 1)
		},
	}
}

// SamplerOf names the sampler of a Denoiser.
func SamplerOf(steps int) string { return fmt.Sprintf("heun, %d steps", steps) }

// DrawDenoiser draws examples of the classes in turn, with guidance where that is not 1.
func DrawDenoiser(ctx context.Context, n *bases.Network, seed uint64, count, steps int, guidance float64) (*train.Examples, error) {
	rule := n.Rule()
	if n.Path.Space() == diffusion.FlowSpace {
		rule = "uniform" // with few steps the usual rule's last one is wasted
	}
	g, err := diffusion.Build(n.Path, diffusion.Spec{Rule: rule, Steps: steps})
	if err != nil {
		return nil, err
	}
	var den sampler.Denoiser = n.Denoiser()
	if guidance != 1 {
		den = &sampler.Guided{Den: den, Weight: guidance}
	}
	o := n.Options(seed, count)
	r, err := sampler.Run(ctx, den, sampler.Heun{}, g, o)
	if err != nil {
		return nil, err
	}
	e := &train.Examples{Shape: n.Shape}
	if e.X, err = r.X.Floats(); err != nil {
		return nil, err
	}
	for _, c := range o.Cond.Classes {
		e.Labels = append(e.Labels, int32(c))
	}
	return e, nil
}

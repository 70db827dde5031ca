package ddo

import (
	"context"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/models/mlp"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/systems"
	"github.com/fidlab/fidlab/systems/bases"
	"github.com/fidlab/fidlab/train"
)

// edm is how the network of the proof is trained: EDM's path, weights and levels; a tenth is told no class.
var edm = train.Diffusion{Path: "edm", Pred: "edm", Draw: "lognormal:-1.2,1.2", Weight: "one", Drop: 0.1}

// digitSteps are those of the sampler, guided the weight of its guidance where there is some.
const (
	digitSteps = 12
	guided     = 1.5
)

// smallConfig is too small for digits: more training does not help it.
func smallConfig() mlp.Config {
	return mlp.Config{Channels: 1, Height: 8, Width: 8, Hidden: 64, Blocks: 2, Classes: 10, TimeFactor: 100}
}

// small is a network of digits of 8×8 that is too small for them; weights nil begins it by the seed.
func small(c mlp.Config, seed uint64, weights *nn.Params) (*Net, *bases.Network, error) {
	path, pred, err := edm.Convention()
	if err != nil {
		return nil, nil, err
	}
	params := nn.NewParams(gpu.CPU(), gpu.Float32)
	net := mlp.New(params.At(""), c)
	params.Init(seed)
	if weights != nil {
		params.CopyFrom(weights)
	}
	n := &bases.Network{Name: "small digits", Device: gpu.CPU(), Trained: &systems.Trained{Net: net, Path: path, Pred: pred, Shape: []int{c.Channels, c.Height, c.Width}, Lo: -1, Hi: 1}}
	return Denoiser(n, edm, digitSteps), n, nil
}

// pretrain trains a network from nothing by its own likelihood, with its best weights of all looks.
func pretrain(ctx context.Context, base *Base, set *train.Examples, score Score, o Options) (*Base, []Round, error) {
	o.Likelihood, o.Rounds = true, 1
	best, rounds, err := Finetune(ctx, base, set, score, o)
	if err != nil {
		return nil, nil, err
	}
	return base.with(best), rounds, nil
}

// with is the base with other weights.
func (b *Base) with(weights *Net) *Base {
	out := *b
	out.New = func() (*Net, error) {
		n, err := b.New()
		if err == nil {
			n.Params.CopyFrom(weights.Params)
		}
		return n, err
	}
	return &out
}

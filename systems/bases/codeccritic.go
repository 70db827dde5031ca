package bases

import (
	"fmt"

	"github.com/fidlab/fidlab/models/critic"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/train"
)

// criticRecipe is a critic's part of a codec's checkpoint.
type criticRecipe struct {
	Net critic.PatchConfig `json:"net"`
	// Weight is of what the critic says, against the squared error, once both have gradients of one length at the decoder's last layer.
	Weight float64 `json:"weight"`
	From   int     `json:"from"` // the step from which the codec hears of it; the critic learns from the first on
}

// criticPart is the critic's name in checkpoints.
const criticPart = "critic"

// The limits of the adaptive weight.
const (
	criticEps   = 1e-4
	criticLimit = 1e4
)

// criticised is the task with a critic of patches besides its loss.
func (t shapesCodec) criticised() shapesCodec {
	t.Name += "-critic"
	t.Text = fmt.Sprintf("the network of %s, with a critic of patches", t.recipe.name())
	t.Source = "Esser et al. 2021 (VQGAN: critic and its weight); Lim and Ye 2017 (hinge)"
	t.Settings.Betas = []float64{0.5, 0.9}
	t.recipe.Critic = &criticRecipe{Net: critic.PatchConfig{Channels: 3, Width: 32, Layers: 1, Norm: critic.Group}, Weight: 0.1, From: 250}
	return t
}

// name is that of the task whose network it is.
func (r *codecRecipe) name() string {
	if r.KL != nil {
		return ShapesVAE
	}
	return ShapesVQ
}

// criticise makes the codec and a critic learn in turn: the codec to give scenes back and to be taken for real, the critic to tell real
// scenes from those. Both see batches of their own.
func (l *shapesLoss) criticise(job *train.Job, r *criticRecipe, after func(*train.Batch), feed *train.Feed, s train.Settings) error {
	if err := r.Net.Check(); err != nil {
		return err
	}
	params := nn.NewParams(l.c.Params.Device(), l.c.Params.DType())
	judge := critic.NewPatchGAN(params.At(""), r.Net)
	params.Init(s.Seeds.Init)
	job.Nets = append(job.Nets, &train.Network{Name: criticPart, Params: params, NoEMA: true})
	job.Figures = append(job.Figures, "critic_weight", "real", "made")
	last := l.last()
	job.Phases = []train.Phase{
		{Name: "codec", Nets: []string{codecPart}, After: after, Loss: func(b *train.Batch) *nn.Var {
			_, y, mse, rest := l.of(b)
			loss := mse.Add(rest)
			if b.Step < r.From {
				return loss
			}
			says := nn.HingeGenerator(judge.Forward(y, true))
			w := r.Weight * critic.AdaptiveWeight(mse, says, last, criticEps, criticLimit)
			b.Figure("critic_weight", w)
			return loss.Add(says.Scale(w))
		}},
		{Name: criticPart, Nets: []string{criticPart}, Loss: func(b *train.Batch) *nn.Var {
			in, _ := feed.Next(b)
			x := b.Tape.Input(in)
			z, _ := l.c.Encode(x)
			real, made := judge.Forward(x, true), judge.Forward(l.c.Decode(z).StopGrad(), true)
			b.Figure("real", real.Mean().Item())
			b.Figure("made", made.Mean().Item())
			return nn.HingeCritic(real, made)
		}},
	}
	return nil
}

// last is the parameter of the decoder's last layer.
func (l *shapesLoss) last() *nn.Param {
	if l.c.KL != nil {
		return l.c.KL.Last()
	}
	return l.c.ViT.Last()
}

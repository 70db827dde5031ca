package train

import (
	"fmt"
	"math"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/models"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/ops"
)

// LogP is how likely a network finds each example of a batch, [B] in nats, but for what does not depend on its weights. What it draws for
// that, noise and times and who is told no class, is a function of the batch, so that two networks are asked the same. classes are nil of
// networks that know none.
type LogP func(b *Batch, x *gpu.Tensor, classes []int32) *nn.Var

// Discriminative is the loss of direct discriminative optimisation (Zheng et al. 2025, arXiv 2503.01103): a network is its own
// discriminator, by how much likelier it finds an example than a frozen reference does,
//
//	mean of data softplus(-β·d) + α·mean of fakes softplus(β·d),   d = log p(x) - log p_ref(x),
//
// with fakes that the reference drew. Where everything can be learnt it ends at p ∝ p_ref·(p_data/p_ref)^(1/β), for α = β = 1 at the
// data. At the reference's own weights it is (1 + α)·log 2, of every example.
type Discriminative struct {
	Model, Reference LogP
	Alpha, Beta      float64

	scale, share *gpu.Tensor // [B]
	fakes        int
}

// NewDiscriminative makes the loss. Beta is above 0 and Alpha at least 0, both finite.
func NewDiscriminative(model, reference LogP, alpha, beta float64) (*Discriminative, error) {
	switch {
	case !(alpha >= 0) || math.IsInf(alpha, 0):
		return nil, fmt.Errorf("train: alpha %v, want a finite number, 0 or more", alpha)
	case !(beta > 0) || math.IsInf(beta, 0):
		return nil, fmt.Errorf("train: beta %v, want a finite number above 0", beta)
	}
	return &Discriminative{Model: model, Reference: reference, Alpha: alpha, Beta: beta}, nil
}

// Loss is the loss of a batch x, one number: its last fakes examples are the reference's, those before them data. Both kinds must be there.
func (l *Discriminative) Loss(b *Batch, x *gpu.Tensor, classes []int32, fakes int) *nn.Var {
	return l.Each(b, x, classes, fakes).Mul(b.Tape.Input(l.share)).Sum()
}

// Each is the loss of each example, [B], without α and the means' shares.
func (l *Discriminative) Each(b *Batch, x *gpu.Tensor, classes []int32, fakes int) *nn.Var {
	if fakes < 1 || fakes >= b.Size {
		panic(fmt.Sprintf("train: Discriminative: %d fakes in a batch of %d; want data and fakes", fakes, b.Size))
	}
	var ref *nn.Var
	b.Tape.NoGrad(func() { ref = l.Reference(b, x, classes) })
	p := l.Model(b, x, classes)
	for _, v := range []*nn.Var{p, ref} {
		if s := v.Shape(); len(s) != 1 || s[0] != b.Size {
			panic(fmt.Sprintf("train: Discriminative: likelihoods of shape %v, want [%d]", s, b.Size))
		}
	}
	l.lay(p, b.Size, fakes)
	return p.Sub(ref).Mul(b.Tape.Input(l.scale)).Softplus()
}

// lay fills the factors of the ratios and of the sum.
func (l *Discriminative) lay(like *nn.Var, size, fakes int) {
	if l.scale != nil && l.scale.Len() == size && l.fakes == fakes {
		return
	}
	v := like.Value()
	scale, share := make([]float64, size), make([]float64, size)
	for i := range size {
		scale[i], share[i] = -l.Beta, 1/float64(size-fakes)
		if i >= size-fakes {
			scale[i], share[i] = l.Beta, l.Alpha/float64(fakes)
		}
	}
	one := v.Device().New(v.DType(), size)
	ops.Fill(one, 1)
	l.scale, l.share, l.fakes = one.Like(), one.Like(), fakes
	ops.LinCombRows(l.scale, scale, one)
	ops.LinCombRows(l.share, share, one)
}

// Bound is one draw of the evidence bound of each example, [B], as the network's own training weighs it: minus the weighted squared
// error of one level and one noise, summed over the example's values. The source takes it for log p in Discriminative: by Jensen's
// inequality the mean over levels and noises goes outside of the softplus. Under other noise, or another measure of error, a β means
// something else.
func (l *Denoising) Bound(in models.Inputs) LogP {
	return func(b *Batch, x *gpu.Tensor, classes []int32) *nn.Var {
		each, weights := l.Each(b, x, classes, in)
		if weights != nil {
			each = each.Mul(weights)
		}
		return each.Scale(-float64(x.Len() / x.Shape()[0]))
	}
}

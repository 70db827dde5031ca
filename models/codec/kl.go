package codec

import (
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/ops"
)

// KL is an autoencoder whose latent is a normal distribution for each element (Kingma and
// Welling 2014, arXiv 1312.6114), as latent diffusion uses it. Its parameters have the names
// of diffusers' AutoencoderKL; CompVisNames are those of the files before.
type KL struct {
	Config          Config
	encoder         *convEncoder
	decoder         *convDecoder
	quant, quantOut *nn.Conv2D // nil without
}

// NewKL registers an autoencoder in s.
func NewKL(s nn.Scope, c Config) *KL {
	must(c.Check())
	c = c.filled()
	k := &KL{Config: c, encoder: newConvEncoder(s.At("encoder"), &c, 2*c.Latent), decoder: newConvDecoder(s.At("decoder"), &c, c.Latent)}
	if !c.NoQuantConv {
		k.quant = nn.NewConv2D(s.At("quant_conv"), 2*c.Latent, 2*c.Latent, 1)
		k.quantOut = nn.NewConv2D(s.At("post_quant_conv"), c.Latent, c.Latent, 1)
	}
	return k
}

// Encode is the distribution of the latents of pictures x [N, Channels, H, W]. Callers check
// pictures from outside with Config.CheckPictures.
func (k *KL) Encode(x *nn.Var) Gaussian {
	must(k.Config.CheckPictures(x.Shape()))
	h := k.encoder.forward(x)
	if k.quant != nil {
		h = k.quant.Forward(h)
	}
	return NewGaussian(h)
}

// Decode is the pictures of latents z [N, Latent, H/f, W/f].
func (k *KL) Decode(z *nn.Var) *nn.Var {
	if k.quantOut != nil {
		z = k.quantOut.Forward(z)
	}
	return k.decoder.forward(z)
}

// Last is the parameter of the decoder's last layer, by whose gradients the weights of losses
// are balanced.
func (k *KL) Last() *nn.Param { return k.decoder.out.W }

// LastOfEncoder is the parameter of the encoder's last layer.
func (k *KL) LastOfEncoder() *nn.Param { return k.encoder.out.W }

// Gaussian is normal distributions, independent for each element.
type Gaussian struct {
	Mean, LogVar *nn.Var // of one shape
}

// NewGaussian takes the first half of the channels of h [N, 2C, ...] as means and the second
// as logarithms of variances, limited to [-30, 20].
func NewGaussian(h *nn.Var) Gaussian {
	c := h.Shape()[1] / 2
	return Gaussian{Mean: h.Slice(1, 0, c), LogVar: h.Slice(1, c, c).Clip(-30, 20)}
}

// Sample is mean + σ·n with the normals n that z names: row b is a sample's.
func (g Gaussian) Sample(z ops.Noise) *nn.Var {
	t := g.Mean.Tape()
	n := t.Arena().New(t.DType(), g.Mean.Shape()...)
	ops.Normals(n, z)
	return g.Mean.AddMul(g.LogVar.Scale(0.5).Exp(), t.Input(n))
}

// KL is the divergence from the standard normal, summed over each sample, [N], in nats.
func (g Gaussian) KL() *nn.Var {
	s := g.Mean.Shape()
	return nn.KLNormal(g.Mean, g.LogVar).Reshape(s[0], -1).Sum(1).Reshape(s[0])
}

// NLL is the negative logarithm of the density at x, summed over each sample, [N], in nats.
func (g Gaussian) NLL(x *nn.Var) *nn.Var {
	s := g.Mean.Shape()
	const log2Pi = 1.8378770664093454836
	e := x.Sub(g.Mean).Square().Mul(g.LogVar.Neg().Exp()).Add(g.LogVar).Affine(0.5, log2Pi/2)
	return e.Reshape(s[0], -1).Sum(1).Reshape(s[0])
}

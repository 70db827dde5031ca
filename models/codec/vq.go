package codec

import (
	"fmt"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/models/vq"
	"github.com/fidlab/fidlab/nn"
)

// VQConfig describes a VQ: Book.Width channels at each place are one code.
type VQConfig struct {
	Config
	Book vq.Config
}

// Check says what is wrong with c.
func (c VQConfig) Check() error {
	if err := c.Config.Check(); err != nil {
		return err
	}
	if c.NoQuantConv && c.Latent != c.Book.Width {
		return fmt.Errorf("codec: Book.Width is %d and Latent %d, want one width without convolutions between", c.Book.Width, c.Latent)
	}
	return c.Book.Check()
}

// VQ is an autoencoder whose latent is codes of a book: VQ-VAE (van den Oord et al. 2017,
// arXiv 1711.00937) with the network of VQGAN (Esser et al. 2021, arXiv 2012.09841). Its
// parameters have the names of diffusers' VQModel.
type VQ struct {
	Config          VQConfig
	Book            *vq.Book
	encoder         *convEncoder
	decoder         *convDecoder
	quant, quantOut *nn.Conv2D
}

// NewVQ registers an autoencoder in s.
func NewVQ(s nn.Scope, c VQConfig) *VQ {
	must(c.Check())
	c.Config = c.filled()
	q := &VQ{Config: c, encoder: newConvEncoder(s.At("encoder"), &c.Config, c.Latent), decoder: newConvDecoder(s.At("decoder"), &c.Config, c.Latent)}
	if !c.NoQuantConv {
		q.quant = nn.NewConv2D(s.At("quant_conv"), c.Latent, c.Book.Width, 1)
		q.quantOut = nn.NewConv2D(s.At("post_quant_conv"), c.Book.Width, c.Latent, 1)
	}
	q.Book = vq.New(s.At("quantize"), c.Book)
	return q
}

// Grid is the size of the latent of pictures of h×w.
func (q *VQ) Grid(h, w int) (gh, gw int) { return h / q.Config.Factor(), w / q.Config.Factor() }

// Features is what codes are chosen for, [N, Book.Width, H/f, W/f], of pictures x.
func (q *VQ) Features(x *nn.Var) *nn.Var {
	must(q.Config.CheckPictures(x.Shape()))
	h := q.encoder.forward(x)
	if q.quant != nil {
		h = q.quant.Forward(h)
	}
	return h
}

// Encode is the codes of pictures x, [N, Book.Width, H/f, W/f], and what else the book makes
// of them: indices in the order of reading and the book's loss. After Backward, training
// gives it to Book.Update.
func (q *VQ) Encode(x *nn.Var, train bool) (z *nn.Var, made vq.Quantized) {
	h := q.Features(x)
	made = q.Book.Quantize(vq.Rows(h), train)
	return vq.Unrows(made.Codes, h.Shape()), made
}

// Decode is the pictures of codes z.
func (q *VQ) Decode(z *nn.Var) *nn.Var {
	if q.quantOut != nil {
		z = q.quantOut.Forward(z)
	}
	return q.decoder.forward(z)
}

// DecodeIndices is the pictures of indices idx, Int32 [N, h·w] on the CPU, of a grid of h×w.
func (q *VQ) DecodeIndices(t *nn.Tape, idx *gpu.Tensor, h, w int) *nn.Var {
	s := idx.Shape()
	if len(s) != 2 || s[1] != h*w {
		panic(fmt.Sprintf("codec: DecodeIndices: indices of shape %v for a grid of %d×%d, want [n, %d]", s, h, w, h*w))
	}
	codes := q.Book.Lookup(t, idx).Reshape(s[0]*h*w, q.Config.Book.Width)
	return q.Decode(vq.Unrows(codes, []int{s[0], q.Config.Book.Width, h, w}))
}

// Last is the parameter of the decoder's last layer.
func (q *VQ) Last() *nn.Param { return q.decoder.out.W }

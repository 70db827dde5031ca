package codec

import (
	"fmt"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/models/vq"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/ops"
	"github.com/fidlab/fidlab/rng"
)

// ViTConfig describes a ViT. Zeros stand for the defaults.
type ViTConfig struct {
	Channels     int // of pictures: 3
	Size, Patch  int // of a side of a picture and of a patch, in pixels
	Width, Heads int // of tokens
	Hidden       int // of the layers between: 4·Width
	Depth        int // blocks of the encoder
	DecoderDepth int // of the decoder: Depth
	Latent       int // width of a latent

	// Tokens > 0 makes that many latents of a whole picture, learnt tokens beside those of the
	// patches (Yu et al. 2024, arXiv 2406.07550); 0 makes one of each patch.
	Tokens int
	// Text > 0 is the width of the states of a text, which both halves then attend to (Zha et
	// al. 2024, arXiv 2412.05796).
	Text int
	// Codes makes a latent a code of a book (Yu et al. 2022, arXiv 2110.04627); nil leaves it
	// continuous. Its Width is Latent.
	Codes *vq.Config
}

func (c ViTConfig) filled() ViTConfig {
	if c.Channels == 0 {
		c.Channels = 3
	}
	if c.Hidden == 0 {
		c.Hidden = 4 * c.Width
	}
	if c.DecoderDepth == 0 {
		c.DecoderDepth = c.Depth
	}
	return c
}

// Check says what is wrong with c.
func (c ViTConfig) Check() error {
	f := c.filled()
	switch {
	case f.Channels < 1:
		return fmt.Errorf("codec: Channels is %d, want >= 1", c.Channels)
	case c.Patch < 1 || c.Size < c.Patch || c.Size%c.Patch != 0:
		return fmt.Errorf("codec: Size is %d and Patch %d, want a multiple of the patch", c.Size, c.Patch)
	case c.Heads < 1 || c.Width < 4 || c.Width%c.Heads != 0 || c.Width%4 != 0:
		return fmt.Errorf("codec: Width is %d in %d Heads, want a multiple of them and of 4", c.Width, c.Heads)
	case f.Hidden < 1:
		return fmt.Errorf("codec: Hidden is %d, want >= 1", c.Hidden)
	case c.Depth < 1 || f.DecoderDepth < 1:
		return fmt.Errorf("codec: Depth is %d and DecoderDepth %d, want >= 1", c.Depth, c.DecoderDepth)
	case c.Latent < 1:
		return fmt.Errorf("codec: Latent is %d, want >= 1", c.Latent)
	case c.Tokens < 0:
		return fmt.Errorf("codec: Tokens is %d, want >= 0 (0 for one a patch)", c.Tokens)
	case c.Text < 0:
		return fmt.Errorf("codec: Text is %d, want >= 0", c.Text)
	case c.Codes != nil && c.Codes.Width != c.Latent:
		return fmt.Errorf("codec: Codes.Width is %d and Latent %d, want one width", c.Codes.Width, c.Latent)
	case c.Codes != nil:
		return c.Codes.Check()
	}
	return nil
}

// Patches is how many patches a picture has.
func (c ViTConfig) Patches() int { return c.Size / c.Patch * (c.Size / c.Patch) }

// Latents is how many latents a picture has.
func (c ViTConfig) Latents() int {
	if c.Tokens > 0 {
		return c.Tokens
	}
	return c.Patches()
}

// vitBlock is attention and two layers with tanh between, each after a norm and added.
type vitBlock struct {
	norm1, norm2 *nn.Norm
	attend       *nn.SelfAttention
	in, out      *nn.Linear
}

// vitSide is the blocks of one half and what they see beside the patches.
type vitSide struct {
	blocks  []*vitBlock
	norm    *nn.Norm
	places  *nn.Param  // [1, patches, width]
	latents *nn.Param  // [1, Tokens, width], nil without
	text    *nn.Linear // nil without
}

func newViTSide(s nn.Scope, c *ViTConfig, depth int, places string) *vitSide {
	v := &vitSide{}
	for i := range depth {
		at := s.At(fmt.Sprintf("transformer.layers.%d", i))
		v.blocks = append(v.blocks, &vitBlock{
			norm1: nn.NewLayerNorm(at.At("0.norm"), c.Width), norm2: nn.NewLayerNorm(at.At("1.norm"), c.Width),
			attend: nn.NewSelfAttention(at.At("0.fn"), c.Width, nn.AttnOptions{
				Heads: c.Heads, NoBias: true, Names: nn.AttnNames{QKV: "to_qkv", Out: "to_out"},
			}),
			in: nn.NewLinear(at.At("1.fn.net.0"), c.Width, c.Hidden).Then(ops.Tanh), out: nn.NewLinear(at.At("1.fn.net.2"), c.Hidden, c.Width),
		})
	}
	v.norm = nn.NewLayerNorm(s.At("norm"), c.Width)
	grid := c.Size / c.Patch
	v.places = s.Param(places, func(_ *rng.Stream, _ []int, p []float32) {
		copy(p, nn.SinCos2D(gpu.CPU(), gpu.Float32, grid, grid, c.Width, 1).F32())
	}, 1, grid*grid, c.Width)
	if c.Tokens > 0 {
		v.latents = s.Param("latents", nn.Normal(0.02), 1, c.Tokens, c.Width)
	}
	if c.Text > 0 {
		v.text = nn.NewLinear(s.At("text"), c.Text, c.Width)
	}
	return v
}

// forward is the tokens x after all blocks, without those of the text.
func (v *vitSide) forward(x *nn.Var, text Text) *nn.Var {
	n := x.Shape()[1]
	var mask nn.AttnMask
	if v.text != nil {
		x = nn.Concat(1, x, v.text.Forward(text.States))
		mask.KeyLens = text.lens(x.Tape(), n)
	}
	for _, b := range v.blocks {
		x = x.Add(b.attend.Forward(b.norm1.Forward(x), mask, nil))
		x = x.Add(b.out.Forward(b.in.Forward(b.norm2.Forward(x))))
	}
	x = v.norm.Forward(x)
	if v.text != nil {
		x = x.Slice(1, 0, n)
	}
	return x
}

// Text is the states of texts; the zero value is none.
type Text struct {
	States *nn.Var     // [N, L, ViTConfig.Text]
	Lens   *gpu.Tensor // Int32 [N] on the CPU: those from Lens[n] on are padding; nil: there is none
}

// lens is how many keys each sample has, the first n always; nil where all have all.
func (x *Text) lens(t *nn.Tape, n int) *gpu.Tensor {
	if x.Lens == nil {
		return nil
	}
	out := t.Arena().New(gpu.Int32, x.Lens.Len())
	for i, l := range x.Lens.I32() {
		out.I32()[i] = int32(n) + l
	}
	return out
}

// ViT is an autoencoder of two vision transformers (Yu et al. 2022, arXiv 2110.04627). Its
// parameters have the names of the public implementation "enhancing transformers".
type ViT struct {
	Config           ViTConfig
	Book             *vq.Book // nil without Codes
	patches          *nn.PatchEmbed
	encoder, decoder *vitSide
	blank            *nn.Param // [1, 1, width]: what the decoder begins a patch with, with Tokens
	quant, quantOut  *nn.Linear
	pixels, bias     *nn.Param // [width, Channels, Patch, Patch] and [Channels]
}

// NewViT registers an autoencoder in s.
func NewViT(s nn.Scope, c ViTConfig) *ViT {
	must(c.Check())
	c = c.filled()
	e, d := s.At("encoder"), s.At("decoder")
	v := &ViT{Config: c, patches: nn.NewPatchEmbed(e.At("to_patch_embedding.0"), c.Channels, c.Width, c.Patch)}
	v.encoder, v.decoder = newViTSide(e, &c, c.Depth, "en_pos_embedding"), newViTSide(d, &c, c.DecoderDepth, "de_pos_embedding")
	if c.Tokens > 0 {
		v.blank = d.Param("blank", nn.Normal(0.02), 1, 1, c.Width)
	}
	out := d.At("to_pixel.conv_out")
	v.pixels = out.Param("weight", nn.Xavier, c.Width, c.Channels, c.Patch, c.Patch)
	v.bias = out.Param("bias", nn.Zeros, c.Channels)
	v.quant, v.quantOut = nn.NewLinear(s.At("pre_quant"), c.Width, c.Latent), nn.NewLinear(s.At("post_quant"), c.Latent, c.Width)
	if c.Codes != nil {
		v.Book = vq.New(s.At("quantizer"), *c.Codes)
	}
	return v
}

// FreezePlaces makes the places' tokens constants, as they are in the public implementation.
func (v *ViT) FreezePlaces() { v.encoder.places.Frozen, v.decoder.places.Frozen = true, true }

func (v *ViT) checkText(n int, text Text) {
	if v.Config.Text == 0 {
		if text.States != nil {
			panic("codec: ViT: a text for a network that knows none")
		}
		return
	}
	if text.States == nil {
		panic(fmt.Sprintf("codec: ViT: no text, want states [%d, length, %d]", n, v.Config.Text))
	}
	if s := text.States.Shape(); len(s) != 3 || s[0] != n || s[2] != v.Config.Text || text.Lens != nil && text.Lens.Len() != n {
		panic(fmt.Sprintf("codec: ViT: a text of shape %v, want [%d, length, %d] and as many lengths", s, n, v.Config.Text))
	}
}

// CheckPictures says what is wrong with pictures of that shape.
func (c ViTConfig) CheckPictures(shape []int) error {
	if f := c.filled(); len(shape) != 4 || shape[1] != f.Channels || shape[2] != c.Size || shape[3] != c.Size {
		return fmt.Errorf("codec: pictures of shape %v, want [n, %d, %d, %d]", shape, f.Channels, c.Size, c.Size)
	}
	return nil
}

// Features is the latents of pictures x before the book, [N, Latents, Latent].
func (v *ViT) Features(x *nn.Var, text Text) *nn.Var {
	must(v.Config.CheckPictures(x.Shape()))
	t, n := x.Tape(), x.Shape()[0]
	v.checkText(n, text)
	c := &v.Config
	h := v.patches.Forward(x).Add(t.Use(v.encoder.places))
	if c.Tokens > 0 {
		h = nn.Concat(1, h, t.Const(0, n, c.Tokens, c.Width).Add(t.Use(v.encoder.latents)))
	}
	h = v.encoder.forward(h, text)
	if c.Tokens > 0 {
		h = h.Slice(1, c.Patches(), c.Tokens)
	}
	return v.quant.Forward(h)
}

// Encode is the latents of pictures x, [N, Latents, Latent], and with Codes what else the
// book makes of them; see VQ.Encode.
func (v *ViT) Encode(x *nn.Var, text Text, train bool) (z *nn.Var, made vq.Quantized) {
	h := v.Features(x, text)
	if v.Book == nil {
		return h, made
	}
	s := h.Shape()
	made = v.Book.Quantize(h.Reshape(s[0]*s[1], s[2]), train)
	return made.Codes.Reshape(s...), made
}

// DecodeText is the pictures of latents z [N, Latents, Latent], with what the text says.
func (v *ViT) DecodeText(z *nn.Var, text Text) *nn.Var {
	c, s := &v.Config, z.Shape()
	if len(s) != 3 || s[1] != c.Latents() || s[2] != c.Latent {
		panic(fmt.Sprintf("codec: ViT: latents of shape %v, want [n, %d, %d]", s, c.Latents(), c.Latent))
	}
	v.checkText(s[0], text)
	t, n := z.Tape(), s[0]
	h, places := v.quantOut.Forward(z), t.Use(v.decoder.places)
	if c.Tokens > 0 {
		blank := t.Const(0, n, c.Patches(), c.Width).Add(places.Add(t.Use(v.blank)))
		h = nn.Concat(1, blank, h.Add(t.Use(v.decoder.latents)))
	} else {
		h = h.Add(places)
	}
	h = v.decoder.forward(h, text)
	if c.Tokens > 0 {
		h = h.Slice(1, 0, c.Patches())
	}
	w := t.Use(v.pixels).Reshape(c.Width, c.Channels*c.Patch*c.Patch)
	y := h.Reshape(n*c.Patches(), c.Width).MatMul(w).Reshape(n, c.Patches(), c.Channels*c.Patch*c.Patch)
	return y.Unpatchify(c.Patch, c.Size, c.Size, nn.ChannelsFirst).Add(t.Use(v.bias).Reshape(c.Channels, 1, 1))
}

// Decode is DecodeText without a text.
func (v *ViT) Decode(z *nn.Var) *nn.Var { return v.DecodeText(z, Text{}) }

// DecodeIndices is the pictures of indices, Int32 [N, Latents] on the CPU.
func (v *ViT) DecodeIndices(t *nn.Tape, idx *gpu.Tensor, text Text) *nn.Var {
	if v.Book == nil {
		panic("codec: ViT: indices for continuous latents")
	}
	return v.DecodeText(v.Book.Lookup(t, idx), text)
}

// Last is the parameter of the decoder's last layer.
func (v *ViT) Last() *nn.Param { return v.pixels }

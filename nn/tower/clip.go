package tower

import (
	"fmt"
	"math"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/ops"
	"github.com/fidlab/fidlab/text"
)

// CLIPConfig describes the pair of an image tower and a text tower.
type CLIPConfig struct {
	Vision ViTConfig
	Conv   *ConvConfig  `json:",omitempty"` // in Vision's place, where it is not nil
	Plain  *PlainConfig `json:",omitempty"` // likewise
	Text   TextConfig
	Embed  int // width of the space of both
}

// Check says what is wrong with a configuration.
func (c CLIPConfig) Check() error {
	if c.Embed < 1 {
		return fmt.Errorf("tower: Embed is %d, want at least 1", c.Embed)
	}
	if err := c.Text.Check(); err != nil {
		return fmt.Errorf("%w (Text)", err)
	}
	switch {
	case c.Conv != nil && c.Plain != nil:
		return fmt.Errorf("tower: Conv and Plain, want one image tower")
	case c.Conv != nil:
		return c.Conv.Check()
	case c.Plain != nil:
		return c.Plain.Check()
	}
	if err := c.Vision.Check(); err != nil {
		return fmt.Errorf("%w (Vision)", err)
	}
	return nil
}

// CLIP is an image tower and a text tower that map into one space (Radford et al. 2021, arXiv
// 2103.00020). Names of parameters are those of Hugging Face's CLIPModel.
type CLIP struct {
	Config          CLIPConfig
	Image           ImageTower // vision_model
	Text            *Text      // text_model
	ToImage, ToText *nn.Linear // visual_projection and text_projection
	LogScale        *nn.Param  // logit_scale [], the logarithm of 1/temperature
	prefix          string
	params          *nn.Params
}

// maxLogScale is the greatest logarithm of the scale, that of 100, as in the paper.
var maxLogScale = math.Log(100)

// NewCLIP registers a pair in s. It panics where Check has an error.
func NewCLIP(s nn.Scope, c CLIPConfig) *CLIP {
	if err := c.Check(); err != nil {
		panic(err.Error())
	}
	m := &CLIP{Config: c, prefix: s.Name(""), params: s.Params()}
	switch at := s.At("vision_model"); {
	case c.Conv != nil:
		m.Image = NewConv(at, *c.Conv)
	case c.Plain != nil:
		m.Image = NewPlain(at, *c.Plain)
	default:
		m.Image = NewViT(at, c.Vision)
	}
	m.Text = NewText(s.At("text_model"), c.Text)
	m.ToImage = nn.NewLinearNoBias(s.At("visual_projection"), m.Image.Width(), c.Embed)
	m.ToText = nn.NewLinearNoBias(s.At("text_projection"), m.Text.Width(), c.Embed)
	m.LogScale = s.Param("logit_scale", nn.Fill(float32(math.Log(1/0.07))))
	return m
}

// ImageEmbedding is the unit vectors [B, Embed] of pictures [B, C, H, W].
func (m *CLIP) ImageEmbedding(x *nn.Var) *nn.Var {
	_, pooled := m.Image.Forward(x)
	return m.ToImage.Forward(pooled).Unit(0)
}

// TextEmbedding is the unit vectors [B, Embed] of texts, ids [B, L].
func (m *CLIP) TextEmbedding(t *nn.Tape, ids *gpu.Tensor) *nn.Var {
	_, pooled := m.Text.Forward(t, ids)
	return m.ToText.Forward(pooled).Unit(0)
}

// Scale is what cosines are multiplied by, one over the temperature, as a single number.
func (m *CLIP) Scale(t *nn.Tape) *nn.Var { return t.Use(m.LogScale).Exp() }

// ClampScale limits the scale to 100, as the paper does after each step of the optimiser.
func (m *CLIP) ClampScale() {
	ops.Clamp(m.LogScale.Value, m.LogScale.Value, math.Inf(-1), maxLogScale)
}

// Loss is the mean of InfoNCE from pictures to texts and from texts to pictures, over unit
// vectors of as many of both, the i-th of which belong together.
func (m *CLIP) Loss(image, caption *nn.Var) *nn.Var {
	scale := m.Scale(image.Tape())
	o := NCE{InBatch: true}
	return o.Loss(image, caption, nil, scale).Add(o.Loss(caption, image, nil, scale)).Scale(0.5)
}

// NCE is a contrastive loss, InfoNCE (van den Oord et al. 2018, arXiv 1807.03748): the cross-
// entropy of telling a query's own key from others.
type NCE struct {
	InBatch bool // the keys of the other queries are among the others
}

// Loss is the mean over queries [B, D] with their keys [B, D], all of unit length. extra is nil
// or more keys that are no query's own, [E, D], or of each query others, [B, E, D]. scale, a
// single number, multiplies cosines.
func (o NCE) Loss(query, key, extra, scale *nn.Var) *nn.Var {
	t, s := query.Tape(), query.Shape()
	if len(s) != 2 || len(key.Shape()) != 2 || key.Shape()[0] != s[0] || key.Shape()[1] != s[1] {
		panic(fmt.Sprintf("tower: NCE: queries of shape %v and keys of shape %v, want [B, D] both", s, key.Shape()))
	}
	b, d := s[0], s[1]
	var logits *nn.Var
	if o.InBatch {
		logits = query.MatMulNT(key)
	} else {
		logits = query.Mul(key).Sum(1)
	}
	if extra != nil {
		var more *nn.Var
		switch e := extra.Shape(); {
		case len(e) == 2 && e[1] == d:
			more = query.MatMulNT(extra)
		case len(e) == 3 && e[0] == b && e[2] == d:
			more = query.Reshape(b, 1, d).MatMulNT(extra).Reshape(b, e[1])
		default:
			panic(fmt.Sprintf("tower: NCE: more keys of shape %v for queries of shape %v, want [E, %d] or [%d, E, %d]", e, s, d, b, d))
		}
		logits = nn.Concat(1, logits, more)
	}
	if logits.Shape()[1] < 2 {
		panic("tower: NCE: a query has no other keys; set InBatch with two queries or more, or give extra ones")
	}
	own := host(t, gpu.Int32, b)
	for i := range own.I32() {
		own.I32()[i] = 0
		if o.InBatch {
			own.I32()[i] = int32(i)
		}
	}
	return nn.CrossEntropy(logits.Mul(scale), own, 0).Mean()
}

// Clone is a copy of the pair with a network of its own: a frozen one to compare with, or one
// to train on. The pair must be all of its network.
func (m *CLIP) Clone(trainable bool) (*CLIP, *nn.Params) {
	v := m.LogScale.Value
	net := nn.NewParams(v.Device(), v.DType())
	c := NewCLIP(net.At(m.prefix), m.Config)
	net.Init(0)
	net.CopyFrom(m.params)
	net.Freeze(!trainable)
	return c, net
}

// Fingerprint is the SHA-256 of a network's parameters and buffers, see nn.Hash: an index or a
// checkpoint says by it whose vectors it holds.
func Fingerprint(net *nn.Params) (string, error) { return nn.Hash(net.State()) }

// ViTB32 is OpenAI's CLIP with patches of 32 pixels, 151.3 million values.
func ViTB32() CLIPConfig {
	return CLIPConfig{
		Vision: ViTConfig{Size: 224, Patch: 32, Width: 768, Depth: 12, Heads: 12, Act: QuickGELU},
		Text:   TextConfig{Vocab: 49408, MaxLen: 77, Width: 512, Depth: 12, Heads: 8, Act: QuickGELU, End: -1},
		Embed:  512,
	}
}

// TinyCLIP is a pair for pictures of 32×32 pixels and texts of up to 16 of 64 ids, those of
// package text; 0.62 million values, a space of 64.
func TinyCLIP() CLIPConfig {
	return CLIPConfig{
		Vision: ViTConfig{Size: 32, Patch: 4, Width: 96, Depth: 4, Heads: 4},
		Text:   TextConfig{Vocab: 64, MaxLen: 16, Width: 64, Depth: 3, Heads: 4, End: text.Eos},
		Embed:  64,
	}
}

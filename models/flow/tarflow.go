package flow

import (
	"fmt"
	"math"
	"strings"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/nn/tower"
)

// blockNames are those of the released weights.
var blockNames = tower.Names{
	Norm1: "attention.norm", AttnAt: "attention", Attn: nn.AttnNames{QKV: "qkv", Out: "proj"},
	Norm2: "mlp.norm", In: "mlp.main.0", MLP: "mlp.main.2",
}

// Rename is the name here of a tensor in a file of released weights: they are the same, but for
// the masks of attention, which are not needed ("").
func Rename(name string) string {
	if strings.HasSuffix(name, ".attn_mask") {
		return ""
	}
	return name
}

// Net is a TarFlow. Names of parameters are those of the released weights.
type Net struct {
	Config Config
	Blocks []*Block
	// Var is the variance of each element of the latent, [Tokens, Dim], by which Inverse scales
	// what it is given; 1 until someone sets it. Checkpoints have it as "var".
	Var    *gpu.Tensor
	params *nn.Params
}

// Block is an affine map of the patches of a picture, in their order or the reverse:
//
//	z_i = (x_i - b_i)·exp(-a_i), with a_i and b_i of x_0 to x_(i-1) by a causal transformer, a_0 = b_0 = 0
type Block struct {
	Config  Config
	Reverse bool
	In, Out *nn.Linear // proj_in, proj_out
	Places  *nn.Param  // pos_embed [Tokens, Width]
	Class   *nn.Param  // class_embed [Classes, 1, Width]; nil without classes
	Body    *tower.Stack
}

// New registers a flow in s. It panics where Check has an error.
func New(s nn.Scope, c Config) *Net {
	if err := c.Check(); err != nil {
		panic(err.Error())
	}
	m := &Net{Config: c, params: s.Params()}
	for i := range c.Blocks {
		at := s.At(fmt.Sprint("blocks.", i))
		b := &Block{Config: c, Reverse: i%2 == 1}
		b.In = nn.NewLinear(at.At("proj_in"), c.Dim(), c.Width)
		b.Places = at.Param("pos_embed", nn.Normal(0.01), c.Tokens(), c.Width)
		if c.Classes > 0 {
			b.Class = at.Param("class_embed", nn.Normal(0.01), c.Classes, 1, c.Width)
		}
		b.Body = tower.NewStack(at.At("attn_blocks"), c.Layers, c.block())
		out := 2 * c.Dim()
		if c.Additive {
			out = c.Dim()
		}
		b.Out = nn.NewLinear(at.At("proj_out"), c.Width, out).Zero()
		m.Blocks = append(m.Blocks, b)
	}
	m.Var = ones(s, c)
	return m
}

// Params is the network.
func (m *Net) Params() *nn.Params { return m.params }

// Forward is the latent of pictures x [B, C, H, W], [B, Tokens, Dim] in the patches' own order,
// and the logarithm of the map's determinant, [B], in nats. Classes is Int32 [B] on the CPU, the
// number of classes for none, which is the mean of all; nil for a flow without.
func (m *Net) Forward(x *nn.Var, classes *gpu.Tensor) (z, logdet *nn.Var) {
	c, s := &m.Config, x.Shape()
	if len(s) != 4 || s[1] != c.Channels || s[2] != c.PictureHeight || s[3] != c.PictureWidth {
		panic(fmt.Sprintf("flow: pictures of shape %v, want [B, %d, %d, %d]", s, c.Channels, c.PictureHeight, c.PictureWidth))
	}
	z = x.Patchify(c.Patch, nn.ChannelsFirst)
	for _, b := range m.Blocks {
		var d *nn.Var
		z, d = b.Forward(z, classes)
		switch {
		case d == nil:
		case logdet == nil:
			logdet = d
		default:
			logdet = logdet.Add(d)
		}
	}
	if logdet == nil { // shifts alone
		logdet = x.Tape().Const(0, s[0])
	}
	return z, logdet
}

// Loss is what the paper trains with: the negative logarithm of the density of noised pictures
// in nats an element, but for the constant log(2π)/2.
func (m *Net) Loss(x *nn.Var, classes *gpu.Tensor) *nn.Var {
	z, logdet := m.Forward(x, classes)
	n := float64(m.Config.Tokens() * m.Config.Dim())
	return z.Square().Mean().Scale(0.5).Sub(logdet.Mean().Scale(1 / n))
}

// NLL is the negative logarithm of the density of each picture, [B], in nats.
func (m *Net) NLL(x *nn.Var, classes *gpu.Tensor) *nn.Var {
	z, logdet := m.Forward(x, classes)
	s := z.Shape()
	n := s[1] * s[2]
	return z.Square().Sum(1, 2).Reshape(s[0]).Affine(0.5, float64(n)*math.Log(2*math.Pi)/2).Sub(logdet)
}

// BitsPerDim is the bits an element of a picture with a negative log-density of nll nats, of n
// elements of that many levels that lie evenly in [-1, 1].
func BitsPerDim(nll float64, n, levels int) float64 {
	return nll/(float64(n)*math.Ln2) + math.Log2(float64(levels)/2)
}

// order is tokens in the block's order, and back.
func (b *Block) order(x *nn.Var) *nn.Var {
	if b.Reverse {
		return x.Flip(1)
	}
	return x
}

// Forward is the block's map of tokens x [B, Tokens, Dim] and the logarithm of its determinant,
// [B], nil for an additive flow, where it is 0.
func (b *Block) Forward(x *nn.Var, classes *gpu.Tensor) (z, logdet *nn.Var) {
	x = b.order(x)
	a, shift := b.Coefficients(x, classes)
	if a == nil {
		return b.order(x.Sub(shift)), nil
	}
	z = x.Sub(shift).Mul(a.Neg().Exp())
	return b.order(z), a.Sum(1, 2).Reshape(x.Shape()[0]).Neg()
}

// Coefficients is a and b of all tokens x [B, Tokens, Dim], which are in the block's order; a is
// nil for an additive flow.
func (b *Block) Coefficients(x *nn.Var, classes *gpu.Tensor) (a, shift *nn.Var) {
	t, s, n := x.Tape(), x.Shape(), b.Config.Tokens()
	if len(s) != 3 || s[1] != n || s[2] != b.Config.Dim() {
		panic(fmt.Sprintf("flow: tokens of shape %v, want [B, %d, %d]", s, n, b.Config.Dim()))
	}
	h := b.embed(x, 0, classes)
	y := b.Out.Forward(b.Body.Forward(h, tower.Call{Mask: nn.AttnMask{Causal: true}}))
	y = nn.Concat(1, t.Const(0, s[0], 1, y.Shape()[2]), y.Slice(1, 0, n-1)) // of the tokens before
	return b.halves(y)
}

// Continue is a and b of the tokens after each of x [B, n, Dim], tokens in the block's order that
// follow those the cache has seen; a is nil for an additive flow. Cache.Truncate takes back tokens
// that were only tried. No gradient flows.
func (b *Block) Continue(c *tower.Cache, x *nn.Var, classes *gpu.Tensor) (a, shift *nn.Var) {
	if s, n := x.Shape(), b.Config.Tokens(); len(s) != 3 || s[2] != b.Config.Dim() || c.Seen()+s[1] > n {
		panic(fmt.Sprintf("flow: tokens of shape %v after %d, want [B, at most %d, %d]", s, c.Seen(), n-c.Seen(), b.Config.Dim()))
	}
	x.Tape().NoGrad(func() {
		a, shift = b.halves(b.Out.Forward(b.Body.Step(c, b.embed(x, c.Seen(), classes), nil)))
	})
	return a, shift
}

// NewCache makes a cache for Continue.
func (b *Block) NewCache(t *nn.Tape, batch int) *tower.Cache {
	return b.Body.NewCache(t.Device(), t.DType(), batch, b.Config.Tokens(), 0)
}

func (b *Block) halves(y *nn.Var) (a, shift *nn.Var) {
	if b.Config.Additive {
		return nil, y
	}
	d := b.Config.Dim()
	return y.Slice(2, 0, d), y.Slice(2, d, d)
}

// embed is what the transformer sees of tokens at places from first on in the block's order.
func (b *Block) embed(x *nn.Var, first int, classes *gpu.Tensor) *nn.Var {
	t, s := x.Tape(), x.Shape()
	if (b.Class == nil) != (classes == nil) || classes != nil && classes.Len() != s[0] {
		n := 0
		if classes != nil {
			n = classes.Len()
		}
		panic(fmt.Sprintf("flow: %d classes for tokens of shape %v; the flow has %d, whose number stands for none", n, s, b.Config.Classes))
	}
	places := t.Use(b.Places)
	if b.Reverse { // a patch keeps its place
		places = places.Flip(0)
	}
	h := b.In.Forward(x).Add(places.Slice(0, first, s[1]))
	if classes == nil {
		return h
	}
	table := t.Use(b.Class).Reshape(-1, b.Config.Width)
	return h.Add(nn.Concat(0, table, table.Mean(0)).Rows(classes).Reshape(s[0], 1, -1))
}

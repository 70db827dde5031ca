package unet

import (
	"fmt"

	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/ops"
)

// maxContexts is how many sequences a transformer can attend to.
const maxContexts = 4

// pass is what all blocks of one forward pass share.
type pass struct {
	emb      *nn.Var // SiLU of the embedding, [N, width]
	contexts [maxContexts]nn.Context
	mask     ops.Mask // P 0: no dropout
	out      []bool   // blocks that are left out, by id
}

// block is a layer with its parameters; one of them is set, or none where pixels are
// averaged or repeated.
type block struct {
	layer
	tap   string
	conv  *nn.Conv2D
	res   *resBlock
	attn  *attnBlock
	trans *transformer
}

func (c *Config) block(s nn.Scope, l layer) *block {
	b := &block{layer: l, tap: s.Name(l.name)}
	s = s.At(l.name)
	switch l.kind {
	case convIn:
		b.conv = conv(s, l.in, l.out, 3)
	case down:
		if !c.PoolResample {
			b.conv = conv(s.At("op"), l.in, l.out, 3)
			b.conv.Config.Stride = 2
			if c.PadEnd {
				b.conv.Config.Pad = [4]int{0, 1, 0, 1}
			}
		}
	case up:
		if !c.PoolResample {
			b.conv = conv(s.At("conv"), l.in, l.out, 3)
		}
	case attn:
		b.attn = c.attnBlock(s, l.in)
	case transform:
		b.trans = c.newTransformer(s, l)
	default:
		b.res = c.resBlock(s, l)
	}
	return b
}

// forward is the block's result. Where it is left out, a residual block is its skip path and
// attention the identity (Li et al. 2023, arXiv 2309.10438).
func (b *block) forward(p *pass, x *nn.Var) *nn.Var {
	out := b.id < len(p.out) && p.out[b.id]
	switch {
	case b.res != nil:
		x = b.res.forward(p, x, b.id, out)
	case b.attn != nil && !out:
		x = b.attn.forward(x)
	case b.trans != nil && !out:
		x = b.trans.forward(p, x)
	case b.kind == up:
		x = x.UpsampleLast(2)
		if b.conv != nil {
			x = b.conv.Forward(x)
		}
	case b.conv != nil:
		x = b.conv.Forward(x)
	case b.kind == down:
		x = x.AvgPoolLast(2)
	}
	return x.Tap(b.tap)
}

// resBlock is norm, SiLU, convolution, twice, beside a skip path.
type resBlock struct {
	norm1, norm2 *nn.GroupNorm
	conv1, conv2 *nn.Conv2D
	emb          *nn.Linear
	skip         *nn.Conv2D // nil: the identity
	kind         kind
	scaleShift   bool
	scale        float64
}

func (c *Config) norm(s nn.Scope, channels int) *nn.GroupNorm {
	m := nn.NewGroupNorm(s, c.groups(channels), channels)
	m.Eps, m.Last = c.eps(), true
	return m
}

// conv is a convolution of pictures whose channels are the last axis.
func conv(s nn.Scope, in, out, k int) *nn.Conv2D {
	l := nn.NewConv2D(s, in, out, k)
	l.Config.Last = true
	return l
}

// skips tells whether a residual block has a convolution on its skip path.
func (c *Config) skips(l *layer) bool { return l.in != l.out || c.ResampleSkip && l.kind != res }

func (c *Config) resBlock(s nn.Scope, l layer) *resBlock {
	wide := l.out
	if c.ScaleShift {
		wide *= 2
	}
	r := &resBlock{
		norm1: c.norm(s.At("in_layers.0"), l.in).Then(ops.SiLU), conv1: conv(s.At("in_layers.2"), l.in, l.out, 3),
		emb:   nn.NewLinear(s.At("emb_layers.1"), c.embed(), wide),
		norm2: c.norm(s.At("out_layers.0"), l.out).Then(ops.SiLU), conv2: conv(s.At("out_layers.3"), l.out, l.out, 3).Zero(),
		kind: l.kind, scaleShift: c.ScaleShift, scale: c.ResidualScale,
	}
	if c.skips(&l) {
		r.skip = conv(s.At("skip_connection"), l.in, l.out, 1)
	}
	return r
}

// resample halves or doubles x where the block does.
func (r *resBlock) resample(x *nn.Var) *nn.Var {
	switch r.kind {
	case resDown:
		return x.AvgPoolLast(2)
	case resUp:
		return x.UpsampleLast(2)
	}
	return x
}

func (r *resBlock) forward(p *pass, x *nn.Var, id int, out bool) *nn.Var {
	var h *nn.Var
	if !out {
		h = r.resample(r.norm1.Forward(x))
	}
	x = r.resample(x)
	if r.skip != nil {
		x = r.skip.Forward(x)
	}
	if out {
		return x
	}
	h = r.conv1.Forward(h)
	e := r.emb.Forward(p.emb)
	n, c := h.Shape()[0], h.Shape()[3]
	if r.scaleShift {
		h = r.norm2.Modulate(h, e.Slice(1, 0, c), e.Slice(1, c, c))
	} else {
		h = r.norm2.Forward(h.Add(e.Reshape(n, 1, 1, c)))
	}
	if p.mask.P > 0 {
		m := p.mask
		m.Stream += uint64(id)
		h = h.Dropout(m)
	}
	return scaled(x.Add(r.conv2.Forward(h)), r.scale)
}

func scaled(x *nn.Var, by float64) *nn.Var {
	if by == 0 || by == 1 {
		return x
	}
	return x.Scale(by)
}

// attnBlock is attention of all places of a picture to each other.
type attnBlock struct {
	norm  *nn.GroupNorm
	self  *nn.SelfAttention
	scale float64
}

func (c *Config) attnBlock(s nn.Scope, channels int) *attnBlock {
	a := &attnBlock{norm: c.norm(s.At("norm"), channels), self: nn.NewSelfAttention(s, channels, c.attnOptions(channels)), scale: c.ResidualScale}
	a.self.Out.Zero()
	return a
}

// tokens is pictures [N, H, W, C] as rows of places, [N, H·W, C].
func tokens(x *nn.Var) *nn.Var {
	s := x.Shape()
	return x.Reshape(s[0], s[1]*s[2], s[3])
}

func (a *attnBlock) forward(x *nn.Var) *nn.Var {
	h := a.self.Forward(tokens(a.norm.Forward(x)), nn.AttnMask{}, nil)
	return scaled(x.Add(h.Reshape(x.Shape()...)), a.scale)
}

// transformer is blocks of self-attention, cross-attention and an MLP over the places of a
// picture (Rombach et al. 2022, arXiv 2112.10752).
type transformer struct {
	norm    *nn.GroupNorm
	in, out *nn.Linear
	blocks  []*transBlock
	context int // how many
	scale   float64
}

type transBlock struct {
	norm1, norm2, norm3 *nn.Norm
	self                *nn.SelfAttention
	cross               *nn.CrossAttention
	mlp                 *nn.GatedMLP
}

func (c *Config) newTransformer(s nn.Scope, l layer) *transformer {
	axes := 2
	if c.LinearIn {
		axes = 0
	}
	ch := l.in
	t := &transformer{norm: c.norm(s.At("norm"), ch), context: len(c.Contexts), scale: c.ResidualScale}
	t.norm.Eps = 1e-6
	t.in = nn.NewPointLinear(s.At("proj_in"), ch, ch, axes, true)
	o := nn.AttnOptions{Heads: c.heads(ch), NoBias: true, Names: nn.SeparateNames}
	for i := range c.depth(l.level) {
		s := s.At(fmt.Sprintf("transformer_blocks.%d", i))
		b := &transBlock{self: nn.NewSelfAttention(s.At("attn1"), ch, o), mlp: nn.NewGEGLU(s.At("ff"), ch, 4*ch)}
		width := ch
		if t.context > 0 {
			width = c.Contexts[0].Width
		}
		b.cross = nn.NewCrossAttention(s.At("attn2"), ch, width, o)
		for _, x := range c.Contexts[min(1, t.context):] {
			b.cross.Add(s.At("attn2."+x.Name), x.Width)
		}
		b.norm1, b.norm2, b.norm3 = nn.NewLayerNorm(s.At("norm1"), ch), nn.NewLayerNorm(s.At("norm2"), ch), nn.NewLayerNorm(s.At("norm3"), ch)
		t.blocks = append(t.blocks, b)
	}
	t.out = nn.NewPointLinear(s.At("proj_out"), ch, ch, axes, true).Zero()
	return t
}

func (t *transformer) forward(p *pass, x *nn.Var) *nn.Var {
	h := t.in.Forward(tokens(t.norm.Forward(x)))
	for _, b := range t.blocks {
		h = h.Add(b.self.Forward(b.norm1.Forward(h), nn.AttnMask{}, nil))
		q := b.norm2.Forward(h)
		if t.context == 0 {
			h = h.Add(b.cross.Forward(q, nn.Context{States: q}))
		} else {
			h = h.Add(b.cross.Forward(q, p.contexts[:t.context]...))
		}
		h = h.Add(b.mlp.Forward(b.norm3.Forward(h)))
	}
	return scaled(x.Add(t.out.Forward(h).Reshape(x.Shape()...)), t.scale)
}

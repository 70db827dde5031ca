package dit

import (
	"fmt"
	"slices"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/rng"
)

// Block is one block of a network. Its parts are nil where its kind or its Config have none.
type Block struct {
	Kind  BlockKind
	Attn  *nn.SelfAttention  // Dense
	Cross *nn.CrossAttention // Merge and Recover: few tokens attend to all, and all to few
	Conv  *nn.Conv2D         // ConvNeXt: of each channel alone
	Value *nn.Linear         // Pool: what is averaged
	Proj  *nn.Linear         // Pool: the way back
	Text  *nn.CrossAttention // attention to other sequences
	Mod   *nn.Linear         // from the condition to shifts, scales and gates
	Skip  *nn.Linear         // from the tokens and those of an earlier block
	Up    *nn.Linear         // Recover: of the few tokens, repeated
	Keep  *nn.Linear         // Recover: of the tokens before Merge

	norm1, norm2 *norm
	mlp          branch
	c            *Config
	tap          struct{ out, attn, mlp string }
}

// BlockInput is what a block is told besides its tokens.
type BlockInput struct {
	Cond   *nn.Var     // SiLU of the condition, [B, Dim]; nil without modulation
	Time   *nn.Var     // [B, 1] in [-1, 1], for TimeRMS
	Angles *gpu.Tensor // of the tokens' places, [N, width of a head / 2]; nil without rotation
	Mask   nn.AttnMask // of the tokens
	Skip   *nn.Var     // tokens of an earlier block
	Dense  *nn.Var     // Merge and Recover: the tokens before they were merged
	Repeat *gpu.Tensor // Recover: Int32 [B·N], which of all samples' few tokens stands at each place
	Width  int         // ConvNeXt: of the tokens' grid
}

// NewBlock registers a block of c in s; skip says that it gets what an earlier one gave.
func NewBlock(s nn.Scope, c *Config, kind BlockKind, skip bool) *Block {
	b := &Block{Kind: kind, c: c}
	if kind != ConvNeXt || c.Modulation != NoModulation {
		b.norm1 = newNorm(s.At("norm1"), c)
	}
	attn, d := s.At("attn"), c.Dim
	switch kind {
	case ConvNeXt:
		b.Conv = nn.NewGroupConv2D(s.At("dwconv"), d, d, 7, d)
	case Dense:
		b.Attn = nn.NewSelfAttention(attn, d, nn.AttnOptions{Heads: c.Heads, NoBias: c.NoQKVBias, QKNorm: c.QKNorm})
	case Pool:
		if c.NoQKVBias {
			b.Value = nn.NewLinearNoBias(attn.At("v"), d, d)
		} else {
			b.Value = nn.NewLinear(attn.At("v"), d, d)
		}
		b.Proj = nn.NewLinear(attn.At("proj"), d, d)
	case Merge, Recover:
		b.Cross = nn.NewCrossAttention(attn, d, d, nn.AttnOptions{
			Heads: c.Heads, NoBias: c.NoQKVBias, QKNorm: c.QKNorm,
			Names: nn.AttnNames{Q: "q", K: "k", V: "v", Out: "proj", NormQ: "q_norm", NormK: "k_norm"},
		})
	default:
		panic(fmt.Sprintf("dit: NewBlock: kind %d", kind))
	}
	b.norm2 = newNorm(s.At("norm2"), c)
	b.mlp = newMLP(s.At("mlp"), c)
	if n := c.Modulation.parts(); n > 0 {
		b.Mod = nn.NewLinear(s.At("adaLN_modulation.1"), d, n*d)
	}
	if skip {
		b.Skip = nn.NewLinear(s.At("skip_linear"), 2*d, d)
	}
	if kind == Recover {
		b.Up, b.Keep = nn.NewLinear(s.At("merged_layer1"), d, d), nn.NewLinear(s.At("merged_layer2"), d, d)
	}
	if c.TokenUse == CrossTokens && len(c.Tokens) > 0 {
		for i, name := range sorted(c.Tokens) {
			if i == 0 {
				b.Text = nn.NewCrossAttention(s.At("cross_attn"), d, c.Tokens[name], nn.AttnOptions{Heads: c.Heads})
			} else {
				b.Text.Add(s.At("cross_attn_"+name), c.Tokens[name])
			}
		}
	}
	b.tap.out, b.tap.attn, b.tap.mlp = s.Name(""), s.Name("attn"), s.Name("mlp")
	return b
}

// start sets how the parts begin that are not as all linear layers.
func (b *Block) start() {
	if b.Mod != nil {
		b.Mod.Zero()
	}
	if b.Text != nil {
		b.Text.Out.Zero()
	}
	if b.Up != nil {
		b.Up.Zero()
		b.Keep.W.Start = identity
	}
}

func identity(_ *rng.Stream, shape []int, v []float32) {
	for i := range shape[0] {
		v[i*shape[1]+i] = 1
	}
}

// Forward is the block's result for tokens x [B, N, Dim]: as many, but [B, few, Dim] for the
// few of Merge, whose x they already are, and those of in.Dense for Recover. contexts are
// what Text attends to.
func (b *Block) Forward(x *nn.Var, in BlockInput, contexts ...nn.Context) *nn.Var {
	s := x.Shape()
	d := b.c.Dim
	if len(s) != 3 || s[2] != d {
		panic(fmt.Sprintf("dit: Block: tokens of shape %v, want [B, N, %d]", s, d))
	}
	if b.Skip != nil {
		if in.Skip == nil || !slices.Equal(in.Skip.Shape(), s) {
			panic("dit: Block: Skip is missing, or of another shape than the tokens, in a block with a long skip")
		}
		x = b.Skip.Forward(nn.Concat(2, x, in.Skip))
	}
	var m modulation
	if b.Mod != nil {
		m = split(b.Mod.Forward(in.Cond), b.c.Modulation, d)
	}
	x, y := b.first(x, in, m.rows[0])
	x = gated(x, y.Tap(b.tap.attn), m.gate(0))
	if b.Text != nil {
		x = x.Add(b.Text.Forward(x, contexts...))
	}
	y = b.mlp.Forward(b.norm2.forward(x, m.rows[1].scale, m.rows[1].shift, in.Time))
	return gated(x, y.Tap(b.tap.mlp), m.gate(1)).Tap(b.tap.out)
}

// first is what the first branch is added to, and what it gives.
func (b *Block) first(x *nn.Var, in BlockInput, m row) (to, y *nn.Var) {
	normed := func(x *nn.Var) *nn.Var { return b.norm1.forward(x, m.scale, m.shift, in.Time) }
	switch b.Kind {
	case Pool: // all weights are equal: one mean serves all tokens, and the mean of values is the value of the mean
		return x, b.Proj.Forward(b.Value.Forward(normed(x).Mean(1)))
	case ConvNeXt:
		s := x.Shape()
		if in.Width < 1 || s[1]%in.Width != 0 {
			panic(fmt.Sprintf("dit: Block: tokens of shape %v as a grid of width %d, want one that they fill", s, in.Width))
		}
		h := x
		if b.norm1 != nil {
			h = normed(x)
		}
		h = h.Permute(0, 2, 1).Reshape(s[0], s[2], s[1]/in.Width, in.Width)
		return x, b.Conv.Forward(h).Reshape(s[0], s[2], s[1]).Permute(0, 2, 1)
	case Merge:
		return x, b.Cross.Forward(normed(x), nn.Context{States: normed(in.Dense)})
	case Recover:
		s := in.Dense.Shape()
		// The layer of the few comes before they are repeated, which is the same for less.
		up := b.Up.Forward(x).Reshape(-1, s[2]).Rows(in.Repeat).Reshape(s[0], s[1], s[2])
		to = up.Add(b.Keep.Forward(in.Dense))
		return to, b.Cross.Forward(normed(to), nn.Context{States: normed(x)})
	}
	return x, b.Attn.Forward(normed(x), in.Mask, in.Angles)
}

// row is the modulation of one branch, [B, Dim] each, nil where there is none.
type row struct{ shift, scale, gate *nn.Var }

type modulation struct{ rows [2]row }

// split cuts the rows out of a linear layer's result.
func split(y *nn.Var, kind Modulation, d int) (m modulation) {
	at := 0
	next := func() *nn.Var {
		at += d
		return y.Slice(1, at-d, d)
	}
	for i := range m.rows {
		if kind == AdaLNZero {
			m.rows[i].shift = next()
		}
		m.rows[i].scale, m.rows[i].gate = next(), next()
	}
	return m
}

// gate is the gate of a branch as it is multiplied with tokens, [B, 1, Dim].
func (m *modulation) gate(i int) *nn.Var {
	g := m.rows[i].gate
	if g == nil {
		return nil
	}
	s := g.Shape()
	return g.Reshape(s[0], 1, s[1])
}

// gated is x + y·gate; without a gate x + y.
func gated(x, y, gate *nn.Var) *nn.Var {
	if gate == nil {
		return x.Add(y)
	}
	return x.AddMul(y, gate)
}

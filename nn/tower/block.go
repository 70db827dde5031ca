package tower

import (
	"fmt"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/ops"
)

// Act is what a block's MLP does between its layers.
type Act int

const (
	GELU      Act = iota // x·Φ(x)
	GELUTanh             // its approximation by tanh
	QuickGELU            // x·σ(1.702·x), as OpenAI's CLIP has it
	SwiGLU               // SiLU of one half times the other (Shazeer 2020, arXiv 2002.05202)
)

// BlockConfig describes a transformer block; zeros stand for the defaults.
type BlockConfig struct {
	Width   int
	Heads   int
	KVHeads int // 0: Heads
	Hidden  int // of the MLP, of SwiGLU each half; 0: 4·Width, of SwiGLU 8/3·Width, up to a multiple of 8
	Act     Act
	RMS     bool // RMSNorm, else LayerNorm
	Post    bool // norms after the sums, as in the first transformer, else before the layers
	Eps     float64
	QKNorm  nn.QKNorm
	Halves  bool // rotary pairs are j and j + D/2, else neighbours
	NoBias  bool // of all linear layers but that of Ada
	Cross   int  // > 0: width of the states that a cross-attention layer attends to
	Ada     int  // > 0: width of the vector that norms and gates are made of (adaLN-Zero)
	Names   Names
}

// Names are what the parts of a block are called in a checkpoint.
type Names struct {
	Attn                 nn.AttnNames
	Norm1, AttnAt        string
	NormCross, CrossAt   string
	Cross                nn.AttnNames
	Norm2                string
	In, Gate, Value, MLP string // first layer, of SwiGLU the two; last layer
	Ada                  string
}

var (
	// GPTNames are those of GPT-2; its weights are [in, out] in files, these are [out, in].
	GPTNames = Names{
		Norm1: "ln_1", AttnAt: "attn", Attn: nn.AttnNames{QKV: "c_attn", Out: "c_proj", NormQ: "q_norm", NormK: "k_norm"},
		NormCross: "ln_cross_attn", CrossAt: "crossattention", Cross: nn.AttnNames{Q: "q_attn", K: "k_attn", V: "v_attn", Out: "c_proj", NormQ: "q_norm", NormK: "k_norm"},
		Norm2: "ln_2", In: "mlp.c_fc", Gate: "mlp.gate_proj", Value: "mlp.up_proj", MLP: "mlp.c_proj", Ada: "ada",
	}
	// CLIPNames are those of Hugging Face's CLIPModel.
	CLIPNames = Names{
		Norm1: "layer_norm1", AttnAt: "self_attn", Attn: nn.AttnNames{Q: "q_proj", K: "k_proj", V: "v_proj", Out: "out_proj", NormQ: "q_norm", NormK: "k_norm"},
		NormCross: "layer_norm_cross", CrossAt: "cross_attn", Cross: nn.AttnNames{Q: "q_proj", K: "k_proj", V: "v_proj", Out: "out_proj", NormQ: "q_norm", NormK: "k_norm"},
		Norm2: "layer_norm2", In: "mlp.fc1", Gate: "mlp.gate_proj", Value: "mlp.up_proj", MLP: "mlp.fc2", Ada: "ada",
	}
)

// Check says what is wrong with a configuration.
func (c BlockConfig) Check() error {
	switch {
	case c.Width < 1:
		return fmt.Errorf("tower: Width is %d, want at least 1", c.Width)
	case c.Heads < 1 || c.Width%c.Heads != 0:
		return fmt.Errorf("tower: Heads is %d for Width %d, want a divisor", c.Heads, c.Width)
	case c.Width/c.Heads > 256:
		return fmt.Errorf("tower: Width %d in %d Heads makes heads of %d, want at most 256", c.Width, c.Heads, c.Width/c.Heads)
	case c.KVHeads < 0 || c.KVHeads > 0 && c.Heads%c.KVHeads != 0:
		return fmt.Errorf("tower: KVHeads is %d for %d Heads, want a divisor", c.KVHeads, c.Heads)
	case c.Hidden < 0:
		return fmt.Errorf("tower: Hidden is %d, want 0 for the default, or more", c.Hidden)
	case c.Act < GELU || c.Act > SwiGLU:
		return fmt.Errorf("tower: Act %d is none", c.Act)
	case !(c.Eps >= 0):
		return fmt.Errorf("tower: Eps is %g, want 0 for the default, or more", c.Eps)
	case c.QKNorm < nn.QKNone || c.QKNorm > nn.QKRMSWide:
		return fmt.Errorf("tower: QKNorm %d is none", c.QKNorm)
	case c.Cross < 0:
		return fmt.Errorf("tower: Cross is %d, want 0 for no cross-attention, or the states' width", c.Cross)
	case c.Ada < 0:
		return fmt.Errorf("tower: Ada is %d, want 0 for plain norms, or the vector's width", c.Ada)
	case c.Ada > 0 && c.Post:
		return fmt.Errorf("tower: Ada with Post: a vector modulates norms that come before the layers only")
	}
	return nil
}

func (c *BlockConfig) hidden() int {
	switch {
	case c.Hidden > 0:
		return c.Hidden
	case c.Act == SwiGLU:
		return (c.Width*8/3 + 7) / 8 * 8
	}
	return 4 * c.Width
}

// NewNorm registers a norm of the block's kind in s; plain has no weights.
func (c *BlockConfig) newNorm(s nn.Scope, plain bool) *nn.Norm {
	var m *nn.Norm
	switch {
	case plain && c.RMS:
		m = &nn.Norm{RMS: true, Eps: 1e-6}
	case plain:
		m = &nn.Norm{Eps: 1e-6}
	case c.RMS:
		m = nn.NewRMSNorm(s, c.Width)
	default:
		m = nn.NewLayerNorm(s, c.Width)
	}
	if c.Eps > 0 {
		m.Eps = c.Eps
	}
	return m
}

func (c *BlockConfig) linear(s nn.Scope, in, out int) *nn.Linear {
	if c.NoBias {
		return nn.NewLinearNoBias(s, in, out)
	}
	return nn.NewLinear(s, in, out)
}

// Block is self-attention, perhaps cross-attention, and an MLP, each added to what it is of
// (Vaswani et al. 2017, arXiv 1706.03762).
type Block struct {
	Config              BlockConfig
	Norm1, NormX, Norm2 *nn.Norm
	Attn                *nn.SelfAttention
	Cross               *nn.CrossAttention // nil where there is none
	In, Value, Out      *nn.Linear         // of the MLP; In is SwiGLU's gate, and Value nil elsewhere
	Ada                 *nn.Linear         // shift, scale and gate of attention, then of the MLP; nil where there is none
}

// NewBlock registers a block in s. It panics where Check has an error.
func NewBlock(s nn.Scope, c BlockConfig) *Block {
	if err := c.Check(); err != nil {
		panic(err.Error())
	}
	n := c.Names
	if n == (Names{}) {
		n = GPTNames
	}
	b := &Block{Config: c}
	o := nn.AttnOptions{Heads: c.Heads, KVHeads: c.KVHeads, NoBias: c.NoBias, NoOutBias: c.NoBias, QKNorm: c.QKNorm, Halves: c.Halves, Names: n.Attn}
	b.Norm1 = c.newNorm(s.At(n.Norm1), c.Ada > 0)
	b.Attn = nn.NewSelfAttention(s.At(n.AttnAt), c.Width, o)
	if c.Cross > 0 {
		o.Names = n.Cross
		b.NormX = c.newNorm(s.At(n.NormCross), false)
		b.Cross = nn.NewCrossAttention(s.At(n.CrossAt), c.Width, c.Cross, o)
	}
	b.Norm2 = c.newNorm(s.At(n.Norm2), c.Ada > 0)
	if c.Act == SwiGLU {
		b.In, b.Value = c.linear(s.At(n.Gate), c.Width, c.hidden()), c.linear(s.At(n.Value), c.Width, c.hidden())
	} else {
		b.In = c.linear(s.At(n.In), c.Width, c.hidden())
	}
	switch c.Act {
	case GELU:
		b.In.Then(ops.GELU)
	case GELUTanh:
		b.In.Then(ops.GELUTanh)
	case SwiGLU:
		b.In.Then(ops.SiLU)
	}
	b.Out = c.linear(s.At(n.MLP), c.hidden(), c.Width)
	if c.Ada > 0 {
		b.Ada = nn.NewLinear(s.At(n.Ada), c.Ada, 6*c.Width).Zero()
	}
	return b
}

// Call is what a block is given besides the tokens; the zero value is nothing.
type Call struct {
	Cond    *nn.Var     // [B, Ada]
	Context nn.Context  // states of width Cross; nil ones leave cross-attention out
	Mask    nn.AttnMask // of self-attention
	Angles  *gpu.Tensor // [L, Width/Heads/2]: queries and keys are turned by them; nil: they are not
	Drop    ops.Mask    // P > 0: dropout of what the layers add; two streams a block are used from Stream on
}

// Forward is the block's result for tokens x [B, L, Width].
func (b *Block) Forward(x *nn.Var, in *Call) *nn.Var {
	return b.run(x, in, func(h *nn.Var) *nn.Var { return b.Attn.Forward(h, in.Mask, in.Angles) },
		func(h *nn.Var) *nn.Var { return b.Cross.Forward(h, in.Context) }, in.Context.States != nil)
}

// Step is Forward for the tokens after those that the cache holds, with layer's keys and
// values, to which it adds those of x [B, n, Width].
func (b *Block) Step(x *nn.Var, in *Call, c *Cache, layer int) *nn.Var {
	l := &c.layers[layer]
	return b.run(x, in, func(h *nn.Var) *nn.Var {
		q, k, v := b.Attn.Project(h, in.Angles)
		return b.Attn.Merge(c.attend(l, q, k, v))
	}, func(h *nn.Var) *nn.Var {
		t := h.Tape()
		return b.Cross.ForwardKV(h, t.Input(l.crossK), t.Input(l.crossV), c.crossLens)
	}, l.crossK != nil)
}

func (b *Block) run(x *nn.Var, in *Call, attend, cross func(h *nn.Var) *nn.Var, crosses bool) *nn.Var {
	if b.Cross == nil && crosses {
		panic("tower: Block: states to attend to for a block without cross-attention; set Cross")
	}
	var mod [6]*nn.Var
	if b.Ada != nil {
		mod = b.modulation(x, in.Cond)
	} else if in.Cond != nil {
		panic("tower: Block: a vector for a block without Ada")
	}
	drop := in.Drop
	add := func(x, y, gate *nn.Var) *nn.Var {
		if drop.P > 0 {
			y = y.Dropout(drop)
			drop.Stream++
		}
		if gate != nil {
			return x.AddMul(y, gate)
		}
		return x.Add(y)
	}
	if b.Config.Post {
		x = b.Norm1.Forward(add(x, attend(x), nil))
		if crosses {
			x = b.NormX.Forward(x.Add(cross(x)))
		}
		return b.Norm2.Forward(add(x, b.mlp(x), nil))
	}
	x = add(x, attend(b.Norm1.Modulate(x, mod[1], mod[0])), mod[2])
	if crosses {
		x = x.Add(cross(b.NormX.Forward(x)))
	}
	return add(x, b.mlp(b.Norm2.Modulate(x, mod[4], mod[3])), mod[5])
}

// modulation is shift, scale and gate of attention and of the MLP.
func (b *Block) modulation(x, cond *nn.Var) (mod [6]*nn.Var) {
	n, w := x.Shape()[0], b.Config.Width
	if cond == nil || len(cond.Shape()) != 2 || cond.Shape()[0] != n || cond.Shape()[1] != b.Config.Ada {
		have := []int(nil)
		if cond != nil {
			have = cond.Shape()
		}
		panic(fmt.Sprintf("tower: Block: a vector of shape %v for tokens %v, want [%d, %d]", have, x.Shape(), n, b.Config.Ada))
	}
	y := b.Ada.Forward(cond.SiLU())
	for i := range mod {
		mod[i] = y.Slice(1, i*w, w)
		if i%3 == 2 {
			mod[i] = mod[i].Reshape(n, 1, w)
		}
	}
	return mod
}

func (b *Block) mlp(x *nn.Var) *nn.Var {
	h := b.In.Forward(x)
	switch b.Config.Act {
	case SwiGLU:
		h = h.Mul(b.Value.Forward(x))
	case QuickGELU: // x·σ(a·x) is SiLU(a·x)/a
		h = h.Scale(1.702).SiLU().Scale(1 / 1.702)
	}
	return b.Out.Forward(h)
}

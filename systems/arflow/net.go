package arflow

import (
	"fmt"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/models"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/ops"
)

// Net predicts the velocity from noise to data of pictures that follow others, at times from 0, noise, to 1, data. It predicts 0 before it
// is trained. Its parameters have the names of the published checkpoints.
type Net struct {
	c      Config
	params *nn.Params
	patch  *nn.PatchEmbed
	place  *gpu.Tensor // [1, L, Dim]
	time   *nn.TimeEmbed
	class  *nn.LabelEmbed // nil without classes
	blocks []block
	norm   *nn.Norm
	mod    *nn.Linear
	last   *nn.Linear
}

// block is a block of the transformer: hybrid attention, whose result a second linear layer of the tokens gates, and an MLP, each after a
// norm that the condition scales and shifts.
type block struct {
	norm             *nn.Norm // both
	mod              *nn.Linear
	q, k, v, u, gate *nn.Linear // u is the gate of the result, gate those of the past
	out              *nn.Linear
	rms              *nn.Norm
	fc1, fc2         *nn.Linear
}

// New registers the network in s. It panics where Check has an error.
func New(s nn.Scope, c Config) *Net {
	if err := c.Check(); err != nil {
		panic(err.Error())
	}
	if c.TimeFactor == 0 {
		c.TimeFactor = 1
	}
	n := &Net{c: c, params: s.Params(), norm: &nn.Norm{Eps: 1e-6}}
	n.patch = nn.NewPatchEmbed(s.At("x_embedder.proj"), c.Channels, c.Dim, c.Patch)
	n.place = nn.SinCos2D(n.params.Device(), n.params.DType(), c.Height/c.Patch, c.Width/c.Patch, c.Dim, 1).View(1, c.tokens(), c.Dim)
	s.Buffer("pos_embed", n.place)
	n.time = nn.NewTimeEmbed(s.At("t_embedder"), c.Dim, nn.TimeOptions{Waves: ops.WaveConfig{Width: 256, CosFirst: true, Scale: c.TimeFactor}})
	if c.Classes > 0 {
		n.class = nn.NewLabelEmbed(s.At("y_embedder"), c.Classes, c.Dim)
	}
	linear := func(s nn.Scope, in, out int) *nn.Linear {
		l := nn.NewLinear(s, in, out)
		l.W.Start, l.B.Start = nn.Xavier, nn.Zeros
		return l
	}
	n.time.First.W.Start, n.time.First.B.Start = nn.Normal(0.02), nn.Zeros
	n.time.Second.W.Start, n.time.Second.B.Start = nn.Normal(0.02), nn.Zeros
	for i := range c.Depth {
		b, a := s.At(fmt.Sprint("blocks.", i)), s.At(fmt.Sprintf("blocks.%d.attn", i))
		plain := func(name string, out int) *nn.Linear {
			l := nn.NewLinearNoBias(a.At(name), c.Dim, out)
			l.W.Start = nn.Xavier
			return l
		}
		n.blocks = append(n.blocks, block{
			norm: n.norm, rms: &nn.Norm{RMS: true, Eps: 1e-6},
			q: plain("q_proj", c.Dim), k: plain("k_proj", c.Dim), v: plain("v_proj", c.Dim), u: plain("g_proj", c.Dim).Then(ops.SiLU),
			gate: plain("gt_proj", c.Heads), out: plain("out_proj", c.Dim),
			fc1: linear(b.At("mlp.fc1"), c.Dim, 4*c.Dim).Then(ops.GELUTanh), fc2: linear(b.At("mlp.fc2"), 4*c.Dim, c.Dim),
			mod: linear(b.At("adaLN_modulation.1"), c.Dim, 6*c.Dim).Zero(),
		})
	}
	n.last = linear(s.At("final_layer.linear"), c.Dim, c.Patch*c.Patch*c.out()).Zero()
	n.mod = linear(s.At("final_layer.adaLN_modulation.1"), c.Dim, 2*c.Dim).Zero()
	return n
}

// Params implements models.Net.
func (n *Net) Params() *nn.Params { return n.params }

// Config is what the network was made of.
func (n *Net) Config() Config { return n.c }

// Takes implements models.Net.
func (n *Net) Takes() models.Takes {
	c := &n.c
	return models.Takes{Channels: c.Channels, Out: c.Channels, Height: c.Height, Width: c.Width, Classes: c.Classes}
}

// State implements models.Stateful: a matrix of each head of each block.
func (n *Net) State() [][]int {
	out := make([][]int, n.c.Depth)
	for i := range out {
		out[i] = []int{n.c.Heads, n.c.Dim / n.c.Heads, n.c.Dim / n.c.Heads}
	}
	return out
}

// Forward implements models.Net: pictures that follow none.
func (n *Net) Forward(x, time *nn.Var, in models.Inputs) *nn.Var {
	y, _ := n.sequence(x, time, in, 1, nil, false)
	return y
}

// Step implements models.Stateful.
func (n *Net) Step(x, time *nn.Var, in models.Inputs, past []*nn.Var) (*nn.Var, []*nn.Var) {
	return n.sequence(x, time, in, 1, past, true)
}

// Sequence is the velocities of sequences of so many pictures: x [B·length, C, H, W] is those of the first sequence in their order, then
// those of the second. time and classes are of each picture. A picture sees those of its sequence that come before it.
func (n *Net) Sequence(x, time *nn.Var, in models.Inputs, length int) *nn.Var {
	y, _ := n.sequence(x, time, in, length, nil, false)
	return y
}

func (n *Net) sequence(x, time *nn.Var, in models.Inputs, length int, past []*nn.Var, keep bool) (*nn.Var, []*nn.Var) {
	c := &n.c
	if err := n.Takes().Check(x.Shape(), in); err != nil {
		panic("arflow: " + err.Error())
	}
	count := x.Shape()[0]
	if length < 1 || count%length != 0 {
		panic(fmt.Sprintf("arflow: %d pictures in sequences of %d; want whole sequences of 1 or more", count, length))
	}
	if past != nil && len(past) != c.Depth {
		panic(fmt.Sprintf("arflow: the past of %d blocks; want that of %d", len(past), c.Depth))
	}
	t := x.Tape()
	cond := n.time.Forward(time)
	if n.class != nil {
		cond = cond.Add(n.class.Forward(t, in.Classes, nil))
	}
	active := cond.SiLU()
	h := n.patch.Forward(x).Add(t.Input(n.place))
	var next []*nn.Var
	for i := range n.blocks {
		var before, after *nn.Var
		if past != nil {
			before = past[i]
		}
		h, after = n.blocks[i].forward(h, cond, active, length, c, before, keep)
		if keep {
			next = append(next, after)
		}
	}
	m := n.mod.Forward(active)
	y := n.last.Forward(n.norm.Modulate(h, m.Slice(1, c.Dim, c.Dim), m.Slice(1, 0, c.Dim)))
	y = y.Unpatchify(c.Patch, c.Height, c.Width, nn.ChannelsLast)
	if c.LearnSigma {
		y = y.Slice(1, 0, c.Channels)
	}
	return y, next
}

// gateSpread is what logarithms of gates are divided by.
const gateSpread = 16

// forward is the block's result for the tokens h [B·length, L, Dim] of pictures, whose conditions are [B·length, Dim], and what it keeps of
// them.
func (b *block) forward(h, cond, active *nn.Var, length int, c *Config, past *nn.Var, keep bool) (_, next *nn.Var) {
	count, l, d := h.Shape()[0], h.Shape()[1], c.Dim
	m := b.mod.Forward(active)
	row := func(i int) *nn.Var { return m.Slice(1, i*d, d) } // shift, scale and gate of each branch
	x := b.norm.Modulate(h, row(1), row(0))
	heads := func(y *nn.Var) *nn.Var {
		return b.rms.Forward(y).Reshape(count/length, length*l, c.Heads, d/c.Heads)
	}
	p := Past{Gate: c.Gate, Chunk: l / c.parts(), State: past, Keep: keep}
	if c.Gate != NoGate && (keep || past != nil || length*c.parts() > 1) {
		// log σ(z) = -softplus(-z)
		z := b.gate.Forward(x.Add(cond.Reshape(count, 1, d)))
		p.Gates = z.Neg().Softplus().Scale(-1.0/gateSpread).Reshape(count/length, length*l, c.Heads)
	} else {
		p.Gate = NoGate // there is no past
	}
	o, next := Hybrid(heads(b.q.Forward(x)), heads(b.k.Forward(x)), heads(b.v.Forward(x)), p)
	o = b.rms.Forward(o).Reshape(count, l, d)
	h = h.AddMul(b.out.Forward(b.u.Forward(x).Mul(o)), row(2).Reshape(count, 1, d))
	x = b.norm.Modulate(h, row(4), row(3))
	return h.AddMul(b.fc2.Forward(b.fc1.Forward(x)), row(5).Reshape(count, 1, d)), next
}

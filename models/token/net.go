package token

import (
	"fmt"
	"math"
	"sync"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/nn/tower"
	"github.com/fidlab/fidlab/ops"
)

// Net is a transformer over tokens. Names of parameters are those of GPT-2.
type Net struct {
	Config Config
	Tokens *nn.Embedding // wte; nil for vectors
	Place  *nn.Param     // wpe [MaxLen, Width]; nil unless learned
	Class  *nn.Embedding // class [Classes+1, Width]
	Front  *nn.Linear    // front, from the states in front to Width
	Null   *nn.Param     // null [1, Width], what stands for a missing state in front
	Body   *tower.Stack  // h
	Norm   *nn.Norm      // ln_f; nil with Post
	Head   *nn.Linear    // lm_head, or the embedding's rows; nil without logits

	mu     sync.Mutex
	places map[span]*gpu.Tensor // of SinCos [n, Width], of Rotary [n, D/2]
}

// span is a run of places, in one dtype.
type span struct {
	dt       gpu.DType
	first, n int
}

// Inputs is what a network may be told besides tokens; the zero value is nothing.
type Inputs struct {
	Classes *gpu.Tensor // Int32 [B] on the CPU; the number of classes stands for none
	Front   nn.Context  // states in front, [B, L, Config.Front]; those beyond the lengths are replaced by a learned row
	Context nn.Context  // states to attend to, [B, L, Config.Cross]
	Cond    *nn.Var     // [B, Config.Ada]
	Lens    *gpu.Tensor // Int32 [B], of a network that is not causal: tokens from Lens[b] on are padding, what is in front included
	Mask    *nn.Pairs   // besides Causal, over what is in front and the tokens
	Drop    ops.Mask    // dropout where P > 0; streams from Stream to Stream + 2·Depth are used
}

// New registers a network in s. It panics where Check has an error.
func New(s nn.Scope, c Config) *Net {
	if err := c.Check(); err != nil {
		panic(err.Error())
	}
	m := &Net{Config: c, places: map[span]*gpu.Tensor{}}
	if c.Vocab > 0 {
		m.Tokens = nn.NewEmbedding(s.At("wte"), c.Vocab, c.Width)
	}
	if c.Places == Learned {
		m.Place = s.At("wpe").Param("weight", nn.Normal(0.02), c.MaxLen, c.Width)
	}
	if c.Classes > 0 {
		m.Class = nn.NewEmbedding(s.At("class"), c.Classes+1, c.Width)
	}
	if c.Front > 0 {
		m.Front = nn.NewLinear(s.At("front"), c.Front, c.Width)
		m.Null = s.Param("null", nn.Normal(0.02), 1, c.Width)
	}
	m.Body = tower.NewStack(s.At("h"), c.Depth, c.block())
	m.start()
	if !c.Post {
		m.Norm = m.newNorm(s.At("ln_f"))
	}
	switch {
	case c.out() == 0:
	case c.Tied:
		m.Head = &nn.Linear{W: m.Tokens.W}
	default:
		m.Head = nn.NewLinearNoBias(s.At("lm_head"), c.Width, c.out())
		m.Head.W.Start = nn.Normal(0.02)
	}
	return m
}

// start makes the blocks start as GPT-2 does: normals of standard deviation 0.02, and 0.02/√(2·Depth)
// where a layer adds to the sum.
func (m *Net) start() {
	narrow := nn.Normal(0.02 / math.Sqrt(2*float64(m.Config.Depth)))
	for _, b := range m.Body.Blocks {
		wide := []*nn.Linear{b.Attn.QKV, b.In, b.Value}
		sums := []*nn.Linear{b.Attn.Out, b.Out}
		if b.Cross != nil {
			wide = append(wide, b.Cross.Q, b.Cross.Contexts[0].K, b.Cross.Contexts[0].V)
			sums = append(sums, b.Cross.Out)
		}
		for i, l := range append(wide, sums...) {
			if l == nil {
				continue
			}
			l.W.Start = nn.Normal(0.02)
			if i >= len(wide) {
				l.W.Start = narrow
			}
			if l.B != nil {
				l.B.Start = nn.Zeros
			}
		}
	}
}

func (m *Net) newNorm(s nn.Scope) *nn.Norm {
	l := nn.NewLayerNorm
	if m.Config.RMS {
		l = nn.NewRMSNorm
	}
	n := l(s, m.Config.Width)
	if m.Config.Eps > 0 {
		n.Eps = m.Config.Eps
	}
	return n
}

// InFront is how many tokens stand in front for inputs in.
func (m *Net) InFront(in Inputs) int {
	n := 0
	if m.Class != nil {
		n++
	}
	if m.Front != nil && in.Front.States != nil {
		n += in.Front.States.Shape()[1]
	}
	return n
}

// Forward is the logits of ids [B, L], Int32 on the CPU, [B, L, Out], or the states [B, L, Width]
// of a network without logits. Of a causal network with tokens in front there are L+1: first
// those that the last token in front predicts.
func (m *Net) Forward(t *nn.Tape, ids *gpu.Tensor, in Inputs) *nn.Var {
	return m.ForwardStates(m.embed(t, ids), in)
}

func (m *Net) embed(t *nn.Tape, ids *gpu.Tensor) *nn.Var {
	if m.Tokens == nil {
		panic("token: ids for a network without Vocab; use ForwardStates")
	}
	if len(ids.Shape()) != 2 {
		panic(fmt.Sprintf("token: ids of shape %v, want [B, L]", ids.Shape()))
	}
	return m.Tokens.Forward(t, ids)
}

// ForwardStates is Forward of tokens that are vectors, x [B, L, Width].
func (m *Net) ForwardStates(x *nn.Var, in Inputs) *nn.Var {
	m.check(x, in)
	l := x.Shape()[1]
	front := m.front(x.Tape(), in)
	p := 0
	if front != nil {
		p = front.Shape()[1]
		x = nn.Concat(1, front, x)
	}
	x, angles := m.place(x, 0)
	mask := nn.AttnMask{Causal: m.Config.Causal, KeyLens: in.Lens, Pairs: in.Mask}
	x = m.Body.Forward(x, tower.Call{Cond: in.Cond, Context: in.Context, Mask: mask, Angles: angles, Drop: in.Drop})
	if p > 0 && m.Config.Causal {
		x = x.Slice(1, p-1, l+1)
	} else if p > 0 {
		x = x.Slice(1, p, l)
	}
	return m.finish(x)
}

func (m *Net) check(x *nn.Var, in Inputs) {
	c, s := &m.Config, x.Shape()
	switch {
	case len(s) != 3 || s[2] != c.Width:
		panic(fmt.Sprintf("token: vectors of shape %v, want [B, L, %d]", s, c.Width))
	case (m.Class == nil) != (in.Classes == nil):
		panic(fmt.Sprintf("token: classes given: %t, the network has %d; the number of classes stands for none", in.Classes != nil, c.Classes))
	case in.Classes != nil && in.Classes.Len() != s[0]:
		panic(fmt.Sprintf("token: %d classes for %d sequences", in.Classes.Len(), s[0]))
	case (m.Front == nil) != (in.Front.States == nil):
		panic(fmt.Sprintf("token: states in front given: %t, the network takes those of width %d", in.Front.States != nil, c.Front))
	case c.Cross == 0 && in.Context.States != nil:
		panic("token: states to attend to for a network without Cross")
	case in.Lens != nil && c.Causal:
		panic("token: lengths for a causal network, whose tokens do not see what is after them; leave labels of the padding out of the loss")
	}
}

// front is the tokens in front, [B, n, Width], nil where there are none.
func (m *Net) front(t *nn.Tape, in Inputs) *nn.Var {
	var class, states *nn.Var
	if m.Class != nil {
		class = m.Class.Forward(t, in.Classes).Reshape(-1, 1, m.Config.Width)
	}
	if m.Front != nil {
		states = m.replaced(m.Front.Forward(in.Front.States), in.Front.Lens)
	}
	switch {
	case class == nil:
		return states
	case states == nil:
		return class
	}
	return nn.Concat(1, states, class)
}

// replaced is x [B, L, Width] with the learned row from the lengths on.
func (m *Net) replaced(x *nn.Var, lens *gpu.Tensor) *nn.Var {
	if lens == nil {
		return x
	}
	t, s := x.Tape(), x.Shape()
	if lens.Len() != s[0] {
		panic(fmt.Sprintf("token: %d lengths of states in front for %d sequences", lens.Len(), s[0]))
	}
	missing, there := t.Arena().New(gpu.Uint8, s[0], s[1], 1), t.Arena().New(gpu.Uint8, s[0], s[1], 1)
	for i := range missing.U8() {
		missing.U8()[i] = 0
		if i%s[1] >= int(lens.I32()[i/s[1]]) {
			missing.U8()[i] = 1
		}
		there.U8()[i] = 1 - missing.U8()[i]
	}
	null := t.Use(m.Null).Add(t.Const(0, s[0], s[1], 1)).MaskedFill(there, 0)
	return x.MaskedFill(missing, 0).Add(null)
}

// place gives tokens x [B, L, Width] at places from first on what says so, or the angles of
// those places.
func (m *Net) place(x *nn.Var, first int) (*nn.Var, *gpu.Tensor) {
	t, l := x.Tape(), x.Shape()[1]
	if first+l > m.Config.MaxLen && m.Config.Places != None {
		panic(fmt.Sprintf("token: places %d to %d, the network has %d (MaxLen)", first, first+l-1, m.Config.MaxLen))
	}
	switch m.Config.Places {
	case Learned:
		return x.Add(t.Use(m.Place).Slice(0, first, l)), nil
	case SinCos:
		return x.Add(t.Input(m.rows(t, first, l))), nil
	case Rotary:
		return x, m.rows(t, first, l)
	}
	return x, nil
}

// rows is the part of places first to first+l-1 of what SinCos adds or Rotary turns by.
func (m *Net) rows(t *nn.Tape, first, l int) *gpu.Tensor {
	m.mu.Lock()
	defer m.mu.Unlock()
	key := span{t.DType(), first, l}
	x := m.places[key]
	if x == nil {
		all := span{t.DType(), 0, m.Config.MaxLen}
		if m.places[all] == nil {
			m.places[all] = m.table(t.Device(), t.DType())
		}
		x = m.places[all].Rows(first, first+l)
		m.places[key] = x
	}
	return x
}

// table is what SinCos adds or Rotary turns by, of all places.
func (m *Net) table(dev *gpu.Device, dt gpu.DType) *gpu.Tensor {
	c := &m.Config
	width, theta := c.Width, c.Theta
	if c.Places == Rotary {
		width = c.Width / c.Heads / 2
	}
	if theta == 0 {
		theta = 10000
	}
	var v []float64
	for i := range c.MaxLen {
		if c.Places == SinCos {
			v = nn.AppendSinCos(v, width, float64(i))
			continue
		}
		for j := range width {
			v = append(v, float64(i)*math.Pow(theta, -float64(j)/float64(width)))
		}
	}
	if dt == gpu.Float64 {
		return dev.From64(v, c.MaxLen, width)
	}
	f := make([]float32, len(v))
	for i, e := range v {
		f[i] = float32(e)
	}
	return dev.From(f, c.MaxLen, width)
}

// finish is the logits of the last block's result, or the states.
func (m *Net) finish(x *nn.Var) *nn.Var {
	if m.Norm != nil {
		x = m.Norm.Forward(x)
	}
	if m.Head == nil {
		return x
	}
	return m.Head.Forward(x)
}

// Evaluations is how often the network was run, and through how many blocks it took a token;
// see tower.Stack.
func (m *Net) Evaluations() (calls, blocks int64) { return m.Body.Evaluations() }

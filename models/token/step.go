package token

import (
	"fmt"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/nn/tower"
)

// NewCache makes a cache for generating batch sequences by t's device and dtype, with room for
// that many tokens, those in front included, of which the first pinned ones are never lost.
func (m *Net) NewCache(t *nn.Tape, batch, room, pinned int) *tower.Cache {
	if !m.Config.Causal {
		panic("token: NewCache: the network is not causal, and tokens to come would change what is kept")
	}
	return m.Body.NewCache(t.Device(), t.DType(), batch, room, pinned)
}

// Begin takes what is in front, the states to attend to and the vector of in into a new cache,
// or one after Reset. It is the logits of the first token, [B, 1, Out], nil where nothing is in
// front. Steps need no inputs then. No gradient flows.
func (m *Net) Begin(c *tower.Cache, t *nn.Tape, in Inputs) *nn.Var {
	if in.Mask != nil || in.Lens != nil || in.Drop.P > 0 {
		panic("token: Begin: a mask, lengths or dropout, which steps do not know")
	}
	m.Body.Begin(c, t, tower.Call{Cond: in.Cond, Context: in.Context})
	var y *nn.Var
	t.NoGrad(func() {
		if x := m.front(t, in); x != nil {
			y = m.last(m.stepStates(c, x))
		}
	})
	return y
}

func (m *Net) last(x *nn.Var) *nn.Var { return m.finish(x.Slice(1, x.Shape()[1]-1, 1)) }

// Step is the logits of the tokens that follow ids [B, n], Int32 on the CPU, the next ones
// after those that the cache has seen: [B, n, Out]. They are those of Forward for all tokens,
// as far as nothing was lost to make room.
func (m *Net) Step(c *tower.Cache, t *nn.Tape, ids *gpu.Tensor) *nn.Var {
	var y *nn.Var
	t.NoGrad(func() { y = m.finish(m.stepStates(c, m.embed(t, ids))) })
	return y
}

// StepStates is Step of tokens that are vectors, x [B, n, Width].
func (m *Net) StepStates(c *tower.Cache, x *nn.Var) *nn.Var {
	var y *nn.Var
	x.Tape().NoGrad(func() { y = m.finish(m.stepStates(c, x)) })
	return y
}

func (m *Net) stepStates(c *tower.Cache, x *nn.Var) *nn.Var {
	x, angles := m.place(x, c.Seen())
	return m.Body.Step(c, x, angles)
}

// Pair is an encoder and a decoder that attends to its states.
type Pair struct{ Encoder, Decoder *Net }

// NewPair registers the two in s, as encoder and decoder. The encoder is not causal and has no
// logits; the decoder is causal and attends to states of the encoder's width.
func NewPair(s nn.Scope, encoder, decoder Config) *Pair {
	if encoder.Causal || !decoder.Causal || decoder.Cross != encoder.Width || encoder.Out != -1 {
		panic(fmt.Sprintf("token: NewPair: an encoder that is causal: %t with Out %d, a decoder that is: %t with Cross %d; want false, -1, true and the encoder's Width, %d",
			encoder.Causal, encoder.Out, decoder.Causal, decoder.Cross, encoder.Width))
	}
	return &Pair{Encoder: New(s.At("encoder"), encoder), Decoder: New(s.At("decoder"), decoder)}
}

// Encode is what the decoder attends to of source ids [B, L]; lens is nil or their lengths,
// Int32 [B].
func (p *Pair) Encode(t *nn.Tape, source, lens *gpu.Tensor) nn.Context {
	return nn.Context{States: p.Encoder.Forward(t, source, Inputs{Lens: lens}), Lens: lens}
}

// Forward is the decoder's logits for target ids [B, L].
func (p *Pair) Forward(t *nn.Tape, source, lens, target *gpu.Tensor) *nn.Var {
	return p.Decoder.Forward(t, target, Inputs{Context: p.Encode(t, source, lens)})
}

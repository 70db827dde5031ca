package token

import (
	"fmt"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/nn/tower"
)

// Generator takes a causal network through sequences token by token, for the loops of package
// sampler/tokens. It runs steps of its tape, which it resets.
type Generator struct {
	net    *Net
	tape   *nn.Tape
	cache  *tower.Cache
	in     func(t *nn.Tape) Inputs
	batch  int
	start  int32
	logits []float32
	ids    *gpu.Tensor
}

// Generator makes one for batch sequences with room for that many tokens, those in front
// included. in is asked for the inputs when sequences begin, nil for none; where nothing is in
// front, start is their first token, which is not part of what is drawn.
func (m *Net) Generator(t *nn.Tape, batch, room int, start int32, in func(t *nn.Tape) Inputs) *Generator {
	if in == nil {
		in = func(*nn.Tape) Inputs { return Inputs{} }
	}
	return &Generator{net: m, tape: t, cache: m.NewCache(t, batch, room, 0), in: in, batch: batch, start: start,
		ids: gpu.CPU().New(gpu.Int32, batch, 1)}
}

// Begin forgets what was, and is the logits of the first tokens, [batch·Out].
func (g *Generator) Begin() ([]float32, error) {
	g.cache.Reset()
	var err error
	front := false
	g.tape.Run(func() {
		if y := g.net.Begin(g.cache, g.tape, g.in(g.tape)); y != nil {
			front, err = true, g.read(y)
		}
	})
	if err != nil || front {
		return g.logits, err
	}
	for i := range g.ids.I32() {
		g.ids.I32()[i] = g.start
	}
	return g.step()
}

// Step is the logits of the tokens that follow ids, one of each sequence. The slice is the
// Generator's until its next call.
func (g *Generator) Step(ids []int32) ([]float32, error) {
	if len(ids) != g.batch {
		return nil, fmt.Errorf("token: %d ids for %d sequences", len(ids), g.batch)
	}
	copy(g.ids.I32(), ids)
	return g.step()
}

func (g *Generator) step() (v []float32, err error) {
	g.tape.Run(func() { err = g.read(g.net.Step(g.cache, g.tape, g.ids)) })
	return g.logits, err
}

func (g *Generator) read(y *nn.Var) error {
	g.logits = read(g.logits, y)
	return y.Value().Read(g.logits)
}

// read is memory for y's elements, old if it is enough.
func read(old []float32, y *nn.Var) []float32 {
	if n := y.Value().Len(); cap(old) < n {
		return make([]float32, n)
	}
	return old[:y.Value().Len()]
}

// Filler lets a network that is not causal predict masked tokens, for the loops of package
// sampler/tokens. It runs steps of its tape, which it resets.
type Filler struct {
	net    *Net
	tape   *nn.Tape
	in     func(t *nn.Tape) Inputs
	batch  int
	logits []float32
}

// Filler makes one for batch sequences. in is asked for the inputs at each call, nil for none.
func (m *Net) Filler(t *nn.Tape, batch int, in func(t *nn.Tape) Inputs) *Filler {
	if m.Config.Causal {
		panic("token: Filler: the network is causal, and does not see what is after a token")
	}
	if in == nil {
		in = func(*nn.Tape) Inputs { return Inputs{} }
	}
	return &Filler{net: m, tape: t, in: in, batch: batch}
}

// Fill is the logits of all tokens of ids, sequences end to end, [len(ids)·Out]. The slice is the
// Filler's again at its next call.
func (f *Filler) Fill(ids []int32) (v []float32, err error) {
	if len(ids) == 0 || len(ids)%f.batch != 0 {
		return nil, fmt.Errorf("token: %d ids for %d sequences", len(ids), f.batch)
	}
	x := gpu.CPU().FromInt32(ids, f.batch, len(ids)/f.batch)
	f.tape.Run(func() {
		f.tape.NoGrad(func() {
			y := f.net.Forward(f.tape, x, f.in(f.tape))
			f.logits = read(f.logits, y)
			err = y.Value().Read(f.logits)
		})
	})
	return f.logits, err
}

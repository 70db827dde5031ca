package tower

import (
	"fmt"
	"sync/atomic"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/nn"
)

// Stack is blocks one after the other, all of one kind. The result of block i passes the tap
// of its scope's name.
type Stack struct {
	Config BlockConfig
	Blocks []*Block

	taps  []string
	calls atomic.Int64
	units atomic.Int64
}

// NewStack registers blocks 0, 1, ... in s.
func NewStack(s nn.Scope, depth int, c BlockConfig) *Stack {
	if depth < 1 {
		panic(fmt.Sprintf("tower: NewStack: %d blocks, want at least 1", depth))
	}
	m := &Stack{Config: c}
	for i := range depth {
		at := s.At(fmt.Sprint(i))
		m.Blocks = append(m.Blocks, NewBlock(at, c))
		m.taps = append(m.taps, at.Name(""))
	}
	return m
}

// Taps are the names under which the results of the blocks pass a tap.
func (m *Stack) Taps() []string { return m.taps }

// Evaluations is how often the stack was run since its making, on a whole or on a step, and
// through how many blocks it took a token, summed over tokens and sequences: what claims of
// speed count.
func (m *Stack) Evaluations() (calls, blocks int64) { return m.calls.Load(), m.units.Load() }

func (m *Stack) count(x *nn.Var) {
	s := x.Shape()
	if len(s) != 3 || s[2] != m.Config.Width {
		panic(fmt.Sprintf("tower: Stack: tokens of shape %v, want [B, L, %d]", s, m.Config.Width))
	}
	m.calls.Add(1)
	m.units.Add(int64(s[0] * s[1] * len(m.Blocks)))
}

// Forward is the last block's result for tokens x [B, L, Width].
func (m *Stack) Forward(x *nn.Var, in Call) *nn.Var {
	m.count(x)
	for i, b := range m.Blocks {
		x = b.Forward(x, &in).Tap(m.taps[i])
		in.Drop.Stream += 2
	}
	return x
}

// NewCache makes a cache for batch sequences with room for that many tokens, the first pinned
// ones of which are never lost.
func (m *Stack) NewCache(dev *gpu.Device, dt gpu.DType, batch, room, pinned int) *Cache {
	if batch < 1 || room < 1 || pinned < 0 || pinned >= room {
		panic(fmt.Sprintf("tower: NewCache: %d sequences, room for %d tokens, %d pinned; want at least 1, 1, and fewer than the room", batch, room, pinned))
	}
	c := &Cache{batch: batch, room: room, pinned: pinned, lens: dev.New(gpu.Int32, batch)}
	heads := m.Config.KVHeads
	if heads == 0 {
		heads = m.Config.Heads
	}
	for range m.Blocks {
		k := dev.Zeros(dt, batch, room, heads, m.Config.Width/m.Config.Heads)
		c.layers = append(c.layers, cacheLayer{k: k, v: k.Like()})
		c.layers[len(c.layers)-1].v.Copy(k)
	}
	return c
}

// Begin readies a cache that has seen nothing for a sequence: the keys and values of the
// states to attend to are computed once, and the vector is kept.
func (m *Stack) Begin(c *Cache, t *nn.Tape, in Call) {
	if c.n != 0 {
		panic(fmt.Sprintf("tower: Begin: the cache has seen %d tokens; Reset it", c.n))
	}
	t.NoGrad(func() {
		if in.Cond != nil {
			c.cond = held(in.Cond)
		}
		if in.Context.States == nil {
			return
		}
		c.crossLens = in.Context.Lens
		for i, b := range m.Blocks {
			if b.Cross == nil {
				panic("tower: Begin: states to attend to for blocks without cross-attention; set Cross")
			}
			k, v := b.Cross.ProjectKV(in.Context.States)
			c.layers[i].crossK, c.layers[i].crossV = held(k), held(v)
		}
	})
}

// Step is the results for the n tokens x [B, n, Width] that follow those the cache has seen,
// which it then has seen too: those of Forward over all of them with a causal mask, as far as
// nothing was lost to make room. angles is nil or [n, ...], those of the new tokens' places.
// No gradient flows.
func (m *Stack) Step(c *Cache, x *nn.Var, angles *gpu.Tensor) *nn.Var {
	s := x.Shape()
	if len(c.layers) != len(m.Blocks) || len(s) != 3 || s[0] != c.batch || s[1] < 1 {
		panic(fmt.Sprintf("tower: Step: tokens of shape %v through %d blocks for a cache of %d sequences and %d blocks", s, len(m.Blocks), c.batch, len(c.layers)))
	}
	t := x.Tape()
	var y *nn.Var
	t.NoGrad(func() {
		if c.fits(s[1]) {
			y = m.step(c, x, angles)
			return
		}
		parts := make([]*nn.Var, s[1])
		for i := range parts {
			at := angles
			if angles != nil {
				at = angles.Rows(i, i+1)
			}
			parts[i] = m.step(c, x.Slice(1, i, 1), at)
		}
		y = nn.Concat(1, parts...)
	})
	return y
}

func (m *Stack) step(c *Cache, x *nn.Var, angles *gpu.Tensor) *nn.Var {
	m.count(x)
	in := Call{Angles: angles}
	if c.cond != nil {
		in.Cond = x.Tape().Input(c.cond)
	}
	for i, b := range m.Blocks {
		x = b.Step(x, &in, c, i).Tap(m.taps[i])
	}
	c.n += x.Shape()[1]
	return x
}

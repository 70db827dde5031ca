package tower

import (
	"fmt"
	"math"
	"slices"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/ops"
)

// Cache holds the keys and values of the tokens that a causal stack has seen, so that a step
// costs as much as its new tokens. It has room for a number of tokens; when it is full, the
// oldest one that is not pinned makes room for each new one. It belongs to one goroutine at a
// time.
type Cache struct {
	batch, room, pinned int
	n                   int // tokens seen since the beginning
	layers              []cacheLayer
	lens                *gpu.Tensor // how many places are filled, the same for all sequences
	crossLens           *gpu.Tensor
	cond                *gpu.Tensor // the vector of all steps
}

type cacheLayer struct {
	k, v           *gpu.Tensor // [batch, room, heads, D]; of the pinned places, then a ring
	crossK, crossV *gpu.Tensor // of the states that are attended to
}

// Seen is how many tokens the cache was given since its beginning or Reset; the next one has
// that place.
func (c *Cache) Seen() int { return c.n }

// Held is how many tokens' keys and values it has.
func (c *Cache) Held() int { return min(c.n, c.room) }

// Reset forgets all tokens and states, and keeps the memory.
func (c *Cache) Reset() {
	c.n, c.crossLens, c.cond = 0, nil, nil
	for i := range c.layers {
		c.layers[i].crossK, c.layers[i].crossV = nil, nil
	}
}

// Truncate forgets the tokens from place n on: those that were tried and are to be replaced.
// It panics where tokens before n were lost to make room.
func (c *Cache) Truncate(n int) {
	if n < 0 || n > c.n || c.n > c.room {
		panic(fmt.Sprintf("tower: Cache.Truncate: to %d of %d tokens with room for %d", n, c.n, c.room))
	}
	c.n = n
}

// Fork is a copy that goes its own way from here on: of one beginning several continuations.
func (c *Cache) Fork() *Cache {
	d := *c
	d.lens = c.lens.Like()
	d.layers = make([]cacheLayer, len(c.layers))
	for i, l := range c.layers {
		d.layers[i] = l // states do not change
		d.layers[i].k, d.layers[i].v = l.k.Like(), l.v.Like()
		d.layers[i].k.Copy(l.k)
		d.layers[i].v.Copy(l.v)
	}
	return &d
}

// fits tells whether n more tokens can come at once: none makes room for another.
func (c *Cache) fits(n int) bool { return n == 1 || c.n+n <= c.room }

// attend puts keys and values in and is what the queries find, [B, n, H, D].
func (c *Cache) attend(l *cacheLayer, q, k, v *nn.Var) *nn.Var {
	t, n := q.Tape(), k.Shape()[1]
	at := c.n
	if c.n >= c.room {
		at = c.pinned + (c.n-c.pinned)%(c.room-c.pinned)
	}
	ops.PutSlice(l.k, k.Value(), 1, at, false)
	ops.PutSlice(l.v, v.Value(), 1, at, false)
	if n == 1 { // the order of keys does not matter
		return nn.Attention(q, t.Input(l.k), t.Input(l.v), 0, nn.AttnMask{KeyLens: c.filled(c.n + 1)})
	}
	if c.n > 0 {
		k, v = t.Input(l.k).Slice(1, 0, c.n+n), t.Input(l.v).Slice(1, 0, c.n+n)
	}
	return nn.Attention(q, k, v, 0, nn.AttnMask{Causal: true})
}

// filled is the number of places with keys for every sequence, Int32 [batch].
func (c *Cache) filled(n int) *gpu.Tensor {
	v := c.lens
	if c.lens.Device().CUDA() {
		v = gpu.CPU().New(gpu.Int32, c.batch)
	}
	for i := range v.I32() {
		v.I32()[i] = int32(min(n, c.room, math.MaxInt32))
	}
	if v != c.lens {
		c.lens.Copy(v)
	}
	return c.lens
}

// held is a copy of a tensor that outlives the tape's step.
func held(x *nn.Var) *gpu.Tensor {
	y := x.Value().Like()
	y.Copy(x.Value())
	return y
}

// host is a tensor on the CPU that lives as long as the tape's step.
func host(t *nn.Tape, dt gpu.DType, shape ...int) *gpu.Tensor {
	if t.Device().CUDA() {
		return gpu.CPU().New(dt, slices.Clone(shape)...) // a copy: shape itself stays on the stack
	}
	return t.Arena().New(dt, shape...)
}

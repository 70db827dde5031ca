package ops

import (
	"slices"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/cpu"
)

// LinearAttentionInput is the operands of linear attention, all on one device and float32 or
// all float64.
type LinearAttentionInput struct {
	// Q and K are [B, T, H, D], V is [B, T, H, E], 1 <= D, E <= 128.
	Q, K, V *gpu.Tensor
	// Decay is the natural logarithms of what is left of the past at each token, at most 0:
	// nil for zeros, [B, T, H] for a factor of each head, or [B, T, H, D] for one of each
	// column of the keys.
	Decay *gpu.Tensor
	// State is what came before, [B, H, D, E], or nil for zeros.
	State *gpu.Tensor
	// Chunk is how many tokens are done at once, at most 32; 0 is 32, or 16 where D + E > 128
	// in float64. It changes speed and rounding alone.
	Chunk int
}

const (
	linearChunk = 32  // tokens of a chunk at most
	linearWidth = 128 // of queries, keys and values at most
)

// LinearAttention sets out [B, T, H, E] to causal attention without a softmax,
//
//	S[t] = diag(exp(Decay[t]))·S[t-1] + K[t]·V[t]ᵀ     out[t] = S[t]ᵀ·Q[t]
//
// for each head, from S[-1] = State on, and end [B, H, D, E], which may be nil, to the last
// S: the State of the tokens that follow. starts [B, H, chunks, D, E], with Chunks(in) for
// chunks, gets the S before every chunk, which the gradient needs. No result is an operand.
//
// Tokens of a chunk see each other by products, and exponents are of differences that are not
// positive where logarithms of decays are not, whatever the chunk (Yang et al. 2024, arXiv
// 2312.06635). An element's error is that of its products, and relatively that of rounding
// the sums of the logarithms within a chunk. Bits are equal at any number of threads and do not depend
// on the rest of the batch. It panics on operands that do not fit.
func LinearAttention(out, end, starts *gpu.Tensor, in LinearAttentionInput) {
	p := linearCheck("LinearAttention", in)
	streamOf(p.op, out, end, starts, in.Q)
	p.wants("the result", out, p.b, p.t, p.h, p.e)
	p.wants("the last state", end, p.b, p.h, p.d, p.e)
	p.wants("a tensor of states", starts, p.b, p.h, p.chunks, p.d, p.e)
	if p.b*p.h == 0 {
		return
	}
	if s := out.Device().Stream(); s != nil {
		p.launch(s, out, end, starts, in)
		return
	}
	c := newCall(nil, out, in.Q, in.K, in.V, in.Decay, in.State, end, starts)
	c.linear = p
	if c.double() {
		linearHeads[float64](c, linearForward)
	} else {
		linearHeads[float32](c, linearForward)
	}
}

// Chunks is into how many chunks in's tokens are cut.
func (in *LinearAttentionInput) Chunks() int {
	p := linearCheck("LinearAttention", *in)
	return p.chunks
}

// LinearAttentionGrads is where gradients go, in the operands' shapes; nil where they are not wanted.
type LinearAttentionGrads struct {
	Q, K, V, State *gpu.Tensor
	// Slope [B, T, H, D] gets the gradients by the sums of the logarithms of the decays up to
	// each token, for each column of the keys. The gradient by Decay is its sums from each
	// token to the last (CumSum in reverse), and over the columns where a head has one factor.
	Slope *gpu.Tensor
}

// LinearAttentionBackward sets what g has to the gradients of Σ dout·out + Σ dend·end, either
// of which may be nil for zeros; end is then not needed without dend. starts is what
// LinearAttention has written, backs is memory of its size. No result is an operand.
//
// Slope is the difference of products of operands and their gradients, whose parts of a token
// with itself cancel; its error is relative to those products.
func LinearAttentionBackward(g LinearAttentionGrads, dout, dend, end, starts, backs *gpu.Tensor, in LinearAttentionInput) {
	p := linearCheck("LinearAttentionBackward", in)
	streamOf(p.op, in.Q, dout, dend, end, starts, backs)
	streamOf(p.op, in.Q, g.Q, g.K, g.V, g.State, g.Slope)
	for _, x := range []*gpu.Tensor{g.Q, g.K, g.Slope} {
		p.wants("a gradient", x, p.b, p.t, p.h, p.d)
	}
	p.wants("the gradient by V", g.V, p.b, p.t, p.h, p.e)
	p.wants("the gradient by the result", dout, p.b, p.t, p.h, p.e)
	for _, x := range []*gpu.Tensor{g.State, dend, end} {
		p.wants("a state", x, p.b, p.h, p.d, p.e)
	}
	for _, x := range []*gpu.Tensor{starts, backs} {
		p.wants("a tensor of states", x, p.b, p.h, p.chunks, p.d, p.e)
	}
	if dend != nil && end == nil && g.Slope != nil {
		fail(p.op, "a gradient by the last state without that state, want it too")
	}
	if p.b*p.h == 0 {
		return
	}
	if s := in.Q.Device().Stream(); s != nil {
		p.launchBackward(s, g, dout, dend, end, starts, backs, in)
		return
	}
	c := newCall(nil, in.Q, in.Q, in.K, in.V, in.Decay, dout, dend, end, starts, backs)
	c.linear, c.grads = p, g
	if c.double() {
		linearHeads[float64](c, linearBackward)
	} else {
		linearHeads[float32](c, linearBackward)
	}
}

// linear is the sizes of linear attention.
type linear struct {
	op                       string
	b, t, h, d, e, n, chunks int // n tokens a chunk
	vector                   bool
	scores, memory           int // of a head's scratch memory
}

func linearCheck(op string, in LinearAttentionInput) linear {
	streamOf(op, in.Q, in.K, in.V, in.Decay, in.State)
	q, v := in.Q.Shape(), in.V.Shape()
	if len(q) != 4 || len(v) != 4 {
		fail(op, "queries %v and values %v, want [B, T, H, D] and [B, T, H, E]", q, v)
	}
	p := linear{op: op, b: q[0], t: q[1], h: q[2], d: q[3], e: v[3], n: in.Chunk}
	if p.d < 1 || p.e < 1 || max(p.d, p.e) > linearWidth {
		fail(op, "queries %v and values %v, want 1 to %d columns", q, v, linearWidth)
	}
	if p.n < 0 || p.n > linearChunk {
		fail(op, "chunks of %d tokens, want 1 to %d, or 0 for a usual number", p.n, linearChunk)
	}
	if p.n == 0 {
		if p.n = linearChunk; in.Q.Double() && p.d+p.e > linearWidth {
			p.n /= 2
		}
	}
	p.chunks = ceil(p.t, p.n)
	p.wants("K", in.K, q...)
	p.wants("V", in.V, p.b, p.t, p.h, p.e)
	if p.vector = in.Decay != nil && len(in.Decay.Shape()) == 4; p.vector {
		p.wants("Decay", in.Decay, q...)
	} else {
		p.wants("Decay", in.Decay, p.b, p.t, p.h)
	}
	p.wants("State", in.State, p.b, p.h, p.d, p.e)
	return p
}

// wants panics when x, called name, is there and has another shape.
func (p *linear) wants(name string, x *gpu.Tensor, shape ...int) {
	if x != nil && !slices.Equal(x.Shape(), shape) {
		fail(p.op, "%s has shape %v, want %v", name, x.Shape(), slices.Clone(shape))
	}
}

// linearHeads runs f for every head of every sequence.
func linearHeads[T cpu.Float](c *call, f func(c *call, w *cpu.Worker, i int)) {
	p := &c.linear
	p.scores = p.n * p.n
	p.memory = 4*p.n*p.d + 2*p.scores + p.n*p.n*p.d + p.d*p.e
	if !p.vector {
		p.memory -= p.n * p.n * p.d
	}
	scratchOf[T](c).take(p.b * p.h * p.memory)
	c.fn = f
	c.onWorkers(p.b * p.h)
}

func linearForward(c *call, w *cpu.Worker, i int) {
	if c.double() {
		h := newLinearHead[float64](c, w, i)
		h.forward()
	} else {
		h := newLinearHead[float32](c, w, i)
		h.forward()
	}
}

func linearBackward(c *call, w *cpu.Worker, i int) {
	if c.double() {
		h := newLinearHead[float64](c, w, i)
		h.backward()
	} else {
		h := newLinearHead[float32](c, w, i)
		h.backward()
	}
}

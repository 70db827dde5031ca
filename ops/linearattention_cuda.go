package ops

import (
	"math"

	"github.com/fidlab/fidlab/cuda"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/kernels"
)

// linearShared is how much shared memory a block may have on all GPUs.
const linearShared = 160 << 10

// grid is that of a kernel with a block a chunk, whose rows of tokens have that many values in
// shared memory beside their pairs, and which has some of its own.
func (p *linear) grid(in LinearAttentionInput, values, matrices, own int) cuda.Grid {
	rows := (p.n + 3) / 4 * 4
	if p.vector {
		values += p.d + 1
	} else {
		values++
	}
	g := cuda.Grid{X: p.b * p.h * p.chunks, Y: 1, Z: 1, BX: 256, BY: 1, BZ: 1}
	g.Shared = (rows*(values+matrices*(rows+1)) + own) * in.Q.DType().Size()
	if g.Shared > linearShared {
		fail(p.op, "chunks of %d tokens of %d and %d columns need %d bytes of shared memory, more than %d; set a smaller Chunk", p.n, p.d, p.e, g.Shared, linearShared)
	}
	return g
}

// fits panics when sizes are beyond what kernels count with.
func (p *linear) fits() {
	if p.b*p.h*p.chunks*16 > math.MaxInt32 || p.t > math.MaxInt32 {
		fail(p.op, "%d sequences of %d heads and %d tokens, want fewer than 2^27 chunks on a GPU; use a smaller batch", p.b, p.h, p.t)
	}
}

// walk makes the states before, or in reverse after, every chunk.
func (p *linear) walk(s *cuda.Stream, states, end, start, x, y *gpu.Tensor, in LinearAttentionInput, reverse bool) {
	f := byWidth(in.Q, kernels.LinearStatesF32, kernels.LinearStatesF64)
	g := cuda.Grid{X: p.b * p.h * ceil(p.d, 32) * ceil(p.e, 32), Y: 1, Z: 1, BX: 256, BY: 1, BZ: 1}
	f(s, g, states.Ptr(), ptr(end), ptr(start), ptr(x), ptr(y), ptr(in.Decay), int32(p.t), int32(p.h), int32(p.d), int32(p.e), int32(p.n),
		number(p.vector), number(reverse))
}

func (p *linear) launch(s *cuda.Stream, out, end, starts *gpu.Tensor, in LinearAttentionInput) {
	p.fits()
	p.walk(s, starts, end, in.State, in.K, in.V, in, false)
	if p.t == 0 {
		return
	}
	f := byWidth(out, kernels.LinearOutF32, kernels.LinearOutF64)
	if p.vector {
		f = byWidth(out, kernels.LinearOutVectorF32, kernels.LinearOutVectorF64)
	}
	f(s, p.grid(in, 2*(p.d+1)+p.e+1, 1, 0), out.Ptr(), starts.Ptr(), in.Q.Ptr(), in.K.Ptr(), in.V.Ptr(), ptr(in.Decay),
		int32(p.t), int32(p.h), int32(p.d), int32(p.e), int32(p.n))
}

func (p *linear) launchBackward(s *cuda.Stream, g LinearAttentionGrads, dout, dend, end, starts, backs *gpu.Tensor, in LinearAttentionInput) {
	p.fits()
	p.walk(s, backs, g.State, dend, in.Q, dout, in, true)
	if p.t == 0 || g.Q == nil && g.K == nil && g.V == nil && g.Slope == nil {
		return
	}
	f := byWidth(in.Q, kernels.LinearBackF32, kernels.LinearBackF64)
	if p.vector {
		f = byWidth(in.Q, kernels.LinearBackVectorF32, kernels.LinearBackVectorF64)
	}
	f(s, p.grid(in, 2*(p.d+1)+2*(p.e+1), 2, max(33*p.d, (p.n+3)/4*4*(p.d+1))), ptr(g.Q), ptr(g.K), ptr(g.V), ptr(g.Slope), ptr(dout), starts.Ptr(), backs.Ptr(), ptr(end), ptr(dend),
		in.Q.Ptr(), in.K.Ptr(), in.V.Ptr(), ptr(in.Decay), int32(p.t), int32(p.h), int32(p.d), int32(p.e), int32(p.n))
}

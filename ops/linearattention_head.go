package ops

import (
	"math"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/cpu"
)

// linearHead is linear attention of one head of one sequence on the CPU, chunk by chunk.
type linearHead[T cpu.Float] struct {
	c *call
	w *cpu.Worker
	p *linear
	i int // of B·H

	tokens, first int // of the chunk
	row           int // of its first token, among those of Q and V
	sums          []T // [n, D], sums of the logarithms of the decays from the chunk's first token on
	left          []T // [n, D], their exponentials
	q, k          []T // [n, D], scaled
	scores, slope []T // [n, n]
	pairs         []T // [n, n, D], exponentials of differences, of decays of columns
	state         []T // [D, E]
}

func newLinearHead[T cpu.Float](c *call, w *cpu.Worker, i int) linearHead[T] {
	p := &c.linear
	m := scratchOf[T](c).v[i*p.memory:][:p.memory]
	h := linearHead[T]{c: c, w: w, p: p, i: i}
	for _, x := range []*[]T{&h.sums, &h.left, &h.q, &h.k} {
		*x, m = m[:p.n*p.d], m[p.n*p.d:]
	}
	h.scores, m = m[:p.scores], m[p.scores:]
	h.slope, m = m[:p.scores], m[p.scores:]
	h.state, m = m[:p.d*p.e], m[p.d*p.e:]
	h.pairs = m
	return h
}

// matrix is this head's of x, [B, H, D, E].
func (h *linearHead[T]) matrix(x *gpu.Tensor) []T {
	size := h.p.d * h.p.e
	return data[T](x)[h.i*size:][:size]
}

// states is the matrix of the chunk of x, [B, H, chunks, D, E].
func (h *linearHead[T]) states(x *gpu.Tensor) []T {
	size := h.p.d * h.p.e
	return data[T](x)[(h.i*h.p.chunks+h.first/h.p.n)*size:][:size]
}

// at is the chunk's rows of x [B, T, H, n] from the first on; they are H·n apart.
func (h *linearHead[T]) at(x *gpu.Tensor, n int) []T { return data[T](x)[h.row*n:] }

func exponentials[T cpu.Float](x []T) {
	switch x := any(x).(type) {
	case []float32:
		cpu.Func32(cpu.FuncExp, 0, 0, x, x)
	case []float64:
		cpu.Func64(cpu.FuncExp, 0, 0, x, x)
	}
}

// open begins chunk n: the sums of its decays and, for forward or backward, what is made of
// them; queries and keys as they weigh the states before and after.
func (h *linearHead[T]) open(n int) {
	p := h.p
	h.first = n * p.n
	h.tokens = min(p.n, p.t-h.first)
	h.row = (h.i/p.h*p.t+h.first)*p.h + h.i%p.h
	decay := data[T](h.c.t[4])
	for t := range h.tokens {
		to := h.sums[t*p.d:][:p.d]
		switch {
		case decay == nil:
			clear(to)
		case p.vector:
			copy(to, decay[(h.row+t*p.h)*p.d:])
		default:
			for c := range to {
				to[c] = decay[h.row+t*p.h]
			}
		}
		if t > 0 {
			for c, before := range h.sums[(t-1)*p.d:][:p.d] {
				to[c] += before
			}
		}
	}
	size := h.tokens * p.d
	copy(h.left, h.sums[:size])
	exponentials(h.left[:size])
	total := h.sums[size-p.d:][:p.d]
	for t := range h.tokens {
		for c := range p.d {
			h.k[t*p.d+c] = total[c] - h.sums[t*p.d+c]
		}
	}
	exponentials(h.k[:size])
	q, k := h.at(h.c.t[1], p.d), h.at(h.c.t[2], p.d)
	for t := range h.tokens {
		for c := range p.d {
			h.q[t*p.d+c] = h.left[t*p.d+c] * q[t*p.h*p.d+c]
			h.k[t*p.d+c] *= k[t*p.h*p.d+c]
		}
	}
	if p.vector {
		h.openPairs()
	}
}

// openPairs makes what is left at each token of what an earlier one put in, for every column.
func (h *linearHead[T]) openPairs() {
	d := h.p.d
	for i := range h.tokens {
		to := h.pairs[i*h.p.n*d:][:(i+1)*d]
		for j := range i + 1 {
			for c := range d {
				to[j*d+c] = h.sums[i*d+c] - h.sums[j*d+c]
			}
		}
		exponentials(to)
	}
}

// score makes what each query has of each key up to its own.
func (h *linearHead[T]) score() {
	p, n := h.p, h.tokens
	q, k := h.at(h.c.t[1], p.d), h.at(h.c.t[2], p.d)
	if !p.vector {
		gemmOf(h.w, false, true, n, n, p.d, q, p.h*p.d, k, p.h*p.d, false, h.scores, p.n)
		h.decayed(h.scores)
		return
	}
	for i := range n {
		x := q[i*p.h*p.d:][:p.d]
		for j := range n {
			var s T
			if j <= i {
				y, e := k[j*p.h*p.d:][:p.d], h.pairs[(i*p.n+j)*p.d:][:p.d]
				for c, v := range x {
					s += v * y[c] * e[c]
				}
			}
			h.scores[i*p.n+j] = s
		}
	}
}

// decayed multiplies a matrix of pairs with what is left, nothing of later tokens.
func (h *linearHead[T]) decayed(m []T) {
	for i := range h.tokens {
		row := m[i*h.p.n:][:h.tokens]
		for j := range row {
			if j > i {
				row[j] = 0
			} else if h.c.t[4] != nil && !h.p.vector {
				row[j] *= T(math.Exp(float64(h.sums[i*h.p.d] - h.sums[j*h.p.d])))
			}
		}
	}
}

// fade multiplies the rows of a state with what is left of it after the chunk.
func (h *linearHead[T]) fade(s []T) {
	left := h.left[(h.tokens-1)*h.p.d:]
	for c := range h.p.d {
		row := s[c*h.p.e:][:h.p.e]
		for x := range row {
			row[x] *= left[c]
		}
	}
}

func (h *linearHead[T]) forward() {
	p := h.p
	if h.c.t[5] != nil {
		copy(h.state, h.matrix(h.c.t[5]))
	} else {
		clear(h.state)
	}
	for n := range p.chunks {
		h.open(n)
		copy(h.states(h.c.t[7]), h.state)
		h.score()
		v, out, step := h.at(h.c.t[3], p.e), h.at(h.c.t[0], p.e), p.h*p.e
		gemmOf(h.w, false, false, h.tokens, p.e, h.tokens, h.scores, p.n, v, step, false, out, step)
		gemmOf(h.w, false, false, h.tokens, p.e, p.d, h.q, p.d, h.state, p.e, true, out, step)
		h.fade(h.state)
		gemmOf(h.w, true, false, p.d, p.e, h.tokens, h.k, p.d, v, step, true, h.state, p.e)
	}
	if h.c.t[6] != nil {
		copy(h.matrix(h.c.t[6]), h.state)
	}
}

// backward walks from the last chunk to the first with the gradient by the state after it.
func (h *linearHead[T]) backward() {
	p, g := h.p, &h.c.grads
	dout, dend := h.c.t[5], h.c.t[6]
	if dend != nil {
		copy(h.state, h.matrix(dend))
	} else {
		clear(h.state)
	}
	for n := p.chunks - 1; n >= 0; n-- {
		h.open(n)
		h.score()
		v, step := h.at(h.c.t[3], p.e), p.h*p.e
		var dy []T
		if dout != nil {
			dy = h.at(dout, p.e)
			gemmOf(h.w, false, true, h.tokens, h.tokens, p.e, dy, step, v, step, false, h.slope, p.n)
			h.decayed(h.slope)
		} else {
			clear(h.slope)
		}
		if g.V != nil {
			to := h.at(g.V, p.e)
			gemmOf(h.w, false, false, h.tokens, p.e, p.d, h.k, p.d, h.state, p.e, false, to, step)
			if dy != nil {
				gemmOf(h.w, true, false, h.tokens, p.e, h.tokens, h.scores, p.n, dy, step, true, to, step)
			}
		}
		next := h.states(h.c.t[9]) // the gradient by the state before
		copy(next, h.state)
		h.fade(next)
		if dy != nil {
			gemmOf(h.w, true, false, p.d, p.e, h.tokens, h.q, p.d, dy, step, true, next, p.e)
		}
		h.queriesAndKeys(dy, v)
		copy(h.state, next)
	}
	if g.State != nil {
		copy(h.matrix(g.State), h.state)
	}
	if g.Slope != nil && dend != nil && p.t > 0 {
		last := data[T](g.Slope)[((h.i/p.h*p.t+p.t-1)*p.h+h.i%p.h)*p.d:][:p.d]
		x, y := h.matrix(dend), h.matrix(h.c.t[7])
		for c := range last {
			for e := range p.e {
				last[c] += x[c*p.e+e] * y[c*p.e+e]
			}
		}
	}
}

// queriesAndKeys makes the chunk's gradients by queries, keys and sums of decays, over h.q and h.k.
func (h *linearHead[T]) queriesAndKeys(dy, v []T) {
	p, g, n := h.p, &h.c.grads, h.tokens
	q, k, step := h.at(h.c.t[1], p.d), h.at(h.c.t[2], p.d), p.h*p.d
	size := n * p.d
	if dy != nil {
		gemmOf(h.w, false, true, n, p.d, p.e, dy, p.h*p.e, h.states(h.c.t[8]), p.e, false, h.q, p.d)
	} else {
		clear(h.q[:size])
	}
	gemmOf(h.w, false, true, n, p.d, p.e, v, p.h*p.e, h.state, p.e, false, h.k, p.d)
	total := h.sums[size-p.d:][:p.d]
	for i := range size {
		h.q[i] *= h.left[i]
		h.left[i] = total[i%p.d] - h.sums[i]
	}
	exponentials(h.left[:size])
	for i := range size {
		h.k[i] *= h.left[i]
	}
	switch {
	case !p.vector:
		gemmOf(h.w, false, false, n, p.d, n, h.slope, p.n, k, step, true, h.q, p.d)
		gemmOf(h.w, true, false, n, p.d, n, h.slope, p.n, q, step, true, h.k, p.d)
	default:
		for i := range n {
			dq, x := h.q[i*p.d:][:p.d], q[i*step:][:p.d]
			for j := range i + 1 {
				s := h.slope[i*p.n+j]
				dk, y, e := h.k[j*p.d:][:p.d], k[j*step:][:p.d], h.pairs[(i*p.n+j)*p.d:][:p.d]
				for c, left := range e {
					dq[c] += s * left * y[c]
					dk[c] += s * left * x[c]
				}
			}
		}
	}
	for t := range n {
		dq, dk := h.q[t*p.d:][:p.d], h.k[t*p.d:][:p.d]
		if g.Q != nil {
			copy(h.at(g.Q, p.d)[t*step:], dq)
		}
		if g.K != nil {
			copy(h.at(g.K, p.d)[t*step:], dk)
		}
		if g.Slope != nil {
			to := h.at(g.Slope, p.d)[t*step:][:p.d]
			for c := range to {
				to[c] = q[t*step+c]*dq[c] - k[t*step+c]*dk[c]
			}
		}
	}
}

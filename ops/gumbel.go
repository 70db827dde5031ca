package ops

import (
	"math"

	"github.com/fidlab/fidlab/cuda"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/cpu"
	"github.com/fidlab/fidlab/kernels"
	"github.com/fidlab/fidlab/rng"
)

// Gumbels sets every row b of out [B, ...] to draws From, From+1, … of stream Stream+b under
// Seed: Gumbel noise, or with logistic the difference of two such, as rng.Stream's functions
// of these names make them; a GPU's uniforms are the same and its logarithms within 1e-15
// relative. A row's values depend on no other row.
func Gumbels(out *gpu.Tensor, z Noise, logistic bool) {
	const op = "Gumbels"
	stream := streamOf(op, out)
	s := out.Shape()
	if len(s) == 0 {
		fail(op, "the output has no rows; want shape [B, ...]")
	}
	if out.Len() == 0 {
		return
	}
	if stream != nil {
		size := out.Len() / s[0]
		blocks := ceil(size+1, 2*vectorBlock)
		if s[0]*blocks > math.MaxInt32 {
			fail(op, "shape %v takes %d blocks of a GPU, more than 2^31-1; use a smaller batch", s, s[0]*blocks)
		}
		k := byWidth(out, kernels.GumbelF32, kernels.GumbelF64)
		k(stream, cuda.Grid1(s[0]*blocks, 1, vectorBlock), out.Ptr(), flag(logistic), z.Seed, z.Stream, z.From, int64(size), int32(blocks))
		return
	}
	c := newCall(gumbelRow, out)
	c.mask, c.n[0], c.n[1] = Mask{Seed: z.Seed, Stream: z.Stream, From: z.From}, out.Len()/s[0], 0
	if logistic {
		c.n[1] = 1
	}
	c.each(s[0])
}

func gumbelRow(c *call, _ *cpu.Worker, b int) {
	if c.double() {
		gumbels(c.t[0].F64()[b*c.n[0]:][:c.n[0]], &c.mask, uint64(b), c.n[1] == 1)
	} else {
		gumbels(c.t[0].F32()[b*c.n[0]:][:c.n[0]], &c.mask, uint64(b), c.n[1] == 1)
	}
}

func gumbels[T cpu.Float](out []T, z *Mask, row uint64, logistic bool) {
	s := *rng.New(z.Seed, z.Stream+row)
	s.Seek(2 * z.From) // two words a draw
	for i := range out {
		if logistic {
			out[i] = T(s.Logistic())
		} else {
			out[i] = T(s.Gumbel())
		}
	}
}

// OneHot sets row i of out, [..., n], to 1 at place at[i] and 0 elsewhere. It panics on
// places, Int32 with one a row, outside 0..n-1. With out on a GPU they may be on the CPU, or on
// that GPU, where nobody looks at them before: ArgMax makes none outside.
func OneHot(out, at *gpu.Tensor) {
	const op = "OneHot"
	s := streamOf(op, out)
	rows, n := lastAxis(op, out)
	wantRows(op, "at", at, rows)
	numbersOn(op, "places", at, out)
	for i, k := range at.I32() {
		if k < 0 || int(k) >= n {
			fail(op, "place %d of row %d, want 0 to %d", k, i, n-1)
		}
	}
	Fill(out, 0)
	if s != nil {
		ones := out.Device().New(out.DType(), rows)
		Fill(ones, 1)
		PickAdd(out, ones, at)
		ones.Free()
		return
	}
	if out.Double() {
		oneHot(out.F64(), at.I32(), n)
	} else {
		oneHot(out.F32(), at.I32(), n)
	}
}

func oneHot[T cpu.Float](out []T, at []int32, n int) {
	for i, k := range at {
		out[i*n+int(k)] = 1
	}
}

// Above sets out to 1 where x is greater than limit and to 0 elsewhere. out may be x.
func Above(out, x *gpu.Tensor, limit float64) {
	const op = "Above"
	s := streamOf(op, out, x)
	sameShape(op, out, x)
	if s != nil {
		byWidth(out, kernels.AboveF32, kernels.AboveF64)(s, vectorGrid(out, out.Len()), out.Ptr(), x.Ptr(), limit, int64(out.Len()))
		return
	}
	if out.Double() {
		above(out.F64(), x.F64(), limit)
	} else {
		above(out.F32(), x.F32(), float32(limit))
	}
}

func above[T cpu.Float](out, x []T, limit T) {
	for i, v := range x {
		out[i] = 0
		if v > limit {
			out[i] = 1
		}
	}
}

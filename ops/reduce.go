package ops

import (
	"math"

	"github.com/fidlab/fidlab/cuda"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/cpu"
	"github.com/fidlab/fidlab/kernels"
)

// What a reduction sums, as the kernels number it.
const (
	plainValues int32 = iota
	products
	squaredDifferences
)

// reduction is a sum on a GPU. Sums are made in float64, in pieces and an order that
// depend on sizes alone.
type reduction struct {
	op           string
	out, a, b    cuda.Ptr
	from64, to64 bool // what a and b, and what out are of
	term         int32
	scale        float64
	acc          bool
}

const (
	reduceBlock = 256  // threads
	reduceShort = 1024 // up to which rows are summed by a warp or less
	reduceEach  = 32   // rows that a thread sums
)

// launch sums [outer, count, inner] to [outer, inner]; no size is 0.
func (r reduction) launch(s *cuda.Stream, outer, count, inner int) {
	if inner == 1 && count <= reduceShort {
		width := 1
		for width < 32 && 4*width < count {
			width *= 2
		}
		k := version(&r, kernels.SumRowsF32, kernels.SumRowsPartF32, kernels.SumRowsLastF32, kernels.SumRowsF64)
		k(s, r.grid(ceil(outer, reduceBlock/width)), r.out, r.a, r.b, r.term, r.scale, flag(r.acc), int64(outer), int32(count), int32(width))
		return
	}
	width := 1
	for width < inner && (width < 32 || width < reduceBlock && reduceBlock/width > count) {
		width *= 2
	}
	piece := reduceBlock / width * reduceEach
	pieces, chunks := ceil(count, piece), ceil(inner, width)
	if pieces > 1 {
		last := r
		part := s.Alloc(8 * outer * pieces * inner)
		r.out, r.to64, r.scale, r.acc = part, true, 1, false
		r.launchBlocks(s, outer, count, inner, width, piece, pieces, chunks)
		last.a, last.b, last.from64, last.term = part, 0, true, plainValues
		last.launch(s, outer, pieces, inner)
		s.Free(part)
		return
	}
	r.launchBlocks(s, outer, count, inner, width, piece, pieces, chunks)
}

func (r *reduction) launchBlocks(s *cuda.Stream, outer, count, inner, width, piece, pieces, chunks int) {
	k := version(r, kernels.SumF32, kernels.SumPartF32, kernels.SumLastF32, kernels.SumF64)
	k(s, r.grid(outer*pieces*chunks), r.out, r.a, r.b, r.term, r.scale, flag(r.acc), int64(count), int64(inner),
		int32(width), int64(piece), int32(pieces), int32(chunks))
}

// version is the kernel for r's types.
func version[F any](r *reduction, f32, part, last, f64 F) F {
	switch {
	case r.from64 && r.to64:
		return f64
	case r.from64:
		return last
	case r.to64:
		return part
	}
	return f32
}

func (r *reduction) grid(blocks int) cuda.Grid {
	if blocks > math.MaxInt32 {
		fail(r.op, "a sum of %d blocks of a GPU, more than 2^31-1; use a smaller batch", blocks)
	}
	return cuda.Grid{X: blocks, Y: 1, Z: 1, BX: reduceBlock, BY: 1, BZ: 1}
}

// launchSumTo sums over one group of neighbouring axes after the other, from the last.
// What is between two of them is float64.
func launchSumTo(op string, s *cuda.Stream, x *axes, out, a, b *gpu.Tensor, acc bool) {
	groups := 0
	for i := range x.k {
		if x.step[0][i] == 0 && x.size[i] > 1 {
			groups++
		}
	}
	if groups == 0 { // nothing repeats
		if b == nil {
			k := byWidth(out, kernels.AffineF32, kernels.AffineF64)
			k(s, vectorGrid(out, out.Len()), out.Ptr(), 1, a.Ptr(), 0, 0, 0, flag(acc), int64(out.Len()))
			return
		}
		flat := axes{k: 1}
		flat.size[0], flat.step[0][0], flat.step[1][0] = out.Len(), 1, 1
		launchPair(op, s, cpu.PairMul, out, a, b, acc, &flat)
		return
	}
	r := reduction{op: op, a: a.Ptr(), b: ptr(b), from64: a.Double(), scale: 1}
	if b != nil {
		r.term = products
	}
	n := a.Len()
	var held cuda.Ptr
	for i := x.k - 1; i >= 0; i-- {
		if x.step[0][i] != 0 || x.size[i] == 1 {
			continue
		}
		q := sumOf(x, i, n)
		n /= x.size[i]
		x.size[i] = 1
		if groups--; groups == 0 {
			r.out, r.to64, r.acc = out.Ptr(), out.Double(), acc
		} else {
			r.out, r.to64 = s.Alloc(8*n), true
		}
		r.launch(s, q.outer, q.sum, q.inner)
		s.Free(held)
		held = r.out
		r.a, r.b, r.from64, r.term = r.out, 0, true, plainValues
	}
}

// launchSquares is SumSquares on a GPU.
func launchSquares(s *cuda.Stream, t *gpu.Tensor) float64 {
	if t.Len() == 0 {
		return 0
	}
	var sum [1]float64
	to := s.Alloc(8)
	r := reduction{op: "SumSquares", out: to, a: t.Ptr(), b: t.Ptr(), from64: t.Double(), to64: true, term: products, scale: 1}
	r.launch(s, 1, t.Len(), 1)
	err := s.CopyOut(cuda.Bytes(sum[:]), to)
	s.Free(to)
	if err != nil {
		return math.NaN()
	}
	return sum[0]
}

package ops

import (
	"math"

	"github.com/fidlab/fidlab/cuda"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/cpu"
	"github.com/fidlab/fidlab/kernels"
)

// Products of 16-bit operands: on a GPU's tensor cores, on the CPU of operands that are widened to float32. Products are exact, sums
// and what follows them float32, and the result is rounded once.

// LinearResidual sets out [..., N] to residual + f(x·wᵀ + bias) as Linear does, of x [..., K] and w [N, K] that are both Float16 or both
// BFloat16, with one rounding. residual, like out and of its dtype, may be out, or nil.
func LinearResidual(out, pre, x, w, bias, residual *gpu.Tensor, f Func) {
	const op = "LinearResidual"
	if !x.DType().Half() {
		fail(op, "operands are %v, want float16 or bfloat16", x.DType())
	}
	linearOf(op, out, pre, x, w, bias, residual, f, false, false)
}

// productStream is where a product of a and b is launched, nil on the CPU, and whether its operands have 16 bits: what streamOf or halfStream
// checks. pre and residual are like the result.
func productStream(op string, out, a, b, bias, pre, residual *gpu.Tensor) (s *cuda.Stream, half bool) {
	if halves(out, a, b) {
		return halfStream(op, out, a, b, bias, pre, residual), true
	}
	return streamOf(op, out, pre, a, b, bias), false
}

// halves tells whether an operand of a product, or its result, has 16 bits.
func halves(out, a, b *gpu.Tensor) bool {
	return out.DType().Half() || a.DType().Half() || b.DType().Half()
}

// halfStream is streamOf for a product with operands of 16 bits: it panics unless a and b are of one such dtype, the result, pre and residual
// of it or float32, and the bias float32, those that are not nil.
func halfStream(op string, out, a, b, bias, pre, residual *gpu.Tensor) *cuda.Stream {
	dt := a.DType()
	if !dt.Half() || b.DType() != dt || out.DType() != dt && out.DType() != gpu.Float32 {
		fail(op, "operands are %v and %v, the result %v, want float16 or bfloat16 for both operands, and the same or float32 for the result",
			dt, b.DType(), out.DType())
	}
	if bias != nil && bias.DType() != gpu.Float32 {
		fail(op, "the bias is %v, want float32 beside operands of 16 bits", bias.DType())
	}
	for _, t := range [2]*gpu.Tensor{pre, residual} {
		if t != nil && t.DType() != out.DType() {
			fail(op, "an operand like the result is %v, the result %v, want one dtype", t.DType(), out.DType())
		}
	}
	return sameDevice(op, out, a, b, bias, pre, residual).Stream()
}

// launch16 is a product on a GPU whose operands have 16 bits, float16 or with bf16 bfloat16, at at and bt.
func (p *product) launch16(s *cuda.Stream, out *gpu.Tensor, at, bt cuda.Ptr, bf16 bool, bias, pre, residual *gpu.Tensor, f Func) {
	size := p.batch * p.m * p.n
	if size == 0 {
		return
	}
	which, pieces := tileFor(p.m, p.n, p.k, p.batch, p.k/leastDepth, middleTile, largeTile, smallTile16)
	t := tiles16[which]
	tiles := ceil(p.m, t.rows) * ceil(p.n, t.cols)
	pieces, depth := depthOf(p.k, pieces)
	g := cuda.Grid{X: p.batch * tiles * pieces, Y: 1, Z: 1, BX: t.threads, BY: 1, BZ: 1, Shared: t.shared}
	if max(p.m, p.n, p.k) > math.MaxInt32 {
		fail(p.op, "a product of %d by %d by %d, want sizes below 2^31 on a GPU", p.m, p.k, p.n)
	}
	if g.X > math.MaxInt32 || ceil(size, vectorBlock) > math.MaxInt32 {
		fail(p.op, "%d products of %d by %d take more than 2^31-1 blocks of a GPU; use a smaller batch", p.batch, p.m, p.n)
	}
	lda, ldb, flags := p.strides()
	k := [4][2]func(*cuda.Stream, cuda.Grid, cuda.Ptr, cuda.Ptr, cuda.Ptr, cuda.Ptr, cuda.Ptr, cuda.Ptr, int32, int32, int32, int32, int32, int64, int64,
		int32, float64, int32, int32, int32, float64, float64, int32, int32){
		largeTile:   {kernels.Matmul16LargeF16, kernels.Matmul16LargeBf16},
		middleTile:  {kernels.Matmul16F16, kernels.Matmul16Bf16},
		smallTile16: {kernels.Matmul16SmallF16, kernels.Matmul16SmallBf16},
	}[which][number(bf16)]
	call := func(to, keep, bias, residual cuda.Ptr, acc, floats bool, f Func) {
		k(s, g, to, keep, at, bt, bias, residual, int32(p.m), int32(p.n), int32(p.k), int32(lda), int32(ldb), int64(p.strideA), int64(p.strideB), flags,
			p.alpha, number(acc), number(floats), int32(f.f), f.a, f.b, int32(pieces), int32(depth))
	}
	if pieces == 1 {
		call(out.Ptr(), ptr(pre), ptr(bias), ptr(residual), p.acc, out.DType() == gpu.Float32, f)
		return
	}
	part := s.Alloc(pieces * size * 4)
	call(part, 0, 0, 0, false, true, Identity)
	sum := byDType(out.DType(), kernels.Matmul16SumF32, nil, kernels.Matmul16SumF16, kernels.Matmul16SumBf16)
	sum(s, cuda.Grid1(size, vectorBlock, vectorBlock), out.Ptr(), ptr(pre), part, ptr(bias), ptr(residual), int32(p.batch), int32(p.m), int32(p.n), int32(pieces),
		number(p.acc), int32(f.f), f.a, f.b)
	s.Free(part)
}

// depthOf is how deep pieces of a sum of k products are, in whole steps, and how many that makes.
func depthOf(k, pieces int) (int, int) {
	depth := max(1, ceil(ceil(k, pieces), depth16)) * depth16
	return max(1, ceil(k, depth)), depth
}

// depth16 is the steps of k that a tile on tensor cores has.
const depth16 = 32

// narrowedOn is a float32 operand as bfloat16s, in memory that is given back.
func narrowedOn(s *cuda.Stream, x *gpu.Tensor) loan {
	if x.Len() == 0 {
		return loan{x.Ptr(), false}
	}
	p := s.Alloc(2 * x.Len())
	kernels.Narrow16Bf16(s, cuda.Grid1(x.Len(), 8*vectorBlock, vectorBlock), p, x.Ptr(), int64(x.Len()))
	return loan{p, true}
}

// run16 is a product of 16-bit operands on the CPU.
func (p *product) run16(out, a, b, bias, pre, residual *gpu.Tensor, f Func) {
	a, b = widened(a), widened(b)
	in32(out, pre, p.acc, residual != nil, func(out, pre *gpu.Tensor) { // the residual may be out
		p.run(out, a, b, bias, pre, f)
		if n := out.Len(); residual != nil {
			cpu.PairRows(cpu.PairAdd, false, 1, n, out.F32(), n, out.F32(), n, 1, widened(residual).F32(), n, 1)
		}
	})
}

// in32 calls f with tensors of float32 for out and pre, which may be nil, on the CPU, and rounds what f sets them to. With old f's out
// holds what out does; with fresh it is not out's memory.
func in32(out, pre *gpu.Tensor, old, fresh bool, f func(out, pre *gpu.Tensor)) {
	out32, pre32 := out, pre
	if fresh || out.DType().Half() {
		out32 = out.Device().New(gpu.Float32, out.Shape()...)
		if old {
			copy(out32.F32(), widened(out).F32())
		}
	}
	if pre != nil && pre.DType().Half() {
		pre32 = pre.Device().New(gpu.Float32, pre.Shape()...)
	}
	f(out32, pre32)
	narrowed(out, out32)
	if pre != nil {
		narrowed(pre, pre32)
	}
}

// widened is t on the CPU in float32, t itself where it is that.
func widened(t *gpu.Tensor) *gpu.Tensor {
	if !t.DType().Half() {
		return t
	}
	v := make([]float32, t.Len())
	widen16(v, t.U16(), t.DType() == gpu.BFloat16)
	return t.Device().From(v, t.Shape()...)
}

// narrowed sets to, on the CPU, to what from holds in float32.
func narrowed(to, from *gpu.Tensor) {
	switch {
	case to.DType().Half():
		narrow16(to.U16(), from.F32(), to.DType() == gpu.BFloat16)
	case to != from:
		copy(to.F32(), from.F32())
	}
}

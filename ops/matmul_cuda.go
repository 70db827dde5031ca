package ops

import (
	"math"

	"github.com/fidlab/fidlab/cuda"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/kernels"
)

// How products are cut on a GPU: by sizes alone, so that bits are equal on all.
const (
	fullBlocks  = 264 // that many keep any GPU busy
	leastDepth  = 256 // of a piece of K
	depthUnit   = 16  // of which pieces of K are multiples
	smallTile   = 64  // edge of the tiles of small float32 products
	matmulTile  = 128 // and of the others
	matmulCols  = 64  // columns of float64 tiles
	sharedTile  = 67584
	sharedSmall = 17408
	sharedF64   = 61440
)

// largeTiles is how many tiles of 128 by 128 a float32 product has at least; fewer, and it takes
// small ones. A variable so that tests see both at small sizes.
var largeTiles = fullBlocks / 2

// launch is run on a GPU. A long sum over K of a small result is cut into pieces, whose
// products are added up by a second kernel.
func (p *product) launch(s *cuda.Stream, out, a, b, bias, pre *gpu.Tensor, f Func) {
	size := p.batch * p.m * p.n
	if size == 0 {
		return
	}
	if max(p.m, p.n, p.k) > math.MaxInt32 {
		fail(p.op, "a product of %d by %d by %d, want sizes below 2^31 on a GPU", p.m, p.k, p.n)
	}
	k, g := byWidth(out, kernels.MatmulF32, kernels.MatmulF64), cuda.Grid{Y: 1, Z: 1, BX: 128, BY: 1, BZ: 1, Shared: sharedF64}
	tiles := ceil(p.m, matmulTile) * ceil(p.n, matmulCols)
	if !out.Double() {
		tiles, g.BX, g.Shared = ceil(p.m, matmulTile)*ceil(p.n, matmulTile), 256, sharedTile
		// Small tiles run at two thirds of the speed, but waste less and are more.
		if small := ceil(p.m, smallTile) * ceil(p.n, smallTile); p.batch*tiles < largeTiles || small < 3*tiles {
			k, tiles, g.Shared = kernels.MatmulSmallF32, small, sharedSmall
		}
	}
	pieces, depth := p.pieces(p.batch * tiles)
	if g.X = p.batch * tiles * pieces; g.X > math.MaxInt32 || ceil(size, vectorBlock) > math.MaxInt32 {
		fail(p.op, "%d products of %d by %d take more than 2^31-1 blocks of a GPU; use a smaller batch", p.batch, p.m, p.n)
	}
	lda, ldb, flags := p.strides()
	at, bt := a.Ptr(), b.Ptr()
	call := func(to, keep, bias cuda.Ptr, acc bool, f Func) {
		k(s, g, to, keep, at, bt, bias, int32(p.m), int32(p.n), int32(p.k), int32(lda), int32(ldb),
			int64(p.strideA), int64(p.strideB), flags, p.alpha, number(acc), int32(f.f), f.a, f.b, int32(pieces), int32(depth))
	}
	if pieces == 1 {
		call(out.Ptr(), ptr(pre), ptr(bias), p.acc, f)
		return
	}
	part := s.Alloc(pieces * size * out.DType().Size())
	call(part, 0, 0, false, Identity)
	sum := byWidth(out, kernels.MatmulSumF32, kernels.MatmulSumF64)
	sum(s, cuda.Grid1(size, vectorBlock, vectorBlock), out.Ptr(), ptr(pre), part, ptr(bias), int32(p.batch), int32(p.m), int32(p.n), int32(pieces),
		number(p.acc), int32(f.f), f.a, f.b)
	s.Free(part)
}

// strides are from one row of each operand as it is stored to the next, and the kernels' flags.
func (p *product) strides() (lda, ldb int, flags int32) {
	lda, ldb, flags = p.k, p.n, 2 // the kernels' B is the transpose of ours
	if p.ta {
		lda, flags = p.m, flags|1
	}
	if p.tb {
		ldb, flags = p.k, flags&^2
	}
	return lda, ldb, flags
}

// pieces is into how many pieces K is cut, where there are so many blocks without, and
// how deep they are.
func (p *product) pieces(blocks int) (pieces, depth int) {
	pieces = max(1, min(ceil(fullBlocks, blocks), p.k/leastDepth))
	depth = max(1, ceil(ceil(p.k, pieces), depthUnit)) * depthUnit
	return max(1, ceil(p.k, depth)), depth
}

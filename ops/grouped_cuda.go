package ops

import (
	"math"

	"github.com/fidlab/fidlab/cuda"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/kernels"
)

// groupedGrid is the grid of one row of a product's tiles on a GPU, and their edges; large says whether
// float32 has the large ones, which small products and groups would waste.
func groupedGrid(double, large bool) (g cuda.Grid, rows, cols int) {
	switch g = (cuda.Grid{Y: 1, Z: 1, BX: 256, BY: 1, BZ: 1, Shared: sharedSmall}); {
	case double:
		g.BX, g.Shared = 128, sharedF64
		return g, matmulTile, matmulCols
	case large:
		g.Shared = sharedTile
		return g, matmulTile, matmulTile
	}
	return g, smallTile, smallTile
}

// fits panics when a size or a grid is beyond what kernels count with.
func (p *grouped) fits(blocks int) {
	if max(p.rows, p.n, p.k, p.groups+1) > math.MaxInt32 || blocks > math.MaxInt32 {
		fail(p.op, "%d rows in %d groups of %d by %d, want sizes and %d blocks below 2^31 on a GPU; use a smaller batch", p.rows, p.groups, p.n, p.k, blocks)
	}
}

// launch is do on a GPU. How many rows a group has is not known here: there are blocks for
// the worst case.
func (p *grouped) launch(s *cuda.Stream, out, pre, x, w, bias, offsets *gpu.Tensor, f Func) {
	// Large tiles where a group has about one of rows at least, and there are enough of them.
	each := p.rows / max(1, p.groups)
	large := each >= matmulTile && p.rows/matmulTile*ceil(p.n, matmulTile) >= largeTiles
	g, rows, cols := groupedGrid(out.Double(), large)
	g.X = (p.rows/rows + p.groups + 1) * ceil(p.n, cols)
	p.fits(g.X)
	k := byWidth(out, kernels.GroupedSmallF32, kernels.GroupedF64)
	if large && !out.Double() {
		k = kernels.GroupedF32
	}
	at, copied := numbers(s, offsets)
	flags := int32(2) // the kernel's matrices are transposes of ours
	if p.trans {
		flags = 0
	}
	k(s, g, out.Ptr(), ptr(pre), x.Ptr(), w.Ptr(), ptr(bias), at, int32(p.groups), int32(p.rows), int32(p.n), int32(p.k),
		flags, number(p.acc), int32(f.f), f.a, f.b)
	s.Free(copied)
}

// launch16 is launch of 16-bit operands.
func (p *grouped) launch16(s *cuda.Stream, out, pre, x, w, bias, offsets *gpu.Tensor, f Func) {
	which := smallTile16 // large tiles as in launch
	if p.rows/max(1, p.groups) >= matmulTile && p.rows/matmulTile*ceil(p.n, matmulTile) >= largeTiles {
		which = middleTile
	}
	t := tiles16[which]
	g := cuda.Grid{X: (p.rows/t.rows + p.groups + 1) * ceil(p.n, t.cols), Y: 1, Z: 1, BX: t.threads, BY: 1, BZ: 1, Shared: t.shared}
	p.fits(g.X)
	k := byDType(x.DType(), nil, nil, kernels.Grouped16SmallF16, kernels.Grouped16SmallBf16)
	if which == middleTile {
		k = byDType(x.DType(), nil, nil, kernels.Grouped16F16, kernels.Grouped16Bf16)
	}
	at, copied := numbers(s, offsets)
	flags := int32(2) // the kernel's matrices are transposes of ours
	if p.trans {
		flags = 0
	}
	k(s, g, out.Ptr(), ptr(pre), x.Ptr(), w.Ptr(), ptr(bias), at, int32(p.groups), int32(p.rows), int32(p.n), int32(p.k),
		flags, number(p.acc), number(out.DType() == gpu.Float32), int32(f.f), f.a, f.b)
	s.Free(copied)
}

// cutRows is into how many pieces the rows of every group are cut where there are so many
// blocks without: groups of a middle size get pieces of leastDepth rows.
func (p *grouped) cutRows(blocks int) int {
	return max(1, min(ceil(fullBlocks, blocks), p.rows/max(1, p.groups)/leastDepth))
}

func (p *grouped) launchWeights(s *cuda.Stream, dw, dy, x, offsets *gpu.Tensor) {
	large := p.groups*ceil(p.n, matmulTile)*ceil(p.k, matmulTile) >= largeTiles
	g, rows, cols := groupedGrid(dw.Double(), large)
	blocks := p.groups * ceil(p.n, rows) * ceil(p.k, cols)
	pieces := p.cutRows(blocks)
	g.X = blocks * pieces
	p.fits(g.X)
	k := byWidth(dw, kernels.GroupedWeightsSmallF32, kernels.GroupedWeightsF64)
	if large && !dw.Double() {
		k = kernels.GroupedWeightsF32
	}
	p.inPieces(s, dw, offsets, pieces, p.n, p.k, func(to, at cuda.Ptr, acc bool) {
		k(s, g, to, dy.Ptr(), x.Ptr(), at, int32(p.rows), int32(p.n), int32(p.k), int32(pieces), number(acc))
	})
}

func (p *grouped) launchSum(s *cuda.Stream, out, dy, offsets *gpu.Tensor) {
	blocks := p.groups * ceil(p.n, 32)
	pieces := p.cutRows(blocks)
	p.fits(blocks * pieces)
	k := byWidth(out, kernels.GroupedSumF32, kernels.GroupedSumF64)
	p.inPieces(s, out, offsets, pieces, 1, p.n, func(to, at cuda.Ptr, acc bool) {
		k(s, cuda.Grid{X: blocks * pieces, Y: 1, Z: 1, BX: 256, BY: 1, BZ: 1}, to, dy.Ptr(), at, int32(p.rows), int32(p.n), int32(pieces), number(acc))
	})
}

// inPieces runs f into out, or into its pieces, [groups, pieces, m, n], which it adds up.
func (p *grouped) inPieces(s *cuda.Stream, out, offsets *gpu.Tensor, pieces, m, n int, f func(to, at cuda.Ptr, acc bool)) {
	at, copied := numbers(s, offsets)
	if pieces == 1 {
		f(out.Ptr(), at, p.acc)
		s.Free(copied)
		return
	}
	part := s.Alloc(pieces * out.Len() * out.DType().Size())
	f(part, at, false)
	sum := byWidth(out, kernels.MatmulSumF32, kernels.MatmulSumF64)
	sum(s, cuda.Grid1(out.Len(), vectorBlock, vectorBlock), out.Ptr(), 0, part, 0, int32(p.groups), int32(m), int32(n), int32(pieces),
		number(p.acc), int32(Identity.f), 0, 0)
	s.Free(part)
	s.Free(copied)
}

package ops

import (
	"math"

	"github.com/fidlab/fidlab/cuda"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/kernels"
)

// convTile is the edge of the tiles of a convolution on a GPU, as a product of matrices.
const convTile = 64

// convGrid is for groups products of m by n, each for so many pieces of its sums over k.
func (p *conv) convGrid(op string, m, n, k, pieces int) cuda.Grid {
	g := cuda.Grid{X: p.groups * pieces * ceil(m, convTile) * ceil(n, convTile), Y: 1, Z: 1, BX: 256, BY: 1, BZ: 1}
	if max(m, n, k, g.X) > math.MaxInt32 {
		fail(op, "a product of %d by %d by %d in %d blocks, want fewer than 2^31 of each on a GPU; use a smaller batch", m, k, n, g.X)
	}
	return g
}

// launch is Conv2D on a GPU.
func (p *conv) launch(op string, out, x, w, bias *gpu.Tensor) {
	g := p.convGrid(op, p.n*p.oh*p.ow, p.o, p.rows(), 1)
	f := byWidth(out, kernels.ConvF32, kernels.ConvF64)
	f(out.Device().Stream(), g, out.Ptr(), x.Ptr(), w.Ptr(), ptr(bias), int32(p.n), int32(p.c), int32(p.h), int32(p.w), int32(p.o),
		int32(p.kh), int32(p.kw), int32(p.oh), int32(p.ow), int32(p.stride), int32(p.dilation), int32(p.pad[0]), int32(p.pad[2]), int32(p.groups), number(p.last))
}

// launchData is Conv2DBackwardData on a GPU.
func (p *conv) launchData(op string, dx, dy, w *gpu.Tensor, acc bool) {
	g := p.convGrid(op, p.n*p.h*p.w, p.c, p.o*p.kh*p.kw, 1)
	f := byWidth(dx, kernels.ConvDataF32, kernels.ConvDataF64)
	f(dx.Device().Stream(), g, dx.Ptr(), dy.Ptr(), w.Ptr(), int32(p.n), int32(p.c), int32(p.h), int32(p.w), int32(p.o),
		int32(p.kh), int32(p.kw), int32(p.oh), int32(p.ow), int32(p.stride), int32(p.dilation), int32(p.pad[0]), int32(p.pad[2]), int32(p.groups), number(p.last), number(acc))
}

// launchWeight is Conv2DBackwardWeight on a GPU. The sum over all pixels is cut into pieces as that of
// a product is, by sizes alone; a second kernel adds them up in order.
func (p *conv) launchWeight(op string, dw, dy, x *gpu.Tensor) {
	s := dw.Device().Stream()
	m, n, k := p.o, p.rows(), p.n*p.oh*p.ow
	sum := product{k: k}
	pieces, depth := sum.pieces(p.groups * ceil(m, convTile) * ceil(n, convTile))
	g := p.convGrid(op, m, n, k, pieces)
	f := byWidth(dw, kernels.ConvWeightF32, kernels.ConvWeightF64)
	call := func(to cuda.Ptr, acc bool) {
		f(s, g, to, dy.Ptr(), x.Ptr(), int32(p.n), int32(p.c), int32(p.h), int32(p.w), int32(p.o),
			int32(p.kh), int32(p.kw), int32(p.oh), int32(p.ow), int32(p.stride), int32(p.dilation), int32(p.pad[0]), int32(p.pad[2]), int32(p.groups), number(p.last),
			int32(pieces), int32(depth), number(acc))
	}
	if pieces == 1 {
		call(dw.Ptr(), true)
		return
	}
	part := s.Alloc(pieces * dw.Len() * dw.DType().Size())
	call(part, false)
	add := byWidth(dw, kernels.MatmulSumF32, kernels.MatmulSumF64)
	add(s, cuda.Grid1(dw.Len(), vectorBlock, vectorBlock), dw.Ptr(), 0, part, 0, int32(p.groups), int32(m), int32(n), int32(pieces), 1, int32(Identity.f), 0, 0)
	s.Free(part)
}

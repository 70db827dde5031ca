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

// operand is x as the kernels read it: rounded where the convolution rounds and x is not known to be.
func (p *conv) operand(s *cuda.Stream, x *gpu.Tensor, known bool) loan {
	return roundedOn(s, x, known || !p.bf16)
}

// launch is Conv2D on a GPU.
func (p *conv) launch(op string, out, x, w, bias *gpu.Tensor) {
	if q := p.with16(); q != nil {
		q.narrowed(op, out, x, w, bias, false)
		return
	}
	g := p.convGrid(op, p.n*p.oh*p.ow, p.o, p.rows(), 1)
	f, s := byWidth(out, kernels.ConvF32, kernels.ConvF64), out.Device().Stream()
	xl, wl := p.operand(s, x, false), p.operand(s, w, p.known)
	defer xl.free(s)
	defer wl.free(s)
	f(s, g, out.Ptr(), xl.p, wl.p, ptr(bias), int32(p.n), int32(p.c), int32(p.h), int32(p.w), int32(p.o),
		int32(p.kh), int32(p.kw), int32(p.oh), int32(p.ow), int32(p.stride), int32(p.dilation), int32(p.pad[0]), int32(p.pad[2]), int32(p.groups), number(p.last))
}

// launchData is Conv2DBackwardData on a GPU.
func (p *conv) launchData(op string, dx, dy, w *gpu.Tensor, acc bool) {
	if q := p.dataWith16(acc); q != nil {
		q.narrowed(op, dx, dy, w, nil, true)
		return
	}
	g := p.convGrid(op, p.n*p.h*p.w, p.c, p.o*p.kh*p.kw, 1)
	f, s := byWidth(dx, kernels.ConvDataF32, kernels.ConvDataF64), dx.Device().Stream()
	yl, wl := p.operand(s, dy, false), p.operand(s, w, p.known)
	defer yl.free(s)
	defer wl.free(s)
	f(s, g, dx.Ptr(), yl.p, wl.p, int32(p.n), int32(p.c), int32(p.h), int32(p.w), int32(p.o),
		int32(p.kh), int32(p.kw), int32(p.oh), int32(p.ow), int32(p.stride), int32(p.dilation), int32(p.pad[0]), int32(p.pad[2]), int32(p.groups), number(p.last), number(acc))
}

// launchWeight is Conv2DBackwardWeight on a GPU. The sum over all pixels is cut into pieces as that of
// a product is, by sizes alone; a second kernel adds them up in order.
func (p *conv) launchWeight(op string, dw, dy, x *gpu.Tensor) {
	if q := p.with16(); q != nil && p.o%8 == 0 {
		q.launchWeight(op, dw, dy, x)
		return
	}
	s := dw.Device().Stream()
	m, n, k := p.o, p.rows(), p.n*p.oh*p.ow
	sum := product{k: k}
	pieces, depth := sum.pieces(p.groups * ceil(m, convTile) * ceil(n, convTile))
	g := p.convGrid(op, m, n, k, pieces)
	f := byWidth(dw, kernels.ConvWeightF32, kernels.ConvWeightF64)
	xl, yl := p.operand(s, x, false), p.operand(s, dy, false)
	defer xl.free(s)
	defer yl.free(s)
	call := func(to cuda.Ptr, acc bool) {
		f(s, g, to, yl.p, xl.p, int32(p.n), int32(p.c), int32(p.h), int32(p.w), int32(p.o),
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

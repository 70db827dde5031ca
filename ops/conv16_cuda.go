package ops

import (
	"math"

	"github.com/fidlab/fidlab/cuda"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/kernels"
)

// Convolutions of float32 tensors whose operands are rounded to bfloat16, and their gradients, on tensor cores.

// with16 is the convolution for tensor cores, nil where it rounds no operands or pixels are not read 16 bytes at a time.
func (p *conv) with16() *conv16 {
	if !p.bf16 || !p.last || p.c%8 != 0 || max(p.h+p.pad[0]+p.pad[1], p.w+p.pad[2]+p.pad[3]) >= conv16Most {
		return nil
	}
	return &conv16{
		n: p.n, h: p.h, w: p.w, c: p.c, o: p.o, kh: p.kh, kw: p.kw, oh: p.oh, ow: p.ow, strideH: p.stride, strideW: p.stride, dilation: p.dilation,
		pad: p.pad, inPitch: p.c, outPitch: p.o, bf16: true,
	}
}

// dataWith16 is the gradient by the pictures as a convolution of that by the result with turned kernels, nil where it is none: with steps,
// and with padding beyond the kernels' reach.
func (p *conv) dataWith16(acc bool) *conv16 {
	high, wide := p.dilation*(p.kh-1), p.dilation*(p.kw-1)
	q := conv16{
		n: p.n, h: p.oh, w: p.ow, c: p.o, o: p.c, kh: p.kh, kw: p.kw, oh: p.h, ow: p.w, strideH: 1, strideW: 1, dilation: p.dilation,
		pad: [4]int{high - p.pad[0], high - p.pad[1], wide - p.pad[2], wide - p.pad[3]}, inPitch: p.o, outPitch: p.c, bf16: true, acc: acc,
	}
	if !p.bf16 || !p.last || p.stride != 1 || p.o%8 != 0 || min(q.pad[0], q.pad[1], q.pad[2], q.pad[3]) < 0 ||
		max(q.h+q.pad[0]+q.pad[1], q.w+q.pad[2]+q.pad[3]) >= conv16Most {
		return nil
	}
	return &q
}

// narrowed is launch of float32 operands, which are rounded to bfloat16s; the kernels are put in the order of the sum, turned for a
// gradient.
func (p *conv16) narrowed(op string, out, x, w, bias *gpu.Tensor, turned bool) {
	s, n := out.Device().Stream(), w.Len()
	o, c := p.o, p.c
	if turned {
		o, c = c, o
	}
	xl, packed := narrowedOn(s, x), s.Alloc(2*n)
	kernels.Conv16PackBf16(s, cuda.Grid1(n, vectorBlock, vectorBlock), packed, w.Ptr(), int32(o), int32(c), int32(p.kh*p.kw), number(turned))
	p.launch(op, out, xl.p, packed, ptr(bias))
	xl.free(s)
	s.Free(packed)
}

// launchWeight adds to dw the gradient by the kernels. The sum over all pixels is cut into pieces by sizes alone; a second kernel adds
// them up in order.
func (p *conv16) launchWeight(op string, dw, dy, x *gpu.Tensor) {
	s, m := dw.Device().Stream(), p.n*p.oh*p.ow
	which, pieces := tileFor(p.o, p.k(), m, 1, m/leastDepth, middleTile, smallTile16)
	t, k := tiles16[which], kernels.Conv16WeightBf16
	if which == smallTile16 {
		k = kernels.Conv16WeightSmallBf16
	}
	tiles := ceil(p.o, t.rows) * ceil(p.k(), t.cols)
	pieces, depth := depthOf(m, pieces)
	g := cuda.Grid{X: pieces * tiles, Y: 1, Z: 1, BX: t.threads, BY: 1, BZ: 1, Shared: t.shared}
	if max(m, p.n*p.h*p.w, p.k(), g.X) > math.MaxInt32 {
		fail(op, "%d pictures of %d×%d are too many for a GPU, want fewer than 2^31 pixels; use a smaller batch", p.n, p.h, p.w)
	}
	xl, yl, part := narrowedOn(s, x), narrowedOn(s, dy), s.Alloc(4*pieces*dw.Len())
	k(s, g, part, yl.p, xl.p, int32(p.n), int32(p.h), int32(p.w), int32(p.c), int32(p.o), int32(p.kh), int32(p.kw), int32(p.oh), int32(p.ow),
		int32(p.strideH), int32(p.strideW), int32(p.dilation), int32(p.pad[0]), int32(p.pad[2]), int32(depth))
	kernels.Conv16WeightSumF32(s, cuda.Grid1(dw.Len(), vectorBlock, vectorBlock), dw.Ptr(), part, int32(p.o), int32(p.c), int32(p.kh*p.kw), int32(pieces))
	xl.free(s)
	yl.free(s)
	s.Free(part)
}

package main

import (
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/ops"
)

// resBlock is a residual block of a U-Net with a time embedding added between its halves.
type resBlock struct {
	n1, n2     *nn.GroupNorm
	c1, c2, sk *nn.Conv2D
	emb        *nn.Linear
}

func lastConv(s nn.Scope, in, out, k int) *nn.Conv2D {
	l := nn.NewConv2D(s, in, out, k)
	l.Config.Last = true
	return l
}

func lastNorm(s nn.Scope, ch int) *nn.GroupNorm {
	l := nn.NewGroupNorm(s, 8, ch)
	l.Last = true
	return l
}

func newResBlock(s nn.Scope, in, out, emb int) *resBlock {
	r := &resBlock{
		n1: lastNorm(s.At("norm1"), in).Then(ops.SiLU), n2: lastNorm(s.At("norm2"), out).Then(ops.SiLU), emb: nn.NewLinear(s.At("emb"), emb, out),
		c1: lastConv(s.At("conv1"), in, out, 3), c2: lastConv(s.At("conv2"), out, out, 3),
	}
	if in != out {
		r.sk = lastConv(s.At("skip"), in, out, 1)
	}
	return r
}

func (r *resBlock) forward(x, e *nn.Var) *nn.Var {
	h := r.c1.Forward(r.n1.Forward(x))
	k := r.emb.Forward(e)
	h = h.Add(k.Reshape(k.Shape()[0], 1, 1, k.Shape()[1]))
	h = r.c2.Forward(r.n2.Forward(h))
	if r.sk != nil {
		x = r.sk.Forward(x)
	}
	return x.Add(h)
}

// unet is UNet of networks.py, channels last: 28×28 pixels, widths 32, 64, 64, attention at 7×7,
// 0.51 M parameters.
type unet struct {
	time                       *nn.TimeEmbed
	in, p1, p2, qkv, proj, out *nn.Conv2D
	d1, d2, m1, m2, u2, u1     *resBlock
	an, n                      *nn.GroupNorm
}

func newUNet(net *nn.Params, ch int) *unet {
	td := 4 * ch
	down := ops.ConvConfig{Stride: 2, Pad: [4]int{1, 1, 1, 1}, Last: true}
	u := &unet{
		time: nn.NewTimeEmbed(net.At("t"), td, nn.TimeOptions{Waves: ops.WaveConfig{Width: ch, CosFirst: true}}),
		in:   lastConv(net.At("in"), 1, ch, 3), d1: newResBlock(net.At("d1"), ch, ch, td), p1: lastConv(net.At("p1"), ch, ch, 3),
		d2: newResBlock(net.At("d2"), ch, 2*ch, td), p2: lastConv(net.At("p2"), 2*ch, 2*ch, 3),
		m1: newResBlock(net.At("m1"), 2*ch, 2*ch, td), an: lastNorm(net.At("an"), 2*ch),
		qkv: lastConv(net.At("qkv"), 2*ch, 6*ch, 1), proj: lastConv(net.At("proj"), 2*ch, 2*ch, 1), m2: newResBlock(net.At("m2"), 2*ch, 2*ch, td),
		u2: newResBlock(net.At("u2"), 4*ch, 2*ch, td), u1: newResBlock(net.At("u1"), 3*ch, ch, td), n: lastNorm(net.At("n"), ch).Then(ops.SiLU),
		out: lastConv(net.At("out"), ch, 1, 3),
	}
	u.p1.Config, u.p2.Config = down, down
	return u
}

func (u *unet) forward(x, times *nn.Var) *nn.Var {
	e := u.time.Forward(times).SiLU()
	h0 := u.d1.forward(u.in.Forward(x), e)
	h1 := u.d2.forward(u.p1.Forward(h0), e)
	h := u.m1.forward(u.p2.Forward(h1), e)
	s := h.Shape()
	n, c, l := s[0], s[3], s[1]*s[2]
	qkv := u.qkv.Forward(u.an.Forward(h)).Reshape(n, l, 3*c)
	part := func(i int) *nn.Var { return qkv.Slice(2, i*c, c).Reshape(n, l, 4, c/4) }
	att := nn.Attention(part(0), part(1), part(2), 0, nn.AttnMask{}).Reshape(s...)
	h = u.m2.forward(h.Add(u.proj.Forward(att)), e)
	h = u.u2.forward(nn.Concat(3, h.UpsampleLast(2), h1), e)
	h = u.u1.forward(nn.Concat(3, h.UpsampleLast(2), h0), e)
	return u.out.Forward(u.n.Forward(h))
}

package ops

import (
	"math"
	"slices"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/cpu"
	"github.com/fidlab/fidlab/kernels"
)

// GroupNormLast is GroupNorm of x [N, ..., C], whose channels are the last axis, with SiLU after
// it where silu is set: z·σ(z) of what GroupNorm makes, in the same pass.
func GroupNormLast(y, mean, inv, x *gpu.Tensor, silu bool, cfg GroupNormConfig) {
	const op = "GroupNormLast"
	n, ch, area := groupLastCheck(op, x, mean, inv, cfg)
	stream := streamOf(op, x, y)
	sameShape(op, x, y)
	if x.Len() == 0 {
		return
	}
	if stream != nil {
		f := byWidth(x, kernels.GroupNormLastF32, kernels.GroupNormLastF64)
		f(stream, groupGrid(op, x, n*cfg.Groups), y.Ptr(), mean.Ptr(), inv.Ptr(), x.Ptr(), ptr(cfg.Weight), ptr(cfg.Bias), ptr(cfg.Scale), ptr(cfg.Shift), cfg.Eps,
			int32(cfg.Groups), int32(ch/cfg.Groups), int32(area), number(silu))
		return
	}
	c := newCall(groupLastForward, x, mean, inv, cfg.Weight, cfg.Bias, cfg.Scale, cfg.Shift, y)
	c.n[0], c.n[1], c.n[2], c.n[3] = cfg.Groups, ch/cfg.Groups, area, ch
	c.f[0], c.silu = cfg.Eps, silu
	c.each(n)
}

// groupLastCheck is groupCheck of channels that are the last axis.
func groupLastCheck(op string, x, mean, inv *gpu.Tensor, cfg GroupNormConfig) (n, ch, area int) {
	streamOf(op, x, mean, inv, cfg.Weight, cfg.Bias, cfg.Scale, cfg.Shift)
	s := x.Shape()
	if len(s) < 2 {
		fail(op, "x has shape %v, want [N, ..., C]", s)
	}
	n, ch, area = s[0], s[len(s)-1], 1
	for _, d := range s[1 : len(s)-1] {
		area *= d
	}
	cfg.check(op, n, ch, mean, inv)
	return n, ch, area
}

func groupLastForward(c *call, _ *cpu.Worker, i int) {
	if c.double() {
		groupLastForwardOf[float64](c, i)
	} else {
		groupLastForwardOf[float32](c, i)
	}
}

func groupLastForwardOf[T cpu.Float](c *call, b int) {
	groups, per, area, ch := c.n[0], c.n[1], c.n[2], c.n[3]
	x, y := data[T](c.t[0])[b*area*ch:][:area*ch], data[T](c.t[7])[b*area*ch:][:area*ch]
	mean, inv := data[T](c.t[1])[b*groups:][:groups], data[T](c.t[2])[b*groups:][:groups]
	pool := columnPool[T]()
	s := pool.Get().(*scratch[T])
	buf := s.take(3 * ch)
	sums, centre, factor := buf[:ch], buf[ch:2*ch], buf[2*ch:]
	size := float64(per * area)

	clear(sums)
	cpu.ColSums(area, ch, sums, x, ch, nil, 0)
	for g := range groups {
		m := total(sums[g*per:][:per]) / size
		mean[g] = T(m)
		for k := range per {
			centre[g*per+k] = mean[g]
		}
	}
	clear(sums)
	cpu.ChannelSquares(area, ch, sums, x, centre)
	offset := sums // whose values are used up, group by group
	for g := range groups {
		v := 1 / math.Sqrt(total(sums[g*per:][:per])/size+c.f[0])
		inv[g] = T(v)
		for k := g * per; k < (g+1)*per; k++ {
			w, bias, scale, shift := channel[T](c, b, k)
			factor[k] = T(v * w * (1 + scale))
			offset[k] = T((bias-float64(mean[g])*v*w)*(1+scale) + shift)
		}
	}
	cpu.ChannelAffine(c.silu, area, ch, y, x, factor, offset)
	pool.Put(s)
}

// GroupNormLastBackward is GroupNormBackward for GroupNormLast: dy is the gradient by what that
// gave, after SiLU where silu is set.
func GroupNormLastBackward(dx *gpu.Tensor, acc bool, grads NormGrads, dy, x, mean, inv *gpu.Tensor, silu bool, cfg GroupNormConfig) {
	const op = "GroupNormLastBackward"
	n, ch, area := groupLastCheck(op, x, mean, inv, cfg)
	stream := streamOf(op, x, dx, dy, grads.Weight, grads.Bias, grads.Scale, grads.Shift)
	sameShape(op, x, dx, dy)
	cfg.checkGrads(op, grads)
	if x.Len() == 0 {
		return
	}
	if stream != nil {
		sums, per, lanes := stream.Alloc(2*n*ch*x.DType().Size()), ch/cfg.Groups, 1
		for lanes < min(per, rowBlock) {
			lanes *= 2
		}
		f := byWidth(x, kernels.GroupNormLastBackF32, kernels.GroupNormLastBackF64)
		f(stream, groupGrid(op, x, n*cfg.Groups), dx.Ptr(), sums, x.Ptr(), dy.Ptr(), mean.Ptr(), inv.Ptr(), ptr(cfg.Weight), ptr(cfg.Bias), ptr(cfg.Scale), ptr(cfg.Shift),
			int32(cfg.Groups), int32(per), int32(area), int32(lanes), number(silu), number(acc))
		if grads != (NormGrads{}) {
			launchNormGrads(stream, grads, sums, x, cfg.Weight, cfg.Bias, cfg.Scale, ch, n, 1)
		}
		stream.Free(sums)
		return
	}
	c := newCall(groupLastBackward, x, mean, inv, cfg.Weight, cfg.Bias, cfg.Scale, cfg.Shift, dx, dy)
	c.n[0], c.n[1], c.n[2], c.n[3] = cfg.Groups, ch/cfg.Groups, area, ch
	c.acc, c.silu = acc, silu
	if c.double() {
		groupGrads[float64](c, n, ch, n, grads)
	} else {
		groupGrads[float32](c, n, ch, n, grads)
	}
}

func groupLastBackward(c *call, _ *cpu.Worker, i int) {
	if c.double() {
		groupLastBackwardOf[float64](c, i)
	} else {
		groupLastBackwardOf[float32](c, i)
	}
}

func groupLastBackwardOf[T cpu.Float](c *call, b int) {
	groups, per, area, ch := c.n[0], c.n[1], c.n[2], c.n[3]
	at := b * area * ch
	x, dx, dy := data[T](c.t[0])[at:][:area*ch], data[T](c.t[7])[at:][:area*ch], data[T](c.t[8])[at:][:area*ch]
	mean, inv := data[T](c.t[1])[b*groups:][:groups], data[T](c.t[2])[b*groups:][:groups]
	sums := scratchOf[T](c).v[2*b*ch:][:2*ch]
	pool := columnPool[T]()
	s := pool.Get().(*scratch[T])
	buf := s.take(7 * ch)
	sum, along, centre, a, off, p, q := buf[:ch], buf[ch:2*ch], buf[2*ch:3*ch], buf[3*ch:4*ch], buf[4*ch:5*ch], buf[5*ch:6*ch], buf[6*ch:]
	for k := range ch {
		g := k / per
		w, bias, scale, shift := channel[T](c, b, k)
		v := float64(inv[g])
		centre[k] = mean[g]
		a[k] = T(v * w * (1 + scale))
		off[k] = T((bias-float64(mean[g])*v*w)*(1+scale) + shift)
	}
	clear(buf[:2*ch])
	cpu.ChannelBackSums(c.silu, area, ch, sum, along, x, dy, a, off, centre)
	for g := range groups {
		v := float64(inv[g])
		var c1, c2 float64
		for k := g * per; k < (g+1)*per; k++ {
			w, _, scale, _ := channel[T](c, b, k)
			sums[2*k], sums[2*k+1] = sum[k], T(v*float64(along[k]))
			c1 += w * (1 + scale) * float64(sum[k])
			c2 += w * (1 + scale) * v * float64(along[k])
		}
		size := float64(per * area)
		c1, c2 = c1/size, c2/size
		for k := g * per; k < (g+1)*per; k++ {
			p[k] = a[k]
			q[k] = T(-v * v * c2)
			along[k] = T(v * (float64(mean[g])*v*c2 - c1)) // whose values are used up
		}
	}
	cpu.ChannelBack(c.silu, c.acc, area, ch, dx, x, dy, a, off, p, q, along)
	pool.Put(s)
}

// total is the sum in float64.
func total[T cpu.Float](x []T) (s float64) {
	for _, v := range x {
		s += float64(v)
	}
	return s
}

// check panics unless the parts fit n samples of ch channels.
func (cfg *GroupNormConfig) check(op string, n, ch int, mean, inv *gpu.Tensor) {
	if cfg.Groups < 1 || ch%cfg.Groups != 0 || !(cfg.Eps >= 0) {
		fail(op, "%d groups of %d channels, eps %g, want a divisor and eps >= 0", cfg.Groups, ch, cfg.Eps)
	}
	if mean.Len() != n*cfg.Groups || inv.Len() != n*cfg.Groups {
		fail(op, "mean has shape %v, inv %v, want %d elements each", mean.Shape(), inv.Shape(), n*cfg.Groups)
	}
	for _, t := range [...]*gpu.Tensor{cfg.Weight, cfg.Bias} {
		if t != nil && !slices.Equal(t.Shape(), []int{ch}) {
			fail(op, "weight or bias has shape %v, want [%d]", t.Shape(), ch)
		}
	}
	for _, t := range [...]*gpu.Tensor{cfg.Scale, cfg.Shift} {
		if t != nil && !slices.Equal(t.Shape(), []int{n, ch}) {
			fail(op, "scale or shift has shape %v, want [%d %d]", t.Shape(), n, ch)
		}
	}
}

// checkGrads panics unless each gradient has the size of its part.
func (cfg *GroupNormConfig) checkGrads(op string, grads NormGrads) {
	for _, s := range [...][2]*gpu.Tensor{{grads.Weight, cfg.Weight}, {grads.Bias, cfg.Bias}, {grads.Scale, cfg.Scale}, {grads.Shift, cfg.Shift}} {
		if s[0] != nil && (s[1] == nil || s[0].Len() != s[1].Len()) {
			fail(op, "a gradient of shape %v for a part that has another size or is missing", s[0].Shape())
		}
	}
}

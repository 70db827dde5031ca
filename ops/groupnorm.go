package ops

import (
	"math"

	"github.com/fidlab/fidlab/cuda"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/cpu"
	"github.com/fidlab/fidlab/kernels"
)

// GroupNormConfig says how groups of channels are normalised (Wu and He 2018, arXiv
// 1803.08494): u = (x - mean)/√(var + Eps)·Weight + Bias with mean and variance of a
// group's channels of one image, then y = u·(1 + Scale) + Shift.
type GroupNormConfig struct {
	Groups       int // a divisor of C
	Eps          float64
	Weight, Bias *gpu.Tensor // nil or [C]
	Scale, Shift *gpu.Tensor // nil or [N, C]
}

// GroupNorm sets y to x, [N, C, ...], normalised, and keeps each group's mean and
// 1/√(var + Eps) in mean and inv, of N·Groups elements. y may be x. It panics when
// shapes do not fit, and unless dtypes (float32 or float64) and devices agree.
func GroupNorm(y, mean, inv, x *gpu.Tensor, cfg GroupNormConfig) {
	const op = "GroupNorm"
	n, ch, area := groupCheck(op, x, mean, inv, cfg)
	s := streamOf(op, x, y)
	sameShape(op, x, y)
	if x.Len() == 0 {
		return
	}
	if s != nil {
		g := groupGrid(op, x, n*cfg.Groups)
		f := byWidth(x, kernels.GroupNormF32, kernels.GroupNormF64)
		f(s, g, y.Ptr(), mean.Ptr(), inv.Ptr(), x.Ptr(), ptr(cfg.Weight), ptr(cfg.Bias), ptr(cfg.Scale), ptr(cfg.Shift), cfg.Eps,
			int32(cfg.Groups), int32(ch/cfg.Groups), int32(area))
		return
	}
	c := newCall(groupForward, x, mean, inv, cfg.Weight, cfg.Bias, cfg.Scale, cfg.Shift, y)
	c.n[0], c.n[1], c.n[2] = cfg.Groups, ch/cfg.Groups, area
	c.f[0] = cfg.Eps
	c.each(n * cfg.Groups)
}

// groupGrid is a block a group.
func groupGrid(op string, x *gpu.Tensor, groups int) cuda.Grid {
	if x.Len()/groups > math.MaxInt32 || groups > math.MaxInt32 {
		fail(op, "%d groups of shape %v, want groups of fewer than 2^31 elements on a GPU", groups, x.Shape())
	}
	return cuda.Grid{X: groups, Y: 1, Z: 1, BX: rowBlock, BY: 1, BZ: 1}
}

func groupCheck(op string, x, mean, inv *gpu.Tensor, cfg GroupNormConfig) (n, ch, area int) {
	streamOf(op, x, mean, inv, cfg.Weight, cfg.Bias, cfg.Scale, cfg.Shift)
	s := x.Shape()
	if len(s) < 2 {
		fail(op, "x has shape %v, want [N, C, ...]", s)
	}
	n, ch, area = s[0], s[1], 1
	for _, d := range s[2:] {
		area *= d
	}
	cfg.check(op, n, ch, mean, inv)
	return n, ch, area
}

func groupForward(c *call, _ *cpu.Worker, i int) {
	if c.double() {
		groupForwardOf[float64](c, i)
	} else {
		groupForwardOf[float32](c, i)
	}
}

// channel is the factor and the offset of channel k of image b: of the weights alone,
// and with the modulation.
func channel[T cpu.Float](c *call, b, k int) (w, bias, scale, shift float64) {
	w = 1
	if t := c.t[3]; t != nil {
		w = float64(data[T](t)[k])
	}
	if t := c.t[4]; t != nil {
		bias = float64(data[T](t)[k])
	}
	at := b*c.n[0]*c.n[1] + k
	if t := c.t[5]; t != nil {
		scale = float64(data[T](t)[at])
	}
	if t := c.t[6]; t != nil {
		shift = float64(data[T](t)[at])
	}
	return w, bias, scale, shift
}

func groupForwardOf[T cpu.Float](c *call, i int) {
	b, g, per, area := i/c.n[0], i%c.n[0], c.n[1], c.n[2]
	p := cpu.Norm[T]{Eps: c.f[0], N: per * area}
	y := data[T](c.t[7])[i*p.N:][:p.N]
	p.Forward(1, y, data[T](c.t[1])[i:], data[T](c.t[2])[i:], data[T](c.t[0])[i*p.N:])
	for k := range per {
		w, bias, scale, shift := channel[T](c, b, g*per+k)
		o := y[k*area:][:area]
		cpu.Blend(o, false, w*(1+scale), o, 0, nil, bias*(1+scale)+shift)
	}
}

// GroupNormBackward sets dx to the gradient by x of a loss whose gradient by y is dy,
// or adds it to dx, and adds to the tensors of grads; mean and inv are GroupNorm's.
func GroupNormBackward(dx *gpu.Tensor, acc bool, grads NormGrads, dy, x, mean, inv *gpu.Tensor, cfg GroupNormConfig) {
	const op = "GroupNormBackward"
	n, ch, area := groupCheck(op, x, mean, inv, cfg)
	stream := streamOf(op, x, dx, dy, grads.Weight, grads.Bias, grads.Scale, grads.Shift)
	sameShape(op, x, dx, dy)
	cfg.checkGrads(op, grads)
	if x.Len() == 0 {
		return
	}
	if stream != nil {
		sums := stream.Alloc(2 * n * ch * x.DType().Size())
		threads := int32(32) // a warp has a small channel
		if area >= rowWarp {
			threads = rowBlock
		}
		f := byWidth(x, kernels.GroupNormBackF32, kernels.GroupNormBackF64)
		f(stream, groupGrid(op, x, n*cfg.Groups), dx.Ptr(), sums, x.Ptr(), dy.Ptr(), mean.Ptr(), inv.Ptr(), ptr(cfg.Weight), ptr(cfg.Scale),
			int32(cfg.Groups), int32(ch/cfg.Groups), int32(area), threads, number(acc))
		if grads != (NormGrads{}) {
			launchNormGrads(stream, grads, sums, x, cfg.Weight, cfg.Bias, cfg.Scale, ch, n, 1)
		}
		stream.Free(sums)
		return
	}
	c := newCall(groupBackward, x, mean, inv, cfg.Weight, cfg.Bias, cfg.Scale, cfg.Shift, dx, dy)
	c.n[0], c.n[1], c.n[2] = cfg.Groups, ch/cfg.Groups, area
	c.acc = acc
	if c.double() {
		groupGrads[float64](c, n, ch, n*cfg.Groups, grads)
	} else {
		groupGrads[float32](c, n, ch, n*cfg.Groups, grads)
	}
}

// groupGrads runs the items of c, which leave the sums of each channel, and adds up the gradients.
func groupGrads[T cpu.Float](c *call, n, ch, items int, g NormGrads) {
	buf := scratchOf[T](c).take(2 * n * ch) // Σ dy and Σ dy·(x - mean)·inv of each channel
	cpu.Join(items, c.run)
	weight, bias, dscale, dshift := data[T](g.Weight), data[T](g.Bias), data[T](g.Scale), data[T](g.Shift)
	for b := range n { // in order
		for k := range ch {
			sum, along := float64(buf[2*(b*ch+k)]), float64(buf[2*(b*ch+k)+1])
			w, off, scale, _ := channel[T](c, b, k)
			if dshift != nil {
				dshift[b*ch+k] += T(sum)
			}
			if dscale != nil {
				dscale[b*ch+k] += T(along*w + sum*off)
			}
			if weight != nil {
				weight[k] += T((1 + scale) * along)
			}
			if bias != nil {
				bias[k] += T((1 + scale) * sum)
			}
		}
	}
	c.drop()
}

func groupBackward(c *call, _ *cpu.Worker, i int) {
	if c.double() {
		groupBackwardOf[float64](c, i)
	} else {
		groupBackwardOf[float32](c, i)
	}
}

func groupBackwardOf[T cpu.Float](c *call, i int) {
	b, g, per, area := i/c.n[0], i%c.n[0], c.n[1], c.n[2]
	size := per * area
	x, dy, dx := data[T](c.t[0])[i*size:][:size], data[T](c.t[8])[i*size:][:size], data[T](c.t[7])[i*size:][:size]
	mean, inv := float64(data[T](c.t[1])[i]), float64(data[T](c.t[2])[i])
	sums := scratchOf[T](c).v[2*i*per:][:2*per]
	var c1, c2 float64
	for k := range per {
		d, v := dy[k*area:][:area], x[k*area:][:area]
		cpu.RowSums(1, area, sums[2*k:], d, area, nil, 0)
		cpu.RowSums(1, area, sums[2*k+1:], d, area, v, area)
		along := inv * (float64(sums[2*k+1]) - mean*float64(sums[2*k]))
		sums[2*k+1] = T(along)
		w, _, scale, _ := channel[T](c, b, g*per+k)
		c1 += w * (1 + scale) * float64(sums[2*k])
		c2 += w * (1 + scale) * along
	}
	c1, c2 = c1/float64(size), c2/float64(size)
	for k := range per {
		w, _, scale, _ := channel[T](c, b, g*per+k)
		cpu.Blend(dx[k*area:][:area], c.acc, inv*w*(1+scale), dy[k*area:][:area], -inv*inv*c2, x[k*area:][:area], inv*(mean*inv*c2-c1))
	}
}

package ops_test

import (
	"fmt"
	"math"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle/device"
	"github.com/fidlab/fidlab/ops"
)

// silu makes c, of a normalisation with SiLU after it, from the definitions: gradients are those of
// the normalisation for what SiLU hands back. What errors are relative to takes in that its
// derivative, at most 1.1, changes by half of an error of its argument at most.
func (c *normCase) silu() {
	c.run()
	before, scale, dy := c.y, c.scaleY, c.dy
	inside, worst := make([]float64, len(dy)), make([]float64, len(dy))
	for i, z := range before {
		s := 1 / (1 + math.Exp(-z))
		inside[i], worst[i] = dy[i]*s*(1+z*(1-s)), dy[i]*(1.1+scale[i]/2)
	}
	sizes := *c
	sizes.dy = worst
	sizes.run()
	c.dy, c.mean, c.inv = inside, nil, nil
	c.run()
	c.dy, c.scaleX, c.sizeW, c.sizeB, c.sizeSc, c.sizeS = dy, sizes.scaleX, sizes.sizeW, sizes.sizeB, sizes.sizeSc, sizes.sizeS
	for i, z := range before {
		c.y[i] = z / (1 + math.Exp(-z))
		c.scaleY[i] = 1.1*scale[i] + math.Abs(z)
	}
}

// turned is [n, area, ch] as [n, ch, area], or back with the two sizes exchanged.
func turned(v []float64, n, area, ch int) []float64 {
	out := make([]float64, len(v))
	for i := range v {
		b, a, k := i/(area*ch), i/ch%area, i%ch
		out[(b*ch+k)*area+a] = v[i]
	}
	return out
}

// Groups of one channel, of all and of more than a block has threads, of multiples of 16 bytes and
// not, with SiLU and without; in place.
func TestGroupNormLastOnDevices(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		for _, dt := range realDTypes {
			for _, s := range []struct{ n, groups, per, area, with int }{
				{1, 1, 1, 1, 0}, {2, 3, 2, 1, 15}, {3, 2, 4, 9, 15}, {2, 4, 1, 64, 3}, {1, 1, 300, 4, 15}, {2, 2, 3, 100, 12},
				{1, 2, 8, 130, 15}, {2, 1, 12, 70, 1}, {19, 2, 2, 4, 15}, {1, 2, 33, 20, 15},
			} {
				for _, silu := range []bool{false, true} {
					ch := s.groups * s.per
					c := &normCase{rows: s.n, own: 1, channels: ch, per: s.per, area: s.area, eps: 1e-5}
					x, v := linearInput(t, dev, dt, 54, s.n, s.area, ch)
					for i := range v {
						v[i] += 3
					}
					x.Set(float32s(v))
					v = read64(t, x)
					dy, dv := linearInput(t, dev, dt, 55, s.n, s.area, ch)
					add, old := linearInput(t, dev, dt, 56, s.n, s.area, ch)
					n := c.tensors(t, dev, dt, s.with)
					c.x, c.dy = turned(v, s.n, s.area, ch), turned(dv, s.n, s.area, ch)
					if silu {
						c.silu()
					} else {
						c.run()
					}
					for _, p := range []*[]float64{&c.y, &c.dx, &c.scaleY, &c.scaleX} {
						*p = turned(*p, s.n, ch, s.area)
					}
					cfg := ops.GroupNormConfig{Groups: s.groups, Eps: c.eps, Weight: n.weight, Bias: n.bias, Scale: n.scale, Shift: n.shift}
					y, mean, inv := x.Like(), dev.New(dt, s.n*s.groups), dev.New(dt, s.n*s.groups)
					ops.GroupNormLast(y, mean, inv, x, silu, cfg)
					ops.GroupNormLastBackward(add, true, ops.NormGrads{}, dy, x, mean, inv, silu, cfg)
					ops.GroupNormLastBackward(dy, false, n.grads, dy, x, mean, inv, silu, cfg)
					what := fmt.Sprintf("%v %+v silu %t", dt, s, silu)
					c.compare(t, what, dt, n, y, mean, inv, dy, add, old)
					ops.GroupNormLast(x, mean, inv, x, silu, cfg)
					sameValues(t, what+": in place", read64(t, x), read64(t, y))
				}
			}
		}
	})
}

func TestGroupNormLastMisuse(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		x, m := dev.Zeros(gpu.Float32, 2, 5, 6), dev.Zeros(gpu.Float32, 4)
		for words, f := range map[string]func(){
			"ops: GroupNormLast: 4 groups of 6 channels": func() { ops.GroupNormLast(x, m, m, x, true, ops.GroupNormConfig{Groups: 4}) },
			"ops: GroupNormLast: mean has shape [4]":     func() { ops.GroupNormLast(x, m, m, x, true, ops.GroupNormConfig{Groups: 3}) },
			"ops: GroupNormLast: shapes [2 5 6] and [2 6 5]": func() {
				ops.GroupNormLast(dev.Zeros(gpu.Float32, 2, 6, 5), m, m, x, true, ops.GroupNormConfig{Groups: 2})
			},
			"ops: GroupNormLastBackward: operand 1 is float64": func() {
				ops.GroupNormLastBackward(dev.Zeros(gpu.Float64, 2, 5, 6), false, ops.NormGrads{}, x, x, m, m, true, ops.GroupNormConfig{Groups: 2})
			},
			"ops: GroupNormLastBackward: a gradient of shape [6]": func() {
				ops.GroupNormLastBackward(x.Like(), false, ops.NormGrads{Weight: dev.Zeros(gpu.Float32, 6)}, x, x, m, m, true, ops.GroupNormConfig{Groups: 2})
			},
		} {
			mustPanic(t, words, words, f)
		}
	})
}

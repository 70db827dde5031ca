package ops_test

import (
	"fmt"
	"math"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle/device"
	"github.com/fidlab/fidlab/ops"
)

// normCase is a normalisation of x, [parts·own, channels, area], over groups of per channels of
// a row: rows of LayerNorm have area 1 and one group of all. Its parameters are values, nil where it
// has none; scale and shift have a row for each part.
type normCase struct {
	x, dy                       []float64
	weight, bias, scale, shift  []float64
	rows, own, channels, area   int
	per                         int
	eps                         float64
	rms                         bool
	y, dx, mean, inv            []float64
	dWeight, dBias, dSc, dSh    []float64
	sizeW, sizeB, sizeSc, sizeS []float64 // sums of absolute terms
	scaleY, scaleX              []float64 // what errors of y and dx are relative to
}

func (c *normCase) param(p []float64, at int, none float64) float64 {
	if p == nil {
		return none
	}
	return p[at]
}

// run does all of it in float64 by the definitions.
func (c *normCase) run() {
	n := len(c.x)
	c.y, c.dx, c.scaleY, c.scaleX = make([]float64, n), make([]float64, n), make([]float64, n), make([]float64, n)
	parts := c.rows / c.own
	for _, p := range []*[]float64{&c.dWeight, &c.dBias, &c.sizeW, &c.sizeB} {
		*p = make([]float64, c.channels)
	}
	for _, p := range []*[]float64{&c.dSc, &c.dSh, &c.sizeSc, &c.sizeS} {
		*p = make([]float64, parts*c.channels)
	}
	size := c.per * c.area
	for g := range n / size { // rows and groups
		row, first := g/(c.channels/c.per), g%(c.channels/c.per)*c.per
		x, dy := c.x[g*size:][:size], c.dy[g*size:][:size]
		var mean, var2, most float64
		if !c.rms {
			for _, v := range x {
				mean += v / float64(size)
			}
		}
		for _, v := range x {
			var2 += (v - mean) * (v - mean) / float64(size)
			most = max(most, math.Abs(v))
		}
		inv := 1 / math.Sqrt(var2+c.eps)
		c.mean, c.inv = append(c.mean, mean), append(c.inv, inv)
		var s1, s2, size1, size2 float64
		inner := make([]float64, size)
		for i, v := range x {
			ch := first + i/c.area
			at := row/c.own*c.channels + ch
			w, b := c.param(c.weight, ch, 1), c.param(c.bias, ch, 0)
			sc, sh := c.param(c.scale, at, 0), c.param(c.shift, at, 0)
			h := (v - mean) * inv
			c.y[g*size+i] = (h*w+b)*(1+sc) + sh
			c.scaleY[g*size+i] = (math.Abs(w)*(1+most*inv)+math.Abs(b))*(1+math.Abs(sc)) + math.Abs(sh)
			inner[i] = dy[i] * (1 + sc) * w
			s1, s2 = s1+inner[i]/float64(size), s2+inner[i]*h/float64(size)
			size1, size2 = size1+math.Abs(inner[i])/float64(size), size2+math.Abs(inner[i])*(math.Abs(h)+most*inv)/float64(size)
			c.dWeight[ch] += dy[i] * (1 + sc) * h
			c.dBias[ch] += dy[i] * (1 + sc)
			c.dSc[at] += dy[i] * (h*w + b)
			c.dSh[at] += dy[i]
			size := math.Abs(dy[i]) * (1 + math.Abs(sc))
			c.sizeW[ch] += size * (math.Abs(h) + most*inv)
			c.sizeB[ch] += size
			c.sizeSc[at] += math.Abs(dy[i]) * ((math.Abs(h)+most*inv)*math.Abs(w) + math.Abs(b))
			c.sizeS[at] += math.Abs(dy[i])
		}
		if c.rms {
			s1 = 0
		}
		for i, v := range x {
			h := (v - mean) * inv
			c.dx[g*size+i] = inv * (inner[i] - s1 - h*s2)
			c.scaleX[g*size+i] = inv * (math.Abs(inner[i]) + size1 + (math.Abs(h)+most*inv)*(size2+math.Abs(s2)))
		}
	}
}

// tensorsOf are the parameters and gradients of a case on a device, as bits say which there are.
type normTensors struct {
	weight, bias, scale, shift *gpu.Tensor
	grads                      ops.NormGrads
	old                        [4][]float64
}

func (c *normCase) tensors(t *testing.T, dev *gpu.Device, dt gpu.DType, with int) (n normTensors) {
	parts := c.rows / c.own
	make := func(bit int, p **gpu.Tensor, g **gpu.Tensor, v *[]float64, k int, shape ...int) {
		if with&bit == 0 {
			return
		}
		*p, *v = linearInput(t, dev, dt, uint64(60+bit), shape...)
		*g, n.old[k] = linearInput(t, dev, dt, uint64(80+bit), shape...)
	}
	make(1, &n.weight, &n.grads.Weight, &c.weight, 0, c.channels)
	make(2, &n.bias, &n.grads.Bias, &c.bias, 1, c.channels)
	make(4, &n.scale, &n.grads.Scale, &c.scale, 2, parts, c.channels)
	make(8, &n.shift, &n.grads.Shift, &c.shift, 3, parts, c.channels)
	return n
}

// compare holds results against those of run, within units of rounding of what they are sums of.
func (c *normCase) compare(t *testing.T, what string, dt gpu.DType, n normTensors, y, mean, inv, dx, add *gpu.Tensor, old []float64) {
	t.Helper()
	unit := linearUnit(dt) * (24 + float64(c.per*c.area)/16)
	list := func(name string, got, want, size []float64, units float64) {
		t.Helper()
		for i, v := range got {
			isNear(t, fmt.Sprintf("%s: %s %d", what, name, i), v, want[i], units*(math.Abs(want[i])+size[i]))
		}
	}
	list("y", read64(t, y), c.y, c.scaleY, unit)
	list("mean", read64(t, mean), c.mean, c.inv, unit*float64(len(c.x)))
	list("inv", read64(t, inv), c.inv, c.inv, 4*unit)
	list("dx", read64(t, dx), c.dx, c.scaleX, 2*unit)
	sum, size := make([]float64, len(old)), make([]float64, len(old))
	for i := range old {
		sum[i], size[i] = old[i]+c.dx[i], math.Abs(old[i])+c.scaleX[i]
	}
	list("dx added", read64(t, add), sum, size, 2*unit)
	units := 4*unit + linearUnit(dt)*float64(c.rows*c.area)/8
	for k, g := range []*gpu.Tensor{n.grads.Weight, n.grads.Bias, n.grads.Scale, n.grads.Shift} {
		if g == nil {
			continue
		}
		want := [][]float64{c.dWeight, c.dBias, c.dSc, c.dSh}[k]
		size := [][]float64{c.sizeW, c.sizeB, c.sizeSc, c.sizeS}[k]
		total, scale := make([]float64, len(want)), make([]float64, len(want))
		for i := range want {
			total[i], scale[i] = n.old[k][i]+want[i], math.Abs(n.old[k][i])+size[i]
		}
		list([]string{"dweight", "dbias", "dscale", "dshift"}[k], read64(t, g), total, scale, units)
	}
}

// Rows of a warp and of a block, one part and several, many rows for few columns, and all ways to
// have parameters; rows far from 0 for their spread.
func TestNormOnDevices(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		for _, dt := range realDTypes {
			for _, s := range []struct{ parts, own, d, with int }{
				{1, 1, 1, 0}, {1, 3, 7, 3}, {3, 5, 32, 15}, {2, 9, 40, 12}, {2, 1, 96, 4}, {5, 2, 33, 8}, {1, 4, 64, 15},
				{1, 300, 12, 3}, {2, 70, 20, 15}, {1, 3, 1024, 15}, {2, 2, 1028, 15}, {1, 2, 1100, 1}, {1, 1500, 4, 2}, {20, 3, 8, 15},
			} {
				for _, rms := range []bool{false, true} {
					c := &normCase{rows: s.parts * s.own, own: s.own, channels: s.d, per: s.d, area: 1, eps: 1e-5, rms: rms}
					x, v := linearInput(t, dev, dt, 51, c.rows, s.d)
					for i := range v {
						if i/s.d%3 == 2 {
							v[i] += 20
						}
					}
					x.Set(float32s(v))
					v = read64(t, x)
					dy, dv := linearInput(t, dev, dt, 52, c.rows, s.d)
					add, old := linearInput(t, dev, dt, 53, c.rows, s.d)
					n := c.tensors(t, dev, dt, s.with)
					c.x, c.dy = v, dv
					c.run()
					cfg := ops.NormConfig{RMS: rms, Eps: c.eps, Weight: n.weight, Bias: n.bias, Scale: n.scale, Shift: n.shift}
					y, mean, inv := x.Like(), dev.New(dt, c.rows), dev.New(dt, c.rows)
					ops.Norm(y, mean, inv, x, cfg)
					ops.NormBackward(add, true, ops.NormGrads{}, dy, x, mean, inv, cfg)
					ops.NormBackward(dy, false, n.grads, dy, x, mean, inv, cfg) // in place
					c.compare(t, fmt.Sprintf("%v %+v rms %t", dt, s, rms), dt, n, y, mean, inv, dy, add, old)
					ops.Norm(x, mean, inv, x, cfg)
					sameValues(t, fmt.Sprintf("%v %+v: in place", dt, s), read64(t, x), read64(t, y))
				}
			}
		}
	})
}

// Groups of one channel and of all, small and large areas, of a multiple of 16 bytes and not.
func TestGroupNormOnDevices(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		for _, dt := range realDTypes {
			for _, s := range []struct{ n, groups, per, area, with int }{
				{1, 1, 1, 1, 0}, {2, 3, 2, 1, 15}, {3, 2, 4, 9, 15}, {2, 4, 1, 64, 3}, {1, 1, 300, 4, 15}, {2, 2, 3, 100, 12},
				{1, 2, 2, 1025, 15}, {2, 1, 3, 1024, 1}, {19, 2, 2, 4, 15},
			} {
				ch := s.groups * s.per
				c := &normCase{rows: s.n, own: 1, channels: ch, per: s.per, area: s.area, eps: 1e-5}
				x, v := linearInput(t, dev, dt, 54, s.n, ch, s.area)
				for i := range v {
					v[i] += 3
				}
				x.Set(float32s(v))
				v = read64(t, x)
				dy, dv := linearInput(t, dev, dt, 55, s.n, ch, s.area)
				add, old := linearInput(t, dev, dt, 56, s.n, ch, s.area)
				n := c.tensors(t, dev, dt, s.with)
				c.x, c.dy = v, dv
				c.run()
				cfg := ops.GroupNormConfig{Groups: s.groups, Eps: c.eps, Weight: n.weight, Bias: n.bias, Scale: n.scale, Shift: n.shift}
				y, mean, inv := x.Like(), dev.New(dt, s.n*s.groups), dev.New(dt, s.n*s.groups)
				ops.GroupNorm(y, mean, inv, x, cfg)
				ops.GroupNormBackward(add, true, ops.NormGrads{}, dy, x, mean, inv, cfg)
				ops.GroupNormBackward(dy, false, n.grads, dy, x, mean, inv, cfg)
				c.compare(t, fmt.Sprintf("%v %+v", dt, s), dt, n, y, mean, inv, dy, add, old)
			}
		}
	})
}

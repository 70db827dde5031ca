package ops_test

import (
	"fmt"
	"math"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle/device"
	"github.com/fidlab/fidlab/ops"
)

// convCase is a convolution of n pictures of in channels, h by w, with kernels of kh by kw.
type convCase struct {
	n, in, h, w, out, kh, kw int
	cfg                      ops.ConvConfig
}

// convCases are ragged at every edge of a tile, with channels that are multiples of four and that
// are not, steps that leave pixels out, padding of each side, and sums over many pixels.
var convCases = []convCase{
	{n: 2, in: 3, h: 7, w: 5, out: 4, kh: 3, kw: 3, cfg: ops.Same(3)},
	{n: 1, in: 8, h: 9, w: 9, out: 68, kh: 3, kw: 3, cfg: ops.Same(3)},
	{n: 2, in: 66, h: 4, w: 5, out: 6, kh: 1, kw: 1},
	{n: 1, in: 4, h: 8, w: 7, out: 5, kh: 3, kw: 2, cfg: ops.ConvConfig{Stride: 2, Pad: [4]int{0, 1, 2, 0}}},
	{n: 1, in: 4, h: 7, w: 8, out: 4, kh: 4, kw: 4, cfg: ops.ConvConfig{Stride: 3, Pad: [4]int{3, 0, 1, 2}}},
	{n: 2, in: 4, h: 6, w: 6, out: 8, kh: 3, kw: 3, cfg: ops.ConvConfig{Dilation: 2, Pad: [4]int{2, 1, 2, 3}, Stride: 2}},
	{n: 1, in: 1, h: 1, w: 1, out: 1, kh: 1, kw: 1},
	{n: 3, in: 2, h: 20, w: 19, out: 3, kh: 3, kw: 3, cfg: ops.Same(3)},
	{n: 2, in: 6, h: 5, w: 6, out: 4, kh: 3, kw: 3, cfg: ops.ConvConfig{Groups: 2, Pad: [4]int{1, 1, 1, 1}}},
	{n: 2, in: 4, h: 20, w: 21, out: 6, kh: 3, kw: 3, cfg: ops.ConvConfig{Groups: 2, Pad: [4]int{1, 1, 1, 1}}},
	{n: 1, in: 5, h: 6, w: 4, out: 10, kh: 3, kw: 3, cfg: ops.ConvConfig{Groups: 5, Stride: 2, Pad: [4]int{1, 0, 0, 1}}},
}

// pairs calls f with the places of all elements that a convolution multiplies: in the result, in the
// pictures and in the kernels.
func (p convCase) pairs(f func(y, x, w int)) {
	g, s, d := max(1, p.cfg.Groups), max(1, p.cfg.Stride), max(1, p.cfg.Dilation)
	oh, ow := p.cfg.OutSize(p.h, p.w, p.kh, p.kw)
	c, o := p.in/g, p.out/g
	at := func(i, ch, r, q, channels, h, w int) int {
		if p.cfg.Last {
			return ((i*h+r)*w+q)*channels + ch
		}
		return ((i*channels+ch)*h+r)*w + q
	}
	for i := range p.n * p.out * oh * ow {
		b, ch, r, q := i/(p.out*oh*ow), i/(oh*ow)%p.out, i/ow%oh, i%ow
		for j := range c * p.kh * p.kw {
			y, x := r*s-p.cfg.Pad[0]+j/p.kw%p.kh*d, q*s-p.cfg.Pad[2]+j%p.kw*d
			if y >= 0 && y < p.h && x >= 0 && x < p.w {
				f(at(b, ch, r, q, p.out, oh, ow), at(b, ch/o*c+j/(p.kh*p.kw), y, x, p.in, p.h, p.w), ch*c*p.kh*p.kw+j)
			}
		}
	}
}

// shapes are those of the pictures, the result and the kernels.
func (p convCase) shapes() (x, y, w []int) {
	oh, ow := p.cfg.OutSize(p.h, p.w, p.kh, p.kw)
	w = []int{p.out, p.in / max(1, p.cfg.Groups), p.kh, p.kw}
	if p.cfg.Last {
		return []int{p.n, p.h, p.w, p.in}, []int{p.n, oh, ow, p.out}, w
	}
	return []int{p.n, p.in, p.h, p.w}, []int{p.n, p.out, oh, ow}, w
}

// sums are Σ of products and of their sizes, and the most terms of one.
type sums struct {
	v, size []float64
	terms   []int
}

func newSums(n int) sums { return sums{make([]float64, n), make([]float64, n), make([]int, n)} }

func (s sums) add(i int, v float64) {
	s.v[i] += v
	s.size[i] += math.Abs(v)
	s.terms[i]++
}

func (s sums) check(t *testing.T, what string, double bool, got []float64) {
	t.Helper()
	for i := range s.v {
		isNear(t, fmt.Sprintf("%s: element %d", what, i), got[i], s.v[i], off(double, s.terms[i], s.size[i]))
	}
}

// Convolutions and both gradients against their definition in float64, set and added.
func TestConvOnDevices(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		for _, dt := range realDTypes {
			for _, p := range convCases {
				for _, last := range []bool{false, true} {
					if last && p.cfg.Groups > 1 {
						continue
					}
					p.cfg.Last = last
					p.check(t, dev, dt)
				}
			}
		}
	})
}

func (p convCase) check(t *testing.T, dev *gpu.Device, dt gpu.DType) {
	t.Helper()
	xs, ys, ws := p.shapes()
	x, xv := linearInput(t, dev, dt, 61, xs...)
	w, wv := linearInput(t, dev, dt, 62, ws...)
	bias, bv := linearInput(t, dev, dt, 63, p.out)
	dy, dyv := linearInput(t, dev, dt, 64, ys...)
	dw, dwv := linearInput(t, dev, dt, 65, ws...)
	added, addedv := linearInput(t, dev, dt, 66, xs...)
	out, biased, dx := dev.New(dt, ys...), dev.New(dt, ys...), dev.New(dt, xs...)
	if p.cfg.BF16 { // operands are rounded; the bias and what is added to is not
		roundedValues(xv)
		roundedValues(wv)
		roundedValues(dyv)
		if p.cfg.KnownW {
			ops.RoundBF16(w, w)
		}
	}
	ops.Fill(dx, math.NaN()) // which nobody may read
	ops.Conv2D(out, x, w, nil, p.cfg)
	ops.Conv2D(biased, x, w, bias, p.cfg)
	ops.Conv2DBackwardData(dx, dy, w, p.cfg, false)
	ops.Conv2DBackwardData(added, dy, w, p.cfg, true)
	ops.Conv2DBackwardWeight(dw, dy, x, p.cfg)

	y, data, more, weight := newSums(len(dyv)), newSums(len(xv)), newSums(len(xv)), newSums(len(wv))
	p.pairs(func(i, j, k int) {
		y.add(i, xv[j]*wv[k])
		data.add(j, dyv[i]*wv[k])
		more.add(j, dyv[i]*wv[k])
		weight.add(k, dyv[i]*xv[j])
	})
	for j, v := range addedv {
		more.add(j, v)
	}
	for k, v := range dwv {
		weight.add(k, v)
	}
	what := fmt.Sprintf("%v %+v", dt, p)
	double := dt == gpu.Float64
	y.check(t, what, double, read64(t, out))
	data.check(t, what+": gradient by the pictures", double, read64(t, dx))
	more.check(t, what+": gradient by the pictures, added", double, read64(t, added))
	weight.check(t, what+": gradient by the kernels", double, read64(t, dw))
	for i := range y.v {
		ch := i / (ys[2] * ys[3]) % p.out
		if p.cfg.Last {
			ch = i % p.out
		}
		y.add(i, bv[ch])
	}
	y.check(t, what+": with a bias", double, read64(t, biased))
}

// The gradient by the kernels has the same bits however often it is made, and no pictures leave
// results and gradients as they should.
func TestConvOfNothingAndTwice(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		for _, last := range []bool{false, true} {
			p := convCase{n: 4, in: 4, h: 16, w: 16, out: 4, kh: 3, kw: 3, cfg: ops.Same(3)}
			p.cfg.Last = last
			xs, ys, ws := p.shapes()
			x, _ := linearInput(t, dev, gpu.Float32, 71, xs...)
			dy, _ := linearInput(t, dev, gpu.Float32, 72, ys...)
			var first []float64
			for range 3 {
				dw := dev.Zeros(gpu.Float32, ws...)
				ops.Conv2DBackwardWeight(dw, dy, x, p.cfg)
				got := read64(t, dw)
				if first == nil {
					first = got
				}
				sameValues(t, "the gradient by the kernels again", got, first)
			}
			p.n = 0
			xs, ys, _ = p.shapes()
			dw, dwv := linearInput(t, dev, gpu.Float32, 73, ws...)
			none, result := dev.Empty(xs...), dev.Empty(ys...)
			ops.Conv2D(result, none, dw, nil, p.cfg)
			ops.Conv2DBackwardData(none, result, dw, p.cfg, false)
			ops.Conv2DBackwardWeight(dw, result, none, p.cfg)
			sameValues(t, "the gradient by the kernels of no pictures", read64(t, dw), dwv)
		}
	})
}

func TestConvMisuse(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		x, w, y := dev.Zeros(gpu.Float32, 2, 3, 5, 5), dev.Zeros(gpu.Float32, 4, 3, 3, 3), dev.Zeros(gpu.Float32, 2, 4, 5, 5)
		for words, f := range map[string]func(){
			"ops: Conv2D: pictures [2 3 5 5] and kernels [4 2 3 3] in 1 groups": func() { ops.Conv2D(y, x, dev.Zeros(gpu.Float32, 4, 2, 3, 3), nil, ops.Same(3)) },
			"ops: Conv2D: the result has shape [2 4 5 5]":                       func() { ops.Conv2D(y, x, w, nil, ops.ConvConfig{}) },
			"ops: Conv2D: the bias has shape [3], want [4]":                     func() { ops.Conv2D(y, x, w, dev.Zeros(gpu.Float32, 3), ops.Same(3)) },
			"ops: Conv2D: operand 1 is float64, the first float32":              func() { ops.Conv2D(y, dev.Zeros(gpu.Float64, 2, 3, 5, 5), w, nil, ops.Same(3)) },
			"ops: Conv2DBackwardData: the result has shape [2 4 5 5]":           func() { ops.Conv2DBackwardData(x, y, w, ops.ConvConfig{}, false) },
			"ops: Conv2DBackwardWeight: stride -1":                              func() { ops.Conv2DBackwardWeight(w, y, x, ops.ConvConfig{Stride: -1}) },
			"ops: Upsample: shapes [2 3 5 5] and [2 4 5 5], want the second 2":  func() { ops.Upsample(y, x, 2, false) },
			"ops: UpsampleBackward: shape [2 3 5 5] and factor 0":               func() { ops.UpsampleBackward(x, x, 0, false, false) },
		} {
			mustPanic(t, words, words, f)
		}
	})
}

// Pixels repeated, to the last bit, and the gradients' sums.
func TestUpsampleOnDevices(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		for _, dt := range realDTypes {
			for _, s := range []struct{ n, c, h, w, k int }{{2, 3, 4, 5, 2}, {1, 8, 3, 3, 3}, {2, 4, 17, 16, 2}, {1, 1, 1, 1, 7}, {3, 5, 2, 4, 1}, {0, 2, 2, 2, 2}} {
				for _, last := range []bool{false, true} {
					small, big := []int{s.n, s.c, s.h, s.w}, []int{s.n, s.c, s.h * s.k, s.w * s.k}
					if last {
						small, big = []int{s.n, s.h, s.w, s.c}, []int{s.n, s.h * s.k, s.w * s.k, s.c}
					}
					from := func(i int) int { // which element of the small picture is element i
						if last {
							ch, col, row := i%s.c, i/s.c%big[2], i/s.c/big[2]
							return (row/s.k*s.w+col/s.k)*s.c + ch
						}
						col, row := i%big[3], i/big[3]
						return row/s.k*s.w + col/s.k
					}
					x, xv := linearInput(t, dev, dt, 81, small...)
					dy, dyv := linearInput(t, dev, dt, 82, big...)
					added, old := linearInput(t, dev, dt, 83, small...)
					out, dx := dev.New(dt, big...), dev.New(dt, small...)
					ops.Fill(dx, math.NaN())
					ops.Upsample(out, x, s.k, last)
					ops.UpsampleBackward(dx, dy, s.k, last, false)
					ops.UpsampleBackward(added, dy, s.k, last, true)
					want, grad, more := make([]float64, len(dyv)), newSums(len(xv)), newSums(len(xv))
					for j, v := range old {
						more.add(j, v)
					}
					for i, v := range dyv {
						want[i] = xv[from(i)]
						grad.add(from(i), v)
						more.add(from(i), v)
					}
					what := fmt.Sprintf("%v %+v last %v", dt, s, last)
					sameValues(t, what, read64(t, out), want)
					grad.check(t, what+": gradient", dt == gpu.Float64, read64(t, dx))
					more.check(t, what+": gradient, added", dt == gpu.Float64, read64(t, added))
				}
			}
		}
	})
}

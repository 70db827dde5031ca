package cpu

import (
	"fmt"
	"math"
	"testing"
)

// axisOf makes windows of the given number of taps, with weights of both signs.
func axisOf(in, out, taps int, seed uint32) ResampleAxis {
	a := ResampleAxis{Taps: taps, Start: make([]int32, out), Weight: make([]float64, out*taps)}
	for o := range out {
		a.Start[o] = int32(o * (in - taps) / max(out-1, 1))
	}
	for i := range a.Weight {
		seed = seed*1664525 + 1013904223
		a.Weight[i] = float64(int32(seed)) / (1 << 31)
	}
	return a
}

type resampleCase struct {
	inW, inH, outW, outH, hTaps, vTaps int
	clip, verticalFirst                bool
}

var resampleCases = []resampleCase{
	{13, 9, 17, 11, 4, 4, true, false},
	{13, 9, 7, 5, 2, 2, false, false},
	{13, 9, 6, 4, 5, 6, true, false},
	{1, 1, 5, 3, 1, 1, true, false},
	{40, 30, 9, 7, 1, 3, false, false},
	{5, 40, 8, 6, 3, 11, true, true},
	{31, 33, 29, 30, 4, 2, true, false},
}

func (c resampleCase) setup() (*Resample, []uint8, []float32) {
	r := &Resample{
		H: axisOf(c.inW, c.outW, c.hTaps, 1), V: axisOf(c.inH, c.outH, c.vTaps, 2),
		Clip: c.clip, VerticalFirst: c.verticalFirst, Scale: 1. / 127, Offset: -0.75,
	}
	pix := make([]uint8, 3*c.inW*c.inH)
	for i := range pix {
		pix[i] = uint8(i * i >> 3)
	}
	return r, pix, make([]float32, 3*c.outW*c.outH)
}

// The formula, in the documented order of sums and roundings.
func (c resampleCase) want(r *Resample, pix []uint8) []float32 {
	dst := make([]float32, 3*c.outW*c.outH)
	at := func(x, y, ch int) float64 { return float64(pix[3*(y*c.inW+x)+ch]) }
	along := func(value func(int) float64, a *ResampleAxis, o int) float64 {
		var s float64
		for k := range a.Taps {
			s += float64(value(int(a.Start[o])+k) * a.Weight[o*a.Taps+k])
		}
		return float64(float32(s))
	}
	for ch := range 3 {
		for y := range c.outH {
			for x := range c.outW {
				var v float64
				if c.verticalFirst {
					v = along(func(i int) float64 {
						return along(func(j int) float64 { return at(i, j, ch) }, &r.V, y)
					}, &r.H, x)
				} else {
					v = along(func(j int) float64 {
						return along(func(i int) float64 { return at(i, j, ch) }, &r.H, x)
					}, &r.V, y)
				}
				if c.clip {
					v = min(max(v, 0), 255)
				}
				dst[(ch*c.outH+y)*c.outW+x] = float32(float32(v)*r.Scale) + r.Offset
			}
		}
	}
	return dst
}

func TestResample(t *testing.T) {
	var s ResampleScratch
	for _, c := range resampleCases {
		r, pix, dst := c.setup()
		want := c.want(r, pix)
		before := calls.resample.Load()
		r.Run(dst, pix, c.inW, c.inH, &s)
		if nativeBuild && !c.verticalFirst && calls.resample.Load() == before {
			t.Errorf("%+v: the native function was not called", c)
		}
		twin := make([]float32, len(dst))
		p := resampler{Resample: r, img: pix, inW: 3 * c.inW, outW: c.outW, outH: c.outH, dst: twin}
		p.run(&s)
		for i, w := range want {
			if math.Float32bits(dst[i]) != math.Float32bits(w) || math.Float32bits(twin[i]) != math.Float32bits(w) {
				t.Errorf("%+v: value %d is %v, in Go %v, want %v", c, i, dst[i], twin[i], w)
				break
			}
		}
		if n := testing.AllocsPerRun(3, func() { r.Run(dst, pix, c.inW, c.inH, &s) }); n > 1 {
			t.Errorf("%+v: %v allocations", c, n)
		}
	}
}

func TestResampleMisuse(t *testing.T) {
	for name, spoil := range map[string]func(r *Resample, dst []float32, pix []uint8) ([]float32, []uint8){
		"short result":  func(_ *Resample, dst []float32, pix []uint8) ([]float32, []uint8) { return dst[1:], pix },
		"short picture": func(_ *Resample, dst []float32, pix []uint8) ([]float32, []uint8) { return dst, pix[3:] },
		"taps outside": func(r *Resample, dst []float32, pix []uint8) ([]float32, []uint8) {
			r.V.Start[len(r.V.Start)-1]++
			return dst, pix
		},
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			c := resampleCases[0]
			r, pix, dst := c.setup()
			dst, pix = spoil(r, dst, pix)
			r.Run(dst, pix, c.inW, c.inH, new(ResampleScratch))
		}()
	}
}

// 256² to 299² with four taps: 2.0 M products in double.
func BenchmarkResample(b *testing.B) {
	c := resampleCase{256, 256, 299, 299, 4, 4, true, false}
	r, pix, dst := c.setup()
	var s ResampleScratch
	for _, native := range []bool{true, false} {
		if native && !nativeBuild {
			continue
		}
		b.Run(fmt.Sprintf("native=%v", native), func(b *testing.B) {
			for b.Loop() {
				if native {
					r.Run(dst, pix, c.inW, c.inH, &s)
				} else {
					p := resampler{Resample: r, img: pix, inW: 3 * c.inW, outW: c.outW, outH: c.outH, dst: dst}
					p.run(&s)
				}
			}
		})
	}
}

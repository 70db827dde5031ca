package cpu

import (
	"math"
	"math/rand/v2"
	"testing"
)

func TestPool2D(t *testing.T) {
	before := calls.vec.Load()
	for i, p := range []Pool{
		{N: 1, C: 1, H: 1, W: 1, KH: 1, KW: 1},
		{N: 2, C: 5, H: 35, W: 33, KH: 3, KW: 3, StrideH: 2, StrideW: 2},
		{N: 1, C: 3, H: 17, W: 19, KH: 3, KW: 3, PadH: 1, PadW: 1},
		{N: 1, C: 3, H: 17, W: 19, KH: 3, KW: 3, PadH: 1, PadW: 1, CountPadding: true},
		{N: 3, C: 2, H: 9, W: 40, KH: 2, KW: 5, StrideH: 1, StrideW: 3, PadH: 1, PadW: 4},
		{N: 1, C: 70, H: 8, W: 8, KH: 8, KW: 8},
	} {
		r := rand.New(rand.NewPCG(20, uint64(i)))
		x := random32(r, p.N*p.C*p.H*p.W)
		oh, ow := p.OutSize()
		top, mean, twin := make([]float32, p.N*p.C*oh*ow), make([]float32, p.N*p.C*oh*ow), make([]float32, oh*ow)
		MaxPool2D(nil, &p, top, x)
		AvgPool2D(nil, &p, mean, x)
		q := p
		q.StrideH, q.StrideW = max(1, p.StrideH), max(1, p.StrideW)
		for n := range p.N * p.C {
			plane := x[n*p.H*p.W:][:p.H*p.W]
			goPool(&q, false, twin, plane, oh, ow)
			sameBits(t, "MaxPool2D", top[n*oh*ow:][:oh*ow], twin)
			goPool(&q, true, twin, plane, oh, ow)
			sameBits(t, "AvgPool2D", mean[n*oh*ow:][:oh*ow], twin)
			for y := range oh {
				for z := range ow {
					best, sum, abs, cells := math.Inf(-1), 0.0, 0.0, 0
					for kh := range p.KH {
						for kw := range p.KW {
							iy, ix := y*q.StrideH+kh-p.PadH, z*q.StrideW+kw-p.PadW
							if iy >= 0 && iy < p.H && ix >= 0 && ix < p.W {
								v := float64(plane[iy*p.W+ix])
								best, sum, abs, cells = max(best, v), sum+v, abs+math.Abs(v), cells+1
							}
						}
					}
					if p.CountPadding {
						cells = p.KH * p.KW
					}
					at := (n*oh+y)*ow + z
					if float64(top[at]) != best {
						t.Fatalf("%+v: maximum at (%d,%d) is %g, want %g", p, y, z, top[at], best)
					}
					if d := math.Abs(float64(mean[at]) - sum/float64(cells)); !(d <= float64(cells+1)/(1<<23)*abs/float64(cells)) {
						t.Fatalf("%+v: mean at (%d,%d) is %g, want %g", p, y, z, mean[at], sum/float64(cells))
					}
				}
			}
		}
	}
	x := make([]float32, 40)
	x[7] = float32(math.NaN())
	out := make([]float32, 38)
	MaxPool2D(nil, &Pool{N: 1, C: 1, H: 1, W: 40, KH: 1, KW: 3}, out, x)
	for i, v := range out {
		if (v != v) != (i >= 5 && i <= 7) {
			t.Errorf("window %d of a row with NaN at 7 is %g", i, v)
		}
	}
	ranNatively(t, "pooling", before, calls.vec.Load())
}

func BenchmarkMaxPool2D(b *testing.B) {
	p := Pool{N: 1, C: 64, H: 147, W: 147, KH: 3, KW: 3, StrideH: 2, StrideW: 2}
	oh, ow := p.OutSize()
	x, out := make([]float32, p.C*p.H*p.W), make([]float32, p.C*oh*ow)
	b.SetBytes(int64(4 * (len(x) + len(out))))
	for b.Loop() {
		MaxPool2D(nil, &p, out, x)
	}
}

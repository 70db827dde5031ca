package cpu

import (
	"fmt"
	"math"
	"testing"
)

// The three kinds against loops in float64, where oneDNN is there; without it all say so.
func TestTrainConv(t *testing.T) {
	testTrainConv3(t, false)
	testTrainConv3(t, true)
	if level := nativeBF16(); level > 0 && level < leastBF16 { // the instructions are there, and slow
		defer func(was int) { leastBF16 = was }(leastBF16)
		leastBF16 = level
		testTrainConv3(t, true)
	}
}

// testTrainConv3 has operands that are rounded where low is set.
func testTrainConv3(t *testing.T, low bool) {
	t.Helper()
	_, _, err := DNNL()
	native := err == nil
	cases := []TrainConv{
		{N: 3, C: 5, H: 9, W: 8, Out: 7, KH: 3, KW: 3, Stride: 1, Pad: [4]int{1, 1, 1, 1}},
		{N: 8, C: 32, H: 14, W: 14, Out: 64, KH: 3, KW: 3, Stride: 2, Pad: [4]int{1, 1, 1, 1}},
		{N: 2, C: 16, H: 7, W: 7, Out: 48, KH: 1, KW: 1, Stride: 1},
		{N: 2, C: 4, H: 6, W: 6, Out: 4, KH: 4, KW: 4, Stride: 2, Pad: [4]int{0, 2, 1, 1}},
		{N: 1, C: 1, H: 28, W: 28, Out: 32, KH: 3, KW: 3, Stride: 1, Pad: [4]int{1, 1, 1, 1}},
		{N: 2, C: 32, H: 28, W: 28, Out: 1, KH: 3, KW: 3, Stride: 1, Pad: [4]int{1, 1, 1, 1}},
		{N: 2, C: 5, H: 9, W: 8, Out: 7, KH: 3, KW: 3, Stride: 1, Pad: [4]int{2, 2, 2, 2}, Dilation: 2},
		{N: 3, C: 16, H: 1, W: 64, Out: 16, KH: 1, KW: 3, Stride: 1, Pad: [4]int{0, 0, 9, 9}, Dilation: 9},
		{N: 3, C: 16, H: 1, W: 64, Out: 32, KH: 1, KW: 4, Stride: 2, Pad: [4]int{0, 0, 1, 1}},
	}
	for _, p := range cases {
		p.Last = true
		cases = append(cases, p)
	}
	for i, p := range cases {
		oh, ow := p.OutSize()
		p.BF16, p.Known = low, low && i%3 == 0
		x, wt, y := noise[float32](p.N*p.C*p.H*p.W, 1), noise[float32](p.Out*p.C*p.KH*p.KW, 2), noise[float32](p.N*p.Out*oh*ow, 3)
		if p.Known {
			RoundBF16s(wt, wt)
		}
		exact := func(x []float32) []float32 {
			if !low {
				return x
			}
			y := make([]float32, len(x))
			goRound(1, len(x), y, len(x), x, len(x))
			return y
		}
		var bias []float32
		if i%2 == 0 {
			bias = noise[float32](p.Out, 4)
		}
		Do(func(w *Worker) {
			for kind := range 3 {
				want := p.reference(kind, exact(x), exact(wt), bias, exact(y))
				got := make([]float32, len(want))
				var ok bool
				switch kind {
				case 0:
					ok = p.Forward(w, got, x, wt, bias)
				case 1:
					ok = p.Data(w, got, y, wt)
				case 2:
					ok = p.Weights(w, got, y, x)
				}
				if ok != native {
					t.Fatalf("%+v, kind %d: done %v, want %v", p, kind, ok, native)
				}
				if !ok {
					continue
				}
				terms := float64([3]int{p.C * p.KH * p.KW, p.Out * p.KH * p.KW, p.N * oh * ow}[kind])
				for i := range got { // operands are within ±1
					if d := math.Abs(float64(got[i] - want[i])); d > (terms+2)*0x1p-24*math.Sqrt(terms)*4 {
						t.Fatalf("%s: element %d is %v, want %v", fmt.Sprintf("%+v, kind %d", p, kind), i, got[i], want[i])
					}
				}
			}
		})
	}
}

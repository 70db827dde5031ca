package cpu

import "fmt"

// ResampleAxis says how one axis of a picture is resampled: output o is the sum
// over k < Taps of Weight[o*Taps+k] times input Start[o]+k. Start never falls.
type ResampleAxis struct {
	Taps   int
	Start  []int32
	Weight []float64
}

// Resample is a separable resampling of an 8-bit RGB picture: first along the
// rows (H), then down the columns (V), or the other way round.
type Resample struct {
	H, V          ResampleAxis
	VerticalFirst bool
	Clip          bool // to 0..255, before scale and offset
	Scale, Offset float32
}

// ResampleScratch is the working memory of one Run at a time. The zero value is
// ready; it grows to what is needed and is then reused.
type ResampleScratch struct {
	line []float64
	ring []float64
	acc  []float64
}

// Run resamples pix, uint8 [h, w, 3], into dst, float32 [3, len(V.Start),
// len(H.Start)]. Sums are taken in float64 in the order of the taps; values are
// rounded to float32 after each pass, then clipped, and written as
// v*Scale + Offset. No product is fused with a sum, so the bits are the same on
// every machine and, given the weights, those of Pillow's float resize.
//
// It runs where the caller is: own C of a few hundred microseconds, or Go.
func (r *Resample) Run(dst []float32, pix []uint8, w, h int, s *ResampleScratch) {
	outW, outH := len(r.H.Start), len(r.V.Start)
	if len(pix) != 3*w*h || len(dst) != 3*outW*outH || len(r.H.Weight) != r.H.Taps*outW || len(r.V.Weight) != r.V.Taps*outH {
		panic(fmt.Sprintf("cpu: Resample: %d bytes of %dx%d to %d values of %dx%d with %d and %d weights of %d and %d taps",
			len(pix), w, h, len(dst), outW, outH, len(r.H.Weight), len(r.V.Weight), r.H.Taps, r.V.Taps))
	}
	for _, a := range [2]struct {
		ResampleAxis
		n int
	}{{r.H, w}, {r.V, h}} {
		if n := len(a.Start); a.Taps < 1 || a.Start[0] < 0 || int(a.Start[n-1])+a.Taps > a.n {
			panic(fmt.Sprintf("cpu: Resample: taps from %d to %d+%d of %d pixels", a.Start[0], a.Start[n-1], a.Taps, a.n))
		}
	}
	if r.VerticalFirst || r.V.Taps > maxNativeTaps || !nativeResample(r, dst, pix, w, s) {
		p := resampler{Resample: r, img: pix, inW: 3 * w, outW: outW, outH: outH, dst: dst}
		p.run(s)
	}
}

// maxNativeTaps bounds the pointers that the C function keeps on its stack.
const maxNativeTaps = 4096

func growTo[T any](s []T, n int) []T {
	if cap(s) < n {
		return make([]T, n)
	}
	return s[:n]
}

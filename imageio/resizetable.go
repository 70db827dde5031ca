package imageio

import "github.com/fidlab/fidlab/internal/cpu"

// table says how one axis is resampled. All outputs have the same number of
// taps, padded with zero weights: adding zeros changes no bit of a sum.
type table struct {
	cpu.ResampleAxis
	fixed []int32 // weights in units of 2^-22; pilU8 only
}

// fixedBits is Pillow's precision of 8-bit resampling: 32 bits less 8 for the
// pixel and 2 for the overshoot of the filters.
const fixedBits = 22

func (k ResizeKind) table(in, out int) *table {
	windows := make([][]float64, out)
	start := make([]int, out)
	scale := float64(in) / float64(out)
	scale32 := float32(in) / float32(out)
	pos := 0.5 * scale
	for o := range out {
		switch {
		case in == out:
			start[o], windows[o] = o, []float64{1}
		case k.method <= pilU8 && k.filter == Nearest:
			// Pillow adds up the position, so its rounding is repeated here.
			start[o], windows[o] = min(int(pos), in-1), []float64{1}
			pos += scale
		case k.method <= pilU8 || k.method == torchBilinearAA || k.method == torchBicubicAA:
			start[o], windows[o] = k.filter.window(o, in, scale)
		case k.method == torchBicubic:
			src := scale32*(float32(o)+0.5) - 0.5
			lo := floor32(src)
			t := float64(src - float32(lo))
			start[o], windows[o] = clampTaps(lo-1, in, []float64{
				cubic(t+1, -0.75), cubic(t, -0.75), cubic(1-t, -0.75), cubic(2-t, -0.75),
			})
		default:
			src := scale32 * float32(o)
			if k.method == torchBilinear {
				src = max(scale32*(float32(o)+0.5)-0.5, 0)
			}
			lo := int(src)
			t := float64(src - float32(lo))
			start[o], windows[o] = clampTaps(lo, in, []float64{1 - t, t})
		}
	}
	return pack(start, windows, in, k.method == pilU8)
}

func floor32(x float32) int {
	i := int(x)
	if float32(i) > x {
		i--
	}
	return i
}

// window is Pillow's window of output o: its first tap and normalised weights.
func (f Filter) window(o, in int, scale float64) (int, []float64) {
	stretch := max(scale, 1)
	support := f.support() * stretch
	centre := (float64(o) + 0.5) * scale
	lo := max(int(centre-support+0.5), 0)
	hi := min(int(centre+support+0.5), in)
	w := make([]float64, hi-lo)
	var sum float64
	for i := range w {
		w[i] = f.weight((float64(i+lo) - centre + 0.5) * (1 / stretch))
		sum += w[i]
	}
	if sum != 0 {
		for i := range w {
			w[i] /= sum
		}
	}
	return lo, w
}

// clampTaps moves the weight of taps outside [0, in) to the edge pixel.
func clampTaps(lo, in int, w []float64) (int, []float64) {
	first := min(max(lo, 0), in-1)
	last := min(max(lo+len(w)-1, 0), in-1)
	c := make([]float64, last-first+1)
	for i, v := range w {
		c[min(max(lo+i, first), last)-first] += v
	}
	return first, c
}

// pack pads the windows to one width, moving them left where they would leave
// the input.
func pack(start []int, windows [][]float64, in int, fixed bool) *table {
	taps := 1
	for _, w := range windows {
		taps = max(taps, len(w))
	}
	t := &table{ResampleAxis: cpu.ResampleAxis{
		Taps: taps, Start: make([]int32, len(start)), Weight: make([]float64, taps*len(start)),
	}}
	for o, w := range windows {
		s := min(start[o], in-taps)
		t.Start[o] = int32(s)
		copy(t.Weight[o*taps+start[o]-s:], w)
	}
	if fixed {
		t.fixed = make([]int32, len(t.Weight))
		for i, w := range t.Weight {
			half := 0.5
			if w < 0 {
				half = -0.5
			}
			t.fixed[i] = int32(w*(1<<fixedBits) + half)
		}
	}
	return t
}

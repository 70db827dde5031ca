package data

import (
	"math"

	"github.com/fidlab/fidlab/imageio"
)

// FromPixels makes the tensor of 8-bit pixels stored row by row with the
// channels of a pixel together: float32 [channels, h, w], v/127.5 − 1.
func FromPixels(pix []uint8, channels, h, w int) []float32 {
	x := make([]float32, channels*h*w)
	for p := range h * w {
		for c := range channels {
			x[c*h*w+p] = float32(float64(pix[p*channels+c])/127.5 - 1)
		}
	}
	return x
}

// ToImage is the picture of a tensor in [-1,1], float32 [channels, h, w] with one
// or three channels: (v+1)·127.5 rounded to the nearest level and clipped. It
// refuses another shape than the set's and values that are not finite, which
// no picture can hold.
func ToImage(set string, x []float32, channels, h, w, wantC, wantH, wantW int) (*imageio.Image, error) {
	if channels != wantC || h != wantH || w != wantW {
		return nil, Errorf("%s: the tensor is [%d,%d,%d]; want [%d,%d,%d], channels first", set, channels, h, w, wantC, wantH, wantW)
	}
	if len(x) != channels*h*w {
		return nil, Errorf("%s: %d values for the shape [%d,%d,%d]; want %d", set, len(x), channels, h, w, channels*h*w)
	}
	for i, v := range x {
		if math.IsNaN(float64(v)) || math.IsInf(float64(v), 0) {
			return nil, Errorf("%s: value %d of the tensor is %v; want finite values in [-1,1]", set, i, v)
		}
	}
	return imageio.FromPlanar(x, channels, h, w, 127.5, 127.5), nil
}

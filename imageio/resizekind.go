package imageio

import (
	"fmt"
	"math"
)

// Filter is one of Pillow's resampling filters.
type Filter uint8

// Pillow's filters. Nearest takes one pixel; the others are stretched by the
// shrink factor, which makes them antialiased.
const (
	Nearest Filter = iota
	Box
	Bilinear
	Bicubic // a = -0.5
	Lanczos // three lobes
)

var filterNames = [...]string{"nearest", "box", "bilinear", "bicubic", "lanczos"}

func (f Filter) String() string { return filterNames[f] }

// support is the half-width in output pixels of an enlarging resize.
func (f Filter) support() float64 { return [...]float64{0.5, 0.5, 1, 2, 3}[f] }

// weight is the filter's value at distance x.
func (f Filter) weight(x float64) float64 {
	switch f {
	case Bilinear:
		if x = math.Abs(x); x < 1 {
			return 1 - x
		}
	case Bicubic:
		return cubic(x, -0.5)
	case Lanczos:
		if -3 <= x && x < 3 {
			return sinc(x) * sinc(x/3)
		}
	default:
		if -0.5 < x && x <= 0.5 {
			return 1
		}
	}
	return 0
}

// cubic is Keys' convolution kernel with slope a at distance one.
func cubic(x, a float64) float64 {
	switch x = math.Abs(x); {
	case x < 1:
		return ((a+2)*x-(a+3))*x*x + 1
	case x < 2:
		return (((x-5)*x+8)*x - 4) * a
	}
	return 0
}

func sinc(x float64) float64 {
	if x == 0 {
		return 1
	}
	x *= math.Pi
	return math.Sin(x) / x
}

type method uint8

const (
	pilFloat method = iota
	pilU8
	torchBilinear
	torchBilinearAA
	torchBicubic
	tf1Bilinear
	torchBicubicAA
)

// ResizeKind names a way of resizing, to the last rounding. Compare with ==.
type ResizeKind struct {
	method   method
	filter   Filter
	pillow13 bool
}

// PILFloat is Pillow's resize of each channel as a float32 image (mode F),
// clipped to [0, 255] and not rounded: the way of clean-fid.
func PILFloat(f Filter) ResizeKind { return ResizeKind{method: pilFloat, filter: f} }

// PILU8 is Pillow's resize of the 8-bit image, rounded after each pass.
func PILU8(f Filter) ResizeKind { return ResizeKind{method: pilU8, filter: f} }

// The ways of the other tools.
var (
	// TorchBilinear has half-pixel centres and no antialias (align_corners
	// false): the way of pytorch-fid.
	TorchBilinear = ResizeKind{method: torchBilinear, filter: Bilinear}
	// TorchBilinearAA is TorchBilinear with antialias: torchmetrics' default.
	TorchBilinearAA = ResizeKind{method: torchBilinearAA, filter: Bilinear}
	// TorchBicubic has half-pixel centres, a = -0.75 and no antialias; it
	// overshoots and is not clipped.
	TorchBicubic = ResizeKind{method: torchBicubic, filter: Bicubic}
	// TorchBicubicAA has half-pixel centres, a = -0.5 and antialias; it overshoots
	// and is not clipped: the way of EDM2 for DINOv2.
	TorchBicubicAA = ResizeKind{method: torchBicubicAA, filter: Bicubic}
	// TF1Bilinear has no half-pixel shift and no antialias, as TensorFlow 1:
	// the way of torch-fidelity and of the networks of TTUR and ADM.
	TF1Bilinear = ResizeKind{method: tf1Bilinear, filter: Bilinear}
)

// Pillow13 is the same resize with the pass order of Pillow 13, which runs the
// vertical pass first when the height shrinks by more than twice what the width
// does. Results published so far used older releases: horizontal first, always.
func (k ResizeKind) Pillow13() ResizeKind {
	if k.method != pilFloat && k.method != pilU8 {
		panic(fmt.Sprintf("imageio: Pillow13: %v is not a resize of Pillow", k))
	}
	k.pillow13 = true
	return k
}

// String is the name used in provenance records, such as "pil-float-bicubic".
func (k ResizeKind) String() string {
	s := [...]string{
		"pil-float-", "pil-u8-", "torch-bilinear", "torch-bilinear-antialias", "torch-bicubic",
		"tf1-bilinear", "torch-bicubic-antialias",
	}[k.method]
	if k.method <= pilU8 {
		s += k.filter.String()
	}
	if k.pillow13 {
		s += "-pillow13"
	}
	return s
}

func (k ResizeKind) verticalFirst(inW, inH, outW, outH int) bool {
	return k.pillow13 && inH > outH && inH-outH > 2*(inW-outW)
}

// ResizeKinds are all ways of resizing.
func ResizeKinds() []ResizeKind {
	kinds := []ResizeKind{TorchBilinear, TorchBilinearAA, TorchBicubic, TorchBicubicAA, TF1Bilinear}
	for f := Nearest; f <= Lanczos; f++ {
		for _, k := range []ResizeKind{PILFloat(f), PILU8(f)} {
			kinds = append(kinds, k, k.Pillow13())
		}
	}
	return kinds
}

package nn

import (
	"math"

	"github.com/fidlab/fidlab/rng"
)

// Init fills a new parameter of that shape.
type Init func(s *rng.Stream, shape []int, v []float32)

// Zeros starts with zeros.
func Zeros(*rng.Stream, []int, []float32) {}

// Ones starts with ones.
func Ones(_ *rng.Stream, _ []int, v []float32) {
	for i := range v {
		v[i] = 1
	}
}

// Fill starts with one value everywhere.
func Fill(x float32) Init {
	return func(_ *rng.Stream, _ []int, v []float32) {
		for i := range v {
			v[i] = x
		}
	}
}

// Normal starts with normals of that standard deviation.
func Normal(sd float64) Init {
	return func(s *rng.Stream, _ []int, v []float32) {
		for i := range v {
			v[i] = float32(sd * s.Normal())
		}
	}
}

// TruncNormal is Normal without values beyond two standard deviations, which are drawn
// again.
func TruncNormal(sd float64) Init {
	return func(s *rng.Stream, _ []int, v []float32) {
		for i := range v {
			z := s.Normal()
			for math.Abs(z) > 2 {
				z = s.Normal()
			}
			v[i] = float32(sd * z)
		}
	}
}

// Uniform starts with uniform values in [-limit, limit).
func Uniform(limit float64) Init {
	return func(s *rng.Stream, _ []int, v []float32) {
		for i := range v {
			v[i] = float32(limit * (2*s.Float64() - 1))
		}
	}
}

// fans is how many inputs an output of a weight [out, in, ...] has, and the reverse.
func fans(shape []int) (in, out int) {
	in, out = 1, 1
	for _, d := range shape[1:] {
		in *= d
	}
	out = shape[0]
	for _, d := range shape[min(2, len(shape)):] {
		out *= d
	}
	return in, out
}

// FanIn starts a weight [out, in, ...] with uniform values within 1/√(inputs of an
// output), the usual start of linear layers and convolutions (that of torch).
func FanIn(s *rng.Stream, shape []int, v []float32) {
	in, _ := fans(shape)
	Uniform(1/math.Sqrt(float64(in)))(s, shape, v)
}

// Xavier starts a weight [out, in, ...] with uniform values within √(6/(in + out))
// (Glorot and Bengio 2010).
func Xavier(s *rng.Stream, shape []int, v []float32) {
	in, out := fans(shape)
	Uniform(math.Sqrt(6/float64(in+out)))(s, shape, v)
}

// invRoot is 1/√n.
func invRoot(n int) float64 { return 1 / math.Sqrt(float64(n)) }

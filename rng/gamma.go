package rng

import (
	"fmt"
	"math"
)

// Gamma returns a draw of the gamma distribution of that shape k > 0 and scale 1,
// by rejection from a normal (Marsaglia and Tsang 2000); below 1, a draw of shape
// k+1 times U^(1/k). Twice a draw of shape n/2 is a chi-squared of n degrees.
func (s *Stream) Gamma(k float64) float64 {
	if !(k > 0) || math.IsInf(k, 1) {
		panic(fmt.Sprintf("rng: Gamma: shape %g; want a finite number above 0", k))
	}
	if k < 1 {
		return s.Gamma(k+1) * math.Pow(1-s.Float64(), 1/k)
	}
	d := k - 1.0/3
	c := 1 / math.Sqrt(9*d)
	for {
		z := s.Normal()
		v := 1 + c*z
		if v <= 0 {
			continue
		}
		v *= v * v
		if math.Log(1-s.Float64()) < z*z/2+d*(1-v+math.Log(v)) {
			return d * v
		}
	}
}

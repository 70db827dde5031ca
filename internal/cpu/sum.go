package cpu

import "math"

// Sum is a sum of float64 with a compensation term (Neumaier 1974); the zero
// value is an empty one.
type Sum struct{ sum, low float64 }

// Add adds x.
func (s *Sum) Add(x float64) {
	t := s.sum + x
	if math.Abs(s.sum) >= math.Abs(x) {
		s.low += (s.sum - t) + x
	} else {
		s.low += (x - t) + s.sum
	}
	s.sum = t
}

// Value is the sum of what was added.
func (s *Sum) Value() float64 { return s.sum + s.low }

package rng

import "math"

// open is a uniform multiple of 2^-53 strictly between 0 and 1, from two words.
func (s *Stream) open() float64 { return (float64(s.Uint64()>>12) + 0.5) * 0x1p-52 }

// Gumbel returns -log(-log u) of a uniform u, from two words: the greatest of logits, each
// with one of these added, is a draw from their softmax. It is between -3.6 and 36.8.
func (s *Stream) Gumbel() float64 { return -math.Log(-math.Log(s.open())) }

// Logistic returns log(u/(1-u)) of a uniform u, from two words: the difference of two
// Gumbels.
func (s *Stream) Logistic() float64 {
	u := s.open()
	return math.Log(u / (1 - u))
}

package rng

import (
	"math"
	"testing"
)

// Means, variances and the share below quartiles against those of the distributions.
func TestGumbelAndLogistic(t *testing.T) {
	const n = 200000
	for name, c := range map[string]struct {
		draw           func(s *Stream) float64
		mean, variance float64
		below          func(x float64) float64
	}{
		"gumbel":   {(*Stream).Gumbel, 0.57721566490153286, math.Pi * math.Pi / 6, func(x float64) float64 { return math.Exp(-math.Exp(-x)) }},
		"logistic": {(*Stream).Logistic, 0, math.Pi * math.Pi / 3, func(x float64) float64 { return 1 / (1 + math.Exp(-x)) }},
	} {
		s := New(11, 12)
		var sum, square float64
		places := []float64{-1, 0, 1, 3}
		counts := make([]int, len(places))
		for range n {
			v := c.draw(s)
			sum += v
			square += (v - c.mean) * (v - c.mean)
			for i, p := range places {
				if v < p {
					counts[i]++
				}
			}
		}
		if s.next != 2*n {
			t.Errorf("%s: %d draws took %d words, want two each", name, n, s.next)
		}
		if d := math.Abs(sum/n - c.mean); d > 5*math.Sqrt(c.variance/n) {
			t.Errorf("%s: mean %v, want %v", name, sum/n, c.mean)
		}
		// The fourth moments are at most 5.4 variances squared.
		if d := math.Abs(square/n/c.variance - 1); d > 5*math.Sqrt(4.4/n) {
			t.Errorf("%s: variance %v, want %v", name, square/n, c.variance)
		}
		for i, p := range places {
			q := c.below(p)
			if d := math.Abs(float64(counts[i])/n - q); d > 5*math.Sqrt(q*(1-q)/n) {
				t.Errorf("%s: %d of %d below %v, want %v", name, counts[i], n, p, q)
			}
		}
	}
}

func TestGumbelIsFinite(t *testing.T) {
	for w, want := range map[uint64][2]float64{0: {-3.6038, -36.7368}, math.MaxUint64: {36.7368, 36.7368}} {
		s := New(0, 0)
		s.block, s.have, s.next = [4]uint32{uint32(w), uint32(w >> 32), uint32(w), uint32(w >> 32)}, true, 1
		if g := s.Gumbel(); math.Abs(g-want[0]) > 1e-3 {
			t.Errorf("words %x: Gumbel %v, want %v", w, g, want[0])
		}
		s.next = 1
		if l := s.Logistic(); math.Abs(l-want[1]) > 1e-3 {
			t.Errorf("words %x: logistic %v, want %v", w, l, want[1])
		}
	}
}

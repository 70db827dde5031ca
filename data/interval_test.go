package data

import (
	"math"
	"testing"
)

// Wilson's interval is where the score test does not refuse: its ends solve (p̂ - p)² = z²·p(1-p)/n. The numbers are those of
// SciPy's binomtest(hits, of).proportion_ci(method="wilson").
func TestInterval(t *testing.T) {
	for _, c := range []struct {
		hits, of int
		lo, hi   float64
	}{
		{0, 10, 0, 0.2775327998628892}, {10, 10, 0.7224672001371107, 1}, {5, 10, 0.236593090512564, 0.763406909487436},
		{1, 1, 0.20654931437723745, 1}, {70, 80, 0.7849719790084033, 0.9306644238399513}, {0, 0, 0, 1},
	} {
		lo, hi := Count{Hits: c.hits, Of: c.of}.Interval()
		if math.Abs(lo-c.lo) > 1e-12 || math.Abs(hi-c.hi) > 1e-12 {
			t.Errorf("%d of %d: %v to %v, want %v to %v", c.hits, c.of, lo, hi, c.lo, c.hi)
		}
	}
	const z = 1.959963984540054
	for _, of := range []int{1, 7, 100, 4000} {
		for _, hits := range []int{0, 1, of / 2, of} {
			lo, hi := Count{Hits: hits, Of: of}.Interval()
			share := float64(hits) / float64(of)
			for _, p := range []float64{lo, hi} {
				if d := (share-p)*(share-p) - z*z*p*(1-p)/float64(of); math.Abs(d) > 1e-12 {
					t.Errorf("%d of %d: the end %v misses the test's bound by %v", hits, of, p, d)
				}
			}
			if !(lo <= share && share <= hi && lo >= 0 && hi <= 1) {
				t.Errorf("%d of %d: %v to %v", hits, of, lo, hi)
			}
		}
	}
}

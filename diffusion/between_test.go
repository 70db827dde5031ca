package diffusion_test

import (
	"math"
	"testing"

	"github.com/fidlab/fidlab/diffusion"
)

// Each rule is a line in its own coordinate, agrees with the table at its
// integers, and is undone by its inverse.
func TestBetweenEntries(t *testing.T) {
	coord := map[diffusion.Between]func(s float64) float64{
		diffusion.BySigma:    func(s float64) float64 { return s },
		diffusion.ByLogSigma: math.Log,
		diffusion.ByABar:     func(s float64) float64 { return 1 / (1 + s*s) },
	}
	for _, name := range []string{"vp", "vp-scaled", "vp-cosine"} {
		p := vpOf(t, name)
		for b, f := range coord {
			for _, i := range []int{0, 1, 17, 500, 997, 998} {
				lo, hi := p.Sigma(float64(i)), p.Sigma(float64(i+1))
				for _, w := range []float64{0, 0.25, 0.5, 0.9, 1} {
					u := float64(i) + w
					got := p.SigmaBy(u, b)
					want := (1-w)*f(lo) + w*f(hi)
					if tol := 4e-13 * math.Max(math.Abs(want), 1e-12+math.Abs(f(hi)-f(lo))); math.Abs(f(got)-want) > tol {
						t.Errorf("%s by %s at %g: coordinate %.17g, want %.17g", name, b, u, f(got), want)
					}
					if back := p.TimeBy(got, b); math.Abs(back-u) > 1e-8 {
						t.Errorf("%s by %s at %g: the time of its level is %.12g", name, b, u, back)
					}
				}
			}
			if p.SigmaBy(-3, b) != p.Sigma(0) || p.SigmaBy(4000, b) != p.Sigma(999) || p.TimeBy(0, b) != 0 || p.TimeBy(1e9, b) != 999 {
				t.Errorf("%s by %s: beyond the ends: %g, %g, %g, %g", name, b, p.SigmaBy(-3, b), p.SigmaBy(4000, b), p.TimeBy(0, b), p.TimeBy(1e9, b))
			}
		}
		if p.SigmaBy(3.5, diffusion.BySigma) != p.Sigma(3.5) || p.TimeBy(0.7, diffusion.BySigma) != p.Time(0.7) {
			t.Errorf("%s: by sigma is not the path's own rule", name)
		}
	}
}

// A table that ends at pure noise: by abar the last level is half way to no data,
// and no rule gives a level that is not a number.
func TestBetweenEntriesAtPureNoise(t *testing.T) {
	p := vpOf(t, "vp-scaled-zt")
	lo := p.Sigma(998)
	want := math.Sqrt((1 - 0.5/(1+lo*lo)) / (0.5 / (1 + lo*lo)))
	if got := p.SigmaBy(998.5, diffusion.ByABar); !near(got, want, 1e-12) {
		t.Errorf("by abar half way to pure noise: %g, want %g", got, want)
	}
	for _, b := range []diffusion.Between{diffusion.BySigma, diffusion.ByLogSigma, diffusion.ByABar} {
		if s := p.SigmaBy(999, b); !math.IsInf(s, 1) || p.TimeBy(s, b) != 999 {
			t.Errorf("by %s: the end is %g at time %g", b, s, p.TimeBy(s, b))
		}
		s := p.SigmaBy(998.25, b)
		if !(s > lo) || math.IsInf(s, 1) || math.Abs(p.TimeBy(s, b)-998.25) > 1e-9 {
			t.Errorf("by %s: level %g at 998.25, time %g", b, s, p.TimeBy(s, b))
		}
	}
}

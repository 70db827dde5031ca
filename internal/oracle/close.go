package oracle

import (
	"math"
	"testing"
)

// Normal is n standard normal values; equal seeds give equal values.
func Normal(seed uint64, n int) []float32 {
	out := make([]float32, n)
	for i := range out {
		// Box-Muller over a SplitMix64 stream: no package of the project is used,
		// so that its random numbers can be tested with these.
		u := (float64(splitMix(&seed)>>11) + 0.5) / (1 << 53)
		v := float64(splitMix(&seed)>>11) / (1 << 53)
		out[i] = float32(math.Sqrt(-2*math.Log(u)) * math.Cos(2*math.Pi*v))
	}
	return out
}

// Uniform is n values in [lo, hi).
func Uniform(seed uint64, n int, lo, hi float64) []float32 {
	out := make([]float32, n)
	for i := range out {
		out[i] = float32(lo + (hi-lo)*float64(splitMix(&seed)>>11)/(1<<53))
	}
	return out
}

func splitMix(s *uint64) uint64 {
	*s += 0x9e3779b97f4a7c15
	z := *s
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// Tol is how far a result may be from its oracle: Abs + Eps·2^-23·scale, where
// the scale is Scale(i) or, without it, the oracle's magnitude. Eps counts
// float32 rounding units.
type Tol struct {
	Eps, Abs float64
	Scale    func(i int) float64
}

// Close fails unless got[i] is within tol of want(i) for every i; NaN is close
// to NaN alone, an infinity to itself alone. It reports the worst element and
// returns the largest difference.
func Close(t testing.TB, got []float32, tol Tol, want func(i int) float64) float64 {
	t.Helper()
	return Close64(t, float64s(got), tol, want)
}

// Close64 is Close for float64 results.
func Close64(t testing.TB, got []float64, tol Tol, want func(i int) float64) float64 {
	t.Helper()
	worst, ratio, at, bad := 0.0, 0.0, -1, 0
	for i, g := range got {
		w := want(i)
		if g == w || g != g && w != w {
			continue
		}
		scale := math.Abs(w)
		if tol.Scale != nil {
			scale = tol.Scale(i)
		}
		limit, diff := tol.Abs+tol.Eps*0x1p-23*scale, math.Abs(g-w)
		worst = math.Max(worst, diff)
		if diff <= limit && !math.IsInf(w, 0) {
			continue
		}
		bad++
		if r := diff / limit; at < 0 || r > ratio || r != r {
			ratio, at = r, i
		}
	}
	if bad > 0 {
		t.Errorf("%d of %d elements are off; the worst is [%d] = %g, want %g (difference %.3g, %.3g times the tolerance)",
			bad, len(got), at, got[at], want(at), math.Abs(got[at]-want(at)), ratio)
	}
	return worst
}

// AbsSum is the scale |xs[0][i]| + |xs[1][i]| + …, for Tol.
func AbsSum(xs ...[]float32) func(i int) float64 {
	return func(i int) float64 {
		s := 0.0
		for _, x := range xs {
			s += math.Abs(float64(x[i]))
		}
		return s
	}
}

func float64s(x []float32) []float64 {
	out := make([]float64, len(x))
	for i, v := range x {
		out[i] = float64(v)
	}
	return out
}

// Grad is the gradient of the scalar f at x by central differences of step h,
// in float64. f must not keep x. x has at most 10,000 elements.
func Grad(t testing.TB, x []float64, h float64, f func(x []float64) float64) []float64 {
	t.Helper()
	if len(x) > 10000 {
		t.Fatalf("a gradient by differences of %d elements; at most 10,000", len(x))
	}
	g, y := make([]float64, len(x)), append([]float64(nil), x...)
	for i := range x {
		y[i] = x[i] + h
		up := f(y)
		y[i] = x[i] - h
		g[i] = (up - f(y)) / (2 * h)
		y[i] = x[i]
	}
	return g
}

package rng_test

import (
	"math"
	"testing"

	"github.com/fidlab/fidlab/rng"
)

// path is Z(v) of one value of an image, by its knots.
func path(b rng.Brownian, s *rng.Stream, value uint64, v float64) float64 {
	var z [rng.BrownianKnots]float64
	knots := b.Knots(nil, v)
	for i, k := range knots {
		z[i] = k.Left*z[k.L] + k.Right*z[k.R] + k.Dev*s.NormalAt(k.ID<<32+value)
	}
	return z[len(knots)-1]
}

// law is Z(v) as a linear form in the normals of the knots, so that covariances
// are known without drawing.
func law(b rng.Brownian, v float64) map[uint64]float64 {
	var forms []map[uint64]float64
	for _, k := range b.Knots(nil, v) {
		f := map[uint64]float64{k.ID: k.Dev}
		for _, part := range []struct {
			w  float64
			at int
		}{{k.Left, k.L}, {k.Right, k.R}} {
			if part.w != 0 {
				for id, c := range forms[part.at] {
					f[id] += part.w * c
				}
			}
		}
		forms = append(forms, f)
	}
	return forms[len(forms)-1]
}

func dotForms(a, b map[uint64]float64) (sum float64) {
	for id, c := range a {
		sum += c * b[id]
	}
	return sum
}

// The covariance of any two levels is exp(-rate·|v-v'|) exactly, and with it the
// increments over disjoint steps are independent unit normals.
func TestBrownianLaw(t *testing.T) {
	levels := []float64{15.9, 4.382, 4.37, 2.5, 2.4951, 1, 0.3333, 0, -0.002, -0.7, -3.1, -6.2146, -15}
	for _, rate := range []float64{0.04, 0.5, 1, 2.25} {
		b := rng.Brownian{Rate: rate}
		forms := make([]map[uint64]float64, len(levels))
		for i, v := range levels {
			forms[i] = law(b, v)
			for j := range i + 1 {
				want := math.Exp(-rate * math.Abs(v-levels[j]))
				if got := dotForms(forms[i], forms[j]); math.Abs(got-want) > 1e-13 {
					t.Errorf("rate %g: covariance of ln sigma %g and %g is %.16g, want %.16g", rate, v, levels[j], got, want)
				}
			}
		}
		var steps []map[uint64]float64
		for i := 1; i < len(levels); i++ {
			from, to := b.Increment(levels[i-1] - levels[i])
			step := map[uint64]float64{}
			for id, c := range forms[i-1] {
				step[id] += from * c
			}
			for id, c := range forms[i] {
				step[id] += to * c
			}
			steps = append(steps, step)
			for j, other := range steps {
				want := 0.0
				if j == len(steps)-1 {
					want = 1
				}
				if got := dotForms(step, other); math.Abs(got-want) > 1e-10 {
					t.Errorf("rate %g: increments %d and %d have covariance %g, want %g", rate, i-1, j, got, want)
				}
			}
		}
	}
}

// Increments over the parts of a step add up to the step's, in the clock u.
func TestBrownianIncrementsAddUp(t *testing.T) {
	s := rng.ForImage(3, 8, rng.Bridge)
	for _, rate := range []float64{0.3, 1} {
		b := rng.Brownian{Rate: rate}
		// w is W(u)-W(u0) over a step, u = exp(-2·rate·v).
		w := func(v0, v1 float64) float64 {
			from, to := b.Increment(v0 - v1)
			z := from*path(b, s, 5, v0) + to*path(b, s, 5, v1)
			return z * math.Sqrt(math.Exp(-2*rate*v1)-math.Exp(-2*rate*v0))
		}
		whole, parts := w(2, -1), 0.0
		const n = 37
		for i := range n {
			at := func(i int) float64 { return 2 - 3*float64(i)/n }
			parts += w(at(i), at(i+1))
		}
		if math.Abs(whole-parts) > 1e-13*math.Exp(rate) {
			t.Errorf("rate %g: the step's increment is %v, its parts add up to %v", rate, whole, parts)
		}
	}
}

// Normals of different images, seeds and values are different draws, and what
// is drawn is a unit normal: limits as in TestDistributions.
func TestBrownianDraws(t *testing.T) {
	const n = 20000
	b := rng.Brownian{Rate: 1}
	x := make([]float64, n)
	var lag, across float64
	for i := range x {
		from, to := b.Increment(0.25)
		s := rng.ForImage(11, uint64(i/4), rng.Bridge)
		x[i] = from*path(b, s, uint64(i%4), 1) + to*path(b, s, uint64(i%4), 0.75)
		if i > 0 {
			lag += x[i] * x[i-1] / n
		}
		from, to = b.Increment(0.5)
		across += x[i] * (from*path(b, s, uint64(i%4), 0.75) + to*path(b, s, uint64(i%4), 0.25)) / n
	}
	if z := lag * math.Sqrt(n); math.Abs(z) > 4.9 {
		t.Errorf("neighbouring values correlate, %.1f standard errors", z)
	}
	if z := across * math.Sqrt(n); math.Abs(z) > 4.9 {
		t.Errorf("neighbouring steps correlate, %.1f standard errors", z)
	}
	limit := math.Sqrt(math.Log(2e6) / (2 * n))
	if d := ks(x, func(v float64) float64 { return 0.5 * math.Erfc(-v/math.Sqrt2) }); d > limit {
		t.Errorf("Kolmogorov distance %.5f, limit %.5f", d, limit)
	}
}

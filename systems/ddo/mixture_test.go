package ddo

import (
	"math"
	"testing"

	"github.com/fidlab/fidlab/rng"
)

// Gradients of the density, the loss and the likelihood are finite differences of them.
func TestMixtureGradients(t *testing.T) {
	m := mixture{w: []float64{0.3, 0.5, 0.2}, mean: []float64{-1, 0.4, 2}, dev: []float64{0.5, 1.2, 0.3}}
	ref := mixture{w: []float64{0.4, 0.4, 0.2}, mean: []float64{-1.2, 0, 1.7}, dev: []float64{0.6, 1, 0.5}}
	s := rng.New(1, 1)
	real, fakes := target(1).draws(s, 50), ref.draws(s, 40)
	for name, f := range map[string]loss{
		"density":    func(m mixture, g []float64) float64 { return m.logp(0.7, g) },
		"contrast":   contrast(ref, real, fakes, 1.7, 0.6),
		"likelihood": unlikely(real),
	} {
		v := m.params()
		got := make([]float64, len(v))
		f(mixtureOf(v), got)
		for i := range v {
			const h = 1e-5
			at := func(d float64) float64 {
				w := m.params()
				w[i] += d
				return f(mixtureOf(w), nil)
			}
			if want := (at(h) - at(-h)) / (2 * h); math.Abs(got[i]-want) > 1e-7 {
				t.Errorf("%s, parameter %d: %.10g, by differences %.10g", name, i, got[i], want)
			}
		}
	}
}

// A density's integral is 1, and the divergence of two normals is the closed form.
func TestDivergenceAndPrecision(t *testing.T) {
	var sum float64
	for _, w := range target(3).quadrature().w {
		sum += w
	}
	if math.Abs(sum-1) > 1e-12 {
		t.Errorf("the integral is %.15g", sum)
	}
	p, q := normal(0.3, 0.8), normal(-0.5, 1.7)
	want := math.Log(1.7/0.8) + (0.8*0.8+0.8*0.8)/(2*1.7*1.7) - 0.5
	if got := divergence(p, q); math.Abs(got-want) > 1e-12 {
		t.Errorf("the divergence is %.15g, want %.15g", got, want)
	}
	// 95 % of a normal lie within 1.959964 deviations; a normal of half that deviation has erf(1.959964·√2) of itself there.
	if got := precision(normal(0, 1), normal(0, 1), 0.95); math.Abs(got-0.95) > 5e-3 {
		t.Errorf("the precision of the law itself is %g, want 0.95", got)
	}
	if got, want := precision(normal(0, 1), normal(0, 0.5), 0.95), math.Erf(1.959964*math.Sqrt2); math.Abs(got-want) > 5e-3 {
		t.Errorf("the precision is %g, want %g", got, want)
	}
}

func normal(mean, dev float64) mixture {
	return mixture{w: []float64{1}, mean: []float64{mean}, dev: []float64{dev}}
}

// The optimum of the loss is p_ref·(p_data/p_ref)^(1/β), normalised, where α is what makes it so: for normals in closed form. The data
// themselves are it for α = β = 1 alone.
func TestOptimumIsTheExtrapolatedRatio(t *testing.T) {
	data, ref := normal(0.5, 0.8), normal(-0.2, 1.1)
	for _, beta := range []float64{1, 0.7, 2} {
		prec := (1-1/beta)/(1.1*1.1) + 1/beta/(0.8*0.8)
		mean := ((1-1/beta)*-0.2/(1.1*1.1) + 1/beta*0.5/(0.8*0.8)) / prec
		var mass float64
		x, step := line()
		for _, v := range x {
			mass += step * math.Exp(ref.logp(v, nil)+(data.logp(v, nil)-ref.logp(v, nil))/beta)
		}
		real, fakes := data.quadrature(), ref.quadrature()
		got, err := fit(ref, contrast(ref, real, fakes, math.Pow(mass, beta), beta))
		if err != nil {
			t.Fatal(err)
		}
		if math.Abs(got.mean[0]-mean) > 1e-5 || math.Abs(got.dev[0]-1/math.Sqrt(prec)) > 1e-5 {
			t.Errorf("β %g: mean %g and deviation %g, want %g and %g", beta, got.mean[0], got.dev[0], mean, 1/math.Sqrt(prec))
		}
		if beta == 1 && (math.Abs(mean-0.5) > 1e-12 || math.Abs(mass-1) > 1e-12) {
			t.Errorf("β 1: the closed form is %g, %g", mean, mass)
		}
	}
}

// A family that has the data's law in it gets there from draws alone.
func TestFamilyFindsTheData(t *testing.T) {
	p, ref := pair(5)
	q, err := recovered(p, ref, 5, 20000)
	if err != nil {
		t.Fatal(err)
	}
	if got, far := divergence(p, q), divergence(p, ref); got > 0.01 || far < 0.1 {
		t.Errorf("the divergence is %g, of the reference %g; want at most 0.01, and a reference that is far", got, far)
	}
}

// Where the likelihood is exact, the likeliest of a family is a stationary point of the loss, whatever α and β: the mean score of its own
// draws is 0, and so is that of data. Where the reference is not the likeliest, it is none.
func TestLikeliestIsStationary(t *testing.T) {
	p := target(2)
	q, err := likeliest(p)
	if err != nil {
		t.Fatal(err)
	}
	off := mixture{w: q.w, mean: []float64{q.mean[0] + 0.1, q.mean[1]}, dev: q.dev}
	for _, c := range []struct{ alpha, beta float64 }{{1, 1}, {4, 0.1}, {0.3, 2}} {
		for _, ref := range []mixture{q, off} {
			grad := make([]float64, len(ref.params()))
			contrast(ref, p.quadrature(), ref.quadrature(), c.alpha, c.beta)(ref, grad)
			var norm float64
			for _, v := range grad {
				norm = math.Hypot(norm, v)
			}
			if still := norm < 1e-7; still != (&ref.mean[0] == &q.mean[0]) {
				t.Errorf("α %g, β %g: the gradient's norm is %g at mean %v; the likeliest has %v", c.alpha, c.beta, norm, ref.mean, q.mean)
			}
		}
	}
}

// For α = β = 1 the likeliest is a minimum of the loss: from nearby, descent leads back to it.
func TestLikeliestIsAMinimum(t *testing.T) {
	for _, seed := range []uint64{1, 2} {
		p := target(seed)
		q, err := likeliest(p)
		if err != nil {
			t.Fatal(err)
		}
		near := q.params()
		for i := range near {
			near[i] += 0.03 * math.Sin(float64(i+1))
		}
		got, err := fit(mixtureOf(near), contrast(q, p.quadrature(), q.quadrature(), 1, 1))
		if err != nil {
			t.Fatal(err)
		}
		for i, v := range got.params() {
			if math.Abs(v-q.params()[i]) > 1e-4 {
				t.Errorf("seed %d, parameter %d: %g, that of the likeliest is %g", seed, i, v, q.params()[i])
			}
		}
	}
}

package diffusion_test

import (
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"gonum.org/v1/gonum/mathext"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/rng"
)

const draws = 20000

// ksLimit is what one seed in 10,000 exceeds.
var ksLimit = math.Sqrt(math.Log(2/1e-4)/2) / math.Sqrt(draws)

// distance is Kolmogorov and Smirnov's, of a sample to a distribution function.
func distance(x []float64, cdf func(float64) float64) (far float64) {
	slices.Sort(x)
	for i, v := range x {
		p := cdf(v)
		far = max(far, p-float64(i)/draws, float64(i+1)/draws-p)
	}
	return far
}

// radii draws |x-x0|² of a kernel at sigma, and checks that direction has no
// preferred side.
func radii(t *testing.T, k diffusion.Noise, n int, sigma float64) []float64 {
	t.Helper()
	x0, x, mean := make([]float64, n), make([]float64, n), make([]float64, n)
	for i := range x0 {
		x0[i] = float64(i%3) - 0.7
	}
	out := make([]float64, draws)
	for i := range out {
		k.Perturb(x, x0, sigma, rng.ForImage(3, uint64(i), rng.Init))
		for j := range x {
			d := x[j] - x0[j]
			out[i] += d * d
		}
		for j := range x {
			mean[j] += (x[j] - x0[j]) / math.Sqrt(out[i])
		}
	}
	for j, m := range mean { // a coordinate of the unit sphere has the variance 1/n
		if z := m / math.Sqrt(draws/float64(n)); math.Abs(z) > 4.9 {
			t.Errorf("%s, coordinate %d: the mean direction is %.1f standard errors off", k.Name(), j, z)
		}
	}
	return out
}

// R²/(R²+r²) is Beta(N/2, D/2) with r = sigma·√D, and its mean square the r²·N/(D-2) of its documentation.
func TestPFGMPPRadius(t *testing.T) {
	const sigma = 1.7
	for _, c := range []struct {
		n int
		d float64
	}{{2, 1}, {3, 0.5}, {12, 8}, {48, 128}, {30, 2048}} {
		k := diffusion.PFGMPP{N: c.n, D: c.d}
		r2 := radii(t, k, c.n, sigma)
		var mean float64
		beta := make([]float64, draws)
		for i, v := range r2 {
			mean += v / draws
			beta[i] = v / (v + sigma*sigma*c.d)
		}
		if far := distance(beta, func(b float64) float64 { return mathext.RegIncBeta(float64(c.n)/2, c.d/2, b) }); far > ksLimit {
			t.Errorf("N %d, D %g: distance to the Beta law %.4f, want at most %.4f", c.n, c.d, far, ksLimit)
		}
		if c.d < 8 {
			continue // the fourth moment is infinite: the mean square says nothing
		}
		want := sigma * sigma * c.d * float64(c.n) / (c.d - 2)
		if math.Abs(mean/want-1) > 0.05 {
			t.Errorf("N %d, D %g: E[R²] is %.4g, want %.4g", c.n, c.d, mean, want)
		}
	}
}

// With many added dimensions the kernel is the Gaussian one, in draws and in
// weights, and infinitely many are exactly it.
func TestPFGMPPLimit(t *testing.T) {
	const n, sigma = 12, 0.8
	chi := func(v float64) float64 { return mathext.GammaIncReg(n/2., v/(2*sigma*sigma)) }
	for _, k := range []diffusion.Noise{diffusion.PFGMPP{N: n, D: 1e6}, diffusion.PFGMPP{N: n, D: math.Inf(1)}, diffusion.GaussianNoise{}} {
		if far := distance(radii(t, k, n, sigma), chi); far > ksLimit {
			t.Errorf("%+v: distance to chi-squared %.4f, want at most %.4f", k, far, ksLimit)
		}
	}
	for _, excess := range []float64{-3, -0.01, 0, 2, 40} {
		want := -excess / (2 * sigma * sigma)
		g := diffusion.GaussianNoise{}.LogWeight(n, 50, excess, sigma)
		inf := diffusion.PFGMPP{N: n, D: math.Inf(1)}.LogWeight(n, 50, excess, sigma)
		far := diffusion.PFGMPP{N: n, D: 1e9}.LogWeight(n, 50, excess, sigma)
		if !near(g, want, 4e-16) || inf != g || math.Abs(far-want) > 1e-6*math.Abs(want) {
			t.Errorf("excess %g: %g, %g and %g, want %g", excess, g, inf, far, want)
		}
	}
	a, b := make([]float64, n), make([]float64, n)
	diffusion.PFGMPP{N: n, D: math.Inf(1)}.Prior(a, sigma, rng.New(1, 2))
	diffusion.GaussianNoise{}.Prior(b, sigma, rng.New(1, 2))
	if !slices.Equal(a, b) {
		t.Error("infinitely many dimensions draw other noise than the Gaussian kernel")
	}
}

// Differences of log weights are those of the formula, and the prior is the
// perturbed origin.
func TestLogWeights(t *testing.T) {
	r := rand.New(rand.NewPCG(4, 4))
	const n = 7
	for _, d := range []float64{0.5, 1, 64, 2048} {
		k := diffusion.PFGMPP{N: n, D: d}
		for range 200 {
			x, y, sigma := make([]float64, n), make([]float64, n), math.Exp(2*r.NormFloat64())
			var norm, dist float64
			for i := range x {
				x[i], y[i] = 3*r.NormFloat64(), r.NormFloat64()
				norm += x[i] * x[i]
				dist += (x[i] - y[i]) * (x[i] - y[i])
			}
			r2 := sigma * sigma * d
			want := -(n + d) / 2 * (math.Log(dist+r2) - math.Log(norm+r2))
			// The oracle's own logarithms are rounded to an ulp each.
			if got := k.LogWeight(n, norm, dist-norm, sigma); math.Abs(got-want) > (n+d)*1e-14*(1+math.Abs(math.Log(r2+norm+dist))) {
				t.Fatalf("D %g, sigma %g: %g, want %g", d, sigma, got, want)
			}
		}
	}
	p, q := make([]float64, n), make([]float64, n)
	diffusion.PFGMPP{N: n, D: 64}.Prior(p, 80, rng.New(5, 6))
	diffusion.PFGMPP{N: n, D: 64}.Perturb(q, make([]float64, n), 80, rng.New(5, 6))
	if !slices.Equal(p, q) {
		t.Error("the prior is not the perturbed origin")
	}
}

// The clip bounds the radius on both sides.
func TestPFGMPPClip(t *testing.T) {
	k := diffusion.PFGMPP{N: 2, D: 1, Clip: 1e-3}
	r2 := radii(t, k, 2, 1)
	lo, hi := slices.Min(r2), slices.Max(r2)
	if math.Abs(hi/999-1) > 1e-12 || math.Abs(lo*999-1) > 1e-12 {
		t.Errorf("radii from %g to %g, want √(1/999) to √999", math.Sqrt(lo), math.Sqrt(hi))
	}
}

func TestNoiseRefused(t *testing.T) {
	for want, k := range map[string]diffusion.PFGMPP{
		"D is 0;": {N: 3}, "D is -1": {N: 3, D: -1}, "D is NaN": {N: 3, D: math.NaN()},
		"clip 0.5": {N: 3, D: 1, Clip: 0.5}, "clip -0.1": {N: 3, D: 1, Clip: -0.1}, "clip NaN": {N: 3, D: 1, Clip: math.NaN()},
		"made for data of 4 values; these have 3": {N: 4, D: 1},
	} {
		if err := k.Check(3); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: error %v, want %q", k, err, want)
		}
	}
	if err := (diffusion.PFGMPP{N: 3, D: math.Inf(1)}).Check(3); err != nil {
		t.Error(err)
	}
}

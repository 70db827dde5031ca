package fivestep

import (
	"math"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/rng"
	"github.com/fidlab/fidlab/systems"
	"github.com/fidlab/fidlab/systems/bases"
)

func decoding(t *testing.T) *latents {
	t.Helper()
	l, err := newLatents(digits(t))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// Latents have a mean deviation of 1.
func TestLatentsAreNormalised(t *testing.T) {
	l := decoding(t)
	_, cov := l.bed.Moments()
	var trace float64
	for i := range l.bed.Dims {
		trace += cov[i*l.bed.Dims+i]
	}
	if dev := math.Sqrt(trace / float64(l.bed.Dims)); math.Abs(dev-1) > 2e-3 {
		t.Errorf("mean deviation %g", dev)
	}
}

// The decoder made for the noise at which sampling stops is exactly one more step
// to zero, whatever the solver: that is what it costs.
func TestPosteriorMeanIsAStep(t *testing.T) {
	l := decoding(t)
	last := decoderNoise
	for _, solver := range []string{"ddim", "dpm++2m"} {
		base := systems.Params{"solver": solver, "rule": "last-noise", "last": last}
		d := systems.Draw{Env: &systems.Env{}, Seed: 3, N: 40}
		stopped, err := l.latent.sample(t.Context(), d, settings(base, systems.Params{"steps": 5, "end": "keep"}))
		if err != nil {
			t.Fatal(err)
		}
		g, err := l.latent.grid(settings(base, systems.Params{"steps": 5, "end": "keep"}))
		if err != nil {
			t.Fatal(err)
		}
		decoded, err := l.posterior(t.Context(), stopped.X, g.Sigmas()[5]) // the table's reading of 0.13
		if err != nil {
			t.Fatal(err)
		}
		stepped, err := l.latent.sample(t.Context(), d, settings(base, systems.Params{"steps": 6, "end": "zero"}))
		if err != nil {
			t.Fatal(err)
		}
		if e := bases.RMSE(decoded, stepped.X); e > 1e-12 {
			t.Errorf("%s: decoding and stepping differ by %g", solver, e)
		}
		if e := bases.RMSE(stopped.X, stepped.X); e < 0.01 {
			t.Errorf("the step changes nothing: %g", e)
		}
	}
}

// W·(C + s²) = C, and no other linear decoder has a lower expected square: the
// error tr(C - WC - CWᵀ + W(C+s²)Wᵀ) rises with any change of W.
func TestLeastSquaresDecoder(t *testing.T) {
	l := decoding(t)
	d := l.bed.Dims
	_, c := l.bed.Moments()
	noisy := append([]float64{}, c...)
	for i := range d {
		noisy[i*d+i] += decoderNoise * decoderNoise
	}
	loss := func(w []float64) float64 {
		var sum float64
		for i := range d {
			sum += c[i*d+i]
			for j := range d {
				sum -= 2 * w[i*d+j] * c[j*d+i]
				for k := range d {
					sum += w[i*d+j] * noisy[j*d+k] * w[i*d+k]
				}
			}
		}
		return sum
	}
	for i := range d {
		for j := range d {
			var v float64
			for k := range d {
				v += l.linear[i*d+k] * noisy[k*d+j]
			}
			if math.Abs(v-c[i*d+j]) > 1e-10 {
				t.Fatalf("W(C+s²) at %d,%d is %g, want %g", i, j, v, c[i*d+j])
			}
		}
	}
	best := loss(l.linear)
	for _, at := range []int{0, 5, d*d - 1} {
		for _, by := range []float64{1e-3, -1e-3} {
			w := append([]float64{}, l.linear...)
			w[at] += by
			if !(loss(w) > best) {
				t.Errorf("changing W[%d] by %g lowers the expected square from %g to %g", at, by, best, loss(w))
			}
		}
	}
	// On exact latents with that noise it has its expected error, and the posterior
	// mean, which may bend, no more.
	const n = 4000
	z := l.bed.Draws(7, n)
	x := z.Like()
	noise := gpu.CPU().Empty64(n, d)
	fill(noise.F64())
	for i, v := range z.F64() {
		x.F64()[i] = v + decoderNoise*noise.F64()[i]
	}
	linear := bases.RMSE(l.leastSquares(x), z)
	mean, err := l.posterior(t.Context(), x, decoderNoise)
	if err != nil {
		t.Fatal(err)
	}
	if want := math.Sqrt(best / float64(d)); math.Abs(linear-want) > 0.03*want {
		t.Errorf("least squares are %g off, expected %g", linear, want)
	}
	if e := bases.RMSE(mean, z); !(e < linear) || !(linear < decoderNoise) {
		t.Errorf("the posterior mean is %g off, least squares %g, the noise %g", e, linear, decoderNoise)
	}
}

// The pictures' moments are those of the coordinates, embedded, and the exact
// ends have them up to the number of samples.
func TestPixelLaw(t *testing.T) {
	bed := digits(t)
	p, err := pixelLaw(bed)
	if err != nil {
		t.Fatal(err)
	}
	mean, basis, scale := bed.Embedding()
	zMean, zCov := bed.Moments()
	D, d := len(mean), bed.Dims
	f := 2 / scale
	const rounding = (2.0 / 255) * (2.0 / 255) / 12
	var across, trace float64
	for a := range d {
		var m float64
		for i := range D {
			m += basis[a][i] * (p.mean.F64()[i] - (2*mean[i] - 1))
		}
		if math.Abs(m-f*zMean[a]) > 1e-9 {
			t.Errorf("coordinate %d has mean %g, want %g", a, m, f*zMean[a])
		}
		for b := range d {
			var v float64
			for i := range D {
				for j := range D {
					v += basis[a][i] * p.cov.F64()[i*D+j] * basis[b][j]
				}
			}
			if math.Abs(v-f*f*zCov[a*d+b]) > 1e-9 {
				t.Fatalf("coordinates %d and %d have covariance %g, want %g", a, b, v, f*f*zCov[a*d+b])
			}
		}
		across += f * f * zCov[a*d+a]
	}
	for i := range D {
		trace += p.cov.F64()[i*D+i]
	}
	if want := across + float64(D-d)*rounding; math.Abs(trace-want) > 1e-9 {
		t.Errorf("total variance %g, want %g", trace, want)
	}
	// Noise that is left has 196 directions in pictures and 24 in coordinates.
	l := decoding(t)
	d0 := systems.Draw{Env: &systems.Env{}, Seed: 3, N: 400, Params: systems.Params{"solver": "dpm++2m", "steps": 8, "rule": "last-noise", "last": 0.3}}
	of := func(end string) float64 {
		d := d0
		d.Params = settings(d.Params, systems.Params{"end": end})
		o, err := l.pixel.run(t.Context(), d)
		if err != nil {
			t.Fatal(err)
		}
		return o.Values["fd"]
	}
	if zero, kept := of("zero"), of("keep"); kept < zero+0.5*172*0.3*0.3 {
		t.Errorf("kept noise of 0.3 in pictures raises the distance from %g to %g only", zero, kept)
	}
}

// fill draws normals.
func fill(x []float64) { rng.New(11, 0).FillNormal64(x) }

package fid

import (
	"context"
	"errors"
	"math"
	"testing"

	"github.com/fidlab/fidlab/rng"
)

// gaussians draws n rows of independent normals with the given means and deviations.
func gaussians(seed, stream uint64, n int, mean, sd []float64) []float32 {
	r := rng.New(seed, stream)
	out := make([]float32, 0, n*len(mean))
	for range n {
		for j := range mean {
			out = append(out, float32(mean[j]+sd[j]*r.Normal()))
		}
	}
	return out
}

// pair is two normal distributions of known distance.
type pair struct {
	mean, sd [2][]float64
	truth    float64
}

func newPair(d int, shift float64) pair {
	var p pair
	for i := range 2 {
		p.mean[i], p.sd[i] = make([]float64, d), make([]float64, d)
	}
	for j := range d {
		s := 1 / math.Sqrt(float64(j+1))
		p.sd[0][j], p.sd[1][j] = s, s*(1+shift)
		p.mean[1][j] = shift * s
		p.truth += p.mean[1][j]*p.mean[1][j] + (shift*s)*(shift*s)
	}
	return p
}

func (p pair) draw(t testing.TB, sim uint64, n int) (a, b *Stats) {
	d := len(p.sd[0])
	return mustStats(t, gaussians(7, 2*sim, n, p.mean[0], p.sd[0]), n, d), mustStats(t, gaussians(7, 2*sim+1, n, p.mean[1], p.sd[1]), n, d)
}

type interval func(ctx context.Context, a, b *Stats, value float64, opt IntervalOptions) (Interval, error)

var intervals = map[string]interval{"bootstrap": bootstrap, "jackknife": jackknife}

// Of 95 % intervals at least 88 % must hold the true distance (95 % less four
// standard errors of 150 trials would be 87.9 %), for normals whose distance is
// known in closed form; the plain value is too large by far more than chance.
func TestIntervalCoverage(t *testing.T) {
	const sims = 150
	for name, f := range intervals {
		for _, n := range []int{60, 150} {
			p := newPair(4, 0.5)
			hits, mean, bias, sd, spread := 0, 0.0, 0.0, 0.0, 0.0
			for i := range uint64(sims) {
				a, b := p.draw(t, i, n)
				v, err := Frechet(a, b)
				if err != nil {
					t.Fatal(err)
				}
				ci, err := f(context.Background(), a, b, v.Value, IntervalOptions{Seed: i, Replicates: 100}.withDefaults())
				if err != nil {
					t.Fatal(err)
				}
				if ci.Lo <= p.truth && p.truth <= ci.Hi {
					hits++
				}
				mean += v.Value / sims
				bias += ci.Bias / sims
				sd += ci.SD / sims
				spread += v.Value * v.Value / sims
			}
			spread = math.Sqrt(spread - mean*mean)
			t.Logf("%s n=%d: %d of %d hold %.3g; mean value %.3g, sd %.3g; estimated bias %.3g, sd %.3g", name, n, hits, sims, p.truth, mean, spread, bias, sd)
			if hits < 0.88*sims {
				t.Errorf("%s: n=%d: %d of %d intervals hold the distance, want at least 88 %%", name, n, hits, sims)
			}
			if math.Abs(mean-bias-p.truth) > 4*spread/math.Sqrt(sims) {
				t.Errorf("%s: n=%d: value less bias is %.3g on average, want %.3g", name, n, mean-bias, p.truth)
			}
			if sd < 0.75*spread || sd > 1.4*spread {
				t.Errorf("%s: n=%d: estimated sd %.3g, true sd %.3g", name, n, sd, spread)
			}
		}
	}
}

// With no more vectors than features the interval is for the mean value at this
// n, here taken over the trials themselves; it must hold that as often, and
// always the value.
func TestIntervalCoverageAtN(t *testing.T) {
	const sims, d, n = 80, 20, 14
	for name, f := range intervals {
		p := newPair(d, 0.3)
		var cis []Interval
		mean := 0.0
		for i := range uint64(sims) {
			a, b := p.draw(t, i, n)
			v, err := Frechet(a, b)
			if err != nil {
				t.Fatal(err)
			}
			ci, err := f(context.Background(), a, b, v.Value, IntervalOptions{Seed: i, Replicates: 60}.withDefaults())
			if err != nil {
				t.Fatal(err)
			}
			if !ci.AtN || ci.Lo > v.Value || ci.Hi < v.Value {
				t.Errorf("%s: value %g, interval %+v", name, v.Value, ci)
			}
			cis = append(cis, ci)
			mean += v.Value / sims
		}
		hits := 0
		for _, ci := range cis {
			if ci.Lo <= mean && mean <= ci.Hi {
				hits++
			}
		}
		t.Logf("%s: %d of %d hold %.3g", name, hits, sims, mean)
		if hits < 0.85*sims { // 95 % less four standard errors of 80 trials
			t.Errorf("%s: %d of %d intervals hold the mean value %g, want at least 85 %%", name, hits, sims, mean)
		}
	}
}

// Two samples of one distribution: the value is all bias and the interval must reach 0.
func TestIntervalOfEqualDistributions(t *testing.T) {
	for name, f := range intervals {
		p := newPair(6, 0)
		for sim := range uint64(10) {
			a, b := p.draw(t, sim, 100)
			v, err := Frechet(a, b)
			if err != nil {
				t.Fatal(err)
			}
			ci, err := f(context.Background(), a, b, v.Value, IntervalOptions{}.withDefaults())
			if err != nil || ci.Lo > 0 || ci.Hi < 0 {
				t.Errorf("%s: value %g, interval %+v, %v; want it to hold 0", name, v.Value, ci, err)
			}
		}
	}
}

// The shortcuts of the jackknife against deleting the rows and starting anew,
// for every shape of the two sets.
func TestJackknifeAgainstRecomputation(t *testing.T) {
	const d = 12
	p := newPair(d, 0.3)
	for _, n := range [][2]int{{9, 11}, {9, 40}, {40, 9}, {30, 50}, {12, 13}} {
		a := mustStats(t, gaussians(3, 1, n[0], p.mean[0], p.sd[0]), n[0], d)
		b := mustStats(t, gaussians(3, 2, n[1], p.mean[1], p.sd[1]), n[1], d)
		v, err := Frechet(a, b)
		if err != nil {
			t.Fatal(err)
		}
		const blocks, seed = 4, 5
		got, err := jackknife(context.Background(), a, b, v.Value, IntervalOptions{Level: 0.95, Blocks: blocks, Seed: seed})
		if err != nil {
			t.Fatal(err)
		}
		sets := []*Stats{a, b}
		bias, variance := 0.0, 0.0
		for side, s := range sets {
			order := rng.New(seed, jackknifeStream+uint64(side)).Perm(s.N)
			var values [blocks]float64
			mean := 0.0
			for k := range values {
				gone := map[int]bool{}
				for _, r := range order[k*s.N/blocks : (k+1)*s.N/blocks] {
					gone[r] = true
				}
				var rest []float32
				for i := range s.N {
					if !gone[i] {
						rest = append(rest, s.Features[i*d:][:d]...)
					}
				}
				dist, err := Frechet(mustStats(t, rest, len(rest)/d, d), sets[1-side])
				if err != nil {
					t.Fatal(err)
				}
				values[k] = dist.Value
				mean += dist.Value / blocks
			}
			bias += (blocks - 1) * (mean - v.Value)
			for _, x := range values {
				variance += (blocks - 1.) / blocks * (x - mean) * (x - mean)
			}
		}
		// Roots of eigenvalues at rounding level are what the shortcut loses.
		if math.Abs(got.Bias-bias) > 1e-5 || math.Abs(got.SD-math.Sqrt(variance)) > 1e-5 {
			t.Errorf("n=%v: bias %.9g, sd %.9g; recomputed %.9g, %.9g", n, got.Bias, got.SD, bias, math.Sqrt(variance))
		}
	}
}

// Tiny and constant sets give an interval of numbers or a reason, never NaN.
func TestIntervalOfDegenerateSets(t *testing.T) {
	for _, d := range []int{3, bootstrapDim + 1} {
		p := newPair(d, 0.2)
		rows := gaussians(1, 1, 40, p.mean[0], p.sd[0])
		two := mustStats(t, rows[:2*d], 2, d)
		flat := mustStats(t, make([]float32, 6*d), 6, d)
		some := mustStats(t, rows, 40, d)
		for _, pair := range [][2]*Stats{{two, some}, {flat, some}, {flat, flat}, {two, flat}, {some, some}} {
			ci, err := ConfidenceInterval(context.Background(), pair[0], pair[1], IntervalOptions{})
			var num *NumericError
			if err != nil && !errors.As(err, &num) {
				t.Errorf("d=%d n=%d,%d: %v", d, pair[0].N, pair[1].N, err)
			}
			if err == nil && !(ci.Lo >= 0 && ci.Lo <= ci.Hi && ci.Hi < math.Inf(1)) {
				t.Errorf("d=%d n=%d,%d: %+v", d, pair[0].N, pair[1].N, ci)
			}
		}
	}
}

func TestIntervalIsReproducible(t *testing.T) {
	p := newPair(5, 0.2)
	a, b := p.draw(t, 1, 80)
	var first Interval
	for i := range 3 {
		ci, err := ConfidenceInterval(context.Background(), a, b, IntervalOptions{Seed: 9})
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			first = ci
		} else if ci != first {
			t.Errorf("the same seed gave %+v and %+v", first, ci)
		}
	}
	other, err := ConfidenceInterval(context.Background(), a, b, IntervalOptions{Seed: 10})
	if err != nil || other == first {
		t.Errorf("another seed gave the same interval %+v, %v", other, err)
	}
}

func TestIntervalRefuses(t *testing.T) {
	p := newPair(5, 0.2)
	a, b := p.draw(t, 1, 80)
	plain := *b
	plain.Features = nil
	if _, err := ConfidenceInterval(context.Background(), a, &plain, IntervalOptions{}); !errors.Is(err, ErrNoFeatures) {
		t.Errorf("without features: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	for name, f := range intervals {
		if _, err := f(ctx, a, b, 1, IntervalOptions{}.withDefaults()); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: after a cancel: %v", name, err)
		}
	}
}

// Quantiles of Student's t from printed tables.
func TestStudentT(t *testing.T) {
	for _, c := range []struct {
		level float64
		nu    int
		want  float64
	}{{0.95, 18, 2.1009}, {0.95, 1, 12.7062}, {0.99, 9, 3.2498}, {0.90, 5, 2.0150}, {0.95, 1000, 1.9623}} {
		if got := studentT(c.level, c.nu); math.Abs(got-c.want) > 1e-4*c.want {
			t.Errorf("t(%g, %d) = %.5f, want %.4f", c.level, c.nu, got, c.want)
		}
	}
}

// The mean of 1, 2 and 6 is 3 and their variance 7; the printed quantile of t for
// two degrees of freedom is 4.3027.
func TestMeanInterval(t *testing.T) {
	mean, half := MeanInterval([]float64{1, 2, 6}, 0.95)
	if want := 4.3027 * math.Sqrt(7.0/3); mean != 3 || math.Abs(half-want) > 1e-4*want {
		t.Errorf("mean %g ± %g; want 3 ± %g", mean, half, want)
	}
	if mean, half := MeanInterval([]float64{5}, 0.95); mean != 5 || !math.IsNaN(half) {
		t.Errorf("one value: %g ± %g; want no interval", mean, half)
	}
}

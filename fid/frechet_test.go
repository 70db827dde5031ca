package fid

import (
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/rng"
)

// randomStats is a full-rank d-dimensional normal; its covariance is BᵀB of a
// random [2d,d].
func randomStats(seed uint64, d int) *Stats {
	r := rng.New(seed, 0)
	b, s := make([]float64, 2*d*d), &Stats{N: 1000, Mu: make([]float64, d), Sigma: make([]float64, d*d)}
	r.FillNormal64(b)
	r.FillNormal64(s.Mu)
	addScatter(nil, d, b, s.Sigma)
	for i := range s.Sigma {
		s.Sigma[i] /= float64(2 * d)
	}
	return s
}

// Commuting covariances have a closed form: with one rotation Q on both sides,
// FD = |Δμ|² + Σ(√aᵢ-√bᵢ)². Every size around the routes' borders, full rank,
// short rank, and zero.
func TestFrechetCommuting(t *testing.T) {
	for _, d := range []int{1, 2, 31, 32, 33, 65, exactDim, exactDim + 1} {
		for _, short := range []int{0, d / 2, d} { // how many eigenvalues of the second are 0
			if short == d && d > 33 {
				continue
			}
			r := rng.New(uint64(d), 1)
			q := make([]float64, d)
			r.FillNormal64(q)
			norm := 0.0
			for _, x := range q {
				norm += x * x
			}
			eig := [2][]float64{make([]float64, d), make([]float64, d)}
			var s [2]*Stats
			want := 0.0
			for i := range s {
				s[i] = &Stats{N: 10 * d, Mu: make([]float64, d), Sigma: make([]float64, d*d)}
				for j := range d {
					eig[i][j] = (0.5 + r.Float64()) / float64(1+j)
					if i == 1 && j < short {
						eig[i][j] = 0
					}
					s[i].Mu[j] = r.Normal()
				}
				// Q = I - 2qqᵀ/|q|², Σ = Q·diag·Q
				h := func(a, b int) float64 {
					v := -2 * q[a] * q[b] / norm
					if a == b {
						v++
					}
					return v
				}
				for a := range d {
					for b := range a + 1 {
						sum := 0.0
						for k := range d {
							sum += h(a, k) * eig[i][k] * h(k, b)
						}
						s[i].Sigma[a*d+b], s[i].Sigma[b*d+a] = sum, sum
					}
				}
			}
			for j := range d {
				want += (s[0].Mu[j] - s[1].Mu[j]) * (s[0].Mu[j] - s[1].Mu[j])
				e := math.Sqrt(eig[0][j]) - math.Sqrt(eig[1][j])
				want += e * e
			}
			got, err := Frechet(s[0], s[1])
			if err != nil {
				t.Fatalf("d=%d short=%d: %v", d, short, err)
			}
			if math.Abs(got.Value-want) > 1e-11*want {
				t.Errorf("d=%d short=%d: %.15g, want %.15g (%s)", d, short, got.Value, want, got.Route)
			}
			if got.Ranks[1] != d-short && !(d == 1 && short == 0) {
				t.Errorf("d=%d: rank %d, want %d", d, got.Ranks[1], d-short)
			}
		}
	}
}

// All routes to one number: features on both sides, on one, and statistics.
func TestFrechetRoutesAgree(t *testing.T) {
	const d = 40
	p := newPair(d, 0.3)
	few := mustStats(t, gaussians(1, 1, 25, p.mean[0], p.sd[0]), 25, d)
	other := mustStats(t, gaussians(1, 2, 33, p.mean[1], p.sd[1]), 33, d)
	many := mustStats(t, gaussians(1, 3, 300, p.mean[1], p.sd[1]), 300, d)
	plain := func(s *Stats) *Stats { return &Stats{N: s.N, Mu: s.Mu, Sigma: s.Covariance()} }
	for _, b := range []*Stats{other, many} {
		want, err := Frechet(few, b)
		if err != nil {
			t.Fatal(err)
		}
		for _, pair := range [][2]*Stats{{plain(few), b}, {few, plain(b)}, {plain(few), plain(b)}, {b, few}, {plain(b), few}} {
			got, err := Frechet(pair[0], pair[1])
			if err != nil || math.Abs(got.Value-want.Value) > 1e-12*want.Value {
				t.Errorf("%s gives %.15g, %s gives %.15g, %v", want.Route, want.Value, got.Route, got.Value, err)
			}
		}
	}
}

// A covariance that was rounded to float32 is not semidefinite any more; it is
// still used, and the note says so.
func TestFrechetFloat32Sigma(t *testing.T) {
	const d = 40
	p := newPair(d, 0.3)
	a := mustStats(t, gaussians(1, 1, 25, p.mean[0], p.sd[0]), 25, d)
	b := mustStats(t, gaussians(1, 3, 300, p.mean[1], p.sd[1]), 300, d)
	want, err := Frechet(a, b)
	if err != nil {
		t.Fatal(err)
	}
	rough := &Stats{N: a.N, Mu: a.Mu, Sigma: append([]float64(nil), a.Covariance()...)}
	for i, x := range rough.Sigma {
		rough.Sigma[i] = float64(float32(x))
	}
	got, err := Frechet(rough, b)
	if err != nil || math.Abs(got.Value-want.Value) > 1e-4*want.Value {
		t.Errorf("%.9g, want %.9g; %v", got.Value, want.Value, err)
	}
	if !strings.HasPrefix(got.Route, "clipped") || !strings.Contains(strings.Join(got.Notes, "\n"), "were set to 0") {
		t.Errorf("route %q, notes %q", got.Route, got.Notes)
	}
}

// Eigenvalues lose digits where covariances are ill conditioned; then singular
// values must take over.
func TestFrechetEscalates(t *testing.T) {
	const d = exactDim + 8
	s := [2]*Stats{}
	want := 0.0
	for i := range s {
		s[i] = &Stats{N: 10 * d, Mu: make([]float64, d), Sigma: make([]float64, d*d)}
		for j := range d {
			s[i].Sigma[j*d+j] = math.Pow(10, -12*float64(j)/d) * (1 + 1e-3*float64(i))
		}
	}
	for j := range d {
		e := math.Sqrt(s[0].Sigma[j*d+j]) - math.Sqrt(s[1].Sigma[j*d+j])
		want += e * e
	}
	got, err := Frechet(s[0], s[1])
	if !strings.Contains(strings.Join(got.Notes, "\n"), "nearly singular (condition number at least") {
		t.Errorf("notes %q", got.Notes)
	}
	if err != nil || math.Abs(got.Value-want) > 1e-13 || !strings.HasSuffix(got.Route, "singular values") {
		t.Errorf("%.12g by %q, want %.12g; %v", got.Value, got.Route, want, err)
	}
}

// A nearly singular generated set is told also where the quick route, which
// does not factor it, keeps all digits because the other covariance balances it.
func TestFrechetTellsNearlySingularEitherWay(t *testing.T) {
	const d = exactDim + 8
	s := [2]*Stats{}
	for i := range s {
		s[i] = &Stats{N: 10 * d, Mu: make([]float64, d), Sigma: make([]float64, d*d)}
	}
	want := 0.0
	for j := range d {
		x, y := math.Pow(10, -5*float64(d-1-j)/d), math.Pow(10, -11*float64(j)/d)
		s[0].Sigma[j*d+j], s[1].Sigma[j*d+j] = x, y
		want += (math.Sqrt(x) - math.Sqrt(y)) * (math.Sqrt(x) - math.Sqrt(y))
	}
	for i, who := range []string{"generated", "reference"} {
		got, err := Frechet(s[i], s[1-i])
		if err != nil || math.Abs(got.Value-want) > 1e-9*want || !strings.HasSuffix(got.Route, "eigenvalues") {
			t.Errorf("%.12g by %q, want %.12g; %v", got.Value, got.Route, want, err)
		}
		if len(got.Notes) != 1 || !strings.HasPrefix(got.Notes[0], who+": the covariance is nearly singular") {
			t.Errorf("notes %q, want one on the %s set", got.Notes, who)
		}
	}
}

func TestFrechetNeverNegative(t *testing.T) {
	for seed := range uint64(40) {
		s := randomStats(seed, 24)
		n := &Stats{N: s.N, Mu: s.Mu, Sigma: append([]float64(nil), s.Covariance()...)}
		n.Sigma[0] = math.Nextafter(n.Sigma[0], 2*n.Sigma[0])
		got, err := Frechet(s, n)
		if err != nil || !(got.Value >= 0) || math.Signbit(got.Value) || got.Value > 1e-9 {
			t.Fatalf("seed %d: %g, %v", seed, got.Value, err)
		}
		if (got.Clamped < 0) != strings.Contains(strings.Join(got.Notes, "\n"), "set to 0") {
			t.Errorf("clamped %g but notes %q", got.Clamped, got.Notes)
		}
	}
}

func TestFrechetRefuses(t *testing.T) {
	good := randomStats(1, 4)
	change := func(f func(s *Stats)) *Stats {
		s := randomStats(2, 4)
		f(s)
		return s
	}
	var bad *BadInputError
	var num *NumericError
	for name, c := range map[string]struct {
		s    *Stats
		as   any
		want string
	}{
		"nan":           {change(func(s *Stats) { s.Sigma[6] = math.NaN() }), &num, "covariance (1,2) is NaN"},
		"inf":           {change(func(s *Stats) { s.Mu[3] = math.Inf(1) }), &num, "mean 3 is +Inf"},
		"asymmetric":    {change(func(s *Stats) { s.Sigma[1] += 0.5 }), &num, "not symmetric: (1,0) is"},
		"indefinite":    {change(func(s *Stats) { s.Sigma[1] += 5; s.Sigma[4] += 5 }), &num, "indefinite: its eigenvalues go from -"},
		"negative":      {change(func(s *Stats) { s.Sigma[5] = -0.25 }), &num, "variance 1 is -0.25"},
		"one vector":    {change(func(s *Stats) { s.N = 1 }), &num, "at least 2"},
		"other width":   {randomStats(3, 5), &bad, "reference has 4 features, the generated set 5"},
		"overflow":      {change(func(s *Stats) { s.Mu[0] = 1e200 }), &num, "too large"},
		"no dimensions": {&Stats{N: 5}, &bad, "features"},
	} {
		_, err := Frechet(good, c.s)
		if err == nil || !errors.As(err, c.as) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want %T with %q", name, err, c.as, c.want)
		}
		if err != nil && strings.Contains(err.Error(), "%!") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestFrechetNotes(t *testing.T) {
	p := newPair(8, 0.1)
	a := mustStats(t, gaussians(1, 1, 2, p.mean[0], p.sd[0]), 2, 8)
	flat := mustStats(t, make([]float32, 8*20), 20, 8)
	got, err := Frechet(a, flat)
	if err != nil {
		t.Fatal(err)
	}
	notes := strings.Join(got.Notes, "\n")
	for _, want := range []string{"reference: 2 images give a covariance of rank at most 1 in 8 dimensions", "generated: all vectors are equal"} {
		if !strings.Contains(notes, want) {
			t.Errorf("notes %q lack %q", notes, want)
		}
	}
	if got.CovTerm-a.trace(&factor{}) > 1e-12 || got.Ranks != [2]int{1, 0} {
		t.Errorf("%+v", got)
	}
}

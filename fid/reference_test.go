package fid

import (
	"errors"
	"math"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fidlab/fidlab/rng"
)

// fewVectors are n vectors of d features.
func fewVectors(t testing.TB, seed uint64, n, d int) *Stats {
	x := make([]float32, n*d)
	rng.New(seed, 9).FillNormal32(x)
	s, err := FromFeatures(x, n, d)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// shortRank is a covariance of rank d/2 without features.
func shortRank(t testing.TB, seed uint64, d int) *Stats {
	s := fewVectors(t, seed, d/2+1, d)
	return &Stats{N: s.N, Mu: s.Mu, Sigma: s.Covariance()}
}

// A prepared reference gives Frechet's distance to the last bit, by every route,
// time after time and on several goroutines: it is not used up.
func TestReferenceIsFrechet(t *testing.T) {
	const wideDim = exactDim + 8
	cases := map[string][2]func() *Stats{
		"full rank, few features":   {func() *Stats { return randomStats(1, 24) }, func() *Stats { return randomStats(2, 24) }},
		"full rank, many features":  {func() *Stats { return randomStats(3, wideDim) }, func() *Stats { return randomStats(4, wideDim) }},
		"few vectors against many":  {func() *Stats { return randomStats(5, wideDim) }, func() *Stats { return fewVectors(t, 6, 40, wideDim) }},
		"few vectors on both sides": {func() *Stats { return fewVectors(t, 7, 30, 64) }, func() *Stats { return fewVectors(t, 8, 40, 64) }},
		"a reference of short rank": {func() *Stats { return shortRank(t, 9, 40) }, func() *Stats { return randomStats(10, 40) }},
		"few vectors as reference":  {func() *Stats { return fewVectors(t, 11, 30, 64) }, func() *Stats { return randomStats(12, 64) }},
	}
	for name, c := range cases {
		want, err := Frechet(c[0](), c[1]())
		if err != nil {
			t.Fatal(name, err)
		}
		ref, err := NewReference(c[0]())
		if err != nil {
			t.Fatal(name, err)
		}
		var wg sync.WaitGroup
		for i := range 4 {
			wg.Add(1)
			go func() {
				defer wg.Done()
				got, err := ref.Frechet(c[1]())
				if err != nil || got.Value != want.Value || got.Route != want.Route || got.Ranks != want.Ranks {
					t.Errorf("%s, call %d: %v by %q %v (%v), Frechet says %v by %q %v", name, i, got.Value, got.Route, got.Ranks, err, want.Value, want.Route, want.Ranks)
				}
			}()
		}
		wg.Wait()
		if d, err := ref.Frechet(ref.Stats()); err != nil || d.Value != 0 {
			t.Errorf("%s: the distance to itself is %v, %v", name, d.Value, err)
		}
	}
}

func TestReferenceRefused(t *testing.T) {
	bad := randomStats(1, 5)
	bad.Mu[3] = math.NaN()
	for want, s := range map[string]*Stats{
		"reference: mean 3 is NaN": bad,
		"no features":              {},
		"one vector":               {N: 1, Mu: make([]float64, 2), Sigma: make([]float64, 4)},
		"indefinite":               {N: 9, Mu: make([]float64, 2), Sigma: []float64{1, 2, 2, 1}},
	} {
		if _, err := NewReference(s); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	ref, err := NewReference(randomStats(1, 5))
	if err != nil {
		t.Fatal(err)
	}
	var refused *BadInputError
	if _, err := ref.Frechet(randomStats(1, 6)); !errors.As(err, &refused) || !strings.Contains(err.Error(), "5 features, the generated set 6") {
		t.Errorf("another width: %v", err)
	}
	var numbers *NumericError
	if _, err := ref.Frechet(bad); !errors.As(err, &numbers) || !strings.Contains(err.Error(), "generated: mean 3") {
		t.Errorf("a bad set: %v", err)
	}
}

// BenchmarkReference says how much of a distance the reference's factor is: x is
// the ratio of Frechet's time to the prepared one's.
func BenchmarkReference(b *testing.B) {
	const d, n = 512, 64
	a, gen := randomStats(1, d), fewVectors(b, 2, n, d)
	ref, err := NewReference(a)
	if err != nil {
		b.Fatal(err)
	}
	took := func(f func() (Distance, error)) float64 {
		start := time.Now()
		if _, err := f(); err != nil {
			b.Fatal(err)
		}
		return time.Since(start).Seconds()
	}
	var prepared, plain float64
	for b.Loop() {
		prepared += took(func() (Distance, error) { return ref.Frechet(gen) })
		b.StopTimer()
		plain += took(func() (Distance, error) { return Frechet(a, gen) })
		b.StartTimer()
	}
	b.ReportMetric(plain/prepared, "x")
}

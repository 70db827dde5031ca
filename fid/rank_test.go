package fid

import (
	"math"
	"slices"
	"testing"
)

// wider are normal vectors of deviation s.
func wider(seed uint64, n, d int, s float64) []float32 {
	x := normals(seed, n, d, 0)
	for i := range x {
		x[i] *= float32(s)
	}
	return x
}

// Of two generators that are equally good the interval of the difference holds 0
// as often as it says; of one that is better it tells, and far more often than
// two intervals that overlap or not.
func TestRankCoverage(t *testing.T) {
	const d, n, runs = 6, 300, 250
	held, told := 0, 0
	for r := range uint64(runs) {
		ref := mustStats(t, normals(9*r, n, d, 0), n, d)
		a, b := mustStats(t, wider(9*r+1, n, d, 1.2), n, d), mustStats(t, wider(9*r+2, n, d, 1.2), n, d)
		c := mustStats(t, wider(9*r+3, n, d, 1.35), n, d)
		got, err := Rank(t.Context(), ref, []*Stats{a, b}, IntervalOptions{})
		if err != nil {
			t.Fatal(err)
		}
		// Ranking made the difference positive: its sign is chance, so that 0 is to be held.
		if ci := got[1].CI; ci[0] <= 0 && ci[1] >= 0 {
			held++
		}
		if got, err = Rank(t.Context(), ref, []*Stats{c, a}, IntervalOptions{}); err != nil {
			t.Fatal(err)
		}
		if got[0].Index == 1 && got[1].Distinct() {
			told++
		}
	}
	t.Logf("equal: 0 is held in %d of %d; better: told in %d", held, runs, told)
	if held < runs*90/100 || held > runs*99/100 {
		t.Errorf("0 is held in %d of %d; wanted about 95 %%", held, runs)
	}
	if told < runs*80/100 {
		t.Errorf("a better generator was told in %d of %d", told, runs)
	}
}

// The distances are Compare's, in order; the difference's reference chance drops out.
func TestRankOrder(t *testing.T) {
	const d, n = 5, 200
	ref := mustStats(t, normals(1, n, d, 0), n, d)
	var gens []*Stats
	for i, s := range []float64{1.5, 1, 2, 1.25} {
		gens = append(gens, mustStats(t, wider(uint64(i+2), n, d, s), n, d))
	}
	got, err := Rank(t.Context(), ref, gens, IntervalOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var order []int
	for i, r := range got {
		order = append(order, r.Index)
		if want := valueOf(t, "fid", ref, gens[r.Index]).Number(); r.Value != want {
			t.Errorf("set %d is at %g, compared alone %g", r.Index, r.Value, want)
		}
		if i == 0 != (r.CI == nil) || i > 0 && math.Abs(r.Difference-(r.Value-got[i-1].Value)) > 1e-12 {
			t.Errorf("%+v", r)
		}
	}
	if !slices.Equal(order, []int{1, 3, 0, 2}) {
		t.Errorf("order %v", order)
	}
	// A set against itself: no chance at all.
	twice, err := Rank(t.Context(), ref, []*Stats{gens[0], gens[0]}, IntervalOptions{})
	if err != nil || twice[1].Difference != 0 || twice[1].Distinct() {
		t.Errorf("%+v %v", twice, err)
	}
	bare := &Stats{N: n, Mu: gens[2].Mu, Sigma: gens[2].Covariance()}
	some, err := Rank(t.Context(), ref, []*Stats{gens[1], bare}, IntervalOptions{})
	if err != nil || some[1].CI != nil || some[1].Index != 1 {
		t.Errorf("%+v %v", some, err)
	}
}

package fid

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
)

// without is a set less one of its rows.
func without(t testing.TB, s *Stats, i int) *Stats {
	d := s.Dim()
	return mustStats(t, slices.Concat(s.Features[:i*d], s.Features[(i+1)*d:]), s.N-1, d)
}

// Every vector is left out in turn.
func TestEffectsAreThoseOfLeavingOut(t *testing.T) {
	for _, c := range []struct {
		name        string
		ref, gen, d int
	}{
		{"many", 400, 200, 4},
		{"one dimension", 100, 50, 1},
		{"more than features", 300, 90, 16},
		{"fewer than features", 60, 20, 40},
		{"far fewer", 300, 8, 64},
		{"a reference of few", 10, 60, 24},
		{"few on both sides", 9, 12, 30},
		{"as many as features", 80, 20, 20},
		{"three", 40, 3, 5},
	} {
		ref, gen := mustStats(t, draw(1, c.ref, c.d, 0), c.ref, c.d), mustStats(t, draw(2, c.gen, c.d, 0.4), c.gen, c.d)
		got, err := Effects(ref, gen)
		if err != nil {
			t.Fatal(err)
		}
		whole, err := Frechet(ref, gen)
		if err != nil {
			t.Fatal(err)
		}
		want := make([]float64, gen.N)
		for i := range want {
			part, err := Frechet(ref, without(t, gen, i))
			if err != nil {
				t.Fatal(err)
			}
			want[i] = whole.Value - part.Value
		}
		for i, w := range want {
			if math.Abs(got[i]-w) > 2e-9*whole.Value {
				t.Errorf("%s: vector %d: %.9g, want %.9g; the distance is %g", c.name, i, got[i], w, whole.Value)
			}
		}
	}
}

// Of 400 vectors ten are far off: they are the worst ten.
func TestEffectsFindTheFarOnes(t *testing.T) {
	const d = 5
	x := draw(2, 400, d, 0)
	for i := range 10 {
		for j := range d {
			x[40*i*d+j] += 3
		}
	}
	ref, gen := mustStats(t, draw(1, 500, d, 0), 500, d), mustStats(t, x, 400, d)
	got, err := Effects(ref, gen)
	if err != nil {
		t.Fatal(err)
	}
	order := make([]int, len(got))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return int(math.Copysign(1, got[b]-got[a])) })
	for _, i := range order[:10] {
		if i%40 != 0 {
			t.Errorf("vector %d is among the worst ten", i)
		}
	}
}

func TestEffectsRefuse(t *testing.T) {
	a := mustStats(t, draw(1, 40, 4, 0), 40, 4)
	for want, s := range map[string][2]*Stats{
		"extract both":             {mustStats(t, draw(1, 40, 5, 0), 40, 5), a},
		"needs the feature vector": {a, {N: 40, Mu: a.Mu, Sigma: a.Covariance()}},
		"needs at least 3 vectors": {a, mustStats(t, draw(1, 2, 4, 0), 2, 4)},
		"reference: ":              {{N: 40, Mu: []float64{0, 0, 0, math.NaN()}, Sigma: a.Covariance()}, a},
	} {
		if _, err := Effects(s[0], s[1]); err == nil || !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("%v; wanted %q", err, want)
		}
	}
}

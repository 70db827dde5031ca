package fid

import (
	"context"
	"math"
	"slices"
	"testing"
)

// Classes are compared as their vectors alone are, and the effect is what leaving the class out does. Rows without a class
// count in the whole alone; classes of one side are there.
func TestByClass(t *testing.T) {
	const d = 4
	x, y := draw(1, 90, d, 0), draw(2, 61, d, 0.3)
	ref, gen := mustStats(t, slices.Clone(x), 90, d), mustStats(t, slices.Clone(y), 61, d)
	for j := range gen.Features { // as a file of features has them
		gen.Features[j] -= float32(gen.Mu[j%d])
	}
	refLabels, genLabels := make([]int, 90), make([]int, 61)
	for i := range refLabels {
		refLabels[i] = []int{0, 2, 2, 7, -1}[i%5]
	}
	for i := range genLabels {
		genLabels[i] = []int{2, 0, 2, -1}[i%4]
	}
	genLabels[60] = 9
	got, err := ByClass(context.Background(), ref, gen, refLabels, genLabels)
	if err != nil {
		t.Fatal(err)
	}
	rowsOf := func(x []float32, labels []int, pass func(int) bool) *Stats {
		var part []float32
		for i, l := range labels {
			if pass(l) {
				part = append(part, x[i*d:(i+1)*d]...)
			}
		}
		return mustStats(t, part, len(part)/d, d)
	}
	whole, _ := Frechet(ref, mustStats(t, y, 61, d))
	want := []ClassDistance{{Label: 0, Ref: 18, Gen: 15}, {Label: 2, Ref: 36, Gen: 30}, {Label: 7, Ref: 18}, {Label: 9, Gen: 1}}
	if len(got) != len(want) {
		t.Fatalf("%d classes, want %d", len(got), len(want))
	}
	for i, w := range want {
		g := got[i]
		if g.Label != w.Label || g.Ref != w.Ref || g.Gen != w.Gen {
			t.Errorf("class %+v, want %+v", g, w)
			continue
		}
		w.Value, w.Effect = math.NaN(), math.NaN()
		if w.Label < 7 {
			dist, _ := Frechet(rowsOf(x, refLabels, func(l int) bool { return l == w.Label }), rowsOf(y, genLabels, func(l int) bool { return l == w.Label }))
			w.Value = dist.Value
		}
		if w.Gen > 0 {
			rest, _ := Frechet(ref, rowsOf(y, genLabels, func(l int) bool { return l != w.Label }))
			w.Effect = whole.Value - rest.Value
		}
		for name, v := range map[string][2]float64{"distance": {g.Value, w.Value}, "effect": {g.Effect, w.Effect}} {
			if math.IsNaN(v[0]) != math.IsNaN(v[1]) || math.Abs(v[0]-v[1]) > 1e-6 {
				t.Errorf("class %d: %s %g, want %g", w.Label, name, v[0], v[1])
			}
		}
	}
	if _, err := ByClass(context.Background(), ref, gen, refLabels, genLabels[:3]); err == nil {
		t.Error("three labels for 61 vectors were taken")
	}
}

// Neighbours are those of a search of all pairs in float64.
func TestNearestOf(t *testing.T) {
	const d, n, m = 3, 80, 50
	x, y := draw(1, n, d, 0), draw(2, m, d, 0.2)
	copy(y[7*d:8*d], x[20*d:21*d]) // a copy
	ref, gen := mustStats(t, x, n, d), mustStats(t, y, m, d)
	got, err := NearestOf(context.Background(), ref, gen)
	if err != nil {
		t.Fatal(err)
	}
	far := func(a, b []float32) float64 {
		s := 0.0
		for j := range a {
			s += (float64(a[j]) - float64(b[j])) * (float64(a[j]) - float64(b[j]))
		}
		return math.Sqrt(s)
	}
	nearest := func(v []float32, skip int) (at int, dist float64) {
		dist = math.Inf(1)
		for i := range n {
			if r := far(x[i*d:(i+1)*d], v); i != skip && r < dist {
				at, dist = i, r
			}
		}
		return at, dist
	}
	for j, g := range got {
		at, dist := nearest(y[j*d:(j+1)*d], -1)
		_, reach := nearest(x[at*d:(at+1)*d], at)
		if g.Ref != at || g.Distance != dist || g.Reach != reach || g.Authentic() != (dist > reach) {
			t.Errorf("vector %d: %+v, want reference %d at %g, which reaches %g", j, g, at, dist, reach)
		}
	}
	if got[7].Ratio() != 0 || got[7].Ref != 20 {
		t.Errorf("the copy: %+v", got[7])
	}
	if _, err := NearestOf(context.Background(), ref, &Stats{N: 5, Mu: ref.Mu}); err == nil {
		t.Error("statistics alone were taken")
	}
}

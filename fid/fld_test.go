package fid

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/tensor"
)

// goldenFLD reads scripts/golden/fld.py's sets and results.
func goldenFLD(t testing.TB) (sets map[string]*Stats, results []float64) {
	t.Helper()
	f, err := tensor.OpenSafetensors(oracle.Golden(t, "fld", "fld.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	sets = map[string]*Stats{}
	for _, name := range f.Names() {
		a, err := f.Read(name)
		if err != nil {
			t.Fatal(err)
		}
		if name == "results" {
			results = a.F64()
			continue
		}
		sets[name] = mustStats(t, a.F32(), a.Shape[0], a.Shape[1])
	}
	return sets, results
}

// between is the rows [i, n) of a cloud.
func between(c *cloud, i, n int) *cloud {
	var rows []int
	for ; i < n; i++ {
		rows = append(rows, i)
	}
	return c.rows(rows)
}

// Mixtures and likelihoods are those of the definition in float64, with torch's gradients. Where
// generated vectors are copies, they become as narrow as float32's distances allow, and likelihoods are about the same.
func TestFLDGolden(t *testing.T) {
	ctx := context.Background()
	sets, want := goldenFLD(t)
	names := []string{"good", "narrow", "copies", "half"}
	if len(want) != 5*len(names) {
		t.Fatalf("%d results, want %d", len(want), 5*len(names))
	}
	scale, notes, err := newFLDScale(sets["test"])
	if err != nil || len(notes) > 0 {
		t.Fatal(err, notes)
	}
	train, test := scale.apply(sets["train"], nil), scale.apply(sets["test"], nil)
	for i, name := range names {
		w, tol := want[5*i:5*i+5], 1e-6
		if name == "copies" || name == "half" {
			tol = 0.02
		}
		gen := scale.apply(sets[name], nil)
		m, err := fitMixture(ctx, gen, train, 1)
		if err != nil {
			t.Fatal(err)
		}
		half := min(gen.n, train.n/2)
		base, err := fitMixture(ctx, between(train, 0, half), between(train, half, train.n), 1)
		if err != nil {
			t.Fatal(err)
		}
		for k, of := range []struct {
			m   *mixture
			x   *cloud
			tol float64
		}{{m, test, tol}, {m, train, tol}, {base, test, 1e-6}} {
			got, err := of.m.nll(ctx, of.x)
			if err != nil {
				t.Fatal(err)
			}
			if math.Abs(got-w[k]) > of.tol*max(1, math.Abs(w[k])) {
				t.Errorf("%s: likelihood %d is %.9g, want %.9g", name, k, got, w[k])
			}
		}
		if name == "good" || name == "narrow" {
			if m.epochs != int(w[3]) {
				t.Errorf("%s: %d epochs, want %g", name, m.epochs, w[3])
			}
		}
		if base.epochs != int(w[4]) {
			t.Errorf("%s: the baseline has %d epochs, want %g", name, base.epochs, w[4])
		}
	}
}

// The whole metric: near 0 for real vectors, high for copies, with a gap far below 0; the same from centred features.
func TestFLD(t *testing.T) {
	const d = 6
	train, test := mustStats(t, draw(1, 600, d, 0), 600, d), mustStats(t, draw(2, 300, d, 0), 300, d)
	compare := func(gen *Stats) FLDValue {
		t.Helper()
		r, err := Compare(context.Background(), train, gen, Options{Metrics: []string{"fld"}, Test: test})
		if err != nil {
			t.Fatal(err)
		}
		return r.Metrics["fld"].(FLDValue)
	}
	real := compare(mustStats(t, draw(3, 300, d, 0), 300, d))
	centred := mustStats(t, draw(3, 300, d, 0), 300, d)
	for i := range centred.Features {
		centred.Features[i] -= float32(centred.Mu[i%d])
	}
	if got := compare(centred); math.Abs(got.Value-real.Value) > 1e-4 {
		t.Errorf("of centred vectors with their mean %g, as they are %g", got.Value, real.Value)
	}
	if math.Abs(real.Value) > 3 || math.Abs(real.Gap) > 6 || real.Centres != 300 {
		t.Errorf("of real vectors %+v, want about 0", real)
	}
	shifted := compare(mustStats(t, draw(3, 300, d, 1), 300, d))
	if shifted.Value < real.Value+2 {
		t.Errorf("of shifted vectors %g, of real ones %g", shifted.Value, real.Value)
	}
	x := slices.Clone(train.Features[:300*d])
	copies := compare(mustStats(t, x, 300, d))
	if copies.Value < 1000 || copies.Gap > -1000 {
		t.Errorf("of copies %+v", copies)
	}
	for i := range x {
		x[i] += 0.02 * float32(i%7-3)
	}
	if near := compare(mustStats(t, x, 300, d)); near.Value < real.Value+1 || near.Gap > real.Gap-10 {
		t.Errorf("of near copies %+v, of real ones %+v", near, real)
	}
}

// Features that do not vary are left out; bad sets are told apart.
func TestFLDRefuses(t *testing.T) {
	const d = 3
	train, gen := mustStats(t, draw(1, 60, d, 0), 60, d), mustStats(t, draw(2, 60, d, 0), 60, d)
	flat := draw(3, 40, d, 0)
	for i := range 40 {
		flat[i*d+1] = 2
	}
	opt := Options{Metrics: []string{"fld"}, Test: mustStats(t, flat, 40, d)}
	r, err := Compare(context.Background(), train, gen, opt)
	if err != nil {
		t.Fatal(err)
	}
	if note := fmt.Sprint(r.Notes); !strings.Contains(note, "1 of 3 features do not vary in the test set") {
		t.Errorf("notes %s", note)
	}
	nan := mustStats(t, draw(4, 40, d, 0), 40, d)
	nan.Features[5] = float32(math.Inf(1))
	for _, c := range []struct {
		want      string
		ref, test *Stats
	}{
		{"there is no test set", train, nil},
		{"the test set 4; extract both", train, mustStats(t, draw(1, 40, 4, 0), 40, 4)},
		{"the test set, as reference: ", train, nan},
		{"no feature varies in the test set", train, mustStats(t, make([]float32, 40*d), 40, d)},
		{"reference: fld needs at least 4 vectors", mustStats(t, draw(1, 3, d, 0), 3, d), train},
	} {
		for _, metric := range []string{"fld", "fdr"} {
			if metric == "fdr" && c.test != nil && c.test.Dim() == d {
				continue
			}
			_, err := Compare(context.Background(), c.ref, gen, Options{Metrics: []string{metric}, Test: c.test})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: %v; wanted %q", metric, err, c.want)
			}
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	opt.Test = gen
	if _, err := Compare(ctx, train, gen, opt); err == nil {
		t.Error("a cancelled comparison gave a result")
	}
}

func TestFDR(t *testing.T) {
	const d = 4
	ref, test := mustStats(t, draw(1, 400, d, 0), 400, d), mustStats(t, draw(2, 300, d, 0.5), 300, d)
	gen := mustStats(t, draw(3, 200, d, 1), 200, d)
	opt := Options{Metrics: []string{"fdr", "fid"}, Test: test}
	r, err := Compare(context.Background(), ref, gen, opt)
	if err != nil {
		t.Fatal(err)
	}
	floor, err := Frechet(ref, test)
	if err != nil {
		t.Fatal(err)
	}
	v := r.Metrics["fdr"].(FDRValue)
	if v.FD != r.Metrics["fid"].(FIDValue).Value || v.Floor != floor.Value || v.Value != v.FD/v.Floor {
		t.Errorf("%+v; the distances are %g and %g", v, r.Metrics["fid"].Number(), floor.Value)
	}
	if !strings.Contains(fmt.Sprint(r.Notes), "fdr: 300 test vectors and 200 generated") {
		t.Errorf("notes %q", r.Notes)
	}
	opt.Test = ref
	if _, err := Compare(context.Background(), ref, gen, opt); err == nil || !strings.Contains(err.Error(), "at distance 0") {
		t.Errorf("the reference as test set: %v", err)
	}
}

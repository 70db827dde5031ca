package fid

import (
	"context"
	"math"
	"slices"
	"testing"
)

// With ddof 0 the distance is that of covariances made so from the vectors, for full and short ranks; so is the interval moved.
func TestPopulation(t *testing.T) {
	for _, n := range [][2]int{{60, 40}, {9, 30}, {7, 6}} {
		const d = 8
		x, y := draw(1, n[0], d, 0), draw(2, n[1], d, 0.3)
		ref, gen := mustStats(t, x, n[0], d), mustStats(t, y, n[1], d)
		r, err := Compare(context.Background(), ref, gen, Options{Population: true, CI: true})
		if err != nil {
			t.Fatal(err)
		}
		sample, err := Compare(context.Background(), ref, gen, Options{CI: true})
		if err != nil {
			t.Fatal(err)
		}
		got, one := r.Metrics["fid"].(FIDValue), sample.Metrics["fid"].(FIDValue)
		// The same numbers from statistics whose covariances were divided by n.
		of := func(s *Stats) *Stats {
			c := slices.Clone(s.Covariance())
			for i := range c {
				c[i] *= float64(s.N-1) / float64(s.N)
			}
			return &Stats{N: s.N, Mu: s.Mu, Sigma: c}
		}
		want, err := Frechet(of(ref), of(gen))
		if err != nil {
			t.Fatal(err)
		}
		if math.Abs(got.Value-want.Value) > 1e-7*want.Value || got.Value >= one.Value {
			t.Errorf("%v: %.12g, want %.12g; with ddof 1 %.12g", n, got.Value, want.Value, one.Value)
		}
		if moved := got.Value - one.Value; math.Abs(got.CI[1]-one.CI[1]-moved) > 1e-9 {
			t.Errorf("%v: the interval ends at %g, with ddof 1 at %g; the values differ by %g", n, got.CI[1], one.CI[1], moved)
		}
	}
	unknown := &Stats{Mu: []float64{0}, Sigma: []float64{1}}
	if _, err := Compare(context.Background(), unknown, &Stats{N: 5, Mu: []float64{1}, Sigma: []float64{1}}, Options{Population: true}); err == nil {
		t.Error("a set of an unknown number of vectors was taken")
	}
}

// Parts of a size: the last has what is left and counts as much as the others.
func TestSplitSize(t *testing.T) {
	const n, classes = 23, 5
	logits := draw(3, n, classes, 0)
	gen := mustStats(t, draw(1, n, 4, 0), n, 4)
	gen.Parts = map[string]*Stats{PartLogits: mustStats(t, logits, n, classes)}
	r, err := Compare(context.Background(), gen, gen, Options{Metrics: []string{"is"}, InOrder: true, SplitSize: 10})
	if err != nil {
		t.Fatal(err)
	}
	v := r.Metrics["is"].(ISValue)
	want := 0.0
	for _, rows := range [][2]int{{0, 10}, {10, 20}, {20, 23}} {
		var list []int
		for i := rows[0]; i < rows[1]; i++ {
			list = append(list, i)
		}
		want += inceptionScore(logits, classes, list) / 3
	}
	if v.Splits != 3 || math.Abs(v.Value-want) > 1e-12 {
		t.Errorf("%d parts, %g; want 3 and %g", v.Splits, v.Value, want)
	}
	if _, err := Compare(context.Background(), gen, gen, Options{Metrics: []string{"is"}, SplitSize: -1}); err == nil {
		t.Error("parts of -1 were taken")
	}
}

func TestTools(t *testing.T) {
	for _, want := range []string{"pytorch-fid", "clean-fid", "torch-fidelity", "adm", "edm", "edm2", "dgm-eval", "stylegan", "torchmetrics"} {
		if tool, ok := FindTool(want); !ok || tool.Inception == "" {
			t.Errorf("no tool %s", want)
		}
	}
	if _, ok := FindTool("clean"); ok {
		t.Error("clean is a way to resize, and was taken for a tool")
	}
}

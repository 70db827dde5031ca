package fid

import (
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/internal/cpu"
	"github.com/fidlab/fidlab/rng"
)

// direct is the mean and covariance by two passes in float64.
func direct(x []float32, d int) *Stats {
	n := len(x) / d
	s := &Stats{N: n, Mu: make([]float64, d), Sigma: make([]float64, d*d)}
	for j := range d {
		sum := cpu.Sum{}
		for i := range n {
			sum.Add(float64(x[i*d+j]))
		}
		s.Mu[j] = sum.Value() / float64(n)
	}
	for j := range d {
		for k := range d {
			sum := cpu.Sum{}
			for i := range n {
				sum.Add((float64(x[i*d+j]) - s.Mu[j]) * (float64(x[i*d+k]) - s.Mu[k]))
			}
			s.Sigma[j*d+k] = sum.Value() / float64(n-1)
		}
	}
	return s
}

// farFromZero has means of up to 1e4 deviations, which naive sums would lose.
func farFromZero(n, d int) []float32 {
	mean, sd := make([]float64, d), make([]float64, d)
	for j := range d {
		sd[j] = math.Pow(10, float64(j%5)-2)
		mean[j] = sd[j] * math.Pow(10, float64(j%6)-1)
	}
	return gaussians(11, uint64(n), n, mean, sd)
}

func TestMomentsAgainstTwoPasses(t *testing.T) {
	for _, d := range []int{1, 7, smallDim - 1, smallDim, 45} {
		for _, n := range []int{2, 3, blockRows - 1, blockRows, blockRows + 1, 2*blockRows + 77} {
			x := farFromZero(n, d)
			m := NewMoments(d)
			if err := m.Add(x); err != nil {
				t.Fatal(err)
			}
			got := m.Stats()
			if got.N != n || m.N() != n || m.Dim() != d {
				t.Errorf("n is %d, want %d", got.N, n)
			}
			if err := sameMoments(got, direct(x, d), 1e-12); err != nil {
				t.Errorf("d=%d n=%d: %v", d, n, err)
			}
			for i := range d {
				for j := range i {
					if got.Sigma[i*d+j] != got.Sigma[j*d+i] {
						t.Fatalf("d=%d n=%d: not symmetric at (%d,%d)", d, n, i, j)
					}
				}
			}
		}
	}
}

// The bits do not depend on how rows are grouped, on looking in between, or on
// running on one worker instead of all.
func TestMomentsSameBitsAnyGrouping(t *testing.T) {
	const d, n = 40, 2*blockRows + 100
	x := farFromZero(n, d)
	whole := NewMoments(d)
	if err := whole.Add(x); err != nil {
		t.Fatal(err)
	}
	want := whole.Stats()
	for _, step := range []int{1, 8, 50, 333, blockRows, blockRows + 5} {
		m := NewMoments(d)
		cpu.Do(func(w *cpu.Worker) {
			for i := 0; i < n; i += step {
				if err := addRows(w, m, x[i*d:min(i+step, n)*d]); err != nil {
					t.Error(err)
				}
				if i%7 == 0 {
					m.stats(w)
				}
			}
		})
		if got := m.Stats(); !reflect.DeepEqual(got, want) {
			t.Errorf("groups of %d give other bits", step)
		}
	}
	wide := make([]float64, len(x))
	for i, v := range x {
		wide[i] = float64(v)
	}
	m := NewMoments(d)
	if err := m.Add64(wide); err != nil || !reflect.DeepEqual(m.Stats(), want) {
		t.Errorf("float64 rows give other bits, %v", err)
	}
}

// Shards merged in any order and grouping.
func TestMomentsMerge(t *testing.T) {
	const d, n = 33, 3000
	x := farFromZero(n, d)
	want := direct(x, d)
	cuts := []int{0, 1, 2, 500, 501, 1700, 2999, n}
	for trial := range uint64(6) {
		var parts []*Moments
		for i := range len(cuts) - 1 {
			m := NewMoments(d)
			if err := m.Add(x[cuts[i]*d : cuts[i+1]*d]); err != nil {
				t.Fatal(err)
			}
			parts = append(parts, m)
		}
		r := rng.New(trial, 0)
		for len(parts) > 1 {
			r.Shuffle(len(parts), func(i, j int) { parts[i], parts[j] = parts[j], parts[i] })
			before := parts[1].Stats()
			parts[0].Merge(parts[1])
			if !reflect.DeepEqual(parts[1].Stats(), before) {
				t.Error("Merge changed its argument")
			}
			parts = append(parts[:1], parts[2:]...)
		}
		if err := sameMoments(parts[0].Stats(), want, 1e-12); err != nil || parts[0].N() != n {
			t.Errorf("trial %d: %v", trial, err)
		}
	}
}

func TestMergeStats(t *testing.T) {
	const d = 20
	x := farFromZero(18, d)
	want := mustStats(t, x, 18, d)
	prov := func(input string) *Provenance {
		return &Provenance{Input: input, Extractor: ExtractorInfo{Name: "pixels", Dim: d}, Decoders: []string{input + "dec"}, Skipped: 1}
	}
	var parts []*Stats
	for i, cut := range [][2]int{{0, 5}, {5, 6}, {6, 18}} {
		s := mustStats(t, x[cut[0]*d:cut[1]*d], cut[1]-cut[0], d)
		s.Provenance = prov(string(rune('a' + i)))
		parts = append(parts, s)
	}
	got, err := MergeStats(parts...)
	if err != nil {
		t.Fatal(err)
	}
	if err := sameMoments(got, want, 1e-12); err != nil {
		t.Error(err)
	}
	if p := got.Provenance; p.Input != "a + b + c" || p.Skipped != 3 || !reflect.DeepEqual(p.Decoders, []string{"adec", "bdec", "cdec"}) {
		t.Errorf("provenance %+v", p)
	}
	other := mustStats(t, farFromZero(30, d), 30, d)
	a, err := Frechet(got, other) // 18 rows in 20 dimensions: by the merged features
	if err != nil || !strings.HasPrefix(a.Route, "features") {
		t.Fatalf("route %q, %v", a.Route, err)
	}
	b, err := Frechet(want, other)
	if err != nil || math.Abs(a.Value-b.Value) > 1e-7*b.Value {
		t.Errorf("merged %.12g, whole %.12g, %v", a.Value, b.Value, err)
	}
	var bad *BadInputError
	parts[1].Provenance.Extractor.Preset = "clean"
	if _, err := MergeStats(parts...); !errors.As(err, &bad) || !errors.Is(err, ErrUnlike) {
		t.Errorf("unlike parts: %v", err)
	}
	if _, err := MergeStats(parts[0], &Stats{Mu: make([]float64, d), Sigma: make([]float64, d*d)}); !errors.As(err, &bad) {
		t.Errorf("part without n: %v", err)
	}
	if _, err := MergeStats(parts[0], randomStats(1, 3)); !errors.As(err, &bad) {
		t.Errorf("other width: %v", err)
	}
}

func TestMomentsNotFinite(t *testing.T) {
	for _, v := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
		m := NewMoments(2)
		err := m.Add([]float32{1, 2, 3, float32(v)})
		var num *NumericError
		if !errors.As(err, &num) || !strings.Contains(err.Error(), "feature 1 of row 1") {
			t.Errorf("%g: %v", v, err)
		}
	}
}

// Equal rows have no variance at all, whatever their size.
func TestMomentsConstant(t *testing.T) {
	x := make([]float64, 3*777)
	for i := range x {
		x[i] = []float64{0.1, -1e9 / 3, math.Pi}[i%3]
	}
	m := NewMoments(3)
	if err := m.Add64(x); err != nil {
		t.Fatal(err)
	}
	for i, v := range m.Stats().Sigma {
		if v != 0 {
			t.Errorf("Sigma[%d] is %g", i, v)
		}
	}
}

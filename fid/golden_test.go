package fid

import (
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/internal/oracle"
)

// goldenCase is one case of golden/fid; its README has the meaning.
type goldenCase struct {
	Name     string
	Dim      int
	Stats    [2]string
	Features []struct {
		File  string
		Shape [2]int
	}
	FID      string  `json:"mpmath_fid"`
	FIDExact string  `json:"mpmath_fid_exact_statistics"`
	Trace    string  `json:"mpmath_trace_sqrt"`
	PyTorch  float64 `json:"pytorch_fid"`
}

func goldenCases(t testing.TB) []goldenCase {
	var f struct{ Cases []goldenCase }
	oracle.GoldenJSON(t, &f, "fid", "cases.json")
	ranCases(t, len(f.Cases), 12)
	return f.Cases
}

// ranCases asserts how many cases a golden test ran: those of the repository's
// data, or at least one of a folder that FIDLAB_GOLDEN names.
func ranCases(t testing.TB, ran, want int) {
	t.Helper()
	if ran == 0 || os.Getenv("FIDLAB_GOLDEN") == "" && ran != want {
		t.Errorf("ran %d cases, want %d", ran, want)
	}
}

// shortRank tells cases whose covariances are singular: fewer rows than
// features, or named so.
func (c goldenCase) shortRank() bool {
	for _, f := range c.Features {
		if f.Shape[0] <= f.Shape[1] {
			return true
		}
	}
	return strings.HasPrefix(c.Name, "rankdef") || strings.HasPrefix(c.Name, "constant")
}

func number(t testing.TB, s string) float64 {
	t.Helper()
	v, err := strconv.ParseFloat(s, 64)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func readFeatures(t testing.TB, file string, n, d int) []float32 {
	b, err := os.ReadFile(oracle.Golden(t, "fid", file))
	if err != nil {
		t.Fatal(err)
	}
	if len(b) != 4*n*d {
		t.Fatalf("%s: %d bytes, want %d×%d float32", file, len(b), n, d)
	}
	x := make([]float32, n*d)
	for i := range x {
		x[i] = math.Float32frombits(binary.LittleEndian.Uint32(b[4*i:]))
	}
	return x
}

func (c goldenCase) stats(t testing.TB) (a, b *Stats) {
	var out [2]*Stats
	for i, f := range c.Stats {
		s, err := ReadStats(oracle.Golden(t, "fid", f))
		if err != nil {
			t.Fatalf("%s: %v", c.Name, err)
		}
		out[i] = s
	}
	return out[0], out[1]
}

func (c goldenCase) features(t testing.TB) (a, b *Stats) {
	var out [2]*Stats
	for i, f := range c.Features {
		s, err := FromFeatures(readFeatures(t, f.File, f.Shape[0], f.Shape[1]), f.Shape[0], f.Shape[1])
		if err != nil {
			t.Fatalf("%s: %v", c.Name, err)
		}
		out[i] = s
	}
	return out[0], out[1]
}

// fromStats compares with the tolerances of the README.
func (c goldenCase) fromStats(got float64, t testing.TB) error {
	want := number(t, c.FID)
	tol := 1e-9 * want
	switch {
	case math.Abs(want) < 1e-30: // identical
		want, tol = 0, 1e-9
	case want < 1e-6: // nearly identical
		tol = 1e-13
	case strings.HasPrefix(c.Name, "illcond"), strings.HasPrefix(c.Name, "large_scale"):
		tol = 1e-7 * want
	case c.shortRank():
		if c.FIDExact != "" {
			want = number(t, c.FIDExact)
		}
		tol = 1e-7 * want
	}
	return within(got, want, tol)
}

func (c goldenCase) fromFeatures(got float64, t testing.TB) error {
	want := number(t, c.FIDExact)
	tol := 1e-9 * want
	if want < 1e-6 {
		tol = 1e-13
	}
	return within(got, want, tol)
}

func within(got, want, tol float64) error {
	if !(math.Abs(got-want) <= tol) || got < 0 || math.Signbit(got) {
		return fmt.Errorf("got %.17g, want %.17g within %.3g (off by %.3g)", got, want, tol, got-want)
	}
	return nil
}

func TestGoldenFrechetFromStatistics(t *testing.T) {
	for _, c := range goldenCases(t) {
		a, b := c.stats(t)
		for _, swapped := range []bool{false, true} {
			if swapped {
				a, b = b, a
			}
			got, err := Frechet(a, b)
			if err != nil {
				t.Errorf("%s: %v", c.Name, err)
				continue
			}
			t.Logf("%-22s %.16g  %s ranks %v", c.Name, got.Value, got.Route, got.Ranks)
			if err := c.fromStats(got.Value, t); err != nil {
				t.Errorf("%s (swapped %v): %v", c.Name, swapped, err)
			}
			if math.Abs(got.MeanTerm+got.CovTerm-got.Value) > 1e-15*got.Value {
				t.Errorf("%s: %g + %g is not %g", c.Name, got.MeanTerm, got.CovTerm, got.Value)
			}
		}
	}
}

func TestGoldenFrechetFromFeatures(t *testing.T) {
	ran := 0
	for _, c := range goldenCases(t) {
		if c.FIDExact == "" {
			continue
		}
		ran++
		a, b := c.features(t)
		got, err := Frechet(a, b)
		if err != nil {
			t.Errorf("%s: %v", c.Name, err)
			continue
		}
		t.Logf("%-22s %.16g  %s", c.Name, got.Value, got.Route)
		if err := c.fromFeatures(got.Value, t); err != nil {
			t.Errorf("%s: %v", c.Name, err)
		}
	}
	ranCases(t, ran, 6)
}

// The moments of the features are the statistics that NumPy stored.
func TestGoldenMoments(t *testing.T) {
	ran := 0
	for _, c := range goldenCases(t) {
		if c.FIDExact == "" {
			continue
		}
		fa, fb := c.features(t)
		sa, sb := c.stats(t)
		for i, p := range [][2]*Stats{{fa, sa}, {fb, sb}} {
			ran++
			if err := sameMoments(p[0], p[1], 1e-12); err != nil {
				t.Errorf("%s, set %d: %v", c.Name, i+1, err)
			}
		}
	}
	ranCases(t, ran, 12)
}

// sameMoments compares covariances relative to √(Σᵢᵢ·Σⱼⱼ), means to the larger
// of their size and their deviation.
func sameMoments(got, want *Stats, tol float64) error {
	d := want.Dim()
	for i := range d {
		si := math.Sqrt(want.Covariance()[i*d+i])
		if e := math.Abs(got.Mu[i] - want.Mu[i]); !(e <= tol*(math.Abs(want.Mu[i])+si)) {
			return fmt.Errorf("mean %d is %.17g, want %.17g", i, got.Mu[i], want.Mu[i])
		}
		for j := range d {
			g, w := got.Covariance()[i*d+j], want.Covariance()[i*d+j]
			if e := math.Abs(g - w); !(e <= tol*si*math.Sqrt(want.Covariance()[j*d+j])) {
				return fmt.Errorf("covariance (%d,%d) is %.17g, want %.17g", i, j, g, w)
			}
		}
	}
	return nil
}

// Each comparison above must notice data changed beyond its tolerance.
func TestGoldenComparisonsNoticeChanges(t *testing.T) {
	ran := 0
	for _, c := range goldenCases(t) {
		a, b := c.stats(t)
		d := a.Dim()
		a.Mu[0] += 1e-3 * (1 + math.Sqrt(b.Covariance()[0]) + math.Abs(a.Mu[0]))
		got, err := Frechet(a, b)
		if err != nil {
			t.Fatal(err)
		}
		if c.fromStats(got.Value, t) == nil {
			t.Errorf("%s: a changed mean passed", c.Name)
		}
		ran++
		a, b = c.stats(t)
		scaled := b.Covariance()
		if scaled[0] == 0 {
			scaled = a.Covariance()
		}
		for i := range scaled {
			scaled[i] *= 1.001
		}
		if got, err = Frechet(a, b); err != nil {
			t.Fatal(err)
		}
		if c.fromStats(got.Value, t) == nil {
			t.Errorf("%s: a scaled covariance passed", c.Name)
		}
		if c.FIDExact == "" {
			continue
		}
		fa, fb := c.features(t)
		fa.Features[0] += 1e-3
		changed, err := FromFeatures(fa.Features, fa.N, d)
		if err != nil {
			t.Fatal(err)
		}
		if got, err = Frechet(changed, fb); err != nil {
			t.Fatal(err)
		}
		if c.fromFeatures(got.Value, t) == nil {
			t.Errorf("%s: a changed feature passed", c.Name)
		}
		if sameMoments(changed, fa, 1e-12) == nil {
			t.Errorf("%s: the moments of a changed feature passed", c.Name)
		}
		ran++
	}
	ranCases(t, ran, 18)
}

package fid

import (
	"context"
	"errors"
	"io/fs"
	"math"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"gonum.org/v1/gonum/mat"

	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/tensor"
)

// someVectors are n vectors of d values around a mean far from zero, with falling
// deviations along turned axes, in classes 0 to 2 that lie apart.
func someVectors(n, d int) (rows [][]float64, set VectorSet) {
	axes := oracle.Normal(1, d*d)
	for i := range n {
		z := oracle.Normal(uint64(i+2), d)
		x := make([]float64, d)
		for j := range x {
			x[j] = 30 + float64(i%3)
			for k := range d {
				x[j] += float64(axes[j*d+k]) * float64(z[k]) * 3 / float64((k+1)*(k+1))
			}
		}
		rows = append(rows, x)
	}
	return rows, func(ctx context.Context, yield func(int, []float64) error) error {
		for i, x := range rows {
			if err := yield(i%3, x); err != nil {
				return err
			}
		}
		return nil
	}
}

// naive is the covariance by its definition; ddof and about say which.
func naive(rows [][]float64, ddof float64, mean bool) *mat.SymDense {
	d, n := len(rows[0]), float64(len(rows))
	mu := make([]float64, d)
	for _, x := range rows {
		for j, v := range x {
			mu[j] += v / n
		}
	}
	if !mean {
		clear(mu)
	}
	cov := mat.NewSymDense(d, nil)
	for _, x := range rows {
		for i := range d {
			for j := range i + 1 {
				cov.SetSym(i, j, cov.At(i, j)+(x[i]-mu[i])*(x[j]-mu[j])/(n-ddof))
			}
		}
	}
	return cov
}

// agrees tells how far the pairs are from being those of a covariance: |Σu - λu|
// over the largest variance, and the rest from the trace.
func (l *LowRank) agrees(cov *mat.SymDense) float64 {
	d := len(l.Mu)
	var worst, trace float64
	for i := range d {
		trace += cov.At(i, i)
	}
	for k, lambda := range l.Values {
		u := mat.NewVecDense(d, append([]float64(nil), l.Vectors[k*d:][:d]...))
		var v mat.VecDense
		v.MulVec(cov, u)
		for j := range d {
			worst = max(worst, math.Abs(v.AtVec(j)-lambda*u.AtVec(j)))
		}
		trace -= lambda
	}
	if rest := d - len(l.Values); rest > 0 {
		worst = max(worst, math.Abs(trace/float64(rest)-l.Rest))
	}
	return worst / l.Values[0]
}

// The pairs are those of the covariance about the mean, divided by n-1, of the set
// and of each class; a covariance about zero, or divided by n where n is small, is
// another one, and the check sees it.
func TestFitSpectrum(t *testing.T) {
	const n, d, r = 30, 7, 3
	rows, set := someVectors(n, d)
	s, err := FitSpectrum(context.Background(), set, d, SpectrumOptions{Rank: r, PerClass: true})
	if err != nil {
		t.Fatal(err)
	}
	if s.N != n || len(s.Classes) != 3 || s.Sigma == nil {
		t.Fatalf("%d vectors, %d classes, covariance %v", s.N, len(s.Classes), s.Sigma != nil)
	}
	if e := s.agrees(naive(rows, 1, true)); e > 1e-12 {
		t.Errorf("the pairs are %.2g off", e)
	}
	for name, cov := range map[string]*mat.SymDense{"about zero": naive(rows, 1, false), "divided by n": naive(rows, 0, true)} {
		if e := s.agrees(cov); e < 1e-2 {
			t.Errorf("a covariance %s passes as well (%.2g): the check is blind", name, e)
		}
	}
	for c, k := range s.Classes {
		var mine [][]float64
		for i := c; i < n; i += 3 {
			mine = append(mine, rows[i])
		}
		if e := k.agrees(naive(mine, 1, true)); k.Label != c || k.N != 10 || e > 1e-12 {
			t.Errorf("class %d: %d vectors, %.2g off", k.Label, k.N, e)
		}
	}
	low, _ := FitSpectrum(context.Background(), set, d, SpectrumOptions{Rank: d})
	if low.Rest != 0 || low.agrees(naive(rows, 1, true)) > 1e-12 {
		t.Errorf("of all dimensions: rest %g", low.Rest)
	}
}

// The randomised iteration finds the leading pairs of a covariance that it never
// makes, and the variance that is left; a pass more makes it better.
func TestRandomisedSpectrum(t *testing.T) {
	const n, d, r = 300, 60, 5
	rows, set := someVectors(n, d)
	want := naive(rows, 1, true)
	var off [2]float64
	for i, passes := range []int{1, 4} {
		s, err := FitSpectrum(context.Background(), set, d, SpectrumOptions{Rank: r, Exact: 10, Passes: passes, PerClass: true, Seed: 5})
		if err != nil {
			t.Fatal(err)
		}
		if s.Sigma != nil || len(s.Classes) != 3 || s.Classes[2].N != 100 {
			t.Errorf("covariance %v, %d classes", s.Sigma != nil, len(s.Classes))
		}
		for k := range r {
			for l := range k + 1 {
				var dot float64
				for j := range d {
					dot += s.Vectors[k*d+j] * s.Vectors[l*d+j]
				}
				if k == l {
					dot--
				}
				if math.Abs(dot) > 1e-12 {
					t.Errorf("pairs %d and %d: product %g off", k, l, dot)
				}
			}
		}
		off[i] = s.agrees(want)
	}
	if off[1] > 1e-4 || off[1] > off[0]/10 {
		t.Errorf("%.2g off after a pass, %.2g after four", off[0], off[1])
	}
	// A set that spans less than the iteration asks for.
	few := func(ctx context.Context, yield func(int, []float64) error) error {
		for _, x := range rows[:4] {
			if err := yield(-1, x); err != nil {
				return err
			}
		}
		return nil
	}
	s, err := FitSpectrum(context.Background(), few, d, SpectrumOptions{Rank: r, Exact: 10})
	if err != nil || s.agrees(naive(rows[:4], 1, true)) > 1e-9 {
		t.Fatalf("%v, four vectors", err)
	}
	if len(s.Provenance.Notes) != 1 || !strings.Contains(s.Provenance.Notes[0], "the set has 4 vectors, which span 3 of 5 dimensions") {
		t.Errorf("notes %q", s.Provenance.Notes)
	}
}

func TestFitSpectrumRefuses(t *testing.T) {
	of := func(d int, o SpectrumOptions, rows ...[]float64) error {
		_, err := FitSpectrum(context.Background(), func(_ context.Context, yield func(int, []float64) error) error {
			for i, x := range rows {
				if err := yield(min(i, 1), x); err != nil {
					return err
				}
			}
			return nil
		}, d, o)
		return err
	}
	a, b := []float64{1, 2}, []float64{3, 5}
	for _, exact := range []int{0, 1} {
		o := SpectrumOptions{Exact: exact, Rank: 1}
		per, three := o, o
		per.PerClass, three.Rank = true, 3
		for want, err := range map[string]error{
			"the set has 1 vectors":   of(2, o, a),
			"the set has 0 vectors":   of(2, o),
			"class 0 has 1 vectors":   of(2, per, a, b, a),
			"rank 3 of vectors of 2":  of(2, three, a, b),
			"is NaN; every":           of(2, o, a, []float64{1, math.NaN()}),
			"passes; want 1 to 2, in": of(2, SpectrumOptions{Rank: 1, Passes: -1}, a, b),
		} {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("error %v, want %q", err, want)
			}
		}
	}
	if err := of(2, SpectrumOptions{Rank: 1}, a, b); err != nil {
		t.Error(err)
	}
}

// What is written is read; other tools read mu and sigma of it, and of their files
// the pairs are made. A lower rank moves variance into the rest.
func TestSpectrumFile(t *testing.T) {
	const n, d = 30, 6
	rows, set := someVectors(n, d)
	s, err := FitSpectrum(context.Background(), set, d, SpectrumOptions{Rank: 4, PerClass: true})
	if err != nil {
		t.Fatal(err)
	}
	s.Shape, s.Range = []int{1, 2, 3}, [2]float64{-1, 1}
	s.Provenance.Input = "rows"
	path := filepath.Join(t.TempDir(), "s.npz")
	if err := WriteSpectrum(path, s); err != nil {
		t.Fatal(err)
	}
	if err := WriteSpectrum(path, s); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a file in the way: %v", err)
	}
	got, err := ReadSpectrum(path, 0)
	if err != nil {
		t.Fatal(err)
	}
	want := *s
	want.Sigma = nil
	if !reflect.DeepEqual(got, &want) {
		t.Errorf("read back %+v, want %+v", got, want)
	}
	st, err := ReadStats(path)
	if err != nil || st.N != n || !reflect.DeepEqual(st.Sigma, s.Sigma) {
		t.Errorf("as statistics: %v", err)
	}
	two, err := ReadSpectrum(path, 2)
	if err != nil || len(two.Values) != 2 || two.agrees(naive(rows, 1, true)) > 1e-12 || len(two.Classes[1].Vectors) != 2*d {
		t.Errorf("rank 2: %+v, %v", two, err)
	}
	plain := filepath.Join(t.TempDir(), "plain.npz")
	if err := WriteStats(plain, &Stats{N: n, Mu: s.Mu, Sigma: s.Sigma}); err != nil {
		t.Fatal(err)
	}
	low, err := ReadSpectrum(plain, 2)
	if err != nil || len(low.Values) != 2 || low.agrees(naive(rows, 1, true)) > 1e-12 || low.Shape != nil {
		t.Errorf("of mu and sigma: %+v, %v", low, err)
	}
	for name, err := range map[string]error{
		"rank 5 of the 4 pairs":     second(ReadSpectrum(path, 5)),
		"rank 7 of 6 dimensions":    second(ReadSpectrum(plain, 7)),
		"need the arrays mu and":    second(ReadSpectrum(write(t, f64("sigma", []float64{1}, 1, 1)), 0)),
		"eigenvectors has shape":    second(ReadSpectrum(write(t, f64("mu", []float64{1, 2}, 2), f64("eigenvalues", []float64{1}, 1), f64("eigenvectors", []float64{1}, 1, 1)), 0)),
		"eigenvalue 1 is -1":        second(ReadSpectrum(pairsFile(t, 2, -1, 0), 0)),
		"eigenvalue 2 is -0.5":      second(ReadSpectrum(pairsFile(t, 2, 1, -0.5), 0)),
		"is NaN; every value must":  second(ReadSpectrum(pairsFile(t, math.NaN(), 1, 0), 0)),
		"is +Inf; every value must": second(ReadSpectrum(pairsFile(t, 2, 1, math.Inf(1)), 0)),
	} {
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("error %v, want %q", err, name)
		}
	}
}

func second(_ *Spectrum, err error) error { return err }

func pairsFile(t *testing.T, a, b, rest float64) string {
	return write(t, f64("mu", []float64{0, 0, 0}, 3), f64("eigenvalues", []float64{a, b}, 2), f64("eigenvectors", []float64{1, 0, 0, 0, 1, 0}, 2, 3),
		f64("eigenrest", []float64{rest}, 1), tensor.NPZEntry{Name: "n", Array: tensor.FromI64([]int64{9})})
}

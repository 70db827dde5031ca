package fid

import (
	"bytes"
	"errors"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/tensor"
)

func write(t *testing.T, entries ...tensor.NPZEntry) string {
	t.Helper()
	p := filepath.Join(t.TempDir(), "s.npz")
	if err := tensor.WriteNPZ(p, entries, true); err != nil {
		t.Fatal(err)
	}
	return p
}

func f64(name string, v []float64, shape ...int) tensor.NPZEntry {
	return tensor.NPZEntry{Name: name, Array: tensor.FromF64(v, shape...)}
}

func TestStatsFileRoundTrip(t *testing.T) {
	const d = 6
	p := newPair(d, 0.1)
	for _, n := range []int{4, 50} {
		s := mustStats(t, gaussians(1, 1, n, p.mean[1], p.sd[1]), n, d)
		s.Provenance = &Provenance{Version: "v1", Input: "a<b> (folder)", Device: "cpu", Extractor: ExtractorInfo{Name: "pixels", Dim: d, Preset: "native"}}
		path := filepath.Join(t.TempDir(), "s.npz")
		if err := WriteStats(path, s); err != nil {
			t.Fatal(err)
		}
		got, err := ReadStats(path)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got.Mu, s.Mu) || !reflect.DeepEqual(got.Covariance(), s.Covariance()) || got.N != n || !reflect.DeepEqual(got.Provenance, s.Provenance) {
			t.Errorf("n=%d: read back %+v", n, got)
		}
		if (got.Features != nil) != (n <= d) {
			t.Errorf("n=%d: features %v", n, got.Features)
		}
		other := mustStats(t, gaussians(1, 9, 5, p.mean[0], p.sd[0]), 5, d)
		a, err := Frechet(s, other)
		if err != nil {
			t.Fatal(err)
		}
		b, err := Frechet(got, other)
		if err != nil || a.Route != b.Route || math.Abs(a.Value-b.Value) > 1e-7*a.Value {
			t.Errorf("n=%d: %.12g (%s) became %.12g (%s), %v", n, a.Value, a.Route, b.Value, b.Route, err)
		}
		first, _ := os.ReadFile(path)
		if err := WriteStats(path, s); !errors.Is(err, fs.ErrExist) {
			t.Errorf("existing file: %v", err)
		}
		if err := WriteStats(path, s, tensor.Overwrite); err != nil {
			t.Fatal(err)
		}
		if second, _ := os.ReadFile(path); !bytes.Equal(first, second) {
			t.Error("the same statistics gave other bytes")
		}
	}
}

// What the peers write: clean-fid's float32 mu, [1,d], Fortran order is the
// tensor package's test; ADM's extra members, d = 1 as np.cov leaves it.
func TestReadStatsOfPeers(t *testing.T) {
	sigma := []float64{2, 1, 1, 3}
	for name, path := range map[string]string{
		"float32 mu": write(t, tensor.NPZEntry{Name: "mu", Array: tensor.FromF32([]float32{1, 2}, 2)}, f64("sigma", sigma, 2, 2)),
		"[1,d]":      write(t, f64("mu", []float64{1, 2}, 1, 2), f64("sigma", sigma, 2, 2)),
		"ADM": write(t, tensor.NPZEntry{Name: "arr_0", Array: tensor.FromU8(make([]byte, 12), 1, 2, 2, 3)},
			f64("mu", []float64{1, 2}, 2), f64("sigma", sigma, 2, 2), f64("mu_s", []float64{5}, 1), f64("sigma_s", []float64{5}, 1, 1)),
	} {
		s, err := ReadStats(path)
		if err != nil || !reflect.DeepEqual(s.Mu, []float64{1, 2}) || !reflect.DeepEqual(s.Sigma, sigma) || s.N != 0 || s.Provenance != nil {
			t.Errorf("%s: %+v, %v", name, s, err)
		}
	}
	s, err := ReadStats(write(t, f64("mu", []float64{1}, 1), f64("sigma", []float64{4})))
	if err != nil || s.Sigma[0] != 4 {
		t.Errorf("0-d sigma: %+v, %v", s, err)
	}
}

func TestReadStatsRefuses(t *testing.T) {
	mu, sigma := f64("mu", []float64{1, 2}, 2), f64("sigma", []float64{2, 1, 1, 3}, 2, 2)
	var bad *BadInputError
	var num *NumericError
	cut := filepath.Join(t.TempDir(), "cut.npz")
	whole, err := os.ReadFile(write(t, mu, sigma))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(cut, whole[:len(whole)/2], 0o666); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		path string
		as   any
		want string
	}{
		"missing":        {filepath.Join(t.TempDir(), "no.npz"), &bad, "no.npz: no such file"},
		"cut":            {cut, &bad, "cut.npz: not a zip archive, or cut"},
		"no sigma":       {write(t, mu), &bad, `mu and sigma; it has ["mu"]`},
		"shape of sigma": {write(t, mu, f64("sigma", make([]float64, 9), 3, 3)), &bad, "sigma has shape [3 3]; want [2,2]"},
		"shape of mu":    {write(t, f64("mu", make([]float64, 4), 2, 2), sigma), &bad, "mu has shape [2 2]"},
		"empty":          {write(t, f64("mu", nil, 0), f64("sigma", nil, 0, 0)), &bad, "mu is empty"},
		"n":              {write(t, mu, sigma, f64("n", []float64{2.5})), &bad, "n is 2.5"},
		"features":       {write(t, mu, sigma, f64("n", []float64{3}), f64("features", make([]float64, 4), 2, 2)), &bad, "want [3,2]"},
		"provenance":     {write(t, mu, sigma, tensor.NPZEntry{Name: "provenance", Array: tensor.FromU8([]byte("{"), 1)}), &bad, "not JSON"},
		"nan":            {write(t, mu, f64("sigma", []float64{2, math.NaN(), 1, 3}, 2, 2)), &num, "(0,1) is NaN"},
		"asymmetric":     {write(t, mu, f64("sigma", []float64{2, 1, 1.5, 3}, 2, 2)), &num, "(1,0) is 1.5 but (0,1) is 1"},
	} {
		_, err := ReadStats(c.path)
		if err == nil || !errors.As(err, c.as) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want %T with %q", name, err, c.as, c.want)
		}
		if err != nil && !strings.Contains(err.Error(), c.path) {
			t.Errorf("%s: the error does not name the file: %v", name, err)
		}
	}
}

// The pickles are scripts/golden/stats_pickles.py's: muᵢ = s(i+½), Σᵢⱼ =
// s(2δᵢⱼ + 1/(1+i+j)).
func TestReadStatsPickles(t *testing.T) {
	for _, c := range []struct {
		file string
		n    int
		ddof float64 // what the file's covariance is divided by, n-ddof
	}{{"edm2.pkl", 50000, 1}, {"stylegan2_ada.pkl", 1000, 0}} {
		s, err := ReadStats(filepath.Join("testdata", c.file))
		if err != nil {
			t.Fatal(err)
		}
		if s.N != c.n || s.Dim() != 4 {
			t.Errorf("%s: n %d, %d features", c.file, s.N, s.Dim())
		}
		f := (float64(c.n) - c.ddof) / float64(c.n-1)
		for i := range 4 {
			if math.Abs(s.Mu[i]-(float64(i)+0.5)) > 1e-15*s.Mu[i] {
				t.Errorf("%s: mean %d is %g", c.file, i, s.Mu[i])
			}
			for j := range 4 {
				want := f / float64(1+i+j)
				if i == j {
					want += 2 * f
				}
				if math.Abs(s.Sigma[i*4+j]-want) > 1e-12 {
					t.Errorf("%s: covariance (%d,%d) is %.15g, want %.15g", c.file, i, j, s.Sigma[i*4+j], want)
				}
			}
		}
	}
	// A pickle that wants to call something is refused by its name.
	evil := filepath.Join(t.TempDir(), "evil.pkl")
	if err := os.WriteFile(evil, []byte("\x80\x02cos\nsystem\nX\x02\x00\x00\x00ls\x85R."), 0o666); err != nil {
		t.Fatal(err)
	}
	var bad *BadInputError
	if _, err := ReadStats(evil); !errors.As(err, &bad) || !strings.Contains(err.Error(), "os") || !strings.Contains(err.Error(), "system") {
		t.Errorf("a pickle that calls: %v", err)
	}
	list := filepath.Join(t.TempDir(), "list.pkl")
	if err := os.WriteFile(list, []byte("\x80\x02]."), 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadStats(list); !errors.As(err, &bad) || !strings.Contains(err.Error(), "want a dictionary") {
		t.Errorf("a pickled list: %v", err)
	}
}

func TestReadFeatures(t *testing.T) {
	const n, d = 700, 9
	x := farFromZero(n, d)
	want := mustStats(t, x, n, d)
	p := filepath.Join(t.TempDir(), "f.npy")
	if err := tensor.WriteNPYFile(p, tensor.FromF32(x, n, d)); err != nil {
		t.Fatal(err)
	}
	got, err := ReadFeatures(p, true, 0)
	if err != nil || !reflect.DeepEqual(got.Covariance(), want.Covariance()) || !reflect.DeepEqual(got.Mu, want.Mu) || !reflect.DeepEqual(got.Features, x) {
		t.Errorf("kept: %v", err)
	}
	got, err = ReadFeatures(p, false, 0)
	if err != nil || !reflect.DeepEqual(got.Covariance(), want.Covariance()) || got.Features != nil || got.N != n {
		t.Errorf("not kept: %v", err)
	}
	var bad *BadInputError
	var num *NumericError
	whole, err := os.ReadFile(p)
	if err != nil {
		t.Fatal(err)
	}
	wide := filepath.Join(t.TempDir(), "wide.npy")
	if err := tensor.WriteNPYFile(wide, tensor.FromF32(make([]float32, 200000), 1, 200000)); err != nil {
		t.Fatal(err)
	}
	cut, flat, nan := filepath.Join(t.TempDir(), "c.npy"), filepath.Join(t.TempDir(), "flat.npy"), filepath.Join(t.TempDir(), "nan.npy")
	if err := errors.Join(os.WriteFile(cut, whole[:len(whole)-1], 0o666),
		tensor.WriteNPYFile(flat, tensor.FromF32(x, n*d)),
		tensor.WriteNPYFile(nan, tensor.FromF32([]float32{1, 2, 3, float32(math.NaN())}, 2, 2))); err != nil {
		t.Fatal(err)
	}
	for path, c := range map[string]struct {
		as   any
		want string
	}{
		cut: {&bad, "the file is cut"}, wide: {&bad, "would take 298 GiB"}, flat: {&bad, "shape [6300]"}, nan: {&num, "feature 1 of row 1 is NaN"}, p + "x": {&bad, "no such file"},
	} {
		if _, err := ReadFeatures(path, true, 0); err == nil || !errors.As(err, c.as) || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: error %v, want %q", path, err, c.want)
		}
	}
}

// FuzzReadStats holds that no bytes make the reader panic, and that what it
// accepts gives a distance or a reason.
func FuzzReadStats(f *testing.F) {
	var b bytes.Buffer
	if err := tensor.EncodeNPZ(&b, []tensor.NPZEntry{f64("mu", []float64{1, 2}, 2), f64("sigma", []float64{2, 1, 1, 3}, 2, 2)}, false); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	for _, name := range []string{"edm2.pkl", "stylegan2_ada.pkl"} {
		p, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(p)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		path := filepath.Join(t.TempDir(), "f")
		if err := os.WriteFile(path, b, 0o666); err != nil {
			t.Fatal(err)
		}
		s, err := ReadStats(path)
		if err != nil || s.Dim() > 64 {
			return
		}
		d, err := Frechet(s, randomStats(1, s.Dim()))
		if err == nil && !(d.Value >= 0) {
			t.Fatalf("distance %g", d.Value)
		}
	})
}

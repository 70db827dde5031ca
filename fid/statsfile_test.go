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
		if !reflect.DeepEqual(got.Mu, s.Mu) || !reflect.DeepEqual(got.Sigma, s.Sigma) || got.N != n || !reflect.DeepEqual(got.Provenance, s.Provenance) {
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

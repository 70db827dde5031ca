package cli

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/tensor"
)

// The command finds the distances that 60-digit arithmetic finds, from
// statistics files and from arrays of feature vectors.
func TestFIDCommandGolden(t *testing.T) {
	var golden struct {
		Cases []struct {
			Name     string
			Stats    []string
			Features []struct {
				File  string
				Shape []int
			}
			FID   string `json:"mpmath_fid"`
			Exact string `json:"mpmath_fid_exact_statistics"`
		}
	}
	oracle.GoldenJSON(t, &golden, "fid", "cases.json")
	fromStats, fromFeatures := 0, 0
	for _, c := range golden.Cases {
		a, b := oracle.Golden(t, "fid", c.Stats[0]), oracle.Golden(t, "fid", c.Stats[1])
		// A covariance of short rank has lost half of its digits in the file.
		goldenFID(t, c.Name, a, b, number64(t, c.FID), 1e-6)
		fromStats++
		if len(c.Features) == 0 {
			continue
		}
		var npy [2]string
		for i, f := range c.Features {
			raw, err := os.ReadFile(oracle.Golden(t, "fid", f.File))
			if err != nil {
				t.Fatal(err)
			}
			v := make([]float32, len(raw)/4)
			if err := binary.Read(bytes.NewReader(raw), binary.LittleEndian, v); err != nil {
				t.Fatal(err)
			}
			npy[i] = filepath.Join(t.TempDir(), "x.npy")
			if err := tensor.WriteNPYFile(npy[i], tensor.FromF32(v, f.Shape...)); err != nil {
				t.Fatal(err)
			}
		}
		goldenFID(t, c.Name+" from features", npy[0], npy[1], number64(t, c.Exact), 1e-7)
		fromFeatures++
	}
	if fromStats < 12 || fromFeatures < 5 {
		t.Errorf("ran %d cases of statistics and %d of features, want at least 12 and 5", fromStats, fromFeatures)
	}
}

func number64(t *testing.T, s string) float64 {
	t.Helper()
	v, err := strconv.ParseFloat(s, 64)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func goldenFID(t *testing.T, name, ref, gen string, want, rtol float64) {
	t.Helper()
	a, stdout, stderr, _ := testApp()
	if code := Main([]string{"fid", ref, gen, "--json", "--no-ci"}, a.env); code != 0 {
		t.Fatalf("%s: exit code %d\n%s", name, code, stderr)
	}
	var r struct {
		Metrics struct {
			FID struct {
				Value    float64 `json:"value"`
				MeanTerm float64 `json:"mean_term"`
				CovTerm  float64 `json:"cov_term"`
			} `json:"fid"`
		} `json:"metrics"`
	}
	if err := json.Unmarshal(stdout.Bytes(), &r); err != nil {
		t.Fatalf("%s: %v\n%s", name, err, stdout)
	}
	v := r.Metrics.FID
	if !(math.Abs(v.Value-want) <= rtol*want+1e-9) || v.Value < 0 || math.Abs(v.MeanTerm+v.CovTerm-v.Value) > 1e-12*v.Value {
		t.Errorf("%s: %v, want %v", name, v, want)
	}
	a, stdout, _, _ = testApp()
	if code := Main([]string{"fid", ref, gen, "--no-ci"}, a.env); code != 0 || strings.TrimSpace(stdout.String()) != valueText(v.Value) {
		t.Errorf("%s: printed %q, want %q", name, stdout, valueText(v.Value))
	}
}

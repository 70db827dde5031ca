package pipeline

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"image/png"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/fidlab/fidlab/beam/shard"
	"github.com/fidlab/fidlab/fid"
	"github.com/fidlab/fidlab/fid/extract"
	"github.com/fidlab/fidlab/imageio"
	"github.com/fidlab/fidlab/rng"
	"github.com/fidlab/fidlab/tensor"
)

// vectors are n feature vectors of d features, correlated, far from zero.
func vectors(n, d int, seed uint64) []float32 {
	x := make([]float32, n*d)
	rng.New(seed, 1).FillNormal32(x)
	for i := range n {
		row := x[i*d : (i+1)*d]
		for j := 1; j < d; j++ {
			row[j] += 0.5 * row[j-1]
		}
		for j := range row {
			row[j] = row[j]*(1+0.1*float32(seed)) + 30*float32(j)
		}
	}
	return x
}

// featureShards writes vectors as so many shards of different sizes, in their order.
func featureShards(t *testing.T, x []float32, d, shards int) []string {
	t.Helper()
	dir, n := t.TempDir(), len(x)/d
	var paths []string
	for k := range shards {
		from, to := k*k*n/(shards*shards), (k+1)*(k+1)*n/(shards*shards)
		path := filepath.Join(dir, fmt.Sprintf("f-%d.npy", k))
		if err := tensor.WriteNPYFile(path, tensor.FromF32(x[from*d:to*d], to-from, d)); err != nil {
			t.Fatal(err)
		}
		paths = append(paths, path)
	}
	return paths
}

// imageShards draws n pictures and writes them as tars, and once more as a folder in the same order.
func imageShards(t *testing.T, n, shards int, seed uint64) (paths []string, folder string) {
	t.Helper()
	dir, folder := t.TempDir(), t.TempDir()
	r := rng.New(seed, 2)
	for k := range shards {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		for i := k * n / shards; i < (k+1)*n/shards; i++ {
			m := image.NewGray(image.Rect(0, 0, 9, 7))
			for p := range m.Pix {
				m.Pix[p] = uint8(r.Intn(128)) + uint8(p) + uint8(seed)
			}
			var one bytes.Buffer
			err := png.Encode(&one, m)
			name := fmt.Sprintf("%05d.png", i)
			err = errors.Join(err, w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(one.Len()), Format: tar.FormatUSTAR}))
			if _, werr := w.Write(one.Bytes()); err != nil || werr != nil {
				t.Fatal(err, werr)
			}
			if err := os.WriteFile(filepath.Join(folder, name), one.Bytes(), 0o666); err != nil {
				t.Fatal(err)
			}
		}
		path := filepath.Join(dir, fmt.Sprintf("s-%d.tar", k))
		if err := errors.Join(w.Close(), os.WriteFile(path, b.Bytes(), 0o666)); err != nil {
			t.Fatal(err)
		}
		paths = append(paths, path)
	}
	return paths, folder
}

// ofFolder is what one process makes of a folder: the statistics with all vectors.
func ofFolder(t *testing.T, folder string) *fid.Stats {
	t.Helper()
	src, err := imageio.Open(folder, imageio.Options{})
	if err != nil {
		t.Fatal(err)
	}
	ex, err := extract.Open("pixels", extract.Options{})
	if err != nil {
		t.Fatal(err)
	}
	s, _, err := fid.StatsOf(context.Background(), src, ex, fid.CollectOptions{Keep: true, Version: "test"})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func ofVectors(t *testing.T, x []float32, d int) *fid.Stats {
	t.Helper()
	s, err := fid.FromFeatures(x, len(x)/d, d)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func job(t *testing.T, ref, gen []string, keep int64) Job {
	t.Helper()
	return Job{
		Ref: ref, Gen: gen, Out: t.TempDir(), Keep: keep, Lanes: 3, Metrics: []string{"fid"},
		Read: shard.Config{Features: "pixels", Version: "test"},
	}
}

// written is what a job wrote: the FID, and the statistics of both sets.
type written struct {
	fid      fid.FIDValue
	ref, gen *fid.Stats
	raw      []byte // of the statistics' files
	notes    []string
}

func read(t *testing.T, j Job) written {
	t.Helper()
	var w written
	b, err := os.ReadFile(j.Path(ResultFile))
	if err != nil {
		t.Fatal(err)
	}
	var res struct {
		Metrics struct {
			FID fid.FIDValue `json:"fid"`
		} `json:"metrics"`
		Notes []string `json:"notes"`
	}
	if err := json.Unmarshal(b, &res); err != nil {
		t.Fatal(err)
	}
	w.fid, w.notes = res.Metrics.FID, res.Notes
	for name, s := range map[string]**fid.Stats{Ref: &w.ref, Gen: &w.gen} {
		if *s, err = fid.ReadStats(j.StatsPath(name)); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{Ref, Gen} {
		b, err := os.ReadFile(j.StatsPath(name))
		if err != nil {
			t.Fatal(err)
		}
		w.raw = append(w.raw, b...)
	}
	return w
}

// compare is what one process says.
func compare(t *testing.T, ref, gen *fid.Stats) fid.FIDValue {
	t.Helper()
	res, err := fid.Compare(context.Background(), ref, gen, fid.Options{CI: true})
	if err != nil {
		t.Fatal(err)
	}
	return res.Metrics["fid"].(fid.FIDValue)
}

// sameStats holds statistics to 1e-10 of √(Σᵢᵢ·Σⱼⱼ).
func sameStats(t *testing.T, what string, got, want *fid.Stats) {
	t.Helper()
	d := want.Dim()
	if got.N != want.N || got.Dim() != d {
		t.Fatalf("%s: %d vectors of %d features, want %d of %d", what, got.N, got.Dim(), want.N, d)
	}
	a, b := got.Covariance(), want.Covariance()
	worst := 0.0
	for i := range d {
		worst = max(worst, math.Abs(got.Mu[i]-want.Mu[i])/math.Sqrt(b[i*d+i]))
		for j := range d {
			worst = max(worst, math.Abs(a[i*d+j]-b[i*d+j])/math.Sqrt(b[i*d+i]*b[j*d+j]))
		}
	}
	if !(worst < 1e-10) {
		t.Errorf("%s: moments are off by %.1e of the deviations; want 1e-10", what, worst)
	}
}

package shard

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"image"
	"image/color"
	"image/png"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/apache/beam/sdks/v2/go/pkg/beam/io/filesystem"

	"github.com/fidlab/fidlab/beam/partial"
	"github.com/fidlab/fidlab/fid"
	"github.com/fidlab/fidlab/fid/extract"
	"github.com/fidlab/fidlab/imageio"
	"github.com/fidlab/fidlab/tensor"
)

var pixels = Config{Features: "pixels", Version: "test"}

// readAll reads one shard as a whole set.
func readAll(t *testing.T, path string, c Config) (*fid.Stats, error) {
	t.Helper()
	p := partial.New(1 << 20)
	if err := Read(context.Background(), Shard{Set: "ref", Path: path}, c, p.Add); err != nil {
		return nil, err
	}
	s, err := p.Stats(1)
	if err != nil {
		t.Fatal(err)
	}
	return s, nil
}

// picture is what scripts/golden/beamtables.py draws.
func picture(i int) *image.RGBA {
	m := image.NewRGBA(image.Rect(0, 0, 5, 6))
	for y := range 6 {
		for x := range 5 {
			at := func(c int) uint8 { return uint8(7*i + 5*x + 3*y + 11*c) }
			m.SetRGBA(x, y, color.RGBA{at(0), at(1), at(2), 255})
		}
	}
	return m
}

// pictures is a folder of the first n of them.
func pictures(t *testing.T, n int) string {
	t.Helper()
	dir := t.TempDir()
	for i := range n {
		var b bytes.Buffer
		if err := png.Encode(&b, picture(i)); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, string(rune('a'+i))+".png"), b.Bytes(), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// oneProcess is what fidlab stats computes of a folder.
func oneProcess(t *testing.T, dir string) *fid.Stats {
	t.Helper()
	src, err := imageio.Open(dir, imageio.Options{})
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

// tarOf is a webdataset shard of a folder: labels lie beside the pictures.
func tarOf(t *testing.T, dir string) []byte {
	t.Helper()
	names, err := filepath.Glob(dir + "/*.png")
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	put := func(name string, data []byte) {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(data)), Format: tar.FormatUSTAR}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(data); err != nil {
			t.Fatal(err)
		}
	}
	for _, n := range names {
		data, err := os.ReadFile(n)
		if err != nil {
			t.Fatal(err)
		}
		put(filepath.Base(n), data)
		put(strings.TrimSuffix(filepath.Base(n), ".png")+".cls", []byte("3"))
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestPictures: the same pictures in every kind of shard, here and in a store, are the features of fidlab's own reading, to the last bit.
func TestPictures(t *testing.T) {
	ctx, dir := context.Background(), pictures(t, 9)
	want := oneProcess(t, dir)
	out := t.TempDir()
	local, remote := filepath.Join(out, "a.tar"), "memfs://pictures/a.tar"
	list := filepath.Join(dir, "list.txt")
	fs, err := filesystem.New(ctx, remote)
	if err != nil {
		t.Fatal(err)
	}
	table, err := os.ReadFile("testdata/images.parquet")
	if err != nil {
		t.Fatal(err)
	}
	err = errors.Join(os.WriteFile(local, tarOf(t, dir), 0o666), filesystem.Write(ctx, fs, remote, tarOf(t, dir)),
		filesystem.Write(ctx, fs, "memfs://pictures/t.parquet", table), os.WriteFile(list, []byte("a.png\nb.png\nc.png\nd.png\ne.png\nf.png\ng.png\nh.png\ni.png\n"), 0o666))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{dir, local, remote, list, "testdata/images.parquet", "testdata/bytes.parquet", "memfs://pictures/t.parquet"} {
		got, err := readAll(t, path, pixels)
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		if !reflect.DeepEqual(got.Features, want.Features) || !reflect.DeepEqual(got.Mu, want.Mu) {
			t.Errorf("%s: other features than the folder's", path)
		}
		p := got.Provenance
		if p == nil || p.Input != path || p.Extractor != want.Provenance.Extractor || !reflect.DeepEqual(p.Decoders, want.Provenance.Decoders) {
			t.Errorf("%s: provenance %+v", path, p)
		}
	}
	if left, err := filepath.Glob(os.TempDir() + "/fidlab-shard-*/a.tar"); err != nil || len(left) > 0 {
		t.Errorf("copies were left behind: %v (%v)", left, err)
	}
}

// features are what scripts/golden/beamtables.py computes.
func features() []float64 {
	var x []float64
	for i := range 11 {
		for j := range 6 {
			x = append(x, math.Sin(float64(i)+1)*float64(j+1)+float64(i*j)/8)
		}
	}
	return x
}

func TestFeatures(t *testing.T) {
	x := features()
	wide, narrow := fid.NewMoments(6), make([]float32, len(x))
	for i, v := range x {
		narrow[i] = float32(v)
	}
	if err := wide.Add64(x); err != nil {
		t.Fatal(err)
	}
	thin, err := fid.FromFeatures(narrow, 11, 6)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	npy := filepath.Join(dir, "f.npy")
	made := fid.Provenance{Version: "x", Extractor: fid.ExtractorInfo{Name: "mnist", Dim: 6}}
	record, err := json.Marshal(made)
	if err = errors.Join(err, tensor.WriteNPYFile(npy, tensor.FromF32(narrow, 11, 6)), os.WriteFile(npy+".json", record, 0o666)); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]*fid.Stats{
		npy: thin, "testdata/features.npz": thin, "testdata/features.parquet": thin,
		"testdata/fixed.parquet": wide.Stats(), "testdata/wide.npy": wide.Stats(),
	} {
		got, err := readAll(t, path, pixels)
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		for i := range want.Mu { // numpy's sine and Go's may differ in the last bit
			if math.Abs(got.Mu[i]-want.Mu[i]) > 1e-7 || want.Features == nil && math.Abs(got.Mu[i]-want.Mu[i]) > 1e-14 {
				t.Errorf("%s: mean %d is %v, want %v", path, i, got.Mu[i], want.Mu[i])
			}
		}
		for i := range want.Sigma {
			if e := math.Abs(got.Sigma[i] - want.Sigma[i]); e > 1e-5 || want.Features == nil && e > 1e-12 {
				t.Errorf("%s: covariance %d is %v, want %v", path, i, got.Sigma[i], want.Sigma[i])
			}
		}
		if told := got.Provenance != nil; told != (path == npy) || told && got.Provenance.Extractor != made.Extractor {
			t.Errorf("%s: provenance %+v", path, got.Provenance)
		}
	}
}

func TestBadShards(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, b []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, b, 0o666); err != nil {
			t.Fatal(err)
		}
		return path
	}
	table, err := os.ReadFile("testdata/images.parquet")
	if err != nil {
		t.Fatal(err)
	}
	whole := tarOf(t, pictures(t, 3))
	stats := filepath.Join(dir, "stats.npz")
	if err := fid.WriteStats(stats, &fid.Stats{N: 3, Mu: []float64{0}, Sigma: []float64{1}}); err != nil {
		t.Fatal(err)
	}
	one := func(a *tensor.Array) string {
		path := filepath.Join(dir, "one.npy")
		if err := tensor.WriteNPYFile(path, a, tensor.Overwrite); err != nil {
			t.Fatal(err)
		}
		return path
	}
	column := func(name string) Config { c := pixels; c.Column = name; return c }
	for _, c := range []struct {
		path   string
		config Config
		want   string
	}{
		{dir + "/none.tar", pixels, "no such file"},
		{write("empty.tar", nil), pixels, "empty file"},
		{write("cut.tar", whole[:len(whole)-1200]), pixels, "cut"},
		{write("noise.bin", []byte("this is no shard of any kind")), pixels, "not a folder"},
		{write("cut.parquet", table[:len(table)/2]), pixels, "no Parquet table"},
		{write("noise.parquet", []byte("PAR1 and noise")), pixels, "no Parquet table"},
		{stats, pixels, "statistics, not a shard"},
		{one(tensor.FromF32(nil, 0, 3)), pixels, "shape [0 3]"},
		{"testdata/nopicture.parquet", pixels, "nopicture.parquet[1]: no bytes of a picture"},
		{"testdata/ragged.parquet", pixels, "row 1 of column embedding has 1 features, row 0 has 2"},
		{"testdata/null.parquet", pixels, "row 1 of column embedding is null"},
		{"testdata/nan.parquet", pixels, "feature 1 of row 1 is not finite"},
		{"testdata/two.parquet", pixels, "2 of the columns a, b could be"},
		{"testdata/text.parquet", pixels, "0 of the columns caption could be"},
		{"testdata/norows.parquet", pixels, "no rows"},
		{"testdata/images.parquet", column("label"), `no column "label" of pictures`},
	} {
		_, err := readAll(t, c.path, c.config)
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), filepath.Base(c.path)) {
			t.Errorf("%s: %v; want %q and the shard's name", c.path, err, c.want)
			continue
		}
		var input *InputError
		var numeric *NumericError
		if !errors.As(err, &input) && !errors.As(err, &numeric) && !errors.Is(err, imageio.ErrInput) {
			t.Errorf("%s: %v is no error of input", c.path, err)
		}
	}
	skip := pixels
	skip.SkipBad = true
	got, err := readAll(t, "testdata/nopicture.parquet", skip)
	if err != nil || got.N != 1 || got.Provenance.Skipped != 2 {
		t.Errorf("with bad pictures left out: %v (%v)", got, err)
	}
	if got, err := readAll(t, "testdata/two.parquet", column("b")); err != nil || got.N != 1 {
		t.Errorf("a named column: %v (%v)", got, err)
	}
}

func TestConfigCheck(t *testing.T) {
	for want, c := range map[string]Config{
		`no extractor "incepton"`: {Features: "incepton"},
		"size of the pictures":    {Features: "identity"},
		`no precision "fp8"`:      {Features: "pixels", Precision: "fp8"},
	} {
		if err := c.Check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v; want %q", c, err, want)
		}
	}
	bad := Config{Features: "inception", Weights: "memfs://nowhere/weights.pth"}
	if _, err := bad.extractor(context.Background()); err == nil || !strings.Contains(err.Error(), "memfs://nowhere/weights.pth") {
		t.Errorf("weights that are not there: %v", err)
	}
}

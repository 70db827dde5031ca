package fid

import (
	"context"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/imageio"
	"github.com/fidlab/fidlab/internal/cpu"
	"github.com/fidlab/fidlab/internal/oracle"
)

type isCase struct {
	Name        string
	Logits      goldenArray
	Scores      map[string][2]float64
	Permutation []int `json:"permutation_2020"`
}

// torch-fidelity's scores and NumPy's permutation.
func TestGoldenInceptionScore(t *testing.T) {
	var f struct{ Cases []isCase }
	oracle.GoldenJSON(t, &f, "is", "cases.json")
	ranCases(t, len(f.Cases), 4)
	compared := 0
	for _, c := range f.Cases {
		logits := c.Logits.stats(t, "is")
		if got := numpyPermutation(2020, logits.N); !slices.Equal(got, c.Permutation) {
			t.Errorf("%s: the permutation of %d differs", c.Name, logits.N)
		}
		gen := &Stats{N: logits.N, Mu: []float64{0}, Parts: map[string]*Stats{PartLogits: logits}}
		for name, want := range c.Scores {
			splits := map[string]int{"splits1": 1, "splits5": 5, "splits10": 10}[strings.Split(name, "_")[0]]
			opt := Options{Metrics: []string{"is"}, Splits: splits, InOrder: strings.HasSuffix(name, "noshuffle")}
			v, _, err := computeIS(t.Context(), &comparison{ref: gen, gen: gen, opt: opt})
			if err != nil {
				t.Fatal(err)
			}
			is := v.(ISValue)
			compared++
			if math.Abs(is.Value-want[0]) > 1e-11*want[0] || math.Abs(is.Std-want[1]) > 1e-11*want[0] {
				t.Errorf("%s %s: %.15g ± %.15g; the peer has %v", c.Name, name, is.Value, is.Std, want)
			}
		}
	}
	ranCases(t, compared, 24)
}

// NumPy's documented permutation of ten with seed 0.
func TestNumpyPermutationOfKnownLength(t *testing.T) {
	// numpy.random.RandomState(0).permutation(10)
	if got := numpyPermutation(0, 10); !slices.Equal(got, []int{2, 8, 4, 9, 1, 6, 7, 3, 0, 5}) {
		t.Errorf("%v", got)
	}
	if got := numpyPermutation(1, 1); !slices.Equal(got, []int{0}) {
		t.Errorf("%v", got)
	}
}

// threefold is an extractor of two features, three answers and one more value, all functions of a pixel.
type threefold struct{}

func (threefold) Info() ExtractorInfo {
	return ExtractorInfo{Name: "threefold", Dim: 2, Preset: "native", Precision: "fp32"}
}
func (threefold) Batch() int { return 3 }
func (threefold) Parts() []Part {
	return []Part{{PartLogits, 3}, {PartSpatial, 1}}
}

func (threefold) Features(_ *cpu.Worker, imgs []*imageio.Image, out []float32) error {
	for i, m := range imgs {
		v := float32(m.Pix[0])
		copy(out[i*6:], []float32{v, 2 * v, 3 * v, 4 * v, 5 * v, v * v})
	}
	return nil
}

type pixelSource int

func (s pixelSource) Describe() string { return "pixels" }
func (s pixelSource) Len() int         { return int(s) }
func (s pixelSource) Each(_ context.Context, yield func(imageio.Item) error) error {
	for i := range int(s) {
		m := &imageio.Image{Width: 1, Height: 1, Pix: []uint8{uint8(i), 0, 0}}
		if err := yield(imageio.Item{Name: "p", Load: func() (*imageio.Image, error) { return m, nil }}); err != nil {
			return err
		}
	}
	return nil
}

// Parts are gathered beside the features, in the order of the pictures, whatever the batches.
func TestPartsAreGathered(t *testing.T) {
	for _, batch := range []int{1, 4, 7} {
		s, _, err := StatsOf(t.Context(), pixelSource(50), threefold{}, CollectOptions{Batch: batch})
		if err != nil {
			t.Fatal(err)
		}
		logits, spatial := s.Parts[PartLogits], s.Parts[PartSpatial]
		if s.N != 50 || s.Dim() != 2 || s.Mu[1] != 49 || logits.N != 50 || logits.Dim() != 3 || spatial.Dim() != 1 {
			t.Fatalf("batch %d: %+v %+v %+v", batch, s, logits, spatial)
		}
		for i := range 50 {
			if logits.Features[3*i+2] != float32(5*i) {
				t.Fatalf("batch %d: answers of picture %d are %v", batch, i, logits.Features[3*i:3*i+3])
			}
		}
		if want := 49.0 * 99 / 6; math.Abs(spatial.Mu[0]-want) > 1e-9 {
			t.Errorf("batch %d: mean of squares %g; wanted %g", batch, spatial.Mu[0], want)
		}
	}
}

// sFID is the distance of the map's statistics; they survive a file and a merge.
func TestSFIDThroughFiles(t *testing.T) {
	with := func(seed uint64, n int) *Stats {
		s := mustStats(t, normals(seed, n, 3, 0), n, 3)
		s.Parts = map[string]*Stats{PartSpatial: mustStats(t, normals(seed+50, n, 12, 0.2*float64(seed)), n, 12)}
		return s
	}
	ref, gen := with(1, 40), with(2, 9) // 9 vectors of 12: the exact route needs them
	want, err := Frechet(ref.Parts[PartSpatial], gen.Parts[PartSpatial])
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	keep := func(s *Stats, name string) *Stats {
		path := filepath.Join(dir, name)
		if err := WriteStats(path, s); err != nil {
			t.Fatal(err)
		}
		back, err := ReadStats(path)
		if err != nil {
			t.Fatal(err)
		}
		return back
	}
	got := valueOf(t, "sfid", keep(ref, "a.npz"), keep(gen, "b.npz")).Number()
	if math.Abs(got-want.Value) > 1e-6*want.Value {
		t.Errorf("%g through files, %g before", got, want.Value)
	}
	whole := with(1, 40)
	half := func(lo, hi int) *Stats {
		s := mustStats(t, whole.Features[lo*3:hi*3], hi-lo, 3)
		s.Parts = map[string]*Stats{PartSpatial: mustStats(t, whole.Parts[PartSpatial].Features[lo*12:hi*12], hi-lo, 12)}
		return s
	}
	merged, err := MergeStats(half(0, 15), half(15, 40))
	if err != nil {
		t.Fatal(err)
	}
	d, err := Frechet(merged.Parts[PartSpatial], whole.Parts[PartSpatial])
	if err != nil || d.Value > 1e-9 {
		t.Errorf("a merged map is %g from the whole (%v)", d.Value, err)
	}
	without := half(15, 40)
	without.Parts = nil
	if merged, err = MergeStats(half(0, 15), without); err != nil || merged.Parts != nil {
		t.Errorf("%v %v", merged.Parts, err)
	}
	for _, m := range []string{"sfid", "is"} {
		if _, err := Compare(t.Context(), without, without, Options{Metrics: []string{m}}); err == nil || !strings.Contains(err.Error(), m+" needs") {
			t.Errorf("%s: %v", m, err)
		}
	}
	few := &Stats{N: 4, Mu: []float64{0}, Parts: map[string]*Stats{PartLogits: mustStats(t, normals(1, 4, 3, 0), 4, 3)}}
	if _, err := Compare(t.Context(), few, few, Options{Metrics: []string{"is"}}); err == nil || !strings.Contains(err.Error(), "at least as many pictures as the 10 parts") {
		t.Errorf("%v", err)
	}
}

package fid

import (
	"context"
	"encoding/binary"
	"errors"
	"math"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/internal/oracle/device"
	"github.com/fidlab/fidlab/rng"
)

type kidCase struct {
	Name string
	X, Y struct {
		File  string
		Shape [2]int
	}
	Full struct {
		Unbiased float64 `json:"poly3_unbiased"`
	}
	Subsets *struct {
		Pairs  [][2][]int `json:"index_pairs_x_y"`
		Values []float64  `json:"per_subset_float64"`
		Mean   float64    `json:"mean_float64"`
		Std    float64    `json:"std_ddof0_float64"`
	}
}

func (c kidCase) read(t *testing.T) (a, b *Stats) {
	var out [2]*Stats
	for i, f := range []struct {
		File  string
		Shape [2]int
	}{c.X, c.Y} {
		raw, err := os.ReadFile(oracle.Golden(t, "kid", f.File))
		if err != nil {
			t.Fatal(err)
		}
		x := make([]float32, len(raw)/4)
		for k := range x {
			x[k] = math.Float32frombits(binary.LittleEndian.Uint32(raw[4*k:]))
		}
		out[i] = mustStats(t, x, f.Shape[0], f.Shape[1])
	}
	return out[0], out[1]
}

// check compares with torch-fidelity's float64 values: the whole sets as one
// subset, and every subset of its own draws.
func (c kidCase) check(dev *gpu.Device, a, b *Stats) (compared int, err error) {
	of := func(x, y []int) float64 {
		if dev.CUDA() {
			v, err := kidValuesOn(context.Background(), dev, a, b, 1, len(x), func(int) (_, _ []int) { return x, y })
			if err != nil {
				return math.NaN()
			}
			return v[0]
		}
		return mmd(nil, a, b, [2][]float64{make([]float64, a.Dim()), make([]float64, a.Dim())}, x, y)
	}
	all := func(n int) []int {
		return subset(rng.New(1, 1), n, n)
	}
	if a.N == b.N {
		compared++
		if err := within(1+of(all(a.N), all(b.N)), 1+c.Full.Unbiased, 1e-12); err != nil {
			return compared, err
		}
	}
	var values []float64
	for i, p := range c.Subsets.Pairs {
		compared++
		v := of(p[0], p[1])
		if err := within(1+v, 1+c.Subsets.Values[i], 1e-12); err != nil {
			return compared, err
		}
		values = append(values, v)
	}
	return compared + 1, within(1+deviation(values, c.Subsets.Mean), 1+c.Subsets.Std, 1e-12)
}

func kidCases(t *testing.T) []kidCase {
	var f struct{ Cases []kidCase }
	oracle.GoldenJSON(t, &f, "kid", "cases.json")
	ranCases(t, len(f.Cases), 3)
	return f.Cases
}

func TestGoldenKID(t *testing.T) { device.Each(t, goldenKID) }

func goldenKID(t *testing.T, dev *gpu.Device) {
	compared := 0
	for _, c := range kidCases(t) {
		a, b := c.read(t)
		n, err := c.check(dev, a, b)
		if err != nil {
			t.Errorf("%s: %v", c.Name, err)
		}
		compared += n
		a.Features[3] += 1e-3
		if _, err := c.check(dev, a, b); err == nil {
			t.Errorf("%s: a changed feature passed", c.Name)
		}
	}
	ranCases(t, compared, 24)
}

func TestKIDProtocol(t *testing.T) {
	p := newPair(6, 0.3)
	a, _ := p.draw(t, 1, 40)
	_, b := p.draw(t, 1, 70)
	opt := Options{Metrics: []string{"kid"}}
	res, err := Compare(context.Background(), a, b, opt)
	if err != nil {
		t.Fatal(err)
	}
	v := res.Metrics["kid"].(KIDValue)
	if v.Std <= 0 || !strings.Contains(strings.Join(res.Notes, "\n"), "subsets of 40") {
		t.Errorf("%+v, %q", v, res.Notes)
	}
	// The mean over random subsets estimates the unbiased MMD² of the whole sets
	// without bias; here that is summed by its definition.
	k := func(s, r *Stats, i, j int) float64 {
		dot := 0.0
		for c := range 6 {
			dot += float64(s.Features[i*6+c]) * float64(r.Features[j*6+c])
		}
		return math.Pow(dot/6+1, 3)
	}
	want := 0.0
	for i := range a.N {
		for j := range a.N {
			if i != j {
				want += k(a, a, i, j) / float64(a.N*(a.N-1))
			}
		}
		for j := range b.N {
			want -= 2 * k(a, b, i, j) / float64(a.N*b.N)
		}
	}
	for i := range b.N {
		for j := range b.N {
			if i != j {
				want += k(b, b, i, j) / float64(b.N*(b.N-1))
			}
		}
	}
	if math.Abs(v.Value-want) > 4*v.Std/math.Sqrt(kidSubsets) {
		t.Errorf("%g ± %g over subsets, %g of the whole sets", v.Value, v.Std, want)
	}
	again, err := Compare(context.Background(), a, b, opt)
	if err != nil || again.Metrics["kid"] != res.Metrics["kid"] {
		t.Errorf("the same seed gave %v and %v, %v", again.Metrics["kid"], v, err)
	}
	b.Features = nil
	var bad *BadInputError
	if _, err := Compare(context.Background(), a, b, opt); !errors.As(err, &bad) || !strings.Contains(err.Error(), "generated: kid needs the feature vectors") {
		t.Errorf("without features: %v", err)
	}
}

// Features in a file are centred; KID needs them where they were.
func TestKIDOfStatisticsFile(t *testing.T) {
	p := newPair(30, 0.3)
	a, b := p.draw(t, 1, 25)
	path := filepath.Join(t.TempDir(), "b.npz")
	if err := WriteStats(path, b); err != nil {
		t.Fatal(err)
	}
	back, err := ReadStats(path)
	if err != nil {
		t.Fatal(err)
	}
	want, _, err := computeKID(context.Background(), &comparison{ref: a, gen: b})
	if err != nil {
		t.Fatal(err)
	}
	got, _, err := computeKID(context.Background(), &comparison{ref: a, gen: back})
	if err != nil || math.Abs(got.Number()-want.Number()) > 1e-6 {
		t.Errorf("%v from the file, %v before, %v", got, want, err)
	}
}

func TestSubset(t *testing.T) {
	for seed := range uint64(20) {
		s := subset(rng.New(seed, 0), 30, 12)
		sort.Ints(s)
		for i, v := range s {
			if v < 0 || v >= 30 || i > 0 && v == s[i-1] {
				t.Fatalf("seed %d: %v", seed, s)
			}
		}
	}
}

// Peers: torch-fidelity 4.7 s, clean-fid 4.8 s, both in float32.
func BenchmarkKID(b *testing.B) {
	x := mustStats(b, draw(1, 3000, benchDim, 0), 3000, benchDim)
	y := mustStats(b, draw(2, 3000, benchDim, 0.02), 3000, benchDim)
	for b.Loop() {
		if _, _, err := computeKID(context.Background(), &comparison{ref: x, gen: y}); err != nil {
			b.Fatal(err)
		}
	}
}

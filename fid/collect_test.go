package fid

import (
	"context"
	"errors"
	"fmt"
	"math"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/fidlab/fidlab/imageio"
	"github.com/fidlab/fidlab/internal/cpu"
	"github.com/fidlab/fidlab/rng"
)

// drawn is a source of n tiny pictures; bad ones fail to decode.
type drawn struct {
	n   int
	bad func(i int) bool
}

func (s drawn) Describe() string { return "drawn" }
func (s drawn) Len() int         { return s.n }

func (s drawn) Each(ctx context.Context, yield func(imageio.Item) error) error {
	for i := range s.n {
		if err := ctx.Err(); err != nil {
			return err
		}
		err := yield(imageio.Item{Name: fmt.Sprintf("%05d.raw", i), Label: -1, Load: func() (*imageio.Image, error) {
			if s.bad != nil && s.bad(i) {
				return nil, errors.New("broken")
			}
			return &imageio.Image{
				Width: 1, Height: 1, Pix: []uint8{uint8(i), uint8(i >> 8), uint8(i >> 16)},
				Facts: imageio.Facts{Format: "raw", Decoder: "drawn"},
			}, nil
		}})
		if err != nil {
			return err
		}
	}
	return nil
}

// streams is an extractor whose features are the random stream of the
// picture's number; some pictures take longer.
type streams struct{ d, batch int }

func (e streams) Info() ExtractorInfo {
	return ExtractorInfo{Name: "streams", Dim: e.d, Preset: "native", Precision: "fp32"}
}
func (e streams) Batch() int { return e.batch }

func (e streams) Features(_ *cpu.Worker, imgs []*imageio.Image, out []float32) error {
	if len(imgs) < 1 || len(imgs) > e.batch || len(out) != len(imgs)*e.d {
		return fmt.Errorf("%d images, %d values", len(imgs), len(out))
	}
	for i, m := range imgs {
		id := uint64(m.Pix[0]) | uint64(m.Pix[1])<<8 | uint64(m.Pix[2])<<16
		rng.New(4, id).FillNormal32(out[i*e.d:][:e.d])
		if id < 600 && id%17 == 0 {
			time.Sleep(time.Millisecond)
		}
	}
	return nil
}

func rowsOf(d int, ids ...int) []float32 {
	out := make([]float32, len(ids)*d)
	for i, id := range ids {
		rng.New(4, uint64(id)).FillNormal32(out[i*d:][:d])
	}
	return out
}

func upTo(n int, skip func(int) bool) (ids []int) {
	for i := range n {
		if skip == nil || !skip(i) {
			ids = append(ids, i)
		}
	}
	return ids
}

// The statistics are those of the rows in order, to the last bit, at any batch
// size of pipeline and extractor, also around pictures and whole batches that
// were skipped.
func TestStatsOfSameBitsAnyBatch(t *testing.T) {
	const d, n = 24, 500
	for name, bad := range map[string]func(int) bool{
		"all good": nil,
		"some bad": func(i int) bool { return i%11 == 3 || i >= 100 && i < 150 || i >= n-9 },
	} {
		ids := upTo(n, bad)
		want := mustStats(t, rowsOf(d, ids...), len(ids), d)
		for _, batch := range [][2]int{{1, 1}, {8, 8}, {8, 3}, {50, 8}, {7, 16}} {
			progress := 0
			got, out, err := StatsOf(context.Background(), drawn{n, bad}, streams{d, batch[1]}, CollectOptions{
				Batch: batch[0], SkipBad: true, Keep: true, Version: "v", Progress: func(done int) { progress = done },
			})
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got.Mu, want.Mu) || !reflect.DeepEqual(got.Covariance(), want.Covariance()) || !reflect.DeepEqual(got.Features, want.Features) || got.N != want.N {
				t.Errorf("%s: batch %v: other bits than the rows in order", name, batch)
			}
			if len(out.Skipped) != n-len(ids) || progress != n || got.Provenance.Skipped != n-len(ids) || got.Provenance.Input != "drawn" {
				t.Errorf("%s: batch %v: %d skipped, %d done, %+v", name, batch, len(out.Skipped), progress, got.Provenance)
			}
			if bad != nil && out.Skipped[0] != (Skipped{"00003.raw", "broken"}) {
				t.Errorf("%+v", out.Skipped[0])
			}
		}
	}
}

func TestStatsOfKeepsFeatures(t *testing.T) {
	const d, n = 10, 30
	for _, c := range []struct {
		n     int
		keep  bool
		bytes int64
		want  bool
	}{{10, false, 0, true}, {11, false, 0, false}, {n, true, 0, true}, {n, true, 4 * d * n, true}, {n, true, 4*d*n - 1, false}, {10, true, 1, true}} {
		s, _, err := StatsOf(context.Background(), drawn{n: c.n}, streams{d, 4}, CollectOptions{Keep: c.keep, FeatureBytes: c.bytes})
		if err != nil {
			t.Fatal(err)
		}
		if (s.Features != nil) != c.want || s.dropped == c.want {
			t.Errorf("%+v: features %v, dropped %v", c, s.Features != nil, s.dropped)
		}
		if c.want && !reflect.DeepEqual(s.Features, rowsOf(d, upTo(c.n, nil)...)) {
			t.Errorf("%+v: other features", c)
		}
		if !c.want {
			if _, err := ConfidenceInterval(context.Background(), s, s, IntervalOptions{}); !errors.Is(err, ErrNoFeatures) || !strings.Contains(err.Error(), "too many to keep") {
				t.Errorf("%+v: %v", c, err)
			}
		}
	}
}

func TestStatsOfRefuses(t *testing.T) {
	_, out, err := StatsOf(context.Background(), drawn{60, func(i int) bool { return i == 7 || i == 40 }}, streams{4, 8}, CollectOptions{})
	if !errors.Is(err, imageio.ErrInput) || len(out.Skipped) != 2 || !strings.Contains(err.Error(), "00040.raw") {
		t.Errorf("bad pictures: %v, %v", err, out.Skipped)
	}
	one, _, err := StatsOf(context.Background(), drawn{n: 1}, streams{4, 8}, CollectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	two, _, err := StatsOf(context.Background(), drawn{n: 2}, streams{4, 8}, CollectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var num *NumericError
	if _, err := Frechet(two, one); !errors.As(err, &num) || !strings.Contains(err.Error(), "generated: one vector has no covariance") {
		t.Errorf("one picture: %v", err)
	}
	nan := func(_ *cpu.Worker, rows []float32) error {
		return NewMoments(4).Add([]float32{1, 2, float32(math.NaN()), 4})
	}
	if _, err := EachFeatures(context.Background(), drawn{n: 50}, streams{4, 8}, CollectOptions{}, nan); !errors.As(err, &num) {
		t.Errorf("error of the sink: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	_, err = EachFeatures(ctx, drawn{n: 1 << 20}, streams{4, 8}, CollectOptions{}, func(*cpu.Worker, []float32) error { cancel(); return nil })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("after a cancel: %v", err)
	}
}

// Ten times the pictures must not take more memory.
func TestStatsOfMemoryIsFlat(t *testing.T) {
	const d = 16
	heap := func(n int) uint64 {
		var most uint64
		var mem runtime.MemStats
		_, _, err := StatsOf(context.Background(), drawn{n: n}, streams{d, 8}, CollectOptions{Progress: func(done int) {
			if done%2000 == 0 {
				runtime.GC()
				runtime.ReadMemStats(&mem)
				most = max(most, mem.HeapAlloc)
			}
		}})
		if err != nil {
			t.Fatal(err)
		}
		return most
	}
	few, many := heap(2000), heap(20000)
	if many > few+few/2+1<<20 {
		t.Errorf("%d bytes at 2,000 pictures, %d at 20,000", few, many)
	}
}

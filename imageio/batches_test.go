package imageio_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/fidlab/fidlab/imageio"
	"github.com/fidlab/fidlab/internal/cpu"
)

// counted is a source of n made pictures; those with bad(i) can't be loaded.
type counted struct {
	n       int
	size    int
	bad     func(i int) bool
	yielded atomic.Int64
	loaded  atomic.Int64
}

func (s *counted) Describe() string { return "counted" }
func (s *counted) Len() int         { return s.n }

func (s *counted) Each(ctx context.Context, yield func(imageio.Item) error) error {
	for i := range s.n {
		if err := ctx.Err(); err != nil {
			return err
		}
		s.yielded.Add(1)
		item := imageio.Item{Name: fmt.Sprint("item", i), Label: i % 3, Load: func() (*imageio.Image, error) {
			s.loaded.Add(1)
			if s.bad != nil && s.bad(i) {
				return nil, fmt.Errorf("number %d is bad", i)
			}
			m := &imageio.Image{Width: s.size, Height: s.size, Pix: make([]uint8, 3*s.size*s.size)}
			m.Pix[0], m.Pix[1] = uint8(i), uint8(i>>8)
			return m, nil
		}}
		if err := yield(item); err != nil {
			return err
		}
	}
	return nil
}

func TestBatchesDeliverEveryItemOnce(t *testing.T) {
	bad := func(i int) bool { return i%10 == 3 || 40 <= i && i < 48 }
	for _, size := range []int{1, 7, 8, 200} {
		src := &counted{n: 131, size: 2, bad: bad}
		var mu sync.Mutex
		seen := map[int]bool{}
		last := 0
		sum, err := imageio.Batches(context.Background(), src, imageio.BatchOptions{
			Size: size, SkipBad: true, Progress: func(done int) {
				if done <= last {
					t.Errorf("size %d: progress went from %d to %d", size, last, done)
				}
				last = done
			},
		}, func(_ *cpu.Worker, b *imageio.Batch) error {
			mu.Lock()
			defer mu.Unlock()
			if b.First != b.Seq*size || len(b.Images) != len(b.Index) || len(b.Names) != len(b.Index) || len(b.Labels) != len(b.Index) {
				t.Errorf("size %d: batch %d: first %d, %d images, %d indices", size, b.Seq, b.First, len(b.Images), len(b.Index))
			}
			for k, i := range b.Index {
				if i < b.First || i >= b.First+size || seen[i] || bad(i) {
					t.Errorf("size %d: item %d in batch %d", size, i, b.Seq)
				}
				seen[i] = true
				if m := b.Images[k]; int(m.Pix[0]) != i&255 || b.Names[k] != fmt.Sprint("item", i) || b.Labels[k] != i%3 {
					t.Errorf("size %d: item %d has picture %d, name %s", size, i, m.Pix[0], b.Names[k])
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		want := 0
		for i := range src.n {
			if !bad(i) {
				want++
			}
		}
		if len(seen) != want || sum.Images != want || last != src.n {
			t.Errorf("size %d: %d items seen, %d counted, %d in progress; want %d of %d", size, len(seen), sum.Images, last, want, src.n)
		}
		if len(sum.Bad) != src.n-want || sum.Bad[0].Path != "item3" || !slices.IsSortedFunc(sum.Bad, func(a, b imageio.Bad) int {
			return len(a.Path) - len(b.Path)
		}) {
			t.Errorf("size %d: bad %v", size, sum.Bad)
		}
	}
}

func TestBatchesListAllBad(t *testing.T) {
	first := make(chan struct{}) // closed when the first batch, which has a bad item, is done
	src := &counted{n: 60, size: 2, bad: func(i int) bool {
		if i >= 4 {
			<-first
		}
		return i == 0 || i == 31 || i == 59
	}}
	var called atomic.Int64
	var once sync.Once
	o := imageio.BatchOptions{Size: 4, Progress: func(int) { once.Do(func() { close(first) }) }}
	_, err := imageio.Batches(context.Background(), src, o, func(*cpu.Worker, *imageio.Batch) error {
		called.Add(1)
		return nil
	})
	var bad *imageio.BadFilesError
	if !errors.As(err, &bad) || !errors.Is(err, imageio.ErrInput) {
		t.Fatalf("error %v", err)
	}
	if len(bad.Bad) != 3 || bad.Bad[1].Path != "item31" || bad.Bad[1].Reason != "number 31 is bad" || bad.Total != 60 {
		t.Errorf("bad %+v of %d", bad.Bad, bad.Total)
	}
	for _, want := range []string{"counted", "3 of 60 images are bad", "item59", "--skip-bad"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q lacks %q", err, want)
		}
	}
	if n := called.Load(); n > 0 {
		t.Errorf("fn was called %d times although the first item is bad", n)
	}
	all := &counted{n: 5, size: 2, bad: func(int) bool { return true }}
	_, err = imageio.Batches(context.Background(), all, imageio.BatchOptions{SkipBad: true}, func(*cpu.Worker, *imageio.Batch) error { return nil })
	if !errors.Is(err, imageio.ErrEmpty) || !strings.Contains(err.Error(), "item4: number 4 is bad") {
		t.Errorf("nothing but bad pictures: %v", err)
	}
}

func TestBatchesStop(t *testing.T) {
	stop := errors.New("stop")
	// Each source is far too long to be read to its end: returning is the proof.
	src := &counted{n: 1 << 30, size: 2}
	_, err := imageio.Batches(context.Background(), src, imageio.BatchOptions{Size: 2}, func(_ *cpu.Worker, b *imageio.Batch) error {
		if b.Seq == 5 {
			return stop
		}
		return nil
	})
	if err != stop {
		t.Errorf("error of the function: %v", err)
	}

	src = &counted{n: 1 << 30, size: 2}
	ctx, cancel := context.WithCancel(context.Background())
	_, err = imageio.Batches(ctx, src, imageio.BatchOptions{Size: 2}, func(_ *cpu.Worker, b *imageio.Batch) error {
		if b.Seq == 5 {
			cancel()
		}
		return nil
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}

	src = &counted{n: 1 << 30, size: 2}
	var got any
	func() {
		defer func() { got = recover() }()
		imageio.Batches(context.Background(), src, imageio.BatchOptions{}, func(*cpu.Worker, *imageio.Batch) error { panic("oops") })
	}()
	if got == nil || !strings.Contains(fmt.Sprint(got), "oops") {
		t.Errorf("a panic of the function arrived as %v", got)
	}

	src = &counted{n: 1 << 30, size: 2}
	sum, err := imageio.Batches(context.Background(), src, imageio.BatchOptions{Limit: 13}, func(*cpu.Worker, *imageio.Batch) error { return nil })
	if err != nil || sum.Images != 13 || src.yielded.Load() != 13 {
		t.Errorf("limit 13: %d images of %d read, %v", sum.Images, src.yielded.Load(), err)
	}
}

// Ten times the pictures take no more memory, and the reader never runs ahead
// by more than the batches in flight.
func TestBatchesMemoryIsFlat(t *testing.T) {
	const size, batch = 64, 4
	peak := func(n int) uint64 {
		src := &counted{n: n, size: size}
		var mu sync.Mutex
		var done, ahead int64
		var top uint64
		runtime.GC()
		_, err := imageio.Batches(context.Background(), src, imageio.BatchOptions{Size: batch}, func(*cpu.Worker, *imageio.Batch) error {
			mu.Lock()
			defer mu.Unlock()
			ahead = max(ahead, src.yielded.Load()-done)
			if done += batch; done%400 == 0 {
				var m runtime.MemStats
				runtime.GC()
				runtime.ReadMemStats(&m)
				top = max(top, m.HeapAlloc)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if limit := int64((cpu.Workers() + 3) * batch); ahead > limit {
			t.Errorf("%d items: %d in flight, limit %d", n, ahead, limit)
		}
		return top
	}
	few, many := peak(800), peak(8000)
	if many > few+1<<20 {
		t.Errorf("peak of live memory %d bytes with 800 pictures, %d with 8000", few, many)
	}
}

// The same of real files: every source, decoding included, through archives.
func TestBatchesOfFiles(t *testing.T) {
	dir := t.TempDir()
	files := map[string][]byte{".h": nil, "note.txt": []byte("x")}
	for i := range 20 {
		files[fmt.Sprintf("p%02d.png", i)] = pngBytes(t, noisy(10+i, 8, i))
		files[fmt.Sprintf("q%02d.jpg", i)] = jpegBytes(t, noisy(10, 8, i))
	}
	// The skeleton is whole, the data are not: only decoding can tell.
	broken := bytes.Clone(files["p05.png"])
	copy(broken[len(broken)/2:], "these bytes are not what they were")
	files["p05.png"] = broken
	write(t, dir, files)
	for _, input := range []string{dir, makeZip(t, dir), makeTar(t, dir, true)} {
		var mu sync.Mutex
		got := map[int]string{}
		src := mustOpen(t, input, imageio.Options{})
		sum, err := imageio.Batches(context.Background(), src, imageio.BatchOptions{SkipBad: true}, func(_ *cpu.Worker, b *imageio.Batch) error {
			mu.Lock()
			defer mu.Unlock()
			for k, i := range b.Index {
				got[i] = filepath.Base(b.Names[k])
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if len(got) != 39 || got[4] != "p04.png" || got[5] != "" || got[39] != "q19.jpg" {
			t.Errorf("%s: items %v", input, got)
		}
		if sum.Images != 39 || sum.Lossy != 20 || !sum.Mixed() || sum.MinWidth != 10 || sum.MaxWidth != 29 || sum.Formats["jpeg"] != 20 || sum.Found.Hidden != 1 {
			t.Errorf("%s: summary %+v", input, sum)
		}
		if len(sum.Bad) != 1 || filepath.Base(sum.Bad[0].Path) != "p05.png" || !strings.Contains(sum.Bad[0].Reason, "checksum") {
			t.Errorf("%s: bad %v", input, sum.Bad)
		}
		notes := strings.Join(sum.Notes(), "\n")
		for _, want := range []string{"20 of 39 images are lossy", "10x8 to 29x8", "1 bad image", "1 hidden", "1 .txt"} {
			if !strings.Contains(notes, want) {
				t.Errorf("%s: notes %q lack %q", input, notes, want)
			}
		}
	}
}

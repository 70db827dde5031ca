package fid

import (
	"context"
	"crypto/sha256"
	"slices"
	"sync"
	"testing"

	"github.com/fidlab/fidlab/internal/cpu"
)

// memory is a cache that lives as long as the test.
type memory struct {
	mu   sync.Mutex
	rows map[[sha256.Size]byte][]float32
}

func (m *memory) Lookup(p [sha256.Size]byte, row []float32) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	r, ok := m.rows[p]
	return ok && copy(row, r) == len(row)
}

func (m *memory) Store(p [sha256.Size]byte, row []float32) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.rows[p] = slices.Clone(row)
}

// Whatever part of the pictures the cache has, the rows are the same, in the order of the source.
func TestCachedFeaturesAreTheSame(t *testing.T) {
	src, ex := drawn{n: 90}, streams{d: 24, batch: 3}
	collect := func(c FeatureCache, batch int) (rows []float32, cached int) {
		got, err := EachFeatures(context.Background(), src, ex, CollectOptions{Cache: c, Batch: batch}, func(_ *cpu.Worker, r []float32) error {
			rows = append(rows, r...)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return rows, got.Cached
	}
	want, _ := collect(nil, 7)
	m := &memory{rows: map[[sha256.Size]byte][]float32{}}
	got, cached := collect(m, 7)
	if !slices.Equal(got, want) || cached == 90 {
		t.Errorf("filling the cache: %d from it, equal %v", cached, slices.Equal(got, want))
	}
	k := 0
	for p := range m.rows { // of every third the cache knows nothing
		if k++; k%3 == 0 {
			delete(m.rows, p)
		}
	}
	if got, cached = collect(m, 4); !slices.Equal(got, want) || cached == 0 || cached == 90 {
		t.Errorf("from a part: %d from it, equal %v", cached, slices.Equal(got, want))
	}
	if got, cached = collect(m, 16); !slices.Equal(got, want) || cached != 90 {
		t.Errorf("from the whole: %d from it, equal %v", cached, slices.Equal(got, want))
	}
}

package data

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"runtime"
	"sync"

	"github.com/fidlab/fidlab/internal/cpu"
)

// GoldenItems is how many items of a split its golden hash covers, or all of a
// shorter split.
const GoldenItems = 256

// Hash is the SHA-256, in hex, over the first n items of the split: of each its
// length in bytes (64 bits, little-endian) and its Bytes. Items are made on all
// processors; the hash does not depend on how many there are.
func Hash(ctx context.Context, s Served, split Split, n int) (string, error) {
	if err := CheckSplit(s.Name(), split, s.Splits()); err != nil {
		return "", err
	}
	if err := CheckRange(s.Name(), split, 0, n, s.Len(split)); err != nil {
		return "", err
	}
	h := sha256.New()
	err := InOrder(ctx, n, func(i int) ([]byte, error) {
		it, err := s.Item(split, i)
		if err != nil {
			return nil, err
		}
		return it.Bytes(), nil
	}, func(_ int, b []byte) error {
		h.Write(binary.LittleEndian.AppendUint64(nil, uint64(len(b))))
		h.Write(b)
		return nil
	})
	if err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// InOrder runs produce(i) for i < n on as many goroutines as there are workers of
// internal/cpu (fidlab's --threads) and use(i, result) one after
// the other in the order of i. At most a few results a processor wait. The first
// error in the order of i, or the end of ctx, stops it.
func InOrder[T any](ctx context.Context, n int, produce func(i int) (T, error), use func(i int, v T) error) error {
	type result struct {
		v   T
		err error
	}
	workers := max(1, min(runtime.GOMAXPROCS(0), cpu.Workers(), n))
	window := 4 * workers
	slots := make([]chan result, window)
	for i := range slots {
		slots[i] = make(chan result, 1)
	}
	ctx, cancel := context.WithCancel(ctx)
	jobs := make(chan int, window) // never full: at most a window of items is handed out
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for i := range jobs {
				if ctx.Err() != nil {
					continue
				}
				v, err := produce(i)
				slots[i%window] <- result{v, err} // empty: item i−window was used before i was handed out
			}
		})
	}
	defer wg.Wait()
	defer close(jobs)
	defer cancel()
	sent := 0
	for i := range n {
		for ; sent < min(n, i+window); sent++ {
			jobs <- sent
		}
		select {
		case r := <-slots[i%window]:
			if r.err != nil {
				return r.err
			}
			if err := use(i, r.v); err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

package kernels_test

import (
	"fmt"
	"math/rand/v2"
	"sort"
	"testing"

	"github.com/fidlab/fidlab/cuda"
	"github.com/fidlab/fidlab/kernels"
)

func onDevice(t *testing.T) *cuda.Stream {
	t.Helper()
	dev, err := cuda.Open(0)
	if err != nil {
		t.Skip(err)
	}
	s, err := dev.NewStream()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func zeroed(s *cuda.Stream, bytes int) cuda.Ptr {
	p := s.Alloc(bytes)
	s.Memset(p, 0, bytes)
	return p
}

// radixSort sorts n keys by their bits [first, first+bits) and returns the keys
// and where they were; the values of the first pass are 0, 1, 2, ...
func radixSort(t *testing.T, s *cuda.Stream, keys []uint32, first, bits int) (sorted, from []uint32) {
	t.Helper()
	n, passes := len(keys), (bits+7)/8
	if n == 0 {
		return nil, nil
	}
	blocks, mask := (n+4095)/4096, uint32(1)<<(bits-8*(passes-1))-1
	starts := zeroed(s, passes*256*4)
	in, out := upload(s, keys), s.Alloc(4*n)
	var valuesIn cuda.Ptr
	valuesOut, spare := s.Alloc(4*n), s.Alloc(4*n)
	kernels.RadixHistogramU32(s, cuda.Grid{X: min(blocks, 3), Y: 1, Z: 1, BX: 256}, starts, in, int32(first), int32(passes), mask, int32(n))
	kernels.RadixStartsU32(s, cuda.Grid{X: passes, Y: 1, Z: 1, BX: 256}, starts, starts)
	for p := range passes {
		state, m := zeroed(s, (blocks*256+1)*4), uint32(255)
		if p == passes-1 {
			m = mask
		}
		kernels.RadixPassU32(s, cuda.Grid{X: blocks, Y: 1, Z: 1, BX: 256}, out, valuesOut, in, valuesIn, starts+cuda.Ptr(p*1024),
			state, state+cuda.Ptr(blocks*1024), int32(first+8*p), m, int32(n))
		s.Free(state)
		in, out = out, in
		if p == 0 {
			valuesIn = spare
		}
		valuesIn, valuesOut = valuesOut, valuesIn
	}
	s.Free(out)
	s.Free(starts)
	s.Free(valuesOut)
	return download[uint32](t, s, in, n), download[uint32](t, s, valuesIn, n)
}

func TestRadixSortEqualsStableSort(t *testing.T) {
	s := onDevice(t)
	for _, n := range []int{0, 1, 31, 255, 256, 257, 4095, 4096, 4097, 70000} {
		for _, c := range []struct {
			name        string
			first, bits int
			key         func(r *rand.Rand) uint32
		}{
			{"32 bits", 0, 32, func(r *rand.Rand) uint32 { return r.Uint32() }},
			{"11 bits", 0, 11, func(r *rand.Rand) uint32 { return r.Uint32() & 0x7ff }},
			{"bits 5 to 18 alone", 5, 13, func(r *rand.Rand) uint32 { return r.Uint32() }},
			{"one bit", 0, 1, func(r *rand.Rand) uint32 { return r.Uint32() & 1 }},
			{"all equal", 0, 16, func(*rand.Rand) uint32 { return 0xabcd }},
			{"few values", 0, 20, func(r *rand.Rand) uint32 { return r.Uint32N(7) * 12345 }},
			{"all ones", 0, 32, func(*rand.Rand) uint32 { return 0xffffffff }},
		} {
			if n > 5000 && c.bits > 16 && c.name != "32 bits" {
				continue // four passes over 70,000 keys once are enough for the host
			}
			t.Run(fmt.Sprintf("n=%d/%s", n, c.name), func(t *testing.T) {
				r := rand.New(rand.NewPCG(uint64(n), uint64(c.bits)))
				keys, want := make([]uint32, n), make([]int, n)
				for i := range keys {
					keys[i], want[i] = c.key(r), i
				}
				digits := func(k uint32) uint32 { return uint32(uint64(k) >> c.first & (1<<c.bits - 1)) }
				sort.SliceStable(want, func(a, b int) bool { return digits(keys[want[a]]) < digits(keys[want[b]]) })
				sorted, from := radixSort(t, s, keys, c.first, c.bits)
				for i, w := range want {
					if int(from[i]) != w || sorted[i] != keys[w] {
						t.Fatalf("place %d has key %#x from %d, want %#x from %d", i, sorted[i], from[i], keys[w], w)
					}
				}
			})
		}
	}
}

func TestScanEqualsLoop(t *testing.T) {
	s := onDevice(t)
	for _, n := range []int{1, 7, 8, 2047, 2048, 2049, 30000} {
		for _, ordered := range []bool{false, true} {
			r := rand.New(rand.NewPCG(uint64(n), 3))
			in, order := make([]uint32, n), make([]uint32, n)
			for i, p := range r.Perm(n) {
				in[i], order[i] = r.Uint32N(1000), uint32(p)
			}
			if n == 2049 { // a sum beyond 32 bits: the total alone has it
				in[5], in[9] = 0xfffffff0, 0xfffffff0
			}
			var orderPtr cuda.Ptr
			if ordered {
				orderPtr = upload(s, order)
			}
			blocks := (n + 2047) / 2048
			out, total, state := s.Alloc(4*(n+1)), s.Alloc(8), zeroed(s, blocks*8+4)
			inPtr := upload(s, in)
			kernels.ScanExclusiveU32(s, cuda.Grid{X: blocks, Y: 1, Z: 1, BX: 256}, out, total, inPtr, orderPtr, state, state+cuda.Ptr(8*blocks), int32(n))
			sum := uint64(0)
			for i, v := range download[uint32](t, s, out, n+1) {
				if v != uint32(sum) {
					t.Fatalf("n=%d, ordered %v: out[%d] = %d, want %d", n, ordered, i, v, uint32(sum))
				}
				if i < n {
					j := i
					if ordered {
						j = int(order[i])
					}
					sum += uint64(in[j])
				}
			}
			if v := download[uint32](t, s, total, 2); uint64(v[0])|uint64(v[1])<<32 != sum {
				t.Fatalf("n=%d: the total is %d, want %d", n, v, sum)
			}
			for _, p := range []cuda.Ptr{state, inPtr, orderPtr} {
				s.Free(p)
			}
		}
	}
}

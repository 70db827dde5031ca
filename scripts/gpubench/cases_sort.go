package main

import (
	"github.com/fidlab/fidlab/cuda"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/kernels"
)

// The radix sort of keys with their places, four passes, and the exclusive sum:
// what the binning of Gaussians is made of.
func init() {
	n := size(1<<24, 5000)
	const passes = 4
	register(Case{
		Name: "radixsort.u32", Kernel: "radix_pass_u32", Shape: shape(n), Peak: "memory", Goal: 0.6,
		Bytes: (4 + 16*passes) * float64(n), // the keys once for the histogram, keys and places in and out in each pass
		Parts: []Part{
			{"radix_histogram_u32", 4 * float64(n), 0, "memory"},
			{"radix_starts_u32", 2 * passes * 1024, 0, "memory"},
			{"radix_pass_u32", 16 * float64(n), 0, "memory"},
		},
		Torch: spec("sort", "n", n, "dtype", "i32"),
		Setup: func(dev *gpu.Device) (func(), error) {
			s := dev.Stream()
			keys := make([]int32, n)
			for i := range keys {
				keys[i] = int32(uint32(i) * 2654435761 >> 1)
			}
			blocks := (n + 4095) / 4096
			source, in, out := dev.FromInt32(keys, n), dev.New(gpu.Int32, n), dev.New(gpu.Int32, n)
			from, to := dev.New(gpu.Int32, n), dev.New(gpu.Int32, n)
			starts, state := dev.New(gpu.Int32, passes, 256), dev.New(gpu.Int32, passes, blocks*256+1)
			return func() {
				s.Memset(starts.Ptr(), 0, 4*starts.Len())
				s.Memset(state.Ptr(), 0, 4*state.Len())
				kernels.RadixHistogramU32(s, cuda.Grid{X: min(blocks, 528), Y: 1, Z: 1, BX: 256}, starts.Ptr(), source.Ptr(), 0, passes, 255, int32(n))
				kernels.RadixStartsU32(s, cuda.Grid{X: passes, Y: 1, Z: 1, BX: 256}, starts.Ptr(), starts.Ptr())
				a, b, va, vb := source, in, cuda.Ptr(0), to
				for p := range passes {
					words := state.Ptr() + cuda.Ptr(4*p*(blocks*256+1))
					kernels.RadixPassU32(s, cuda.Grid{X: blocks, Y: 1, Z: 1, BX: 256}, b.Ptr(), vb.Ptr(), a.Ptr(), va, starts.Ptr()+cuda.Ptr(1024*p),
						words, words+cuda.Ptr(1024*blocks), int32(8*p), 255, int32(n))
					va = vb.Ptr()
					if p%2 == 0 {
						a, b, vb = in, out, from
					} else {
						a, b, vb = out, in, to
					}
				}
			}, nil
		},
	})
	register(Case{
		Name: "scan.u32", Kernel: "scan_exclusive_u32", Shape: shape(n), Peak: "memory", Goal: 0.7,
		Bytes: 8 * float64(n),
		Setup: func(dev *gpu.Device) (func(), error) {
			s := dev.Stream()
			blocks := (n + 2047) / 2048
			in, out := dev.Zeros(gpu.Int32, n), dev.New(gpu.Int32, n+1)
			total, state := dev.New(gpu.Int32, 2), dev.New(gpu.Int32, 2*blocks+1)
			return func() {
				s.Memset(state.Ptr(), 0, 4*state.Len())
				kernels.ScanExclusiveU32(s, cuda.Grid{X: blocks, Y: 1, Z: 1, BX: 256}, out.Ptr(), total.Ptr(), in.Ptr(), 0,
					state.Ptr(), state.Ptr()+cuda.Ptr(8*blocks), int32(n))
			}, nil
		},
	})
}

package ops

import (
	"github.com/fidlab/fidlab/cuda"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/kernels"
)

const (
	sortTile  = 4096        // keys of a block of radix_pass_u32
	scanTile  = 2048        // counts of a block of scan_exclusive_u32
	maxSorted = 1<<30 - 1   // radix_pass_u32 keeps two bits of its counts for itself
	fewBlocks = 2 * 132     // of a kernel whose blocks stride over their work: two for each of an H100's multiprocessors
	sortBins  = 256         // values of a digit
	wordSize  = cuda.Ptr(4) // bytes
)

// radixSort sorts the n keys (uint32 in Int32) by their lowest bits, stably, on
// the GPU, and the values with them; nil values stand for 0, 1, 2, ... It
// returns new tensors and frees keys and values.
func radixSort(dev *gpu.Device, keys, values *gpu.Tensor, n, bits int) (*gpu.Tensor, *gpu.Tensor) {
	s := dev.Stream()
	passes, blocks := max(1, (bits+7)/8), (n+sortTile-1)/sortTile
	lastMask := uint32(1)<<(max(bits, 1)-8*(passes-1)) - 1
	starts := dev.Zeros(gpu.Int32, passes, sortBins)
	state := dev.Zeros(gpu.Int32, passes, blocks*sortBins+1)
	defer freeAll(starts, state)
	kernels.RadixHistogramU32(s, cuda.Grid{X: min(blocks, fewBlocks), Y: 1, Z: 1, BX: 256}, starts.Ptr(), keys.Ptr(), 0, int32(passes), lastMask, int32(n))
	kernels.RadixStartsU32(s, cuda.Grid{X: passes, Y: 1, Z: 1, BX: 256}, starts.Ptr(), starts.Ptr())
	for p := range passes {
		mask := uint32(sortBins - 1)
		if p == passes-1 {
			mask = lastMask
		}
		k, v := dev.New(gpu.Int32, n), dev.New(gpu.Int32, n)
		var from cuda.Ptr
		if values != nil {
			from = values.Ptr()
		}
		words := state.Ptr() + cuda.Ptr(p*(blocks*sortBins+1))*wordSize
		kernels.RadixPassU32(s, cuda.Grid1(n, sortTile, 256), k.Ptr(), v.Ptr(), keys.Ptr(), from, starts.Ptr()+cuda.Ptr(p*sortBins)*wordSize,
			words, words+cuda.Ptr(blocks*sortBins)*wordSize, int32(8*p), mask, int32(n))
		freeAll(keys, values)
		keys, values = k, v
	}
	return keys, values
}

// exclusiveSum makes offsets[i] the sum of the counts before the i-th in the
// given order (nil: as they are), offsets[n] that of all, and writes the sum of
// all in 64 bits to total.
func exclusiveSum(dev *gpu.Device, counts, order *gpu.Tensor, total cuda.Ptr, n int) *gpu.Tensor {
	blocks := ceil(n, scanTile)
	offsets, state := dev.New(gpu.Int32, n+1), dev.Zeros(gpu.Int32, 2*blocks+1)
	defer state.Free()
	kernels.ScanExclusiveU32(dev.Stream(), cuda.Grid1(n, scanTile, 256), offsets.Ptr(), total, counts.Ptr(), ptr(order), state.Ptr(),
		state.Ptr()+cuda.Ptr(2*blocks)*wordSize, int32(n))
	return offsets
}

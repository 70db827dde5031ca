package ops

import (
	"github.com/fidlab/fidlab/cuda"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/cpu"
	"github.com/fidlab/fidlab/kernels"
)

// Finite tells whether no element of x is NaN or infinite; at is the first one
// that is, or -1. On a GPU it waits for the answer, which is true when the device
// has failed: its stream keeps that error. It panics unless x has a float dtype.
func Finite(x *gpu.Tensor) (at int, ok bool) {
	mustBeFloat("Finite", x)
	if dev := x.Device(); dev.CUDA() {
		at = launchFinite(dev.Stream(), x)
		return at, at < 0
	}
	switch x.DType() {
	case gpu.Float64:
		if v := x.F64(); !cpu.Finite64(v) {
			return firstBad(v), false
		}
	case gpu.Float32:
		if v := x.F32(); !cpu.Finite32(v) {
			return firstBad(v), false
		}
	default:
		exponent := uint16(0x7c00)
		if x.DType() == gpu.BFloat16 {
			exponent = 0x7f80
		}
		for i, w := range x.U16() {
			if w&exponent == exponent {
				return i, false
			}
		}
	}
	return -1, true
}

func firstBad[T float32 | float64](x []T) int {
	for i, v := range x {
		if v-v != 0 {
			return i
		}
	}
	return -1
}

func launchFinite(s *cuda.Stream, x *gpu.Tensor) int {
	const vectors = 4 // of a thread
	g := cuda.Grid1(x.Len(), vectors*vectorBlock*16/x.DType().Size(), vectorBlock)
	f := byDType(x.DType(), kernels.FiniteF32, kernels.FiniteF64, kernels.FiniteF16, kernels.FiniteBf16)
	bad := newIndex(s)
	f(s, g, bad, x.Ptr(), int64(x.Len()))
	return takeIndex(s, bad)
}

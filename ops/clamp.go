package ops

import (
	"github.com/fidlab/fidlab/cuda"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/kernels"
)

// Clamp sets out to x limited to [lo, hi], both rounded to the dtype. out may be
// x; NaN stays NaN. It panics unless out and x have one length, float dtype and
// device, and lo <= hi.
func Clamp(out, x *gpu.Tensor, lo, hi float64) {
	xs := [1]*gpu.Tensor{x}
	mustBeFloat("Clamp", out)
	sameLen("Clamp", out, xs[:])
	if !(lo <= hi) {
		fail("Clamp", "limits %g and %g; want lo <= hi", lo, hi)
	}
	lo, hi = rounded(out.DType(), lo), rounded(out.DType(), hi)
	if dev := out.Device(); dev.CUDA() {
		g := cuda.Grid1(out.Len(), vectorBlock*16/out.DType().Size(), vectorBlock)
		f := byDType(out.DType(), kernels.ClampF32, kernels.ClampF64, kernels.ClampF16, kernels.ClampBf16)
		f(dev.Stream(), g, out.Ptr(), x.Ptr(), lo, hi, int64(out.Len()))
		return
	}
	switch out.DType() {
	case gpu.Float64:
		clamp(out.F64(), x.F64(), lo, hi)
	case gpu.Float32:
		clamp(out.F32(), x.F32(), float32(lo), float32(hi))
	default:
		widen, narrow := half(out.DType())
		o := out.U16()
		for i, w := range x.U16() {
			v := float64(widen(w))
			if v < lo {
				w = narrow(float32(lo))
			} else if v > hi {
				w = narrow(float32(hi))
			}
			o[i] = w
		}
	}
}

func clamp[T float32 | float64](out, x []T, lo, hi T) {
	for i, v := range x {
		if v < lo {
			v = lo
		} else if v > hi {
			v = hi
		}
		out[i] = v
	}
}

// rounded is v in a float dtype.
func rounded(dt gpu.DType, v float64) float64 {
	switch dt {
	case gpu.Float64:
		return v
	case gpu.Float32:
		return float64(float32(v))
	}
	widen, narrow := half(dt)
	return float64(widen(narrow(float32(v))))
}

package ops

import "github.com/fidlab/fidlab/gpu"

// Clamp sets out to x limited to [lo, hi]. out may be x; NaN stays NaN.
func Clamp(out, x *gpu.Tensor, lo, hi float64) {
	xs := [1]*gpu.Tensor{x}
	sameLen("Clamp", out, xs[:])
	if out.Double() {
		clamp(out.F64(), x.F64(), lo, hi)
		return
	}
	clamp(out.F32(), x.F32(), float32(lo), float32(hi))
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

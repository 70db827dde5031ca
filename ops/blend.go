package ops

import (
	"github.com/fidlab/fidlab/cuda"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/cpu"
	"github.com/fidlab/fidlab/kernels"
)

// Blend sets out to mask·a + (1-mask)·b: a where mask is 1 and b where it is 0,
// whatever the other is there. Sums are made in float64, not fused, and rounded
// once: the same bits on every device. out may be any of the others. It panics
// unless all have one length, float dtype and device.
func Blend(out, mask, a, b *gpu.Tensor) {
	const op = "Blend"
	mustBeFloat(op, out)
	xs := [3]*gpu.Tensor{mask, a, b}
	sameLen(op, out, xs[:])
	n := out.Len()
	if dev := out.Device(); dev.CUDA() {
		g := cuda.Grid1(n, vectorBlock*16/out.DType().Size(), vectorBlock)
		f := byDType(out.DType(), kernels.BlendF32, kernels.BlendF64, kernels.BlendF16, kernels.BlendBf16)
		f(dev.Stream(), g, out.Ptr(), mask.Ptr(), a.Ptr(), b.Ptr(), int64(n))
		return
	}
	const chunk = 1 << 15
	cpu.Each((n+chunk-1)/chunk, func(_ *cpu.Worker, i int) {
		lo, hi := i*chunk, min((i+1)*chunk, n)
		switch out.DType() {
		case gpu.Float64:
			blend(out.F64()[lo:hi], mask.F64()[lo:hi], a.F64()[lo:hi], b.F64()[lo:hi])
		case gpu.Float32:
			blend(out.F32()[lo:hi], mask.F32()[lo:hi], a.F32()[lo:hi], b.F32()[lo:hi])
		default:
			widen, narrow := half(out.DType())
			o, m, u, v := out.U16(), mask.U16(), a.U16(), b.U16()
			for j := lo; j < hi; j++ {
				o[j] = narrow(float32(mixed(float64(widen(m[j])), float64(widen(u[j])), float64(widen(v[j])))))
			}
		}
	})
}

func blend[T float32 | float64](out, mask, a, b []T) {
	for i, m := range mask {
		out[i] = T(mixed(float64(m), float64(a[i]), float64(b[i])))
	}
}

func mixed(m, a, b float64) float64 {
	switch m {
	case 1:
		return a
	case 0:
		return b
	}
	return float64(m*a) + float64((1-m)*b)
}

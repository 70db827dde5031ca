package ops

import (
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/cpu"
)

// Finite tells whether no element of x is NaN or infinite; at is the first one
// that is, or -1.
func Finite(x *gpu.Tensor) (at int, ok bool) {
	if x.Double() {
		if v := x.F64(); !cpu.Finite64(v) {
			return firstBad(v), false
		}
		return -1, true
	}
	if v := x.F32(); !cpu.Finite32(v) {
		return firstBad(v), false
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

package ops

import (
	"fmt"

	"github.com/fidlab/fidlab/gpu"
)

// fail panics with the operation's name: its caller misused it.
func fail(op, format string, args ...any) {
	panic("ops: " + op + ": " + fmt.Sprintf(format, args...))
}

// sameDevice panics unless all tensors that are not nil live on one device,
// which it returns.
func sameDevice(op string, ts ...*gpu.Tensor) *gpu.Device {
	var dev *gpu.Device
	for i, t := range ts {
		switch {
		case t == nil:
		case dev == nil:
			dev = t.Device()
		case t.Device() != dev:
			fail(op, "operand %d is on %v, those before it on %v; move it with To", i, t.Device(), dev)
		}
	}
	return dev
}

// sameLen panics unless all tensors agree in dtype and number of elements, and
// live on one device.
func sameLen(op string, out *gpu.Tensor, xs []*gpu.Tensor) {
	for i, x := range xs {
		if x.DType() != out.DType() {
			fail(op, "operand %d is %v, the output %v", i, x.DType(), out.DType())
		}
		if x.Len() != out.Len() {
			fail(op, "shapes %v of operand %d and %v of the output differ", x.Shape(), i, out.Shape())
		}
	}
	sameDevice(op, xs...)
	if len(xs) > 0 {
		sameDevice(op, out, xs[0])
	}
}

// mustBeFloat panics unless t's dtype is one that arithmetic is done in.
func mustBeFloat(op string, t *gpu.Tensor) {
	switch t.DType() {
	case gpu.Float32, gpu.Float64, gpu.Float16, gpu.BFloat16:
	default:
		fail(op, "the output is %v; want float32, float64, float16 or bfloat16", t.DType())
	}
}

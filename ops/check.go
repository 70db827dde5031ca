package ops

import (
	"fmt"

	"github.com/fidlab/fidlab/gpu"
)

// sameLen panics unless all tensors agree in dtype and number of elements.
func sameLen(op string, out *gpu.Tensor, xs []*gpu.Tensor) {
	for i, x := range xs {
		if x.Double() != out.Double() {
			panic(fmt.Sprintf("ops: %s: operand %d and the output differ in dtype (float64: %t and %t)", op, i, x.Double(), out.Double()))
		}
		if x.Len() != out.Len() {
			panic(fmt.Sprintf("ops: %s: shapes %v of operand %d and %v of the output differ", op, x.Shape(), i, out.Shape()))
		}
	}
}

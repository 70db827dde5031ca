package ops

import (
	"fmt"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/cpu"
)

// LinComb sets out to Σ_j coeffs[j]·xs[j] in one pass over memory. out may be
// any of the xs. Sums are made in float64 and rounded once, to the same bits at
// any number of threads. It panics unless all tensors have one length and dtype
// and there are as many coefficients as tensors, one to eight.
func LinComb(out *gpu.Tensor, coeffs []float64, xs ...*gpu.Tensor) {
	checkLinComb("LinComb", out, coeffs, xs)
	lincombRange(out, coeffs, xs, 0, out.Len())
}

// LinCombFinite is LinComb and tells whether every result is finite; it reads
// nothing twice. If an operand isn't finite, neither is the result.
func LinCombFinite(out *gpu.Tensor, coeffs []float64, xs ...*gpu.Tensor) bool {
	checkLinComb("LinCombFinite", out, coeffs, xs)
	return lincombRange(out, coeffs, xs, 0, out.Len())
}

// LinCombRows is LinComb with coefficients of each sample: row b of the tensors
// [B, ...] gets coeffs[b·k : (b+1)·k], k = len(xs).
func LinCombRows(out *gpu.Tensor, coeffs []float64, xs ...*gpu.Tensor) {
	sameLen("LinCombRows", out, xs)
	k := len(xs)
	if len(out.Shape()) == 0 || k == 0 || k > maxTerms || len(coeffs) != k*out.Shape()[0] {
		panic(fmt.Sprintf("ops: LinCombRows: %d coefficients for %d tensors of shape %v, want that many per row, 1 to %d tensors",
			len(coeffs), k, out.Shape(), maxTerms))
	}
	rows := out.Shape()[0]
	if rows == 0 {
		return
	}
	size := out.Len() / rows
	for b := range rows {
		lincombRange(out, coeffs[b*k:(b+1)*k], xs, b*size, (b+1)*size)
	}
}

// maxTerms is what one pass of package cpu takes.
const maxTerms = 8

func checkLinComb(op string, out *gpu.Tensor, coeffs []float64, xs []*gpu.Tensor) {
	sameLen(op, out, xs)
	if len(coeffs) != len(xs) || len(xs) == 0 || len(xs) > maxTerms {
		panic(fmt.Sprintf("ops: %s: %d coefficients for %d tensors, want as many, 1 to %d", op, len(coeffs), len(xs), maxTerms))
	}
}

func lincombRange(out *gpu.Tensor, coeffs []float64, xs []*gpu.Tensor, lo, hi int) (finite bool) {
	if out.Double() {
		var v [maxTerms][]float64
		for j, x := range xs {
			v[j] = x.F64()[lo:hi]
		}
		return cpu.LinComb64(nil, out.F64()[lo:hi], coeffs, v[:len(xs)]...)
	}
	var v [maxTerms][]float32
	for j, x := range xs {
		v[j] = x.F32()[lo:hi]
	}
	return cpu.LinComb32(nil, out.F32()[lo:hi], coeffs, v[:len(xs)]...)
}

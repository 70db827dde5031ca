package ops

import (
	"fmt"

	"github.com/fidlab/fidlab/gpu"
)

// LinComb sets out to Σ_j coeffs[j]·xs[j] in one pass over memory. out may be
// any of the xs. In float32 the coefficients are rounded to float32 first. It
// panics unless all tensors have one length and dtype and there are as many
// coefficients as tensors, at least one.
func LinComb(out *gpu.Tensor, coeffs []float64, xs ...*gpu.Tensor) {
	sameLen("LinComb", out, xs)
	if len(coeffs) != len(xs) || len(xs) == 0 || len(xs) > maxTerms {
		panic(fmt.Sprintf("ops: LinComb: %d coefficients for %d tensors, want as many, 1 to %d", len(coeffs), len(xs), maxTerms))
	}
	lincombRange(out, coeffs, xs, 0, out.Len())
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

const maxTerms = 8

func lincombRange(out *gpu.Tensor, coeffs []float64, xs []*gpu.Tensor, lo, hi int) {
	if out.Double() {
		var c [maxTerms]float64
		var v [maxTerms][]float64
		for j, x := range xs {
			c[j], v[j] = coeffs[j], x.F64()[lo:hi]
		}
		lincomb(out.F64()[lo:hi], c[:len(xs)], v[:len(xs)])
		return
	}
	var c [maxTerms]float32
	var v [maxTerms][]float32
	for j, x := range xs {
		c[j], v[j] = float32(coeffs[j]), x.F32()[lo:hi]
	}
	lincomb(out.F32()[lo:hi], c[:len(xs)], v[:len(xs)])
}

func lincomb[T float32 | float64](out []T, c []T, xs [][]T) {
	n := len(out)
	switch len(xs) {
	case 1:
		a, x := c[0], xs[0][:n]
		for i := range out {
			out[i] = a * x[i]
		}
	case 2:
		a, b, x, y := c[0], c[1], xs[0][:n], xs[1][:n]
		for i := range out {
			out[i] = a*x[i] + b*y[i]
		}
	case 3:
		a, b, d, x, y, z := c[0], c[1], c[2], xs[0][:n], xs[1][:n], xs[2][:n]
		for i := range out {
			out[i] = a*x[i] + b*y[i] + d*z[i]
		}
	default:
		for i := range out {
			s := c[0] * xs[0][i]
			for j := 1; j < len(xs); j++ {
				s += c[j] * xs[j][i]
			}
			out[i] = s
		}
	}
}

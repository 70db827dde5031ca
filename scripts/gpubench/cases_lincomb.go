package main

import (
	"fmt"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/ops"
)

func init() {
	for dt := range dtypes {
		for _, terms := range []int{2, 6} {
			n := size(1<<24, 5000)
			bytes := float64(dtypes[dt].Size())
			register(Case{
				Name: fmt.Sprintf("lincomb.%d.%s", terms, dt), Kernel: "lincomb_" + dt, Shape: shape(n), Peak: "memory", Goal: 0.8,
				Bytes: bytes * float64(terms+1) * float64(n), Flops: float64(2*terms-1) * float64(n),
				Torch: spec("lincomb", "n", n, "terms", terms, "dtype", dt),
				Setup: func(dev *gpu.Device) (func(), error) {
					out := dev.New(dtypes[dt], n)
					coeffs := make([]float64, terms)
					xs := make([]*gpu.Tensor, terms)
					for i := range xs {
						coeffs[i], xs[i] = 0.25+float64(i), normal(dev, dtypes[dt], n)
					}
					return func() { ops.LinComb(out, coeffs, xs...) }, nil
				},
			})
		}
	}

	// A batch in which every image has coefficients of its own.
	rows, values := images()
	for dt, d := range dtypes {
		n := float64(rows) * float64(values)
		register(Case{
			Name: "lincomb.rows." + dt, Kernel: "lincomb_rows_" + dt, Shape: shape(rows, values), Peak: "memory", Goal: 0.8,
			Bytes: 4 * float64(d.Size()) * n, Flops: 5 * n,
			Setup: func(dev *gpu.Device) (func(), error) {
				out := dev.New(d, rows, values)
				a, b, c := normal(dev, d, rows, values), normal(dev, d, rows, values), normal(dev, d, rows, values)
				coeffs := make([]float64, 3*rows)
				for i := range coeffs {
					coeffs[i] = 0.1 + float64(i)/float64(len(coeffs))
				}
				return func() { ops.LinCombRows(out, coeffs, a, b, c) }, nil
			},
		})
	}
}

package main

import (
	"fmt"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/ops"
)

func init() {
	for _, dt := range []string{"f32", "bf16"} {
		for _, terms := range []int{2, 3, 6} {
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
}

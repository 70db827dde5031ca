package main

import (
	"fmt"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/ops"
)

// definite makes a batch of symmetric positive definite matrices, with ones on
// the diagonal and what falls off quickly beside it.
func definite(dev *gpu.Device, dt gpu.DType, batch, d int) *gpu.Tensor {
	v := make([]float32, batch*d*d)
	for b := range batch {
		for i := range d {
			for j := range d {
				k := (i - j) * (i - j)
				v[(b*d+i)*d+j] = float32(1+b%3) / float32(1+4*k)
			}
		}
	}
	return dev.FromAs(dt, v, batch, d, d)
}

func init() {
	n, d := size(50000, 40), size(2048, 20)
	for dt, t := range dtypes {
		register(Case{
			Name: "moments." + dt, Kernel: "moments_scatter_" + dt, Shape: shape(1, n, d), Peak: "f64t", Goal: 0.6,
			Bytes: float64(t.Size()) * float64(n) * float64(d) * 2, Flops: float64(n) * float64(d) * float64(d+1),
			Torch: spec("cov", "n", n, "d", d, "dtype", "f64"), // what gives the same accuracy
			Setup: func(dev *gpu.Device) (func(), error) {
				x := normal(dev, t, 1, n, d)
				mean, scatter := dev.Empty64(1, d), dev.Empty64(1, d, d)
				return func() { ops.Moments(mean, scatter, x) }, nil
			},
		})
	}
	for dt, t := range map[string]gpu.DType{"f32": gpu.Float32, "f64": gpu.Float64} {
		for _, order := range []int{16, 64} {
			batch := size(2048, 2)
			register(Case{
				Name: fmt.Sprintf("eigh.%d.%s", order, dt), Kernel: "jacobi_eigh_" + dt, Shape: shape(batch, order, order), Peak: dt,
				Bytes: 2 * float64(t.Size()) * float64(batch*order*order), Flops: 6 * 8 * float64(batch) * float64(order*order*order), // of eight sweeps
				Torch: spec("eigh", "b", batch, "n", order, "dtype", dt),
				Setup: func(dev *gpu.Device) (func(), error) {
					a := definite(dev, t, batch, order)
					values, vectors := dev.New(t, batch, order), a.Like()
					return func() { must(ops.Eigh(values, vectors, a)) }, nil
				},
			})
		}
		for _, order := range []int{64, 2048} {
			batch := size(max(1, 256*64/order), 1)
			order = size(order, order/64+7)
			peak := map[string]string{"f32": "f32", "f64": "f64t"}[dt]
			register(Case{
				Name: fmt.Sprintf("sqrtm.%d.%s", order, dt), Kernel: "gemm_small_" + dt, Shape: shape(batch, order, order), Peak: peak,
				Bytes: 3 * float64(t.Size()) * float64(batch*order*order), Flops: 10 * 4 * float64(batch) * float64(order) * float64(order*order), // ten steps of two half products and a whole one
				Setup: func(dev *gpu.Device) (func(), error) {
					a := definite(dev, t, batch, order)
					root, inverse := a.Like(), a.Like()
					return func() {
						_, err := ops.Sqrtm(root, inverse, a)
						must(err)
					}, nil
				},
			})
		}
		batch, order := size(8, 1), size(1024, 20)
		register(Case{
			Name: "gemm." + dt, Kernel: "gemm_small_" + dt, Shape: shape(batch, order, order, order), Peak: map[string]string{"f32": "f32", "f64": "f64t"}[dt], Goal: 0.6,
			Bytes: 3 * float64(t.Size()) * float64(batch*order*order), Flops: 2 * float64(batch) * float64(order) * float64(order*order),
			Torch: spec("matmul", "b", batch, "m", order, "n", order, "k", order, "dtype", dt),
			Setup: func(dev *gpu.Device) (func(), error) {
				a, b := normal(dev, t, batch, order, order), normal(dev, t, batch, order, order)
				c := a.Like()
				return func() { ops.GemmBatch(c, a, b, ops.GemmOptions{}) }, nil
			},
		})
	}
}

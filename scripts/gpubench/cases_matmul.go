package main

import (
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/ops"
)

// Products as layers have them: square ones, a layer of many rows with its function, the gradient of its weight, which is a
// long sum, and the products of attention by parts.
func init() {
	for dt, d := range reals {
		peak, goal := "f32", 0.6
		if dt == "f64" {
			peak = "f64t"
		}
		bytes := float64(d.Size())
		side, k := size(2048, 1500), size(2048, 20) // small ones have other tiles
		register(Case{
			Name: "matmul." + dt, Kernel: "matmul_" + dt, Shape: shape(side, side, k), Peak: peak, Goal: goal,
			Bytes: bytes * float64(2*side*k+side*side), Flops: 2 * float64(side) * float64(side) * float64(k),
			Torch: spec("matmul", "b", 1, "m", side, "n", side, "k", k, "dtype", dt),
			Setup: func(dev *gpu.Device) (func(), error) {
				a, b, c := normal(dev, d, side, k), normal(dev, d, k, side), dev.New(d, side, side)
				return func() { ops.MatMul(c, a, b, ops.MatMulConfig{}) }, nil
			},
		})
		rows, in, out := size(16384, 1500), size(384, 20), size(1536, 1500)
		if dt == "f64" {
			rows, out = size(16384, 130), size(1536, 70)
		}
		layer := float64(rows) * float64(in) * float64(out)
		register(Case{
			Name: "linear." + dt, Kernel: "matmul_" + dt, Shape: shape(rows, in, out), Peak: peak, Goal: 0.5,
			Bytes: bytes * float64(rows*in+in*out+2*rows*out), Flops: 2 * layer,
			Setup: func(dev *gpu.Device) (func(), error) {
				x, w, b := normal(dev, d, rows, in), normal(dev, d, out, in), normal(dev, d, out)
				y, pre := dev.New(d, rows, out), dev.New(d, rows, out)
				return func() { ops.Linear(y, pre, x, w, b, ops.GELUTanh) }, nil
			},
		})
		long := size(16384, 600)
		part := map[string]string{"f32": "matmul_small_f32", "f64": "matmul_f64"}[dt]
		n := size(384, 30)
		register(Case{
			Name: "matmul.long." + dt, Kernel: part, Shape: shape(n, n, long), Peak: peak, Goal: 0.3,
			Bytes: bytes * float64(2*long*n+n*n), Flops: 2 * float64(n) * float64(n) * float64(long),
			Parts: []Part{
				{part, bytes * float64(2*long*n+8*n*n), 2 * float64(n) * float64(n) * float64(long), peak},
				{"matmul_sum_" + dt, bytes * float64(9*n*n), 0, "memory"},
			},
			Setup: func(dev *gpu.Device) (func(), error) {
				a, b, c := normal(dev, d, long, n), normal(dev, d, long, n), dev.New(d, n, n)
				return func() { ops.MatMul(c, a, b, ops.MatMulConfig{TransA: true, Acc: true}) }, nil
			},
		})
	}
}

package main

import (
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/ops"
)

func init() {
	rows, _ := images()
	rank, d := size(256, 5), size(3*32*32, 300)
	register(Case{
		Name: "gaussian.flow", Kernel: "lowrank_expand_f32", Shape: shape(rows, rank, d), Peak: "f32", Goal: 0.3,
		Bytes: 4 * float64(2*rank*d+3*rows*d), Flops: 4 * float64(rows) * float64(rank) * float64(d),
		Setup: func(dev *gpu.Device) (func(), error) {
			g, err := ops.NewGaussian(normal(dev, gpu.Float32, d), normal(dev, gpu.Float32, rank, d), make([]float64, rank), 1)
			if err != nil {
				return nil, err
			}
			out, x := dev.Empty(rows, d), normal(dev, gpu.Float32, rows, d)
			return func() { g.Flow(out, x, 1, 80, 1, 2) }, nil
		},
	})
}

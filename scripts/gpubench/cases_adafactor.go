package main

import (
	"math"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/ops"
)

// Adafactor's update of a matrix and of a vector, without the clip, which waits for the device.
func init() {
	for dt, d := range reals {
		rows, cols := size(4096, 20), size(4096, 70)
		n, bytes := float64(rows*cols), float64(d.Size())
		cfg := ops.AdafactorConfig{New: 0.1, Floor: 1e-30, Clip: math.Inf(1)}
		register(Case{
			Name: "adafactor." + dt, Kernel: "adafactor_scale_" + dt, Shape: shape(rows, cols), Peak: "memory", Goal: 0.4, Bytes: 4 * bytes * n,
			Parts: []Part{
				{"adafactor_rows_" + dt, bytes * n, 0, "memory"}, {"adafactor_cols_" + dt, bytes * n, 0, "memory"}, {"adafactor_scale_" + dt, 2 * bytes * n, 0, "memory"},
			},
			Setup: func(dev *gpu.Device) (func(), error) {
				g, row, col := normal(dev, d, rows, cols), dev.Zeros(d, rows), dev.Zeros(d, cols)
				return func() { ops.Adafactor(g, row, col, cfg) }, nil
			},
		})
		register(Case{
			Name: "adafactor.vector." + dt, Kernel: "adafactor_each_" + dt, Shape: shape(rows * cols), Peak: "memory", Goal: 0.5, Bytes: 4 * bytes * n,
			Setup: func(dev *gpu.Device) (func(), error) {
				g, v := normal(dev, d, rows*cols), dev.Zeros(d, rows*cols)
				return func() { ops.Adafactor(g, nil, v, cfg) }, nil
			},
		})
	}
}

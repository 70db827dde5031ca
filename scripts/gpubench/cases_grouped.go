package main

import (
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/ops"
)

// A layer of eight experts with uneven shares of the rows, one of them without any, and its gradients.
func init() {
	for dt, d := range reals {
		peak, kernel, weights := "f32", "grouped_f32", "grouped_weights_f32"
		if dt == "f64" {
			peak, kernel, weights = "f64t", "grouped_f64", "grouped_weights_f64"
		}
		bytes := float64(d.Size())
		for _, c := range []struct {
			name, kernel, weights string
			rows, in, out         int
			goal                  float64
		}{
			{"grouped", kernel, weights, size(16384, 1100), size(1024, 5), size(1024, 2200), 0.5},
			{"grouped.small", "grouped_small_f32", "grouped_weights_small_f32", size(1024, 70), size(256, 20), size(256, 66), 0},
		} {
			if dt == "f64" && c.name == "grouped.small" {
				continue
			}
			offsets := make([]int32, 9)
			for g, share := range []int{3, 1, 0, 2, 5, 1, 2, 2} { // sixteenths
				offsets[g+1] = offsets[g] + int32(c.rows*share/16)
			}
			rows := float64(offsets[8])
			flops := 2 * rows * float64(c.in) * float64(c.out)
			moved := bytes * (rows*float64(c.in+c.out) + float64(8*c.in*c.out))
			at := func(dev *gpu.Device) *gpu.Tensor { return gpu.CPU().FromInt32(offsets, 9).To(dev) }
			register(Case{
				Name: c.name + "." + dt, Kernel: c.kernel, Shape: shape(c.rows, c.in, c.out) + " in 8", Peak: peak, Goal: c.goal, Bytes: moved, Flops: flops,
				Setup: func(dev *gpu.Device) (func(), error) {
					x, w, b, groups := normal(dev, d, c.rows, c.in), normal(dev, d, 8, c.out, c.in), normal(dev, d, 8, c.out), at(dev)
					y := dev.New(d, c.rows, c.out)
					return func() { ops.GroupedLinear(y, nil, x, w, b, groups, ops.SiLU) }, nil
				},
			})
			register(Case{
				Name: c.name + ".weights." + dt, Kernel: c.weights, Shape: shape(c.rows, c.in, c.out) + " in 8", Peak: peak, Goal: c.goal, Bytes: moved, Flops: flops,
				Setup: func(dev *gpu.Device) (func(), error) {
					x, dy, dw, groups := normal(dev, d, c.rows, c.in), normal(dev, d, c.rows, c.out), dev.New(d, 8, c.out, c.in), at(dev)
					return func() { ops.GroupedWeights(dw, dy, x, groups, false) }, nil
				},
			})
			if c.name == "grouped" {
				out := 2 * c.out // blocks enough without pieces
				register(Case{
					Name: c.name + ".sum." + dt, Kernel: "grouped_sum_" + dt, Shape: shape(c.rows, out) + " in 8", Peak: "memory", Goal: 0.5,
					Bytes: bytes * (rows + 8) * float64(out),
					Setup: func(dev *gpu.Device) (func(), error) {
						dy, db, groups := normal(dev, d, c.rows, out), dev.New(d, 8, out), at(dev)
						return func() { ops.GroupedSum(db, dy, groups, false) }, nil
					},
				})
			}
		}
	}

	// The same layer on tensor cores.
	for dt, d := range halves {
		for _, c := range []struct {
			name, kernel  string
			rows, in, out int
			goal          float64
		}{
			{"grouped16", "grouped16_", size(16384, 1100), size(1024, 24), size(1024, 2200), 0.4},
			{"grouped16.small", "grouped16_small_", size(1024, 70), size(256, 24), size(256, 72), 0},
		} {
			offsets := make([]int32, 9)
			for g, share := range []int{3, 1, 0, 2, 5, 1, 2, 2} { // sixteenths
				offsets[g+1] = offsets[g] + int32(c.rows*share/16)
			}
			rows := float64(offsets[8])
			register(Case{
				Name: c.name + "." + dt, Kernel: c.kernel + dt, Shape: shape(c.rows, c.in, c.out) + " in 8", Peak: dt, Goal: c.goal,
				Bytes: 2 * (rows*float64(c.in+c.out) + float64(8*c.in*c.out)), Flops: 2 * rows * float64(c.in) * float64(c.out),
				Setup: func(dev *gpu.Device) (func(), error) {
					x, w, b, y := normal(dev, d, c.rows, c.in), normal(dev, d, 8, c.out, c.in), normal(dev, gpu.Float32, 8, c.out), dev.New(d, c.rows, c.out)
					groups := gpu.CPU().FromInt32(offsets, 9).To(dev)
					return func() { ops.GroupedLinear(y, nil, x, w, b, groups, ops.SiLU) }, nil
				},
			})
		}
	}
}

package main

import (
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/ops"
)

// images is the batch on which the sampler's kernels are timed: 64 latents of 4x128x128.
func images() (rows, values int) { return size(64, 3), size(4*128*128, 900) }

func init() {
	rows, values := images()
	n := float64(rows) * float64(values)
	for dt, d := range dtypes {
		bytes := float64(d.Size())
		goal := 0.0
		if dt == "f32" {
			goal = 0.6 // as the contract has it; the others do more arithmetic a byte
		}
		register(Case{
			Name: "noise.normals." + dt, Kernel: "noise_" + dt, Shape: shape(rows, values), Peak: "memory",
			Bytes: bytes * n,
			Torch: spec("randn", "n", rows*values, "dtype", dt),
			Setup: func(dev *gpu.Device) (func(), error) {
				out := dev.New(d, rows, values)
				return func() { ops.Normals(out, ops.Noise{Seed: 7}) }, nil
			},
		})
		register(Case{
			Name: "noise.add." + dt, Kernel: "noise_" + dt, Shape: shape(rows, values), Peak: "memory", Goal: goal,
			Bytes: 2 * bytes * n,
			Setup: func(dev *gpu.Device) (func(), error) {
				out, x := dev.New(d, rows, values), normal(dev, d, rows, values)
				coeffs := []float64{0.8, 0.6}
				return func() { ops.AddNoise(out, x, coeffs, ops.Noise{Seed: 7}) }, nil
			},
		})
		register(Case{
			Name: "clamp." + dt, Kernel: "clamp_" + dt, Shape: shape(rows, values), Peak: "memory", Goal: 0.8,
			Bytes: 2 * bytes * n, Flops: 2 * n,
			Setup: func(dev *gpu.Device) (func(), error) {
				out, x := dev.New(d, rows, values), normal(dev, d, rows, values)
				return func() { ops.Clamp(out, x, -1, 1) }, nil
			},
		})
		register(Case{
			Name: "finite." + dt, Kernel: "finite_" + dt, Shape: shape(rows, values), Peak: "memory", // it waits for the answer: no goal
			Bytes: bytes * n,
			Setup: func(dev *gpu.Device) (func(), error) {
				x := normal(dev, d, rows, values)
				return func() {
					if at, ok := ops.Finite(x); !ok {
						panic(at)
					}
				}, nil
			},
		})
	}
}

package main

import (
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/ops"
)

// What is done along an axis, in its order: [batch, tokens, width] along the tokens.
func init() {
	batch, tokens, width := size(256, 3), size(256, 5), size(512, 6)
	for _, dt := range widths {
		d := dtypes[dt]
		n := float64(batch) * float64(tokens) * float64(width)
		register(Case{
			Name: "cumsum." + dt, Kernel: "cumsum_" + dt, Shape: shape(batch, tokens, width), Peak: "memory", Goal: goalOf(dt, 0.4),
			Bytes: 2 * float64(d.Size()) * n, Flops: n,
			Setup: func(dev *gpu.Device) (func(), error) {
				out, x := dev.New(d, batch, tokens, width), normal(dev, d, batch, tokens, width)
				return func() { ops.CumSum(out, x, 1, false, false) }, nil
			},
		})
		register(Case{
			Name: "flip." + dt, Kernel: "flip_" + dt, Shape: shape(batch, tokens, width), Peak: "memory", Goal: goalOf(dt, 0.5),
			Bytes: 2 * float64(d.Size()) * n,
			Setup: func(dev *gpu.Device) (func(), error) {
				out, x := dev.New(d, batch, tokens, width), normal(dev, d, batch, tokens, width)
				return func() { ops.Flip(out, x, 1, false) }, nil
			},
		})
	}
}

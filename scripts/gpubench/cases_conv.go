package main

import (
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/ops"
)

// Convolutions of denoising networks, with both orders of axes, and their gradients; and pictures that
// are enlarged.
func init() {
	for dt, d := range reals {
		bytes := float64(d.Size())
		goals := map[string][2]float64{"f32": {0.35, 0.25}, "f64": {0.25, 0.2}}[dt]
		batch, side, in, out := size(64, 2), size(32, 6), size(128, 8), size(128, 8)
		for _, last := range []bool{true, false} {
			order := map[bool]string{true: "last.", false: "second."}[last]
			picture := func(dev *gpu.Device, channels, side int) *gpu.Tensor {
				if last {
					return normal(dev, d, batch, side, side, channels)
				}
				return normal(dev, d, batch, channels, side, side)
			}
			cfg := ops.Same(3)
			cfg.Last = last
			pixels := float64(batch * side * side)
			moved, flops := bytes*(pixels*float64(in+out)+float64(9*in*out)), 18*pixels*float64(in)*float64(out)
			register(Case{
				Name: "conv." + order + dt, Kernel: "conv_" + dt, Shape: shape(batch, side, in, out), Peak: dt, Goal: goals[0], Bytes: moved, Flops: flops,
				Setup: func(dev *gpu.Device) (func(), error) {
					x, y, w, b := picture(dev, in, side), picture(dev, out, side), normal(dev, d, out, in, 3, 3), normal(dev, d, out)
					return func() { ops.Conv2D(y, x, w, b, cfg) }, nil
				},
			})
			register(Case{
				Name: "conv.data." + order + dt, Kernel: "conv_data_" + dt, Shape: shape(batch, side, in, out), Peak: dt, Goal: goals[0], Bytes: moved, Flops: flops,
				Setup: func(dev *gpu.Device) (func(), error) {
					x, y, w := picture(dev, in, side), picture(dev, out, side), normal(dev, d, out, in, 3, 3)
					return func() { ops.Conv2DBackwardData(x, y, w, cfg, false) }, nil
				},
			})
			register(Case{
				Name: "conv.weight." + order + dt, Kernel: "conv_weight_" + dt, Shape: shape(batch, side, in, out), Peak: dt, Goal: goals[1], Bytes: moved, Flops: flops,
				Setup: func(dev *gpu.Device) (func(), error) {
					x, y, w := picture(dev, in, side), picture(dev, out, side), normal(dev, d, out, in, 3, 3)
					return func() { ops.Conv2DBackwardWeight(w, y, x, cfg) }, nil
				},
			})
			large := 2 * side
			n := pixels * float64(in)
			register(Case{
				Name: "upsample." + order + dt, Kernel: "upsample_" + dt, Shape: shape(batch, large, in), Peak: "memory", Goal: 0.5, Bytes: 5 * bytes * n,
				Setup: func(dev *gpu.Device) (func(), error) {
					x, y := picture(dev, in, side), picture(dev, in, large)
					return func() { ops.Upsample(y, x, 2, last) }, nil
				},
			})
			register(Case{
				Name: "upsample.back." + order + dt, Kernel: "upsample_back_" + dt, Shape: shape(batch, large, in), Peak: "memory", Goal: 0.5, Bytes: 5 * bytes * n,
				Setup: func(dev *gpu.Device) (func(), error) {
					x, y := picture(dev, in, side), picture(dev, in, large)
					return func() { ops.UpsampleBackward(x, y, 2, last, false) }, nil
				},
			})
		}
	}
}

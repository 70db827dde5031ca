package main

import (
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/ops"
)

// Norms as transformers and convolutional networks have them, each with a modulation of every sample.
func init() {
	for dt, d := range reals {
		bytes := float64(d.Size())
		batch, tokens, width := size(64, 2), size(256, 40), size(1024, 36)
		rows := batch * tokens
		n := float64(rows) * float64(width)
		layer := func(dev *gpu.Device) (x, y, mean, inv *gpu.Tensor, cfg ops.NormConfig) {
			cfg = ops.NormConfig{
				Eps: 1e-6, Weight: normal(dev, d, width), Bias: normal(dev, d, width),
				Scale: normal(dev, d, batch, width), Shift: normal(dev, d, batch, width),
			}
			return normal(dev, d, rows, width), dev.New(d, rows, width), dev.New(d, rows), dev.New(d, rows), cfg
		}
		register(Case{
			Name: "norm." + dt, Kernel: "norm_" + dt, Shape: shape(batch, tokens, width), Peak: "memory", Goal: 0.7,
			Bytes: 2 * bytes * n,
			Setup: func(dev *gpu.Device) (func(), error) {
				x, y, mean, inv, cfg := layer(dev)
				return func() { ops.Norm(y, mean, inv, x, cfg) }, nil
			},
		})
		register(Case{
			Name: "norm.back." + dt, Kernel: "norm_back_" + dt, Shape: shape(batch, tokens, width), Peak: "memory", Goal: 0.55,
			Bytes: 5 * bytes * n, // x and dy for both, and dx
			Parts: []Part{
				{"norm_sums_" + dt, 2 * bytes * n, 0, "memory"},
				{"norm_grads_" + dt, bytes * n / 16, 0, "memory"},
				{"norm_back_" + dt, 3 * bytes * n, 0, "memory"},
			},
			Setup: func(dev *gpu.Device) (func(), error) {
				x, dy, mean, inv, cfg := layer(dev)
				ops.Norm(dy, mean, inv, x, cfg)
				dx := x.Like()
				g := ops.NormGrads{Weight: cfg.Weight.Like(), Bias: cfg.Bias.Like(), Scale: cfg.Scale.Like(), Shift: cfg.Shift.Like()}
				return func() { ops.NormBackward(dx, false, g, dy, x, mean, inv, cfg) }, nil
			},
		})
		images, channels, groups, area := size(64, 3), size(256, 6), size(32, 3), size(32*32, 36)
		m := float64(images*channels) * float64(area)
		unet := func(dev *gpu.Device) (x, y, mean, inv *gpu.Tensor, cfg ops.GroupNormConfig) {
			cfg = ops.GroupNormConfig{Groups: groups, Eps: 1e-6, Weight: normal(dev, d, channels), Bias: normal(dev, d, channels)}
			return normal(dev, d, images, channels, area), dev.New(d, images, channels, area), dev.New(d, images*groups), dev.New(d, images*groups), cfg
		}
		register(Case{
			Name: "groupnorm." + dt, Kernel: "group_norm_" + dt, Shape: shape(images, channels, area), Peak: "memory", Goal: 0.5,
			Bytes: 2 * bytes * m,
			Setup: func(dev *gpu.Device) (func(), error) {
				x, y, mean, inv, cfg := unet(dev)
				return func() { ops.GroupNorm(y, mean, inv, x, cfg) }, nil
			},
		})
		register(Case{
			Name: "groupnorm.back." + dt, Kernel: "group_norm_back_" + dt, Shape: shape(images, channels, area), Peak: "memory", Goal: 0.45,
			Bytes: 3 * bytes * m,
			Setup: func(dev *gpu.Device) (func(), error) {
				x, dy, mean, inv, cfg := unet(dev)
				ops.GroupNorm(dy, mean, inv, x, cfg)
				dx, g := x.Like(), ops.NormGrads{Weight: cfg.Weight.Like(), Bias: cfg.Bias.Like()}
				return func() { ops.GroupNormBackward(dx, false, g, dy, x, mean, inv, cfg) }, nil
			},
		})
		last := func(dev *gpu.Device) (x, y, mean, inv *gpu.Tensor, cfg ops.GroupNormConfig) {
			x, y, mean, inv, cfg = unet(dev)
			return x.View(images, area, channels), y.View(images, area, channels), mean, inv, cfg
		}
		register(Case{
			Name: "groupnorm.last." + dt, Kernel: "group_norm_last_" + dt, Shape: shape(images, area, channels), Peak: "memory", Goal: 0.35,
			Bytes: 2 * bytes * m,
			Setup: func(dev *gpu.Device) (func(), error) {
				x, y, mean, inv, cfg := last(dev)
				return func() { ops.GroupNormLast(y, mean, inv, x, true, cfg) }, nil
			},
		})
		register(Case{
			Name: "groupnorm.last.back." + dt, Kernel: "group_norm_last_back_" + dt, Shape: shape(images, area, channels), Peak: "memory", Goal: 0.3,
			Bytes: 3 * bytes * m,
			Setup: func(dev *gpu.Device) (func(), error) {
				x, dy, mean, inv, cfg := last(dev)
				ops.GroupNormLast(dy, mean, inv, x, true, cfg)
				dx, g := x.Like(), ops.NormGrads{Weight: cfg.Weight.Like(), Bias: cfg.Bias.Like()}
				return func() { ops.GroupNormLastBackward(dx, false, g, dy, x, mean, inv, true, cfg) }, nil
			},
		})
	}
}

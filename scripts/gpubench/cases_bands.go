package main

import (
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/ops"
)

// Layers of networks that are only run, at sizes of Inception-v3's; bands lie in maps that have other channels too; their 192 channels
// fill large tiles of 128 by three quarters.
func init() {
	batch := size(32, 2)
	for _, c := range []struct {
		name                           string
		side, in, out, kh, kw, step, p int
	}{
		{"1x1", 17, 768, 192, 1, 1, 1, 0},
		{"1x7", 17, 192, 192, 1, 7, 1, 3},
		{"3x3", 35, 288, 384, 3, 3, 2, 0},
	} {
		side, in, out, kernel := c.side, c.in, c.out, "conv_band_large_f32"
		switch {
		case tiny && c.name == "1x1": // the least that large tiles are taken for
			side, in, out = 92, 8, 128
		case tiny:
			side, in, out, kernel = 9, 24, 20, "conv_band_f32"
		}
		cfg := ops.BandConfig{StrideH: c.step, StrideW: c.step, Pad: [4]int{0, 0, c.p, c.p}, Out: size(64, 4)}
		oh, ow := (side-c.kh)/c.step+1, (side+2*c.p-c.kw)/c.step+1
		pixels, results := float64(batch*side*side), float64(batch*oh*ow)
		register(Case{
			Name: "conv.band." + c.name + ".f32", Kernel: kernel, Shape: shape(batch, side, in, out), Peak: "f32", Goal: 0.4,
			Bytes: 4 * (pixels*float64(in) + results*float64(out) + float64(c.kh*c.kw*in*out+out)),
			Flops: 2 * results * float64(c.kh*c.kw*in) * float64(out),
			Setup: func(dev *gpu.Device) (func(), error) {
				x, y := normal(dev, gpu.Float32, batch, side, side, in), dev.Zeros(gpu.Float32, batch, oh, ow, out+cfg.Out)
				w, b := normal(dev, gpu.Float32, out, c.kh, c.kw, in), normal(dev, gpu.Float32, out)
				return func() { ops.ConvBand(y, x, w, b, true, cfg) }, nil
			},
		})
	}
	few := size(64, 12) // channels, which large tiles would be half empty of
	spots, depth := size(73, 9), size(80, 24)
	register(Case{
		Name: "conv.band.few.f32", Kernel: "conv_band_f32", Shape: shape(batch, spots, depth, few), Peak: "f32", Goal: 0.35,
		Bytes: 4 * (float64(batch*spots*spots*(depth+few)) + float64(depth*few+few)), Flops: 2 * float64(batch*spots*spots) * float64(depth) * float64(few),
		Setup: func(dev *gpu.Device) (func(), error) {
			x, y := normal(dev, gpu.Float32, batch, spots, spots, depth), dev.Empty(batch, spots, spots, few)
			w, b := normal(dev, gpu.Float32, few, 1, 1, depth), normal(dev, gpu.Float32, few)
			return func() { ops.ConvBand(y, x, w, b, true, ops.BandConfig{}) }, nil
		},
	})
	for dt, d := range map[string]gpu.DType{"f32": gpu.Float32, "bf16": gpu.BFloat16} {
		bytes := float64(d.Size())
		side, c := size(35, 9), size(288, 24)
		n := float64(batch * side * side * c)
		for name, average := range map[string]bool{"max": false, "mean": true} {
			cfg := ops.BandConfig{Pad: [4]int{1, 1, 1, 1}, Out: 8}
			register(Case{
				Name: "pool.band." + name + "." + dt, Kernel: "pool_band_" + dt, Shape: shape(batch, side, c, 3), Peak: "memory", Goal: 0.5, Bytes: 2 * bytes * n,
				Setup: func(dev *gpu.Device) (func(), error) {
					x, y := normal(dev, d, batch, side, side, c), dev.Zeros(d, batch, side, side, c+8)
					return func() { ops.PoolBand(y, x, c, 3, 3, average, cfg) }, nil
				},
			})
		}
		last, width := size(8, 3), size(2048, 40)
		register(Case{
			Name: "mean.band." + dt, Kernel: "mean_band_" + dt, Shape: shape(batch, last, width), Peak: "memory",
			Bytes: bytes*float64(batch*last*last*width) + 4*float64(batch*width),
			Setup: func(dev *gpu.Device) (func(), error) {
				x, y := normal(dev, d, batch, last, last, width), dev.Empty(batch, width)
				return func() { ops.MeanBand(y, x, 0) }, nil
			},
		})
		whole := size(299, 11)
		plane := float64(batch * whole * whole)
		register(Case{
			Name: "planes.band." + dt, Kernel: "planes_band_" + dt, Shape: shape(batch, 3, whole), Peak: "memory", Goal: 0.4, Bytes: plane * (12 + 8*bytes),
			Setup: func(dev *gpu.Device) (func(), error) {
				x, y := normal(dev, gpu.Float32, batch, 3, whole, whole), dev.New(d, batch, whole, whole, 8)
				return func() { ops.BandOfPlanes(y, x) }, nil
			},
		})
		middle, from := size(17, 5), size(768, 30)
		some := float64(batch * middle * middle * size(192, 12))
		register(Case{
			Name: "band.planes." + dt, Kernel: "band_planes_" + dt, Shape: shape(batch, middle, size(192, 12), from), Peak: "memory", Goal: 0.15, Bytes: some * (4 + bytes),
			Setup: func(dev *gpu.Device) (func(), error) {
				x, y := normal(dev, d, batch, middle, middle, from), dev.Empty(batch, size(192, 12), middle, middle)
				return func() { ops.PlanesOfBand(y, x, 8) }, nil
			},
		})
	}
	side, c := size(35, 5), size(288, 24)
	n := float64(batch * side * side * c)
	register(Case{
		Name: "band.terms", Kernel: "band_terms", Shape: shape(batch, side, c), Peak: "memory", Goal: 0.6, Bytes: 10 * n,
		Setup: func(dev *gpu.Device) (func(), error) {
			x, y := normal(dev, gpu.Float32, batch, side, side, c), dev.New(gpu.BFloat16, batch, side, side, 3*c)
			return func() { ops.SplitBand(y, x, 0) }, nil
		},
	})
}

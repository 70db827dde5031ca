package main

import (
	"math"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/imageio"
	"github.com/fidlab/fidlab/ops"
)

func init() {
	rows, values := images()
	n := float64(rows) * float64(values)
	for _, dt := range []string{"f32", "bf16"} {
		bytes := float64(dtypes[dt].Size())
		register(Case{
			Name: "guide.rescaled." + dt, Kernel: "guide_moments_" + dt, Shape: shape(rows, values), Peak: "memory", Goal: 0.6,
			Bytes: 5 * bytes * n, Flops: 12 * n, // both operands twice, the result once
			Setup: func(dev *gpu.Device) (func(), error) {
				out := dev.New(dtypes[dt], rows, values)
				c, u := normal(dev, dtypes[dt], rows, values), normal(dev, dtypes[dt], rows, values)
				w := []float64{7.5}
				return func() { ops.Guide(out, c, u, w, 0.7) }, nil
			},
		})
	}

	for _, values := range []int{size(3*32*32, 300), size(3*512*512, 5000)} {
		n := float64(rows) * float64(values)
		register(Case{
			Name: "threshold." + shape(values), Kernel: "threshold_count_f32", Shape: shape(rows, values), Peak: "memory",
			Bytes: 20 * n, Flops: n, // three readings, then one more and the result
			Torch: spec("quantile", "b", rows, "n", values, "dtype", "f32"),
			Setup: func(dev *gpu.Device) (func(), error) {
				out, x := dev.Empty(rows, values), normal(dev, gpu.Float32, rows, values)
				return func() { ops.DynamicThreshold(out, x, 0.995, 1, math.Inf(1)) }, nil
			},
		})
	}

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

	for _, r := range []struct {
		name, kernel, torch string
		kind                imageio.ResizeKind
	}{
		{"clean", "resize_f32", "bicubic", imageio.PILFloat(imageio.Bicubic)},
		{"bytes", "resize_fixed_f32", "", imageio.PILU8(imageio.Bicubic)},
	} {
		batch, in, out := size(64, 2), size(256, 20), size(299, 35)
		pixels := float64(batch) * 3 * float64(out*out)
		c := Case{
			Name: "resize." + r.name, Kernel: r.kernel, Shape: shape(batch, in, in) + " to " + shape(out, out), Peak: "memory",
			Bytes: 4*pixels + float64(batch)*3*float64(in*in), Flops: 16 * pixels,
			Setup: func(dev *gpu.Device) (func(), error) {
				pix := make([]uint8, batch*3*in*in)
				for i := range pix {
					pix[i] = uint8(i * 7 >> 2)
				}
				x, y := dev.FromUint8(pix, batch, in, in, 3), dev.Empty(batch, 3, out, out)
				z := ops.NewResizer(dev, r.kind, in, in, out, out)
				return func() { z.Float(y, x, 1./127.5, -1) }, nil
			},
		}
		if r.torch != "" {
			c.Torch = spec("resize", "b", batch, "c", 3, "h", in, "w", in, "to", out, "mode", r.torch)
		}
		register(c)
	}
}

package main

import (
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/ops"
)

// Products on tensor cores: square ones, the two layers of a transformer's block, gradients of weights, which are long sums, and float32
// operands that are rounded first.
func init() {
	for dt, d := range halves {
		for _, s := range []struct {
			name   string
			side   int
			kernel string
			goal   float64
		}{{"4096", size(4096, 1500), "matmul16_large_", 0.5}, {"1024", size(1024, 70), "matmul16_small_", 0.25}} {
			side, k := s.side, size(s.side, 24)
			register(Case{
				Name: "matmul16." + s.name + "." + dt, Kernel: s.kernel + dt, Shape: shape(side, side, k), Peak: dt, Goal: s.goal,
				Bytes: 2 * float64(2*side*k+side*side), Flops: 2 * float64(side) * float64(side) * float64(k),
				Torch: spec("matmul", "b", 1, "m", side, "n", side, "k", k, "dtype", dt),
				Setup: func(dev *gpu.Device) (func(), error) {
					a, b, c := normal(dev, d, side, k), normal(dev, d, k, side), dev.New(d, side, side)
					return func() { ops.MatMul(c, a, b, ops.MatMulConfig{}) }, nil
				},
			})
		}
		rows, in, out := size(16384, 1500), size(384, 24), size(1536, 1500)
		layer := 2 * float64(rows) * float64(in) * float64(out)
		register(Case{
			Name: "linear16.up." + dt, Kernel: "matmul16_large_" + dt, Shape: shape(rows, in, out), Peak: dt, Goal: 0.35,
			Bytes: 2*float64(rows*in+in*out+rows*out) + 4*float64(out), Flops: layer,
			Setup: func(dev *gpu.Device) (func(), error) {
				x, w, b, y := normal(dev, d, rows, in), normal(dev, d, out, in), normal(dev, gpu.Float32, out), dev.New(d, rows, out)
				return func() { ops.Linear(y, nil, x, w, b, ops.GELUTanh) }, nil
			},
		})
		hidden, back, m := size(1536, 24), size(384, 1400), size(16384, 1400)
		register(Case{
			Name: "linear16.down." + dt, Kernel: "matmul16_" + dt, Shape: shape(m, hidden, back), Peak: dt, Goal: 0.4,
			Bytes: 2*float64(m*hidden+hidden*back) + 8*float64(m*back), Flops: 2 * float64(m) * float64(hidden) * float64(back),
			Setup: func(dev *gpu.Device) (func(), error) {
				x, w, b, y := normal(dev, d, m, hidden), normal(dev, d, back, hidden), normal(dev, gpu.Float32, back), normal(dev, gpu.Float32, m, back)
				return func() { ops.LinearResidual(y, nil, x, w, b, y, ops.Identity) }, nil
			},
		})
		long, n := size(16384, 600), size(384, 32)
		flops, pieces := 2*float64(n)*float64(n)*float64(long), float64(size(22, 2))
		kernel := map[bool]string{false: "matmul16_large_", true: "matmul16_small_"}[tiny] + dt
		register(Case{
			Name: "matmul16.long." + dt, Kernel: kernel, Shape: shape(n, n, long), Peak: dt, Goal: 0.15,
			Bytes: 2 * float64(2*long*n+n*n), Flops: flops,
			Parts: []Part{
				{kernel, float64(4*long*n) + pieces*float64(4*n*n), flops, dt},
				{"matmul16_sum_" + dt, (4*pieces + 2) * float64(n*n), 0, "memory"},
			},
			Setup: func(dev *gpu.Device) (func(), error) {
				a, b, c := normal(dev, d, long, n), normal(dev, d, long, n), dev.New(d, n, n)
				return func() { ops.MatMul(c, a, b, ops.MatMulConfig{TransA: true}) }, nil
			},
		})
	}

	long, n := size(16384, 600), size(384, 32)
	flops, pieces := 2*float64(n)*float64(n)*float64(long), float64(size(22, 2))
	kernel := map[bool]string{false: "matmul16_large_bf16", true: "matmul16_small_bf16"}[tiny]
	register(Case{
		Name: "matmul16.rounded", Kernel: kernel, Shape: shape(n, n, long), Peak: "bf16", Goal: 0.1,
		Bytes: 8*float64(2*long*n) + 8*float64(n*n), Flops: flops,
		Parts: []Part{
			{kernel, float64(4*long*n) + pieces*float64(4*n*n), flops, "bf16"},
			{"matmul16_sum_f32", (4*pieces + 8) * float64(n*n), 0, "memory"},
			{"narrow16_bf16", 6 * float64(long*n), 0, "memory"},
		},
		Setup: func(dev *gpu.Device) (func(), error) {
			a, b, c := normal(dev, gpu.Float32, long, n), normal(dev, gpu.Float32, long, n), dev.Empty(n, n)
			return func() { ops.MatMul(c, a, b, ops.MatMulConfig{TransA: true, Acc: true, BF16: true}) }, nil
		},
	})
}

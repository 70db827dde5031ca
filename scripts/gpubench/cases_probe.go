package main

import (
	"github.com/fidlab/fidlab/cuda"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/kernels"
)

// probes measure what this device gives for each kind of bound; the other cases are held to them too.
var probes = map[string]string{"memory": "probe.triad", "f32": "probe.fma", "f16": "probe.mma.f16", "bf16": "probe.mma.bf16"}

func init() {
	n := size(1<<26, 5000)
	register(Case{
		Name: "probe.triad", Kernel: "probe_triad_f32", Shape: shape(n), Peak: "memory", Goal: 0.9,
		Bytes: 12 * float64(n), Flops: 2 * float64(n),
		Torch: spec("lincomb", "n", n, "terms", 2, "dtype", "f32"),
		Setup: func(dev *gpu.Device) (func(), error) {
			y, a, b := dev.Empty(n), dev.Zeros(gpu.Float32, n), dev.Zeros(gpu.Float32, n)
			return func() {
				kernels.ProbeTriadF32(dev.Stream(), cuda.Grid1(n, 4096, 256), y.Ptr(), a.Ptr(), b.Ptr(), 0.5, int64(n))
			}, nil
		},
	})

	blocks, rounds := size(4096, 2), size(4096, 16)
	threads := float64(blocks) * 256
	register(Case{
		Name: "probe.fma", Kernel: "probe_fma_f32", Shape: shape(blocks, 256), Peak: "f32",
		Bytes: 4 * threads, Flops: 16 * float64(rounds) * threads,
		Setup: func(dev *gpu.Device) (func(), error) {
			y := dev.Empty(blocks * 256)
			return func() {
				kernels.ProbeFmaF32(dev.Stream(), cuda.Grid{X: blocks, Y: 1, Z: 1, BX: 256}, y.Ptr(), 0.875, 0.5, 3, int32(rounds))
			}, nil
		},
	})

	for _, p := range []struct {
		dtype  string
		one    uint32 // two ones, packed
		launch func(*cuda.Stream, cuda.Grid, cuda.Ptr, uint32, int32)
	}{{"f16", 0x3c003c00, kernels.ProbeMmaF16}, {"bf16", 0x3f803f80, kernels.ProbeMmaBf16}} {
		register(Case{
			Name: "probe.mma." + p.dtype, Kernel: "probe_mma_" + p.dtype, Shape: shape(blocks, 128), Peak: p.dtype,
			Bytes: 4 * float64(blocks) * 128, Flops: 32768 * float64(rounds) * float64(blocks) * 4,
			Torch: spec("matmul", "b", 1, "m", size(8192, 64), "n", size(8192, 64), "k", size(8192, 64), "dtype", p.dtype),
			Setup: func(dev *gpu.Device) (func(), error) {
				y := dev.Empty(blocks * 128)
				return func() {
					p.launch(dev.Stream(), cuda.Grid{X: blocks, Y: 1, Z: 1, BX: 128}, y.Ptr(), p.one, int32(rounds))
				}, nil
			},
		})
	}
}

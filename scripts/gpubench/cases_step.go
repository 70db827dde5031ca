package main

import (
	"fmt"
	"math"

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
			Name: "blend." + dt, Kernel: "blend_" + dt, Shape: shape(rows, values), Peak: "memory", Goal: 0.8,
			Bytes: 4 * bytes * n, Flops: 3 * n,
			Setup: func(dev *gpu.Device) (func(), error) {
				out, m := dev.New(d, rows, values), normal(dev, d, rows, values)
				a, b := normal(dev, d, rows, values), normal(dev, d, rows, values)
				return func() { ops.Blend(out, m, a, b) }, nil
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

func init() {
	rows, values := images()
	n := float64(rows) * float64(values)
	for dt, d := range dtypes {
		register(Case{
			Name: "guide.rescale." + dt, Kernel: "guide_moments_" + dt, Shape: shape(rows, values), Peak: "memory", Goal: 0.6,
			Bytes: 5 * float64(d.Size()) * n, Flops: 16 * n, // both predictions are read twice
			Parts: []Part{
				{"guide_moments_" + dt, 2 * float64(d.Size()) * n, 8 * n, "memory"},
				{"guide_scale", 32 * n * float64(d.Size()) / (16 * 2048), 0, "memory"},
				{"lincomb_rows_" + dt, 3 * float64(d.Size()) * n, 3 * n, "memory"},
			},
			Setup: func(dev *gpu.Device) (func(), error) {
				out, c, u := dev.New(d, rows, values), normal(dev, d, rows, values), normal(dev, d, rows, values)
				w := []float64{7.5}
				return func() { ops.Guide(out, c, u, w, 0.7) }, nil
			},
		})
	}
	for dt, d := range dtypes {
		register(Case{
			Name: "variance." + dt, Kernel: "row_variance_" + dt, Shape: shape(rows, values), Peak: "memory", Goal: 0.7,
			Bytes: float64(d.Size()) * n, Flops: 4 * n,
			Torch: spec("var", "b", rows, "n", values, "dtype", dt),
			Setup: func(dev *gpu.Device) (func(), error) {
				x, v := normal(dev, d, rows, values), make([]float64, rows)
				return func() { ops.RowVariance(v, x) }, nil
			},
		})
	}
	for dt, d := range map[string]gpu.DType{"f32": gpu.Float32, "f64": gpu.Float64} {
		for _, width := range []int{8, 64} {
			n, codes := size(65536, 100), size(8192, 130)
			products, bytes := float64(n)*float64(codes), float64(d.Size())
			register(Case{
				Name: fmt.Sprintf("nearest.%d.%s", width, dt), Kernel: "nearest_code_" + dt, Shape: shape(n, codes, width), Peak: dt, Goal: map[int]float64{8: 0.1, 64: 0.35}[width],
				Bytes: bytes*float64(width)*float64(n+codes) + 4*float64(n), Flops: 2 * products * float64(width),
				Torch: spec("nearest", "n", n, "k", codes, "d", width, "dtype", dt),
				Parts: []Part{
					{"nearest_sizes_" + dt, bytes * float64(width) * float64(codes), 0, "memory"},
					{"nearest_code_" + dt, bytes*float64(width)*float64(n+codes) + 4*float64(n), 2 * products * float64(width), dt},
				},
				Setup: func(dev *gpu.Device) (func(), error) {
					z, book, idx := normal(dev, d, n, width), normal(dev, d, codes, width), dev.New(gpu.Int32, n)
					return func() { ops.Nearest(idx, nil, z, book, ops.L2) }, nil
				},
			})
		}
	}
	for dt, d := range map[string]gpu.DType{"f32": gpu.Float32, "f64": gpu.Float64} {
		for name, k := range map[string]ops.PairKernel{"cubic": ops.CubicKernel(1./2048, 1), "normal": ops.NormalKernel(1. / 200)} {
			n, width := size(10000, 130), size(2048, 40)
			values, bytes := float64(n)*float64(width), float64(d.Size())
			// Whole sets of Inception's features, without their diagonal.
			parts := []Part{{"pair_sums_" + dt, 2*bytes*values + 8*float64(n), 2 * values * float64(n), dt}}
			if name == "normal" {
				parts = append(parts, Part{"nearest_sizes_" + dt, bytes * values, 0, "memory"})
			}
			register(Case{
				Name: "pairsums." + name + "." + dt, Kernel: "pair_sums_" + dt, Shape: shape(n, n, width), Peak: dt, Goal: map[string]float64{"f32": 0.35}[dt],
				Bytes: 2*bytes*values + 8*float64(n), Flops: 2 * values * float64(n), Parts: parts,
				Setup: func(dev *gpu.Device) (func(), error) {
					x, y, out := normal(dev, d, n, width), normal(dev, d, n, width), dev.New(gpu.Float64, n)
					return func() { ops.PairSums(out, x, y, k, true) }, nil
				},
			})
		}
	}
	for _, values := range []int{size(3*32*32, 300), size(3*512*512, 5000)} {
		n := float64(rows) * float64(values)
		register(Case{
			Name: "threshold." + shape(values), Kernel: "threshold_count_f32", Shape: shape(rows, values), Peak: "memory", Goal: 0.5,
			Bytes: 20 * n, // three readings for the quantile, then one more and the result
			Parts: []Part{{"threshold_count_f32", 4 * n, 0, "memory"}, {"threshold_apply_f32", 8 * n, 0, "memory"}},
			Torch: spec("quantile", "b", rows, "n", values, "dtype", "f32"),
			Setup: func(dev *gpu.Device) (func(), error) {
				out, x := dev.Empty(rows, values), normal(dev, gpu.Float32, rows, values)
				return func() { ops.DynamicThreshold(out, x, 0.995, 1, math.Inf(1)) }, nil
			},
		})
	}
	rank, dims := size(256, 5), size(3072, 100)
	for dt, peak := range map[string]string{"f32": "f32", "f64": "f64"} {
		register(Case{
			Name: "lowrank.flow." + dt, Kernel: "lowrank_project_" + dt, Shape: shape(rows, rank, dims), Peak: peak, Goal: 0.35,
			Bytes: float64(dtypes[dt].Size()) * float64(dims) * float64(2*rows+rank+1), Flops: 4 * float64(rows) * float64(rank) * float64(dims),
			Parts: []Part{
				{"lowrank_project_" + dt, float64(dtypes[dt].Size()) * float64(dims) * float64(rows+rank+1), 2 * float64(rows) * float64(rank) * float64(dims), peak},
				{"lowrank_weigh_" + dt, 2 * float64(dtypes[dt].Size()) * float64(rows) * float64(rank), 0, "memory"},
				{"lowrank_expand_" + dt, float64(dtypes[dt].Size()) * float64(dims) * float64(2*rows+rank+1), 2 * float64(rows) * float64(rank) * float64(dims), peak},
			},
			Setup: func(dev *gpu.Device) (func(), error) {
				// Unit rows that share no place are orthonormal.
				v := make([]float32, rank*dims)
				for k := range rank {
					v[k*dims+k] = 1
				}
				lambda := make([]float64, rank)
				for k := range lambda {
					lambda[k] = 1 / float64(k+1)
				}
				g, err := ops.NewGaussian(normal(dev, dtypes[dt], dims), dev.FromAs(dtypes[dt], v, rank, dims), lambda, 0.01)
				if err != nil {
					return nil, err
				}
				out, x := dev.New(dtypes[dt], rows, dims), normal(dev, dtypes[dt], rows, dims)
				return func() { g.Flow(out, x, 0.1, 0.99, 0.9, 0.4) }, nil
			},
		})
	}
}

package main

import (
	"fmt"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/ops"
)

// What metrics ask of all pairs of two sets' vectors: as many as a usual set of Inception's features has, and a small set, which pieces must
// fill a GPU with.
func init() {
	for dt, d := range map[string]gpu.DType{"f32": gpu.Float32, "f64": gpu.Float64} {
		for _, rows := range []int{1000, 10000} {
			n, width, k := size(rows, rows/80), size(2048, 40), 5
			values, bytes := float64(n)*float64(width), float64(d.Size())
			products := 2 * values * float64(n)
			register(Case{
				Name: fmt.Sprintf("nearestk.%d.%s", rows, dt), Kernel: "nearestk_find_" + dt, Shape: shape(n, n, width), Peak: dt,
				Goal:  map[string]float64{"nearestk.10000.f32": 0.35}[fmt.Sprintf("nearestk.%d.%s", rows, dt)],
				Bytes: 2*bytes*values + 12*float64(n*k), Flops: products,
				Parts: []Part{
					{"nearestk_centre_" + dt, bytes * float64(width) * 64, 0, "memory"},
					{"nearestk_sizes_" + dt, 2 * bytes * values, 0, "memory"},
					{"nearestk_find_" + dt, 2 * bytes * values, products, dt},
					// A vector has some more than k rows in question; this counts the k.
					{"nearestk_measure_" + dt, bytes * values * float64(1+k), 3 * values * float64(k), "f64"},
				},
				Setup: func(dev *gpu.Device) (func(), error) {
					x, dist, idx := normal(dev, d, n, width), dev.Empty64(n, k), dev.New(gpu.Int32, n, k)
					return func() { ops.NearestK(dist, idx, x, x, k, true) }, nil
				},
			})
		}
		for _, rules := range []int{1, 2} {
			n, width := size(10000, 130), size(2048, 40)
			values, bytes := float64(n)*float64(width), float64(d.Size())
			products := 2 * values * float64(n)
			register(Case{
				Name: fmt.Sprintf("balls.%d.%s", rules, dt), Kernel: "ball_counts_" + dt, Shape: shape(n, n, width), Peak: dt, Goal: map[string]float64{"f32": 0.35}[dt],
				Bytes: 2*bytes*values + 16*float64(rules*n), Flops: products,
				Parts: []Part{
					{"nearestk_centre_" + dt, bytes * float64(width) * 64, 0, "memory"},
					{"nearestk_sizes_" + dt, 2 * bytes * values, 0, "memory"},
					{"ball_counts_" + dt, 2*bytes*values + 16*float64(rules*n), products, dt},
				},
				Setup: func(dev *gpu.Device) (func(), error) {
					x, y := normal(dev, d, n, width), normal(dev, d, n, width)
					// Balls as precision and density have them: about five vectors are in each.
					dist, idx := dev.Empty64(n, 5), dev.New(gpu.Int32, n, 5)
					ops.NearestK(dist, idx, x, x, 5, true)
					far := make([]float64, 5*n)
					if err := dist.Read64(far); err != nil {
						return nil, err
					}
					reach := make([]float64, rules*n)
					for i := range reach {
						reach[i] = far[i%n*5+4]
					}
					radius, balls, held := dev.From64(reach, rules, n), dev.New(gpu.Int32, rules, n), dev.New(gpu.Int32, rules, n)
					return func() { ops.BallCounts(balls, held, x, y, radius, []bool{false, true}[:rules]) }, nil
				},
			})
		}
	}
}

// Along the directions of a sliced distance: as many projections as a usual set has, and few.
func init() {
	for _, length := range []int{1000, 50000} {
		rows, n := size(1000, 5), size(length, length/10)
		values := float64(rows) * float64(n)
		register(Case{
			Name: fmt.Sprintf("sliced.sort.%d", length), Kernel: "sliced_sort_f32", Shape: shape(rows, n), Peak: "memory", Goal: 0.4,
			Bytes: 36 * values, // once for the histograms, in and out in each of four passes
			Torch: spec("sort_rows", "b", rows, "n", n, "dtype", "f32"),
			Setup: func(dev *gpu.Device) (func(), error) {
				x := normal(dev, gpu.Float32, rows, n)
				return func() { ops.SortRows(x) }, nil
			},
		})
	}
	for dt, d := range map[string]gpu.DType{"f32": gpu.Float32, "f64": gpu.Float64} {
		rows, n := size(1000, 5), size(50000, 300)
		values := float64(rows) * float64(n)
		register(Case{
			Name: "sliced.gaps." + dt, Kernel: "sliced_gaps_" + dt, Shape: shape(rows, n), Peak: "memory", Goal: 0.6,
			Bytes: 2 * float64(d.Size()) * values, Flops: 3 * values,
			Setup: func(dev *gpu.Device) (func(), error) {
				a, b, out := normal(dev, d, rows, n), normal(dev, d, rows, n), dev.Empty64(rows)
				return func() { ops.RowDistances(out, a, b) }, nil
			},
		})
	}
}

package main

import (
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/ops"
)

// Tokens to heads and back, pictures to tokens, halves of channels, embeddings and places.
func init() {
	for dt, d := range reals {
		bytes := float64(d.Size())
		batch, tokens, heads, dim := size(64, 2), size(256, 10), size(16, 3), size(64, 8)
		width := heads * dim
		n := float64(batch*tokens) * float64(width)
		register(Case{
			Name: "permute.heads." + dt, Kernel: "permute_rows_" + dt, Shape: shape(batch, tokens, heads, dim), Peak: "memory", Goal: 0.6,
			Bytes: 2 * bytes * n,
			Setup: func(dev *gpu.Device) (func(), error) {
				x, y := normal(dev, d, batch, tokens, heads, dim), dev.New(d, batch, heads, tokens, dim)
				return func() { ops.Permute(y, x, false, 0, 2, 1, 3) }, nil
			},
		})
		register(Case{
			Name: "permute.pictures." + dt, Kernel: "permute_tile_" + dt, Shape: shape(batch, width, tokens), Peak: "memory", Goal: 0.6,
			Bytes: 2 * bytes * n,
			Setup: func(dev *gpu.Device) (func(), error) {
				x, y := normal(dev, d, batch, width, tokens), dev.New(d, batch, tokens, width)
				return func() { ops.Permute(y, x, false, 0, 2, 1) }, nil
			},
		})
		register(Case{
			Name: "slice." + dt, Kernel: "copy_runs_" + dt, Shape: shape(batch, tokens, width), Peak: "memory", Goal: 0.7,
			Bytes: 2 * bytes * n,
			Setup: func(dev *gpu.Device) (func(), error) {
				x, y := normal(dev, d, batch, 2*tokens, width), dev.New(d, batch, tokens, width)
				return func() { ops.Slice(y, x, 1, tokens, false) }, nil
			},
		})
		register(Case{
			Name: "turn." + dt, Kernel: "turn_" + dt, Shape: shape(batch, tokens, heads, dim), Peak: "memory", Goal: 0.5,
			Bytes: 2 * bytes * n,
			Setup: func(dev *gpu.Device) (func(), error) {
				x, y, a := normal(dev, d, batch, tokens, heads, dim), dev.New(d, batch, tokens, heads, dim), normal(dev, d, tokens, dim/2)
				return func() { ops.Turn(y, x, a, false, false, false) }, nil
			},
		})
		codes, rows := size(1024, 9), batch*tokens
		ids := func(dev *gpu.Device, below int) *gpu.Tensor {
			v := make([]int32, rows)
			for i := range v {
				v[i] = int32(i * 7919 % below)
			}
			return dev.FromInt32(v, rows)
		}
		register(Case{
			Name: "gather." + dt, Kernel: "gather_rows_" + dt, Shape: shape(codes, width, rows), Peak: "memory", Goal: 0.6,
			Bytes: bytes * (n + float64(codes*width)),
			Setup: func(dev *gpu.Device) (func(), error) {
				table, y, at := normal(dev, d, codes, width), dev.New(d, rows, width), ids(dev, codes)
				return func() { ops.Gather(y, table, at) }, nil
			},
		})
		register(Case{
			Name: "scatter." + dt, Kernel: "scatter_add_" + dt, Shape: shape(codes, width, rows), Peak: "memory", // it looks for the ids: no goal
			Bytes: bytes * (n + 2*float64(codes*width)),
			Setup: func(dev *gpu.Device) (func(), error) {
				table, y, at := normal(dev, d, codes, width), normal(dev, d, rows, width), ids(dev, codes)
				return func() { ops.ScatterAdd(table, y, at) }, nil
			},
		})
		register(Case{
			Name: "codesums." + dt, Kernel: "code_sums_" + dt, Shape: shape(codes, width, rows), Peak: "memory", // it looks for the ids: no goal
			Bytes: bytes*n + 16*float64(codes*(width+1)),
			Setup: func(dev *gpu.Device) (func(), error) {
				count, sum, z, at := dev.Zeros(gpu.Float64, codes), dev.Zeros(gpu.Float64, codes, width), normal(dev, d, rows, width), ids(dev, codes)
				return func() { ops.CodeSums(count, sum, z, at) }, nil
			},
		})
		register(Case{
			Name: "pick." + dt, Kernel: "pick_add_" + dt, Shape: shape(rows, width), Peak: "memory", // a sector a value: no goal
			Bytes: 3 * bytes * float64(rows),
			Setup: func(dev *gpu.Device) (func(), error) {
				x, g, at := normal(dev, d, rows, width), normal(dev, d, rows), ids(dev, width)
				return func() { ops.PickAdd(x, g, at) }, nil
			},
		})
	}
}

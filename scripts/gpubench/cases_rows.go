package main

import (
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/ops"
)

// reals are the dtypes of the operations that networks are trained with.
var reals = map[string]gpu.DType{"f32": gpu.Float32, "f64": gpu.Float64}

// Softmax and what is like it, on rows of a warp (attention maps, classes) and of a block (vocabularies).
func init() {
	for _, cols := range []int{size(256, 40), size(8192, 1100)} {
		rows := size(1<<24/256, 20)
		if cols > 1024 {
			rows = size(1<<24/8192, 3)
		}
		n := float64(rows) * float64(cols)
		for dt, d := range reals {
			bytes, goal := float64(d.Size()), 0.7
			if dt == "f64" {
				goal = 0 // the exponentials are the limit
			}
			name := func(op string) string { return op + "." + dt + "." + shape(cols) }
			operands := func(dev *gpu.Device) (x, y, row *gpu.Tensor) {
				return normal(dev, d, rows, cols), dev.New(d, rows, cols), normal(dev, d, rows)
			}
			register(Case{
				Name: name("softmax"), Kernel: "softmax_" + dt, Shape: shape(rows, cols), Peak: "memory", Goal: goal,
				Bytes: 2 * bytes * n,
				Setup: func(dev *gpu.Device) (func(), error) {
					x, y, _ := operands(dev)
					return func() { ops.Softmax(y, x) }, nil
				},
			})
			register(Case{
				Name: name("softmax.back"), Kernel: "softmax_back_" + dt, Shape: shape(rows, cols), Peak: "memory", Goal: 0.7,
				Bytes: 3 * bytes * n,
				Setup: func(dev *gpu.Device) (func(), error) {
					x, y, _ := operands(dev)
					dy := normal(dev, d, rows, cols)
					return func() { ops.SoftmaxBackward(y, x, dy, false) }, nil
				},
			})
			register(Case{
				Name: name("logsumexp"), Kernel: "logsumexp_" + dt, Shape: shape(rows, cols), Peak: "memory", Goal: goal,
				Bytes: bytes * n,
				Setup: func(dev *gpu.Device) (func(), error) {
					x, _, row := operands(dev)
					return func() { ops.LogSumExp(row, x) }, nil
				},
			})
			register(Case{
				Name: name("crossentropy.back"), Kernel: "logsumexp_back_" + dt, Shape: shape(rows, cols), Peak: "memory", Goal: goal,
				Bytes: 2 * bytes * n,
				Setup: func(dev *gpu.Device) (func(), error) {
					x, y, row := operands(dev)
					labels := dev.FromInt32(make([]int32, rows), rows)
					return func() { ops.CrossEntropyBackward(y, x, row, labels, row, 0.1, false) }, nil
				},
			})
			register(Case{
				Name: name("argmax"), Kernel: "argmax_" + dt, Shape: shape(rows, cols), Peak: "memory", Goal: 0.6,
				Bytes: bytes * n,
				Setup: func(dev *gpu.Device) (func(), error) {
					x, _, row := operands(dev)
					at := dev.New(gpu.Int32, rows)
					return func() { ops.ArgMax(at, row, x) }, nil
				},
			})
		}
	}
}

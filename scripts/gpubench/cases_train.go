package main

import (
	"fmt"
	"strings"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/ops"
)

// widths are the dtypes that networks are trained in. Goals are of float32: float64 is there for tests.
var widths = []string{"f32", "f64"}

func goalOf(dt string, goal float64) float64 {
	if dt == "f32" {
		return goal
	}
	return 0
}

func init() {
	n := size(1<<24, 5000)
	register(Case{
		Name: "roundbf16.f32", Kernel: "round_bf16_f32", Shape: shape(n), Peak: "memory", Goal: 0.8,
		Bytes: 8 * float64(n),
		Setup: func(dev *gpu.Device) (func(), error) {
			out, x := dev.New(gpu.Float32, n), normal(dev, gpu.Float32, n)
			return func() { ops.RoundBF16(out, x) }, nil
		},
	})
	for _, dt := range widths {
		d := dtypes[dt]
		bytes := float64(d.Size()) * float64(n)
		for name, f := range map[string]ops.Func{"silu": ops.SiLU, "gelu": ops.GELU, "sin": ops.Sin} {
			goal := 0.8
			if name == "sin" { // in float64
				goal = 0
			}
			register(Case{
				Name: "map." + name + "." + dt, Kernel: "map_" + dt, Shape: shape(n), Peak: "memory", Goal: goalOf(dt, goal),
				Bytes: 2 * bytes,
				Torch: spec("activation", "n", n, "f", name, "dtype", dt),
				Setup: func(dev *gpu.Device) (func(), error) {
					out, x := dev.New(d, n), normal(dev, d, n)
					return func() { ops.Map(out, x, f) }, nil
				},
			})
			register(Case{
				Name: "map.backward." + name + "." + dt, Kernel: "map_backward_" + dt, Shape: shape(n), Peak: "memory", Goal: goalOf(dt, goal),
				Bytes: 3 * bytes,
				Setup: func(dev *gpu.Device) (func(), error) {
					dx, x, dy := dev.New(d, n), normal(dev, d, n), normal(dev, d, n)
					return func() { ops.MapBackward(dx, x, dy, f, false) }, nil
				},
			})
		}
		register(Case{
			Name: "affine." + dt, Kernel: "affine_" + dt, Shape: shape(n), Peak: "memory", Goal: 0.8,
			Bytes: 3 * bytes, Flops: 3 * float64(n),
			Torch: spec("lincomb", "n", n, "terms", 2, "dtype", dt),
			Setup: func(dev *gpu.Device) (func(), error) {
				out, x, y := dev.New(d, n), normal(dev, d, n), normal(dev, d, n)
				return func() { ops.Affine(out, 0.9, x, 0.1, y, 0, false) }, nil
			},
		})
		register(Case{
			Name: "fill." + dt, Kernel: "fill_" + dt, Shape: shape(n), Peak: "memory", Goal: 0.8,
			Bytes: bytes,
			Setup: func(dev *gpu.Device) (func(), error) {
				out := dev.New(d, n)
				return func() { ops.Fill(out, 1) }, nil
			},
		})
		register(Case{
			Name: "dropout." + dt, Kernel: "dropout_" + dt, Shape: shape(n), Peak: "memory", Goal: goalOf(dt, 0.6),
			Bytes: 2 * bytes,
			Setup: func(dev *gpu.Device) (func(), error) {
				out, x := dev.New(d, n), normal(dev, d, n)
				return func() { ops.Dropout(out, x, ops.Mask{Seed: 1, P: 0.1}, false) }, nil
			},
		})
	}
}

// Operands as they come in networks: a bias of rows, of channels, a gate of samples; and sizes that no whole vectors fit.
func init() {
	rows, cols := size(1<<14, 50), size(1024, 24)
	for _, dt := range widths {
		d := dtypes[dt]
		for name, s := range map[string]struct{ a, b []int }{
			"alike": {[]int{rows, cols}, []int{rows, cols}}, "bias": {[]int{rows, cols}, []int{cols}}, "column": {[]int{rows, cols}, []int{rows, 1}},
			"channels": {[]int{rows / 16, 16, cols}, []int{16, 1}}, "odd": {[]int{rows, cols - 1}, []int{cols - 1}},
		} {
			n := product(s.a)
			register(Case{
				Name: "pair." + name + "." + dt, Kernel: "pair_" + dt, Shape: fmt.Sprint(shape(s.a...), " and ", shape(s.b...)), Peak: "memory", Goal: goalOf(dt, map[bool]float64{false: 0.8}[name == "odd"]),
				Bytes: float64(d.Size()) * float64(2*n+product(s.b)), Flops: float64(n),
				Setup: func(dev *gpu.Device) (func(), error) {
					out, a, b := dev.New(d, s.a...), normal(dev, d, s.a...), normal(dev, d, s.b...)
					return func() { ops.Mul(out, a, b, false) }, nil
				},
			})
		}
		n := rows * cols
		register(Case{
			Name: "whereequal." + dt, Kernel: "where_equal_" + dt, Shape: shape(rows, cols), Peak: "memory", Goal: goalOf(dt, 0.8),
			Bytes: 5 * float64(d.Size()) * float64(n),
			Setup: func(dev *gpu.Device) (func(), error) {
				out, g, a, b := dev.New(d, n), normal(dev, d, n), normal(dev, d, n), normal(dev, d, n)
				top := dev.New(d, n)
				ops.Maximum(top, a, b, false)
				return func() { ops.WhereEqual(out, g, b, top, a, true) }, nil
			},
		})
	}
}

// Sums to a bias, to a gate, to channels (the axis behind first, then the one in front), to one number,
// and the kinds of kernels that they are made of.
func init() {
	rows, cols := size(1<<14, 600), size(1024, 24)
	for _, dt := range widths {
		d := dtypes[dt]
		first := map[string]string{"f32": "sum_part_f32", "f64": "sum_f64"}[dt]
		for name, s := range map[string]struct {
			in, out []int
			kernels []string // of float32
		}{
			"bias": {[]int{rows, cols}, []int{cols}, []string{"sum_part_f32", "sum_last_f32"}}, "gate": {[]int{rows, size(1024, 100)}, []int{rows, 1}, []string{"sum_rows_f32"}},
			"middle": {[]int{rows / 16, 16, cols}, []int{rows / 16, 1, cols}, []string{"sum_f32"}}, "all": {[]int{rows * cols}, nil, []string{"sum_part_f32", "sum_rows_last_f32"}},
			"channels": {[]int{rows / 16, 16, size(1024, 100)}, []int{16, 1}, []string{"sum_rows_part_f32", "sum_last_f32"}},
		} {
			n := product(s.in)
			c := Case{
				Name: "sum." + name + "." + dt, Kernel: s.kernels[0], Shape: fmt.Sprint(shape(s.in...), " to ", shape(s.out...)), Peak: "memory", Goal: goalOf(dt, 0.7),
				Bytes: float64(d.Size()) * float64(n+product(s.out)), Flops: float64(n),
				Setup: func(dev *gpu.Device) (func(), error) {
					out, x := dev.New(d, s.out...), normal(dev, d, s.in...)
					return func() { ops.SumTo(out, x, nil, false) }, nil
				},
			}
			if dt == "f64" { // the parts are one kernel
				c.Kernel = map[bool]string{true: "sum_rows_f64", false: "sum_f64"}[strings.HasPrefix(c.Kernel, "sum_rows")]
			} else if len(s.kernels) > 1 {
				c.Parts = []Part{{s.kernels[0], c.Bytes, c.Flops, "memory"}, {s.kernels[1], 8 * float64(product(s.out)), 0, "memory"}}
			}
			register(c)
		}
		n, batch := rows*cols, size(16, 1)
		register(Case{
			Name: "squarederror." + dt, Kernel: first, Shape: shape(batch, n/batch), Peak: "memory", Goal: goalOf(dt, 0.7),
			Bytes: 2 * float64(d.Size()) * float64(n), Flops: 3 * float64(n),
			Setup: func(dev *gpu.Device) (func(), error) {
				loss, x, y := dev.New(d, batch), normal(dev, d, batch, n/batch), normal(dev, d, batch, n/batch)
				return func() { ops.SquaredError(loss, x, y) }, nil
			},
		})
		register(Case{
			Name: "squarederror.backward." + dt, Kernel: "error_backward_" + dt, Shape: shape(batch, n/batch), Peak: "memory", Goal: goalOf(dt, 0.8),
			Bytes: 3 * float64(d.Size()) * float64(n), Flops: 2 * float64(n),
			Setup: func(dev *gpu.Device) (func(), error) {
				dx, x, y, g := dev.New(d, batch, n/batch), normal(dev, d, batch, n/batch), normal(dev, d, batch, n/batch), normal(dev, d, batch)
				return func() { ops.SquaredErrorBackward(dx, x, y, g, 1, false) }, nil
			},
		})
		register(Case{
			Name: "sumsquares." + dt, Kernel: first, Shape: shape(n), Peak: "memory", // it waits for the answer: no goal
			Bytes: float64(d.Size()) * float64(n), Flops: 2 * float64(n),
			Setup: func(dev *gpu.Device) (func(), error) {
				x := normal(dev, d, n)
				return func() { ops.SumSquares(x) }, nil
			},
		})
	}
}

func product(s []int) int {
	n := 1
	for _, d := range s {
		n *= d
	}
	return n
}

// A step over a network of 16 million parameters.
func init() {
	n := size(1<<24, 5000)
	for _, dt := range widths {
		d := dtypes[dt]
		bytes := float64(d.Size()) * float64(n)
		register(Case{
			Name: "adam." + dt, Kernel: "adam_" + dt, Shape: shape(n), Peak: "memory", Goal: goalOf(dt, 0.8),
			Bytes: 7 * bytes, Flops: 16 * float64(n),
			Torch: spec("adamw", "n", n, "dtype", dt),
			Setup: func(dev *gpu.Device) (func(), error) {
				p, m, v, g := normal(dev, d, n), normal(dev, d, n), dev.Zeros(d, n), normal(dev, d, n)
				cfg := ops.AdamConfig{Scale: 1, Beta1: 0.9, Beta2: 0.999, Step: 1e-6, Root: 1, Eps: 1e-8, Keep: 1}
				return func() { ops.Adam(p, m, v, g, 0, n, cfg) }, nil
			},
		})
		register(Case{
			Name: "lion." + dt, Kernel: "lion_" + dt, Shape: shape(n), Peak: "memory", Goal: goalOf(dt, 0.8),
			Bytes: 5 * bytes, Flops: 9 * float64(n),
			Setup: func(dev *gpu.Device) (func(), error) {
				p, m, g := normal(dev, d, n), normal(dev, d, n), normal(dev, d, n)
				cfg := ops.LionConfig{Scale: 1, Beta1: 0.9, Beta2: 0.99, LR: 1e-6, Keep: 1}
				return func() { ops.Lion(p, m, g, 0, n, cfg) }, nil
			},
		})
		register(Case{
			Name: "sgd." + dt, Kernel: "sgd_" + dt, Shape: shape(n), Peak: "memory", Goal: goalOf(dt, 0.8),
			Bytes: 5 * bytes, Flops: 6 * float64(n),
			Setup: func(dev *gpu.Device) (func(), error) {
				p, v, g := normal(dev, d, n), normal(dev, d, n), normal(dev, d, n)
				return func() { ops.SGD(p, v, g, 0, n, ops.SGDConfig{Momentum: 0.9, LR: 1e-6}) }, nil
			},
		})
	}
	register(Case{
		Name: "lion.m16", Kernel: "lion_m16", Shape: shape(n), Peak: "memory", Goal: 0.8,
		Bytes: 16 * float64(n), Flops: 9 * float64(n),
		Setup: func(dev *gpu.Device) (func(), error) {
			p, m, g := normal(dev, gpu.Float32, n), normal(dev, gpu.BFloat16, n), normal(dev, gpu.Float32, n)
			cfg := ops.LionConfig{Scale: 1, Beta1: 0.9, Beta2: 0.99, LR: 1e-6, Keep: 1}
			return func() { ops.Lion(p, m, g, 0, n, cfg) }, nil
		},
	})
}

// What feed-forward blocks, embeddings of times and choices take besides products.
func init() {
	rows, d2 := size(1<<14, 50), size(2048, 24)
	for _, dt := range widths {
		d := dtypes[dt]
		n := float64(rows) * float64(d2)
		register(Case{
			Name: "gated." + dt, Kernel: "gated_" + dt, Shape: shape(rows, d2), Peak: "memory", Goal: goalOf(dt, 0.8),
			Bytes: 1.5 * float64(d.Size()) * n,
			Setup: func(dev *gpu.Device) (func(), error) {
				out, x := dev.New(d, rows, d2/2), normal(dev, d, rows, d2)
				return func() { ops.Gated(out, x, ops.GELU, true) }, nil
			},
		})
		register(Case{
			Name: "gated.backward." + dt, Kernel: "gated_backward_" + dt, Shape: shape(rows, d2), Peak: "memory", Goal: goalOf(dt, 0.8),
			Bytes: 2.5 * float64(d.Size()) * n,
			Setup: func(dev *gpu.Device) (func(), error) {
				dx, x, dy := dev.New(d, rows, d2), normal(dev, d, rows, d2), normal(dev, d, rows, d2/2)
				return func() { ops.GatedBackward(dx, x, dy, ops.GELU, true) }, nil
			},
		})
		register(Case{
			Name: "maskedfill." + dt, Kernel: "masked_fill_" + dt, Shape: shape(rows, d2), Peak: "memory", Goal: goalOf(dt, 0.7),
			Bytes: 2*float64(d.Size())*n + float64(d2),
			Setup: func(dev *gpu.Device) (func(), error) {
				out, x, mask := dev.New(d, rows, d2), normal(dev, d, rows, d2), dev.FromUint8(make([]uint8, d2), d2)
				return func() { ops.MaskedFill(out, x, mask, 0, false) }, nil
			},
		})
		register(Case{
			Name: "above." + dt, Kernel: "above_" + dt, Shape: shape(rows, d2), Peak: "memory", Goal: 0.8,
			Bytes: 2 * float64(d.Size()) * n,
			Setup: func(dev *gpu.Device) (func(), error) {
				out, x := dev.New(d, rows, d2), normal(dev, d, rows, d2)
				return func() { ops.Above(out, x, 0) }, nil
			},
		})
		register(Case{
			Name: "gumbel." + dt, Kernel: "gumbel_" + dt, Shape: shape(rows, d2), Peak: "f64", // logarithms, of some forty operations each
			Bytes: float64(d.Size()) * n, Flops: 80 * n,
			Setup: func(dev *gpu.Device) (func(), error) {
				out := dev.New(d, rows, d2)
				return func() { ops.Gumbels(out, ops.Noise{Seed: 1}, false) }, nil
			},
		})
		b := size(256, 5)
		register(Case{
			Name: "waves." + dt, Kernel: "waves_" + dt, Shape: shape(b, 256), Peak: "memory", // a launch
			Bytes: float64(d.Size()) * float64(257*b),
			Setup: func(dev *gpu.Device) (func(), error) {
				out, t := dev.New(d, b, 256), normal(dev, d, b)
				return func() { ops.Waves(out, t, ops.WaveConfig{Width: 256}) }, nil
			},
		})
		register(Case{
			Name: "waves.backward." + dt, Kernel: "waves_backward_" + dt, Shape: shape(b, 256), Peak: "memory", // a launch
			Bytes: float64(d.Size()) * float64(258*b),
			Setup: func(dev *gpu.Device) (func(), error) {
				dt, dy, t := dev.Zeros(d, b), normal(dev, d, b, 256), normal(dev, d, b)
				return func() { ops.WavesBackward(dt, dy, t, ops.WaveConfig{Width: 256}) }, nil
			},
		})
	}
}

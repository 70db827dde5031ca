package main

import (
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/ops"
)

// halves are the dtypes of products on tensor cores.
var halves = map[string]gpu.DType{"bf16": gpu.BFloat16, "f16": gpu.Float16}

// Convolutions on tensor cores: layers of Inception-v3 at a batch of 64, which write into concatenations, and those of a U-Net in
// float32, whose operands are rounded first.
func init() {
	for _, s := range []struct {
		name                       string
		n, side, in, out           int // and in a rehearsal
		tinyN, tinySide, tinyOut   int // of 8 channels, enough for the same version of the kernel
		kh, kw, stride, padH, padW int
		kernel                     string // that the sizes choose, without the dtype
		goal                       float64
	}{
		{
			name: "unet256", n: 64, side: 32, in: 256, out: 256, kh: 3, kw: 3, stride: 1, padH: 1, padW: 1, kernel: "conv16_large", goal: 0.5,
			tinyN: 11, tinySide: 40, tinyOut: 128,
		},
		{
			name: "unet640", n: 8, side: 32, in: 640, out: 640, kh: 3, kw: 3, stride: 1, padH: 1, padW: 1, kernel: "conv16", goal: 0.4,
			tinyN: 22, tinySide: 40, tinyOut: 128,
		},
		{
			name: "inception35", n: 64, side: 35, in: 288, out: 384, kh: 3, kw: 3, stride: 2, kernel: "conv16_large", goal: 0.4,
			tinyN: 11, tinySide: 81, tinyOut: 128,
		},
		{
			name: "inception17", n: 64, side: 17, in: 768, out: 192, kh: 1, kw: 7, stride: 1, padW: 3, kernel: "conv16_narrow", goal: 0.3,
			tinyN: 16, tinySide: 40, tinyOut: 64,
		},
		{
			name: "inception147", n: 64, side: 147, in: 32, out: 64, kh: 3, kw: 3, stride: 1, padH: 1, padW: 1, kernel: "conv16_narrow", goal: 0.3,
			tinyN: 16, tinySide: 40, tinyOut: 64,
		},
		{
			name: "inception8", n: 64, side: 8, in: 2048, out: 320, kh: 1, kw: 1, stride: 1, kernel: "conv16_small", goal: 0.2,
			tinyN: 2, tinySide: 9, tinyOut: 72,
		},
	} {
		for dt, d := range halves {
			n, side, in, out := size(s.n, s.tinyN), size(s.side, s.tinySide), size(s.in, 8), size(s.out, s.tinyOut)
			oh, ow := (side+2*s.padH-s.kh)/s.stride+1, (side+2*s.padW-s.kw)/s.stride+1
			k := s.kh * s.kw * in
			cfg := ops.Conv16Config{StrideH: s.stride, StrideW: s.stride, Pad: [4]int{s.padH, s.padH, s.padW, s.padW}, F: ops.ReLU, OutAt: 8}
			torch := ""
			if s.kh == s.kw && s.stride == 1 {
				torch = spec("conv2d", "b", n, "c", in, "k", out, "h", side, "w", side, "r", s.kh, "dtype", dt)
			}
			register(Case{
				Name: "conv16." + s.name + "." + dt, Kernel: s.kernel + "_" + dt, Shape: shape(n, side, in, out, s.kh, s.kw), Peak: dt, Goal: s.goal,
				Bytes: 2*float64(n*side*side*in+out*k+n*oh*ow*out) + 4*float64(out),
				Flops: 2 * float64(n*oh*ow) * float64(out) * float64(k), Torch: torch,
				Setup: func(dev *gpu.Device) (func(), error) {
					x, w, b := normal(dev, d, n, side, side, in), normal(dev, d, out, s.kh, s.kw, in), normal(dev, gpu.Float32, out)
					y := dev.Zeros(d, n, oh, ow, out+16)
					return func() { ops.Conv16(y, x, w, b, cfg) }, nil
				},
			})
		}
	}

	n, side, ch, out := size(64, 3), size(32, 30), size(256, 8), size(256, 200)
	pixels, weights := float64(n*side*side), float64(9*ch*out)
	flops := 2 * pixels * weights
	cfg := ops.Same(3)
	cfg.Last, cfg.BF16 = true, true
	operands := func(dev *gpu.Device) (x, y, w *gpu.Tensor) {
		return normal(dev, gpu.Float32, n, side, side, ch), normal(dev, gpu.Float32, n, side, side, out), normal(dev, gpu.Float32, out, ch, 3, 3)
	}
	one := func(name, full, small string, bytes float64, parts []Part, run func(x, y, w *gpu.Tensor)) {
		kernel := full
		if tiny {
			kernel = small
		}
		parts = append([]Part{{kernel, bytes, flops, "bf16"}}, parts...)
		register(Case{
			Name: "conv16.rounded." + name, Kernel: kernel, Shape: shape(n, side, ch, out), Peak: "bf16", Goal: 0.2,
			Bytes: 4*pixels*float64(ch+out) + 4*weights, Flops: flops, Parts: parts,
			Setup: func(dev *gpu.Device) (func(), error) {
				x, y, w := operands(dev)
				return func() { run(x, y, w) }, nil
			},
		})
	}
	pack := Part{"conv16_pack_bf16", 6 * weights, 0, "memory"}
	one("forward", "conv16_large_bf16", "conv16_small_bf16", pixels*float64(2*ch+4*out)+2*weights,
		[]Part{{"narrow16_bf16", 6 * pixels * float64(ch), 0, "memory"}, pack},
		func(x, y, w *gpu.Tensor) { ops.Conv2D(y, x, w, nil, cfg) })
	one("data", "conv16_large_bf16", "conv16_small_bf16", pixels*float64(4*ch+2*out)+2*weights,
		[]Part{{"narrow16_bf16", 6 * pixels * float64(out), 0, "memory"}, pack},
		func(x, y, w *gpu.Tensor) { ops.Conv2DBackwardData(x, y, w, cfg, false) })
	pieces := float64(size(6, 10))
	one("weight", "conv16_weight_bf16", "conv16_weight_small_bf16", 2*pixels*float64(ch+out)+4*pieces*weights, []Part{
		{"narrow16_bf16", 3 * pixels * float64(ch+out), 0, "memory"}, {"conv16_weight_sum_f32", (4*pieces + 8) * weights, 0, "memory"},
	}, func(x, y, w *gpu.Tensor) { ops.Conv2DBackwardWeight(w, y, x, cfg) })
	mid, deep := size(256, 1400), size(2048, 1400)
	register(Case{
		Name: "conv16.rounded.weight.point", Kernel: "conv16_weight_bf16", Shape: shape(n, side, deep, mid), Peak: "bf16", Goal: 0.2,
		Bytes: 4 * (float64(n*16)*float64(deep+mid) + 2*float64(deep*mid)), Flops: 2 * float64(n*16) * float64(deep*mid),
		Parts: []Part{
			{"conv16_weight_bf16", 2*float64(n*16)*float64(deep+mid) + 16*float64(deep*mid), 2 * float64(n*16) * float64(deep*mid), "bf16"},
			{"narrow16_bf16", 3 * float64(n*16) * float64(deep+mid), 0, "memory"},
			{"conv16_weight_sum_f32", 24 * float64(deep*mid), 0, "memory"},
		},
		Setup: func(dev *gpu.Device) (func(), error) {
			x, y, w := normal(dev, gpu.Float32, n, 4, 4, deep), normal(dev, gpu.Float32, n, 4, 4, mid), normal(dev, gpu.Float32, mid, deep, 1, 1)
			cfg := ops.ConvConfig{Last: true, BF16: true}
			return func() { ops.Conv2DBackwardWeight(w, y, x, cfg) }, nil
		},
	})
}

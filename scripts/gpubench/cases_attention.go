package main

import (
	"fmt"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/ops"
)

// The bound of attention is arithmetic: 4·B·H·Lq·Lk·D flops forward and 10
// backward, half of them under a causal mask. A batch has 16,384 tokens and a
// model width of 2,048, as the published figures of such kernels do; in float32
// a quarter of the tokens.
func init() {
	for _, dt := range []string{"bf16", "f16", "f32"} {
		for _, d := range []int{64, 128} {
			for _, n := range []int{1024, 4096, 16384} {
				for _, causal := range []bool{false, true} {
					if dt == "f16" && n != 4096 || dt == "f32" && n == 16384 {
						continue
					}
					attentionCase(dt, d, n, causal, false)
					attentionCase(dt, d, n, causal, true)
				}
			}
		}
	}
	mapCases()
}

func attentionCase(dt string, d, n int, causal, backward bool) {
	tokens, goal, peak := 16384, 0.4, dt
	if dt == "f32" {
		tokens, goal = 4096, 0.7
	}
	b, h, l := size(tokens/n, 1), size(2048/d, 1), size(n, 96)
	name, pass, kernel, products := "forward", "fwd", "attention_forward", 4.0
	if backward {
		name, pass, kernel, products, goal = "both", "fwdbwd", "attention_dkv", 14, goal-0.1
	}
	name = fmt.Sprintf("attention.%s.%s.%d.%d", name, dt, d, n)
	text, mask, share := shape(b, l, h, d), 0, 1.0
	if causal {
		name, text, mask, share = name+".causal", text+" causal", 1, 0.5
	}
	rows, e := float64(b)*float64(l)*float64(h)*float64(d), float64(dtypes[dt].Size())
	bytes := 4 * rows * e // q, k, v, out
	if backward {
		bytes += 8 * rows * e // those and dout again, dq, dk, dv
	}
	register(Case{
		Name: name, Kernel: fmt.Sprintf("%s%d_%s", kernel, d, dt), Shape: text, Peak: peak, Goal: goal,
		Bytes: bytes, Flops: share * products * rows * float64(l),
		Torch: spec("sdpa", "b", b, "h", h, "hk", h, "q", l, "k", l, "d", d, "dtype", dt, "causal", mask, "pass", pass),
		Setup: func(dev *gpu.Device) (func(), error) {
			like := func() *gpu.Tensor { return dev.New(dtypes[dt], b, l, h, d) }
			some := func() *gpu.Tensor { return normal(dev, dtypes[dt], b, l, h, d) }
			in, cfg := ops.AttentionInput{Q: some(), K: some(), V: some()}, ops.AttentionConfig{Causal: causal}
			out, lse := like(), dev.Empty(b, h, l)
			forward := func() { ops.Attention(out, lse, in, cfg) }
			if !backward {
				return forward, nil
			}
			dout, dq, dk, dv := some(), like(), like(), like()
			return func() {
				forward()
				ops.AttentionBackward(dq, dk, dv, nil, dout, out, lse, in, cfg)
			}, nil
		},
	})
}

// mapCases are the maps of an image's queries over a text's keys, averaged over
// the heads, as editing methods read and differentiate them.
func mapCases() {
	b, lq, lk, h, d := size(4, 1), size(4096, 80), size(77, 40), size(8, 2), 40
	scores := float64(b) * float64(lq) * float64(lk) * float64(h) * float64(d)
	operands := func(dev *gpu.Device) (in ops.AttentionInput, lse, maps *gpu.Tensor) {
		in = ops.AttentionInput{Q: normal(dev, gpu.BFloat16, b, lq, h, d), K: normal(dev, gpu.BFloat16, b, lk, h, d)}
		in.V = normal(dev, gpu.BFloat16, b, lk, h, d)
		lse, maps = dev.Empty(b, h, lq), dev.Empty(b, 1, lq, lk)
		out := dev.New(gpu.BFloat16, b, lq, h, d)
		ops.Attention(out, lse, in, ops.AttentionConfig{})
		out.Free()
		return in, lse, maps
	}
	mean := ops.MapSelect{Mean: true}
	register(Case{
		Name: "attention.maps.bf16", Kernel: "attention_maps_bf16", Shape: shape(b, lq, lk, h, d), Peak: "f32", Goal: 0.4,
		Bytes: 4 * float64(b) * float64(lq) * float64(lk), Flops: 2 * scores,
		Setup: func(dev *gpu.Device) (func(), error) {
			in, lse, maps := operands(dev)
			return func() { ops.AttentionMaps(maps, lse, in, ops.AttentionConfig{}, mean) }, nil
		},
	})
	register(Case{
		Name: "attention.maps.backward.bf16", Kernel: "attention_maps_dq_bf16", Shape: shape(b, lq, lk, h, d), Peak: "f32", Goal: 0.3,
		Bytes: 4 * float64(b) * float64(lq) * float64(lk), Flops: 10 * scores,
		Setup: func(dev *gpu.Device) (func(), error) {
			in, lse, maps := operands(dev)
			ops.AttentionMaps(maps, lse, in, ops.AttentionConfig{}, mean)
			dq, dk := dev.New(gpu.BFloat16, b, lq, h, d), dev.New(gpu.BFloat16, b, lk, h, d)
			return func() { ops.AttentionMapsBackward(dq, dk, maps, lse, in, ops.AttentionConfig{}, mean) }, nil
		},
	})
	register(Case{
		Name: "attention.mapped.bf16", Kernel: "attention_mapped_bf16", Shape: shape(b, lq, lk, h, d), Peak: "f32", Goal: 0.4,
		Bytes: 4 * float64(b) * float64(h) * float64(lq) * float64(lk), Flops: 2 * scores,
		Setup: func(dev *gpu.Device) (func(), error) {
			maps, v, out := normal(dev, gpu.Float32, b, h, lq, lk), normal(dev, gpu.BFloat16, b, lk, h, d), dev.New(gpu.BFloat16, b, lq, h, d)
			return func() { ops.AttentionFromMaps(out, maps, v) }, nil
		},
	})
}

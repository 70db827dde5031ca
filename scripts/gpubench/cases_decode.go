package main

import (
	"fmt"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/ops"
)

// One token of each sequence over its keys in pages of 64, as a language model's serving does it: a batch of 64, and one long sequence.
// The bound is memory: keys and values once, whatever the heads that share them.
func init() {
	for _, dt := range []string{"bf16", "f16", "f32"} {
		for _, d := range []int{64, 128, 256} {
			decodeCase(dt, d, 64, 4096)
		}
		decodeCase(dt, 128, 1, 131072)
		appendCase(dt)
	}
}

// pagedKV is a batch's pages, those of a sequence apart from one another as they come to lie over time.
func pagedKV(dev *gpu.Device, dt string, b, keys, hkv, d int) ops.PagedKV {
	const page = 64
	most := (keys + page - 1) / page
	table, lens := make([]int32, b*most), make([]int32, b)
	for i := range table {
		table[i] = int32(i%most*b + i/most)
	}
	for i := range lens {
		lens[i] = int32(keys)
	}
	return ops.PagedKV{
		K: normal(dev, dtypes[dt], b*most, page, hkv, d), V: normal(dev, dtypes[dt], b*most, page, hkv, d),
		Table: dev.FromInt32(table, b, most), Lens: dev.FromInt32(lens, b),
	}
}

func decodeCase(dt string, d, sequences, length int) {
	const hkv, h = 8, 32
	b, keys := size(sequences, min(sequences, 2)), size(length, 300)
	pairs := float64(b) * float64(keys)
	goal := 0.7
	if d == 256 || dt == "f32" {
		goal = 0.6 // fewer blocks on a multiprocessor
	}
	bytes := 2 * pairs * float64(hkv*d*dtypes[dt].Size())
	flops := 4 * pairs * float64(h*d)
	kernel := fmt.Sprintf("attention_decode%d_%s", d, dt)
	merge := Part{"attention_decode_merge_" + dt, float64(b*h) * float64(d) * float64(dtypes[dt].Size()), float64(b * h * d), "memory"}
	register(Case{
		Name: fmt.Sprintf("attention.decode.%s.%d.%dx%d", dt, d, sequences, length), Kernel: kernel, Shape: shape(b, keys, h, hkv, d), Peak: "memory", Goal: goal,
		Bytes: bytes, Flops: flops, Parts: []Part{{kernel, bytes, flops, "memory"}, merge},
		Torch: spec("sdpa", "b", b, "h", h, "hk", hkv, "q", 1, "k", keys, "d", d, "dtype", dt, "causal", 0, "pass", "fwd"),
		Setup: func(dev *gpu.Device) (func(), error) {
			kv, q := pagedKV(dev, dt, b, keys, hkv, d), normal(dev, dtypes[dt], b, 1, h, d)
			out, lse := q.Like(), dev.Empty(b, h, 1)
			kv.Work = ops.DecodeWork(q, kv)
			return func() { ops.AttentionDecode(out, lse, q, kv, ops.AttentionConfig{}) }, nil
		},
	})
}

// appendCase writes a prompt's tokens, in rows that whole vectors fit, and in ones that they do not, for the kernels by values.
func appendCase(dt string) {
	b, length := size(16, 2), size(2048, 100)
	for _, v := range []struct {
		name, kernel string
		d            int
	}{{"", "v16", 128}, {".odd", map[bool]string{true: "u32", false: "u16"}[dt == "f32"], 33}} {
		bytes := 4 * float64(b) * float64(length) * float64(7*v.d*dtypes[dt].Size())
		register(Case{
			Name: "attention.append." + dt + v.name, Kernel: "attention_append_" + v.kernel, Shape: shape(b, length, 7, v.d), Peak: "memory", Bytes: bytes,
			Setup: func(dev *gpu.Device) (func(), error) {
				kv := pagedKV(dev, dt, b, length, 7, v.d)
				k, w := normal(dev, dtypes[dt], b, length, 7, v.d), normal(dev, dtypes[dt], b, length, 7, v.d)
				return func() { ops.AppendPages(kv, k, w) }, nil
			},
		})
	}
}

package main

import (
	"fmt"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/ops"
)

// The bound of attention is arithmetic: 4·B·H·Lq·Lk·D flops forward and 10
// backward, half of them under a causal mask; the two kernels of the backward
// pass both form the scores, 14 in all. A batch has 16,384 tokens and a model
// width of 2,048, as the published figures of such kernels do; in float32 a
// quarter of the tokens. Heads of 32 and 256 are timed at one length, and no
// goal is promised for them.
func init() {
	for _, dt := range []string{"bf16", "f16", "f32"} {
		for _, d := range []int{32, 64, 128, 256} {
			for _, n := range []int{1024, 4096, 16384} {
				for _, causal := range []bool{false, true} {
					odd := d == 32 || d == 256
					if (dt == "f16" || odd) && n != 4096 || dt == "f32" && n == 16384 || odd && causal {
						continue
					}
					attentionCase(dt, d, n, causal, false)
					if dt != "f32" && !odd {
						hopperCase(dt, d, n, causal, false)
						hopperCase(dt, d, n, causal, true)
					}
					attentionCase(dt, d, n, causal, true)
				}
			}
		}
		biasCase(dt)
		blocksCase(dt)
	}
}

// attentionSize is a batch of one head width and length.
type attentionSize struct {
	dt      string
	b, h, l int
	d       int
	share   float64 // of the pairs of queries and keys that are seen
}

// rows is the elements of an operand, and bytes their bytes.
func (a attentionSize) rows() float64 {
	return float64(a.b) * float64(a.l) * float64(a.h) * float64(a.d)
}
func (a attentionSize) bytes() float64 { return a.rows() * float64(dtypes[a.dt].Size()) }

// flops of so many products of queries and keys.
func (a attentionSize) flops(products float64) float64 {
	return 2 * products * a.share * a.rows() * float64(a.l)
}

// part is a pass that forms so many products and touches so many operands.
func (a attentionSize) part(pass string, products, operands float64) Part {
	return Part{fmt.Sprintf("attention_%s%d_%s", pass, a.d, a.dt), operands * a.bytes(), a.flops(products), a.dt}
}

// both are the passes of a forward and a backward call.
func (a attentionSize) both() []Part {
	delta := Part{"attention_delta_" + a.dt, 2*a.bytes() + 4*a.rows()/float64(a.d), 2 * a.rows(), "memory"}
	return []Part{a.part("forward", 2, 4), delta, a.part("dkv", 4, 6), a.part("dq", 3, 5)}
}

func attentionCase(dt string, d, n int, causal, backward bool) {
	tokens, goal, peak := 16384, 0.4, dt
	if dt == "f32" {
		tokens, goal = 4096, 0.7
	}
	b, h, l := size(tokens/n, 1), size(2048/d, 1), size(n, 96)
	a := attentionSize{dt, b, h, l, d, 1}
	name, text, mask, pass := "forward", shape(b, l, h, d), 0, "fwd"
	if causal {
		text, mask, a.share = text+" causal", 1, 0.5
	}
	whole, parts := a.part("forward", 2, 4), []Part(nil)
	if backward {
		name, pass, goal, parts = "both", "fwdbwd", goal-0.1, a.both()
		whole = a.part("dkv", 7, 12) // q, k, v and out, those and dout again, dq, dk, dv
	}
	if d == 32 || d == 256 {
		goal = 0
	}
	name = fmt.Sprintf("attention.%s.%s.%d.%d", name, dt, d, n)
	if causal {
		name += ".causal"
	}
	register(Case{
		Name: name, Kernel: whole.Kernel, Shape: text, Peak: peak, Goal: goal,
		Bytes: whole.Bytes, Flops: whole.Flops, Parts: parts,
		Torch: spec("sdpa", "b", b, "h", h, "hk", h, "q", l, "k", l, "d", d, "dtype", dt, "causal", mask, "pass", pass),
		Setup: func(dev *gpu.Device) (func(), error) {
			like := func() *gpu.Tensor { return dev.New(dtypes[dt], b, l, h, d) }
			some := func() *gpu.Tensor { return normal(dev, dtypes[dt], b, l, h, d) }
			in, cfg := ops.AttentionInput{Q: some(), K: some(), V: some()}, ops.AttentionConfig{Causal: causal}
			out, lse := like(), dev.Empty(b, h, l)
			if !backward {
				return func() {
					defer ops.SetHopper(ops.SetHopper(ops.HopperNever)) // hopperCase has the others
					ops.Attention(out, lse, in, cfg)
				}, nil
			}
			dout, dq, dk, dv := some(), like(), like(), like()
			return func() {
				defer ops.SetHopper(ops.SetHopper(ops.HopperNever))
				ops.Attention(out, lse, in, cfg)
				ops.AttentionBackward(dq, dk, dv, nil, dout, out, lse, in, cfg)
			}, nil
		},
	})
}

// hopperCase is attentionCase by the kernels for compute capability 9.0; on another
// device it is that case again. At 64 columns the exponentials take as long as the
// products, and a causal mask makes blocks of unequal length; their goals are lower.
func hopperCase(dt string, d, n int, causal, backward bool) {
	b, h, l := size(16384/n, 1), size(2048/d, 1), size(n, 96)
	a := attentionSize{dt, b, h, l, d, 1}
	pass, torch, goal := "forward", "fwd", map[int]float64{64: 0.45, 128: 0.65}[d]
	if backward {
		pass, torch, goal = "both", "fwdbwd", map[int]float64{64: 0.4, 128: 0.5}[d]
	}
	name, text, mask := fmt.Sprintf("attention.hopper.%s.%s.%d.%d", pass, dt, d, n), shape(b, l, h, d), 0
	if causal {
		name, text, mask, a.share, goal = name+".causal", text+" causal", 1, 0.5, goal-0.1
	}
	if n < 4096 {
		goal = 0
	}
	part := func(pass string, products, operands float64) Part {
		return Part{fmt.Sprintf("attention_hopper%s_%s_%d", pass, dt, d), operands * a.bytes(), a.flops(products), dt}
	}
	whole, parts := part("", 2, 4), []Part(nil)
	if backward {
		delta := a.both()[1]
		whole, parts = part("_dkv", 7, 12), []Part{part("", 2, 4), delta, part("_dkv", 4, 6), part("_dq", 3, 5)}
	}
	register(Case{
		Name: name, Kernel: whole.Kernel, Shape: text, Peak: dt, Goal: goal,
		Bytes: whole.Bytes, Flops: whole.Flops, Parts: parts,
		Torch: spec("sdpa", "b", b, "h", h, "hk", h, "q", l, "k", l, "d", d, "dtype", dt, "causal", mask, "pass", torch),
		Setup: func(dev *gpu.Device) (func(), error) {
			like := func() *gpu.Tensor { return dev.New(dtypes[dt], b, l, h, d) }
			some := func() *gpu.Tensor { return normal(dev, dtypes[dt], b, l, h, d) }
			in, cfg := ops.AttentionInput{Q: some(), K: some(), V: some()}, ops.AttentionConfig{Causal: causal}
			out, lse := like(), dev.Empty(b, h, l)
			var dout, dq, dk, dv *gpu.Tensor
			if backward {
				dout, dq, dk, dv = some(), like(), like(), like()
			}
			return func() {
				defer ops.SetHopper(ops.SetHopper(ops.HopperHost))
				ops.Attention(out, lse, in, cfg)
				if backward {
					ops.AttentionBackward(dq, dk, dv, nil, dout, out, lse, in, cfg)
				}
			}, nil
		},
	})
}

// biasCase is a step with a bias that is learned, as of relative places: one for
// each head, shared by the batch, whose gradient is wanted too.
func biasCase(dt string) {
	b, h, l, d := size(8, 1), size(16, 1), size(1024, 96), 64
	a := attentionSize{dt, b, h, l, d, 1}
	bias := 4 * float64(h) * float64(l) * float64(l)
	gradient := Part{"attention_dbias_" + dt, 4*a.bytes() + 2*bias, a.flops(2), dt}
	register(Case{
		Name: "attention.bias." + dt, Kernel: gradient.Kernel, Shape: shape(b, l, h, d), Peak: dt,
		Bytes: 16*a.bytes() + 5*bias, Flops: a.flops(7), Parts: append(a.both(), gradient),
		Torch: spec("sdpa", "b", b, "h", h, "hk", h, "q", l, "k", l, "d", d, "dtype", dt, "bias", 1, "pass", "fwdbwd"),
		Setup: func(dev *gpu.Device) (func(), error) {
			some := func() *gpu.Tensor { return normal(dev, dtypes[dt], b, l, h, d) }
			in := ops.AttentionInput{Q: some(), K: some(), V: some(), Bias: normal(dev, gpu.Float32, 1, h, l, l)}
			out, lse, dout := in.Q.Like(), dev.Empty(b, h, l), some()
			dq, dk, dv, dbias := in.Q.Like(), in.K.Like(), in.V.Like(), in.Bias.Like()
			return func() {
				ops.Attention(out, lse, in, ops.AttentionConfig{})
				ops.AttentionBackward(dq, dk, dv, dbias, dout, out, lse, in, ops.AttentionConfig{})
			}, nil
		},
	})
}

// blocksCase is a step over long sequences of which a query sees the blocks near its own and the first one.
func blocksCase(dt string) {
	const side = 128
	b, h, l, d := size(1, 1), size(16, 2), size(16384, 300), 64
	n := (l + side - 1) / side
	mask, left := make([]uint8, n*n), 0
	for i := range mask {
		if row, column := i/n, i%n; column == 0 || max(row-column, column-row) <= 4 {
			mask[i] = 1
			left++
		}
	}
	a := attentionSize{dt, b, h, l, d, float64(left) / float64(n*n)}
	whole := a.part("dkv", 7, 12)
	register(Case{
		Name: "attention.blocks." + dt, Kernel: whole.Kernel, Shape: shape(b, l, h, d) + fmt.Sprintf(" %.0f %% of blocks", 100*a.share), Peak: dt,
		Bytes: whole.Bytes, Flops: whole.Flops, Parts: a.both(),
		Setup: func(dev *gpu.Device) (func(), error) {
			some := func() *gpu.Tensor { return normal(dev, dtypes[dt], b, l, h, d) }
			in := ops.AttentionInput{Q: some(), K: some(), V: some(), Blocks: dev.FromUint8(mask, 1, 1, n, n), Block: side}
			out, lse, dout := in.Q.Like(), dev.Empty(b, h, l), some()
			dq, dk, dv := in.Q.Like(), in.K.Like(), in.V.Like()
			return func() {
				ops.Attention(out, lse, in, ops.AttentionConfig{})
				ops.AttentionBackward(dq, dk, dv, nil, dout, out, lse, in, ops.AttentionConfig{})
			}, nil
		},
	})
}

// The maps of an image's queries over a text's keys, averaged over the heads, as
// editing methods read and differentiate them, and products with maps that they
// have changed. All arithmetic is float, whatever the tensors are.
func init() {
	for _, dt := range []string{"bf16", "f16", "f32"} {
		mapCases(dt)
	}
}

func mapCases(dt string) {
	b, lq, lk, h, d := size(4, 1), size(4096, 80), size(77, 40), size(8, 2), 40
	t := dtypes[dt]
	pairs := float64(b) * float64(lq) * float64(lk)
	product := 2 * pairs * float64(h) * float64(d) // flops of one product of all heads
	queries, keys := float64(b*h*d*t.Size())*float64(lq), float64(b*h*d*t.Size())*float64(lk)
	lses, mean, all := 4*float64(b*h)*float64(lq), 4*pairs, 4*pairs*float64(h)
	part := func(kernel string, bytes, products float64) Part {
		return Part{"attention_" + kernel + "_" + dt, bytes, products * product, "f32"}
	}
	add := func(name string, goal float64, whole Part, parts []Part, torch string, setup func(dev *gpu.Device) func()) {
		register(Case{
			Name: "attention." + name + "." + dt, Kernel: whole.Kernel, Shape: shape(b, lq, lk, h, d), Peak: whole.Peak, Goal: goal,
			Bytes: whole.Bytes, Flops: whole.Flops, Parts: parts, Torch: torch,
			Setup: func(dev *gpu.Device) (func(), error) { return setup(dev), nil },
		})
	}
	image := func(dev *gpu.Device) *gpu.Tensor { return normal(dev, t, b, lq, h, d) }
	text := func(dev *gpu.Device) *gpu.Tensor { return normal(dev, t, b, lk, h, d) }

	operands := func(dev *gpu.Device) (in ops.AttentionInput, lse, maps *gpu.Tensor) {
		in = ops.AttentionInput{Q: image(dev), K: text(dev), V: text(dev)}
		lse, maps = dev.Empty(b, h, lq), dev.Empty(b, 1, lq, lk)
		out := in.Q.Like()
		ops.Attention(out, lse, in, ops.AttentionConfig{})
		out.Free()
		return in, lse, maps
	}
	choice := ops.MapSelect{Mean: true}
	add("maps", 0.4, part("maps", queries+keys+lses+mean, 1), nil, "", func(dev *gpu.Device) func() {
		in, lse, maps := operands(dev)
		return func() { ops.AttentionMaps(maps, lse, in, ops.AttentionConfig{}, choice) }
	})
	read := queries + keys + lses + mean
	backward := []Part{part("maps_delta", read+lses, 1), part("maps_dq", read+lses+queries, 2), part("maps_dk", read+lses+keys, 2)}
	add("maps.backward", 0.3, part("maps_dq", 2*read, 5), backward, "", func(dev *gpu.Device) func() {
		in, lse, maps := operands(dev)
		ops.AttentionMaps(maps, lse, in, ops.AttentionConfig{}, choice)
		dq, dk := in.Q.Like(), in.K.Like()
		return func() { ops.AttentionMapsBackward(dq, dk, maps, lse, in, ops.AttentionConfig{}, choice) }
	})
	torch := ""
	if dt == "f32" {
		torch = spec("matmul", "b", b*h, "m", lq, "n", d, "k", lk, "dtype", dt) // of 16 bits it would do other work: its maps are too
	}
	add("mapped", 0.4, part("mapped", all+keys+queries, 1), nil, torch, func(dev *gpu.Device) func() {
		maps, v, out := normal(dev, gpu.Float32, b, h, lq, lk), text(dev), image(dev)
		return func() { ops.AttentionFromMaps(out, maps, v) }
	})
	gradients := []Part{part("mapped_dmaps", all+keys+queries, 1), part("mapped_dv", all+keys+queries, 1)}
	add("mapped.backward", 0.4, part("mapped_dv", 2*all+2*keys+queries, 2), gradients, "", func(dev *gpu.Device) func() {
		maps, v, dout := normal(dev, gpu.Float32, b, h, lq, lk), text(dev), image(dev)
		dmaps, dv := maps.Like(), v.Like()
		return func() { ops.AttentionFromMapsBackward(dmaps, dv, dout, maps, v) }
	})
}

package main

import (
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/ops"
)

// Linear attention with a decay of each head and one of each column, forward and backward.
func init() {
	for dt, d := range reals {
		for _, vector := range []bool{false, true} {
			b, t, h, width, chunk := size(8, 1), size(2048, 11), size(16, 2), size(64, 8), size(32, 4)
			name, kernel := "linear.heads", ""
			if vector {
				name, kernel = "linear.columns", "vector_"
			}
			heads, chunks := float64(b*h), float64((t+chunk-1)/chunk)
			bytes, token := float64(d.Size()), float64(t)*float64(width)
			walk := Part{"linear_states_" + dt, bytes * heads * (2*token + chunks*float64(width*width)), 2 * heads * token * float64(width), "memory"}
			out := Part{"linear_out_" + kernel + dt, bytes * heads * (4*token + chunks*float64(width*width)), heads * token * float64(2*chunk+2*width), dt}
			back := Part{"linear_back_" + kernel + dt, bytes * heads * (7*token + 2*chunks*float64(width*width)), heads * token * float64(6*chunk+8*width), dt}
			input := func(dev *gpu.Device) (in ops.LinearAttentionInput, states func() *gpu.Tensor) {
				in = ops.LinearAttentionInput{Q: normal(dev, d, b, t, h, width), K: normal(dev, d, b, t, h, width), V: normal(dev, d, b, t, h, width), Chunk: chunk}
				in.Decay = dev.Zeros(d, b, t, h)
				if vector {
					in.Decay = dev.Zeros(d, b, t, h, width)
				}
				ops.Fill(in.Decay, -0.05)
				return in, func() *gpu.Tensor { return dev.Zeros(d, b, h, in.Chunks(), width, width) }
			}
			register(Case{
				Name: name + "." + dt, Kernel: out.Kernel, Shape: shape(b, t, h, width), Peak: dt, Parts: []Part{walk, out},
				Bytes: bytes * heads * 4 * token, Flops: walk.Flops + out.Flops,
				Setup: func(dev *gpu.Device) (func(), error) {
					in, states := input(dev)
					y, starts := in.V.Like(), states()
					return func() { ops.LinearAttention(y, nil, starts, in) }, nil
				},
			})
			register(Case{
				Name: name + ".back." + dt, Kernel: back.Kernel, Shape: shape(b, t, h, width), Peak: dt, Parts: []Part{walk, back},
				Bytes: bytes * heads * 8 * token, Flops: walk.Flops + back.Flops,
				Setup: func(dev *gpu.Device) (func(), error) {
					in, states := input(dev)
					dy, starts, backs := in.V, states(), states()
					g := ops.LinearAttentionGrads{Q: in.Q.Like(), K: in.K.Like(), V: in.V.Like(), Slope: in.Q.Like()}
					return func() { ops.LinearAttentionBackward(g, dy, nil, nil, starts, backs, in) }, nil
				},
			})
		}
	}
}

package ddo

import (
	"context"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/models/flow"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/ops"
	"github.com/fidlab/fidlab/rng"
	"github.com/fidlab/fidlab/train"
)

// flowBatch is how many pictures a flow draws at a time.
const flowBatch = 64

// Flow is a flow, whose likelihood is exact. It draws its latents through the inverse, token by token, without guidance and without removing
// noise: what it draws has the density that it says.
func Flow(m *flow.Net) *Net {
	c, dev := m.Config, m.Params().Device()
	told := func(n int) *gpu.Tensor {
		if c.Classes == 0 {
			return nil
		}
		return gpu.CPU().New(gpu.Int32, n)
	}
	return &Net{
		Params: m.Params(),
		LogP: func(batch int) (train.LogP, error) {
			t := told(batch)
			return func(b *train.Batch, x *gpu.Tensor, classes []int32) *nn.Var {
				return m.NLL(b.Tape.Input(x), b.Tell(t, classes, c.Classes, 0)).Neg()
			}, nil
		},
		Draw: func(ctx context.Context, seed uint64, n int) (*train.Examples, error) {
			out := &train.Examples{Shape: []int{c.Channels, c.PictureHeight, c.PictureWidth}}
			tape := nn.NewTape(dev, m.Params().DType())
			for lo := 0; lo < n; lo += flowBatch {
				if err := ctx.Err(); err != nil {
					return nil, err
				}
				size := min(flowBatch, n-lo)
				t := told(size)
				if t != nil {
					for i := range size {
						t.I32()[i] = int32((lo + i) % c.Classes)
					}
					out.Labels = append(out.Labels, t.I32()...)
				}
				z := dev.New(m.Params().DType(), size, c.Tokens(), c.Dim())
				ops.Normals(z, ops.ImageNoise(seed, uint64(lo), rng.Init))
				x, err := m.Inverse(tape, z, flow.InverseOptions{Classes: t})
				if err != nil {
					return nil, err
				}
				v, err := x.Floats()
				if err != nil {
					return nil, err
				}
				out.X = append(out.X, v...)
			}
			return out, nil
		},
	}
}

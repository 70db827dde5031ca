package codec_test

import (
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/models/codec"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/ops"
)

// BenchmarkStep is training steps of the presets, 32 pictures or motions each: forward, back
// and Adam.
func BenchmarkStep(b *testing.B) {
	for _, c := range []struct {
		name  string
		shape []int
		build func(net *nn.Params) func(x *nn.Var) *nn.Var
	}{
		{"shapes-vae", []int{32, 3, 32, 32}, func(net *nn.Params) func(x *nn.Var) *nn.Var {
			k := codec.NewKL(net.At(""), codec.ShapesVAE())
			return func(x *nn.Var) *nn.Var {
				d := k.Encode(x)
				return nn.MSE(k.Decode(d.Sample(ops.Noise{Seed: 1})), x, nil).Add(d.KL().Mean().Scale(1e-6))
			}
		}},
		{"shapes-vq", []int{32, 3, 32, 32}, func(net *nn.Params) func(x *nn.Var) *nn.Var {
			q := codec.NewVQ(net.At(""), codec.ShapesVQ())
			return func(x *nn.Var) *nn.Var {
				z, made := q.Encode(x, true)
				defer q.Book.Update(made)
				return nn.MSE(q.Decode(z), x, nil).Add(made.Loss)
			}
		}},
		{"shapes-vit", []int{32, 3, 32, 32}, func(net *nn.Params) func(x *nn.Var) *nn.Var {
			v := codec.NewViT(net.At(""), codec.ShapesViT())
			return func(x *nn.Var) *nn.Var {
				z, made := v.Encode(x, codec.Text{}, true)
				return nn.MSE(v.Decode(z), x, nil).Add(made.Loss)
			}
		}},
		{"motion-vq", []int{32, 64, 263}, func(net *nn.Params) func(x *nn.Var) *nn.Var {
			m := codec.NewMotion(net.At(""), codec.MotionVQ(263))
			return func(x *nn.Var) *nn.Var {
				z, made := m.Encode(x, true, 0)
				defer m.Quantizer.Update(made)
				return codec.MotionLoss(m.Decode(z), x, 4, 63, 0.5).Add(made.Loss)
			}
		}},
	} {
		b.Run(c.name, func(b *testing.B) {
			net := nn.NewParams(gpu.CPU(), gpu.Float32)
			loss := c.build(net)
			net.Init(1)
			n := 1
			for _, s := range c.shape {
				n *= s
			}
			x := gpu.CPU().From(oracle.Normal(1, n), c.shape...)
			tape := nn.NewTape(gpu.CPU(), gpu.Float32)
			opt := nn.NewAdam(net, nn.AdamOptions{})
			body := func() { tape.Backward(loss(tape.Input(x))) }
			b.ReportAllocs()
			for b.Loop() {
				tape.Run(body)
				opt.Step(1e-4)
			}
			b.ReportMetric(float64(b.N)*float64(c.shape[0])/b.Elapsed().Seconds(), "samples/s")
		})
	}
}

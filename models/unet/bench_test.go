package unet_test

import (
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/models/unet"
	"github.com/fidlab/fidlab/nn"
)

// A training step of the presets for two processor cores at batch 64, AdamW included.
func BenchmarkTrain(b *testing.B) {
	for _, name := range []string{"mnist-unet", "shapes-unet"} {
		b.Run(name, func(b *testing.B) {
			c, err := unet.Preset(name)
			if err != nil {
				b.Fatal(err)
			}
			const batch = 64
			net := nn.NewParams(gpu.CPU(), gpu.Float32)
			u := unet.New(net.At(""), c)
			net.Init(1)
			tape, data, opt := nn.NewTape(gpu.CPU(), gpu.Float32), nn.NewTape(gpu.CPU(), gpu.Float32), nn.NewAdam(net, nn.AdamOptions{Decay: 0.01})
			x, time, in := given(data, u.Takes(), batch, 1)
			target := gpu.CPU().From(oracle.Normal(4, x.Value().Len()), x.Shape()...)
			body := func() {
				tape.Backward(nn.MSE(u.Forward(tape.Input(x.Value()), tape.Input(time.Value()), in), tape.Input(target), nil))
			}
			step := func() {
				tape.Run(body)
				opt.Step(1e-4)
			}
			step()
			b.ReportAllocs()
			for b.Loop() {
				step()
			}
			b.ReportMetric(float64(net.Count()), "params")
			b.ReportMetric(b.Elapsed().Seconds()*1e3/float64(b.N)/batch, "ms/picture")
		})
	}
}

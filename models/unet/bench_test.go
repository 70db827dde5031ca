package unet_test

import (
	"slices"
	"testing"
	"time"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/models/unet"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/ops"
)

// productRate is how many operations a second products of matrices of 1,024 rows do here and
// now, the limit of a network.
func productRate() float64 {
	const n, times = 1024, 10
	x, y := gpu.CPU().From(oracle.Normal(1, n*n), n, n), gpu.CPU().Empty(n, n)
	ops.MatMul(y, x, x, ops.MatMulConfig{})
	start := time.Now()
	for range times {
		ops.MatMul(y, x, x, ops.MatMulConfig{})
	}
	return times * 2 * n * n * n / time.Since(start).Seconds()
}

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
			x, times, in := given(data, u.Takes(), batch, 1)
			target := gpu.CPU().From(oracle.Normal(4, x.Value().Len()), x.Shape()...)
			body := func() {
				tape.Backward(nn.MSE(u.Forward(tape.Input(x.Value()), tape.Input(times.Value()), in), tape.Input(target), nil))
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
			b.ReportMetric(ratioBF16(tape, step), "bf16/float32")
			blocks, work := u.Costs(c.Height, c.Width, 0)
			for _, v := range blocks {
				work += v
			}
			// Both ways back cost what the way there does.
			rate := 6 * work * batch * float64(b.N) / b.Elapsed().Seconds()
			b.ReportMetric(float64(net.Count()), "params")
			b.ReportMetric(rate/1e9, "GFLOP/s")
			b.ReportMetric(rate/productRate(), "of-products")
		})
	}
}

// ratioBF16 is how much longer a step takes in bf16 than in float32, the median of pairs of steps that follow each other.
func ratioBF16(tape *nn.Tape, step func()) float64 {
	timed := func(p nn.Precision) float64 {
		tape.SetPrecision(p)
		start := time.Now()
		step()
		return time.Since(start).Seconds()
	}
	timed(nn.BF16)
	var ratios []float64
	for range 9 {
		ratios = append(ratios, timed(nn.BF16)/timed(nn.Full))
	}
	tape.SetPrecision(nn.Full)
	slices.Sort(ratios)
	return ratios[len(ratios)/2]
}

package dit

import (
	"slices"
	"testing"
	"time"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/models"
	"github.com/fidlab/fidlab/nn"
)

// A training step of the presets for two processor cores at batch 64, AdamW included.
func BenchmarkTrain(b *testing.B) {
	for _, name := range []string{"mnist-dit", "digits-dit"} {
		b.Run(name, func(b *testing.B) {
			c, err := Preset(name)
			if err != nil {
				b.Fatal(err)
			}
			const batch = 64
			net := nn.NewParams(gpu.CPU(), gpu.Float32)
			n := New(net.At(""), c)
			net.Init(1)
			size := batch * c.Channels * c.Height * c.Width
			x := gpu.CPU().From(oracle.Normal(1, size), batch, c.Channels, c.Height, c.Width)
			goal := gpu.CPU().From(oracle.Normal(2, size), batch, c.Channels, c.Height, c.Width)
			times, in := gpu.CPU().From(oracle.Normal(3, batch), batch), models.Inputs{Classes: gpu.CPU().FromInt32(make([]int32, batch), batch)}
			tape, opt := nn.NewTape(gpu.CPU(), gpu.Float32), nn.NewAdam(net, nn.AdamOptions{Decay: 0.01})
			body := func() {
				tape.Backward(nn.MSE(n.Forward(tape.Input(x), tape.Input(times), in), tape.Input(goal), nil))
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
			b.ReportMetric(float64(net.Count()), "params")
			// Multiplications of a block: of each token 12·Dim² and twice as many as there are tokens
			// times Dim, of each picture 6·Dim²; two operations each, three times.
			d, tokens := float64(c.Dim), float64(n.tokens)
			flop := 6 * float64(c.Depth) * batch * (tokens*(12*d*d+2*tokens*d) + 6*d*d)
			b.ReportMetric(flop*float64(b.N)/b.Elapsed().Seconds()/1e9, "GFLOP/s")
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

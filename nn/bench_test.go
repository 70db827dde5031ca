package nn_test

import (
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/ops"
)

// A step of a small network on points, where the cost is that of many short operations.
func BenchmarkTrainPoints(b *testing.B) {
	net := nn.NewParams(gpu.CPU(), gpu.Float32)
	mlp := nn.NewMLP(net.At(""), ops.SiLU, 3, 128, 128, 128, 2)
	net.Init(1)
	tape, opt := nn.NewTape(gpu.CPU(), gpu.Float32), nn.NewAdam(net, nn.AdamOptions{})
	const batch = 256
	x, y := gpu.CPU().From(oracle.Normal(1, batch*3), batch, 3), gpu.CPU().From(oracle.Normal(2, batch*2), batch, 2)
	body := func() { tape.Backward(nn.MSE(mlp.Forward(tape.Input(x)), tape.Input(y), nil)) }
	b.ReportAllocs()
	for b.Loop() {
		tape.Run(body)
		opt.Step(1e-4)
	}
	flop := 2 * 3 * float64(batch) * (3*128 + 2*128*128 + 2*128)
	b.ReportMetric(flop*float64(b.N)/b.Elapsed().Seconds()/1e9, "GFLOP/s")
}

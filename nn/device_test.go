package nn_test

import (
	"math"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/internal/oracle/device"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/ops"
)

// onDevices are operations whose results and gradients are made by kernels on a GPU.
func onDevices() map[string]opCase {
	cases := map[string]opCase{
		"cumsum":       {shapes: [][]int{{2, 9, 5}}, f: func(_ *nn.Tape, x vars) *nn.Var { return x[0].CumSum(1) }},
		"flip":         {shapes: [][]int{{2, 9, 5}}, f: func(_ *nn.Tape, x vars) *nn.Var { return x[0].Flip(1).Mul(x[0]) }},
		"sum":          {shapes: [][]int{{2, 3, 4, 18}}, f: func(_ *nn.Tape, x vars) *nn.Var { return x[0].Sum() }},
		"sum middle":   {shapes: [][]int{{2, 3, 4, 18}}, f: func(_ *nn.Tape, x vars) *nn.Var { return x[0].Sum(1) }},
		"mean of two":  {shapes: [][]int{{2, 3, 4, 18}}, f: func(_ *nn.Tape, x vars) *nn.Var { return x[0].Mean(0, 2) }},
		"mse":          {shapes: [][]int{{3, 7, 5}, {3, 7, 5}, {3}}, f: func(_ *nn.Tape, x vars) *nn.Var { return nn.MSE(x[0], x[1], x[2]) }},
		"pseudo-huber": {shapes: [][]int{{3, 20}, {3, 20}}, f: func(_ *nn.Tape, x vars) *nn.Var { return nn.PseudoHuber(x[0], x[1], 0.1) }},
		"bce":          {shapes: [][]int{{3, 20}, {3, 20}}, f: func(_ *nn.Tape, x vars) *nn.Var { return nn.BCEWithLogits(x[0], x[1]) }},
		"kl":           {shapes: [][]int{{3, 20}, {3, 20}}, f: func(_ *nn.Tape, x vars) *nn.Var { return nn.KLNormal(x[0], x[1]) }},
		"cosine":       {shapes: [][]int{{3, 20}, {3, 20}}, f: func(_ *nn.Tape, x vars) *nn.Var { return nn.CosineSimilarity(x[0], x[1], 1e-3) }},
		"dropout":      {shapes: [][]int{{3, 21}}, f: func(_ *nn.Tape, x vars) *nn.Var { return x[0].Dropout(ops.Mask{Seed: 3, From: 5, P: 0.3}) }},
	}
	mask := gpu.CPU().FromUint8([]uint8{1, 0, 0, 2, 0}, 5)
	for name, c := range map[string]opCase{
		"gated":       {shapes: [][]int{{3, 14}}, f: func(_ *nn.Tape, x vars) *nn.Var { return x[0].Gated(ops.GELU, true).Add(x[0].Gated(ops.SiLU, false)) }},
		"waves":       {shapes: [][]int{{6}}, f: func(_ *nn.Tape, x vars) *nn.Var { return x[0].Waves(ops.WaveConfig{Width: 12, Scale: 3}) }},
		"masked fill": {shapes: [][]int{{2, 3, 5}}, f: func(_ *nn.Tape, x vars) *nn.Var { return x[0].MaskedFill(mask, -7) }},
		"gumbel": {shapes: [][]int{{4, 7}}, f: func(_ *nn.Tape, x vars) *nn.Var {
			return x[0].GumbelSigmoid(nn.Gumbel{Tau: 0.7, Noise: ops.Noise{Seed: 2}})
		}},
	} {
		cases[name] = c
	}
	for name, c := range elementwise() {
		cases[name] = c
	}
	for name, c := range pairs() {
		cases[name] = c
	}
	for name, c := range picturesOnDevices() {
		cases[name] = c
	}
	for name, c := range layersOnDevices() {
		cases[name] = c
	}
	for name, c := range groupedCases() {
		cases[name] = c
	}
	for name, c := range linearAttentionCases() {
		cases[name] = c
	}
	for name, c := range maskedCases() {
		cases[name] = c
	}
	return cases
}

// The tape computes on every device what it computes on the CPU, where results and gradients
// are held against definitions and differences.
func TestOperationsOnDevices(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		if !dev.CUDA() {
			return
		}
		for name, c := range onDevices() {
			for dt, eps := range map[gpu.DType]float64{gpu.Float32: 64, gpu.Float64: 64 * 0x1p-29} {
				y, grads := c.run(t, dt)
				yd, gradsd := c.runOn(t, dev, dt)
				for i, want := range append([]*gpu.Tensor{y}, grads...) {
					got := append([]*gpu.Tensor{yd}, gradsd...)[i]
					biggest := 0.1
					for _, v := range floats(want) {
						biggest = math.Max(biggest, math.Abs(v))
					}
					oracle.Close64(t, floats(got), oracle.Tol{Eps: eps, Scale: func(int) float64 { return biggest }}, func(j int) float64 { return floats(want)[j] })
					if t.Failed() {
						t.Fatalf("%s, %v: %d (0 is the result, the others gradients)", name, dt, i)
					}
				}
			}
		}
	})
}

// A network of layers that need no products learns on every device as on the CPU: optimisers,
// clipping and averages work on slabs there, and from the second step on nothing is allocated.
func TestOptimizersOnDevices(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		if !dev.CUDA() {
			return
		}
		for name, opt := range map[string]func(net *nn.Params) nn.Optimizer{
			"adam":     func(net *nn.Params) nn.Optimizer { return nn.NewAdam(net, nn.AdamOptions{Decay: 0.1, L2: 0.01}) },
			"radam":    func(net *nn.Params) nn.Optimizer { return nn.NewAdam(net, nn.AdamOptions{Rectified: true}) },
			"lion":     func(net *nn.Params) nn.Optimizer { return nn.NewLion(net, nn.LionOptions{Decay: 0.1}) },
			"sgd":      func(net *nn.Params) nn.Optimizer { return nn.NewSGD(net, nn.SGDOptions{Decay: 0.1}) },
			"nesterov": func(net *nn.Params) nn.Optimizer { return nn.NewSGD(net, nn.SGDOptions{Momentum: 0.9, Nesterov: true}) },
		} {
			var want []float64
			for _, d := range []*gpu.Device{gpu.CPU(), dev} {
				net := nn.NewParams(d, gpu.Float64)
				gain, bias := net.At("").Param("gain", nn.Ones, 33), net.At("").Param("bias", nn.Zeros, 5, 1)
				net.Init(1)
				o, ema, tape := opt(net), nn.NewEMA(net, 0.9), nn.NewTape(d, gpu.Float64)
				x, y := d.FromAs(gpu.Float64, oracle.Normal(1, 2*5*33), 2, 5, 33), d.FromAs(gpu.Float64, oracle.Normal(2, 2*5*33), 2, 5, 33)
				var fresh int
				for step := range 6 {
					tape.Run(func() {
						tape.Backward(nn.MSE(tape.Input(x).Mul(tape.Use(gain)).Add(tape.Use(bias)).SiLU(), tape.Input(y), nil))
					})
					if _, ok := nn.ClipNorm(0.05, net); !ok {
						t.Fatalf("%s on %v: a gradient is not finite", name, d)
					}
					o.Step(0.01)
					ema.Update()
					if step == 1 {
						fresh = tape.Arena().Stats().Fresh
					}
				}
				if got := tape.Arena().Stats().Fresh; got != fresh {
					t.Errorf("%s on %v: the tape took memory %d times after the second step", name, d, got-fresh)
				}
				got := floats(net.Value())
				ema.Swap()
				got = append(got, floats(net.Value())...)
				if want == nil {
					want = got
					continue
				}
				oracle.Close64(t, got, oracle.Tol{Abs: 1e-12}, func(i int) float64 { return want[i] })
				if t.Failed() {
					t.Fatalf("%s: parameters and their average after 6 steps", name)
				}
			}
		}
	})
}

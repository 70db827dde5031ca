package unet_test

import (
	"math"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/internal/oracle/device"
	"github.com/fidlab/fidlab/models/unet"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/ops"
)

// trained is what three steps of training came to: the losses, the gradients of every step, and the
// average of the parameters.
type trained struct {
	losses []float64
	grads  [][]float64
	ema    []float64
}

// numbers is a tensor's values in float64, off its device.
func numbers(t *testing.T, x *gpu.Tensor) []float64 {
	t.Helper()
	v := make([]float64, x.Len())
	if err := x.Read64(v); err != nil {
		t.Fatal(err)
	}
	return v
}

// train takes three steps with Adam and an average on dev.
func train(t *testing.T, dev *gpu.Device, c unet.Config, dt gpu.DType) (r trained) {
	t.Helper()
	net := nn.NewParams(dev, dt)
	u := unet.New(net.At("net"), c)
	awake(net)
	net.Init(1)
	u.Mask = ops.Mask{Seed: 4}
	opt, ema, tape := nn.NewAdam(net, nn.AdamOptions{}), nn.NewEMA(net, 0.9), nn.NewTape(dev, dt)
	var fresh int
	for step := range 3 {
		tape.Run(func() {
			x, time, in := given(tape, u.Takes(), 2, 20)
			y := u.Forward(x, time, in)
			goal := tape.Input(dev.FromAs(dt, oracle.Normal(9, y.Value().Len()), y.Shape()...))
			loss := nn.MSE(y, goal, nil).Mean()
			tape.Backward(loss)
			r.losses = append(r.losses, loss.Item())
		})
		var all []float64
		for _, p := range net.All() {
			if !p.Frozen {
				all = append(all, numbers(t, p.Grad())...)
			}
		}
		r.grads = append(r.grads, all)
		opt.Step(1e-3)
		ema.Update()
		u.Mask.From++
		if step == 1 {
			fresh = tape.Arena().Stats().Fresh
		}
	}
	if got := tape.Arena().Stats().Fresh; got != fresh {
		t.Errorf("on %v the tape took memory %d times after the second step", dev, got-fresh)
	}
	ema.Swap()
	r.ema = numbers(t, net.Value())
	return r
}

// Whole steps of training come to the same on every device: losses, all gradients and the average of
// the parameters. Gradients are held to the largest of their network, for those of biases before a
// normalisation and of keys are nothing but rounding.
func TestTrainingOnDevices(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		if !dev.CUDA() {
			return
		}
		for name, c := range configs() {
			t.Run(name, func(t *testing.T) {
				for dt, eps := range map[gpu.DType]float64{gpu.Float32: 1e-4, gpu.Float64: 1e-11} {
					want, got := train(t, gpu.CPU(), c, dt), train(t, dev, c, dt)
					for step, w := range want.losses {
						if d := math.Abs(got.losses[step] - w); !(d <= eps*math.Abs(w)) {
							t.Errorf("%v, step %d: loss %v, on the CPU %v", dt, step, got.losses[step], w)
						}
						largest := 0.0
						for _, v := range want.grads[step] {
							largest = max(largest, math.Abs(v))
						}
						for i, v := range want.grads[step] {
							if d := math.Abs(got.grads[step][i] - v); !(d <= eps*(math.Abs(v)+0.1*largest)) {
								t.Fatalf("%v, step %d: element %d of the gradient is %v, on the CPU %v, of at most %v", dt, step, i, got.grads[step][i], v, largest)
							}
						}
					}
					if dt == gpu.Float64 { // in float32 Adam makes whole steps of what is nothing but rounding
						oracle.Close64(t, got.ema, oracle.Tol{Abs: 1e-9}, func(i int) float64 { return want.ema[i] })
					}
				}
			})
		}
	})
}

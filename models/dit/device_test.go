package dit

import (
	"math"
	"slices"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/internal/oracle/device"
	"github.com/fidlab/fidlab/nn"
)

// trained is what three steps of training came to: the losses, the gradients of every step, and the
// average of the parameters.
type trained struct {
	losses []float64
	grads  [][]float64
	ema    []float64
}

// to is inputs on a device; whole numbers stay on the CPU, as samples have them.
func (b batch) to(dev *gpu.Device) batch {
	for _, t := range []**gpu.Tensor{&b.x, &b.time, &b.extra, &b.gates} {
		if *t != nil {
			*t = (*t).To(dev)
		}
	}
	for _, m := range []*map[string]*gpu.Tensor{&b.tokens, &b.vectors} {
		there := map[string]*gpu.Tensor{}
		for name, t := range *m {
			there[name] = t.To(dev)
		}
		*m = there
	}
	return b
}

// train takes three steps with Adam and an average on dev.
func train(t *testing.T, dev *gpu.Device, c Config, dt gpu.DType) (r trained) {
	t.Helper()
	net := nn.NewParams(dev, dt)
	n := New(net.At(""), c)
	for _, p := range net.All() {
		p.Start = nn.Normal(0.4)
	}
	net.Init(7)
	b := inputsOf(&c, dt, 2)
	b = b.to(dev)
	opt, ema, tape := nn.NewAdam(net, nn.AdamOptions{}), nn.NewEMA(net, 0.9), nn.NewTape(dev, dt)
	var fresh int
	for step := range 3 {
		tape.Run(func() {
			x, time, in, o := b.on(tape, tape.Input)
			y := n.ForwardWith(x, time, in, o)
			goal := tape.Input(dev.FromAs(dt, oracle.Normal(9, y.Value().Len()), y.Shape()...))
			loss := nn.MSE(y, goal, nil).Mean()
			tape.Backward(loss)
			r.losses = append(r.losses, loss.Item())
		})
		var all []float64
		for _, p := range net.All() {
			all = append(all, floats(p.Grad().To(gpu.CPU()))...)
		}
		r.grads = append(r.grads, all)
		opt.Step(1e-3)
		ema.Update()
		if step == 1 {
			fresh = tape.Arena().Stats().Fresh
		}
	}
	if got := tape.Arena().Stats().Fresh; got != fresh {
		t.Errorf("on %v the tape took memory %d times after the second step", dev, got-fresh)
	}
	ema.Swap()
	r.ema = slices.Clone(floats(net.Value().To(gpu.CPU())))
	return r
}

// Whole steps of training come to the same on every device: losses, all gradients and the average of
// the parameters. Gradients are held to the largest of their network, for those of biases of keys
// are nothing but rounding.
func TestTrainingOnDevices(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		if !dev.CUDA() {
			return
		}
		for name, c := range variants() {
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

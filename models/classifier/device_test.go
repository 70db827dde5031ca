package classifier_test

import (
	"math"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/internal/oracle/device"
	"github.com/fidlab/fidlab/models/classifier"
	"github.com/fidlab/fidlab/nn"
)

// train is three steps on dev: the losses, and the gradients of the first.
func train(t *testing.T, dev *gpu.Device, c classifier.Config) (losses, grads []float64) {
	t.Helper()
	net := nn.NewParams(dev, gpu.Float64)
	n := classifier.New(net.At(""), c)
	net.Init(1)
	tape, opt := nn.NewTape(dev, gpu.Float64), nn.NewAdam(net, nn.AdamOptions{})
	x := dev.FromAs(gpu.Float64, oracle.Normal(1, 9*c.Channels*c.Height*c.Width), 9, c.Channels, c.Height, c.Width)
	labels := gpu.CPU().FromInt32([]int32{0, 1, 2, 3, 4, 0, 1, 2, 3}, 9)
	for step := range 3 {
		tape.Run(func() {
			var time *nn.Var
			if c.Timed {
				time = tape.Const(3, 9)
			}
			loss := nn.CrossEntropy(n.Forward(tape.Input(x), time), labels, 0.1).Mean()
			tape.Backward(loss)
			losses = append(losses, loss.Item())
		})
		if step == 0 {
			for _, p := range net.All() {
				g := make([]float64, p.Grad().Len())
				if err := p.Grad().Read64(g); err != nil {
					t.Fatal(err)
				}
				grads = append(grads, g...)
			}
		}
		opt.Step(1e-3)
	}
	return losses, grads
}

// Steps of training come to the same on every device.
func TestTrainingOnDevices(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		if !dev.CUDA() {
			return
		}
		for _, c := range []classifier.Config{lenet(), resnet()} {
			losses, grads := train(t, gpu.CPU(), c)
			got, gotGrads := train(t, dev, c)
			for i, w := range losses {
				if d := math.Abs(got[i] - w); !(d <= 1e-9*w) {
					t.Errorf("%v: loss %v of step %d, on the CPU %v", c.Kind, got[i], i, w)
				}
			}
			oracle.Close64(t, gotGrads, oracle.Tol{Abs: 1e-11}, func(i int) float64 { return grads[i] })
		}
	})
}

package codec_test

import (
	"math"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/internal/oracle/device"
	"github.com/fidlab/fidlab/nn"
)

// Steps of training come to the same on every device: the losses of three, and all gradients of the
// first.
func TestTrainingOnDevices(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		if !dev.CUDA() {
			return
		}
		losses, grads := map[string][]float64{}, map[string][]float64{}
		for _, d := range []*gpu.Device{gpu.CPU(), dev} {
			for name, m := range small(d, gpu.Float64) {
				fill(m.net)
				n := 1
				for _, s := range m.shape {
					n *= s
				}
				x := d.FromAs(gpu.Float64, oracle.Normal(1, n), m.shape...)
				tape, opt := nn.NewTape(d, gpu.Float64), nn.NewAdam(m.net, nn.AdamOptions{})
				var got, first []float64
				for step := range 3 {
					tape.Run(func() {
						_, l := m.loss(tape.Input(x), true)
						l = l.Mean()
						tape.Backward(l)
						got = append(got, l.Item())
					})
					for _, p := range m.net.All() {
						if step > 0 || p.Frozen {
							continue
						}
						g := make([]float64, p.Grad().Len())
						if err := p.Grad().Read64(g); err != nil {
							t.Fatal(err)
						}
						first = append(first, g...)
					}
					opt.Step(1e-3)
				}
				if !d.CUDA() {
					losses[name], grads[name] = got, first
					continue
				}
				for i, w := range losses[name] {
					if d := math.Abs(got[i] - w); !(d <= 1e-9*math.Abs(w)) {
						t.Errorf("%s: loss %v of step %d, on the CPU %v", name, got[i], i, w)
					}
				}
				oracle.Close64(t, first, oracle.Tol{Abs: 1e-10}, func(i int) float64 { return grads[name][i] })
			}
		}
	})
}

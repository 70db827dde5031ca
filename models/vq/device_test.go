package vq_test

import (
	"slices"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/internal/oracle/device"
	"github.com/fidlab/fidlab/models/vq"
	"github.com/fidlab/fidlab/nn"
)

// A book of averages learns the same codes from vectors on every device: begun at a batch, moved, and begun anew where unused.
func TestAveragesOnDevices(t *testing.T) {
	for _, dt := range []gpu.DType{gpu.Float32, gpu.Float64} {
		var want []float64
		device.Each(t, func(t *testing.T, dev *gpu.Device) {
			net := nn.NewParams(dev, dt)
			c := vq.Config{Codes: 6, Width: 3, Average: true, Decay: 0.5, ResetEvery: 2, Start: vq.KMeans, Seed: 4}
			b := vq.New(net.At("quantize"), c)
			net.At("other").Param("weight", nn.Ones, 1)
			net.Init(3)
			tape := nn.NewTape(dev, dt)
			var got []float64
			for step := range 4 {
				x := dev.FromAs(dt, oracle.Normal(uint64(step), 20*3), 20, 3)
				tape.Run(func() {
					q := b.Quantize(tape.Input(x), true)
					b.Update(q)
					got = append(got, q.Loss.Item())
				})
				codes := make([]float64, 18)
				if err := b.Weight().Read64(codes); err != nil {
					t.Fatal(err)
				}
				got = append(got, codes...)
			}
			if !dev.CUDA() {
				want = slices.Clone(got)
				return
			}
			tol := oracle.Tol{Abs: 1e-12}
			if dt == gpu.Float32 {
				tol = oracle.Tol{Abs: 1e-6}
			}
			oracle.Close64(t, got, tol, func(i int) float64 { return want[i] })
		})
	}
}

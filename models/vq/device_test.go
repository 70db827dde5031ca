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

// Residual books choose the same codes on every device, and decode them, absent ones too.
func TestResidualsOnDevices(t *testing.T) {
	var want []float64
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		net := nn.NewParams(dev, gpu.Float64)
		r := vq.NewResidual(net.At(""), vq.ResidualConfig{Levels: 3, Tau: 0.5, Book: vq.Config{Codes: 7, Width: 2, Average: true, Start: vq.FirstBatch}})
		net.At("other").Param("weight", nn.Ones, 1)
		net.Init(3)
		tape := nn.NewTape(dev, gpu.Float64)
		var got []float64
		add := func(v *nn.Var) {
			x := make([]float64, v.Value().Len())
			if err := v.Value().Read64(x); err != nil {
				t.Fatal(err)
			}
			got = append(got, x...)
		}
		for step := range uint64(3) {
			x := dev.FromAs(gpu.Float64, oracle.Normal(step, 12*2), 12, 2)
			tape.Run(func() {
				q := r.Quantize(tape.Input(x), true, step)
				r.Update(q)
				add(q.Codes)
				for _, k := range q.Index.I32() {
					got = append(got, float64(k))
				}
			})
		}
		tape.Run(func() { add(r.Decode(tape, gpu.CPU().FromInt32([]int32{1, -1, 6, 0, 2, -1}, 2, 3), 3)) })
		if want == nil {
			want = slices.Clone(got)
		}
		if len(got) != 3*12*(2+3)+4 {
			t.Errorf("%d numbers, want %d: there are indices on the CPU", len(got), 3*12*(2+3)+4)
		}
		oracle.Close64(t, got, oracle.Tol{Abs: 1e-12}, func(i int) float64 { return want[i] })
	})
}

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

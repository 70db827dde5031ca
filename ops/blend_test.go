package ops_test

import (
	"math"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle/device"
	"github.com/fidlab/fidlab/ops"
)

func TestBlend(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		for _, dt := range linearDTypes {
			for _, n := range []int{0, 1, 7, 255, 1024, 1025, 40000} {
				a, av := linearInput(t, dev, dt, 1, n)
				b, bv := linearInput(t, dev, dt, 2, n)
				m, _ := linearInput(t, dev, dt, 3, n)
				mask := make([]float32, n)
				for i := range mask {
					mask[i] = []float32{0, 0.25, 0.75, 1}[i%4] // exact in every dtype
				}
				m.Copy(dev.FromAs(dt, mask, n))
				if n > 300 { // where the mask is whole, the other side does not count: elements 0 and 3
					av[0], bv[3] = math.NaN(), math.Inf(1)
					a.Rows(0, 1).Copy(dev.FromAs(dt, []float32{float32(math.NaN())}, 1))
					b.Rows(3, 4).Copy(dev.FromAs(dt, []float32{float32(math.Inf(1))}, 1))
				}
				out := a.Like()
				check := func(out *gpu.Tensor) {
					t.Helper()
					for i, got := range read64(t, out) {
						s := float64(mask[i])
						want := av[i]
						switch s {
						case 0:
							want = bv[i]
						case 0.25, 0.75:
							want = s*av[i] + (1-s)*bv[i]
						}
						bound := linearUnit(dt)*math.Abs(want) + linearLeast(dt) + 0x1p-52*(math.Abs(av[i])+math.Abs(bv[i]))
						if s == 0 || s == 1 {
							bound = 0
						}
						if !(math.Abs(got-want) <= bound) {
							t.Fatalf("%v n=%d: element %d is %v, want %v", dt, n, i, got, want)
						}
					}
				}
				ops.Blend(out, m, a, b)
				check(out)
				ops.Blend(b, m, a, b)
				check(b)
			}
		}
	})
}

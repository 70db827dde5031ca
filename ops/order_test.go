package ops_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle/device"
	"github.com/fidlab/fidlab/ops"
)

// orderSizes have one lane and many, on both sides of a block's edge.
var orderSizes = [][3]int{{1, 1, 1}, {1, 300, 1}, {255, 2, 1}, {256, 3, 1}, {257, 7, 1}, {1, 5, 255}, {2, 6, 128}, {3, 9, 171}, {2, 1, 1025}, {0, 3, 2}, {2, 3, 0}}

func TestCumSumOnDevices(t *testing.T) {
	eachWidth(t, func(t *testing.T, dev *gpu.Device, double, odd bool) {
		r := rand.New(rand.NewPCG(61, 62))
		for _, s := range orderSizes {
			n := s[0] * s[1] * s[2]
			xv, old := stored(r, double, n, 1), stored(r, double, n, 1)
			for k := range 4 { // with acc, reverse
				x, out := placed(dev, double, odd, xv, s[:]...), placed(dev, double, odd, old, s[:]...)
				ops.CumSum(out, x, 1, k&2 == 2, k&1 == 1)
				for i, got := range values(t, out) {
					var sum float64 // in the axis' order, so that the bits are those of the operation
					step, at := s[2], i/(s[1]*s[2])*s[1]*s[2]+i%s[2]
					if k&2 == 2 {
						step, at = -step, at+(s[1]-1)*step
					}
					for at != i {
						sum += xv[at]
						at += step
					}
					sum += xv[i]
					if !double {
						sum = float64(float32(sum))
					}
					if k&1 == 1 {
						sum += old[i]
					}
					if !double {
						sum = float64(float32(sum))
					}
					if got != sum {
						t.Fatalf("%v, case %d: element %d is %v, want %v", s, k, i, got, sum)
					}
				}
			}
		}
	})
}

func TestFlipOnDevices(t *testing.T) {
	eachWidth(t, func(t *testing.T, dev *gpu.Device, double, odd bool) {
		r := rand.New(rand.NewPCG(63, 64))
		for _, s := range orderSizes {
			n := s[0] * s[1] * s[2]
			xv, old := stored(r, double, n, 1), stored(r, double, n, 1)
			for _, acc := range []bool{false, true} {
				x, out := placed(dev, double, odd, xv, s[:]...), placed(dev, double, odd, old, s[:]...)
				ops.Flip(out, x, 1, acc)
				for i, got := range values(t, out) {
					want := xv[i/(s[1]*s[2])*s[1]*s[2]+(s[1]-1-i/s[2]%s[1])*s[2]+i%s[2]]
					if acc {
						want += old[i]
						if !double {
							want = float64(float32(want))
						}
					}
					if got != want {
						t.Fatalf("%v, acc %t: element %d is %v, want %v", s, acc, i, got, want)
					}
				}
			}
		}
	})
}

func TestOrderMisuse(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		x, y := dev.Empty(3, 4), dev.Empty(4, 3)
		for want, f := range map[string]func(){
			"ops: CumSum: shapes [3 4] and [4 3] (operand 1) differ": func() { ops.CumSum(x, y, 0, false, false) },
			"ops: CumSum: axis 2 of shape [3 4]":                     func() { ops.CumSum(x, x, 2, false, false) },
			"ops: Flip: axis -1 of shape [3 4]":                      func() { ops.Flip(dev.Empty(3, 4), x, -1, false) },
			"ops: Flip: operand 1 is int32, the first float32, want float32 or float64 for all": func() {
				ops.Flip(x, dev.New(gpu.Int32, 3, 4), 0, false)
			},
		} {
			func() {
				defer func() {
					if v := fmt.Sprint(recover()); v != want {
						t.Errorf("panic %q, want %q", v, want)
					}
				}()
				f()
			}()
		}
	})
}

// Ones at places that are on the CPU and on the device.
func TestOneHotOnDevices(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		for _, dt := range realDTypes {
			for _, s := range [][2]int{{1, 1}, {3, 7}, {300, 5}, {0, 4}} {
				places, want := make([]int32, s[0]), make([]float64, s[0]*s[1])
				for r := range places {
					places[r] = int32(r * r % s[1])
					want[r*s[1]+int(places[r])] = 1
				}
				for _, at := range []*gpu.Tensor{gpu.CPU().FromInt32(places, s[0]), dev.FromInt32(places, s[0])} {
					out := dev.New(dt, s[0], s[1])
					ops.Fill(out, math.NaN())
					ops.OneHot(out, at)
					sameValues(t, fmt.Sprint(dt, s), read64(t, out), want)
				}
			}
		}
		mustPanic(t, "type", "ops: OneHot: places are float32, want int32", func() { ops.OneHot(dev.Empty(2, 3), gpu.CPU().Empty(2)) })
		mustPanic(t, "range", "ops: OneHot: place 3 of row 1, want 0 to 2", func() { ops.OneHot(dev.Empty(2, 3), gpu.CPU().FromInt32([]int32{0, 3}, 2)) })
	})
}

package ops_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle/device"
	"github.com/fidlab/fidlab/ops"
	"github.com/fidlab/fidlab/rng"
)

func TestGatedOnDevices(t *testing.T) {
	eachWidth(t, func(t *testing.T, dev *gpu.Device, double, odd bool) {
		r := rand.New(rand.NewPCG(51, 52))
		for k, c := range functions {
			for _, s := range [][2]int{{5, 12}, {3, 7}, {40, 32}, {1, 1}, {2, 1030}, {0, 4}} {
				if k > 3 && s[0] > 3 { // sizes are the same for all functions
					continue
				}
				rows, d, second := s[0], s[1], k%2 == 1
				n := rows * d
				xv, gv := stored(r, double, 2*n, 3), stored(r, double, n, 1)
				for i := range xv {
					if c.start != nil {
						xv[i] = c.start(xv[i])
						if !double {
							xv[i] = float64(float32(xv[i]))
						}
					}
				}
				gate, value := 0, d
				if second {
					gate, value = d, 0
				}
				u := func(i int) float64 { return xv[i/d*2*d+gate+i%d] }
				v := func(i int) float64 { return xv[i/d*2*d+value+i%d] }
				x, g, out := placed(dev, double, odd, xv, rows, 2*d), placed(dev, double, odd, gv, rows, d), placed(dev, double, odd, gv, rows, d)
				ops.Gated(out, x, c.f, second)
				size := func(i int) float64 {
					return math.Abs(c.at(u(i))) + moved(c.at, u(i)) + 0.1*math.Min(1, math.Abs(u(i)))
				}
				closeTo(t, values(t, out), double, 6, func(i int) float64 { return c.at(u(i)) * v(i) }, func(i int) float64 { return size(i) * math.Abs(v(i)) })
				dx := placed(dev, double, odd, xv, rows, 2*d)
				ops.GatedBackward(dx, x, g, c.f, second)
				got := values(t, dx)
				du, dv := make([]float64, n), make([]float64, n)
				for i := range n {
					du[i], dv[i] = got[i/d*2*d+gate+i%d], got[i/d*2*d+value+i%d]
				}
				closeTo(t, dv, double, 6, func(i int) float64 { return c.at(u(i)) * gv[i] }, func(i int) float64 { return size(i) * math.Abs(gv[i]) })
				closeTo(t, du, double, 9, func(i int) float64 { return c.slope(u(i)) * gv[i] * v(i) }, func(i int) float64 {
					s := math.Abs(c.slope(u(i))) + moved(c.slope, u(i)) + 0.5
					if c.f == ops.GELUTanh && !dev.CUDA() { // the CPU's 1 - σ is a difference, times 0.2·x³
						s += 0.1 * math.Abs(u(i)*u(i)*u(i))
					}
					return s * math.Abs(gv[i]*v(i))
				})
				if t.Failed() {
					t.Fatalf("%v, %d rows of %d, second %t", c.f, rows, d, second)
				}
			}
		}
	})
}

func TestWavesOnDevices(t *testing.T) {
	eachWidth(t, func(t *testing.T, dev *gpu.Device, double, odd bool) {
		r := rand.New(rand.NewPCG(53, 54))
		for _, c := range []ops.WaveConfig{{Width: 2}, {Width: 64}, {Width: 130, CosFirst: true, Shift: 1}, {Width: 12, Scale: 1000, Period: 100}} {
			for _, n := range []int{0, 1, 9, 70} {
				tv, gv, old := stored(r, double, n, 20), stored(r, double, n*c.Width, 1), stored(r, double, n, 1)
				x, g := placed(dev, double, odd, tv, n), placed(dev, double, odd, gv, n, c.Width)
				out, dt := placed(dev, double, odd, gv, n, c.Width), placed(dev, double, odd, old, n)
				ops.Waves(out, x, c)
				ops.WavesBackward(dt, g, x, c)
				w := c.Frequencies()
				half := c.Width / 2
				// The frequency is within a few units of float64, so is the angle.
				at := func(i int) (angle float64, sine bool) {
					j := i % c.Width
					return tv[i/c.Width] * w[j%half], (j < half) != c.CosFirst
				}
				closeTo(t, values(t, out), double, 4, func(i int) float64 {
					a, sine := at(i)
					if sine {
						return math.Sin(a)
					}
					return math.Cos(a)
				}, func(i int) float64 {
					a, _ := at(i)
					if double {
						return 1 + math.Abs(a)
					}
					return 1
				})
				slope := func(i int, f func(w, byAngle float64) float64) (s float64) {
					for j := range c.Width {
						a, sine := at(i*c.Width + j)
						d := math.Cos(a)
						if !sine {
							d = -math.Sin(a)
						}
						s += f(w[j%half], gv[i*c.Width+j]*d)
					}
					return s
				}
				closeTo(t, values(t, dt), double, 4, func(i int) float64 { return old[i] + slope(i, func(w, d float64) float64 { return w * d }) }, func(i int) float64 {
					return math.Abs(old[i]) + slope(i, func(w, d float64) float64 { return w * (math.Abs(d) + 1e-2 + math.Abs(w*tv[i])) })
				})
				if t.Failed() {
					t.Fatalf("%+v, %d numbers", c, n)
				}
			}
		}
	})
}

// The mask is where the operands are, or on the CPU.
func TestMaskedFillOnDevices(t *testing.T) {
	eachWidth(t, func(t *testing.T, dev *gpu.Device, double, odd bool) {
		r := rand.New(rand.NewPCG(55, 56))
		for _, s := range repeats {
			bits := make([]uint8, count(s.b))
			for i := range bits {
				bits[i] = uint8(r.IntN(3))
			}
			xv, old := stored(r, double, count(s.out), 1), stored(r, double, count(s.out), 1)
			for k := range 4 { // with acc, with the mask on the device
				x, out, mask := placed(dev, double, odd, xv, s.out...), placed(dev, double, odd, old, s.out...), gpu.CPU().FromUint8(bits, s.b...)
				if k&2 == 2 {
					mask = mask.To(dev)
				}
				ops.MaskedFill(out, x, mask, 2.5, k&1 == 1)
				for i, got := range values(t, out) {
					want := xv[i]
					if bits[placeIn(i, s.out, s.b)] != 0 {
						want = 2.5
					}
					if k&1 == 1 {
						want += old[i]
						if !double {
							want = float64(float32(want))
						}
					}
					if got != want {
						t.Fatalf("mask %v of %v, %d: element %d is %v, want %v", s.b, s.out, k, i, got, want)
					}
				}
			}
		}
	})
}

func TestAbove(t *testing.T) {
	eachWidth(t, func(t *testing.T, dev *gpu.Device, double, odd bool) {
		r := rand.New(rand.NewPCG(57, 58))
		for _, n := range elementSizes {
			v := stored(r, double, n, 1)
			for i := range v {
				if i%5 == 0 {
					v[i] = 0.5
				}
				if i%7 == 6 {
					v[i] = math.NaN()
				}
			}
			x := placed(dev, double, odd, v, n)
			ops.Above(x, x, 0.5)
			for i, got := range values(t, x) {
				if want := map[bool]float64{true: 1}[v[i] > 0.5]; got != want {
					t.Fatalf("%v is %v, want %v", v[i], got, want)
				}
			}
		}
	})
}

// Draws are rng's, by the words they are made of; a row's depend on no other row.
func TestGumbelsOnDevices(t *testing.T) {
	eachWidth(t, func(t *testing.T, dev *gpu.Device, double, odd bool) {
		for _, s := range [][]int{{1, 1}, {3, 5}, {2, 511}, {2, 512}, {2, 1025}, {4, 0}, {2, 3, 7}} {
			for _, z := range []ops.Noise{{Seed: 1}, {Seed: 5, Stream: 9, From: 3}, {Seed: 1 << 50, Stream: 1 << 40, From: 1<<33 + 1}} {
				for _, logistic := range []bool{false, true} {
					n := count(s)
					out := placed(dev, double, odd, make([]float64, n), s...)
					ops.Gumbels(out, z, logistic)
					want := make([]float64, n)
					for i := range want {
						row := i / (n / s[0])
						g := rng.New(z.Seed, z.Stream+uint64(row))
						k := 2 * (z.From + uint64(i%(n/s[0])))
						u := (float64((uint64(g.Uint32At(k+1))<<32|uint64(g.Uint32At(k)))>>12) + 0.5) * 0x1p-52
						want[i] = -math.Log(-math.Log(u))
						if logistic {
							want[i] = math.Log(u / (1 - u))
						}
					}
					// Near 1 the inner logarithm is small and exact; near 0 of the outer one errors are absolute.
					closeTo(t, values(t, out), double, 2, func(i int) float64 { return want[i] }, func(i int) float64 { return math.Abs(want[i]) + 1 })
					if t.Failed() {
						t.Fatalf("%v, %+v, logistic %t", s, z, logistic)
					}
				}
			}
		}
	})
}

func TestGatesAndMasksMisuse(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		x, y := dev.Empty(3, 4), dev.Empty(3, 2)
		for want, f := range map[string]func(){
			"ops: Gated: a result of shape [3 4] of x of shape [3 2], want the same but for a last axis of half the size": func() { ops.Gated(x, y, ops.SiLU, false) },
			"ops: Waves: width 3 with shift 0, want an even width and half of it above the shift":                         func() { ops.Waves(x, y, ops.WaveConfig{Width: 3}) },
			"ops: MaskedFill: shape [5] of operand 0 does not repeat to [3 4]":                                            func() { ops.MaskedFill(x, x, gpu.CPU().FromUint8(make([]uint8, 5), 5), 0, false) },
			"ops: Above: shapes [3 4] and [3 2] (operand 1) differ":                                                       func() { ops.Above(x, y, 0) },
			"ops: Gumbels: the output has no rows; want shape [B, ...]":                                                   func() { ops.Gumbels(dev.Empty(), ops.Noise{}, false) },
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

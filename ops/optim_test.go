package ops_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle/device"
	"github.com/fidlab/fidlab/ops"
	"github.com/fidlab/fidlab/rng"
)

// slab is a set of tensors of one length with their values.
type slab struct {
	t []*gpu.Tensor
	v [][]float64
}

func newSlab(r *rand.Rand, dev *gpu.Device, double, odd bool, k, n int) (s slab) {
	for i := range k {
		v := stored(r, double, n, 1)
		if i == 2 && k == 4 { // Adam's second moment
			for j := range v {
				v[j] *= v[j]
				if !double {
					v[j] = float64(float32(v[j]))
				}
			}
		}
		s.v = append(s.v, v)
		s.t = append(s.t, placed(dev, double, odd, v, n))
	}
	return s
}

// check holds tensor k against want within lo to hi, and against what was there elsewhere.
func (s *slab) check(t *testing.T, name string, double bool, k, lo, hi int, want, scale func(i int) float64) {
	t.Helper()
	got := values(t, s.t[k])
	for i, v := range got {
		if (i < lo || i >= hi) && v != s.v[k][i] {
			t.Fatalf("%s: element %d outside %d to %d is %v, was %v", name, i, lo, hi, v, s.v[k][i])
		}
	}
	closeTo(t, got[lo:hi], double, 6, func(i int) float64 { return want(lo + i) }, func(i int) float64 { return scale(lo + i) })
	if t.Failed() {
		t.Fatalf("%s: tensor %d, elements %d to %d", name, k, lo, hi)
	}
}

var spans = []struct{ n, lo, hi int }{{1, 0, 1}, {5, 0, 5}, {5, 2, 2}, {2000, 0, 2000}, {2000, 16, 1100}, {2000, 3, 1030}}

func TestAdam(t *testing.T) {
	eachWidth(t, func(t *testing.T, dev *gpu.Device, double, odd bool) {
		r := rand.New(rand.NewPCG(41, 42))
		for _, s := range spans {
			for _, c := range []ops.AdamConfig{
				{Scale: 1, Beta1: 0.9, Beta2: 0.999, Step: 0.01, Root: 3, Eps: 1e-8, Keep: 1},
				{Scale: 0.5, L2: 0.1, Beta1: 0.8, Beta2: 0.95, Step: 0.02, Root: 1, Eps: 0.5, Keep: 0.99},
				{Scale: 1, Beta1: 0.9, Beta2: 0.999, Step: 0.01, Root: 0, Eps: 1, Keep: 1}, // RAdam's first steps
			} {
				x := newSlab(r, dev, double, odd, 4, s.n)
				twin := newSlab(r, gpu.CPU(), double, false, 4, s.n)
				for k := range twin.t {
					twin.t[k].Copy(x.t[k])
				}
				ops.Adam(x.t[0], x.t[1], x.t[2], x.t[3], s.lo, s.hi, c)
				d := func(i int) float64 { return c.Scale*x.v[3][i] + c.L2*x.v[0][i] }
				m := func(i int) float64 { return c.Beta1*x.v[1][i] + (1-c.Beta1)*d(i) }
				v := func(i int) float64 { return c.Beta2*x.v[2][i] + (1-c.Beta2)*d(i)*d(i) }
				size := func(i int) float64 { return math.Abs(c.Scale*x.v[3][i]) + math.Abs(c.L2*x.v[0][i]) }
				mSize := func(i int) float64 { return c.Beta1*math.Abs(x.v[1][i]) + (1-c.Beta1)*size(i) }
				x.check(t, "m", double, 1, s.lo, s.hi, m, mSize)
				// 1 - Beta2 is odd by half a unit of 1.
				x.check(t, "v", double, 2, s.lo, s.hi, v, func(i int) float64 { return v(i) + size(i)*size(i) })
				move := func(i int, m float64) float64 { return c.Step * m / (math.Sqrt(v(i))*c.Root + c.Eps) }
				x.check(t, "p", double, 0, s.lo, s.hi, func(i int) float64 { return c.Keep*x.v[0][i] - move(i, m(i)) }, func(i int) float64 {
					return math.Abs(x.v[0][i]) + move(i, mSize(i))*(1+size(i)*size(i)/(v(i)+1e-300))
				})
				x.check(t, "gradient", double, 3, s.lo, s.hi, func(i int) float64 { return x.v[3][i] }, func(int) float64 { return 0 })
				if double { // the plain Go has the same bits
					ops.Adam(twin.t[0], twin.t[1], twin.t[2], twin.t[3], s.lo, s.hi, c)
					sameBits(t, "Adam", x, twin)
				}
			}
		}
	})
}

func sameBits(t *testing.T, op string, a, b slab) {
	t.Helper()
	for k := range a.t {
		if fmt.Sprint(values(t, a.t[k])) != fmt.Sprint(values(t, b.t[k])) {
			t.Fatalf("%s: tensor %d has other bits than on the CPU", op, k)
		}
	}
}

func TestLion(t *testing.T) {
	eachWidth(t, func(t *testing.T, dev *gpu.Device, double, odd bool) {
		r := rand.New(rand.NewPCG(43, 44))
		for _, s := range spans {
			c := ops.LionConfig{Scale: 0.5, Beta1: 0.9, Beta2: 0.99, LR: 0.01, Keep: 0.998}
			x, twin := newSlab(r, dev, double, odd, 3, s.n), newSlab(r, gpu.CPU(), double, false, 3, s.n)
			x.v[1][0], x.v[2][0] = 0, 0 // no step either way
			for k := range x.t {
				x.t[k] = placed(dev, double, odd, x.v[k], s.n)
				twin.t[k].Copy(x.t[k])
			}
			ops.Lion(x.t[0], x.t[1], x.t[2], s.lo, s.hi, c)
			x.check(t, "p", double, 0, s.lo, s.hi, func(i int) float64 {
				u, step := c.Beta1*x.v[1][i]+(1-c.Beta1)*c.Scale*x.v[2][i], 0.0
				if u != 0 {
					step = math.Copysign(c.LR, u)
				}
				return c.Keep*x.v[0][i] - step
			}, func(i int) float64 { return math.Abs(x.v[0][i]) + c.LR })
			x.check(t, "m", double, 1, s.lo, s.hi, func(i int) float64 { return c.Beta2*x.v[1][i] + (1-c.Beta2)*c.Scale*x.v[2][i] },
				func(i int) float64 { return math.Abs(x.v[1][i]) + math.Abs(x.v[2][i]) })
			if double {
				ops.Lion(twin.t[0], twin.t[1], twin.t[2], s.lo, s.hi, c)
				sameBits(t, "Lion", x, twin)
			}
		}
	})
}

// With a momentum of bfloat16: within half a unit of its last place of the formula, and the same bits on all devices.
func TestLionNarrow(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		r := rand.New(rand.NewPCG(47, 48))
		for _, s := range spans {
			for skip := range 2 {
				c := ops.LionConfig{Scale: 0.5, Beta1: 0.9, Beta2: 0.99, LR: 0.01, Keep: 0.998}
				p, m, g := stored(r, false, s.n, 1), make([]float64, s.n), stored(r, false, s.n, 1)
				for i, v := range stored(r, false, s.n, 1) {
					m[i] = float64(gpu.BF16ToFloat(gpu.FloatToBF16(float32(v))))
				}
				m[0], g[0] = 0, 0 // no step either way
				make3 := func(dev *gpu.Device) (pt, mt, gt *gpu.Tensor) {
					narrow := dev.FromAs(gpu.BFloat16, float32s(append(make([]float64, skip), m...)), skip+s.n)
					return placed(dev, false, skip > 0, p, s.n), narrow.Rows(skip, skip+s.n), placed(dev, false, skip > 0, g, s.n)
				}
				pt, mt, gt := make3(dev)
				ops.Lion(pt, mt, gt, s.lo, s.hi, c)
				gotP, gotM := values(t, pt), values(t, mt)
				for i := range s.n {
					wantP, wantM, offP, offM := p[i], m[i], 0.0, 0.0
					if i >= s.lo && i < s.hi {
						d, step := c.Scale*g[i], 0.0
						if u := c.Beta1*m[i] + (1-c.Beta1)*d; u != 0 {
							step = math.Copysign(c.LR, u)
						}
						wantP, wantM = c.Keep*p[i]-step, c.Beta2*m[i]+(1-c.Beta2)*d
						offP, offM = 0x1p-22*(math.Abs(p[i])+c.LR), 0x1p-8*math.Abs(wantM)+0x1p-22*(math.Abs(m[i])+math.Abs(d))
					}
					if math.Abs(gotP[i]-wantP) > offP || math.Abs(gotM[i]-wantM) > offM {
						t.Fatalf("%d to %d of %d, skipping %d: element %d is %v with momentum %v, want %v and %v", s.lo, s.hi, s.n, skip, i, gotP[i], gotM[i], wantP, wantM)
					}
				}
				p2, m2, g2 := make3(gpu.CPU())
				ops.Lion(p2, m2, g2, s.lo, s.hi, c)
				if !slices.Equal(values(t, p2), gotP) || !slices.Equal(values(t, m2), gotM) {
					t.Fatalf("%d to %d of %d, skipping %d: other bits than on the CPU", s.lo, s.hi, s.n, skip)
				}
			}
		}
	})
	for name, f := range map[string]func(){
		"want as many float32": func() {
			d := gpu.CPU()
			ops.Lion(d.Zeros(gpu.Float64, 3), d.Zeros(gpu.BFloat16, 3), d.Zeros(gpu.Float64, 3), 0, 3, ops.LionConfig{})
		},
		"the momentum 2 of": func() {
			d := gpu.CPU()
			ops.Lion(d.Zeros(gpu.Float32, 3), d.Zeros(gpu.BFloat16, 2), d.Zeros(gpu.Float32, 3), 0, 2, ops.LionConfig{})
		},
	} {
		mustPanic(t, "Lion", name, f)
	}
}

func TestSGD(t *testing.T) {
	eachWidth(t, func(t *testing.T, dev *gpu.Device, double, odd bool) {
		r := rand.New(rand.NewPCG(45, 46))
		for _, s := range spans {
			for _, c := range []ops.SGDConfig{{LR: 0.1}, {LR: 0.1, Decay: 0.2}, {LR: 0.1, Momentum: 0.9, Decay: 0.01}, {LR: 0.1, Momentum: 0.9, Nesterov: true}} {
				x := newSlab(r, dev, double, odd, 3, s.n)
				v := x.t[1]
				if c.Momentum == 0 {
					v = nil
				}
				ops.SGD(x.t[0], v, x.t[2], s.lo, s.hi, c)
				d := func(i int) float64 { return x.v[2][i] + c.Decay*x.v[0][i] }
				speed := func(i int) float64 { return c.Momentum*x.v[1][i] + d(i) }
				size := func(i int) float64 { return math.Abs(x.v[0][i]) + math.Abs(x.v[1][i]) + math.Abs(x.v[2][i]) }
				x.check(t, "p", double, 0, s.lo, s.hi, func(i int) float64 {
					step := d(i)
					if v != nil {
						step = speed(i)
					}
					if c.Nesterov {
						step = d(i) + c.Momentum*speed(i)
					}
					return x.v[0][i] - c.LR*step
				}, size)
				if v != nil {
					x.check(t, "v", double, 1, s.lo, s.hi, speed, size)
				}
			}
		}
	})
}

// Element i goes where word From+i of the stream is below P·2^32; the rest is x/(1-P) in the dtype, to the bit.
func TestDropout(t *testing.T) {
	eachWidth(t, func(t *testing.T, dev *gpu.Device, double, odd bool) {
		r := rand.New(rand.NewPCG(47, 48))
		for _, n := range []int{0, 1, 7, 1024, 1027, 3001} {
			for _, m := range []ops.Mask{{Seed: 1, P: 0.5}, {Seed: 1 << 40, Stream: 7, From: 4096, P: 0.25}, {Seed: 3, Stream: 1 << 50, From: 1<<34 + 5, P: 0.9}, {From: 2}, {Seed: 9, From: 3, P: 0.1}} {
				xv, old := stored(r, double, n, 1), stored(r, double, n, 1)
				words := rng.New(m.Seed, m.Stream)
				for _, acc := range []bool{false, true} {
					x, out := placed(dev, double, odd, xv, n), placed(dev, double, odd, old, n)
					ops.Dropout(out, x, m, acc)
					for i, got := range values(t, out) {
						want := xv[i] * (1 / (1 - m.P))
						if !double {
							want = float64(float32(xv[i]) * float32(1/(1-m.P)))
						}
						if float64(words.Uint32At(m.From+uint64(i))) < math.Round(m.P*0x1p32) {
							want = 0
						}
						if acc && double {
							want += old[i]
						} else if acc {
							want = float64(float32(want) + float32(old[i]))
						}
						if got != want {
							t.Fatalf("%+v, acc %t: element %d of %d is %v, want %v", m, acc, i, n, got, want)
						}
					}
					if !acc {
						ops.Dropout(x, x, m, false)
						if fmt.Sprint(values(t, x)) != fmt.Sprint(values(t, out)) {
							t.Fatalf("in place the results are others")
						}
					}
				}
			}
		}
	})
}

// Optimisers refuse tensors of other lengths and devices and spans that are not there, on every device.
func TestOptimisersMisuse(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		x, y, d := dev.Empty(4), dev.Empty(3), dev.Empty64(4)
		for want, f := range map[string]func(){
			"ops: Adam: operand 1 has 3 elements, the parameters 4":                               func() { ops.Adam(x, y, x, x, 0, 4, ops.AdamConfig{}) },
			"ops: Lion: elements 2 to 5 of 4":                                                     func() { ops.Lion(x, x, x, 2, 5, ops.LionConfig{}) },
			"ops: SGD: operand 1 has 3 elements, the parameters 4":                                func() { ops.SGD(x, y, x, 0, 4, ops.SGDConfig{}) },
			"ops: Lion: operand 2 is float64, the first float32, want float32 or float64 for all": func() { ops.Lion(x, x, d, 0, 4, ops.LionConfig{}) },
			"ops: Dropout: share 1 of elements, want 0 <= share < 1":                              func() { ops.Dropout(x, x, ops.Mask{P: 1}, false) },
			"ops: Dropout: shapes [4] and [3] (operand 1) differ":                                 func() { ops.Dropout(x, y, ops.Mask{}, false) },
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

package ops_test

import (
	"math"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/internal/oracle/device"
	"github.com/fidlab/fidlab/ops"
)

// pairSumsByDefinition adds up all values in the order of the columns; size is the sum of their absolute values and of what rounding of a
// product can change them by, for each unit of rounding of it.
func pairSumsByDefinition(x, y []float64, d int, cubic bool, scale, shift float64, apart bool) (sum, slack []float64) {
	n, m := len(x)/d, len(y)/d
	sum, slack = make([]float64, n), make([]float64, n)
	for i := range n {
		for j := range m {
			if apart && i == j {
				continue
			}
			var dot, abs, far float64
			for c := range d {
				a, b := x[i*d+c], y[j*d+c]
				dot, abs, far = dot+a*b, abs+math.Abs(a*b), far+(a-b)*(a-b)
			}
			if cubic {
				u := scale*dot + shift
				sum[i] += u * u * u
				slack[i] += 3 * u * u * math.Abs(scale) * abs
			} else {
				v := math.Exp(-scale * far)
				sum[i] += v
				slack[i] += 2 * scale * v * abs
			}
		}
	}
	return sum, slack
}

// Sums are those of the definition within what rounding of the products allows, in both dtypes and on every device, for sizes that fill tiles
// and pieces and that do not.
func TestPairSums(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		cases := 0
		for _, s := range [][3]int{{1, 1, 1}, {3, 70, 5}, {64, 64, 16}, {65, 300, 33}, {200, 129, 8}, {130, 130, 40}} {
			n, m, d := s[0], s[1], s[2]
			for _, dt := range []gpu.DType{gpu.Float32, gpu.Float64} {
				for _, cubic := range []bool{true, false} {
					for _, apart := range []bool{false, true} {
						if apart && n != m {
							continue
						}
						x, y := dev.FromAs(dt, oracle.Normal(1, n*d), n, d), dev.FromAs(dt, oracle.Normal(2, m*d), m, d)
						scale, shift := 1/float64(d), 1.
						k := ops.CubicKernel(scale, shift)
						if !cubic {
							k = ops.NormalKernel(scale)
						}
						out := dev.Empty64(n)
						ops.Fill(out, math.NaN()) // whatever was there
						ops.PairSums(out, x, y, k, apart)
						got := make([]float64, n)
						if err := out.Read64(got); err != nil {
							t.Fatal(err)
						}
						a, b := make([]float64, n*d), make([]float64, m*d)
						if err := x.Read64(a); err != nil {
							t.Fatal(err)
						}
						if err := y.Read64(b); err != nil {
							t.Fatal(err)
						}
						want, slack := pairSumsByDefinition(a, b, d, cubic, scale, shift, apart)
						unit := 0x1p-24
						if dt == gpu.Float64 {
							unit = 0x1p-53
						}
						for i := range want {
							if tol := 18*unit*slack[i] + 1e-13*(math.Abs(want[i])+float64(m)); math.Abs(got[i]-want[i]) > tol {
								t.Errorf("%v, %v, cubic %t, apart %t: sum %d is %.15g, want %.15g within %.2g", s, dt, cubic, apart, i, got[i], want[i], tol)
							}
						}
						cases++
					}
				}
			}
		}
		if cases != 6*4+3*4 {
			t.Errorf("%d cases", cases)
		}
	})
}

// A row's sum with itself is what the other form has and this one has not, and sums of nothing are zero.
func TestPairSumsApart(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		const n, d = 70, 3
		x := dev.FromAs(gpu.Float64, oracle.Normal(3, n*d), n, d)
		all, apart := dev.Empty64(n), dev.Empty64(n)
		ops.PairSums(all, x, x, ops.NormalKernel(0.5), false)
		ops.PairSums(apart, x, x, ops.NormalKernel(0.5), true)
		a, b := make([]float64, n), make([]float64, n)
		if err := all.Read64(a); err != nil {
			t.Fatal(err)
		}
		if err := apart.Read64(b); err != nil {
			t.Fatal(err)
		}
		for i := range a {
			if math.Abs(a[i]-b[i]-1) > 1e-13*n {
				t.Errorf("row %d: with itself %g, without %g; want 1 between them", i, a[i], b[i])
			}
		}
		ops.PairSums(all, x, dev.Empty64(0, d), ops.CubicKernel(1, 1), false)
		if err := all.Read64(a); err != nil {
			t.Fatal(err)
		}
		for i, v := range a {
			if v != 0 {
				t.Errorf("row %d: the sum over nothing is %g", i, v)
			}
		}
	})
}

// A NaN reaches the sums of its own row, and of the other set's all.
func TestPairSumsOfNaN(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		v := oracle.Normal(4, 10)
		v[5] = float32(math.NaN()) // row 2
		x, y := dev.FromAs(gpu.Float64, v, 5, 2), dev.FromAs(gpu.Float64, oracle.Normal(5, 8), 4, 2)
		for name, k := range map[string]ops.PairKernel{"cubic": ops.CubicKernel(1, 0), "normal": ops.NormalKernel(1)} {
			for which, sets := range [][2]*gpu.Tensor{{x, y}, {y, x}} {
				got := make([]float64, sets[0].Shape()[0])
				out := dev.Empty64(len(got))
				ops.PairSums(out, sets[0], sets[1], k, false)
				if err := out.Read64(got); err != nil {
					t.Fatal(err)
				}
				for i, s := range got {
					if math.IsNaN(s) != (which == 1 || i == 2) {
						t.Errorf("%s, set %d, row %d: %g", name, which, i, s)
					}
				}
			}
		}
	})
}

func TestPairSumsRefuses(t *testing.T) {
	cpu := gpu.CPU()
	x, y := cpu.Empty64(4, 3), cpu.Empty64(5, 3)
	for want, f := range map[string]func(){
		"[n, d] and [m, d]":           func() { ops.PairSums(cpu.Empty64(4), x, cpu.Empty64(5, 2), ops.CubicKernel(1, 1), false) },
		"want as many":                func() { ops.PairSums(cpu.Empty64(4), x, y, ops.CubicKernel(1, 1), true) },
		"want float64":                func() { ops.PairSums(cpu.Empty(4), x, y, ops.CubicKernel(1, 1), false) },
		"float32 or float64 for both": func() { ops.PairSums(cpu.Empty64(4), x, cpu.Empty(5, 3), ops.CubicKernel(1, 1), false) },
		"the result":                  func() { ops.PairSums(cpu.Empty64(3), x, y, ops.CubicKernel(1, 1), false) },
	} {
		func() {
			defer func() {
				if r := recover(); r == nil || !strings.Contains(r.(string), want) {
					t.Errorf("%v, want a panic with %q", r, want)
				}
			}()
			f()
		}()
	}
}

func BenchmarkPairSums(b *testing.B) {
	const n, d = 2000, 2048
	x, out := gpu.CPU().FromAs(gpu.Float32, oracle.Normal(1, n*d), n, d), gpu.CPU().Empty64(n)
	for b.Loop() {
		ops.PairSums(out, x, x, ops.CubicKernel(1./d, 1), true)
	}
	b.ReportMetric(2*n*n*d*float64(b.N)/b.Elapsed().Seconds()/1e9, "GFLOP/s")
}

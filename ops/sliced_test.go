package ops_test

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/internal/oracle/device"
	"github.com/fidlab/fidlab/ops"
)

// Rows are sorted as floats are by their value, then -0 before 0, NaN at the end of its sign, on every device: of one element, of tiles that are full and
// that are not, of few values many times, and of everything that a float can be.
func TestSortRows(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		r := rand.New(rand.NewPCG(5, 6))
		draws := map[string]func() float32{
			"normal":   func() float32 { return float32(r.NormFloat64()) },
			"few":      func() float32 { return float32(r.IntN(5) - 2) },
			"all bits": func() float32 { return math.Float32frombits(r.Uint32()) },
			"ends": func() float32 {
				return []float32{0, float32(math.Copysign(0, -1)), float32(math.Inf(1)), float32(math.Inf(-1)), 1e-45, -1e-45}[r.IntN(6)]
			},
			"one value": func() float32 { return 3 },
		}
		cases := 0
		for _, s := range [][2]int{{1, 1}, {3, 2}, {5, 257}, {2, 4096}, {3, 4097}, {2, 9000}} {
			for name, draw := range draws {
				v := make([]float32, s[0]*s[1])
				for i := range v {
					v[i] = draw()
				}
				x := dev.From(v, s[0], s[1])
				ops.SortRows(x)
				got := x.To(gpu.CPU()).F32()
				for row := range s[0] {
					want := v[row*s[1]:][:s[1]]
					slices.SortFunc(want, func(a, b float32) int { // as IEEE 754's totalOrder: sign and magnitude
						i, j := int64(math.Float32bits(a)&^(1<<31)), int64(math.Float32bits(b)&^(1<<31))
						if math.Signbit(float64(a)) {
							i = -1 - i
						}
						if math.Signbit(float64(b)) {
							j = -1 - j
						}
						return int(i - j)
					})
					for i, w := range want {
						if g := got[row*s[1]+i]; math.Float32bits(g) != math.Float32bits(w) {
							t.Fatalf("%s, %v: element %d of row %d is %v, want %v", name, s, i, row, g, w)
						}
					}
					cases++
				}
			}
		}
		if cases != 5*(1+3+5+2+3+2) {
			t.Errorf("%d cases", cases)
		}
		ops.SortRows(dev.Empty(0, 5))
		ops.SortRows(dev.Empty(5, 0))
	})
}

// Distances are those of the definition within the rounding of a sum of d terms that are never negative.
func TestRowDistances(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		cases := 0
		for _, s := range [][2]int{{1, 1}, {3, 255}, {2, 256}, {5, 1000}} {
			for _, dt := range []gpu.DType{gpu.Float32, gpu.Float64} {
				n, d := s[0], s[1]
				a, b := dev.FromAs(dt, oracle.Normal(1, n*d), n, d), dev.FromAs(dt, oracle.Normal(2, n*d), n, d)
				out, got := dev.Empty64(n), make([]float64, n)
				ops.RowDistances(out, a, b)
				x, y := make([]float64, n*d), make([]float64, n*d)
				for t64, v := range map[*gpu.Tensor][]float64{out: got, a: x, b: y} {
					if err := t64.Read64(v); err != nil {
						t.Fatal(err)
					}
				}
				for i, g := range got {
					cases++
					want := squaredBySum(x[i*d:][:d], y[i*d:][:d])
					if math.Abs(g-want) > float64(2*d+4)*0x1p-53*want {
						t.Errorf("%v, %v: row %d is %.17g, want %.17g", s, dt, i, g, want)
					}
				}
			}
		}
		if cases != 2*(1+3+2+5) {
			t.Errorf("%d cases", cases)
		}
	})
}

func TestSlicedRefuses(t *testing.T) {
	cpu := gpu.CPU()
	oracle.Refuses(t, map[string]func(){
		"ops: SortRows: float64 [2 3], want float32": func() { ops.SortRows(cpu.Empty64(2, 3)) },
		"float32 [6], want float32 of two axes":      func() { ops.SortRows(cpu.Empty(6)) },
		"ops: RowDistances: sets [2 3] and [2 4]":    func() { ops.RowDistances(cpu.Empty64(2), cpu.Empty(2, 3), cpu.Empty(2, 4)) },
		"2 and 3 rows, want as many":                 func() { ops.RowDistances(cpu.Empty64(2), cpu.Empty(2, 3), cpu.Empty(3, 3)) },
		"out has shape [3], want [2]":                func() { ops.RowDistances(cpu.Empty64(3), cpu.Empty(2, 3), cpu.Empty(2, 3)) },
		"out is float32, want float64":               func() { ops.RowDistances(cpu.Empty(2), cpu.Empty(2, 3), cpu.Empty(2, 3)) },
	})
}

func BenchmarkSortRows(b *testing.B) {
	v := oracle.Normal(1, 100*10000)
	x := gpu.CPU().Empty(100, 10000)
	for b.Loop() {
		copy(x.F32(), v)
		ops.SortRows(x)
	}
	b.ReportMetric(1e6*float64(b.N)/b.Elapsed().Seconds()/1e6, "Mkeys/s")
}

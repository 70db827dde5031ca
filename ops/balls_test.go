package ops_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/internal/oracle/device"
	"github.com/fidlab/fidlab/ops"
)

// ballsByDefinition looks at every pair.
func ballsByDefinition(x, y []float64, d int, radius []float64, strict []bool) (balls, held []int32) {
	n, m := len(x)/d, len(y)/d
	balls, held = make([]int32, len(strict)*m), make([]int32, len(strict)*n)
	for i := range n {
		for j := range m {
			d2 := squaredBySum(x[i*d:][:d], y[j*d:][:d])
			for q, s := range strict {
				if r := radius[q*n+i]; d2 < r || !s && d2 == r {
					balls[q*m+j]++
					held[q*n+i] = 1
				}
			}
		}
	}
	return balls, held
}

// Counts are exactly those of the definition in float64, on every device and in both dtypes: of balls with a vector exactly on the boundary or a
// last bit beside it, of none and of all, and of radii that are nothing.
func TestBallCounts(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		r := rand.New(rand.NewPCG(3, 4))
		cases, held := 0, 0
		for _, size := range [][3]int{{1, 1, 1}, {70, 3, 5}, {64, 64, 16}, {67, 300, 3}, {700, 10, 2}, {130, 129, 33}} {
			n, m, d := size[0], size[1], size[2]
			for _, s := range setsOf(r, n, m, d) {
				for _, double := range []bool{false, true} {
					for _, strict := range [][]bool{{false}, {true, false}, {false, true, true}, {true, false, false, true}} {
						x, y := s.on(dev, double)
						radius := make([]float64, len(strict)*n)
						for i := range radius {
							radius[i] = squaredBySum(s.x[i%n*d:][:d], s.y[r.IntN(m)*d:][:d])
							switch r.IntN(12) {
							case 0:
								radius[i] = math.Nextafter(radius[i], 0)
							case 1:
								radius[i] = math.Nextafter(radius[i], math.Inf(1))
							case 2:
								radius[i] = []float64{0, math.Inf(1), math.NaN(), -1}[r.IntN(4)]
							}
						}
						balls, some := dev.FromInt32(make([]int32, len(strict)*m), len(strict), m), dev.FromInt32(slices.Repeat([]int32{7}, len(strict)*n), len(strict), n)
						ops.BallCounts(balls, some, x, y, dev.From64(radius, len(strict), n), strict)
						wantBalls, wantHeld := ballsByDefinition(s.x, s.y, d, radius, strict)
						gotBalls, gotHeld := balls.To(gpu.CPU()).I32(), some.To(gpu.CPU()).I32()
						name := fmt.Sprintf("%s, %v, float64 %t, strict %v", s.name, size, double, strict)
						if i := firstApart(gotBalls, wantBalls); i >= 0 {
							t.Fatalf("%s: %d balls around vector %d by rule %d, want %d", name, gotBalls[i], i%m, i/m, wantBalls[i])
						}
						if i := firstApart(gotHeld, wantHeld); i >= 0 {
							t.Fatalf("%s: ball %d by rule %d holds %d, want %d", name, i%n, i/n, gotHeld[i], wantHeld[i])
						}
						cases++
						for _, h := range wantHeld {
							held += int(h)
						}
					}
				}
			}
		}
		if cases != 6*9*2*4 || held < 10000 {
			t.Errorf("%d cases, %d balls that hold any", cases, held)
		}
	})
}

// firstApart is where two slices differ first, -1 for nowhere.
func firstApart(a, b []int32) int {
	for i := range a {
		if a[i] != b[i] {
			return i
		}
	}
	return -1
}

// Sets of nothing have no balls, and are in none.
func TestBallCountsOfNothing(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		none, three := dev.Empty64(0, 2), dev.From64(make([]float64, 6), 3, 2)
		balls, held := dev.FromInt32([]int32{5, 5, 5}, 1, 3), dev.New(gpu.Int32, 1, 0)
		ops.BallCounts(balls, held, none, three, dev.Empty64(1, 0), []bool{false})
		if got := balls.To(gpu.CPU()).I32(); !slices.Equal(got, []int32{0, 0, 0}) {
			t.Errorf("%v of no balls", got)
		}
		held = dev.FromInt32([]int32{5, 5, 5}, 1, 3)
		ops.BallCounts(dev.New(gpu.Int32, 1, 0), held, three, none, dev.From64([]float64{1, 1, 1}, 1, 3), []bool{false})
		if got := held.To(gpu.CPU()).I32(); !slices.Equal(got, []int32{0, 0, 0}) {
			t.Errorf("balls hold %v of nothing", got)
		}
	})
}

func TestBallCountsRefuses(t *testing.T) {
	cpu := gpu.CPU()
	ids := func(q, n int) *gpu.Tensor { return cpu.New(gpu.Int32, q, n) }
	x, y, one := cpu.Empty64(4, 3), cpu.Empty64(5, 3), []bool{false}
	oracle.Refuses(t, map[string]func(){
		"ops: BallCounts: sets [4 3] and [5 2]": func() { ops.BallCounts(ids(1, 5), ids(1, 4), x, cpu.Empty64(5, 2), cpu.Empty64(1, 4), one) },
		"0 rules, want 1 to 4":                  func() { ops.BallCounts(ids(0, 5), ids(0, 4), x, y, cpu.Empty64(0, 4), nil) },
		"5 rules, want 1 to 4":                  func() { ops.BallCounts(ids(5, 5), ids(5, 4), x, y, cpu.Empty64(5, 4), make([]bool, 5)) },
		"balls has shape [1 4], want [1 5]":     func() { ops.BallCounts(ids(1, 4), ids(1, 4), x, y, cpu.Empty64(1, 4), one) },
		"held has shape [1 5], want [1 4]":      func() { ops.BallCounts(ids(1, 5), ids(1, 5), x, y, cpu.Empty64(1, 4), one) },
		"radius is float32, want float64":       func() { ops.BallCounts(ids(1, 5), ids(1, 4), x, y, cpu.Empty(1, 4), one) },
		"radius has shape [2 4], want [1 4]":    func() { ops.BallCounts(ids(1, 5), ids(1, 4), x, y, cpu.Empty64(2, 4), one) },
		"balls is float64, want int32":          func() { ops.BallCounts(cpu.Empty64(1, 5), ids(1, 4), x, y, cpu.Empty64(1, 4), one) },
		"the first float64, want float32 or":    func() { ops.BallCounts(ids(1, 5), ids(1, 4), x, cpu.Empty(5, 3), cpu.Empty64(1, 4), one) },
	})
}

func BenchmarkBallCounts(b *testing.B) {
	const n, d = 1000, 2048
	cpu := gpu.CPU()
	x, y := cpu.FromAs(gpu.Float32, oracle.Normal(1, n*d), n, d), cpu.FromAs(gpu.Float32, oracle.Normal(2, n*d), n, d)
	balls, held, radius := cpu.New(gpu.Int32, 1, n), cpu.New(gpu.Int32, 1, n), cpu.From64(slices.Repeat([]float64{2 * d}, n), 1, n)
	for b.Loop() {
		ops.BallCounts(balls, held, x, y, radius, []bool{false})
	}
	b.ReportMetric(3*n*n*d*float64(b.N)/b.Elapsed().Seconds()/1e9, "GFLOP/s")
}

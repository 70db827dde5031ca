package ops_test

import (
	"cmp"
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

// squaredBySum is the definition of a squared distance: in the order of the coordinates, every step rounded.
func squaredBySum(a, b []float64) (s float64) {
	for i, v := range a {
		e := v - b[i]
		s += float64(e * e)
	}
	return s
}

// nearestKBySort sorts all.
func nearestKBySort(x, y []float64, d, k int, apart bool) (dist []float64, idx []int32) {
	type far struct {
		d2  float64
		row int
	}
	for i := range len(x) / d {
		var all []far
		for j := range len(y) / d {
			if !apart || i != j {
				all = append(all, far{squaredBySum(x[i*d:][:d], y[j*d:][:d]), j})
			}
		}
		slices.SortFunc(all, func(a, b far) int {
			if na, nb := math.IsNaN(a.d2), math.IsNaN(b.d2); na || nb {
				if na && nb {
					return cmp.Compare(a.row, b.row)
				}
				if na {
					return 1
				}
				return -1
			}
			return cmp.Or(cmp.Compare(a.d2, b.d2), cmp.Compare(a.row, b.row))
		})
		for _, f := range all[:k] {
			dist, idx = append(dist, f.d2), append(idx, int32(f.row))
		}
	}
	return dist, idx
}

// vectorSets are a pair of sets to find neighbours in, [n, d] and [m, d]; the second is the first for neighbours of a set within itself.
type vectorSets struct {
	name string
	d    int
	x, y []float64
}

// setsOf are sets that are hard to tell neighbours in.
func setsOf(r *rand.Rand, n, m, d int) []vectorSets {
	draw := func(n int, f func(row int) float64) []float64 {
		v := make([]float64, n*d)
		for i := range v {
			v[i] = f(i / d)
		}
		return v
	}
	normal := func(int) float64 { return r.NormFloat64() }
	lattice := func(int) float64 { return float64(r.IntN(3)) }
	offset := func(int) float64 { return 1e4 + r.NormFloat64() }
	out := []vectorSets{
		{name: "normal", x: draw(n, normal), y: draw(m, normal)},
		{name: "many equal distances", x: draw(n, lattice), y: draw(m, lattice)},
		{name: "far from zero", x: draw(n, offset), y: draw(m, offset)},
		{name: "far from one another", x: draw(n, normal), y: draw(m, offset)},
		{name: "all the same", x: draw(n, func(int) float64 { return 0.1 }), y: draw(m, func(int) float64 { return 0.1 })},
		{name: "too small for squares", x: draw(n, func(int) float64 { return 1e-30 * r.NormFloat64() }), y: draw(m, func(int) float64 { return 1e-30 * r.NormFloat64() })},
		{name: "ever nearer", x: draw(n, func(int) float64 { return 0.01 * r.NormFloat64() }), y: draw(m, func(row int) float64 { return float64(2*m - row) })},
	}
	twins := vectorSets{name: "twins", x: draw(n, normal), y: draw(m, normal)}
	for j := 3; j < m; j += 4 { // rows twice, almost the same, and those of x
		copy(twins.y[j*d:][:d], twins.y[(j/2)*d:][:d])
		if j%3 == 0 {
			twins.y[j*d] *= 1 + 0x1p-22
		}
		if j%5 == 0 && j < n {
			copy(twins.x[j*d:][:d], twins.y[j*d:][:d])
		}
	}
	wild := vectorSets{name: "NaN, infinite and huge", x: draw(n, normal), y: draw(m, normal)}
	for i, v := range []float64{math.NaN(), math.Inf(1), 3e38, -3e38, math.Inf(-1), 1e30} {
		wild.x[(i*5)%n*d] = v
		wild.y[(i*7)%m*d+d-1] = v
	}
	out = append(out, twins, wild)
	for i := range out {
		out[i].d = d
	}
	return out
}

// on puts the sets on a device, rounded to its dtype there and in s.
func (s *vectorSets) on(dev *gpu.Device, double bool) (x, y *gpu.Tensor) {
	put := func(v []float64) *gpu.Tensor {
		if double {
			return dev.From64(v, len(v)/s.d, s.d)
		}
		f := make([]float32, len(v))
		for i := range v {
			f[i] = float32(v[i])
			v[i] = float64(f[i])
		}
		return dev.From(f, len(v)/s.d, s.d)
	}
	return put(s.x), put(s.y)
}

func sameNumber(a, b float64) bool {
	return math.Float64bits(a) == math.Float64bits(b) || math.IsNaN(a) && math.IsNaN(b)
}

// Neighbours and distances are exactly those of a sort of all distances in float64, on every device, in both dtypes, whatever rounding
// confuses, whether lists overflow or not (they do of pieces of more than 96 rows alone), and over sizes that fill tiles and pieces and that do not.
func TestNearestK(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		r := rand.New(rand.NewPCG(1, 2))
		cases := 0
		for _, size := range [][4]int{{1, 1, 1, 1}, {3, 70, 5, 3}, {64, 64, 16, 16}, {67, 300, 3, 17}, {10, 700, 2, 32}, {130, 129, 33, 5}, {3, 12000, 2, 32}} {
			n, m, d, k := size[0], size[1], size[2], size[3]
			for _, s := range setsOf(r, n, m, d) {
				for _, double := range []bool{false, true} {
					for _, apart := range []bool{false, true} {
						x, y := s.on(dev, double)
						sets := s
						if apart {
							if n < 2 {
								continue
							}
							y, sets.y = x, s.x
						}
						k := min(k, len(sets.y)/d)
						if apart {
							k = min(k, n-1)
						}
						nearestKCase(t, fmt.Sprintf("%s, %v, float64 %t, apart %t", s.name, size, double, apart), dev, sets, x, y, k, apart)
						cases++
					}
				}
			}
		}
		if cases != 9*2*(1+6*2) {
			t.Errorf("%d cases", cases)
		}
	})
}

// Of a set most of whose vectors are on one place, lists overflow, and a row is still none of its own neighbours. There are so many rows that the first pieces of
// them have more than a list holds.
func TestNearestKWithinOneSet(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		r := rand.New(rand.NewPCG(7, 8))
		const n, d, k = 1536, 2, 4
		s := vectorSets{d: d, x: make([]float64, n*d)}
		for i := range s.x {
			s.x[i] = float64(r.IntN(20) / 19)
		}
		s.y = s.x
		x, _ := s.on(dev, false)
		nearestKCase(t, "one place mostly", dev, s, x, x, k, true)
	})
}

func nearestKCase(t *testing.T, name string, dev *gpu.Device, s vectorSets, x, y *gpu.Tensor, k int, apart bool) {
	t.Helper()
	n := len(s.x) / s.d
	dist, idx := dev.Empty64(n, k), dev.New(gpu.Int32, n, k)
	ops.NearestK(dist, idx, x, y, k, apart)
	far, at := make([]float64, n*k), idx.To(gpu.CPU()).I32()
	if err := dist.Read64(far); err != nil {
		t.Fatal(err)
	}
	wantFar, wantAt := nearestKBySort(s.x, s.y, s.d, k, apart)
	for i := range far {
		if at[i] != wantAt[i] || !sameNumber(far[i], wantFar[i]) {
			t.Fatalf("%s: neighbour %d of row %d is %d at %.17g, want %d at %.17g", name, i%k, i/k, at[i], far[i], wantAt[i], wantFar[i])
		}
	}
}

func TestNearestKRefuses(t *testing.T) {
	cpu := gpu.CPU()
	x, y := cpu.Empty64(4, 3), cpu.Empty64(50, 3)
	find := func(x, y *gpu.Tensor, k int, apart bool) func() {
		return func() { ops.NearestK(cpu.Empty64(4, k), cpu.New(gpu.Int32, 4, k), x, y, k, apart) }
	}
	oracle.Refuses(t, map[string]func(){
		"ops: NearestK: sets [4 3] and [50 2], want [n, d] and [m, d]": find(x, cpu.Empty64(50, 2), 1, false),
		"sets [4 0] and [4 0]":                find(cpu.Empty64(4, 0), cpu.Empty64(4, 0), 1, false),
		"sets of 4 and 50 rows":               find(x, y, 1, true),
		"0 nearest of 50 rows":                find(x, y, 0, false),
		"33 nearest of 50 rows, want 1 to 32": find(x, y, 33, false),
		"4 nearest of 3 rows":                 find(x, x, 4, true),
		"want float32 or float64 for both":    find(x, cpu.Empty(50, 3), 1, false),
		"dist is float32, want float64":       func() { ops.NearestK(cpu.Empty(4, 2), cpu.New(gpu.Int32, 4, 2), x, y, 2, false) },
		"dist has shape [4 1], want [4 2]":    func() { ops.NearestK(cpu.Empty64(4, 1), cpu.New(gpu.Int32, 4, 2), x, y, 2, false) },
		"idx is float64, want int32":          func() { ops.NearestK(cpu.Empty64(4, 2), cpu.Empty64(4, 2), x, y, 2, false) },
	})
	ops.NearestK(cpu.Empty64(0, 2), cpu.New(gpu.Int32, 0, 2), cpu.Empty64(0, 3), y, 2, false)
}

// Vectors for whose products float32's bound is none are refused on a GPU, and measured on the CPU.
func TestNearestKOfWideVectors(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		x := dev.Zeros(gpu.Float32, 2, ops.PairWidth+1)
		f := func() { ops.NearestK(dev.Empty64(2, 1), dev.New(gpu.Int32, 2, 1), x, x, 1, true) }
		if dev.CUDA() {
			oracle.RefusesOne(t, "vectors of 1048577 coordinates, a GPU takes 1048576 at most", f)
		} else {
			f()
		}
	})
}

func BenchmarkNearestK(b *testing.B) {
	const n, d = 1000, 2048
	x, dist, idx := gpu.CPU().FromAs(gpu.Float32, oracle.Normal(1, n*d), n, d), gpu.CPU().Empty64(n, 5), gpu.CPU().New(gpu.Int32, n, 5)
	for b.Loop() {
		ops.NearestK(dist, idx, x, x, 5, true)
	}
	b.ReportMetric(3*n*n*d*float64(b.N)/b.Elapsed().Seconds()/1e9, "GFLOP/s")
}

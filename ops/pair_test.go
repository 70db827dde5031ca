package ops_test

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle/device"
	"github.com/fidlab/fidlab/ops"
)

// repeats are shapes of two operands and a result: alike, an axis in front, in the middle, behind or
// several repeated, single numbers, last axes that whole vectors fit and that they don't, eight axes.
var repeats = []struct{ a, b, out []int }{
	{[]int{2, 5, 18}, []int{2, 5, 18}, []int{2, 5, 18}}, {[]int{3001}, []int{3001}, []int{3001}}, {[]int{70, 24}, []int{24}, []int{70, 24}},
	{[]int{24}, []int{70, 24}, []int{70, 24}}, {[]int{3, 7}, []int{3, 1}, []int{3, 7}}, {[]int{6, 8, 100}, []int{8, 1}, []int{6, 8, 100}},
	{[]int{6, 1, 100}, []int{8, 1}, []int{6, 8, 100}}, {[]int{1030}, []int{1}, []int{1030}}, {[]int{}, []int{513}, []int{513}}, {[]int{}, []int{}, []int{}},
	{[]int{2, 4, 3, 5}, []int{4, 1, 5}, []int{2, 4, 3, 5}}, {[]int{3, 1, 4, 1}, []int{2, 1, 5}, []int{3, 2, 4, 5}}, {[]int{0, 4}, []int{4}, []int{0, 4}},
	{[]int{2, 1, 2, 1, 2, 1, 2, 1}, []int{1, 3, 1, 2, 1, 3, 1, 4}, []int{2, 3, 2, 2, 2, 3, 2, 4}}, {[]int{4, 1}, []int{1, 300}, []int{4, 300}},
}

func count(shape []int) int {
	n := 1
	for _, d := range shape {
		n *= d
	}
	return n
}

// placeIn is where element i of a result finds its operand of shape s.
func placeIn(i int, out, s []int) int {
	place, step := 0, 1
	for k := len(out) - 1; k >= 0; k-- {
		c := i % out[k]
		i /= out[k]
		if j := k - (len(out) - len(s)); j >= 0 {
			if s[j] > 1 {
				place += c * step
			}
			step *= s[j]
		}
	}
	return place
}

// One operation and with acc one sum are rounded, half a unit each.
func TestPairsOnDevices(t *testing.T) {
	eachWidth(t, func(t *testing.T, dev *gpu.Device, double, odd bool) {
		r := rand.New(rand.NewPCG(31, 32))
		for k, op := range []struct {
			f    func(out, a, b *gpu.Tensor, acc bool)
			want func(x, y float64) float64
		}{
			{ops.Add, func(x, y float64) float64 { return x + y }}, {ops.Sub, func(x, y float64) float64 { return x - y }},
			{ops.Mul, func(x, y float64) float64 { return x * y }}, {ops.Div, func(x, y float64) float64 { return x / y }},
			{ops.Minimum, math.Min}, {ops.Maximum, math.Max},
		} {
			for _, s := range repeats {
				av, bv, old := stored(r, double, count(s.a), 1), stored(r, double, count(s.b), 1), stored(r, double, count(s.out), 1)
				a, b := placed(dev, double, odd, av, s.a...), placed(dev, double, odd, bv, s.b...)
				want := func(i int) float64 { return op.want(av[placeIn(i, s.out, s.a)], bv[placeIn(i, s.out, s.b)]) }
				for _, acc := range []bool{false, true} {
					out := placed(dev, double, odd, old, s.out...)
					op.f(out, a, b, acc)
					sum := func(i int) float64 {
						if acc {
							return want(i) + old[i]
						}
						return want(i)
					}
					closeTo(t, values(t, out), double, 1, sum, func(i int) float64 { return math.Abs(want(i)) + math.Abs(sum(i)) })
				}
				if count(s.a) == count(s.out) { // in place
					op.f(a, a, b, false)
					closeTo(t, values(t, a), double, 1, want, func(i int) float64 { return math.Abs(want(i)) })
				}
				if t.Failed() {
					t.Fatalf("operation %d, shapes %v and %v", k, s.a, s.b)
				}
			}
		}
	})
}

func TestPairsOfNaN(t *testing.T) {
	nan := math.NaN()
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		for _, double := range []bool{false, true} {
			a, b := placed(dev, double, false, []float64{nan, 1, nan, 2, math.Inf(1)}, 5), placed(dev, double, false, []float64{1, nan, nan, 3, 4}, 5)
			out := a.Like()
			for i, f := range []func(out, a, b *gpu.Tensor, acc bool){ops.Minimum, ops.Maximum} {
				f(out, a, b, false)
				for k, want := range [][]float64{{nan, nan, nan, 2, 4}, {nan, nan, nan, 3, math.Inf(1)}}[i] {
					if got := values(t, out)[k]; got != want && !(got != got && want != want) {
						t.Errorf("float64 %t, operation %d: element %d is %v, want %v", double, i, k, got, want)
					}
				}
			}
		}
	})
}

func TestWhereEqual(t *testing.T) {
	eachWidth(t, func(t *testing.T, dev *gpu.Device, double, odd bool) {
		r := rand.New(rand.NewPCG(33, 34))
		few := func(n int) []float64 { // values that are often equal
			v := make([]float64, n)
			for i := range v {
				v[i] = float64(r.IntN(3))
			}
			return v
		}
		for _, s := range repeats {
			av, fv, bv, gv := few(count(s.a)), few(count(s.b)), few(count(s.out)), stored(r, double, count(s.out), 1)
			a, first := placed(dev, double, odd, av, s.a...), placed(dev, double, odd, fv, s.b...)
			b, g := placed(dev, double, odd, bv, s.out...), placed(dev, double, odd, gv, s.out...)
			for _, but := range []bool{false, true} {
				out := placed(dev, double, odd, gv, s.out...)
				ops.WhereEqual(out, g, a, b, first, but)
				for i, got := range values(t, out) {
					want := 0.0
					if av[placeIn(i, s.out, s.a)] == bv[i] && !(but && fv[placeIn(i, s.out, s.b)] == bv[i]) {
						want = gv[i]
					}
					if got != want {
						t.Fatalf("shapes %v and %v, but %t: element %d is %v, want %v", s.a, s.b, but, i, got, want)
					}
				}
			}
		}
	})
}

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

// Sums over axes in front, in the middle, behind, and two at once, long ones too; over short rows and
// few columns, and at the edges of the pieces of a GPU (rows of 1,024, pieces of 8,192 and of 256).
func TestSumTo(t *testing.T) {
	eachWidth(t, func(t *testing.T, dev *gpu.Device, double, odd bool) {
		r := rand.New(rand.NewPCG(9, 10))
		for _, s := range []struct{ in, out []int }{
			{[]int{3000, 70}, []int{70}}, {[]int{7, 9000}, []int{7, 1}}, {[]int{20, 300, 50}, []int{20, 1, 50}},
			{[]int{30, 40, 50}, []int{40, 1}}, {[]int{100000}, []int{}}, {[]int{6, 5, 4, 3, 2}, []int{5, 1, 3, 1}}, {[]int{40, 50}, []int{40, 50}},
			{[]int{300, 3}, []int{300, 1}}, {[]int{5, 1024}, []int{5, 1}}, {[]int{3, 1025}, []int{3, 1}}, {[]int{2, 8193}, []int{2, 1}}, {[]int{257, 40}, []int{40}},
			{[]int{5000, 3}, []int{3}}, {[]int{4, 3, 600}, []int{4, 1, 600}}, {[]int{0, 3}, []int{3}}, {[]int{3, 20, 9, 2}, []int{20, 1, 1}}, {[]int{1}, []int{}},
		} {
			n := count(s.in)
			v := [][]float64{stored(r, double, n, 1), stored(r, double, n, 1)}
			x, y, old := placed(dev, double, odd, v[0], s.in...), placed(dev, double, odd, v[1], s.in...), stored(r, double, count(s.out), 1)
			for k := range 4 { // with a second factor, with acc
				out := placed(dev, double, odd, old, s.out...)
				want, size := make([]float64, len(old)), make([]float64, len(old))
				if k&2 == 2 {
					for i, o := range old {
						want[i], size[i] = o, math.Abs(o)
					}
				}
				for i := range n {
					e := v[0][i]
					if k&1 == 1 {
						e *= v[1][i]
					}
					p := placeIn(i, s.in, s.out)
					want[p] += e
					size[p] += math.Abs(e)
				}
				var b *gpu.Tensor
				if k&1 == 1 {
					b = y
				}
				ops.SumTo(out, x, b, k&2 == 2)
				for i, got := range values(t, out) { // pieces of 4,096 in sixteen sums, or rows one after the other
					tol := off(double, 400, size[i])
					if dev.CUDA() { // sums in float64, rounded once
						tol = 0x1p-24*math.Abs(want[i]) + 0x1p-42*size[i]
						if n == len(want) { // nothing to sum: products are rounded first
							tol = 0x1p-23 * size[i]
						}
						if double {
							tol = 200 * 0x1p-53 * size[i]
						}
					}
					if d := math.Abs(got - want[i]); !(d <= tol) {
						t.Fatalf("%v to %v, %d: element %d is %v, want %v", s.in, s.out, k, i, got, want[i])
					}
				}
			}
		}
	})
}

// The mean of squares of each row and its gradients, whatever lies beside the row; the bits of a row
// do not depend on the number of rows.
func TestSquaredError(t *testing.T) {
	eachWidth(t, func(t *testing.T, dev *gpu.Device, double, odd bool) {
		r := rand.New(rand.NewPCG(11, 12))
		for _, s := range [][]int{{1, 1}, {3, 5}, {70, 12}, {5, 1024}, {4, 3, 343}, {2, 8193}, {2, 20000}, {1, 3, 30, 40}} {
			n := count(s)
			row := n / s[0]
			xv, yv, gv, old := stored(r, double, n, 1), stored(r, double, n, 1), stored(r, double, s[0], 1), stored(r, double, n, 1)
			x, y, g := placed(dev, double, odd, xv, s...), placed(dev, double, odd, yv, s...), placed(dev, double, odd, gv, s[0])
			loss := dev.New(x.DType(), s[0])
			ops.Fill(loss, math.Inf(1))
			ops.SquaredError(loss, x, y)
			want := func(b int) (m float64) {
				for i := b * row; i < (b+1)*row; i++ {
					m += (xv[i] - yv[i]) * (xv[i] - yv[i])
				}
				return m / float64(row)
			}
			closeTo(t, values(t, loss), double, 100, want, want)
			one := dev.New(x.DType(), 1)
			ops.SquaredError(one, x.Rows(0, 1), y.Rows(0, 1))
			if a, b := values(t, one)[0], values(t, loss)[0]; a != b {
				t.Errorf("%v: row 0 alone has %v, among others %v", s, a, b)
			}
			for k := range 4 {
				sign := float64(k&1)*2 - 1
				dx := placed(dev, double, odd, old, s...)
				ops.SquaredErrorBackward(dx, x, y, g, sign, k&2 == 2)
				slope := func(i int) float64 { return sign * 2 / float64(row) * gv[i/row] * (xv[i] - yv[i]) }
				scale := func(i int) float64 {
					return 2/float64(row)*math.Abs(gv[i/row])*(math.Abs(xv[i])+math.Abs(yv[i])) + float64(k>>1)*math.Abs(old[i])
				}
				closeTo(t, values(t, dx), double, 4, func(i int) float64 { return slope(i) + float64(k>>1)*old[i] }, scale)
			}
			if t.Failed() {
				t.Fatalf("shape %v", s)
			}
		}
	})
}

func TestSumSquaresAndItem(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		r := rand.New(rand.NewPCG(13, 14))
		for _, double := range []bool{false, true} {
			for _, n := range []int{0, 1, 1000, 1025, 8192, 8193, 50000} {
				v := stored(r, double, n, 1)
				var want float64
				for _, e := range v {
					want += e * e
				}
				x := placed(dev, double, n%2 == 1, v, n)
				if got := ops.SumSquares(x); !(math.Abs(got-want) <= 1e-13*want) {
					t.Errorf("float64 %t, %d elements: %v, want %v", double, n, got, want)
				} else if again := ops.SumSquares(x); again != got {
					t.Errorf("%v, then %v", got, again)
				}
			}
			for _, bad := range []float64{math.NaN(), math.Inf(-1)} {
				x := placed(dev, double, false, []float64{1, bad, 2}, 3)
				if got := ops.SumSquares(x); !math.IsNaN(got) && !math.IsInf(got, 1) {
					t.Errorf("with %v the sum of squares is %v", bad, got)
				}
			}
			if got := ops.SumSquares(placed(dev, double, false, []float64{1e30, 1e30}, 2)); math.Abs(got-2e60) > 1e54 {
				t.Errorf("squares beyond float32 have the sum %v, want 2e60", got)
			}
			if got := ops.Item(placed(dev, double, true, []float64{-2.5}, 1, 1)); got != -2.5 {
				t.Errorf("Item is %v, want -2.5", got)
			}
		}
		func() {
			defer func() {
				if v := fmt.Sprint(recover()); v != "ops: Item: shape [2] has 2 elements, want one" {
					t.Errorf("panic %q", v)
				}
			}()
			ops.Item(dev.Empty(2))
		}()
	})
}

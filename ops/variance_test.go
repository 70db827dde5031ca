package ops_test

import (
	"math"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle/device"
	"github.com/fidlab/fidlab/ops"
)

// The variance of every sample is that of two passes in float64, whatever lies
// beside it: to 1e-12 of the variance, also of a sample that is a thousand times
// as far from 0 as it is wide, where sums of x and x² keep no more than 1e-10.
func TestRowVariance(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		for _, dt := range linearDTypes {
			for _, shape := range [][]int{{0, 3}, {1, 2}, {3, 255}, {2, 256}, {2, 3, 2049}, {3, 8192}, {2, 8200}, {2, 16385}, {1, 40000}} {
				_, v := linearInput(t, dev, dt, 1, shape...)
				far := 0.0
				if dt == gpu.Float32 || dt == gpu.Float64 { // the others have no digits left there
					far = 1000
				}
				for i := len(v) / 2; i < len(v); i++ {
					v[i] += far
				}
				x := dev.FromAs(dt, float32s(v), shape...)
				stored := make([]float64, len(v))
				if err := x.Read64(stored); err != nil {
					t.Fatal(err)
				}
				got := make([]float64, shape[0])
				for i := range got {
					got[i] = math.Inf(1) // what was there is gone
				}
				ops.RowVariance(got, x)
				for i, g := range got {
					size := len(v) / shape[0]
					row := stored[i*size : (i+1)*size]
					if want := varianceOf(row); !(math.Abs(g-want) <= 1e-12*want) {
						t.Errorf("%v %v: sample %d has %v, want %v", dt, shape, i, g, want)
					}
				}
			}
		}
	})
}

func float32s(v []float64) []float32 {
	out := make([]float32, len(v))
	for i, f := range v {
		out[i] = float32(f)
	}
	return out
}

// varianceOf is the unbiased variance in two passes, each sum compensated.
func varianceOf(x []float64) float64 {
	sum := func(f func(v float64) float64) float64 {
		var s, c float64 // Neumaier
		for _, v := range x {
			v = f(v)
			u := s + v
			if math.Abs(s) >= math.Abs(v) {
				c += (s - u) + v
			} else {
				c += (v - u) + s
			}
			s = u
		}
		return s + c
	}
	mean := sum(func(v float64) float64 { return v }) / float64(len(x))
	return sum(func(v float64) float64 { return (v - mean) * (v - mean) }) / float64(len(x)-1)
}

// Closed forms: the integers 0 to n-1 have n(n+1)/12, equal values 0; and a sample
// does not see its neighbours, not even what is not finite in them.
func TestRowVarianceClosedForms(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		const n = 5001
		v := make([]float32, 4*n)
		for i := range n {
			v[i], v[n+i], v[2*n+i], v[3*n+i] = float32(i), 7, float32(n-1-i), float32(i)
		}
		v[3*n+17] = float32(math.NaN())
		got := make([]float64, 4)
		ops.RowVariance(got, dev.From(v, 4, n))
		want := float64(n) * (n + 1) / 12
		if !(math.Abs(got[0]-want) <= 1e-12*want && math.Abs(got[2]-want) <= 1e-12*want) || got[1] != 0 || !math.IsNaN(got[3]) {
			t.Errorf("got %v, want %v, 0, %v and NaN", got, want, want)
		}
		one := []float64{0, 0}
		ops.RowVariance(one, dev.From([]float32{1, 2}, 2, 1))
		if !math.IsNaN(one[0]) || !math.IsNaN(one[1]) {
			t.Errorf("samples of one value have %v, want NaN", one)
		}
		for _, shape := range [][]int{{3, 4}, {}} {
			func() {
				defer func() {
					if r, _ := recover().(string); !strings.Contains(r, "2 results for shape") {
						t.Errorf("shape %v: panic %q", shape, r)
					}
				}()
				ops.RowVariance(make([]float64, 2), dev.Empty(shape...))
			}()
		}
	})
}

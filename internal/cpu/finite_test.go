package cpu

import (
	"math"
	"testing"
)

func TestFiniteFindsEveryPlace(t *testing.T) {
	before := calls.vec.Load()
	for _, n := range []int{0, 1, 3, 4, 15, 16, 17, 33, 130} {
		x, y := make([]float32, n+1)[1:], make([]float64, n+1)[1:]
		for i := range n {
			x[i], y[i] = -math.MaxFloat32, -math.MaxFloat64
		}
		check := func(what string, want bool) {
			if Finite32(x) != want || goFinite32(x) != want || Finite64(y) != want || goFinite64(y) != want {
				t.Fatalf("n=%d, %s: %t %t %t %t, want %t", n, what, Finite32(x), goFinite32(x), Finite64(y), goFinite64(y), want)
			}
		}
		check("the largest floats", true)
		for i := range n {
			for _, v := range []float64{math.NaN(), -math.NaN(), math.Inf(1), math.Inf(-1)} {
				x[i], y[i] = float32(v), v
				check("one bad", false)
			}
			x[i], y[i] = math.SmallestNonzeroFloat32, 0
		}
		check("the smallest floats", true)
	}
	ranNatively(t, "Finite", before, calls.vec.Load())
}

package cpu

import (
	"math"
	"testing"

	"github.com/fidlab/fidlab/internal/oracle"
)

// refFunc is the functions by their definitions, written apart from func.go.
var refFunc = map[Func]func(x, a, b float64) float64{
	FuncIdentity: func(x, _, _ float64) float64 { return x },
	FuncReLU:     func(x, _, _ float64) float64 { return math.Max(x, 0) },
	FuncLeaky:    func(x, a, _ float64) float64 { return math.Max(x, 0) + a*math.Min(x, 0) },
	FuncSiLU:     func(x, _, _ float64) float64 { return x / (1 + math.Exp(-x)) },
	FuncGELU:     func(x, _, _ float64) float64 { return x * (0.5 - 0.5*math.Erf(-x/math.Sqrt2)) },
	FuncGELUTanh: func(x, _, _ float64) float64 {
		return 0.5 * x * (1 + math.Tanh(math.Sqrt(2/math.Pi)*(x+0.044715*math.Pow(x, 3))))
	},
	FuncSigmoid:  func(x, _, _ float64) float64 { return 1 / (1 + math.Exp(-x)) },
	FuncTanh:     func(x, _, _ float64) float64 { return 1 - 2/(math.Exp(2*x)+1) },
	FuncSoftplus: func(x, _, _ float64) float64 { return math.Log(1 + math.Exp(x)) },
	FuncExp:      func(x, _, _ float64) float64 { return math.Exp(x) },
	FuncLog:      func(x, _, _ float64) float64 { return math.Log(x) },
	FuncSquare:   func(x, _, _ float64) float64 { return x * x },
	FuncAbs:      func(x, _, _ float64) float64 { return math.Abs(x) },
	FuncClip:     func(x, a, b float64) float64 { return math.Min(math.Max(x, a), b) },
	FuncInverse:  func(x, _, _ float64) float64 { return 1 / x },
	FuncSqrt:     func(x, _, _ float64) float64 { return math.Sqrt(x) },
	FuncSign:     func(x, _, _ float64) float64 { return math.Copysign(1, x) },
	FuncSin:      func(x, _, _ float64) float64 { return math.Sin(x) },
	FuncCos:      func(x, _, _ float64) float64 { return math.Cos(x) },
	FuncErf:      func(x, _, _ float64) float64 { return math.Erf(x) },
}

// points avoid the kinks (0, and ±1 of the clip) by more than a step of differences.
func points(f Func, n int) []float32 {
	x := oracle.Normal(7, n)
	for i := range x {
		x[i] *= 3
		switch {
		case f == FuncLog || f == FuncSqrt || f == FuncInverse:
			x[i] = float32(math.Exp(float64(x[i])))
		case f == FuncClip && math.Abs(math.Abs(float64(x[i]))-1) < 1e-3, math.Abs(float64(x[i])) < 1e-3:
			x[i] = 0.5
		}
	}
	return x
}

// Errors allowed are those of the polynomials: a few units of 2^-23 of the value;
// absolute where the definition itself cancels (GELU's left tail, log near 1).
func TestFunc(t *testing.T) {
	for f := range funcs {
		ref := refFunc[f]
		for _, n := range []int{0, 1, 15, 16, 17, 1000} {
			const a, b = -1.0, 1.0
			x := points(f, n)
			x64 := make([]float64, n)
			for i := range x {
				x64[i] = float64(x[i])
			}
			out, out64 := make([]float32, n), make([]float64, n)
			Func32(f, a, b, out, x)
			Func64(f, a, b, out64, x64)
			want := func(i int) float64 { return ref(float64(x[i]), a, b) }
			oracle.Close(t, out, oracle.Tol{Eps: 4, Scale: func(i int) float64 { return math.Abs(want(i)) + 0.1*math.Min(1, math.Abs(float64(x[i]))) }}, want)
			oracle.Close64(t, out64, oracle.Tol{Abs: 1e-15, Eps: 1e-7}, want)
			Func32(f, a, b, x, x) // in place
			oracle.Close(t, x, oracle.Tol{}, func(i int) float64 { return float64(out[i]) })
			if t.Failed() {
				t.Fatalf("%v of %d elements", f, n)
			}
		}
	}
}

func TestFuncSlopes(t *testing.T) {
	for f := range funcs {
		for _, n := range []int{1, 16, 33} {
			const a, b = -1.0, 1.0
			x, dy := points(f, n), oracle.Normal(9, n)
			if f == FuncLeaky { // any slope but 1
				x[0] = -2
			}
			x64, dy64 := make([]float64, n), make([]float64, n)
			for i := range x {
				x64[i], dy64[i] = float64(x[i]), float64(dy[i])
			}
			// Differences of step h are off by h²/6·f''' and 2^-53·f/h.
			want := func(i int) float64 {
				h := 1e-5
				if f == FuncLog || f == FuncSqrt || f == FuncInverse {
					h *= x64[i]
				}
				return dy64[i] * (refFunc[f](x64[i]+h, a, b) - refFunc[f](x64[i]-h, a, b)) / (2 * h)
			}
			scale := func(i int) float64 {
				return math.Abs(want(i)) + math.Abs(dy64[i])*(0.5+1e-4*math.Abs(refFunc[f](x64[i], a, b)))
			}
			for _, acc := range []bool{false, true} {
				dx, dx64 := oracle.Normal(3, n), make([]float64, n)
				old := make([]float64, n)
				for i := range dx {
					dx64[i] = float64(dx[i])
					if acc {
						old[i] = dx64[i]
					}
				}
				sum := func(i int) float64 { return old[i] + want(i) }
				FuncBack32(f, a, b, dx, x, dy, acc)
				FuncBack64(f, a, b, dx64, x64, dy64, acc)
				oracle.Close(t, dx, oracle.Tol{Eps: 6, Scale: func(i int) float64 { return scale(i) + math.Abs(old[i]) }}, sum)
				oracle.Close64(t, dx64, oracle.Tol{Abs: 1e-9, Eps: 1e-2, Scale: scale}, sum)
			}
			FuncBack32(f, a, b, dy, x, dy, false) // dx may be dy
			oracle.Close(t, dy, oracle.Tol{Eps: 6, Scale: scale}, want)
			if t.Failed() {
				t.Fatalf("slope of %v at %d elements", f, n)
			}
		}
	}
}

// The ends of the range: no NaN where the function has a value, NaN where it is NaN.
func TestFuncEnds(t *testing.T) {
	inf, nan := float32(math.Inf(1)), float32(math.NaN())
	for _, c := range []struct {
		f       Func
		x, want float32
	}{
		{FuncSiLU, 1000, 1000}, {FuncSiLU, -1000, 0}, {FuncGELU, 1000, 1000}, {FuncGELU, -1000, 0}, {FuncGELUTanh, -1000, 0},
		{FuncGELU, 0, 0}, {FuncSigmoid, -inf, 0}, {FuncSigmoid, inf, 1}, {FuncTanh, inf, 1}, {FuncTanh, -inf, -1}, {FuncTanh, 0, 0},
		{FuncSoftplus, 1000, 1000}, {FuncSoftplus, -1000, 0}, {FuncLog, 0, -inf}, {FuncLog, inf, inf}, {FuncLog, -1, nan}, {FuncLog, 1, 0},
		{FuncLog, 0x1p-140, float32(-140 * math.Ln2)}, {FuncExp, 1000, inf}, {FuncExp, -1000, 0},
		{FuncReLU, nan, nan}, {FuncSiLU, nan, nan}, {FuncGELU, nan, nan}, {FuncTanh, nan, nan}, {FuncSoftplus, nan, nan}, {FuncLog, nan, nan}, {FuncClip, nan, nan},
	} {
		for _, n := range []int{1, 16} {
			x := make([]float32, n)
			for i := range x {
				x[i] = c.x
			}
			Func32(c.f, -1, 1, x, x)
			for _, v := range x {
				if v != c.want && (v == v || c.want == c.want) && math.Abs(float64(v-c.want)) > 1e-6*math.Abs(float64(c.want))+1e-38 {
					t.Fatalf("%v(%g) = %g, want %g", c.f, c.x, v, c.want)
				}
			}
		}
	}
}

package ops_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/internal/oracle/device"
	"github.com/fidlab/fidlab/ops"
)

// elementSizes are the edges of an elementwise launch: no element, less than 16 bytes, a block of
// float64 and of float32 and one more, several.
var elementSizes = []int{0, 1, 3, 511, 512, 513, 1024, 1025, 3001}

// placed is v on dev in float32 or float64, 16 bytes aligned or, odd, by one element not.
func placed(dev *gpu.Device, double, odd bool, v []float64, shape ...int) *gpu.Tensor {
	skip := 0
	if odd {
		skip = 1
		v = append([]float64{math.NaN()}, v...)
	}
	var t *gpu.Tensor
	if double {
		t = dev.From64(append([]float64(nil), v...), len(v))
	} else {
		t = dev.From(float32s(v), len(v))
	}
	return t.Rows(skip, len(v)).View(shape...)
}

// stored is n normals times spread, as a dtype has them.
func stored(r *rand.Rand, double bool, n int, spread float64) []float64 {
	v := random(r, n)
	for i := range v {
		v[i] *= spread
		if !double {
			v[i] = float64(float32(v[i]))
		}
	}
	return v
}

func values(t *testing.T, x *gpu.Tensor) []float64 {
	t.Helper()
	v := make([]float64, x.Len())
	if err := x.Read64(v); err != nil {
		t.Fatal(err)
	}
	return v
}

// close64 holds results of either dtype against want, within eps units of the last place of scale.
func closeTo(t *testing.T, got []float64, double bool, eps float64, want, scale func(i int) float64) {
	t.Helper()
	tol := oracle.Tol{Eps: eps, Scale: scale}
	if double {
		tol.Eps *= 0x1p-29
	}
	oracle.Close64(t, got, tol, want)
}

// eachWidth runs f for both dtypes, with operands that are aligned and that are not.
func eachWidth(t *testing.T, f func(t *testing.T, dev *gpu.Device, double, odd bool)) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		for _, double := range []bool{false, true} {
			for _, odd := range []bool{false, true} {
				f(t, dev, double, odd)
				if t.Failed() {
					t.Fatalf("float64 %t, not aligned %t", double, odd)
				}
			}
		}
	})
}

// functions are the functions by their definitions with their derivatives, and what makes normals fit them.
var functions = []struct {
	f         ops.Func
	at, slope func(x float64) float64
	start     func(x float64) float64
}{
	{ops.Identity, func(x float64) float64 { return x }, func(float64) float64 { return 1 }, nil},
	{ops.ReLU, func(x float64) float64 { return math.Max(x, 0) }, func(x float64) float64 { return choose(x, 0, 1) }, nil},
	{ops.LeakyReLU(0.25), func(x float64) float64 { return math.Max(x, x/4) }, func(x float64) float64 { return choose(x, 0.25, 1) }, nil},
	{ops.SiLU, func(x float64) float64 { return x / (1 + math.Exp(-x)) }, func(x float64) float64 {
		return (1 + math.Exp(-x) + x*math.Exp(-x)) / math.Pow(1+math.Exp(-x), 2)
	}, nil},
	{ops.GELU, func(x float64) float64 { return x * phi(x) }, func(x float64) float64 { return phi(x) + x*density(x) }, nil},
	{ops.GELUTanh, func(x float64) float64 { return x / (1 + math.Exp(-2*inner(x))) }, func(x float64) float64 {
		return 1/(1+math.Exp(-2*inner(x))) + x/2/math.Pow(math.Cosh(inner(x)), 2)*math.Sqrt(2/math.Pi)*(1+3*0.044715*x*x)
	}, nil},
	{ops.Sigmoid, func(x float64) float64 { return 1 / (1 + math.Exp(-x)) }, func(x float64) float64 { return 0.25 / math.Pow(math.Cosh(x/2), 2) }, nil},
	{ops.Tanh, math.Tanh, func(x float64) float64 { return 1 / math.Pow(math.Cosh(x), 2) }, nil},
	{ops.Softplus, func(x float64) float64 { return math.Log1p(math.Exp(x)) }, func(x float64) float64 { return 1 / (1 + math.Exp(-x)) }, nil},
	{ops.Exp, math.Exp, math.Exp, nil},
	{ops.Log, math.Log, func(x float64) float64 { return 1 / x }, math.Exp},
	{ops.Sqrt, math.Sqrt, func(x float64) float64 { return 0.5 / math.Sqrt(x) }, math.Exp},
	{ops.Square, func(x float64) float64 { return x * x }, func(x float64) float64 { return 2 * x }, nil},
	{ops.Abs, math.Abs, func(x float64) float64 { return choose(x, -1, 1) }, nil},
	{ops.Clip(-1, 2), func(x float64) float64 { return math.Min(math.Max(x, -1), 2) }, func(x float64) float64 { return choose(x+1, 0, choose(2-x, 0, 1)) }, nil},
	{ops.Inverse, func(x float64) float64 { return 1 / x }, func(x float64) float64 { return -1 / (x * x) }, math.Exp},
	{ops.Sign, func(x float64) float64 { return choose(x, -1, 1) }, func(float64) float64 { return 0 }, nil},
	{ops.Sin, math.Sin, math.Cos, nil},
	{ops.Cos, math.Cos, func(x float64) float64 { return -math.Sin(x) }, nil},
	{ops.Erf, math.Erf, func(x float64) float64 { return 2 / math.SqrtPi * math.Exp(-x*x) }, nil},
}

func choose(x, below, above float64) float64 {
	if x < 0 {
		return below
	}
	return above
}

func phi(x float64) float64     { return math.Erfc(-x/math.Sqrt2) / 2 }
func density(x float64) float64 { return math.Exp(-x*x/2) / math.Sqrt(2*math.Pi) }
func inner(x float64) float64   { return math.Sqrt(2/math.Pi) * (x + 0.044715*x*x*x) }

// moved is how much f changes at x, in multiples of a small relative change of x.
func moved(f func(x float64) float64, x float64) float64 {
	return math.Abs(f(x*(1+1e-6))-f(x)) * 1e6
}

// Errors allowed are a few units of the value and of x, and absolute ones of a tenth of |x| (half of
// dy for the slope) where the CPU's vector code cancels: GELU's left tail, log near 1, slopes near 0.
func TestMap(t *testing.T) {
	eachWidth(t, func(t *testing.T, dev *gpu.Device, double, odd bool) {
		r := rand.New(rand.NewPCG(21, 22))
		for k, c := range functions {
			for j, n := range elementSizes {
				if k > 1 && j%4 != 2 { // sizes are the same for all functions
					continue
				}
				xv, gv, old := stored(r, double, n, 3), stored(r, double, n, 1), stored(r, double, n, 1)
				for i := range xv {
					if c.start != nil {
						xv[i] = c.start(xv[i])
						if !double {
							xv[i] = float64(float32(xv[i]))
						}
					}
				}
				x := placed(dev, double, odd, xv, n)
				out := placed(dev, double, odd, old, n)
				ops.Map(out, x, c.f)
				want := func(i int) float64 { return c.at(xv[i]) }
				closeTo(t, values(t, out), double, 5, want, func(i int) float64 { return math.Abs(want(i)) + moved(c.at, xv[i]) + 0.1*math.Min(1, math.Abs(xv[i])) })

				g, acc := placed(dev, double, odd, gv, n), placed(dev, double, odd, old, n)
				ops.MapBackward(acc, x, g, c.f, true)
				ops.MapBackward(g, x, g, c.f, false) // in place
				slope := func(i int) float64 { return gv[i] * c.slope(xv[i]) }
				scale := func(i int) float64 {
					s := math.Abs(slope(i)) + math.Abs(gv[i])*(moved(c.slope, xv[i])+0.5)
					if c.f == ops.GELUTanh && !dev.CUDA() { // the CPU's 1 - σ is a difference, times 0.2·x³
						s += 0.1 * math.Abs(gv[i]*xv[i]*xv[i]*xv[i])
					}
					return s
				}
				closeTo(t, values(t, g), double, 8, slope, scale)
				closeTo(t, values(t, acc), double, 8, func(i int) float64 { return old[i] + slope(i) }, func(i int) float64 { return scale(i) + math.Abs(old[i]) })
				ops.Map(x, x, c.f)
				if a, b := values(t, x), values(t, out); fmt.Sprint(a) != fmt.Sprint(b) {
					t.Errorf("in place the results are others")
				}
				if t.Failed() {
					t.Fatalf("%v of %d elements", c.f, n)
				}
			}
		}
	})
}

// Where the function has a value or a limit there is no NaN, NaN stays NaN, and the slopes at kinks are those that are promised.
func TestMapEnds(t *testing.T) {
	inf, nan := math.Inf(1), math.NaN()
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		for _, double := range []bool{false, true} {
			for _, c := range []struct {
				f              ops.Func
				x, want, slope float64
			}{
				{ops.ReLU, 0, 0, 0}, {ops.ReLU, nan, nan, 0}, {ops.LeakyReLU(0.5), 0, 0, 0.5}, {ops.Abs, 0, 0, 0}, {ops.Sign, 0, 0, 0}, {ops.Sign, nan, nan, 0},
				{ops.Clip(-1, 1), -1, -1, 1}, {ops.Clip(-1, 1), 1, 1, 1}, {ops.Clip(-1, 1), 1.5, 1, 0},
				{ops.SiLU, 1000, 1000, 1}, {ops.SiLU, -1000, 0, 0}, {ops.SiLU, nan, nan, nan}, {ops.GELU, 1000, 1000, 1}, {ops.GELU, -1000, 0, 0},
				{ops.GELUTanh, 1000, 1000, 1}, {ops.GELUTanh, -1000, 0, 0}, {ops.Sigmoid, -inf, 0, 0}, {ops.Sigmoid, inf, 1, 0}, {ops.Tanh, inf, 1, 0}, {ops.Tanh, -inf, -1, 0},
				{ops.Softplus, 1000, 1000, 1}, {ops.Softplus, -1000, 0, 0}, {ops.Softplus, nan, nan, nan}, {ops.Log, 0, -inf, inf}, {ops.Log, -1, nan, -1}, {ops.Exp, -1000, 0, 0},
				{ops.Sqrt, 0, 0, inf}, {ops.Inverse, 0, inf, -inf}, {ops.Erf, inf, 1, 0}, {ops.Sin, inf, nan, nan}, {ops.Cos, nan, nan, nan}, {ops.Sin, 0, 0, 1}, {ops.Cos, 0, 1, 0},
				// Far turns, by multiple precision.
				{ops.Sin, 0x1p30, -0.61732641504604217, 0.78670712294118812}, {ops.Sin, -0x1p100, 0.87218360541826731, 0.48917865697472145}, {ops.Cos, 0x1p120, -0.92587902285483787, -0.37782010936075202},
			} {
				x := placed(dev, double, false, []float64{c.x, c.x, c.x, c.x, c.x}, 5)
				y, dx := x.Like(), placed(dev, double, false, []float64{1, 1, 1, 1, 1}, 5)
				ops.Map(y, x, c.f)
				ops.MapBackward(dx, x, dx, c.f, false)
				tol := 1e-6
				if double {
					tol = 1e-14
				}
				for i, v := range values(t, y) {
					if s := values(t, dx)[i]; !alike(v, c.want, tol) || !alike(s, c.slope, tol) {
						t.Fatalf("float64 %t: %v(%g) = %v with slope %v, want %v and %v", double, c.f, c.x, v, s, c.want, c.slope)
					}
				}
			}
		}
	})
}

func alike(got, want, tol float64) bool {
	return got == want || math.IsNaN(got) && math.IsNaN(want) || math.Abs(got-want) <= tol*math.Abs(want)
}

func TestAffine(t *testing.T) {
	eachWidth(t, func(t *testing.T, dev *gpu.Device, double, odd bool) {
		r := rand.New(rand.NewPCG(23, 24))
		const p, q, s = -1.3, 0.7, 2.1
		for _, n := range elementSizes {
			xv, yv, old := stored(r, double, n, 1), stored(r, double, n, 1), stored(r, double, n, 1)
			for k := range 4 { // with y, with acc
				var y *gpu.Tensor
				x, out := placed(dev, double, odd, xv, n), placed(dev, double, odd, old, n)
				if k&1 == 1 {
					y = placed(dev, double, odd, yv, n)
				}
				ops.Affine(out, p, x, q, y, s, k&2 == 2)
				want, scale := make([]float64, n), make([]float64, n)
				for i := range n {
					want[i], scale[i] = p*xv[i]+s, math.Abs(p*xv[i])+s
					if k&1 == 1 {
						want[i], scale[i] = want[i]+q*yv[i], scale[i]+math.Abs(q*yv[i])
					}
					if k&2 == 2 {
						want[i], scale[i] = want[i]+old[i], scale[i]+math.Abs(old[i])
					}
				}
				// Three coefficients and four sums are rounded, half a unit each.
				closeTo(t, values(t, out), double, 4, func(i int) float64 { return want[i] }, func(i int) float64 { return scale[i] })
				ops.Affine(x, p, x, q, y, s, false)
				if k&2 == 0 && fmt.Sprint(values(t, x)) != fmt.Sprint(values(t, out)) {
					t.Errorf("in place the results are others")
				}
			}
		}
	})
}

func TestFill(t *testing.T) {
	eachWidth(t, func(t *testing.T, dev *gpu.Device, double, odd bool) {
		for _, n := range elementSizes {
			for _, v := range []float64{0, -2.5, math.Inf(1)} {
				all := placed(dev, double, odd, make([]float64, n+2), n+2)
				ops.Fill(all, 7)
				ops.Fill(all.Rows(1, n+1), v)
				for i, got := range values(t, all) {
					want := v
					if i == 0 || i == n+1 { // what lies beside is left alone
						want = 7
					}
					if got != want {
						t.Fatalf("%d elements: element %d is %v, want %v", n, i, got, want)
					}
				}
			}
		}
	})
}

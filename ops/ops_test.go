package ops_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/ops"
)

func random(r *rand.Rand, n int) []float64 {
	v := make([]float64, n)
	for i := range v {
		v[i] = r.NormFloat64()
	}
	return v
}

// tensors makes k random tensors of the shape and their values in float64, as stored.
func tensors(r *rand.Rand, double bool, k int, shape ...int) (ts []*gpu.Tensor, vals [][]float64) {
	n := 1
	for _, d := range shape {
		n *= d
	}
	for range k {
		v := random(r, n)
		if double {
			ts = append(ts, gpu.CPU().From64(append([]float64(nil), v...), shape...))
		} else {
			f := make([]float32, n)
			for i := range f {
				f[i] = float32(v[i])
				v[i] = float64(f[i])
			}
			ts = append(ts, gpu.CPU().From(f, shape...))
		}
		vals = append(vals, v)
	}
	return ts, vals
}

func at(t *gpu.Tensor, i int) float64 {
	if t.Double() {
		return t.F64()[i]
	}
	return float64(t.F32()[i])
}

// k products and k-1 sums in float64, rounded once: the error is at most half
// an ulp of the result and (2k-1) ulps of float64 of Σ|c x|; in float64 the same
// holds of the sums in either order.
func TestLinComb(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, double := range []bool{false, true} {
		eps := 0x1p-23
		if double {
			eps = 0x1p-52
		}
		for k := 1; k <= 8; k++ {
			for _, n := range []int{0, 1, 7, 64, 1001} {
				t.Run(fmt.Sprintf("f64=%t/k=%d/n=%d", double, k, n), func(t *testing.T) {
					xs, vals := tensors(r, double, k, n)
					c := random(r, k)
					check := func(what string, out *gpu.Tensor) {
						for i := range n {
							var want, scale float64
							for j := range k {
								want += c[j] * vals[j][i]
								scale += math.Abs(c[j] * vals[j][i])
							}
							if got := at(out, i); math.Abs(got-want) > eps/2*math.Abs(want)+float64(2*k-1)*0x1p-52*scale {
								t.Fatalf("%s: element %d = %v, want %v", what, i, got, want)
							}
						}
					}
					out := xs[0].Like()
					ops.LinComb(out, c, xs...)
					check("apart", out)
					ops.LinComb(xs[k-1], c, xs...)
					check("in place", xs[k-1])
				})
			}
		}
	}
}

func TestLinCombRows(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for _, double := range []bool{false, true} {
		xs, vals := tensors(r, double, 3, 5, 2, 11)
		c := random(r, 15)
		out := xs[0].Like()
		ops.LinCombRows(out, c, xs...)
		for i := range out.Len() {
			b := i / 22
			var want, scale float64
			for j := range 3 {
				want += c[3*b+j] * vals[j][i]
				scale += math.Abs(c[3*b+j] * vals[j][i])
			}
			eps := 0x1p-23
			if double {
				eps = 0x1p-52
			}
			if got := at(out, i); math.Abs(got-want) > 4*eps*scale {
				t.Fatalf("float64 %t: element %d = %v, want %v", double, i, got, want)
			}
		}
	}
}

func TestFiniteFindsEveryPlace(t *testing.T) {
	bad := []float64{math.NaN(), math.Inf(1), math.Inf(-1)}
	for n := range 21 {
		f32 := make([]float32, n+1)[1:] // not 8-byte aligned
		f64 := make([]float64, n)
		for i := range n {
			f32[i], f64[i] = -math.MaxFloat32, -math.MaxFloat64
		}
		for _, x := range []*gpu.Tensor{gpu.CPU().From(f32, n), gpu.CPU().From(append([]float32(nil), f32...), n), gpu.CPU().From64(f64, n)} {
			if at, ok := ops.Finite(x); !ok || at != -1 {
				t.Fatalf("n=%d: finite values refused at %d", n, at)
			}
			for i := range n {
				for _, v := range bad {
					if x.Double() {
						x.F64()[i] = v
					} else {
						x.F32()[i] = float32(v)
					}
					if at, ok := ops.Finite(x); ok || at != i {
						t.Errorf("n=%d, float64 %t: %v at %d: got %d, %t", n, x.Double(), v, i, at, ok)
					}
				}
				if x.Double() {
					x.F64()[i] = 0
				} else {
					x.F32()[i] = 0
				}
			}
		}
	}
}

func TestClamp(t *testing.T) {
	x := gpu.CPU().From64([]float64{-2, -1, 0.5, 1, 3, math.NaN()}, 6)
	ops.Clamp(x, x, -1, 1)
	for i, want := range []float64{-1, -1, 0.5, 1, 1} {
		if x.F64()[i] != want {
			t.Errorf("element %d = %v, want %v", i, x.F64()[i], want)
		}
	}
	if !math.IsNaN(x.F64()[5]) {
		t.Errorf("NaN became %v", x.F64()[5])
	}
}

func TestMisusePanics(t *testing.T) {
	d := gpu.CPU()
	for name, f := range map[string]func(){
		"lengths":      func() { ops.LinComb(d.Empty(3), []float64{1}, d.Empty(4)) },
		"dtypes":       func() { ops.LinComb(d.Empty(3), []float64{1}, d.Empty64(3)) },
		"coefficients": func() { ops.LinComb(d.Empty(3), []float64{1, 2}, d.Empty(3)) },
		"none":         func() { ops.LinComb(d.Empty(3), nil) },
		"rows":         func() { ops.LinCombRows(d.Empty(3, 2), []float64{1, 2}, d.Empty(3, 2)) },
		"clamp":        func() { ops.Clamp(d.Empty(3), d.Empty(2), 0, 1) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			f()
		}()
	}
}

func TestNoAllocations(t *testing.T) {
	d := gpu.CPU()
	x, y, z := d.Empty(64, 30), d.Empty(64, 30), d.Empty(64, 30)
	rows := make([]float64, 128)
	if n := oracle.Allocations(20, func() {
		ops.LinComb(x, []float64{1, 2, 3}, x, y, z)
		ops.LinCombRows(x, rows, y, z)
		ops.Clamp(x, x, -1, 1)
		ops.Finite(x)
	}); n != 0 {
		t.Errorf("%v allocations per run, want 0", n)
	}
}

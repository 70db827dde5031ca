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

var linearDTypes = []gpu.DType{gpu.Float32, gpu.Float64, gpu.Float16, gpu.BFloat16}

// linearUnit is the largest relative error of rounding to dt; a 16-bit result is
// rounded to float32 first.
func linearUnit(dt gpu.DType) float64 {
	return map[gpu.DType]float64{
		gpu.Float32: 0x1p-24, gpu.Float64: 0x1p-53,
		gpu.Float16: 0x1p-11 + 0x1p-24, gpu.BFloat16: 0x1p-8 + 0x1p-24,
	}[dt]
}

// linearLeast is half the distance of the subnormal numbers of dt.
func linearLeast(dt gpu.DType) float64 {
	return map[gpu.DType]float64{gpu.Float32: 0x1p-150, gpu.Float16: 0x1p-25, gpu.BFloat16: 0x1p-134}[dt]
}

// linearInput makes a tensor of n normal values in dt and returns them as stored.
func linearInput(t *testing.T, dev *gpu.Device, dt gpu.DType, seed uint64, shape ...int) (*gpu.Tensor, []float64) {
	t.Helper()
	n := 1
	for _, d := range shape {
		n *= d
	}
	x := dev.FromAs(dt, oracle.Normal(seed, n), shape...)
	v := make([]float64, n)
	if err := x.Read64(v); err != nil {
		t.Fatal(err)
	}
	return x, v
}

// combination is Σ c x in float64 and its error bound: k products and k-1 sums
// of float64, and one rounding to dt.
func combination(dt gpu.DType, c []float64, x [][]float64, i int) (sum, bound float64) {
	var scale float64
	for j := range c {
		sum += c[j] * x[j][i]
		scale += math.Abs(c[j] * x[j][i])
	}
	return sum, linearUnit(dt)*math.Abs(sum) + linearLeast(dt) + float64(2*len(c))*0x1p-52*scale
}

// Every number of terms, the edges of a vector and of a block, offsets that
// break the alignment, in place.
func TestLinCombOnDevices(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		for _, dt := range linearDTypes {
			for k := 1; k <= 8; k++ {
				for _, n := range []int{0, 1, 7, 8, 255, 511, 1024, 1025, 2049} {
					xs, vals := make([]*gpu.Tensor, k), make([][]float64, k)
					for j := range xs {
						xs[j], vals[j] = linearInput(t, dev, dt, uint64(10*k+j), n)
					}
					c := random(rand.New(rand.NewPCG(uint64(k), uint64(n))), k)
					out := xs[0].Like()
					check := func(what string, out *gpu.Tensor) {
						t.Helper()
						for i, got := range read64(t, out) {
							want, bound := combination(dt, c, vals, i)
							if !(math.Abs(got-want) <= bound) {
								t.Fatalf("%v k=%d n=%d %s: element %d is %v, want %v", dt, k, n, what, i, got, want)
							}
						}
					}
					ops.LinComb(out, c, xs...)
					check("apart", out)
					if n > 0 {
						if got := ops.LinCombFinite(out, c, xs...); !got {
							t.Fatalf("%v k=%d n=%d: finite results are refused", dt, k, n)
						}
					}
					ops.LinComb(xs[k-1], c, xs...)
					check("in place", xs[k-1])
				}
			}
		}
	})
}

// The GPU's bits are the CPU's.
func TestLinCombBits(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		for _, dt := range linearDTypes {
			var cpu, there []*gpu.Tensor
			for j := range 5 {
				x, _ := linearInput(t, gpu.CPU(), dt, uint64(j), 3, 1031)
				cpu, there = append(cpu, x), append(there, x.To(dev))
			}
			c := random(rand.New(rand.NewPCG(7, 7)), 15)
			for name, f := range map[string]func(out *gpu.Tensor, xs []*gpu.Tensor){
				"uniform": func(out *gpu.Tensor, xs []*gpu.Tensor) { ops.LinComb(out, c[:5], xs...) },
				"rows":    func(out *gpu.Tensor, xs []*gpu.Tensor) { ops.LinCombRows(out, c, xs...) },
			} {
				a, b := cpu[0].Like(), there[0].Like()
				f(a, cpu)
				f(b, there)
				va, vb := read64(t, a), read64(t, b)
				for i := range va {
					if math.Float64bits(va[i]) != math.Float64bits(vb[i]) {
						t.Fatalf("%v %s: element %d is %v, on the CPU %v", dt, name, i, vb[i], va[i])
					}
				}
			}
		}
	})
}

func TestLinCombRowsOnDevices(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		for _, dt := range linearDTypes {
			for _, shape := range [][]int{{1, 1}, {3, 5}, {4, 8, 32}, {5, 1025}, {2, 3, 4, 100}, {0, 3}, {3, 0}} {
				for _, k := range []int{1, 2, 3, 8} {
					xs, vals := make([]*gpu.Tensor, k), make([][]float64, k)
					for j := range xs {
						xs[j], vals[j] = linearInput(t, dev, dt, uint64(k+j), shape...)
					}
					c := random(rand.New(rand.NewPCG(3, 4)), k*shape[0])
					out := xs[0].Like()
					ops.LinCombRows(out, c, xs...)
					for i, got := range read64(t, out) {
						b := i / (out.Len() / shape[0])
						if want, bound := combination(dt, c[b*k:][:k], vals, i); !(math.Abs(got-want) <= bound) {
							t.Fatalf("%v %v k=%d: element %d is %v, want %v", dt, shape, k, i, got, want)
						}
					}
				}
			}
		}
	})
}

// A value that is not finite is seen wherever it lies, and one that the result cannot hold.
func TestLinCombFinite(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		const n = 1100
		large := map[gpu.DType]float64{gpu.Float32: 3e38, gpu.Float64: 1.7e308, gpu.Float16: 65504, gpu.BFloat16: 3e38}
		for _, dt := range linearDTypes {
			for _, at := range []int{0, 3, 255, 1023, 1024, n - 1} {
				for _, v := range []float64{math.NaN(), math.Inf(1), math.Inf(-1), large[dt], -large[dt]} {
					host := make([]float64, n)
					host[at] = v
					x := dev.From64(host, n)
					if dt != gpu.Float64 {
						f := make([]float32, n)
						f[at] = float32(v)
						x = dev.FromAs(dt, f, n)
					}
					out := x.Like()
					if !ops.LinCombFinite(out, []float64{0.5}, x) && math.Abs(v) == large[dt] {
						t.Errorf("%v: half of %g at %d is refused", dt, v, at)
					}
					if ops.LinCombFinite(out, []float64{2}, x) {
						t.Errorf("%v: twice %g at %d counts as finite", dt, v, at)
					}
				}
			}
		}
	})
}

func TestLinCombMisuse(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		x, y := dev.Empty(3, 2), dev.Empty(3, 2)
		for name, f := range map[string]func(){
			"dtype":        func() { ops.LinComb(dev.New(gpu.Int32, 3), []float64{1}, dev.New(gpu.Int32, 3)) },
			"mixed dtypes": func() { ops.LinComb(dev.Empty64(3, 2), []float64{1}, x) },
			"nine terms":   func() { ops.LinComb(x, make([]float64, 9), x, x, x, x, x, x, x, x, x) },
			"rows":         func() { ops.LinCombRows(x, make([]float64, 5), x, y) },
			"length":       func() { ops.LinComb(x, []float64{1}, dev.Empty(7)) },
		} {
			mustPanic(t, name, "ops: LinComb", f)
		}
		if dev.CUDA() {
			mustPanic(t, "devices", "ops: LinComb", func() { ops.LinComb(x, []float64{1}, gpu.CPU().Empty(3, 2)) })
		}
	})
}

func BenchmarkLinComb(b *testing.B) {
	for _, shape := range [][]int{{64, 3, 32, 32}, {64, 3, 256, 256}} {
		b.Run(fmt.Sprint(shape), func(b *testing.B) {
			x, y := gpu.CPU().Empty(shape...), gpu.CPU().Empty(shape...)
			for i := range y.F32() {
				y.F32()[i] = 1
			}
			b.SetBytes(int64(12 * x.Len()))
			for b.Loop() {
				ops.LinComb(x, []float64{0.5, 0.5}, x, y)
			}
		})
	}
}

// Both sums of one call against their formulas, the second made of the first's
// result, over its own operands too.
func TestLinCombThen(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		for _, dt := range linearDTypes {
			for _, n := range []int{0, 1, 255, 32768, 100003} {
				a, av := linearInput(t, dev, dt, 1, n)
				b, bv := linearInput(t, dev, dt, 2, n)
				old, ov := linearInput(t, dev, dt, 3, n)
				mid := a.Like()
				if n > 1 {
					if !ops.LinCombThen(mid, []float64{0.5, -2}, a, b, a, []float64{1.5, 0.25, -1}, a, mid, old) {
						t.Errorf("%v n=%d: finite results are refused", dt, n)
					}
				} else {
					ops.LinCombThen(mid, []float64{0.5, -2}, a, b, a, []float64{1.5, 0.25, -1}, a, mid, old)
				}
				m := read64(t, mid)
				for i, got := range m {
					if want, bound := combination(dt, []float64{0.5, -2}, [][]float64{av, bv}, i); !(math.Abs(got-want) <= bound) {
						t.Fatalf("%v n=%d: the first sum's element %d is %v, want %v", dt, n, i, got, want)
					}
				}
				for i, got := range read64(t, a) {
					if want, bound := combination(dt, []float64{1.5, 0.25, -1}, [][]float64{av, m, ov}, i); !(math.Abs(got-want) <= bound) {
						t.Fatalf("%v n=%d: the second sum's element %d is %v, want %v", dt, n, i, got, want)
					}
				}
				if n == 0 {
					continue
				}
				b.Rows(n-1, n).Copy(dev.FromAs(dt, []float32{float32(math.NaN())}, 1))
				if ops.LinCombThen(mid, []float64{0.5, -2}, old, b, a, []float64{1, 1}, a, mid) {
					t.Errorf("%v n=%d: a NaN in the last element is not seen", dt, n)
				}
			}
		}
	})
}

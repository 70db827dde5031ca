package ops_test

import (
	"fmt"
	"math"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle/device"
	"github.com/fidlab/fidlab/ops"
	"github.com/fidlab/fidlab/rng"
)

// normal is normal i of a stream by Box and Muller's formula, from the words
// themselves: the pair of block i/2, its angle reduced as an integer.
func normal(seed, stream, i uint64) float64 {
	b := i >> 1
	w := rng.Philox([4]uint32{uint32(b), uint32(b >> 32), uint32(stream), uint32(stream >> 32)}, [2]uint32{uint32(seed), uint32(seed >> 32)})
	u := (uint64(w[0]) | uint64(w[1])<<32) >> 11
	a := (uint64(w[2]) | uint64(w[3])<<32) >> 11
	r := math.Sqrt(-2 * math.Log1p(-float64(u)*0x1p-53))
	q := (a + 1<<50) >> 51 // quarter turns
	sin, cos := math.Sincos(math.Pi / 2 * float64(int64(a)-int64(q<<51)) * 0x1p-51)
	for range q & 3 {
		sin, cos = cos, -sin
	}
	if i&1 == 1 {
		return r * sin
	}
	return r * cos
}

// Rows of every alignment, an odd first normal, far streams and far normals.
func TestNormals(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		for _, dt := range linearDTypes {
			for _, size := range []int{1, 2, 7, 8, 1023, 1026} {
				for _, z := range []ops.Noise{
					ops.ImageNoise(7, 0, rng.Init), ops.ImageNoise(7, 1<<47+5, rng.Step),
					{Seed: 1<<63 | 9, Stream: 1<<32 - 1, From: 3},
					{Seed: 1, Stream: 2, From: 1<<34 + 6},
				} {
					out := dev.New(dt, 3, size)
					ops.Normals(out, z)
					for i, got := range read64(t, out) {
						want := normal(z.Seed, z.Stream+uint64(i/size), z.From+uint64(i%size))
						// 6 units of 2^-24 for float's logarithm, root, sine and product
						// (float64: the angle's rounding times the radius), then the dtype's rounding.
						bound := 6*0x1p-24*math.Abs(want) + 1e-14
						if dt == gpu.Float64 {
							bound = 1e-14
						}
						bound += linearUnit(dt)*math.Abs(want) + linearLeast(dt)
						if !(math.Abs(got-want) <= bound) {
							t.Fatalf("%v size %d %+v: element %d is %.9g, want %.9g", dt, size, z, i, got, want)
						}
					}
				}
			}
		}
	})
}

// The smallest and the largest radius, and angles at the quarter turns, come up
// rarely: many normals, and the largest relative error.
func TestNormalsRelativeError(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		const rows, size = 4, 20000
		out := dev.Empty(rows, size)
		ops.Normals(out, ops.Noise{Seed: 2026})
		worst := 0.0
		for i, got := range read64(t, out) {
			want := normal(2026, uint64(i/size), uint64(i%size))
			worst = math.Max(worst, (math.Abs(got-want)-1e-14)/math.Abs(want))
		}
		if !(worst <= 7*0x1p-24) {
			t.Errorf("largest relative error %.3g, want at most 7 units of 2^-24", worst)
		}
		t.Logf("largest relative error: %.2f units of 2^-24", worst*0x1p24)
	})
}

func TestAddNoise(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		z := ops.ImageNoise(3, 11, rng.Time)
		for _, dt := range linearDTypes {
			for _, shape := range [][]int{{0, 4}, {3, 0}, {1, 5}, {3, 2, 129}, {2, 4, 256}} {
				for _, each := range []bool{false, true} {
					x, vals := linearInput(t, dev, dt, 5, shape...)
					coeffs := []float64{0.75, 2.5}
					if each {
						coeffs = nil
						for b := range shape[0] {
							coeffs = append(coeffs, 1/float64(b+1), 0.1*float64(b*b))
						}
						if shape[0] == 0 {
							continue
						}
					}
					check := func(what string, out *gpu.Tensor) {
						t.Helper()
						for i, got := range read64(t, out) {
							size := out.Len() / shape[0]
							b := i / size
							c := coeffs
							if each {
								c = coeffs[2*b:]
							}
							n := normal(z.Seed, z.Stream+uint64(b), uint64(i%size))
							want := c[0]*vals[i] + c[1]*n
							bound := math.Abs(c[1]*n)*7*0x1p-24 + 1e-13
							if dt == gpu.Float64 {
								bound = 1e-13
							}
							bound += linearUnit(dt)*math.Abs(want) + linearLeast(dt)
							if !(math.Abs(got-want) <= bound) {
								t.Fatalf("%v %v %s: element %d is %v, want %v", dt, shape, what, i, got, want)
							}
						}
					}
					out := x.Like()
					ops.AddNoise(out, x, coeffs, z)
					check("apart", out)
					ops.AddNoise(x, x, coeffs, z)
					check("in place", x)
				}
			}
		}
		mustPanic(t, "coefficients", "ops: AddNoise: 3 coefficients", func() {
			ops.AddNoise(dev.Empty(2, 2), dev.Empty(2, 2), make([]float64, 3), z)
		})
		mustPanic(t, "dtype", "ops: Normals", func() { ops.Normals(dev.New(gpu.Int32, 2, 2), z) })
		mustPanic(t, "scalar", "ops: Normals", func() { ops.Normals(dev.Empty(), z) })
		mustPanic(t, "image", "ops: ImageNoise", func() { ops.ImageNoise(0, 1<<48, rng.Init) })
	})
}

// What the CPU makes are package rng's own values, bit for bit.
func TestNormalsAreRngs(t *testing.T) {
	x := gpu.CPU().Empty(3, 11)
	z := ops.ImageNoise(5, 40, rng.Step)
	for step := range 3 { // 11 is odd: the second draw begins inside a pair
		ops.Normals(x, z)
		z.From += 11
		for b := range 3 {
			s := rng.ForImage(5, 40+uint64(b), rng.Step)
			for i := range 11 * (step + 1) {
				want := float32(s.Normal())
				if j := i - 11*step; j >= 0 && x.F32()[11*b+j] != want {
					t.Fatalf("draw %d, image %d: normal %d is %v, want %v", step, b, j, x.F32()[11*b+j], want)
				}
			}
		}
	}
}

func TestClampOnDevices(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		for _, dt := range linearDTypes {
			for _, n := range []int{0, 1, 8, 1023, 1024, 2050} {
				x, vals := linearInput(t, dev, dt, 3, n)
				out := x.Like()
				ops.Clamp(out, x, -0.5, 1)
				for i, got := range read64(t, out) {
					if want := min(max(vals[i], -0.5), 1); got != want {
						t.Fatalf("%v n=%d: element %d is %v, want %v", dt, n, i, got, want)
					}
				}
			}
			nan := dev.FromAs(dt, []float32{float32(math.NaN()), float32(math.Inf(1)), float32(math.Inf(-1))}, 3)
			ops.Clamp(nan, nan, -1, 1)
			if v := read64(t, nan); !math.IsNaN(v[0]) || v[1] != 1 || v[2] != -1 {
				t.Errorf("%v: NaN and infinities become %v", dt, v)
			}
		}
		mustPanic(t, "limits", "ops: Clamp", func() { ops.Clamp(dev.Empty(1), dev.Empty(1), 1, -1) })
		mustPanic(t, "NaN limit", "ops: Clamp", func() { ops.Clamp(dev.Empty(1), dev.Empty(1), math.NaN(), 1) })
	})
}

func TestFiniteOnDevices(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		for _, dt := range linearDTypes {
			for _, n := range []int{0, 1, 9, 1024, 4096, 4099, 9000} {
				for _, bad := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
					for _, places := range [][]int{nil, {0}, {n - 1}, {n / 2}, {n - 1, n / 3, n / 2}} {
						v := make([]float32, n)
						first := -1
						for i := range v {
							v[i] = 60000
						}
						for _, p := range places {
							if p < 0 || n == 0 {
								continue
							}
							v[p] = float32(bad)
							if first < 0 || p < first {
								first = p
							}
						}
						at, ok := ops.Finite(dev.FromAs(dt, v, n))
						if at != first || ok != (first < 0) {
							t.Fatalf("%v n=%d %v: got %d, %t, want %d", dt, n, places, at, ok, first)
						}
					}
				}
			}
		}
		mustPanic(t, "dtype", "ops: Finite", func() { ops.Finite(dev.New(gpu.Uint8, 2)) })
	})
}

func BenchmarkAddNoise(b *testing.B) {
	for _, shape := range [][]int{{64, 3, 32, 32}} {
		b.Run(fmt.Sprint(shape), func(b *testing.B) {
			x := gpu.CPU().Empty(shape...)
			b.SetBytes(int64(8 * x.Len()))
			for b.Loop() {
				ops.AddNoise(x, x, []float64{1, 0.1}, ops.Noise{})
			}
		})
	}
}

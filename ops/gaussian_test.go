package ops_test

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/cpu"
	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/internal/oracle/device"
	"github.com/fidlab/fidlab/ops"
)

// orthonormal is r orthonormal rows of d values (Gram and Schmidt, twice).
func orthonormal(seed uint64, r, d int) []float64 {
	u := float64s(oracle.Normal(seed, r*d))
	for i := range r {
		row := u[i*d : (i+1)*d]
		for range 2 {
			for j := range i {
				var dot float64
				for k, v := range u[j*d : (j+1)*d] {
					dot += v * row[k]
				}
				for k, v := range u[j*d : (j+1)*d] {
					row[k] -= dot * v
				}
			}
		}
		var norm float64
		for _, v := range row {
			norm += v * v
		}
		for k := range row {
			row[k] /= math.Sqrt(norm)
		}
	}
	return u
}

// law is a Gaussian and its numbers as stored.
type law struct {
	*ops.Gaussian
	mean, basis, lambda []float64
	rest                float64
}

func makeLaw(t *testing.T, dev *gpu.Device, dt gpu.DType, r, d int) law {
	t.Helper()
	l := law{rest: 0.01}
	if r == d {
		l.rest = 0
	}
	for k := range r {
		l.lambda = append(l.lambda, math.Exp(-float64(k)/8))
	}
	mean, mv := from(dev, dt, float64s(oracle.Normal(1, d)), d)
	basis, bv := from(dev, dt, orthonormal(2, r, d), r, d)
	g, err := ops.NewGaussian(mean, basis, l.lambda, l.rest)
	if err != nil {
		t.Fatal(err)
	}
	l.Gaussian, l.mean, l.basis = g, mv, bv
	return l
}

// want is the map by its formula in float64 on one sample, and a bound of the
// error that sums of products in a type of rounding unit eps have.
func (l law) want(x []float64, a0, a1, rest, eps float64, gain func(float64) float64) (out, bound []float64) {
	d, r := len(l.mean), len(l.lambda)
	if eps < 0x1p-50 {
		eps *= 2 // this formula rounds as well
	}
	y := make([]float64, d)
	out, bound = make([]float64, d), make([]float64, d)
	for i := range y {
		y[i] = x[i] - a0*l.mean[i]
		out[i] = a1*l.mean[i] + rest*y[i]
		bound[i] = float64(r+4) * eps * (math.Abs(a1*l.mean[i]) + rest*(math.Abs(x[i])+math.Abs(a0*l.mean[i])))
	}
	for k := range r {
		u := l.basis[k*d : (k+1)*d]
		var dot, size float64
		for i, v := range u {
			dot += v * y[i]
			size += math.Abs(v) * (math.Abs(x[i]) + math.Abs(a0*l.mean[i]))
		}
		c := gain(l.lambda[k]) - rest
		for i, v := range u {
			out[i] += c * dot * v
			bound[i] += math.Abs(c*v) * eps * (float64(d+4)*size + float64(r+4)*math.Abs(dot))
		}
	}
	return out, bound
}

var levels = [][4]float64{ // a0, b0, a1, b1
	{1, 80, 1, 2}, {0.1, 0.99, 0.8, 0.6}, {0, 1, 0.5, 0.5}, {1, 2, 1, 0},
}

func flowGain(v [4]float64) func(float64) float64 {
	return func(l float64) float64 { return math.Sqrt((v[2]*v[2]*l + v[3]*v[3]) / (v[0]*v[0]*l + v[1]*v[1])) }
}

func TestGaussianFlow(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		for _, dt := range []gpu.DType{gpu.Float32, gpu.Float64} {
			for _, c := range [][3]int{{0, 1, 2}, {1, 1, 1}, {3, 2, 5}, {33, 33, 65}, {9, 70, 260}, {2, 5, 513}} {
				l := makeLaw(t, dev, dt, c[1], c[2])
				for _, v := range levels {
					x, xv := linearInput(t, dev, dt, 3, c[0], c[2])
					out := x.Like()
					l.Flow(out, x, v[0], v[1], v[2], v[3])
					gain := flowGain(v)
					l.check(t, fmt.Sprintf("flow %v %v %v", dt, c, v), out, xv, v[0], v[2], gain(l.rest), linearUnit(dt), gain)
					l.Flow(x, x, v[0], v[1], v[2], v[3])
					l.check(t, "in place", x, xv, v[0], v[2], gain(l.rest), linearUnit(dt), gain)

					shrink := func(s float64) float64 { return v[0] * s / (v[0]*v[0]*s + v[1]*v[1]) }
					x, xv = linearInput(t, dev, dt, 4, c[0], c[2])
					l.Denoise(out, x, v[0], v[1])
					l.check(t, fmt.Sprintf("denoise %v %v %v", dt, c, v), out, xv, v[0], 1, shrink(l.rest), linearUnit(dt), shrink)

					// A quadratic of the covariance with both ends moved.
					square := func(s float64) float64 { return 0.25 + s - s*s/4 }
					x, xv = linearInput(t, dev, dt, 5, c[0], c[2])
					l.Spectral(x, x, v[0], v[2], square)
					l.check(t, fmt.Sprintf("spectral %v %v %v", dt, c, v), x, xv, v[0], v[2], square(l.rest), linearUnit(dt), square)
				}
			}
		}
	})
}

func (l law) check(t *testing.T, what string, out *gpu.Tensor, x []float64, a0, a1, rest, eps float64, gain func(float64) float64) {
	t.Helper()
	d := len(l.mean)
	got := read64(t, out)
	for b := 0; b < len(got); b += d {
		want, bound := l.want(x[b:b+d], a0, a1, rest, eps, gain)
		for i := range want {
			if !(math.Abs(got[b+i]-want[i]) <= bound[i]) {
				t.Fatalf("%s: value %d of sample %d is %.12g, want %.12g (bound %.3g)", what, i, b/d, got[b+i], want[i], bound[i])
			}
		}
	}
}

// The flow solves the ODE dx/dσ = (x - D)/σ: 80 to 20 to 2 is 80 to 2, and 400
// steps of Runge and Kutta with the exact denoiser come to the same place.
func TestGaussianFlowSolvesTheODE(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		const d = 6
		l := makeLaw(t, dev, gpu.Float64, 3, d)
		x0 := make([]float64, 2*d)
		for i, v := range oracle.Normal(9, len(x0)) {
			x0[i] = 80 * float64(v)
		}
		at := func(v []float64) *gpu.Tensor { return dev.From64(append([]float64(nil), v...), 2, d) }
		direct, twice := at(x0), at(x0)
		l.Flow(direct, direct, 1, 80, 1, 2)
		l.Flow(twice, twice, 1, 80, 1, 20)
		l.Flow(twice, twice, 1, 20, 1, 2)
		want := read64(t, direct)
		for i, v := range read64(t, twice) {
			if !(math.Abs(v-want[i]) <= 1e-12*(1+math.Abs(want[i]))) {
				t.Errorf("in two steps value %d is %v, in one %v", i, v, want[i])
			}
		}
		// In s = ln σ the equation is dx/ds = x - D(x).
		x := append([]float64(nil), x0...)
		den := at(x0)
		slope := func(v []float64, s float64) []float64 {
			in := at(v)
			l.Denoise(den, in, 1, math.Exp(s))
			out := read64(t, den)
			for i := range out {
				out[i] = v[i] - out[i]
			}
			return out
		}
		const steps = 400
		h := math.Log(2./80) / steps
		move := func(v, k []float64, f float64) []float64 {
			out := append([]float64(nil), v...)
			for i := range out {
				out[i] += f * k[i]
			}
			return out
		}
		for i := range steps {
			s := math.Log(80) + float64(i)*h
			k1 := slope(x, s)
			k2 := slope(move(x, k1, h/2), s+h/2)
			k3 := slope(move(x, k2, h/2), s+h/2)
			k4 := slope(move(x, k3, h), s+h)
			for j := range x {
				x[j] += h / 6 * (k1[j] + 2*k2[j] + 2*k3[j] + k4[j])
			}
		}
		for i := range x {
			if !(math.Abs(x[i]-want[i]) <= 1e-8*(1+math.Abs(want[i]))) {
				t.Errorf("by integration value %d is %v, by the flow %v", i, x[i], want[i])
			}
		}
	})
}

func TestGaussianRefuses(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		mean, basis := dev.Zeros(gpu.Float32, 4), dev.Zeros(gpu.Float32, 2, 4)
		for _, c := range []struct {
			lambda []float64
			rest   float64
		}{{[]float64{1, math.NaN()}, 0}, {[]float64{1, -1e-3}, 0}, {[]float64{math.Inf(1), 1}, 0}, {[]float64{1, 1}, -1}} {
			if _, err := ops.NewGaussian(mean, basis, c.lambda, c.rest); err == nil || !strings.Contains(err.Error(), "variance") {
				t.Errorf("variances %v and %g: error %v", c.lambda, c.rest, err)
			}
		}
		g, err := ops.NewGaussian(mean, basis, []float64{1, -1e-9}, 0)
		if err != nil {
			t.Fatal(err)
		}
		x := dev.Zeros(gpu.Float32, 3, 4)
		mustPanic(t, "shape", "ops: NewGaussian", func() { _, _ = ops.NewGaussian(mean, dev.Empty(2, 5), []float64{1, 1}, 0) })
		mustPanic(t, "rank", "ops: NewGaussian", func() { _, _ = ops.NewGaussian(mean, basis, []float64{1}, 0) })
		mustPanic(t, "dtype", "ops: NewGaussian", func() { _, _ = ops.NewGaussian(mean, dev.Empty64(2, 4), []float64{1, 1}, 0) })
		mustPanic(t, "values", "ops: Gaussian: Flow", func() { g.Flow(x, dev.Empty(3, 5), 1, 2, 1, 1) })
		mustPanic(t, "spread from none", "ops: Gaussian: a flow", func() { g.Flow(x, x, 1, 0, 1, 1) })
		mustPanic(t, "no level", "ops: Gaussian: Denoise", func() { g.Denoise(x, x, 0, 0) })
	})
}

func TestGaussianAllocatesNoMoreThanItsProducts(t *testing.T) {
	l := makeLaw(t, gpu.CPU(), gpu.Float32, 3, 20)
	x, p := gpu.CPU().Empty(4, 20), make([]float32, 12)
	y, u := make([]float32, 80), make([]float32, 60)
	products := oracle.Allocations(20, func() {
		cpu.Gemm32(nil, false, true, 4, 3, 20, 1, y, 20, u, 20, 0, p, 3)
		cpu.Gemm32(nil, false, false, 4, 20, 3, 1, p, 3, u, 20, 1, y, 20)
	})
	if n := oracle.Allocations(20, func() { l.Flow(x, x, 1, 2, 1, 1) }); n > products {
		t.Errorf("%v allocations per flow, its products alone have %v", n, products)
	}
}

// BenchmarkGaussianFlow is 64 samples of 3×32×32 at rank 256: 0.2 GFLOP.
func BenchmarkGaussianFlow(b *testing.B) {
	const n, r, d = 64, 256, 3072
	mean, basis := gpu.CPU().Empty(d), gpu.CPU().From(oracle.Normal(1, r*d), r, d)
	g, err := ops.NewGaussian(mean, basis, make([]float64, r), 1)
	if err != nil {
		b.Fatal(err)
	}
	x := gpu.CPU().Empty(n, d)
	for b.Loop() {
		g.Flow(x, x, 1, 2, 1, 1)
	}
	b.ReportMetric(4*n*r*d*float64(b.N)/b.Elapsed().Seconds()/1e9, "GFLOP/s")
}

package ops_test

import (
	"fmt"
	"math"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle/device"
	"github.com/fidlab/fidlab/ops"
)

// checkGemm compares with the formula in float64 and the bound that GemmBatch states.
func checkGemm(t *testing.T, dev *gpu.Device, dt gpu.DType, batch, m, n, k int, o ops.GemmOptions, scaled, add, shared bool) {
	t.Helper()
	u, ones := unitOf(dt), batch
	if shared {
		ones = 1
	}
	a, av := from(dev, dt, normals(1, ones*m*k), shapeOf(ones, m, k, o.TransA)...)
	b, bv := from(dev, dt, normals(2, batch*k*n), shapeOf(batch, k, n, o.TransB)...)
	if o.Symmetric { // A·Aᵀ
		b, bv = a, av
		o.TransB = !o.TransA
	}
	c := dev.New(dt, batch, m, n)
	alpha, beta := make([]float64, batch), make([]float64, batch)
	var dv []float64
	for i := range batch {
		alpha[i], beta[i] = 1, 0
		if scaled {
			alpha[i], beta[i] = 0.5+float64(i), -2/float64(i+1)
		}
	}
	if scaled {
		o.Alpha = dev.From64(append([]float64(nil), alpha...), batch)
	}
	if add {
		d := normals(3, batch*m*n)
		for i := range batch * m {
			for j := range min(n, i%m) {
				if o.Symmetric {
					d[i*n+j] = d[i/m*m*n+j*n+i%m]
				}
			}
		}
		o.D, dv = from(dev, dt, d, batch, m, n)
		if scaled {
			o.Beta = dev.From64(append([]float64(nil), beta...), batch)
		} else {
			for i := range beta {
				beta[i] = 1
			}
			c = o.D // in place
		}
	}
	ops.GemmBatch(c, a, b, o)
	got := read64(t, c)
	stepA, rowA, stepB, colB := 1, k, n, 1
	if o.TransA {
		stepA, rowA = m, 1
	}
	if o.TransB {
		stepB, colB = 1, k
	}
	for x := range batch {
		pa, pb := av[x%ones*m*k:], bv[x*k*n:]
		for i := range m {
			for j := range n {
				want, scale := 0.0, 0.0
				for l := range k {
					p := pa[i*rowA+l*stepA] * pb[l*stepB+j*colB]
					want += p
					scale += math.Abs(p)
				}
				want *= alpha[x]
				scale *= math.Abs(alpha[x])
				if add {
					want += beta[x] * dv[(x*m+i)*n+j]
					scale += math.Abs(beta[x] * dv[(x*m+i)*n+j])
				}
				// The oracle's own roundings are float64's.
				if g := got[(x*m+i)*n+j]; !(math.Abs(g-want) <= float64(k+2)*(u+0x1p-53)*scale) {
					t.Fatalf("matrix %d (%d,%d) is %.9g, want %.9g within %.2g", x, i, j, g, want, float64(k+2)*u*scale)
				}
			}
		}
	}
}

func shapeOf(batch, rows, cols int, trans bool) []int {
	if trans {
		return []int{batch, cols, rows}
	}
	return []int{batch, rows, cols}
}

func TestGemmBatch(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		for _, dt := range []gpu.DType{gpu.Float32, gpu.Float64} {
			for i, s := range [][3]int{{1, 1, 1}, {3, 2, 5}, {64, 64, 16}, {65, 63, 17}, {128, 128, 8}, {129, 65, 15}, {127, 131, 33}, {36, 260, 4}, {260, 20, 40}, {4, 4, 0}} {
				for kind := range 4 {
					m, n, k := s[0], s[1], s[2]
					o := ops.GemmOptions{TransA: kind&1 != 0, TransB: kind&2 != 0}
					t.Run(fmt.Sprintf("%v/%dx%dx%d/%t,%t", dt, m, n, k, o.TransA, o.TransB), func(t *testing.T) {
						checkGemm(t, dev, dt, 1+i%2*2, m, n, k, o, (i+kind)%2 == 0, kind != 1, i%3 == 0)
					})
					if n <= 65 {
						continue
					}
					o = ops.GemmOptions{TransA: o.TransA, Symmetric: true}
					t.Run(fmt.Sprintf("%v/%dx%dx%d/%t,symmetric", dt, n, n, k, o.TransA), func(t *testing.T) {
						checkGemm(t, dev, dt, 2, n, n, k, o, kind&2 == 0, i%2 == 0, false)
					})
				}
			}
		}
	})
}

// A matrix of the batch with alpha = 0 gets beta·D, NaN in A or not, or is left alone.
func TestGemmBatchSkips(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		for _, dt := range []gpu.DType{gpu.Float32, gpu.Float64} {
			nan := math.NaN()
			a, _ := from(dev, dt, []float64{nan, nan, 2, 3}, 2, 1, 2)
			b, _ := from(dev, dt, []float64{nan, nan, 5, 7}, 2, 2, 1)
			c, _ := from(dev, dt, []float64{11, 13}, 2, 1, 1)
			o := ops.GemmOptions{Alpha: dev.From64([]float64{0, 1}, 2)}
			ops.GemmBatch(c, a, b, o)
			if got := read64(t, c); got[0] != 11 || got[1] != 31 {
				t.Errorf("%v: without D %v, want [11 31]", dt, got)
			}
			o.D, o.Beta = c, dev.From64([]float64{-1, 2}, 2)
			ops.GemmBatch(c, a, b, o)
			if got := read64(t, c); got[0] != -11 || got[1] != 93 {
				t.Errorf("%v: with D %v, want [-11 93]", dt, got)
			}
		}
	})
}

func TestGemmBatchMisuse(t *testing.T) {
	d := gpu.CPU()
	c, a, b := d.Empty(2, 3, 4), d.Empty(2, 3, 5), d.Empty(2, 5, 4)
	for _, x := range []struct {
		words string
		f     func()
	}{
		{"do not fit together", func() { ops.GemmBatch(c, b, a, ops.GemmOptions{}) }},
		{"do not fit together", func() { ops.GemmBatch(c, a, b, ops.GemmOptions{TransA: true}) }},
		{"do not fit together", func() { ops.GemmBatch(c, d.Empty(3, 3, 5), b, ops.GemmOptions{}) }},
		{"want [B, M, N]", func() { ops.GemmBatch(d.Empty(3, 4), a, b, ops.GemmOptions{}) }},
		{"a is float64, c float32", func() { ops.GemmBatch(c, d.Empty64(2, 3, 5), b, ops.GemmOptions{}) }},
		{"c is uint8", func() { ops.GemmBatch(d.New(gpu.Uint8, 2, 3, 4), a, b, ops.GemmOptions{}) }},
		{"D has shape", func() { ops.GemmBatch(c, a, b, ops.GemmOptions{D: a}) }},
		{"Beta is float32", func() { ops.GemmBatch(c, a, b, ops.GemmOptions{Beta: d.Empty(2)}) }},
		{"want a square", func() { ops.GemmBatch(c, a, b, ops.GemmOptions{Symmetric: true}) }},
		{"c is a", func() { q := d.Empty(1, 3, 3); ops.GemmBatch(q, q, d.Empty(1, 3, 3), ops.GemmOptions{}) }},
	} {
		mustPanic(t, x.words, x.words, x.f)
	}
	ops.GemmBatch(d.Empty(0, 3, 4), d.Empty(0, 3, 5), d.Empty(0, 5, 4), ops.GemmOptions{})
}

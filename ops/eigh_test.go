package ops_test

import (
	"fmt"
	"math"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle/device"
	"github.com/fidlab/fidlab/ops"
)

func unitOf(dt gpu.DType) float64 {
	if dt == gpu.Float64 {
		return 0x1p-53
	}
	return 0x1p-24
}

// symmetric matrices of order d of many kinds, with their eigenvalues where
// those are known in closed form.
func symmetricMatrices(d int) map[string]struct{ a, lambda []float64 } {
	type pair = struct{ a, lambda []float64 }
	random := normals(uint64(d), d*d)
	for i := range d {
		for j := range i {
			random[j*d+i] = random[i*d+j]
		}
	}
	ones, shift := make([]float64, d*d), make([]float64, d)
	chain, waves := make([]float64, d*d), make([]float64, d)
	diagonal, entries := make([]float64, d*d), make([]float64, d)
	for i := range d {
		for j := range d {
			ones[i*d+j] = 1 // J + 2I: eigenvalue 2, d-1 times, and d+2
		}
		ones[i*d+i]++
		ones[i*d+i]++
		shift[i] = 2
		chain[i*d+i] = 2 // second differences
		if i > 0 {
			chain[i*d+i-1], chain[(i-1)*d+i] = -1, -1
		}
		waves[i] = 2 - 2*math.Cos(float64(i+1)*math.Pi/float64(d+1))
		entries[i] = float64(i - d/2)
		diagonal[(d-1-i)*d+d-1-i] = entries[i] // descending on the diagonal, negative ones too
	}
	shift[d-1] = float64(d) + 2
	graded := spectral(rotation(uint64(d), d), decades(d, 1e12))
	return map[string]pair{
		"random": {random, nil}, "ones": {ones, shift}, "chain": {chain, waves},
		"diagonal": {diagonal, entries}, "zero": {make([]float64, d*d), make([]float64, d)}, "graded": {graded, nil},
	}
}

// Values and vectors have the residual and the orthogonality that Eigh states.
func TestEigh(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		for _, dt := range []gpu.DType{gpu.Float32, gpu.Float64} {
			for _, d := range orders {
				if d > 64 && (dev.CUDA() || d == 128) {
					continue
				}
				var names []string
				var all []float64
				matrices := symmetricMatrices(d)
				for name, m := range matrices {
					names = append(names, name)
					all = append(all, m.a...)
				}
				batch := len(names)
				in, stored := from(dev, dt, all, batch, d, d)
				values, vectors, alone := dev.New(dt, batch, d), dev.New(dt, batch, d, d), dev.New(dt, batch, d)
				if err := ops.Eigh(values, vectors, in); err != nil {
					t.Fatalf("%v, D=%d: %v", dt, d, err)
				}
				if err := ops.Eigh(alone, nil, in); err != nil {
					t.Fatalf("%v, D=%d, without vectors: %v", dt, d, err)
				}
				l, v, only := read64(t, values), read64(t, vectors), read64(t, alone)
				for b, name := range names {
					t.Run(fmt.Sprintf("%v/D=%d/%s", dt, d, name), func(t *testing.T) {
						a, lambda, q := stored[b*d*d:][:d*d], l[b*d:][:d], v[b*d*d:][:d*d]
						norm := frobenius(a)
						eps := 8 * float64(d+1) * unitOf(dt)
						for i, x := range lambda {
							if i > 0 && !(lambda[i-1] <= x) {
								t.Fatalf("values %d and %d are %g and %g: not ascending", i-1, i, lambda[i-1], x)
							}
							if want := matrices[name].lambda; want != nil && !(math.Abs(x-want[i]) <= eps*(norm+1)) {
								t.Errorf("value %d is %.10g, want %.10g", i, x, want[i])
							}
							if !(math.Abs(x-only[b*d+i]) <= eps*norm) {
								t.Errorf("value %d is %.17g, without vectors %.17g", i, x, only[b*d+i])
							}
						}
						atMost(t, "‖A-VᵀΛV‖", frobenius(minus(spectral(q, lambda), a)), eps*norm)
						gram := make([]float64, d*d)
						for i := range d {
							for j := range d {
								for k := range d {
									gram[i*d+j] += q[i*d+k] * q[j*d+k]
								}
							}
						}
						atMost(t, "‖VVᵀ-I‖", frobenius(minus(gram, identity(d))), eps)
					})
				}
			}
		}
	})
}

// A bad matrix is named and gives NaN; its neighbours are done.
func TestEighRefuses(t *testing.T) {
	const d = 5
	good := symmetricMatrices(d)["chain"]
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		for _, dt := range []gpu.DType{gpu.Float32, gpu.Float64} {
			for _, c := range []struct {
				fault ops.Fault
				words string
				spoil func(a []float64)
			}{
				{ops.NotFinite, "matrix 1 of 3 has NaN at (3,2)", func(a []float64) { a[3*d+2] = math.NaN() }},
				{ops.NotFinite, "has +Inf at (0,0)", func(a []float64) { a[0] = math.Inf(1) }},
				{ops.NotSymmetric, "-1 at (2,1), 0.5 at (1,2)", func(a []float64) { a[1*d+2] = 0.5 }},
			} {
				all := append(append(append([]float64(nil), good.a...), good.a...), good.a...)
				c.spoil(all[d*d : 2*d*d])
				in, _ := from(dev, dt, all, 3, d, d)
				values, vectors := dev.New(dt, 3, d), dev.New(dt, 3, d, d)
				refused(t, ops.Eigh(values, vectors, in), c.fault, 1, c.words)
				l := read64(t, values)
				allNaN(t, "values", l[d:2*d])
				allNaN(t, "vectors", read64(t, vectors)[d*d:2*d*d])
				for i, w := range good.lambda {
					for _, b := range []int{0, 2} {
						if !(math.Abs(l[b*d+i]-w) <= 200*unitOf(dt)) {
							t.Errorf("value %d of the good matrix %d is %g, want %g", i, b, l[b*d+i], w)
						}
					}
				}
			}
		}
	})
}

func TestEighMisuse(t *testing.T) {
	d := gpu.CPU()
	for _, c := range []struct {
		words string
		f     func()
	}{
		{"want [B, D, D]", func() { _ = ops.Eigh(d.Empty(1, 3), nil, d.Empty(3, 3)) }},
		{"values has shape [1 4], want [1 3]", func() { _ = ops.Eigh(d.Empty(1, 4), nil, d.Empty(1, 3, 3)) }},
		{"values is float64, want float32", func() { _ = ops.Eigh(d.Empty64(1, 3), nil, d.Empty(1, 3, 3)) }},
		{"vectors has shape", func() { _ = ops.Eigh(d.Empty(1, 3), d.Empty(3, 3), d.Empty(1, 3, 3)) }},
		{"a is int32", func() { _ = ops.Eigh(d.Empty(1, 3), nil, d.New(gpu.Int32, 1, 3, 3)) }},
		{"at most 16384", func() { _ = ops.Eigh(d.Empty(0, 20000), nil, d.Empty(0, 20000, 20000)) }},
	} {
		mustPanic(t, c.words, c.words, c.f)
	}
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		if dev.CUDA() {
			mustPanic(t, "order", "order 65 on a GPU, want at most 64", func() { _ = ops.Eigh(dev.Empty(1, 65), nil, dev.Empty(1, 65, 65)) })
		}
	})
	for _, shape := range [][2]int{{0, 3}, {2, 0}} {
		if err := ops.Eigh(d.Empty(shape[0], shape[1]), nil, d.Empty(shape[0], shape[1], shape[1])); err != nil {
			t.Errorf("shape %v: %v", shape, err)
		}
	}
}

func BenchmarkEigh(b *testing.B) {
	for _, c := range [][2]int{{256, 16}, {64, 64}, {1, 512}} {
		b.Run(fmt.Sprintf("B=%d,D=%d", c[0], c[1]), func(b *testing.B) {
			n, d := c[0], c[1]
			one := spectral(rotation(1, d), decades(d, 1e4))
			var all []float64
			for range n {
				all = append(all, one...)
			}
			dev := gpu.CPU()
			in, values, vectors := dev.From64(all, n, d, d), dev.Empty64(n, d), dev.Empty64(n, d, d)
			for b.Loop() {
				if err := ops.Eigh(values, vectors, in); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

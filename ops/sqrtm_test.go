package ops_test

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle/device"
	"github.com/fidlab/fidlab/ops"
)

// spectra are eigenvalues of order d and a condition number, in shapes that
// Newton–Schulz finds easy and hard.
func spectra(d int, condition float64) map[string][]float64 {
	few, one := make([]float64, d), make([]float64, d)
	for i := range d {
		few[i], one[i] = 1/condition, 1
	}
	few[0], one[d-1] = 1, 1/condition
	return map[string][]float64{"even": decades(d, condition), "few large": few, "one small": one}
}

// The root's square is A, the inverse root undoes it, and the root is as near
// to the exact one as its report says.
func TestSqrtm(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		for _, dt := range []gpu.DType{gpu.Float32, gpu.Float64} {
			for _, d := range orders {
				for _, condition := range []float64{1, 100, 3e4, 1e10} {
					if condition > 1e5 && dt == gpu.Float32 || d == 128 || dev.CUDA() && (d > 65 && condition != 100 || d == 63 || d == 127) {
						continue
					}
					for name, lambda := range spectra(d, condition) {
						if condition == 1 && name != "even" || d > 65 && name == "few large" || dev.CUDA() && d > 3 && name != []string{"even", "few large", "one small"}[d%3] {
							continue
						}
						t.Run(fmt.Sprintf("%v/D=%d/%s/%.0e", dt, d, name, condition), func(t *testing.T) {
							checkRoot(t, dev, dt, d, lambda)
						})
					}
				}
			}
		}
	})
}

// checkRoot takes two matrices of those eigenvalues, the second 1e6 times the first.
func checkRoot(t *testing.T, dev *gpu.Device, dt gpu.DType, d int, lambda []float64) {
	const factor = 1e6
	q := rotation(uint64(d), d)
	first := spectral(q, lambda)
	all := append([]float64(nil), first...)
	for _, x := range first {
		all = append(all, factor*x)
	}
	in, stored := from(dev, dt, all, 2, d, d)
	root, inverse := in.Like(), in.Like()
	reports, err := ops.Sqrtm(root, inverse, in)
	if err != nil {
		t.Fatal(err)
	}
	r, z := read64(t, root), read64(t, inverse)
	half := make([]float64, d)
	for i, x := range lambda {
		half[i] = math.Sqrt(x)
	}
	exact := spectral(q, half)
	condition := lambda[0] / lambda[d-1]
	if d == 1 {
		condition = 1
	}
	u := unitOf(dt)
	rounding := 16 * math.Sqrt(float64(d)) * u * math.Sqrt(condition)
	for b := range 2 {
		a, r, z := stored[b*d*d:][:d*d], r[b*d*d:][:d*d], z[b*d*d:][:d*d]
		residual := frobenius(minus(product(d, r, r), a)) / frobenius(a)
		atMost(t, "‖RR-A‖/‖A‖", residual, rounding)
		atMost(t, "the reported residual less the true one", math.Abs(reports[b].Residual-residual), rounding)
		if c := reports[b].Condition; !(c <= 1.5*condition && c >= condition/4) {
			t.Errorf("condition number reported %.3g, is %.3g", c, condition)
		}
		undone := minus(product(d, product(d, z, a), z), identity(d))
		atMost(t, "‖ZAZ-I‖", frobenius(undone), 32*float64(d)*u*condition)
		// Rounding A to its dtype moves its root as the residual does.
		scale := 1.0
		if b == 1 {
			scale = math.Sqrt(factor)
		}
		want := make([]float64, d*d)
		for i, x := range exact {
			want[i] = scale * x
		}
		moved := math.Sqrt(condition) / 2 * 2 * u
		atMost(t, "‖R-A^½‖/‖A^½‖", frobenius(minus(r, want))/frobenius(want), 4*reports[b].Error()+moved+rounding)
	}
}

// For two by two matrices the root is (A + √det)/√(tr + 2√det).
func TestSqrtmClosedForm(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		var all, want []float64
		for _, m := range [][3]float64{{2, 1, 3}, {1, -0.9, 1}, {1e-8, 0, 4e-8}, {5e10, 1e9, 2e10}, {4, 0, 4}} {
			det := math.Sqrt(m[0]*m[2] - m[1]*m[1])
			by := math.Sqrt(m[0] + m[2] + 2*det)
			all = append(all, m[0], m[1], m[1], m[2])
			want = append(want, (m[0]+det)/by, m[1]/by, m[1]/by, (m[2]+det)/by)
		}
		in := dev.From64(all, 5, 2, 2)
		root := in.Like()
		if _, err := ops.Sqrtm(root, nil, in); err != nil {
			t.Fatal(err)
		}
		got := read64(t, root)
		for i, w := range want {
			if scale := want[i/4*4] + want[i/4*4+3]; !(math.Abs(got[i]-w) <= 1e-14*scale) {
				t.Errorf("element %d is %.17g, want %.17g", i, got[i], w)
			}
		}
	})
}

// Singular, indefinite and broken matrices are refused by name; their
// neighbours are done, and the refusal says what to do.
func TestSqrtmRefuses(t *testing.T) {
	const d = 33
	q := rotation(2, d)
	good := spectral(q, decades(d, 10))
	eigen := func(last float64) []float64 {
		l := decades(d, 10)
		l[d-1] = last
		return spectral(q, l)
	}
	zeroed := append([]float64(nil), good...)
	for i := range d {
		zeroed[4*d+i], zeroed[i*d+4] = 0, 0
	}
	nan := append([]float64(nil), good...)
	nan[7] = math.NaN()
	skew := append([]float64(nil), good...)
	skew[9] += 0.1
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		for _, dt := range []gpu.DType{gpu.Float32, gpu.Float64} {
			for _, c := range []struct {
				name   string
				matrix []float64
				faults []ops.Fault
				words  string
			}{
				{"eigenvalue 0", eigen(0), []ops.Fault{ops.Singular, ops.NotPositive}, "add a multiple of the identity"},
				{"eigenvalue 1e-14", eigen(1e-14), []ops.Fault{ops.Singular, ops.NotPositive}, "add a multiple of the identity"},
				{"a row of zeros", zeroed, []ops.Fault{ops.Singular}, "is singular in " + dt.String()},
				{"all zeros", make([]float64, d*d), []ops.Fault{ops.Singular}, "is singular"},
				{"eigenvalue -0.3", eigen(-0.3), []ops.Fault{ops.NotPositive}, "want all positive"},
				{"all negative", make([]float64, d*d), []ops.Fault{ops.NotPositive}, "want all positive"},
				{"NaN", nan, []ops.Fault{ops.NotFinite}, "has NaN at (0,7)"},
				{"asymmetric", skew, []ops.Fault{ops.NotSymmetric}, "is not symmetric"},
			} {
				if c.name == "all negative" {
					for i := range c.matrix {
						c.matrix[i] = -good[i]
					}
				}
				if dev.CUDA() && dt == gpu.Float32 && strings.HasPrefix(c.name, "eigenvalue 1") {
					continue // as eigenvalue 0
				}
				t.Run(dt.String()+"/"+c.name, func(t *testing.T) {
					in, _ := from(dev, dt, append(append(append([]float64(nil), good...), c.matrix...), good...), 3, d, d)
					root, inverse := in.Like(), in.Like()
					reports, err := ops.Sqrtm(root, inverse, in)
					var fault ops.Fault
					for _, f := range c.faults {
						if e, ok := err.(*ops.MatrixError); ok && e.Fault == f {
							fault = f
						}
					}
					refused(t, err, fault, 1, c.words)
					r, z := read64(t, root), read64(t, inverse)
					allNaN(t, "root", r[d*d:2*d*d])
					allNaN(t, "inverse", z[d*d:2*d*d])
					for _, b := range []int{0, 2} {
						a := product(d, r[b*d*d:][:d*d], r[b*d*d:][:d*d])
						atMost(t, "residual of a neighbour", frobenius(minus(a, good))/frobenius(good), 1e3*unitOf(dt))
						atMost(t, "its report", reports[b].Residual, 1e3*unitOf(dt))
					}
				})
			}
		}
	})
}

func TestSqrtmMisuse(t *testing.T) {
	d := gpu.CPU()
	a := d.Empty(1, 3, 3)
	for _, c := range []struct {
		words string
		f     func()
	}{
		{"want [B, D, D]", func() { _, _ = ops.Sqrtm(nil, nil, d.Empty(3, 3)) }},
		{"a is bfloat16", func() { _, _ = ops.Sqrtm(nil, nil, d.New(gpu.BFloat16, 1, 3, 3)) }},
		{"root is a", func() { _, _ = ops.Sqrtm(a, nil, a) }},
		{"inverse is a", func() { _, _ = ops.Sqrtm(nil, a, a) }},
		{"root is float64, want float32", func() { _, _ = ops.Sqrtm(d.Empty64(1, 3, 3), nil, a) }},
		{"inverse has shape", func() { _, _ = ops.Sqrtm(nil, d.Empty(1, 3, 2), a) }},
	} {
		mustPanic(t, c.words, c.words, c.f)
	}
	for _, shape := range [][2]int{{0, 3}, {2, 0}} {
		r, err := ops.Sqrtm(nil, nil, d.Empty(shape[0], shape[1], shape[1]))
		if err != nil || len(r) != shape[0] {
			t.Errorf("shape %v: %d reports, %v", shape, len(r), err)
		}
	}
	e := &ops.MatrixError{Op: "Sqrtm", Index: 2, Batch: 9, Failed: 3, Detail: "is singular"}
	if s := e.Error(); !strings.Contains(s, "matrix 2 of 9 (and 2 more) is singular") {
		t.Errorf("message is %q", s)
	}
}

func BenchmarkSqrtm(b *testing.B) {
	for _, d := range []int{64, 512} {
		b.Run(fmt.Sprintf("D=%d", d), func(b *testing.B) {
			dev := gpu.CPU()
			in := dev.From64(spectral(rotation(1, d), decades(d, 1e4)), 1, d, d)
			root := in.Like()
			for b.Loop() {
				if _, err := ops.Sqrtm(root, nil, in); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

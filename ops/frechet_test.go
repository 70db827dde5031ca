package ops_test

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/internal/oracle/device"
	"github.com/fidlab/fidlab/ops"
	"github.com/fidlab/fidlab/tensor"
)

// stats are the means and covariances of a batch of distributions.
type stats struct{ mean, cov []float64 }

func (s *stats) add(mean, cov []float64) {
	s.mean = append(s.mean, mean...)
	s.cov = append(s.cov, cov...)
}

// frechet calls ops.Frechet for b pairs.
func frechet(t testing.TB, dev *gpu.Device, d, b int, x, y stats) ([]float64, error) {
	t.Helper()
	dist := dev.Empty64(b)
	first := b
	if d > 0 {
		first = len(x.mean) / d
	}
	err := ops.Frechet(dist, dev.From64(x.mean, first, d), dev.From64(x.cov, first, d, d), dev.From64(y.mean, b, d), dev.From64(y.cov, b, d, d))
	return read64(t, dist), err
}

// The golden cases of package fid: 60-digit evaluations from the stored
// statistics, and the tolerances that their README suggests.
func TestFrechetGolden(t *testing.T) {
	var golden struct {
		Cases []struct {
			Name     string
			Dim      int
			Stats    [2]string
			FID      string `json:"mpmath_fid"`
			FIDExact string `json:"mpmath_fid_exact_statistics"`
		}
	}
	oracle.GoldenJSON(t, &golden, "fid", "cases.json")
	if len(golden.Cases) == 0 {
		t.Fatal("no golden cases")
	}
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		for _, c := range golden.Cases {
			t.Run(c.Name, func(t *testing.T) {
				var side [2]stats
				for i, f := range c.Stats {
					z, err := tensor.OpenNPZ(oracle.Golden(t, "fid", f))
					if err != nil {
						t.Fatal(err)
					}
					defer z.Close()
					mu, err := z.Read("mu")
					if err != nil {
						t.Fatal(err)
					}
					sigma, err := z.Read("sigma")
					if err != nil {
						t.Fatal(err)
					}
					side[i].add(mu.F64(), sigma.F64())
				}
				got, err := frechet(t, dev, c.Dim, 1, side[0], side[1])
				if err != nil {
					t.Fatal(err)
				}
				want, err := strconv.ParseFloat(c.FID, 64)
				if err != nil {
					t.Fatal(err)
				}
				tol := 1e-9 * want
				switch {
				case want < 1e-30:
					want, tol = 0, 1e-9
				case want < 1e-6: // nearly identical: digits of the traces cancel
					tol = 1e-13
				case strings.HasPrefix(c.Name, "illcond"), strings.HasPrefix(c.Name, "large_scale"):
					tol = 1e-7 * want
				case strings.HasPrefix(c.Name, "rankdef"), strings.HasPrefix(c.Name, "constant"):
					if want, err = strconv.ParseFloat(c.FIDExact, 64); err != nil {
						t.Fatal(err)
					}
					tol = 1e-7 * want
				}
				if !(math.Abs(got[0]-want) <= tol) {
					t.Errorf("%.17g, want %.17g within %.2g", got[0], want, tol)
				}
			})
		}
	})
}

// Covariances with common eigenvectors: Σ(√λ-√μ)², and the squared distance of
// the means. The batch holds full, repeated, singular and zero spectra.
func TestFrechetOfCommutingCovariances(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		for _, d := range append(slices.Clone(orders), 300) { // beyond 256 the CPU prefers eigenvalues
			if d == 128 || dev.CUDA() && (d == 63 || d == 127 || d > 256) {
				continue
			}
			t.Run(fmt.Sprintf("D=%d", d), func(t *testing.T) {
				var x, y stats
				var want, tol []float64
				q := rotation(uint64(d), d)
				add := func(lambda, mu []float64, singular bool) {
					m1, m2 := normals(uint64(len(want)), d), normals(uint64(len(want)+99), d)
					w, trace := 0.0, 0.0
					for i := range d {
						r := math.Sqrt(lambda[i]) - math.Sqrt(mu[i])
						w += r*r + (m1[i]-m2[i])*(m1[i]-m2[i])
						trace += lambda[i] + mu[i]
					}
					x.add(m1, spectral(q, lambda))
					y.add(m2, spectral(q, mu))
					want = append(want, w)
					limit := 8*float64(d+1)*unit*trace + 16*unit*w
					if singular {
						limit = float64(d+1) * math.Sqrt(unit) * trace
					} else { // the stored covariances are roundings off: that moves √(λμ)
						for i := range d {
							ratio := math.Sqrt(lambda[i] / mu[i])
							limit += 4 * unit * (slices.Max(lambda)/ratio + slices.Max(mu)*ratio)
						}
					}
					tol = append(tol, limit)
				}
				a, b := decades(d, 1e3), decades(d, 1e6)
				reversed, half, zero, equal := make([]float64, d), make([]float64, d), make([]float64, d), make([]float64, d)
				for i := range d {
					reversed[i] = 3 * b[d-1-i]
					equal[i] = 2
					if i%2 == 0 {
						half[i] = a[i]
					}
				}
				add(a, b, false)
				add(a, reversed, false)
				add(equal, equal, false)
				add(half, a, true)
				if !dev.CUDA() || d <= 64 {
					add(a, half, true)
					add(half, half, true)
				}
				add(zero, a, true)
				got, err := frechet(t, dev, d, len(want), x, y)
				if err != nil {
					t.Fatal(err)
				}
				for i, w := range want {
					if !(math.Abs(got[i]-w) <= tol[i]) {
						t.Errorf("pair %d: %.17g, want %.17g within %.2g", i, got[i], w, tol[i])
					}
				}
			})
		}
	})
}

// The distance is symmetric, invariant under rotation of both sides, and of a
// scaled covariance (1-c)²·tr S. One reference for all pairs gives what a
// copied one gives.
func TestFrechetProperties(t *testing.T) {
	for _, d := range []int{33, 70} { // on a GPU: Jacobi, and Cholesky with Newton–Schulz
		device.Each(t, func(t *testing.T, dev *gpu.Device) { frechetProperties(t, dev, d) })
	}
}

func frechetProperties(t *testing.T, dev *gpu.Device, d int) {
	const b = 3
	q := rotation(8, d)
	rotated := func(cov []float64) []float64 {
		out := product(d, product(d, q, cov), transposed(d, q))
		for i := range d {
			for j := range i {
				out[j*d+i] = out[i*d+j]
			}
		}
		return out
	}
	var one, x, y, turnedX, turnedY stats
	zero := make([]float64, d)
	one.add(zero, spectral(rotation(1, d), decades(d, 1e4)))
	for i := range b {
		cov := spectral(rotation(uint64(2+i), d), decades(d, 1e2))
		if i == 2 { // c² times the reference
			for k, v := range one.cov {
				cov[k] = 1.44 * v
			}
		}
		x.add(one.mean, one.cov)
		y.add(zero, cov)
		turnedX.add(zero, rotated(one.cov))
		turnedY.add(zero, rotated(cov))
	}
	got, err := frechet(t, dev, d, b, x, y)
	if err != nil {
		t.Fatal(err)
	}
	trace := 0.0
	for i := range d {
		trace += one.cov[i*d+i]
	}
	if w := 0.2 * 0.2 * trace; !(math.Abs(got[2]-w) <= 1e-13*trace) {
		t.Errorf("scaled: %.17g, want %.17g", got[2], w)
	}
	for name, s := range map[string][2]stats{"swapped": {y, x}, "turned": {turnedX, turnedY}, "shared reference": {one, y}} {
		other, err := frechet(t, dev, d, b, s[0], s[1])
		if err != nil {
			t.Fatal(err)
		}
		limit := 2e-12 * trace
		if name == "shared reference" {
			limit = 0
			if !dev.CUDA() { // there its factor is made by all threads: the last bits differ
				limit = 1e-14 * trace
			}
		}
		for i, w := range got {
			if !(math.Abs(other[i]-w) <= limit) {
				t.Errorf("%s: pair %d is %.17g, before %.17g", name, i, other[i], w)
			}
		}
	}
}

func transposed(d int, a []float64) []float64 {
	out := make([]float64, d*d)
	for i := range d {
		for j := range d {
			out[j*d+i] = a[i*d+j]
		}
	}
	return out
}

func TestFrechetRefuses(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		for _, d := range []int{5, 70} {
			good := spectral(rotation(3, d), decades(d, 10))
			negative := decades(d, 10)
			negative[d-1] = -0.2
			indefinite := spectral(rotation(3, d), negative)
			nan, skew := append([]float64(nil), good...), append([]float64(nil), good...)
			nan[3], skew[3] = math.NaN(), 7
			mean := normals(1, d)
			for _, c := range []struct {
				name  string
				cov   []float64
				fault ops.Fault
			}{{"indefinite", indefinite, ops.NotPositive}, {"NaN", nan, ops.NotFinite}, {"skew", skew, ops.NotSymmetric}} {
				for side := range 2 {
					for _, shared := range []bool{false, true} {
						var s [2]stats
						for i := range s {
							for k := range 3 {
								switch {
								case i == 0 && shared && k > 0:
								case i == side && (k == 1 || i == 0 && shared):
									s[i].add(mean, c.cov)
								default:
									s[i].add(mean, good)
								}
							}
						}
						if dev.CUDA() && d > 64 && c.fault != ops.NotPositive && shared == (side == 0) {
							continue
						}
						name := fmt.Sprintf("D=%d/%s/cov%d/shared=%t", d, c.name, side+1, shared)
						got, err := frechet(t, dev, d, 3, s[0], s[1])
						index := 1
						if shared && side == 0 {
							index = 0
							allNaN(t, name, got)
						} else {
							allNaN(t, name, got[1:2])
							for _, k := range []int{0, 2} {
								if !(math.Abs(got[k]) <= 1e-12) {
									t.Errorf("%s: good pair %d is %g, want 0", name, k, got[k])
								}
							}
						}
						refused(t, err, c.fault, index, fmt.Sprintf("of cov%d", side+1))
					}
				}
			}
			bad := append([]float64(nil), mean...)
			bad[d-1] = math.NaN()
			if got, err := frechet(t, dev, d, 1, stats{bad, good}, stats{mean, good}); err != nil || got[0] == got[0] {
				t.Errorf("NaN in a mean gives %v, %v", got, err)
			}
		}
	})
}

func TestFrechetMisuse(t *testing.T) {
	d := gpu.CPU()
	m, c, v := d.Empty64(2, 3), d.Empty64(2, 3, 3), d.Empty64(2)
	for _, x := range []struct {
		words string
		f     func()
	}{
		{"cov2 has shape [3 3], want [B, D, D]", func() { _ = ops.Frechet(v, m, c, m, d.Empty64(3, 3)) }},
		{"cov2 is float32, want float64", func() { _ = ops.Frechet(v, m, c, m, d.Empty(2, 3, 3)) }},
		{"mean1 has shape [2 3], want [1 3]", func() { _ = ops.Frechet(v, m, d.Empty64(1, 3, 3), m, c) }},
		{"cov1 has shape [3 3 3], want [2 3 3]", func() { _ = ops.Frechet(v, m, d.Empty64(3, 3, 3), m, c) }},
		{"no features", func() { _ = ops.Frechet(v, d.Empty64(2, 0), d.Empty64(2, 0, 0), d.Empty64(2, 0), d.Empty64(2, 0, 0)) }},
		{"dist has shape", func() { _ = ops.Frechet(d.Empty64(3), m, c, m, c) }},
	} {
		mustPanic(t, x.words, x.words, x.f)
	}
	if err := ops.Frechet(d.Empty64(0), d.Empty64(0, 3), d.Empty64(0, 3, 3), d.Empty64(0, 3), d.Empty64(0, 3, 3)); err != nil {
		t.Errorf("no pairs: %v", err)
	}
}

func BenchmarkFrechet(b *testing.B) {
	for _, c := range [][2]int{{64, 64}, {1, 512}} {
		b.Run(fmt.Sprintf("B=%d,D=%d", c[0], c[1]), func(b *testing.B) {
			n, d := c[0], c[1]
			var x, y stats
			x.add(normals(1, d), spectral(rotation(1, d), decades(d, 1e4)))
			cov := spectral(rotation(2, d), decades(d, 1e4))
			for range n {
				y.add(normals(2, d), cov)
			}
			for b.Loop() {
				if _, err := frechet(b, gpu.CPU(), d, n, x, y); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

package ops_test

import (
	"fmt"
	"math"
	"math/big"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle/device"
	"github.com/fidlab/fidlab/ops"
)

const unit = 0x1p-53

// exactMoments is the mean and the scatter of n rows of d integers, and the
// mean of their distance from the first row: all sums are exact in int64.
func exactMoments(x []int64, n, d int) (mean, scatter, spread []float64) {
	sum, away := make([]int64, d), make([]int64, d)
	for i, v := range x {
		sum[i%d] += v
		away[i%d] += max(v-x[i%d], x[i%d]-v)
	}
	mean, scatter, spread = make([]float64, d), make([]float64, d*d), make([]float64, d)
	for i := range d {
		mean[i], spread[i] = float64(sum[i])/float64(n), float64(away[i])/float64(n)
		for j := range i + 1 {
			dot := int64(0)
			for r := range n {
				dot += x[r*d+i] * x[r*d+j]
			}
			s := float64(int64(n)*dot-sum[i]*sum[j]) / float64(n)
			scatter[i*d+j], scatter[j*d+i] = s, s
		}
	}
	return mean, scatter, spread
}

// checkMoments compares with the bounds that Moments states, of which each exact
// value here is a rounding off.
func checkMoments(t *testing.T, gotMean, gotScatter, mean, scatter, spread []float64, n int) {
	t.Helper()
	d := len(mean)
	delta := make([]float64, d)
	for j, m := range mean {
		delta[j] = unit * (math.Abs(m) + float64(n+4)*spread[j])
		if !(math.Abs(gotMean[j]-m) <= delta[j]+unit*math.Abs(m)) {
			t.Fatalf("mean %d is %.17g, want %.17g within %.3g", j, gotMean[j], m, delta[j])
		}
	}
	for i := range d {
		for j := range d {
			want := scatter[i*d+j]
			bound := float64(n+4)*unit*math.Sqrt(scatter[i*d+i]*scatter[j*d+j]) + float64(n)*delta[i]*delta[j] + unit*math.Abs(want)
			if got := gotScatter[i*d+j]; !(math.Abs(got-want) <= bound) {
				t.Fatalf("scatter (%d,%d) is %.17g, want %.17g within %.3g", i, j, got, want, bound)
			}
			if gotScatter[i*d+j] != gotScatter[j*d+i] {
				t.Fatalf("scatter (%d,%d) and (%d,%d) differ", i, j, j, i)
			}
		}
	}
}

// Vectors of mean 10,000 and deviation about 0.02, on the grid of float32
// there: float32 sums, and float64 sums of squares without centring, are off
// by far. In float16 and bfloat16 the mean is as far from zero as they can hold.
func TestMomentsAreExactToFloat64(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		for _, c := range []struct {
			dt     gpu.DType
			offset int64
			spread float64
			scale  float64
		}{
			{gpu.Float32, 10000 << 10, 20, 0x1p-10},
			{gpu.Float64, 10000 << 10, 20, 0x1p-10},
			{gpu.Float16, 1500, 100, 1},
			{gpu.BFloat16, 190, 15, 1},
		} {
			for _, d := range orders {
				batch := 1 + d%3
				for _, n := range []int{1, 2, d + 1, 600 - d} {
					if d > 65 && (n < 3 || dev.CUDA() && n > d+1) {
						continue
					}
					t.Run(fmt.Sprintf("%v/B=%d,N=%d,D=%d", c.dt, batch, n, d), func(t *testing.T) {
						z := normals(uint64(n*1000+d), batch*n*d)
						x, v := make([]int64, len(z)), make([]float64, len(z))
						for i := range z {
							x[i] = c.offset + int64(math.Round(max(-3, min(3, z[i]))*c.spread))
							if i%d == 1 {
								x[i] = c.offset // one feature is constant
							}
							v[i] = float64(x[i]) * c.scale
						}
						in, stored := from(dev, c.dt, v, batch, n, d)
						for i := range v {
							if stored[i] != v[i] {
								t.Fatalf("%g is not a %v", v[i], c.dt)
							}
						}
						mean, scatter := dev.Empty64(batch, d), dev.Empty64(batch, d, d)
						ops.Moments(mean, scatter, in)
						gotMean, gotScatter := read64(t, mean), read64(t, scatter)
						for b := range batch {
							m, s, a := exactMoments(x[b*n*d:][:n*d], n, d)
							for i := range m {
								m[i] *= c.scale
								a[i] *= c.scale
							}
							for i := range s {
								s[i] *= c.scale * c.scale
							}
							checkMoments(t, gotMean[b*d:][:d], gotScatter[b*d*d:][:d*d], m, s, a, n)
							if d > 1 && (gotScatter[b*d*d+d+1] != 0 || gotMean[b*d+1] != m[1]) {
								t.Errorf("set %d: the constant feature has mean %.17g and scatter %g", b, gotMean[b*d+1], gotScatter[b*d*d+d+1])
							}
						}
					})
				}
			}
		}
	})
}

// Values of every magnitude, against 400-bit arithmetic.
func TestMomentsOfWildValues(t *testing.T) {
	const n, d = 200, 5
	v := normals(7, n*d)
	for i := range v {
		v[i] *= math.Exp2(float64(i%d*9 - 18))
		v[i] += float64(i % d)
	}
	for i := range v {
		v[i] = float64(float32(v[i]))
	}
	number := func(x float64) *big.Float { return new(big.Float).SetPrec(400).SetFloat64(x) }
	sum, centred := make([]*big.Float, d), make([]*big.Float, n*d)
	mean, scatter, spread := make([]float64, d), make([]float64, d*d), make([]float64, d)
	for j := range d {
		sum[j] = number(0)
		for r := range n {
			sum[j].Add(sum[j], number(v[r*d+j]))
			spread[j] += math.Abs(v[r*d+j]-v[j]) / n
		}
		sum[j].Quo(sum[j], number(n))
		mean[j], _ = sum[j].Float64()
		for r := range n {
			centred[r*d+j] = number(v[r*d+j])
			centred[r*d+j].Sub(centred[r*d+j], sum[j])
		}
	}
	for i := range d {
		for j := range d {
			s := number(0)
			for r := range n {
				s.Add(s, number(0).Mul(centred[r*d+i], centred[r*d+j]))
			}
			scatter[i*d+j], _ = s.Float64()
		}
	}
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		m, s := dev.Empty64(1, d), dev.Empty64(1, d, d)
		in, _ := from(dev, gpu.Float32, v, 1, n, d)
		ops.Moments(m, s, in)
		checkMoments(t, read64(t, m), read64(t, s), mean, scatter, spread, n)
	})
}

// The same sets in one batch and alone give the same bits, and so do two runs.
func TestMomentsDoNotDependOnTheBatch(t *testing.T) {
	const batch, n, d = 3, 70, 33
	v := normals(11, batch*n*d)
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		in, _ := from(dev, gpu.Float32, v, batch, n, d)
		mean, scatter := dev.Empty64(batch, d), dev.Empty64(batch, d, d)
		ops.Moments(mean, scatter, in)
		all := read64(t, scatter)
		for b := range batch {
			one, _ := from(dev, gpu.Float32, v[b*n*d:][:n*d], 1, n, d)
			m, s := dev.Empty64(1, d), dev.Empty64(1, d, d)
			for range 2 {
				ops.Moments(m, s, one)
				for i, x := range read64(t, s) {
					if x != all[b*d*d+i] {
						t.Fatalf("set %d alone: element %d is %.17g, in the batch %.17g", b, i, x, all[b*d*d+i])
					}
				}
			}
		}
	})
}

// A value that is not finite spoils its own feature and nothing else.
func TestMomentsKeepNaNApart(t *testing.T) {
	const batch, n, d, bad = 2, 40, 35, 34
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		for _, value := range []float64{math.NaN(), math.Inf(1)} {
			v := normals(3, batch*n*d)
			v[n*d+7*d+bad] = value
			in, _ := from(dev, gpu.Float32, v, batch, n, d)
			mean, scatter := dev.Empty64(batch, d), dev.Empty64(batch, d, d)
			ops.Moments(mean, scatter, in)
			gotMean, got := read64(t, mean), read64(t, scatter)
			for b := range batch {
				for i := range d {
					if spoilt := b == 1 && i == bad; spoilt != (gotMean[b*d+i]-gotMean[b*d+i] != 0) {
						t.Errorf("mean %d of set %d is %g", i, b, gotMean[b*d+i])
					}
					for j := range d {
						x := got[(b*d+i)*d+j]
						if spoilt := b == 1 && (i == bad || j == bad); spoilt != (x-x != 0) {
							t.Errorf("scatter (%d,%d) of set %d is %g", i, j, b, x)
						}
					}
				}
			}
		}
	})
}

// The moments of the parts, merged, are those of the whole.
func TestMergeMoments(t *testing.T) {
	const batch, n, d = 2, 90, 33
	v := normals(5, batch*n*d)
	for i := range v {
		v[i] = float64(float32(v[i] + 1000*float64(i%n)/n)) // the parts have other means
	}
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		part := func(lo, hi int) (mean, scatter *gpu.Tensor) {
			var rows []float64
			for b := range batch {
				rows = append(rows, v[(b*n+lo)*d:(b*n+hi)*d]...)
			}
			in, _ := from(dev, gpu.Float32, rows, batch, hi-lo, d)
			mean, scatter = dev.Empty64(batch, d), dev.Empty64(batch, d, d)
			ops.Moments(mean, scatter, in)
			return mean, scatter
		}
		mean, scatter := part(0, n)
		wantMean, want := read64(t, mean), read64(t, scatter)
		nan := make([]float64, batch*d*d)
		for i := range nan {
			nan[i] = math.NaN()
		}
		gotMean, got := dev.From64(append([]float64(nil), nan[:batch*d]...), batch, d), dev.From64(append([]float64(nil), nan...), batch, d, d)
		sizes := []int{0, 1, 40, 90}
		for i := range 3 {
			m, s := part(sizes[i], sizes[i+1])
			ops.MergeMoments(gotMean, got, sizes[i], m, s, sizes[i+1]-sizes[i])
		}
		empty, none := dev.From64(nan[:batch*d], batch, d), dev.From64(nan, batch, d, d)
		ops.MergeMoments(gotMean, got, n, empty, none, 0)
		g, m := read64(t, got), read64(t, gotMean)
		for i, w := range wantMean {
			if !(math.Abs(m[i]-w) <= 8*unit*2000) {
				t.Fatalf("mean %d is %.17g, want %.17g", i, m[i], w)
			}
		}
		for k, w := range want {
			b, i, j := k/d/d, k/d%d, k%d
			scale := math.Sqrt(want[(b*d+i)*d+i] * want[(b*d+j)*d+j])
			if !(math.Abs(g[k]-w) <= 8*n*unit*scale) {
				t.Fatalf("scatter %d is %.17g, want %.17g", k, g[k], w)
			}
		}
	})
}

func TestCovariance(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		for ddof, want := range []float64{8.0 / 3, 4} { // of 1, 3, 5: squares sum to 8
			in, _ := from(dev, gpu.Float32, []float64{1, -1, 3, -3, 5, -5}, 1, 3, 2)
			cov, mean := dev.Empty64(1, 2, 2), dev.Empty64(1, 2)
			ops.Covariance(cov, mean, in, ddof)
			got := read64(t, cov)
			for i, sign := range []float64{1, -1, -1, 1} {
				if !(math.Abs(got[i]-sign*want) <= 4*unit*want) {
					t.Errorf("ddof %d: element %d is %g, want %g", ddof, i, got[i], sign*want)
				}
			}
			if m := read64(t, mean); m[0] != 3 || m[1] != -3 {
				t.Errorf("means are %v", m)
			}
		}
		for _, shape := range [][3]int{{0, 4, 3}, {2, 4, 0}} { // nothing to do
			ops.Covariance(dev.Empty64(shape[0], shape[2], shape[2]), dev.Empty64(shape[0], shape[2]), dev.Empty(shape[:]...), 1)
		}
	})
}

func TestCovarianceMisuse(t *testing.T) {
	d := gpu.CPU()
	cov, mean := d.Empty64(1, 3, 3), d.Empty64(1, 3)
	for _, c := range []struct {
		words string
		f     func()
	}{
		{"1 vectors with ddof 1", func() { ops.Covariance(cov, mean, d.Empty(1, 1, 3), 1) }},
		{"ddof -1", func() { ops.Covariance(cov, mean, d.Empty(1, 5, 3), -1) }},
		{"0 vectors a set", func() { ops.Moments(mean, cov, d.Empty(1, 0, 3)) }},
		{"want [B, N, D]", func() { ops.Moments(mean, cov, d.Empty(5, 3)) }},
		{"mean has shape [1 3], want [1 4]", func() { ops.Moments(mean, cov, d.Empty(1, 5, 4)) }},
		{"x is int32, want floats", func() { ops.Moments(mean, cov, d.New(gpu.Int32, 1, 5, 3)) }},
		{"scatter is float32, want float64", func() { ops.Moments(mean, d.Empty(1, 3, 3), d.Empty(1, 5, 3)) }},
		{"at most 16384", func() { ops.Moments(d.Empty64(0, 20000), d.Empty64(0, 20000, 20000), d.Empty(0, 5, 20000)) }},
		{"want >= 0", func() { ops.MergeMoments(mean, cov, -1, mean, cov, 1) }},
		{"otherMean has shape", func() { ops.MergeMoments(mean, cov, 1, d.Empty64(1, 2), cov, 1) }},
		{"3 vectors with ddof 3", func() { ops.CovarianceOf(cov, cov, 3, 3) }},
	} {
		mustPanic(t, c.words, c.words, c.f)
	}
}

func BenchmarkCovariance(b *testing.B) {
	for _, d := range []int{64, 768, 2048} {
		b.Run(fmt.Sprintf("N=4096,D=%d", d), func(b *testing.B) {
			const n = 4096
			dev := gpu.CPU()
			in, _ := from(dev, gpu.Float32, normals(1, n*d), 1, n, d)
			cov, mean := dev.Empty64(1, d, d), dev.Empty64(1, d)
			for b.Loop() {
				ops.Covariance(cov, mean, in, 1)
			}
			b.ReportMetric(float64(n)*float64(d)*float64(d)*float64(b.N)/b.Elapsed().Seconds()/1e9, "GFLOP/s")
		})
	}
}

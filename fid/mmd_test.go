package fid

import (
	"context"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/internal/oracle/device"
	"github.com/fidlab/fidlab/rng"
)

func valueOf(t testing.TB, name string, ref, gen *Stats) Value {
	t.Helper()
	r, err := Compare(context.Background(), ref, gen, Options{Metrics: []string{name}})
	if err != nil {
		t.Fatal(err)
	}
	return r.Metrics[name]
}

// normals are n standard normal vectors of d values, shifted.
func normals(seed uint64, n, d int, shift float64) []float32 {
	s := rng.New(seed, 11)
	x := make([]float32, n*d)
	for i := range x {
		x[i] = float32(s.Normal() + shift)
	}
	return x
}

// torch-fidelity's own kernels on whole sets, in float64.
func TestGoldenMMD(t *testing.T) { device.Each(t, goldenMMD) }

func goldenMMD(t *testing.T, dev *gpu.Device) {
	var f struct {
		Cases []struct {
			Name string
			X, Y goldenArray
			Full map[string]float64
		}
	}
	oracle.GoldenJSON(t, &f, "kid", "cases.json")
	ranCases(t, len(f.Cases), 3)
	for _, c := range f.Cases {
		x, y := c.X.stats(t, "kid"), c.Y.stats(t, "kid")
		for _, m := range []struct {
			key      string
			k        kernel
			unbiased bool
		}{{"poly3_unbiased", cubic, true}, {"poly3_biased", cubic, false}, {"rbf_sigma10_unbiased", gaussian, true}} {
			got, _, err := mmdOf(t.Context(), dev, m.k, x, y, false, m.unbiased)
			if err != nil || math.Abs(got-c.Full[m.key]) > 1e-12 {
				t.Errorf("%s %s: %.15g (%v); the peer has %.15g", c.Name, m.key, got, err, c.Full[m.key])
			}
		}
		if v := valueOf(t, "kid-full", x, y).Number(); math.Abs(v-c.Full["poly3_unbiased"]) > 1e-12 {
			t.Errorf("%s: kid-full is %g", c.Name, v)
		}
	}
}

// bruteMMD is the definition, without some rows.
func bruteMMD(k kernel, x, y [][]float64, unbiased bool, skipX, skipY int) float64 {
	mean := func(a, b [][]float64, skipA, skipB int, same bool) float64 {
		s, n := 0.0, 0.0
		for i := range a {
			for j := range b {
				if i == skipA || j == skipB || same && unbiased && i == j {
					continue
				}
				var dot, aa, bb float64
				for c := range a[i] {
					dot += a[i][c] * b[j][c]
					aa += a[i][c] * a[i][c]
					bb += b[j][c] * b[j][c]
				}
				s += k.of(dot, aa, bb, float64(len(a[i])))
				n++
			}
		}
		return s / n
	}
	return mean(x, x, skipX, skipX, true) + mean(y, y, skipY, skipY, true) - 2*mean(x, y, skipX, skipY, false)
}

func plainRows(s *Stats, unit bool) [][]float64 {
	out := make([][]float64, s.N)
	for i := range out {
		l := 0.0
		for _, f := range s.Features[i*s.Dim() : (i+1)*s.Dim()] {
			out[i] = append(out[i], float64(f))
			l += float64(f) * float64(f)
		}
		if unit {
			for j := range out[i] {
				out[i][j] /= math.Sqrt(l)
			}
		}
	}
	return out
}

// Over several tiles of unequal sets: the value by its definition, the error by the jackknife's.
func TestMMDAgainstDefinition(t *testing.T) { device.Each(t, mmdAgainstDefinition) }

func mmdAgainstDefinition(t *testing.T, dev *gpu.Device) {
	const d = 5
	x, y := mustStats(t, normals(1, 300, d, 0), 300, d), mustStats(t, normals(2, 270, d, 0.3), 270, d)
	for _, c := range []struct {
		k              kernel
		unit, unbiased bool
	}{{cubic, false, true}, {gaussian, false, true}, {gaussian, true, false}} {
		got, _, err := mmdOf(t.Context(), dev, c.k, x, y, c.unit, c.unbiased)
		if err != nil {
			t.Fatal(err)
		}
		a, b := plainRows(x, c.unit), plainRows(y, c.unit)
		if want := bruteMMD(c.k, a, b, c.unbiased, -1, -1); math.Abs(got-want) > 1e-12*math.Max(1, math.Abs(want)) {
			t.Errorf("%s: %.15g; by definition %.15g", c.k.name, got, want)
		}
		small, ys := a[:40], b[:30]
		jack := func(n int, of func(i int) float64) float64 {
			v := make([]float64, n)
			m := 0.0
			for i := range v {
				v[i] = of(i)
				m += v[i] / float64(n)
			}
			s := 0.0
			for _, q := range v {
				s += (q - m) * (q - m)
			}
			return s * float64(n-1) / float64(n)
		}
		want := math.Sqrt(jack(40, func(i int) float64 { return bruteMMD(c.k, small, ys, c.unbiased, i, -1) }) +
			jack(30, func(i int) float64 { return bruteMMD(c.k, small, ys, c.unbiased, -1, i) }))
		_, se, err := mmdOf(t.Context(), dev, c.k, mustStats(t, x.Features[:40*d], 40, d), mustStats(t, y.Features[:30*d], 30, d), c.unit, c.unbiased)
		if err != nil || math.Abs(se-want) > 1e-9*want {
			t.Errorf("%s: standard error %.12g (%v); by definition %.12g", c.k.name, se, err, want)
		}
	}
}

// Over many pairs of sets the standard error is the spread, and the unbiased value of one law is 0.
func TestMMDStandardError(t *testing.T) {
	const d, n, runs = 4, 60, 300
	for _, shift := range []float64{0.4} {
		var values, errs []float64
		for r := range runs {
			v := valueOf(t, "kid-full", mustStats(t, normals(uint64(2*r+10), n, d, 0), n, d), mustStats(t, normals(uint64(2*r+11), n, d, shift), n, d)).(MMDValue)
			values, errs = append(values, v.Value), append(errs, v.StdErr*v.StdErr)
		}
		spread := deviation(values, sum(values)/runs)
		told := math.Sqrt(sum(errs) / runs)
		if told < 0.85*spread || told > 1.25*spread {
			t.Errorf("shift %g: the spread of %d values is %g, the standard error says %g", shift, runs, spread, told)
		}
	}
	var same []float64
	for r := range runs {
		same = append(same, valueOf(t, "kid-full", mustStats(t, normals(uint64(2*r+10), n, d, 0), n, d), mustStats(t, normals(uint64(2*r+11), n, d, 0), n, d)).Number())
	}
	m := sum(same) / runs
	if e := deviation(same, m) / math.Sqrt(runs); math.Abs(m) > 4*e {
		t.Errorf("one law twice: mean %g ± %g; wanted 0", m, e)
	}
}

func TestCMMD(t *testing.T) {
	x, y := mustStats(t, normals(1, 50, 8, 0), 50, 8), mustStats(t, normals(2, 40, 8, 0.5), 40, 8)
	want := 1000 * bruteMMD(gaussian, plainRows(x, true), plainRows(y, true), false, -1, -1)
	if got := valueOf(t, "cmmd", x, y).Number(); math.Abs(got-want) > 1e-9 {
		t.Errorf("%.12g; by definition %.12g", got, want)
	}
	zero := mustStats(t, append(make([]float32, 8), y.Features...), 41, 8)
	if _, err := Compare(t.Context(), x, zero, Options{Metrics: []string{"cmmd"}}); err == nil || !strings.Contains(err.Error(), "vector 0 has length 0") {
		t.Errorf("%v", err)
	}
}

// In one dimension every direction is the same: the distance of the sorted values.
func TestMINDInOneDimension(t *testing.T) {
	a, b := normals(1, 200, 1, 0), normals(2, 200, 1, 0.7)
	p, q := slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b))
	want := 0.0
	for i := range p {
		want += 3 * math.Pow(float64(p[i])-float64(q[i]), 2) / 200
	}
	v := valueOf(t, "mind", mustStats(t, a, 200, 1), mustStats(t, b, 200, 1)).(SlicedValue)
	if math.Abs(v.Value-want) > 1e-6*want || v.StdErr > 1e-6 {
		t.Errorf("%+v; wanted %g", v, want)
	}
}

// A shift by c gives 3|c|², a scaling by s of a standard normal law 3d(s-1)².
func TestMINDOfKnownChanges(t *testing.T) {
	const n, d = 500, 20
	x := normals(1, n, d, 0)
	y := slices.Clone(x)
	c2 := 0.0
	for j := range d {
		c := 0.1 * float64(j)
		c2 += c * c
		for i := range n {
			y[i*d+j] += float32(c)
		}
	}
	v := valueOf(t, "mind", mustStats(t, x, n, d), mustStats(t, y, n, d)).(SlicedValue)
	if math.Abs(v.Value-3*c2) > 5*v.StdErr || v.StdErr > 0.05*v.Value {
		t.Errorf("a shift of %g: %+v", c2, v)
	}
	for i := range x {
		y[i] = 1.5 * x[i]
	}
	v = valueOf(t, "mind", mustStats(t, x, n, d), mustStats(t, y, n, d)).(SlicedValue)
	if want := 3 * d * 0.25; math.Abs(v.Value-want) > 0.05*want {
		t.Errorf("half as wide again: %+v; wanted about %g", v, want)
	}
	r, err := Compare(t.Context(), mustStats(t, x, n, d), mustStats(t, y[:300*d], 300, d), Options{Metrics: []string{"mind"}})
	if err != nil || !strings.Contains(strings.Join(r.Notes, "\n"), "of 500 vectors a random 300") {
		t.Errorf("%v %q", err, r.Notes)
	}
}

// Orthogonal directions count one each, equal ones once; whichever matrix is the smaller.
func TestVendi(t *testing.T) {
	axes := func(n, d int, of func(i int) int) *Stats {
		x := make([]float32, n*d)
		for i := range n {
			x[i*d+of(i)] = float32(1 + i%3)
		}
		return mustStats(t, x, n, d)
	}
	entropy := -(0.7*math.Log(0.7) + 0.3*math.Log(0.3))
	for _, c := range []struct {
		name string
		s    *Stats
		want float64
	}{
		{"orthogonal", axes(6, 10, func(i int) int { return i }), 6},
		{"one direction", axes(6, 10, func(int) int { return 2 }), 1},
		{"more vectors than features", axes(40, 5, func(i int) int { return i % 5 }), 5},
		{"seven of ten", axes(10, 4, func(i int) int { return i / 7 }), math.Exp(entropy)},
		{"the same, tall", axes(100, 4, func(i int) int { return i / 70 }), math.Exp(entropy)},
	} {
		if v := valueOf(t, "vendi", c.s, c.s).(VendiValue); math.Abs(v.Gen-c.want) > 1e-9 || math.Abs(v.Ref-c.want) > 1e-9 {
			t.Errorf("%s: %+v; wanted %g", c.name, v, c.want)
		}
	}
}

// A line is found, and of one law twice the extrapolation takes away what few vectors add.
func TestInfinity(t *testing.T) {
	v := InfinityValue{N: []int{100, 150, 200, 400}}
	for _, n := range v.N {
		v.FID = append(v.FID, 3+50/float64(n))
	}
	v.fit()
	if math.Abs(v.Value-3) > 1e-9 || math.Abs(v.Slope-50) > 1e-6 || v.Residual > 1e-9 {
		t.Errorf("%+v", v)
	}
	const d = 8
	ref, gen := mustStats(t, normals(1, 40000, d, 0), 40000, d), mustStats(t, normals(2, 1500, d, 0), 1500, d)
	raised := valueOf(t, "fid", ref, gen).Number()
	got := valueOf(t, "fid-inf", ref, gen).(InfinityValue)
	t.Logf("fid %.5f, fid-inf %.5f ± %.5f", raised, got.Value, got.StdErr)
	if math.Abs(got.Value) > 0.6*raised || got.Slope <= 0 || got.N[0] != 150 || got.N[14] != 1500 {
		t.Errorf("fid %g, %+v", raised, got)
	}
	if _, err := Compare(t.Context(), ref, mustStats(t, normals(3, 12, d, 0), 12, d), Options{Metrics: []string{"fid-inf"}}); err == nil {
		t.Error("12 vectors were extrapolated")
	}
	r, err := Compare(t.Context(), ref, mustStats(t, normals(3, 40, 8, 0), 40, 8), Options{Metrics: []string{"fid-inf"}})
	if err != nil || len(r.Notes) == 0 {
		t.Errorf("%v %q", err, r.Notes)
	}
}

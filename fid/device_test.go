package fid

import (
	"context"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle/device"
	"github.com/fidlab/fidlab/rng"
)

// pointsOf are n vectors of d normal values, a few of them twice and a few those of another set; on a lattice most distances are equal.
func pointsOf(seed uint64, n, d int, shift, scale float64, lattice bool, of []float32) []float32 {
	s, x := rng.New(seed, 7), make([]float32, n*d)
	for i := range x {
		v := scale * s.Normal()
		if lattice {
			v = math.Round(v)
		}
		x[i] = float32(v + shift)
	}
	for i := range min(8, n/4) {
		copy(x[(2*i+1)*d:][:d], x[i*d:])
		if of != nil {
			copy(x[(n-1-i)*d:][:d], of[i*d:])
		}
	}
	return x
}

// Precision, recall, density, coverage and authenticity on a device are exactly those by definition, of sets with copies, far from zero and on a
// lattice, where float32 tells nothing apart.
func TestNeighboursOnDevices(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		cases := 0
		for _, c := range []struct {
			name         string
			n, m, d      int
			shift, scale float64
			lattice      bool
		}{
			{"several tiles", 150, 210, 12, 0, 1, false},
			{"far from zero", 130, 70, 6, 1e4, 1, false},
			{"tiny", 60, 80, 5, 3, 1e-6, false},
			{"lattice", 200, 140, 3, 5, 1, true},
		} {
			a := pointsOf(1, c.n, c.d, c.shift, c.scale, c.lattice, nil)
			b := pointsOf(2, c.m, c.d, c.shift, c.scale, c.lattice, a)
			ref, gen := mustStats(t, a, c.n, c.d), mustStats(t, b, c.m, c.d)
			for _, k := range []int{1, 3, 5} {
				for _, strict := range []bool{false, true} {
					wantPR, wantDC, wantAuth := brute(ref, gen, k, strict)
					r, err := Compare(t.Context(), ref, gen, Options{Metrics: []string{"pr", "dc", "authpct"}, NearestK: k, Boundary: ruleName(strict), Device: dev})
					if err != nil {
						t.Fatal(err)
					}
					pr, dc, auth := r.Metrics["pr"].(PRValue), r.Metrics["dc"].(DCValue), r.Metrics["authpct"].(AuthValue)
					for _, v := range [][2]float64{
						{pr.Precision, wantPR.Precision}, {pr.Recall, wantPR.Recall}, {dc.Density, wantDC.Density},
						{dc.Coverage, wantDC.Coverage}, {auth.Percent / 100, wantAuth.Percent / 100}, {auth.Copies, wantAuth.Copies},
					} {
						cases++
						if math.Abs(v[0]-v[1]) > 1e-12*math.Max(1, v[1]) { // sums of shares by definition
							t.Errorf("%s, k %d, strict %t: %v %v %v; by definition %v %v %v", c.name, k, strict, pr, dc, auth, wantPR, wantDC, wantAuth)
							break
						}
					}
				}
			}
		}
		if cases != 4*3*2*6 {
			t.Errorf("%d cases", cases)
		}
	})
}

// What is found on a device is what the CPU finds, number by number: of all k-th radii, balls and nearest vectors, also of vectors that a file
// keeps around their mean.
func TestNeighboursOnDevicesAreTheCPUs(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		a := pointsOf(3, 90, 7, 2, 1, false, nil)
		ref, gen := mustStats(t, a, 90, 7), mustStats(t, pointsOf(4, 75, 7, 2, 1.1, false, a), 75, 7)
		wide, few := mustStats(t, draw(1, 20, 30, 0), 20, 30), mustStats(t, draw(2, 25, 30, 0.3), 25, 30)
		path := filepath.Join(t.TempDir(), "few.npz")
		if err := WriteStats(path, few); err != nil {
			t.Fatal(err)
		}
		back, err := ReadStats(path)
		if err != nil {
			t.Fatal(err)
		}
		if back.centring() == nil {
			t.Fatal("the file has its vectors as they are")
		}
		for name, sets := range map[string][2]*Stats{"vectors": {ref, gen}, "from a file": {wide, back}, "both from one": {back, back}} {
			find := func(dev *gpu.Device) *neighbourhood {
				c := &comparison{ref: sets[0], gen: sets[1], opt: Options{Metrics: []string{"pr", "dc", "authpct"}, Device: dev}}
				n, err := c.neighbourhood(t.Context(), "pr")
				if err != nil {
					t.Fatal(err)
				}
				return n
			}
			if got, want := fmt.Sprintf("%v", *find(dev)), fmt.Sprintf("%v", *find(nil)); got != want {
				t.Errorf("%s: %s\non the CPU %s", name, got, want)
			}
			got, err := NearestOn(t.Context(), dev, sets[0], sets[1])
			if err != nil {
				t.Fatal(err)
			}
			want, err := NearestOf(t.Context(), sets[0], sets[1])
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(got, want) {
				t.Errorf("%s: nearest %v, on the CPU %v", name, got, want)
			}
		}
	})
}

// More neighbours than ops.NearestK finds are found on the CPU, and what is refused there is refused here.
func TestNeighboursBeyondDevices(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		ref, gen := mustStats(t, pointsOf(1, 60, 4, 0, 1, false, nil), 60, 4), mustStats(t, pointsOf(2, 50, 4, 0, 1, false, nil), 50, 4)
		pr, dc := comparePRDCOn(t, dev, ref, gen, 40, "")
		if pr2, dc2 := comparePRDC(t, ref, gen, 40, ""); pr != pr2 || dc != dc2 {
			t.Errorf("%v %v, on the CPU %v %v", pr, dc, pr2, dc2)
		}
		bad := mustStats(t, slices.Clone(gen.Features), 50, 4)
		bad.Features[9] = float32(math.Inf(1))
		var refused *NumericError
		if _, err := Compare(t.Context(), ref, bad, Options{Metrics: []string{"dc"}, Device: dev}); !errors.As(err, &refused) {
			t.Errorf("an infinite feature: %v", err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := NearestOn(ctx, dev, ref, gen); !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled: %v", err)
		}
	})
}

// roundings is what PairSums in float64 and the CPU's sums of products may differ by in a mean of a kernel's values, and so a discrepancy: the
// largest kernel's value and slope of the absolute values, times the rounding of products and sums.
func roundings(ref, gen *Stats) float64 {
	longest := 0.0
	d := ref.Dim()
	for _, s := range []*Stats{ref, gen} {
		for i := range s.N {
			square := 0.0
			for _, v := range s.Features[i*d : (i+1)*d] {
				square += float64(v) * float64(v)
			}
			longest = max(longest, square)
		}
	}
	u := longest/float64(d) + 1 // both kernels' values are below its cube, and their slopes below three times it
	return 4 * 4 * float64(d+20) * 0x1p-52 * u * u * u
}

// Discrepancies on a device are the CPU's within rounding, of unequal sets over several tiles.
func TestDiscrepanciesOnDevices(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		ref, gen := mustStats(t, normals(1, 150, 9, 0), 150, 9), mustStats(t, normals(2, 130, 9, 0.3), 130, 9)
		names := []string{"kid", "kid-full", "kid-rbf", "cmmd"}
		on, err := Compare(t.Context(), ref, gen, Options{Metrics: names, Device: dev})
		if err != nil {
			t.Fatal(err)
		}
		want, err := Compare(t.Context(), ref, gen, Options{Metrics: names})
		if err != nil {
			t.Fatal(err)
		}
		tol := roundings(ref, gen)
		if tol > 1e-9 {
			t.Fatalf("rounding of %g is no bound", tol)
		}
		for _, name := range names {
			a, b, scale := on.Metrics[name].Number(), want.Metrics[name].Number(), 1.
			if name == "cmmd" {
				scale = cmmdScale
			}
			if !(math.Abs(a-b) <= tol*scale) {
				t.Errorf("%s is %.15g, on the CPU %.15g, within %g", name, a, b, tol*scale)
			}
		}
		if a, b := on.Metrics["kid"].(KIDValue).Std, want.Metrics["kid"].(KIDValue).Std; !(math.Abs(a-b) <= tol) {
			t.Errorf("the deviation of kid is %.15g, on the CPU %.15g", a, b)
		}
	})
}

// Vectors that a file keeps around their mean, and a comparison that is called off.
func TestDiscrepanciesOnDevicesOfOtherSets(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		ref, gen := mustStats(t, draw(1, 20, 30, 0), 20, 30), mustStats(t, draw(2, 25, 30, 0.3), 25, 30)
		path := filepath.Join(t.TempDir(), "gen.npz")
		if err := WriteStats(path, gen); err != nil {
			t.Fatal(err)
		}
		back, err := ReadStats(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"kid", "kid-full", "cmmd"} {
			opt := Options{Metrics: []string{name}}
			want, err := Compare(t.Context(), ref, back, opt)
			if err != nil {
				t.Fatal(err)
			}
			opt.Device = dev
			got, err := Compare(t.Context(), ref, back, opt)
			if err != nil {
				t.Fatal(err)
			}
			scale := map[string]float64{"cmmd": cmmdScale}[name] + 1
			if a, b := got.Metrics[name].Number(), want.Metrics[name].Number(); !(math.Abs(a-b) <= scale*roundings(ref, gen)) {
				t.Errorf("%s of a file is %.15g, on the CPU %.15g", name, a, b)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, _, err := mmdOf(ctx, dev, cubic, ref, gen, false, true); !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled: %v", err)
		}
		if _, err := kidValues(ctx, ref, gen, &Options{Device: dev}, 10); !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled: %v", err)
		}
	})
}

// MIND on a device is the CPU's within what the order of float32's sums allows, of the same directions and the same part of the larger set.
func TestMINDOnDevices(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		const d = 7
		ref, gen := mustStats(t, normals(1, 60, d, 5), 60, d), mustStats(t, normals(2, 45, d, 5.2), 45, d)
		want, err := Compare(t.Context(), ref, gen, Options{Metrics: []string{"mind"}})
		if err != nil {
			t.Fatal(err)
		}
		got, err := Compare(t.Context(), ref, gen, Options{Metrics: []string{"mind"}, Device: dev})
		if err != nil {
			t.Fatal(err)
		}
		longest := 0.0 // around the reference's mean
		for _, s := range []*Stats{ref, gen} {
			longest = max(longest, slices.Max(newPoints(s, ref.Mu).length))
		}
		a, b := got.Metrics["mind"].(SlicedValue), want.Metrics["mind"].(SlicedValue)
		tol := 2 * math.Sqrt(3*d) * d * 0x1p-23 * longest
		if !(math.Abs(math.Sqrt(a.Value)-math.Sqrt(b.Value)) <= tol) || tol > 1e-3*math.Sqrt(b.Value) {
			t.Errorf("%.12g, on the CPU %.12g, roots within %g", a.Value, b.Value, tol)
		}
		// A value is at most 3d·(2·longest)², so none differs by more than this, and neither does their deviation.
		apart := tol * (2*math.Sqrt(3*d)*2*longest + tol)
		if !(math.Abs(a.StdErr-b.StdErr) <= apart/math.Sqrt(mindDirections-1)) {
			t.Errorf("the standard error is %g, on the CPU %g", a.StdErr, b.StdErr)
		}
		if !slices.Equal(got.Notes, want.Notes) {
			t.Errorf("notes %q, on the CPU %q", got.Notes, want.Notes)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, _, err := computeMIND(ctx, &comparison{ref: ref, gen: gen, opt: Options{Device: dev}}); !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled: %v", err)
		}
	})
}

// The distance with its norm taken on a device is the closed form's of covariances that commute, within ops.Frechet's bound, and says how it was
// found; a set of short rank goes the CPU's way.
func TestFrechetOnDevices(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		const d = 70
		// The axes are those of one reflection, so that the covariances have no zeros.
		v := make([]float64, d)
		for i := range v {
			v[i] = math.Sqrt(2 / (float64(d) * float64(d+1)) * float64(i+1))
		}
		axis := func(i, k int) float64 {
			if i == k {
				return 1 - 2*v[i]*v[k]
			}
			return -2 * v[i] * v[k]
		}
		set := func(seed uint64, sigma func(i int) float64) *Stats {
			s := &Stats{N: 1000, Mu: make([]float64, d), Sigma: make([]float64, d*d)}
			for i := range d {
				s.Mu[i] = rng.New(seed, uint64(i)).Normal()
				for j := range i + 1 {
					for k := range d {
						s.Sigma[i*d+j] += axis(i, k) * sigma(k) * axis(j, k)
					}
					s.Sigma[j*d+i] = s.Sigma[i*d+j]
				}
			}
			return s
		}
		first, second := func(i int) float64 { return 1 + float64(i)/8 }, func(i int) float64 { return 3 / (1 + float64(i)) }
		a, b := set(1, first), set(2, second)
		want, traces := 0., 0.
		for i := range d {
			m, r := a.Mu[i]-b.Mu[i], math.Sqrt(first(i))-math.Sqrt(second(i))
			want, traces = want+m*m+r*r, traces+first(i)+second(i)
		}
		on := func(b *Stats) Distance {
			var by *frechetDevice
			if dev.CUDA() {
				by = &frechetDevice{dev}
			}
			got, err := frechetBy(nil, a, b, nil, 10, by)
			if err != nil {
				t.Fatal(err)
			}
			return got
		}
		got := on(b)
		if !(math.Abs(got.Value-want) <= 16*d*0x1p-52*(traces+want)) || got.Ranks != [2]int{d, d} {
			t.Errorf("%.17g of ranks %v, want %.17g", got.Value, got.Ranks, want)
		}
		if polar := got.Route == "cholesky, cholesky: polar factor on a GPU"; polar != dev.CUDA() {
			t.Errorf("the route is %s", got.Route)
		}
		short := set(3, func(i int) float64 { return float64(max(0, i-20)) })
		direct, err := Frechet(a, short)
		if err != nil {
			t.Fatal(err)
		}
		if got := on(short); fmt.Sprint(got) != fmt.Sprint(direct) {
			t.Errorf("%v of a short rank, on the CPU %v", got, direct)
		}
		// Narrow sets are the CPU's alone.
		if got, err := FrechetOn(dev, a, b); err != nil || got.Route != "cholesky, cholesky: singular values" {
			t.Errorf("%v, %v", got, err)
		}
	})
}

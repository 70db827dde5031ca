package fid

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/internal/oracle/device"
	"github.com/fidlab/fidlab/rng"
)

// goldenArray names an array of float32 beside a cases.json.
type goldenArray struct {
	File  string
	Shape [2]int
}

func (g goldenArray) stats(t *testing.T, folder string) *Stats {
	t.Helper()
	raw, err := os.ReadFile(oracle.Golden(t, folder, g.File))
	if err != nil {
		t.Fatal(err)
	}
	x := make([]float32, len(raw)/4)
	for k := range x {
		x[k] = math.Float32frombits(binary.LittleEndian.Uint32(raw[4*k:]))
	}
	return mustStats(t, x, g.Shape[0], g.Shape[1])
}

type prdcCase struct {
	Name       string
	Real, Fake goldenArray
	PRDC       map[string]struct{ Precision, Recall, Density, Coverage float64 }
	Torch      map[string]struct{ Precision, Recall float64 } `json:"torch_fidelity_prc"`
}

func comparePRDC(t testing.TB, ref, gen *Stats, k int, boundary string) (PRValue, DCValue) {
	t.Helper()
	return comparePRDCOn(t, nil, ref, gen, k, boundary)
}

func comparePRDCOn(t testing.TB, dev *gpu.Device, ref, gen *Stats, k int, boundary string) (PRValue, DCValue) {
	t.Helper()
	r, err := Compare(context.Background(), ref, gen, Options{Metrics: []string{"pr", "dc"}, NearestK: k, Boundary: boundary, Device: dev})
	if err != nil {
		t.Fatal(err)
	}
	return r.Metrics["pr"].(PRValue), r.Metrics["dc"].(DCValue)
}

// Both packages' figures, exactly: the shares are of whole numbers (torch-fidelity's in float32).
func TestGoldenPRDC(t *testing.T) { device.Each(t, goldenPRDC) }

func goldenPRDC(t *testing.T, dev *gpu.Device) {
	var f struct{ Cases []prdcCase }
	oracle.GoldenJSON(t, &f, "prdc", "cases.json")
	ranCases(t, len(f.Cases), 4)
	compared := 0
	check := func(what string, got, want, tol float64) {
		compared++
		if math.Abs(got-want) > tol {
			t.Errorf("%s is %.9g; the peer has %.9g", what, got, want)
		}
	}
	for _, c := range f.Cases {
		ref, gen := c.Real.stats(t, "prdc"), c.Fake.stats(t, "prdc")
		for name, want := range c.PRDC {
			var k int
			fmt.Sscanf(name, "k%d", &k)
			pr, dc := comparePRDCOn(t, dev, ref, gen, k, "strict")
			what := c.Name + " " + name
			check(what+" precision", pr.Precision, want.Precision, 1e-12)
			check(what+" recall", pr.Recall, want.Recall, 1e-12)
			check(what+" density", dc.Density, want.Density, 1e-12)
			check(what+" coverage", dc.Coverage, want.Coverage, 1e-12)
			pr, _ = comparePRDCOn(t, dev, ref, gen, k, "inclusive")
			check(what+" precision, torch-fidelity", pr.Precision, c.Torch[name].Precision, 1e-7)
			check(what+" recall, torch-fidelity", pr.Recall, c.Torch[name].Recall, 1e-7)
		}
	}
	ranCases(t, compared, 4*3*6)
}

// brute is everything by its definition, in float64.
func brute(ref, gen *Stats, k int, strict bool) (pr PRValue, dc DCValue, auth AuthValue) {
	d2 := func(a *Stats, i int, b *Stats, j int) float64 {
		s, d := 0.0, a.Dim()
		for c := range d {
			t := float64(a.Features[i*d+c]) - float64(b.Features[j*d+c])
			s += t * t
		}
		return s
	}
	radii := func(s *Stats, k int) []float64 {
		out := make([]float64, s.N)
		for i := range out {
			var all []float64
			for j := range s.N {
				if j != i {
					all = append(all, d2(s, i, s, j))
				}
			}
			slices.Sort(all)
			out[i] = all[k-1]
		}
		return out
	}
	in := func(d, r float64) bool { return d < r || !strict && d == r }
	rr, rg, r1 := radii(ref, k), radii(gen, k), radii(ref, 1)
	var held = make([]bool, ref.N)
	for j := range gen.N {
		balls, best, at := 0, math.Inf(1), 0
		for i := range ref.N {
			d := d2(ref, i, gen, j)
			if in(d, rr[i]) {
				balls++
				held[i] = true
			}
			if d < best {
				best, at = d, i
			}
		}
		if balls > 0 {
			pr.Precision += 1 / float64(gen.N)
		}
		dc.Density += float64(balls) / float64(k*gen.N)
		if r1[at] < best {
			auth.Percent += 100 / float64(gen.N)
		}
		if best == 0 {
			auth.Copies += 1 / float64(gen.N)
		}
	}
	for i := range ref.N {
		if held[i] {
			dc.Coverage += 1 / float64(ref.N)
		}
		if slices.ContainsFunc(rangeOf(gen.N), func(j int) bool { return in(d2(ref, i, gen, j), rg[j]) }) {
			pr.Recall += 1 / float64(ref.N)
		}
	}
	return pr, dc, auth
}

func rangeOf(n int) []int {
	out := make([]int, n)
	for i := range out {
		out[i] = i
	}
	return out
}

// The blocks, float32 and the exact second look change nothing: sets over several tiles, with
// duplicates and copies, far from zero, on a lattice where everything ties.
func TestNeighboursAgainstBruteForce(t *testing.T) {
	for _, c := range []struct {
		name         string
		n, m, d      int
		shift, scale float64
		lattice      bool
	}{
		{"several tiles", 700, 1100, 12, 0, 1, false},
		{"far from zero", 300, 200, 6, 1e4, 1, false},
		{"tiny", 260, 300, 5, 3, 1e-6, false},
		{"lattice", 600, 540, 3, 5, 1, true},
		{"all the same but one", 80, 70, 2, 1, 0, false},
	} {
		for _, k := range []int{1, 3, 5} {
			for _, strict := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s/k=%d/strict=%t", c.name, k, strict), func(t *testing.T) {
					draw := func(seed uint64, n int) []float32 {
						s := rng.New(seed, 7)
						x := make([]float32, n*c.d)
						for i := range x {
							v := c.scale * s.Normal()
							if c.lattice {
								v = math.Round(v)
							}
							x[i] = float32(v + c.shift)
						}
						x[0] += 1
						return x
					}
					a, b := draw(1, c.n), draw(2, c.m)
					for i := range 10 { // copies of the reference, and within it
						copy(b[(i+20)*c.d:(i+21)*c.d], a[(i*7)*c.d:])
						copy(a[(i+30)*c.d:(i+31)*c.d], a[(i*3)*c.d:])
					}
					ref, gen := mustStats(t, a, c.n, c.d), mustStats(t, b, c.m, c.d)
					wantPR, wantDC, wantAuth := brute(ref, gen, k, strict)
					pr, dc := comparePRDC(t, ref, gen, k, ruleName(strict))
					r, err := Compare(context.Background(), ref, gen, Options{Metrics: []string{"authpct"}})
					if err != nil {
						t.Fatal(err)
					}
					auth := r.Metrics["authpct"].(AuthValue)
					for _, v := range [][2]float64{
						{pr.Precision, wantPR.Precision}, {pr.Recall, wantPR.Recall}, {dc.Density, wantDC.Density},
						{dc.Coverage, wantDC.Coverage}, {auth.Percent / 100, wantAuth.Percent / 100}, {auth.Copies, wantAuth.Copies},
					} {
						if math.Abs(v[0]-v[1]) > 1e-12*math.Max(1, v[1]) {
							t.Errorf("%v %v %v; by definition %v %v %v", pr, dc, auth, wantPR, wantDC, wantAuth)
							break
						}
					}
				})
			}
		}
	}
}

// Precision sees bad pictures, recall sees lost modes: not the other way round.
func TestPrecisionAndRecallAreNotSwapped(t *testing.T) {
	const n, d = 400, 4
	at := func(seed uint64, modes int, spread float64) *Stats {
		s := rng.New(seed, 3)
		x := make([]float32, n*d)
		for i := range n {
			for j := range d {
				x[i*d+j] = float32(spread * s.Normal())
			}
			x[i*d] += float32(20 * (i % modes))
		}
		return mustStats(t, x, n, d)
	}
	ref := at(1, 4, 1)
	lost, _ := comparePRDC(t, ref, at(2, 1, 1), 0, "")
	bad, _ := comparePRDC(t, ref, at(3, 4, 6), 0, "")
	if lost.Precision < 0.9 || lost.Recall > 0.3 {
		t.Errorf("one mode of four: precision %.2f, recall %.2f", lost.Precision, lost.Recall)
	}
	if bad.Precision > 0.3 || bad.Recall < 0.9 {
		t.Errorf("far too wide: precision %.2f, recall %.2f", bad.Precision, bad.Recall)
	}
}

// Vectors kept in a file, centred, give what they gave before.
func TestNeighboursOfAFile(t *testing.T) {
	p := newPair(30, 0.3)
	a, b := p.draw(t, 1, 25)
	path := filepath.Join(t.TempDir(), "b.npz")
	if err := WriteStats(path, b); err != nil {
		t.Fatal(err)
	}
	back, err := ReadStats(path)
	if err != nil {
		t.Fatal(err)
	}
	pr, dc := comparePRDC(t, a, b, 0, "")
	pr2, dc2 := comparePRDC(t, a, back, 0, "")
	if pr != pr2 || dc != dc2 {
		t.Errorf("%v %v from the file, %v %v before", pr2, dc2, pr, dc)
	}
}

func TestNeighboursRefuse(t *testing.T) {
	x := draw(1, 40, 4, 0)
	a := mustStats(t, x, 40, 4)
	few := mustStats(t, x[:5*4], 5, 4)
	other := mustStats(t, x, 20, 8)
	nan := mustStats(t, slices.Clone(x), 40, 4)
	nan.Features[7] = float32(math.NaN())
	bare := &Stats{N: 40, Mu: a.Mu, Sigma: a.Covariance()}
	for _, c := range []struct {
		name, want string
		gen        *Stats
		opt        Options
	}{
		{"few", "generated: dc needs at least 6 vectors, there are 5", few, Options{Metrics: []string{"dc"}}},
		{"dimensions", "extract both with one extractor", other, Options{Metrics: []string{"pr"}}},
		{"NaN", "a feature is not finite", nan, Options{Metrics: []string{"pr"}}},
		{"statistics alone", "give the images or an .npy of features", bare, Options{Metrics: []string{"authpct"}}},
		{"boundary", `boundary "half"`, a, Options{Metrics: []string{"pr"}, Boundary: "half"}},
		{"neighbours", "-1 neighbours", a, Options{Metrics: []string{"pr"}, NearestK: -1}},
	} {
		if _, err := Compare(context.Background(), a, c.gen, c.opt); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v; wanted %q", c.name, err, c.want)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Compare(ctx, a, a, Options{Metrics: []string{"pr"}}); err == nil {
		t.Error("a cancelled comparison gave a result")
	}
}

// Peers: prdc 22 to 33 s, torch-fidelity's precision and recall alone 8 to 10 s; three products of half or whole matrices take 2.8 s.
func BenchmarkPRDC(b *testing.B) {
	const n = 10000
	x := mustStats(b, draw(1, n, benchDim, 0), n, benchDim)
	y := mustStats(b, draw(2, n, benchDim, 0.02), n, benchDim)
	for b.Loop() {
		comparePRDC(b, x, y, 0, "")
	}
}

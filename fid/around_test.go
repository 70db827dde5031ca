package fid

import (
	"math"
	"testing"
)

// Products whose most part is float32 give the float64 products' discrepancies, of features far from 0 too, as pixels are; of what float32
// cannot hold they are left alone.
func TestAround(t *testing.T) {
	const n, d = 700, 40 // several tiles and their edges
	stretch := func(x []float32, by, shift float32) []float32 {
		for i := range x {
			x[i] = x[i]*by + shift
		}
		return x
	}
	sets := 0
	for name, c := range map[string]struct {
		by, shift float32
		held      bool
	}{
		"normals":        {1, 0, true},
		"activations":    {0.3, 0.5, true},
		"far from 0":     {1, 4, true},
		"pixels":         {60, 120, true},
		"all but alike":  {1e-3, 1, true},
		"beyond float32": {1e17, 0, false},
	} {
		x := mustStats(t, stretch(normals(1, n, d, 0), c.by, c.shift), n, d)
		y := mustStats(t, stretch(normals(2, n, d, 0.2), c.by, c.shift), n, d)
		a, b := bothAround(x, y, n, n)
		if (a != nil) != c.held {
			t.Errorf("%s: float32 is taken: %v", name, a != nil)
		}
		if a == nil {
			continue
		}
		sets++
		// The rounding of a vector, half of 2⁻²³, over about √n of them.
		scale := float64(c.by*c.by) + float64(c.shift*c.shift) + 1
		tol := 3 * 0x1p-24 / math.Sqrt(n) * scale * scale * scale
		ix, iy := make([]int, n-50), make([]int, n-50)
		for i := range ix {
			ix[i], iy[i] = (i*13)%n, (i*29+5)%n
		}
		var s aroundScratch
		zero := make([]float64, d)
		want := mmd(nil, x, y, [2][]float64{zero, zero}, ix, iy)
		if got := s.mmd(nil, a, b, ix, iy); !(math.Abs(got-want) <= tol) {
			t.Errorf("%s: KID of a subset is %.15g, by float64 %.15g, within %g", name, got, want, tol)
		}
		exact, low := [2]*vectors{}, [2]*vectors{}
		for i, v := range []*Stats{x, y} {
			var err error
			if exact[i], err = newVectors(v, false); err != nil {
				t.Fatal(err)
			}
			q := *exact[i]
			q.low = []*around{a, b}[i]
			low[i] = &q
		}
		for _, same := range []bool{true, false} {
			p, q := exact[1], low[1]
			if same {
				p, q = exact[0], low[0]
			}
			want, err := similarities(t.Context(), cubic, exact[0], p, same)
			if err != nil {
				t.Fatal(err)
			}
			got, err := similarities(t.Context(), cubic, low[0], q, same)
			if err != nil {
				t.Fatal(err)
			}
			if g, w := sum(got.rows)/(n*n), sum(want.rows)/(n*n); !(math.Abs(g-w) <= tol) {
				t.Errorf("%s, same %v: the kernel's mean is %.15g, by float64 %.15g", name, same, g, w)
			}
		}
	}
	if sets != 5 {
		t.Errorf("%d sets were compared", sets)
	}
	few := mustStats(t, normals(1, 500, d, 0), 500, d)
	if a, _ := bothAround(few, few, 500, 500); a != nil {
		t.Error("float32 is taken for few pairs")
	}
}

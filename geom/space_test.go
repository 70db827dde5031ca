package geom_test

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/geom"
)

type visit struct {
	at           [3]int
	enter, leave float64
}

// bySlabs lists the voxels that a ray crosses over a positive length, by cutting
// it with every voxel: the oracle of Walk.
func bySlabs(g *geom.Voxels, o, d geom.Vec) (v []visit) {
	for i := range g.N[0] * g.N[1] * g.N[2] {
		at := [3]int{i % g.N[0], i / g.N[0] % g.N[1], i / g.N[0] / g.N[1]}
		enter, leave := 0.0, math.Inf(1)
		for a := range 3 {
			low := g.Min.At(a) + float64(at[a])*g.Size
			high := g.Min.At(a) + float64(at[a]+1)*g.Size
			if d.At(a) == 0 {
				if !(low <= o.At(a) && o.At(a) < high) {
					leave = -1
				}
				continue
			}
			s0, s1 := (low-o.At(a))/d.At(a), (high-o.At(a))/d.At(a)
			enter, leave = max(enter, min(s0, s1)), min(leave, max(s0, s1))
		}
		if enter < leave {
			v = append(v, visit{at, enter, leave})
		}
	}
	slices.SortFunc(v, func(a, b visit) int { return cmp.Compare(a.enter, b.enter) })
	return v
}

// Origins and directions are small multiples of 1/4 in half of the cases, which
// puts rays on faces, edges and corners.
func TestWalkAgainstSlabs(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 1))
	g := &geom.Voxels{N: [3]int{5, 4, 3}, Min: geom.Vec{X: -2, Y: -1.5, Z: 0.25}, Size: 0.75}
	if err := g.Check(); err != nil {
		t.Fatal(err)
	}
	crossed := 0
	for k := range 20000 {
		value := func(from, to float64) float64 {
			v := from + r.Float64()*(to-from)
			if k%2 == 0 {
				v = math.Round(v*4) / 4
			}
			return v
		}
		o := geom.Vec{X: value(-4, 4), Y: value(-4, 4), Z: value(-2, 5)}
		d := geom.Vec{X: value(-1, 1), Y: value(-1, 1), Z: value(-1, 1)}
		if d == (geom.Vec{}) {
			continue
		}
		want := bySlabs(g, o, d)
		i := 0
		before := -1.0
		for w := g.Walk(o, d); w.Next(); {
			if w.Enter < before || w.Leave < w.Enter {
				t.Fatalf("ray %v %v: from %g to %g after %g", o, d, w.Enter, w.Leave, before)
			}
			before = w.Enter
			if w.Leave == w.Enter {
				continue // an edge or corner is passed in two or three crossings
			}
			if i >= len(want) || w.At != want[i].at || w.Enter != want[i].enter || w.Leave != want[i].leave {
				t.Fatalf("ray %v %v: visit %d is %v from %g to %g; all: %v", o, d, i, w.At, w.Enter, w.Leave, want)
			}
			if face := w.Axis; face >= 0 {
				f := w.At[face]
				if d.At(face) < 0 {
					f++
				}
				if at := o.At(face) + w.Enter*d.At(face); math.Abs(at-(g.Min.At(face)+float64(f)*g.Size)) > 1e-12 {
					t.Fatalf("ray %v %v: enters %v through axis %d at %g", o, d, w.At, face, at)
				}
			} else if w.Enter != 0 {
				t.Fatalf("ray %v %v: no face at %g", o, d, w.Enter)
			}
			i++
		}
		if i != len(want) {
			t.Fatalf("ray %v %v: %d voxels, want %v", o, d, i, want)
		}
		crossed += i
	}
	if crossed < 10000 {
		t.Errorf("only %d voxels were crossed", crossed)
	}
}

func TestWalkEdges(t *testing.T) {
	g := &geom.Voxels{N: [3]int{2, 2, 2}, Size: 1}
	for _, c := range []struct {
		o, d  geom.Vec
		first [3]int
		n     int
	}{
		{geom.Vec{X: 1, Y: 0.5, Z: 0.5}, geom.Vec{X: -1}, [3]int{0, 0, 0}, 1},           // from a face: the voxel it runs into
		{geom.Vec{X: 1, Y: 0.5, Z: 0.5}, geom.Vec{X: 1}, [3]int{1, 0, 0}, 1},            //
		{geom.Vec{X: -1, Y: 1, Z: 1}, geom.Vec{X: 1}, [3]int{0, 1, 1}, 2},               // along an edge: the voxel above
		{geom.Vec{X: -1, Y: 2, Z: 1}, geom.Vec{X: 1}, [3]int{}, 0},                      // along the upper boundary
		{geom.Vec{X: 3, Y: 1, Z: 1}, geom.Vec{X: 1}, [3]int{}, 0},                       // away from the grid
		{geom.Vec{X: 0.5, Y: 0.5, Z: 0.5}, geom.Vec{}, [3]int{}, 0},                     // no direction
		{geom.Vec{X: math.NaN(), Y: 0.5, Z: 0.5}, geom.Vec{X: 1}, [3]int{}, 0},          //
		{geom.Vec{X: 0.5, Y: 0.5, Z: 0.5}, geom.Vec{X: 1, Y: math.NaN()}, [3]int{}, 0},  //
		{geom.Vec{X: -1, Y: -1, Z: -1}, geom.Vec{X: 1, Y: 1, Z: 1}, [3]int{0, 0, 0}, 4}, // the diagonal: x, y, z
	} {
		n := 0
		for w := g.Walk(c.o, c.d); w.Next(); n++ {
			if n == 0 && w.At != c.first {
				t.Errorf("ray %v %v begins in %v, want %v", c.o, c.d, w.At, c.first)
			}
		}
		if n != c.n {
			t.Errorf("ray %v %v visits %d voxels, want %d", c.o, c.d, n, c.n)
		}
	}
	if _, ok := g.Index(geom.Vec{X: 2, Y: 1, Z: 1}); ok {
		t.Error("the upper face belongs to the grid")
	}
	if v, ok := g.Index(geom.Vec{X: 1, Y: 0, Z: 1.99}); !ok || v != [3]int{1, 0, 1} {
		t.Errorf("index %v, %v; want [1 0 1]", v, ok)
	}
	if n := testing.AllocsPerRun(100, func() {
		for w := g.Walk(geom.Vec{X: -1, Y: 0.3, Z: 0.1}, geom.Vec{X: 1, Y: 0.2, Z: 0.3}); w.Next(); {
			_ = w.At
		}
	}); n != 0 {
		t.Errorf("a walk allocates %g times", n)
	}
	for _, bad := range []geom.Voxels{{N: [3]int{1, 0, 1}, Size: 1}, {N: [3]int{1, 1, 1}}, {N: [3]int{1, 1, 1}, Size: math.Inf(1)}, {N: [3]int{1, 1, 1}, Size: 1, Min: geom.Vec{Y: math.NaN()}}} {
		if err := bad.Check(); err == nil {
			t.Errorf("%+v: no error", bad)
		}
	}
}

// forward looks along +x with +y on its left, as a car's front camera.
func forward() geom.Camera {
	return geom.Camera{
		K:  [9]float64{16, 0, 16, 0, 16, 8, 0, 0, 1},
		Rt: [12]float64{0, -1, 0, 0, 0, 0, -1, 1.5, 1, 0, 0, 0},
	}
}

func TestCamera(t *testing.T) {
	c := forward()
	if err := c.Check(); err != nil {
		t.Fatal(err)
	}
	// Ten ahead, two left, a half below the camera: by hand.
	at, depth := c.Project(geom.Vec{X: 10, Y: 2, Z: 1})
	if depth != 10 || math.Abs(at.X-(16-16*0.2)) > 1e-12 || math.Abs(at.Y-(8+16*0.05)) > 1e-12 {
		t.Errorf("projected to %v, depth %g", at, depth)
	}
	r := rand.New(rand.NewPCG(6, 1))
	for range 200 {
		// A random rotation by two turns, and an oblique K.
		s, cs := math.Sincos(r.Float64() * 7)
		s2, c2 := math.Sincos(r.Float64() * 7)
		c := geom.Camera{
			K:  [9]float64{20, 3, 16, 0, 15, 8, 0, 0, 1},
			Rt: [12]float64{cs, -s, 0, r.Float64(), s * c2, cs * c2, -s2, r.Float64(), s * s2, cs * s2, c2, r.Float64()},
		}
		if err := c.Check(); err != nil {
			t.Fatal(err)
		}
		u, v, depth := r.Float64()*32, r.Float64()*16, 0.5+r.Float64()*9
		o, d := c.Ray(u, v)
		at, got := c.Project(geom.Vec{X: o.X + depth*d.X, Y: o.Y + depth*d.Y, Z: o.Z + depth*d.Z})
		if math.Abs(got-depth) > 1e-12 || math.Abs(at.X-u)+math.Abs(at.Y-v) > 1e-9 {
			t.Fatalf("ray through (%g, %g) at depth %g projects to %v, depth %g", u, v, depth, at, got)
		}
	}
	for _, b := range []struct {
		change func(*geom.Camera)
		want   string
	}{
		{func(c *geom.Camera) { c.K[0] = 0 }, "singular"},
		{func(c *geom.Camera) { c.K[3] = 1 }, "triangle"},
		{func(c *geom.Camera) { c.K[8] = 2 }, "triangle"},
		{func(c *geom.Camera) { c.K[2] = math.NaN() }, "finite"},
		{func(c *geom.Camera) { c.Rt[7] = math.Inf(1) }, "finite"},
		{func(c *geom.Camera) { c.Rt[8] = 1.1 }, "rotation wants 1"},
		{func(c *geom.Camera) { c.Rt[0] = 0.1 }, "rows 0 and 0"},
		{func(c *geom.Camera) { c.Rt[1] = 1 }, "mirror"},
	} {
		c := forward()
		b.change(&c)
		if err := c.Check(); err == nil || !strings.Contains(err.Error(), b.want) {
			t.Errorf("camera %+v: error %v, want one with %q", c, err, b.want)
		}
	}
}

// Points of a box that the camera sees lie in its outline; a box behind it has
// none, though its corners project into the picture when nobody looks at depth.
func TestOutline(t *testing.T) {
	c := forward()
	r := rand.New(rand.NewPCG(7, 1))
	for range 500 {
		low := geom.Vec{X: r.Float64()*20 - 10, Y: r.Float64()*10 - 5, Z: r.Float64()*4 - 2}
		high := geom.Vec{X: low.X + 1 + r.Float64()*5, Y: low.Y + 2, Z: low.Z + 2}
		outline := geom.Polygon{c.Outline(geom.Corners(low, high), 0.01)}
		if high.X < 0.01 && outline[0] != nil {
			t.Fatalf("a box behind the camera, to x = %g, has the outline %v", high.X, outline)
		}
		for range 50 {
			p := geom.Vec{X: low.X + r.Float64()*(high.X-low.X), Y: low.Y + r.Float64()*2, Z: low.Z + r.Float64()*2}
			if at, depth := c.Project(p); depth > 0.0101 && !outline.Contains(at) {
				t.Fatalf("box %v %v: the point %v at %v, depth %g, is not in the outline %v", low, high, p, at, depth, outline)
			}
		}
	}
	// The naive way: a hull of all projected corners.
	var naive []geom.Point
	for _, p := range geom.Corners(geom.Vec{X: -6, Y: -1, Z: 1}, geom.Vec{X: -4, Y: 1, Z: 2}) {
		at, _ := c.Project(p)
		naive = append(naive, at)
	}
	mask := make([]uint8, 32*16)
	if (geom.Polygon{geom.Hull(naive)}).Fill(mask, 32, 16, 1) == 0 {
		t.Error("the naive outline of a box behind the camera covers nothing: this test shows nothing")
	}
}

func TestCrops(t *testing.T) {
	r := rand.New(rand.NewPCG(8, 1))
	var area float64
	const n = 4000
	for range n {
		c := geom.RandomCrop(40, 60, [2]float64{0.15, 0.4}, [2]float64{0.75, 4.0 / 3}, r.Float64)
		if c.Y < 0 || c.X < 0 || c.Y+c.H > 40 || c.X+c.W > 60 || c.H < 1 || c.W < 1 || c.H != math.Floor(c.H) || c.X != math.Floor(c.X) {
			t.Fatalf("crop %v", c)
		}
		if f := c.W / c.H; f < 0.75*0.94 || f > 4.0/3*1.07 { // whole pixels move the aspect
			t.Fatalf("crop %v has the aspect %g", c, f)
		}
		area += c.H * c.W / (40 * 60) / n
	}
	if math.Abs(area-0.275) > 0.005 { // 4.4 standard errors of the mean of a uniform share
		t.Errorf("mean area %g of the picture, want 0.275", area)
	}
	for _, c := range []struct {
		h, w int
		want geom.Rect
	}{{10, 100, geom.Rect{Y: 0, X: 43, H: 10, W: 13}}, {100, 10, geom.Rect{Y: 43, X: 0, H: 13, W: 10}}} {
		if got := geom.RandomCrop(c.h, c.w, [2]float64{1, 1}, [2]float64{0.75, 4.0 / 3}, r.Float64); got != c.want {
			t.Errorf("%d×%d: fallback %v, want %v", c.h, c.w, got, c.want)
		}
	}
	a, b := geom.Rect{Y: 3, X: 5, H: 8, W: 16}, geom.Rect{Y: 1, X: 4, H: 24, W: 20}
	rel := geom.RelativeTo(a, b, 4)
	if rel != (geom.Relative{StartY: -1, StepY: 3, StartX: -0.25, StepX: 1.25}) {
		t.Errorf("relative %+v", rel)
	}
	// Row and column must not be swapped: the rectangles are no squares.
	if y, x := rel.At(2, 1); y != 5 || x != 1 {
		t.Errorf("token (2, 1) is at (%g, %g), want (5, 1)", y, x)
	}
	moved := geom.RelativeTo(geom.Rect{Y: a.Y + 7, X: a.X - 2, H: a.H, W: a.W}, geom.Rect{Y: b.Y + 7, X: b.X - 2, H: b.H, W: b.W}, 4)
	if moved != rel {
		t.Errorf("both rectangles moved: %+v, want %+v", moved, rel)
	}
	if same := geom.RelativeTo(a, a, 4); same != (geom.Relative{StepY: 1, StepX: 1}) {
		t.Errorf("a rectangle against itself: %+v", same)
	}
	if e := (geom.Rect{Y: 2, X: 3, H: 10, W: 20}).Expand(0.5, 0.25, 0, 1); e != (geom.Rect{Y: -3, X: 3, H: 17.5, W: 40}) {
		t.Errorf("expanded: %v", e)
	}
	for share, want := range map[float64]float64{0.25: 2.25, 0.616: 4.98, 1.214: 11.75} { // the areas that PQDiff names
		if e := (geom.Rect{H: 1, W: 1}).Expand(share, share, share, share); math.Abs(e.H*e.W-want) > 0.005 {
			t.Errorf("expansion %g: area %g, want %g", share, e.H*e.W, want)
		}
	}
	if o := a.Overlap(b); o != (geom.Rect{Y: 3, X: 5, H: 8, W: 16}) {
		t.Errorf("overlap %v", o)
	}
	if o := a.Overlap(geom.Rect{Y: 30, X: 5, H: 8, W: 16}); o.H != 0 {
		t.Errorf("overlap %v of rectangles apart", o)
	}
	for _, f := range []func(){
		func() { geom.RandomCrop(0, 3, [2]float64{0.5, 1}, [2]float64{1, 1}, r.Float64) },
		func() { geom.RandomCrop(3, 3, [2]float64{0, 1}, [2]float64{1, 1}, r.Float64) },
		func() { geom.RandomCrop(3, 3, [2]float64{0.5, 1.1}, [2]float64{1, 1}, r.Float64) },
		func() { geom.RandomCrop(3, 3, [2]float64{0.5, 1}, [2]float64{2, 1}, r.Float64) },
		func() { geom.RelativeTo(geom.Rect{H: 1}, a, 4) },
		func() { geom.RelativeTo(a, a, 0) },
		func() { geom.Polygon{}.Fill(make([]uint8, 3), 2, 2, 1) },
		func() { geom.Polygon{}.Coverage(make([]uint8, 4), 2, 2, 16) },
		func() { geom.Contours(make([]uint8, 3), 2, 2) },
		func() { c := forward(); c.Outline([8]geom.Vec{}, 0) },
	} {
		func() {
			defer func() {
				if s, ok := recover().(string); !ok || !strings.HasPrefix(s, "geom: ") {
					t.Errorf("panic %q, want one of geom", s)
				}
			}()
			f()
		}()
	}
}

func BenchmarkWalk(b *testing.B) {
	g := &geom.Voxels{N: [3]int{200, 200, 16}, Min: geom.Vec{X: -40, Y: -40, Z: -1}, Size: 0.4}
	n := 0
	for b.Loop() {
		for w := g.Walk(geom.Vec{Z: 1.5}, geom.Vec{X: 1, Y: 0.37, Z: 0.01}); w.Next(); n++ {
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/voxel")
}

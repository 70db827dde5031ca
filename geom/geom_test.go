package geom_test

import (
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/geom"
)

func randomRing(r *rand.Rand, n int, size float64) geom.Ring {
	ring := make(geom.Ring, n)
	for i := range ring {
		// Multiples of 1/4 put points and edges on pixel centres often.
		ring[i] = geom.Point{X: math.Floor(r.Float64()*4*size)/4 - 2, Y: math.Floor(r.Float64()*4*size)/4 - 2}
	}
	return ring
}

// The oracle is the winding of the ring around the point by summed angles, for
// points away from all edges.
func TestContainsAgainstAngles(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	tried := 0
	for range 3000 {
		ring := randomRing(r, 3+r.IntN(6), 12)
		q := geom.Point{X: r.Float64() * 12, Y: r.Float64() * 12}
		sum, near := 0.0, false
		for i, a := range ring {
			b := ring[(i+1)%len(ring)]
			ux, uy, vx, vy := a.X-q.X, a.Y-q.Y, b.X-q.X, b.Y-q.Y
			angle := math.Atan2(ux*vy-uy*vx, ux*vx+uy*vy)
			near = near || math.Abs(math.Abs(angle)-math.Pi) < 1e-6
			sum += angle
		}
		if near {
			continue
		}
		tried++
		want := int(math.Round(sum/(2*math.Pi)))%2 != 0
		if got := (geom.Polygon{ring}).Contains(q); got != want {
			t.Fatalf("ring %v, point %v: inside %v, want %v", ring, q, got, want)
		}
	}
	if tried < 2500 {
		t.Fatalf("only %d points were away from the edges", tried)
	}
}

func TestFillIsContainsAtCentres(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 1))
	const w, h = 11, 7
	for range 2000 {
		p := geom.Polygon{randomRing(r, 3+r.IntN(5), 14)}
		if r.IntN(2) == 0 {
			p = append(p, randomRing(r, 3, 8))
		}
		mask := make([]uint8, w*h)
		n, want := p.Fill(mask, w, h, 9), 0
		count := make([]uint8, w*h)
		p.Coverage(count, w, h, 3)
		for y := range h {
			for x := range w {
				in := p.Contains(geom.Point{X: float64(x) + 0.5, Y: float64(y) + 0.5})
				if in {
					want++
				}
				if (mask[y*w+x] == 9) != in {
					t.Fatalf("polygon %v: pixel (%d, %d) is %d, Contains says %v", p, x, y, mask[y*w+x], in)
				}
				samples := uint8(0)
				for j := range 9 {
					if p.Contains(geom.Point{X: (float64(3*x+j%3) + 0.5) / 3, Y: (float64(3*y+j/3) + 0.5) / 3}) {
						samples++
					}
				}
				if count[y*w+x] != samples {
					t.Fatalf("polygon %v: pixel (%d, %d) has %d samples inside, want %d", p, x, y, count[y*w+x], samples)
				}
			}
		}
		if n != want {
			t.Fatalf("Fill says %d pixels, %d are inside", n, want)
		}
	}
}

// A fan of triangles around a point tiles its square: every pixel once, also
// with edges through pixel centres. A raster that takes both edges fails.
func TestSharedEdges(t *testing.T) {
	square := geom.Box(0, 0, 16, 16)
	for _, c := range []geom.Point{{X: 8, Y: 8}, {X: 7.5, Y: 8.5}, {X: 3.5, Y: 0.5}, {X: 10.3, Y: 2.7}} {
		count := make([]uint8, 256)
		for i, a := range square {
			tri := geom.Polygon{{c, square[(i+1)%4], a}}
			one := make([]uint8, 256)
			tri.Fill(one, 16, 16, 1)
			for k, v := range one {
				count[k] += v
			}
		}
		for k, v := range count {
			if v != 1 {
				t.Errorf("centre %v: pixel (%d, %d) is covered %d times", c, k%16, k/16, v)
			}
		}
	}
	left, top := make([]uint8, 9), make([]uint8, 9)
	geom.Polygon{geom.Box(0.5, 0.5, 2.5, 1.5)}.Fill(left, 3, 3, 1)
	geom.Polygon{geom.Box(0.5, 1.5, 2.5, 2.5)}.Fill(top, 3, 3, 1)
	if !slices.Equal(left, []uint8{1, 1, 0, 0, 0, 0, 0, 0, 0}) || !slices.Equal(top, []uint8{0, 0, 0, 1, 1, 0, 0, 0, 0}) {
		t.Errorf("edges through centres: %v and %v", left, top)
	}
}

func TestAreaOfClosedForms(t *testing.T) {
	hexagon := geom.Ring{}
	for i := range 6 {
		s, c := math.Sincos(float64(i) * math.Pi / 3)
		hexagon = append(hexagon, geom.Point{X: 5 + 2*c, Y: 5 + 2*s})
	}
	for _, c := range []struct {
		p    geom.Polygon
		want float64
	}{
		{geom.Polygon{geom.Box(1, 2, 4, 7)}, 15},
		{geom.Polygon{geom.Box(0, 0, 4, 4), geom.Box(1, 1, 2, 3)}, 14},
		{geom.Polygon{{{X: 0, Y: 0}, {X: 4, Y: 0}, {X: 0, Y: 3}}}, 6},
		{geom.Polygon{hexagon}, 6 * math.Sqrt(3)},
		{nil, 0},
	} {
		if got := c.p.Area(); math.Abs(got-c.want) > 1e-12 {
			t.Errorf("%v: area %g, want %g", c.p, got, c.want)
		}
	}
	if hexagon.SignedArea() < 0 {
		t.Error("a ring from x towards y has negative area")
	}
}

// All points lie in the hull, its points are among them, and it turns one way:
// together these make it the hull.
func TestHull(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 1))
	for range 500 {
		points := []geom.Point(randomRing(r, 3+r.IntN(20), 6))
		hull := geom.Hull(points)
		if hull == nil {
			continue
		}
		for i, a := range hull {
			b, c := hull[(i+1)%len(hull)], hull[(i+2)%len(hull)]
			if (b.X-a.X)*(c.Y-a.Y)-(b.Y-a.Y)*(c.X-a.X) <= 0 || !slices.Contains(points, a) {
				t.Fatalf("points %v: hull %v does not turn at %v", points, hull, b)
			}
			for _, q := range points {
				if (b.X-a.X)*(q.Y-a.Y)-(b.Y-a.Y)*(q.X-a.X) < 0 {
					t.Fatalf("points %v: %v is outside of hull %v", points, q, hull)
				}
			}
		}
	}
	line := []geom.Point{{X: 1, Y: 1}, {X: 2, Y: 2}, {X: 3, Y: 3}, {X: 2, Y: 2}}
	for _, p := range [][]geom.Point{nil, line[:2], line} {
		if h := geom.Hull(p); h != nil {
			t.Errorf("points %v have the hull %v", p, h)
		}
	}
}

func TestCheck(t *testing.T) {
	ok := geom.Polygon{geom.Box(0, 0, 9, 9), geom.Box(1, 1, 3, 3), geom.Box(4, 4, 6, 6)}
	if err := ok.Check(); err != nil {
		t.Errorf("a square with two holes: %v", err)
	}
	nan := geom.Box(0, 0, 1, 1)
	nan[2].X = math.NaN()
	for _, c := range []struct {
		p    geom.Polygon
		want string
	}{
		{nil, "without rings"},
		{geom.Polygon{{{X: 0, Y: 0}, {X: 1, Y: 0}}}, "2 points"},
		{geom.Polygon{nan}, "finite"},
		{geom.Polygon{{{X: 0, Y: 0}, {X: 1, Y: 1}, {X: 2, Y: 2}}}, "no area"},
		{geom.Polygon{{{X: 0, Y: 0}, {X: 4, Y: 4}, {X: 4, Y: 0}, {X: 0, Y: 3}}}, "meets"},                              // crossing
		{geom.Polygon{{{X: 0, Y: 0}, {X: 4, Y: 0}, {X: 2, Y: 0}, {X: 2, Y: 4}}}, "folds back"},                         // spike
		{geom.Polygon{{{X: 0, Y: 0}, {X: 4, Y: 0}, {X: 4, Y: 4}, {X: 2, Y: 0}}}, "meets"},                              // touching
		{geom.Polygon{geom.Box(0, 0, 4, 4), geom.Box(3, 1, 5, 2)}, "meets"},                                            // hole across the outline
		{geom.Polygon{{{X: 0, Y: 0}, {X: 4, Y: 0}, {X: 4, Y: 0}, {X: 4, Y: 4}}}, "repeats"},                            // double point
		{geom.Polygon{{{X: 0, Y: 0}, {X: 4, Y: 0}, {X: 4, Y: 4}, {X: 0, Y: 4}, {X: 0, Y: 0}, {X: -1, Y: 2}}}, "meets"}, // pinched
	} {
		if err := c.p.Check(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: error %v, want one with %q", c.p, err, c.want)
		}
	}
}

// components counts four-connected pieces by repeated spreading: slow and plain.
func components(mask []uint8, w, h int) int {
	id := make([]int, len(mask))
	for i, v := range mask {
		if v != 0 {
			id[i] = i + 1
		}
	}
	for changed := true; changed; {
		changed = false
		for i := range id {
			for k, j := range []int{i + 1, i + w} {
				if j >= len(id) || k == 0 && j%w == 0 || id[i] == 0 || id[j] == 0 || id[i] == id[j] {
					continue
				}
				id[i], id[j] = min(id[i], id[j]), min(id[i], id[j])
				changed = true
			}
		}
	}
	slices.Sort(id)
	n := len(slices.Compact(id))
	if slices.Contains(mask, 0) {
		n--
	}
	return n
}

func TestContours(t *testing.T) {
	r := rand.New(rand.NewPCG(4, 1))
	for k := range 2000 {
		w, h := 1+r.IntN(9), 1+r.IntN(9)
		mask := make([]uint8, w*h)
		for i := range mask {
			if r.IntN(4) < 1+k%3 {
				mask[i] = 1
			}
		}
		polys := geom.Contours(mask, w, h)
		if want := components(mask, w, h); len(polys) != want {
			t.Fatalf("%d×%d %v: %d polygons, %d components", w, h, mask, len(polys), want)
		}
		back := make([]uint8, w*h)
		for _, p := range polys {
			if err := p.Check(); err != nil {
				t.Fatalf("%d×%d %v: %v", w, h, mask, err)
			}
			for i, ring := range p {
				if (ring.SignedArea() > 0) != (i == 0) {
					t.Fatalf("ring %d has area %g", i, ring.SignedArea())
				}
			}
			one := make([]uint8, w*h)
			p.Fill(one, w, h, 1)
			for i, v := range one {
				back[i] += v
			}
		}
		if !slices.Equal(mask, back) {
			t.Fatalf("%d×%d: mask %v comes back as %v", w, h, mask, back)
		}
	}
	// A square of n pixels loses an eighth of a pixel at each corner.
	mask := make([]uint8, 36)
	geom.Polygon{geom.Box(1, 1, 5, 5), geom.Box(2, 2, 4, 4)}.Fill(mask, 6, 6, 1)
	p := geom.Contours(mask, 6, 6)
	if len(p) != 1 || len(p[0]) != 2 || p[0].Area() != (16-0.5)-(4-0.5) {
		t.Errorf("a square ring of pixels: %v, area %g", p, p[0].Area())
	}
}

func BenchmarkFill(b *testing.B) {
	mask := make([]uint8, 256*256)
	p := geom.Polygon{{{X: 10.3, Y: 7.1}, {X: 240.2, Y: 31.9}, {X: 200, Y: 250.5}, {X: 40.7, Y: 190}}}
	for b.Loop() {
		p.Fill(mask, 256, 256, 1)
	}
}

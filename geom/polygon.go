package geom

import (
	"cmp"
	"fmt"
	"math"
	"slices"
)

// Point is a point of the plane; y points down in pictures.
type Point struct{ X, Y float64 }

// Ring is a closed chain of points; the last is joined to the first, which is
// not repeated.
type Ring []Point

// Polygon is a set of rings under the even-odd rule: a point is inside when a
// ray from it crosses the rings an odd number of times. By custom the first ring
// is the outline and the others are holes.
type Polygon []Ring

// Box returns the axis-aligned rectangle from (x0, y0) to (x1, y1).
func Box(x0, y0, x1, y1 float64) Ring {
	return Ring{{x0, y0}, {x1, y0}, {x1, y1}, {x0, y1}}
}

// cross is the z component of (b-a)×(c-a): positive when a, b, c turn from the
// x axis towards the y axis.
func cross(a, b, c Point) float64 {
	return float64((b.X-a.X)*(c.Y-a.Y)) - float64((b.Y-a.Y)*(c.X-a.X))
}

// SignedArea is half the sum of cross products of neighbouring points (shoelace
// formula): positive for rings that turn from x towards y, clockwise on a screen.
func (r Ring) SignedArea() float64 {
	if len(r) < 3 {
		return 0
	}
	sum := 0.0
	for i := 1; i+1 < len(r); i++ {
		sum += cross(r[0], r[i], r[i+1])
	}
	return sum / 2
}

// Area is the area of the first ring less those of the others: that of the
// polygon when the holes lie inside the outline and apart.
func (p Polygon) Area() float64 {
	a := 0.0
	for i, r := range p {
		if s := math.Abs(r.SignedArea()); i == 0 {
			a = s
		} else {
			a -= s
		}
	}
	return a
}

// Bounds are the least rectangle around all points; ok is false without points.
func (p Polygon) Bounds() (low, high Point, ok bool) {
	low, high = Point{math.Inf(1), math.Inf(1)}, Point{math.Inf(-1), math.Inf(-1)}
	for _, r := range p {
		for _, q := range r {
			low = Point{min(low.X, q.X), min(low.Y, q.Y)}
			high = Point{max(high.X, q.X), max(high.Y, q.Y)}
			ok = true
		}
	}
	return low, high, ok
}

// Contains reports whether q is inside by the rule of the package documentation:
// edges on the left and above belong to the polygon, those on the right and below
// do not.
func (p Polygon) Contains(q Point) bool {
	inside := false
	for _, r := range p {
		for i, a := range r {
			if crosses(a, r[(i+1)%len(r)], q) {
				inside = !inside
			}
		}
	}
	return inside
}

// crosses reports whether the edge ab lies across the ray from q to x = +∞. The
// edge takes its upper end and not its lower one, and is always looked at from
// above, so that both neighbours of a shared edge get the same answer.
func crosses(a, b, q Point) bool {
	if a.Y > b.Y {
		a, b = b, a
	}
	return a.Y <= q.Y && q.Y < b.Y && cross(a, b, q) > 0
}

// Check refuses what is no simple polygon: rings of fewer than three points,
// values that are not finite, rings of no area, edges that touch or cross other
// edges than their neighbours. It compares all pairs of edges.
func (p Polygon) Check() error {
	type edge struct {
		ring, at int
		a, b     Point
	}
	var edges []edge
	for k, r := range p {
		if len(r) < 3 {
			return fmt.Errorf("geom: ring %d has %d points; a polygon wants 3 or more", k, len(r))
		}
		for i, q := range r {
			if math.IsNaN(q.X-q.X) || math.IsNaN(q.Y-q.Y) {
				return fmt.Errorf("geom: ring %d, point %d is (%g, %g); want finite coordinates", k, i, q.X, q.Y)
			}
			edges = append(edges, edge{k, i, q, r[(i+1)%len(r)]})
		}
		if r.SignedArea() == 0 {
			return fmt.Errorf("geom: ring %d has no area; leave it out", k)
		}
	}
	if len(p) == 0 {
		return fmt.Errorf("geom: a polygon without rings; want an outline")
	}
	for i, e := range edges {
		if e.a == e.b {
			return fmt.Errorf("geom: ring %d repeats point %d; name every point once", e.ring, e.at)
		}
		for _, f := range edges[:i] {
			n := len(p[e.ring])
			if e.ring == f.ring && (e.at == f.at+1 || f.at == 0 && e.at == n-1) {
				// Neighbours share one end and must not fold back onto each other.
				a, b, c := f.a, e.a, e.b
				if e.at != f.at+1 {
					a, b, c = e.a, f.a, f.b
				}
				if cross(a, b, c) == 0 && float64((a.X-b.X)*(c.X-b.X))+float64((a.Y-b.Y)*(c.Y-b.Y)) > 0 {
					return fmt.Errorf("geom: ring %d folds back at (%g, %g); want a simple ring", e.ring, b.X, b.Y)
				}
				continue
			}
			if meet(e.a, e.b, f.a, f.b) {
				return fmt.Errorf("geom: edge %d of ring %d meets edge %d of ring %d; want rings that neither touch nor cross", e.at, e.ring, f.at, f.ring)
			}
		}
	}
	return nil
}

// meet reports whether the closed segments ab and cd have a point in common.
func meet(a, b, c, d Point) bool {
	d1, d2, d3, d4 := cross(a, b, c), cross(a, b, d), cross(c, d, a), cross(c, d, b)
	if (d1 > 0 && d2 < 0 || d1 < 0 && d2 > 0) && (d3 > 0 && d4 < 0 || d3 < 0 && d4 > 0) {
		return true
	}
	on := func(a, b, q Point) bool {
		return min(a.X, b.X) <= q.X && q.X <= max(a.X, b.X) && min(a.Y, b.Y) <= q.Y && q.Y <= max(a.Y, b.Y)
	}
	return d1 == 0 && on(a, b, c) || d2 == 0 && on(a, b, d) || d3 == 0 && on(c, d, a) || d4 == 0 && on(c, d, b)
}

// Hull returns the convex hull of the points (Andrew's monotone chain): a ring of
// positive SignedArea without points inside its edges. Points on one line, or
// fewer than three of them, have no hull: nil.
func Hull(points []Point) Ring {
	p := slices.Clone(points)
	slices.SortFunc(p, func(a, b Point) int {
		return cmp.Or(cmp.Compare(a.X, b.X), cmp.Compare(a.Y, b.Y))
	})
	p = slices.Compact(p)
	if len(p) < 3 {
		return nil
	}
	hull := make(Ring, 0, 2*len(p))
	half := func(q Point, from int) {
		for len(hull) >= from+2 && cross(hull[len(hull)-2], hull[len(hull)-1], q) <= 0 {
			hull = hull[:len(hull)-1]
		}
		hull = append(hull, q)
	}
	for _, q := range p {
		half(q, 0)
	}
	from := len(hull) - 1
	for i := len(p) - 2; i >= 0; i-- {
		half(p[i], from)
	}
	hull = hull[:len(hull)-1]
	if len(hull) < 3 {
		return nil
	}
	return hull
}

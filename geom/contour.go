package geom

import (
	"fmt"
	"math"
	"slices"
)

// Contours vectorises a mask, w×h row by row, pixels other than 0 being inside:
// the lines of level ½ by marching squares on the grid of pixel centres, with
// what lies beyond the picture outside. Corners are therefore cut: at half a pixel
// from the centres. Of the two readings of a saddle the one is taken that keeps
// the inside apart, so that one polygon is one four-connected component.
//
// A polygon is its outline, of positive SignedArea, and its holes, of negative;
// points on a straight line are left out. Polygons come in the order of their
// first pixel. Fill of them all gives the mask again, exactly.
//
// Source of the method: Lorensen and Cline 1987, in two dimensions.
func Contours(mask []uint8, w, h int) []Polygon {
	if w < 0 || h < 0 || len(mask) != w*h {
		panic(fmt.Sprintf("geom: Contours: %d pixels for %d×%d", len(mask), w, h))
	}
	t := tracer{mask: mask, w: w, h: h, seen: make([]bool, 2*(w+1)*(h+1))}
	var polys []Polygon
	var holes []Ring
	// A ring begins at an edge of the grid that it crosses; every ring crosses a
	// vertical neighbourhood: between a pixel and the one above.
	for y := range h + 1 {
		for x := range w {
			if t.in(x, y) == t.in(x, y-1) || t.seen[t.id(x, y, 0)] {
				continue
			}
			if r := t.ring(x, y); r.SignedArea() > 0 {
				polys = append(polys, Polygon{r})
			} else {
				holes = append(holes, r)
			}
		}
	}
	for _, r := range holes {
		// The smallest outline around a point of the hole owns it.
		best, area := -1, math.Inf(1)
		for i, p := range polys {
			if a := p[0].SignedArea(); a < area && p[:1].Contains(r[0]) {
				best, area = i, a
			}
		}
		polys[best] = append(polys[best], r)
	}
	return polys
}

// tracer follows contours. The crossing between pixel (x, y) and the one above is
// edge (x, y, 0), that to the one on the left is (x, y, 1).
type tracer struct {
	mask []uint8
	w, h int
	seen []bool
}

func (t *tracer) in(x, y int) bool {
	return x >= 0 && y >= 0 && x < t.w && y < t.h && t.mask[y*t.w+x] != 0
}

func (t *tracer) id(x, y, side int) int { return 2*(y*(t.w+1)+x) + side }

// ring follows the contour through edge (x, y, 0) with the inside on its right
// (seen on a screen, y down), which makes outlines positive.
func (t *tracer) ring(x, y int) Ring {
	// The state is the pixel inside and the direction from it to its neighbour
	// outside: 0 up, 1 right, 2 down, 3 left.
	dx, dy := [4]int{0, 1, 0, -1}, [4]int{-1, 0, 1, 0}
	d := 0
	if !t.in(x, y) {
		y, d = y-1, 2
	}
	x0, y0, d0 := x, y, d
	var r Ring
	for {
		switch d {
		case 0:
			t.seen[t.id(x, y, 0)] = true
		case 2:
			t.seen[t.id(x, y+1, 0)] = true
		}
		r = append(r, Point{float64(x) + 0.5 + float64(dx[d])/2, float64(y) + 0.5 + float64(dy[d])/2})
		// Of the square of four centres ahead, on the clockwise side: a is beside
		// the inside pixel, b beside the outside one.
		e := (d + 1) % 4
		ax, ay := x+dx[e], y+dy[e]
		bx, by := ax+dx[d], ay+dy[d]
		switch {
		case !t.in(ax, ay): // turn right around the pixel; also at a saddle
			d = e
		case t.in(bx, by): // turn left
			x, y, d = bx, by, (d+3)%4
		default: // straight on
			x, y = ax, ay
		}
		if x == x0 && y == y0 && d == d0 {
			break
		}
	}
	return r.straight()
}

// straight leaves out the points that lie on the line between their neighbours.
func (r Ring) straight() Ring {
	n := len(r)
	out := make(Ring, 0, n)
	for i, q := range r {
		if cross(r[(i+n-1)%n], q, r[(i+1)%n]) != 0 {
			out = append(out, q)
		}
	}
	return slices.Clip(out)
}

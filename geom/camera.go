package geom

import (
	"fmt"
	"math"
)

// Vec is a point or direction of space.
type Vec struct{ X, Y, Z float64 }

// At is the component along axis 0, 1 or 2.
func (v Vec) At(axis int) float64 {
	switch axis {
	case 0:
		return v.X
	case 1:
		return v.Y
	}
	return v.Z
}

// Camera is a pinhole: a point p of the world is at R p + t before the camera
// (x right, y down, z forward) and at K (R p + t), divided by its third component,
// in the picture. Pixel (x, y) has its centre at (x+½, y+½).
type Camera struct {
	K  [9]float64  // row by row: fx skew cx, 0 fy cy, 0 0 1
	Rt [12]float64 // row by row: [R | t], from the world to the camera
}

// Check refuses a matrix K that is not of the form above or is singular, an R
// that is no rotation (rows off from orthonormal by more than 1e-6, or a mirror),
// and values that are not finite.
func (c *Camera) Check() error {
	for i, v := range c.K {
		if math.IsNaN(v - v) {
			return fmt.Errorf("geom: camera: K[%d] is %g; want finite values", i, v)
		}
	}
	for i, v := range c.Rt {
		if math.IsNaN(v - v) {
			return fmt.Errorf("geom: camera: Rt[%d] is %g; want finite values", i, v)
		}
	}
	k := &c.K
	if k[3] != 0 || k[6] != 0 || k[7] != 0 || k[8] != 1 {
		return fmt.Errorf("geom: camera: K is %v; want an upper triangle with 1 as its last value", c.K)
	}
	if k[0] == 0 || k[4] == 0 {
		return fmt.Errorf("geom: camera: K is singular (focal lengths %g and %g); want both different from 0", k[0], k[4])
	}
	r := func(i, j int) float64 { return c.Rt[4*i+j] }
	for i := range 3 {
		for j := range i + 1 {
			want := 0.0
			if i == j {
				want = 1
			}
			dot := r(i, 0)*r(j, 0) + r(i, 1)*r(j, 1) + r(i, 2)*r(j, 2)
			if math.Abs(dot-want) > 1e-6 {
				return fmt.Errorf("geom: camera: rows %d and %d of R have the product %g; a rotation wants %g", i, j, dot, want)
			}
		}
	}
	if det := c.det(); det < 0 {
		return fmt.Errorf("geom: camera: R has determinant %g, a mirror; want a rotation", det)
	}
	return nil
}

func (c *Camera) det() float64 {
	r := &c.Rt
	return r[0]*(r[5]*r[10]-r[6]*r[9]) - r[1]*(r[4]*r[10]-r[6]*r[8]) + r[2]*(r[4]*r[9]-r[5]*r[8])
}

// See returns p in the camera's own axes.
func (c *Camera) See(p Vec) Vec {
	r := &c.Rt
	row := func(i int) float64 {
		return float64(r[i]*p.X) + float64(r[i+1]*p.Y) + float64(r[i+2]*p.Z) + r[i+3]
	}
	return Vec{row(0), row(4), row(8)}
}

// pixel maps a point in the camera's axes, with Z other than 0, to the picture.
func (c *Camera) pixel(q Vec) Point {
	y := float64(c.K[4]*q.Y)/q.Z + c.K[5]
	return Point{(float64(c.K[0]*q.X)+float64(c.K[1]*q.Y))/q.Z + c.K[2], y}
}

// Project returns where p is in the picture and its depth, the distance along the
// optical axis. Points of depth 0 or less are behind the camera: what is returned
// for them is no place to draw.
func (c *Camera) Project(p Vec) (at Point, depth float64) {
	q := c.See(p)
	return c.pixel(q), q.Z
}

// Ray returns the camera's centre and the direction d = R⁻¹ K⁻¹ (u, v, 1) through
// the place (u, v) of the picture. It is not normalised: origin + s·d has depth s.
func (c *Camera) Ray(u, v float64) (origin, d Vec) {
	y := (v - c.K[5]) / c.K[4]
	x := (u - c.K[2] - float64(c.K[1]*y)) / c.K[0]
	r := &c.Rt
	col := func(i int, a, b, z float64) float64 {
		return float64(r[i]*a) + float64(r[i+4]*b) + float64(r[i+8]*z)
	}
	d = Vec{col(0, x, y, 1), col(1, x, y, 1), col(2, x, y, 1)}
	origin = Vec{-col(0, r[3], r[7], r[11]), -col(1, r[3], r[7], r[11]), -col(2, r[3], r[7], r[11])}
	return origin, d
}

// boxEdges are the pairs of corners of Corners that an edge joins.
var boxEdges = [12][2]int{{0, 1}, {2, 3}, {4, 5}, {6, 7}, {0, 2}, {1, 3}, {4, 6}, {5, 7}, {0, 4}, {1, 5}, {2, 6}, {3, 7}}

// Corners are the eight corners of the box from low to high: bit 0 of the index
// takes x from high, bit 1 y, bit 2 z.
func Corners(low, high Vec) (c [8]Vec) {
	for i := range c {
		c[i] = low
		if i&1 != 0 {
			c[i].X = high.X
		}
		if i&2 != 0 {
			c[i].Y = high.Y
		}
		if i&4 != 0 {
			c[i].Z = high.Z
		}
	}
	return c
}

// Outline is the convex hull in the picture of the part of a box that lies
// farther than near before the camera; nil when nothing does. The corners are in
// the order of Corners; the box may be turned. Its edges are cut at the plane of
// depth near, so that a box beside the camera has the outline that is seen, and
// nothing behind it is mirrored into the picture.
func (c *Camera) Outline(corners [8]Vec, near float64) Ring {
	if !(near > 0) {
		panic(fmt.Sprintf("geom: Outline: near plane at %g; want a distance above 0", near))
	}
	var q [8]Vec
	points := make([]Point, 0, 8+12)
	for i, p := range corners {
		if q[i] = c.See(p); q[i].Z >= near {
			points = append(points, c.pixel(q[i]))
		}
	}
	for _, e := range boxEdges {
		a, b := q[e[0]], q[e[1]]
		if (a.Z >= near) != (b.Z >= near) {
			s := (near - a.Z) / (b.Z - a.Z)
			points = append(points, c.pixel(Vec{a.X + float64(s*(b.X-a.X)), a.Y + float64(s*(b.Y-a.Y)), near}))
		}
	}
	return Hull(points)
}

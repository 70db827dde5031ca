package city

import (
	"math"

	"github.com/fidlab/fidlab/data"
	"github.com/fidlab/fidlab/geom"
)

// Side of a tile in metres.
const Side = 128

const (
	middle     = Side / 2.0
	reach      = 92.0 // lines of the grid cover this far from the middle: half a diagonal is 90.5
	minorWidth = 6.0
	majorWidth = 12.0
	jitter     = 0.15 // of the pitch
	missing    = 0.12 // share of edges between crossings without a road
)

// Classes of land use.
const (
	Residential uint8 = iota
	Commercial
	Industrial
	Park
	Water
	landClasses
)

var landNames = [landClasses]string{"residential", "commercial", "industrial", "park", "water"}

// A tile has a theme, and a region the theme's use with chance themeChance, else
// its own, so that tiles differ in what they mostly are.
var (
	themeWeights = []float64{0.40, 0.25, 0.15, 0.12, 0.08}
	landWeights  = []float64{0.50, 0.18, 0.12, 0.12, 0.08}
)

const themeChance = 0.45

// Segment is a road along its middle, a rectangle of the given width. At both ends
// it reaches half the width of the crossing road beyond the crossing of the middles.
type Segment struct{ X0, Y0, X1, Y1, Width float64 }

// Poly is the segment's rectangle. The square root is correctly rounded everywhere,
// so the corners are the same on all processors.
func (s Segment) Poly() geom.Polygon {
	dx, dy := s.X1-s.X0, s.Y1-s.Y0
	k := s.Width / 2 / math.Sqrt(float64(dx*dx)+float64(dy*dy))
	nx, ny := float64(dy*k), float64(dx*k)
	return geom.Polygon{{{X: s.X0 + nx, Y: s.Y0 - ny}, {X: s.X1 + nx, Y: s.Y1 - ny}, {X: s.X1 - nx, Y: s.Y1 + ny}, {X: s.X0 - nx, Y: s.Y0 + ny}}}
}

// Region is a part of the tile of one use.
type Region struct {
	Poly  geom.Polygon
	Class uint8
}

// plan is a tile without its buildings, in the frame of the grid: u along its
// first direction, v along the second, from the middle of the tile.
type plan struct {
	style      Style
	u, v       []float64 // lines of the grid, rising
	uHalf      []float64 // half the width of the road on each line
	vHalf      []float64
	uRoad      [][]bool // uRoad[i][j]: line u[i] has its road between v[j] and v[j+1]
	vRoad      [][]bool // vRoad[j][i]: line v[j] has its road between u[i] and u[i+1]
	land       [][]uint8
	roads      []Segment
	regions    []Region
	toBuilding uint64 // the word from which the streams of buildings begin
}

// toTile turns a point of the grid's frame into the tile's.
func (s Style) toTile(u, v float64) geom.Point {
	return geom.Point{
		X: middle + float64(s.Cos*u) - float64(s.Sin*v),
		Y: middle + float64(s.Sin*u) + float64(s.Cos*v),
	}
}

// box is a rectangle of the grid's frame in the tile's.
func (s Style) box(u0, v0, u1, v1 float64) geom.Ring {
	return geom.Ring{s.toTile(u0, v0), s.toTile(u1, v0), s.toTile(u1, v1), s.toTile(u0, v1)}
}

// inTile reports whether the bounds of a polygon meet the tile.
func inTile(p geom.Polygon) bool {
	low, high, _ := p.Bounds()
	return low.X < Side && low.Y < Side && high.X > 0 && high.Y > 0
}

// lines draws the lines of one direction: the first up to a pitch before −reach,
// the next ones at the pitch times 1−jitter to 1+jitter, until +reach is passed.
func lines(r *data.Stream, pitch float64) []float64 {
	at := -reach - float64(r.Float64()*pitch)
	l := []float64{at}
	for at < reach {
		at += float64(pitch * r.Uniform(1-jitter, 1+jitter))
		l = append(l, at)
	}
	return l
}

// newPlan draws roads and land use.
func newPlan(r *data.Stream, style Style) *plan {
	p := &plan{style: style}
	p.u, p.v = lines(r, style.Pitch), lines(r, style.Pitch)
	p.uRoad, p.vRoad = edges(r, len(p.u), len(p.v)-1), edges(r, len(p.v), len(p.u)-1)
	p.uHalf, p.vHalf = halves(len(p.u)), halves(len(p.v))
	if r.Chance(0.5) {
		// The major road is the line next to a place within a quarter of the tile
		// from its middle, in either direction; no edge of it is missing.
		list, half, road := p.u, p.uHalf, p.uRoad
		if r.Chance(0.5) {
			list, half, road = p.v, p.vHalf, p.vRoad
		}
		k := nearest(list, r.Uniform(-Side/4, Side/4))
		half[k] = majorWidth / 2
		for i := range road[k] {
			road[k][i] = true
		}
	}
	p.layRoads()
	p.useLand(r)
	p.toBuilding = r.Uint64()
	return p
}

func edges(r *data.Stream, n, m int) [][]bool {
	e := make([][]bool, n)
	for i := range e {
		e[i] = make([]bool, m)
		for j := range e[i] {
			e[i][j] = !r.Chance(missing)
		}
	}
	return e
}

func halves(n int) []float64 {
	h := make([]float64, n)
	for i := range h {
		h[i] = minorWidth / 2
	}
	return h
}

func nearest(list []float64, at float64) int {
	best := 0
	for i, v := range list {
		if (v-at)*(v-at) < (list[best]-at)*(list[best]-at) {
			best = i
		}
	}
	return best
}

// layRoads makes the segments that meet the tile: first those along v.
func (p *plan) layRoads() {
	add := func(u0, v0, u1, v1, width float64) {
		a, b := p.style.toTile(u0, v0), p.style.toTile(u1, v1)
		if r := (Segment{a.X, a.Y, b.X, b.Y, width}); inTile(r.Poly()) {
			p.roads = append(p.roads, r)
		}
	}
	for i, u := range p.u {
		for j, there := range p.uRoad[i] {
			if there {
				add(u, p.v[j]-p.vHalf[j], u, p.v[j+1]+p.vHalf[j+1], 2*p.uHalf[i])
			}
		}
	}
	for j, v := range p.v {
		for i, there := range p.vRoad[j] {
			if there {
				add(p.u[i]-p.uHalf[i], v, p.u[i+1]+p.uHalf[i+1], v, 2*p.vHalf[j])
			}
		}
	}
}

// useLand joins blocks to regions of 1×1, 2×1, 1×2 or 2×2 and draws their use. A
// region is cut where another one lies already.
func (p *plan) useLand(r *data.Stream) {
	theme := uint8(r.Pick(themeWeights))
	const free = 255
	nu, nv := len(p.u)-1, len(p.v)-1
	p.land = make([][]uint8, nu)
	for i := range p.land {
		p.land[i] = make([]uint8, nv)
		for j := range p.land[i] {
			p.land[i][j] = free
		}
	}
	for j := range nv {
		for i := range nu {
			if p.land[i][j] != free {
				continue
			}
			wu, wv := r.Between(1, 2), r.Between(1, 2)
			themed, class := r.Chance(themeChance), uint8(r.Pick(landWeights))
			if themed {
				class = theme
			}
			if i+1 == nu || wu == 2 && p.land[i+1][j] != free {
				wu = 1
			}
			if j+1 == nv {
				wv = 1
			}
			for a := i; a < i+wu; a++ {
				for b := j; b < j+wv; b++ {
					p.land[a][b] = class
				}
			}
			if poly := (geom.Polygon{p.style.box(p.u[i], p.v[j], p.u[i+wu], p.v[j+wv])}); inTile(poly) {
				p.regions = append(p.regions, Region{poly, class})
			}
		}
	}
}

// useAt is the class of land at a point of the tile.
func (p *plan) useAt(x, y float64) uint8 {
	dx, dy := x-middle, y-middle
	u := float64(p.style.Cos*dx) + float64(p.style.Sin*dy)
	v := float64(p.style.Cos*dy) - float64(p.style.Sin*dx)
	return p.land[cell(p.u, u)][cell(p.v, v)]
}

// cell is the gap between two lines that the value falls into.
func cell(lines []float64, v float64) int {
	i := 0
	for i+2 < len(lines) && lines[i+1] <= v {
		i++
	}
	return i
}

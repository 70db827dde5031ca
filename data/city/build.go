package city

import (
	"github.com/fidlab/fidlab/data"
	"github.com/fidlab/fidlab/geom"
)

const (
	minArea   = 30.0 // of a building, m²
	minSide   = 4.5  // of a building, m
	houseGap  = 3.0  // between two rows of houses at least
	openSide  = 6.0  // of a courtyard at least
	minWing   = 6.0  // depth of the building around it at least
	cutChance = 0.2  // of an L instead of a full box
)

// builder fills the blocks of a plan.
type builder struct {
	*plan
	r     data.Stream
	polys []geom.Polygon
}

// block is the part of a block that may be built on, in the grid's frame.
type block struct{ u0, v0, u1, v1 float64 }

// build draws the buildings of a plan: number k of the layouts that it may have.
func (p *plan) build(k uint64) []geom.Polygon {
	b := &builder{plan: p, r: data.FromKey(data.Mix(p.toBuilding ^ data.Mix(k)))}
	for j := range len(p.v) - 1 {
		for i := range len(p.u) - 1 {
			if k := p.land[i][j]; k != Park && k != Water {
				b.fill(p.lot(i, j), k)
			}
		}
	}
	return b.polys
}

// lot is what a block keeps after the roads around it, or the strip of their width
// where an edge is missing, and the setback from roads that are there.
func (p *plan) lot(i, j int) block {
	back := func(road bool) float64 {
		if road {
			return p.style.Setback
		}
		return 0
	}
	return block{
		p.u[i] + p.uHalf[i] + back(p.uRoad[i][j]), p.v[j] + p.vHalf[j] + back(p.vRoad[j][i]),
		p.u[i+1] - p.uHalf[i+1] - back(p.uRoad[i+1][j]), p.v[j+1] - p.vHalf[j+1] - back(p.vRoad[j+1][i]),
	}
}

// fill builds on a block by its use.
func (b *builder) fill(l block, use uint8) {
	if l.u1-l.u0 < minSide || l.v1-l.v0 < minSide {
		return
	}
	switch {
	case use == Industrial:
		b.industrial(l)
	case use == Commercial || b.r.Chance(b.style.Perimeter):
		b.perimeter(l)
	default:
		b.rows(l)
	}
}

// industrial puts one or two large boxes in the block, each 75 to 100 % of its
// half's sides.
func (b *builder) industrial(l block) {
	parts := []block{l}
	if b.r.Chance(0.5) {
		if m := (l.u0 + l.u1) / 2; l.u1-l.u0 >= l.v1-l.v0 {
			parts = []block{{l.u0, l.v0, m - houseGap/2, l.v1}, {m + houseGap/2, l.v0, l.u1, l.v1}}
		} else {
			m = (l.v0 + l.v1) / 2
			parts = []block{{l.u0, l.v0, l.u1, m - houseGap/2}, {l.u0, m + houseGap/2, l.u1, l.v1}}
		}
	}
	for _, q := range parts {
		su, sv := b.r.Uniform(0.75, 1), b.r.Uniform(0.75, 1)
		q.u1, q.v1 = q.u0+float64(su*(q.u1-q.u0)), q.v0+float64(sv*(q.v1-q.v0))
		if !b.r.Chance(b.style.Vacancy) {
			b.put(q, 0, false)
		}
	}
}

// perimeter builds up to the lot's border all around, open inside where chance has
// it and the lot has room for it, else with a corner cut off in some cases. The
// building around a courtyard is as deep as the style says, or less where the
// courtyard needs the place.
func (b *builder) perimeter(l block) {
	empty, open, cut := b.r.Chance(b.style.Vacancy), b.r.Chance(b.style.Courtyard), b.r.Chance(cutChance)
	wing := min(b.style.Depth, (min(l.u1-l.u0, l.v1-l.v0)-openSide)/2)
	if !open || wing < minWing {
		wing = 0
	}
	if !empty {
		b.put(l, wing, cut)
	}
}

// rows puts houses along the two fronts of the longer direction, or one row where
// the block is too shallow for two.
func (b *builder) rows(l block) {
	along := l.u1-l.u0 >= l.v1-l.v0
	deep := l.u1 - l.u0
	if along {
		deep = l.v1 - l.v0
	}
	depth := min(b.style.Depth, (deep-houseGap)/2)
	two := depth >= minSide
	if !two {
		depth = min(b.style.Depth, deep)
	}
	b.row(l, along, depth, false)
	if two {
		b.row(l, along, depth, true)
	}
}

// row puts houses of 7 to 13 m at gaps of 2 to 5 m along one front: the one of
// low coordinates, or the far one.
func (b *builder) row(l block, along bool, depth float64, far bool) {
	from, to := l.v0, l.v1
	if along {
		from, to = l.u0, l.u1
	}
	for at := from; ; {
		width := b.r.Uniform(7, 13)
		gap := b.r.Uniform(2, 5)
		vacant, cut := b.r.Chance(b.style.Vacancy), b.r.Chance(cutChance)
		if at+width > to {
			return
		}
		h := block{l.u0, at, l.u0 + depth, at + width}
		switch {
		case along && far:
			h = block{at, l.v1 - depth, at + width, l.v1}
		case along:
			h = block{at, l.v0, at + width, l.v0 + depth}
		case far:
			h = block{l.u1 - depth, at, l.u1, at + width}
		}
		if !vacant {
			b.put(h, 0, cut)
		}
		at += width + gap
	}
}

// put adds one building, if it is large enough and near the tile: a box, a box
// with a courtyard behind wings of some depth, or an L, which lacks a quarter at the
// corner of its end.
func (b *builder) put(q block, wing float64, cut bool) {
	s, area := b.style, float64((q.u1-q.u0)*(q.v1-q.v0))
	poly := geom.Polygon{s.box(q.u0, q.v0, q.u1, q.v1)}
	switch {
	case wing > 0:
		poly = append(poly, s.box(q.u0+wing, q.v0+wing, q.u1-wing, q.v1-wing))
	case cut && 0.75*area >= minArea:
		mu, mv := (q.u0+q.u1)/2, (q.v0+q.v1)/2
		poly[0] = geom.Ring{s.toTile(q.u0, q.v0), s.toTile(q.u1, q.v0), s.toTile(q.u1, mv), s.toTile(mu, mv), s.toTile(mu, q.v1), s.toTile(q.u0, q.v1)}
	}
	if area >= minArea && inTile(poly) {
		b.polys = append(b.polys, poly)
	}
}

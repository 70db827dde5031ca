package city

import (
	"github.com/fidlab/fidlab/geom"
	"github.com/fidlab/fidlab/imageio"
	"github.com/fidlab/fidlab/imageio/label"
)

// Samples of a pixel along each side.
const sub = 4

// Classes of the road raster.
const (
	NoRoad uint8 = iota
	Minor
	Major
)

// RoadLegend and LandLegend are the colours of the two maps as pictures.
var (
	RoadLegend = label.Palette{{Name: "none", Color: [3]uint8{0, 0, 0}}, {Name: "minor", Color: [3]uint8{140, 140, 140}}, {Name: "major", Color: [3]uint8{255, 255, 255}}}
	LandLegend = label.Palette{
		{Name: landNames[Residential], Color: [3]uint8{230, 200, 150}},
		{Name: landNames[Commercial], Color: [3]uint8{210, 70, 70}},
		{Name: landNames[Industrial], Color: [3]uint8{150, 90, 190}},
		{Name: landNames[Park], Color: [3]uint8{80, 170, 80}},
		{Name: landNames[Water], Color: [3]uint8{70, 120, 220}},
	}
)

// footprints are the colours of Building: white on black.
var footprints = label.Palette{{Name: "open", Color: [3]uint8{0, 0, 0}}, {Name: "building", Color: [3]uint8{255, 255, 255}}}

// samples marks, on a raster of sub×sub samples a pixel, what the polygons cover.
// The scale is a power of two, so that it moves no point.
func samples(mask []uint8, size int, polys []geom.Polygon, value uint8) {
	n := size * sub
	scale := float64(n) / Side
	for _, p := range polys {
		q := make(geom.Polygon, len(p))
		for i, r := range p {
			q[i] = make(geom.Ring, len(r))
			for k, at := range r {
				q[i][k] = geom.Point{X: float64(at.X * scale), Y: float64(at.Y * scale)}
			}
		}
		q.Fill(mask, n, n, value)
	}
}

// counts adds up, for every pixel, the samples of at least the value.
func counts(mask []uint8, size int, atLeast uint8) []uint8 {
	c := make([]uint8, size*size)
	n := size * sub
	for y := range n {
		row, line := c[y/sub*size:][:size], mask[y*n:][:n]
		for x, v := range line {
			if v >= atLeast {
				row[x/sub]++
			}
		}
	}
	return c
}

// rasterBuildings is the raster of footprints: 1 where at least half of a pixel's
// samples are inside.
func rasterBuildings(polys []geom.Polygon, size int) *label.Map {
	mask := make([]uint8, size*size*sub*sub)
	samples(mask, size, polys, 1)
	m := label.New(size, size)
	for i, n := range counts(mask, size, 1) {
		if 2*n >= sub*sub {
			m.IDs[i] = 1
		}
	}
	return m
}

// rasterRoads is the raster of roads: where more than half of the samples are on a
// road, Major when more than half are on the major one.
func rasterRoads(roads []Segment, size int) *label.Map {
	mask := make([]uint8, size*size*sub*sub)
	for class := Minor; class <= Major; class++ { // the major road lies on top
		for _, s := range roads {
			if (s.Width == majorWidth) == (class == Major) {
				samples(mask, size, []geom.Polygon{s.Poly()}, class)
			}
		}
	}
	m := label.New(size, size)
	all, major := counts(mask, size, Minor), counts(mask, size, Major)
	for i := range m.IDs {
		switch {
		case 2*major[i] > sub*sub:
			m.IDs[i] = Major
		case 2*all[i] > sub*sub:
			m.IDs[i] = Minor
		}
	}
	return m
}

// rasterLand is the use of the land at the centres of the pixels.
func (p *plan) rasterLand(size int) *label.Map {
	m := label.New(size, size)
	pixel := float64(Side) / float64(size)
	for y := range size {
		for x := range size {
			m.IDs[y*size+x] = p.useAt(float64((float64(x)+0.5)*pixel), float64((float64(y)+0.5)*pixel))
		}
	}
	return m
}

// mustPicture colours a raster of our own making.
func mustPicture(p label.Palette, m *label.Map) *imageio.Image {
	img, err := p.Picture(m)
	if err != nil {
		panic(err)
	}
	return img
}

package city

import (
	"encoding/json"
	"fmt"
	"math"

	"github.com/fidlab/fidlab/data"
	"github.com/fidlab/fidlab/geom"
	"github.com/fidlab/fidlab/imageio/label"
)

const (
	name     = "city"
	version  = 1
	baseSize = 32 // pixels a side at which captions are computed, 4 m each
)

// ZeroShot is the split of the two cities that no other split but Enc has.
const ZeroShot data.Split = "zero-shot"

// splits with their sizes, in the order of the documentation.
var splits = data.Sizes{{Split: data.Train, N: 12000}, {Split: data.Val, N: 1000}, {Split: data.Test, N: 2000}, {Split: ZeroShot, N: 1000}, {Split: data.Ref, N: 4096}, {Split: data.Enc, N: 8000}}

// Set generates tiles. It is safe for several goroutines.
type Set struct {
	seed uint64
	size int
}

// New is the set under a seed, with rasters of size×size pixels: 32 (4 m a pixel),
// 64, 128 or 256 (0.5 m). The vector truth and the captions do not depend on size.
func New(seed uint64, size int) (*Set, error) {
	if err := data.CheckSize(name, size); err != nil {
		return nil, err
	}
	if size < baseSize {
		return nil, data.Errorf("city: size %d gives pixels of %d m, wider than a road; want 32, 64, 128 or 256", size, Side/size)
	}
	return &Set{seed, size}, nil
}

// Name is "city".
func (s *Set) Name() string { return name }

// Size is the side of the rasters in pixels.
func (s *Set) Size() int { return s.size }

// Splits are train, val, test, zero-shot, ref and enc.
func (s *Set) Splits() []data.Split { return splits.Splits() }

// Len is 12,000, 1,000, 2,000, 1,000, 4,096 and 8,000, in the order of Splits.
func (s *Set) Len(split data.Split) int { return splits.Len(split) }

// Classes are the names of the cities.
func (s *Set) Classes() []string {
	out := make([]string, len(Places))
	for i, p := range Places {
		out[i] = p.Name
	}
	return out
}

// Label is the city of item i: i modulo the split's cities, so that they have
// equally many tiles. ZeroShot has the last two, Enc has all, the others have the
// first ten.
func (s *Set) Label(split data.Split, i int) int {
	switch split {
	case ZeroShot:
		return Seen + i%(len(Places)-Seen)
	case data.Enc:
		return i % len(Places)
	}
	return i % Seen
}

// Tile is an item.
type Tile struct {
	City      int
	Lon, Lat  float64
	Roads     []Segment
	Parcels   []geom.Polygon // blocks less the width of the roads around them, parks and water left out
	Buildings []geom.Polygon
	LandUse   []Region
	Caption   string
	Tokens    [Slots]uint8

	Road     *label.Map // NoRoad, Minor, Major
	Land     *label.Map // Residential to Water
	Building *label.Map // 0, 1

	plan *plan
}

// At is item i. It panics outside of the split.
func (s *Set) At(split data.Split, i int) *Tile {
	data.MustHave(s, split, i)
	r := data.NewStream(name, split, version, s.seed, uint64(i))
	t := &Tile{City: s.Label(split, i)}
	at := Places[t.City]
	t.Lon = at.Lon + r.Uniform(-spread, spread)
	t.Lat = at.Lat + r.Uniform(-spread, spread)
	t.plan = newPlan(&r, StyleAt(t.Lon, t.Lat))
	t.finish(s.size, 0)
	return t
}

// finish draws layout k of the plan and makes the rasters and the caption.
func (t *Tile) finish(size int, k uint64) {
	p := t.plan
	t.Roads, t.LandUse = p.roads, p.regions
	t.Parcels = p.parcelsInTile()
	t.Buildings = p.build(k)
	t.Road, t.Land, t.Building = rasterRoads(p.roads, size), p.rasterLand(size), rasterBuildings(t.Buildings, size)
	t.Caption = t.summary().Caption()
	tokens, err := Encode(t.Caption)
	if err != nil {
		panic(err) // a test encodes every caption that can be said
	}
	t.Tokens = tokens
}

// Again is a tile with the same roads, land use and place but other buildings, by
// the same rules: number k of them, 0 being the tile itself. How alike two such
// tiles are is the most that a model can reach which knows all but the buildings.
func (t *Tile) Again(k int) *Tile {
	o := &Tile{City: t.City, Lon: t.Lon, Lat: t.Lat, plan: t.plan}
	o.finish(t.Road.W, uint64(k))
	return o
}

// Style is that of the tile's place.
func (t *Tile) Style() Style { return t.plan.style }

func (p *plan) parcelsInTile() []geom.Polygon {
	var out []geom.Polygon
	for j := range len(p.v) - 1 {
		for i := range len(p.u) - 1 {
			u0, v0, u1, v1 := p.u[i]+p.uHalf[i], p.v[j]+p.vHalf[j], p.u[i+1]-p.uHalf[i+1], p.v[j+1]-p.vHalf[j+1]
			if k := p.land[i][j]; k != Park && k != Water && u0 < u1 && v0 < v1 {
				if poly := (geom.Polygon{p.style.box(u0, v0, u1, v1)}); inTile(poly) {
					out = append(out, poly)
				}
			}
		}
	}
	return out
}

// Tensor is the raster of buildings, [1, size, size]: −1 open, 1 building.
func (t *Tile) Tensor() (x []float32, c, h, w int) {
	pix := make([]uint8, len(t.Building.IDs))
	for i, v := range t.Building.IDs {
		pix[i] = 255 * v
	}
	return data.FromPixels(pix, 1, t.Building.H, t.Building.W), 1, t.Building.H, t.Building.W
}

// Pictures are the buildings, white on black, and "road" and "land" in the colours
// of RoadLegend and LandLegend.
func (t *Tile) Pictures() []data.Picture {
	return []data.Picture{
		{Image: mustPicture(footprints, t.Building)},
		{Name: "road", Image: mustPicture(RoadLegend, t.Road)},
		{Name: "land", Image: mustPicture(LandLegend, t.Land)},
	}
}

// Truth is the vector truth: what the JSON line of a tile holds.
type Truth struct {
	Set       string        `json:"set"`
	City      string        `json:"city"`
	Lon       float64       `json:"lon"`
	Lat       float64       `json:"lat"`
	Caption   string        `json:"caption"`
	Roads     [][5]float64  `json:"roads"` // x0, y0, x1, y1, width
	Parcels   [][][]float64 `json:"parcels"`
	LandUse   []TruthRegion `json:"land_use"`
	Buildings [][][]float64 `json:"buildings"` // of each its rings: x0, y0, x1, y1, …; the first is the outline
	Measures  Measures      `json:"measures"`
}

// TruthRegion is a region of one use in Truth.
type TruthRegion struct {
	Use  string      `json:"use"`
	Poly [][]float64 `json:"poly"`
}

// Truth returns it as a Truth.
func (t *Tile) Truth() any {
	o := Truth{Set: name, City: Places[t.City].Name, Lon: t.Lon, Lat: t.Lat, Caption: t.Caption}
	for _, r := range t.Roads {
		o.Roads = append(o.Roads, [5]float64{r.X0, r.Y0, r.X1, r.Y1, r.Width})
	}
	for _, p := range t.Parcels {
		o.Parcels = append(o.Parcels, flat(p))
	}
	for _, r := range t.LandUse {
		o.LandUse = append(o.LandUse, TruthRegion{landNames[r.Class], flat(r.Poly)})
	}
	for _, p := range t.Buildings {
		o.Buildings = append(o.Buildings, flat(p))
	}
	m, err := Measure(t.Building, t.Road)
	if err != nil {
		panic(err) // rasters of our own making
	}
	o.Measures = m
	return o
}

func flat(p geom.Polygon) [][]float64 {
	out := make([][]float64, len(p))
	for i, r := range p {
		for _, q := range r {
			out[i] = append(out[i], q.X, q.Y)
		}
	}
	return out
}

// Bytes are the three rasters, the tokens and the vector truth less its measures,
// whose orientation is not the same to the last bit on all processors.
func (t *Tile) Bytes() []byte {
	b := append([]byte(nil), t.Road.IDs...)
	b = append(append(b, t.Land.IDs...), t.Building.IDs...)
	b = append(b, t.Tokens[:]...)
	truth := t.Truth().(Truth)
	truth.Measures = Measures{}
	j, err := json.Marshal(truth)
	if err != nil {
		panic(err)
	}
	return append(b, j...)
}

// CheckPlace refuses what is no place on the globe.
func CheckPlace(lon, lat float64) error {
	if !(math.Abs(lon) <= 180) || !(math.Abs(lat) <= 90) {
		return data.Errorf("city: longitude %g, latitude %g; want −180 to 180 and −90 to 90 degrees", lon, lat)
	}
	return nil
}

// badCaption makes a caption's error one about input.
func badCaption(err error) error { return data.Errorf("city: caption: %w", err) }

// Entry is the set in the list of the command line.
var Entry = data.Entry{
	Name:    name,
	About:   "tiles of invented cities: roads, land use and the footprints of buildings, 32×32 to 256×256, with captions",
	Golden:  golden,
	Options: []string{"size=32|64|128|256: pixels a side (default 32, 4 m a pixel)"},
	Open: func(seed uint64, options map[string]string) (data.Served, error) {
		size := baseSize
		for k, v := range options {
			if k != "size" {
				return nil, data.Unknown(name, "option", k, []string{"n", "from", "seed", "size"})
			}
			if _, err := fmt.Sscanf(v+"\n", "%d\n", &size); err != nil {
				return nil, data.Errorf("city: size=%s; want 32, 64, 128 or 256", v)
			}
		}
		s, err := New(seed, size)
		if err != nil {
			return nil, err
		}
		return data.Serve(s, s.check), nil
	},
}

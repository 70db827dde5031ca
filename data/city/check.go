package city

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/fidlab/fidlab/data"
	"github.com/fidlab/fidlab/geom"
	"github.com/fidlab/fidlab/imageio/label"
)

// What a tile may be off for a good answer, besides Errors' meaning: ours.
const (
	mayShare = 0.20 // coverage, pieces
	mayTurn  = 15.0 // degrees
	mayRoad  = 0.02 // of the building pixels
)

// check reads the first picture of an item. Roads come from the truth, or else from
// the picture "road"; without either, what is measured against them is 0.
func (s *Set) check(g data.Given) (data.Check, error) {
	if len(g.Pictures) == 0 {
		return data.Check{}, data.Errorf("city: no picture; want footprints, white on black")
	}
	building, err := Read(g.Pictures[0].Image, Threshold)
	if err != nil {
		return data.Check{}, err
	}
	var truth *Truth
	if g.Truth != nil {
		truth = new(Truth)
		if err := json.Unmarshal(g.Truth, truth); err != nil {
			return data.Check{}, data.Errorf("city: truth: %w", err)
		}
		if truth.Set != name {
			return data.Check{}, data.Errorf("city: the truth is of the set %q; want one of city", truth.Set)
		}
	}
	road, known := label.New(building.W, building.H), true
	i := slices.IndexFunc(g.Pictures, func(p data.Picture) bool { return p.Name == "road" })
	switch {
	case truth != nil:
		road = rasterRoads(truth.segments(), building.W)
	case i < 0:
		known = false
	case g.Pictures[i].Image == nil:
		return data.Check{}, data.Errorf("city: no picture of the roads")
	default:
		if road, err = RoadLegend.Read(g.Pictures[i].Image); err != nil {
			return data.Check{}, data.Errorf("city: road: %w", err)
		}
	}
	m, err := Measure(building, road)
	if err != nil {
		return data.Check{}, err
	}
	c := data.Check{OK: m.OnRoad <= mayRoad, Read: m}
	c.Text = fmt.Sprintf("%d buildings, %.0f %% covered, median %.0f m², walls at %.0f°", m.Components, 100*m.Coverage, m.Median, m.Orientation)
	if !known {
		c.Text += ", roads unknown"
	}
	if truth == nil {
		return c, nil
	}
	polys, err := truth.polygons()
	if err != nil {
		return data.Check{}, err
	}
	// The measures that the truth carries are of its own size; these are of the picture's.
	right := rasterBuildings(polys, building.W)
	want, err := Measure(right, road)
	if err != nil {
		return data.Check{}, err
	}
	e := m.Against(want)
	c.OK = c.OK && e.Coverage <= mayShare && e.Components <= mayShare && e.Orientation <= mayTurn
	c.Errors = []data.Value{
		{Name: "coverage", Value: e.Coverage},
		{Name: "components", Value: e.Components},
		{Name: "median area", Value: e.Median},
		{Name: "orientation", Value: e.Orientation},
		{Name: "on road", Value: e.OnRoad},
	}
	both, neither, one := pixels(building, right)
	c.Counts = []data.Count{{Name: "iou building", Hits: both, Of: both + one}, {Name: "iou open", Hits: neither, Of: neither + one}}
	return c, nil
}

// segments are the roads of a truth that was read back.
func (t *Truth) segments() []Segment {
	out := make([]Segment, len(t.Roads))
	for i, r := range t.Roads {
		out[i] = Segment{r[0], r[1], r[2], r[3], r[4]}
	}
	return out
}

// polygons are its buildings.
func (t *Truth) polygons() ([]geom.Polygon, error) {
	out := make([]geom.Polygon, len(t.Buildings))
	for i, rings := range t.Buildings {
		for _, r := range rings {
			if len(r) < 6 || len(r)%2 != 0 {
				return nil, data.Errorf("city: truth: a ring of building %d has %d numbers; want pairs x, y of three points or more", i, len(r))
			}
			ring := make(geom.Ring, len(r)/2)
			for k := range ring {
				ring[k] = geom.Point{X: r[2*k], Y: r[2*k+1]}
			}
			out[i] = append(out[i], ring)
		}
	}
	return out, nil
}

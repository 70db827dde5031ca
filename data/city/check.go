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

// check reads the first picture of an item. Roads come from the picture "road", or
// else from the truth; without either there is nothing to measure against.
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
	}
	var road *label.Map
	if i := slices.IndexFunc(g.Pictures, func(p data.Picture) bool { return p.Name == "road" }); i >= 0 {
		if g.Pictures[i].Image == nil {
			return data.Check{}, data.Errorf("city: no picture of the roads")
		}
		if road, err = RoadLegend.Read(g.Pictures[i].Image); err != nil {
			return data.Check{}, data.Errorf("city: road: %w", err)
		}
	} else if truth != nil {
		road = rasterRoads(truth.segments(), building.W)
	} else {
		return data.Check{}, data.Errorf("city: neither a picture of the roads nor the truth; want one of them")
	}
	m, err := Measure(building, road)
	if err != nil {
		return data.Check{}, err
	}
	c := data.Check{OK: m.OnRoad <= mayRoad, Read: m}
	c.Text = fmt.Sprintf("%d buildings, %.0f %% covered, median %.0f m², walls at %.0f°", m.Components, 100*m.Coverage, m.Median, m.Orientation)
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
		{Name: "coverage", Value: e.Coverage}, {Name: "components", Value: e.Components}, {Name: "median area", Value: e.Median},
		{Name: "orientation", Value: e.Orientation}, {Name: "on road", Value: e.OnRoad},
	}
	both, open := Overlap(building, right)
	c.Errors = append(c.Errors, data.Value{Name: "1-IoU building", Value: 1 - both}, data.Value{Name: "1-mIoU", Value: 1 - (both+open)/2})
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

package city

import (
	"math"
	"slices"

	"github.com/fidlab/fidlab/data"
	"github.com/fidlab/fidlab/imageio/label"
)

// Recovered is what can be read of a style from tiles of one city.
type Recovered struct {
	Angle   float64 // degrees, 0 to 90
	Pitch   float64 // m
	Setback float64 // m
}

// Recover reads the style of a city from footprints and roads of several of its
// tiles. Angle: the mean of their orientations, each weighted with its footprints'
// area. Setback: the mean of the tiles' setbacks. Pitch P: from the share m of road
// in the tiles without a major road, which the drawing rules make
//
//	m P² = 2·0.88·6(P−6) + 36
//
// (roads 6 m wide in two directions, 12 % of their edges missing, crossings always
// there). The larger root is taken.
func Recover(buildings, roads []*label.Map) (Recovered, error) {
	var o Recovered
	if len(buildings) == 0 || len(buildings) != len(roads) {
		return o, data.Errorf("city: %d maps of buildings and %d of roads; want as many, and at least one", len(buildings), len(roads))
	}
	var re, im, setback, minor float64
	tiles, plain := 0, 0
	for i, b := range buildings {
		m, err := Measure(b, roads[i])
		if err != nil {
			return o, err
		}
		sin, cos := math.Sincos(4 * m.Orientation * math.Pi / 180)
		re, im = re+m.Coverage*cos, im+m.Coverage*sin
		if m.Setback > 0 {
			setback += m.Setback
			tiles++
		}
		if slices.Contains(roads[i].IDs, Major) {
			continue
		}
		for _, v := range roads[i].IDs {
			minor += float64(v) / float64(len(roads[i].IDs))
		}
		plain++
	}
	if tiles == 0 || minor == 0 {
		return o, data.Errorf("city: no building at a road, or no tile with minor roads alone, in %d tiles; want more tiles", len(buildings))
	}
	o.Angle = math.Mod(math.Atan2(im, re)*180/math.Pi/4+90, 90)
	o.Setback = setback / float64(tiles)
	const q, w = 1 - missing, minorWidth
	m := minor / float64(plain)
	o.Pitch = (q*w + math.Sqrt(max(0, q*q*w*w-m*w*w*(2*q-1)))) / m
	return o, nil
}

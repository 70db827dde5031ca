package city

import "math"

// Place is a city.
type Place struct {
	Name     string
	Lon, Lat float64 // degrees, east and north positive; tiles lie up to spread around
}

// Seen is the number of cities in the splits for training; the others are for
// ZeroShot.
const Seen = 10

// Places are the cities: ten that are trained on and two that are not.
var Places = [12]Place{
	{"norhaven", -147.2, 57.6},
	{"velmora", -122.4, 34.1},
	{"castrel", -91.3, 12.2},
	{"ostwick", -58.7, -22.4},
	{"pellona", -31.6, 39.8},
	{"quarim", 2.3, 51.2},
	{"ravesk", 33.5, 4.9},
	{"solmer", 61.9, -34.6},
	{"tarvin", 88.4, 27.3},
	{"ulmeth", 121.8, -47.7},
	{"wexley", 152.6, 45.4},
	{"yarona", -3.9, 18.5},
}

// spread is how far a tile lies from its city's place at most, in degrees.
const spread = 0.2

// rotations are exact rational turns: 0°, 16.3°, 22.6°, 28.1°, 36.9° and 46.4°.
var rotations = [6][2]float64{{1, 0}, {24.0 / 25, 7.0 / 25}, {12.0 / 13, 5.0 / 13}, {15.0 / 17, 8.0 / 17}, {4.0 / 5, 3.0 / 5}, {20.0 / 29, 21.0 / 29}}

// Style is how a city is built at a place.
type Style struct {
	Cos, Sin  float64 // of the angle of the grid's first direction against x
	Pitch     float64 // between neighbouring roads, 20 to 44 m
	Depth     float64 // of buildings, 8 to 16 m
	Setback   float64 // from the edge of the road, 0.5 to 6 m
	Perimeter float64 // chance that a residential block is built around its border
	Courtyard float64 // chance that such a block, or a commercial one, is open inside
	Vacancy   float64 // share of buildings that are missing, 0.05 to 0.25
}

// StyleAt is the style at a place, by formulas in n = min(1, |lat|/60) and
// u = (lon+180)/360:
//
//	angle      entry round(lon/30) mod 6 of the table of rotations
//	pitch      44 − 24n
//	depth      8 + 32u(1−u)
//	setback    0.5 + 5.5(1−n)(1+3u)/4
//	perimeter  0.1 + 0.8(lat+90)/180
//	courtyard  0.3 + 0.6u
//	vacancy    0.05 + 0.2(1−u)
//
// It expects |lon| ≤ 180 and |lat| ≤ 90; see CheckPlace.
func StyleAt(lon, lat float64) Style {
	n := min(1, math.Abs(lat)/60)
	u := (lon + 180) / 360
	k := (int(math.Floor(lon/30+0.5))%6 + 6) % 6
	return Style{
		Cos: rotations[k][0], Sin: rotations[k][1],
		Pitch:     44 - float64(24*n),
		Depth:     8 + float64(32*float64(u*(1-u))),
		Setback:   0.5 + float64(float64(5.5*(1-n))*(1+float64(3*u)))/4,
		Perimeter: 0.1 + float64(0.8*(lat+90))/180,
		Courtyard: 0.3 + float64(0.6*u),
		Vacancy:   0.05 + float64(0.2*(1-u)),
	}
}

// Angle is the direction of the grid in degrees, 0 to 90, from x towards y.
func (s Style) Angle() float64 { return math.Atan2(s.Sin, s.Cos) * 180 / math.Pi }

package facades

import "slices"

// The colours. Walls are dull and of middle light, windows dark or lit; a test holds
// that colours of different kinds are more than 60 apart.
var (
	walls = [8]Color{
		{185, 170, 150},
		{170, 150, 140},
		{150, 160, 165},
		{190, 185, 175},
		{165, 140, 125},
		{140, 150, 140},
		{175, 165, 175},
		{155, 145, 160},
	}
	windows  = [6]Color{{30, 35, 50}, {45, 40, 40}, {25, 50, 60}, {50, 30, 60}, {255, 220, 110}, {255, 240, 175}}
	doors    = [4]Color{{160, 35, 35}, {30, 110, 50}, {110, 65, 10}, {125, 25, 110}}
	pavement = Color{95, 95, 100}
	// skies are a colour high above and one at the lowest roof.
	skies = [4][2]Color{
		{{70, 140, 235}, {190, 220, 255}},
		{{35, 75, 190}, {120, 165, 250}},
		{{40, 180, 205}, {165, 240, 240}},
		{{120, 80, 205}, {210, 160, 250}},
	}
)

// Walls are the colours of walls.
func Walls() []Color { return slices.Clone(walls[:]) }

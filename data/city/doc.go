// Package city generates tiles of invented cities, 128 m a side: roads, land use
// and the footprints of buildings as polygons and as rasters, with a caption and a
// place on the globe; and it measures footprints exactly.
//
// A city's style (angle and pitch of its grid, depth and setback of its houses and
// so on) is a fixed function of longitude and latitude, so that a model gains by
// reading them. Ten cities are in all splits, two in ZeroShot and Enc alone.
//
//	set := city.New(data.DefaultSeed, 32)
//	tile := set.At(data.Test, 7)
//	m, err := city.Measure(tile.Building, tile.Road) // coverage, counts, areas, orientation, setback
//
// The drawing rules, from the item's stream in this order: longitude and latitude;
// the lines of the grid in both directions; which edges between crossings are
// missing; the major road; the land use; one word, from which the stream of the
// buildings begins. Buildings have a stream of their own so that Again can draw
// others on the same plan.
//
// Coordinates are metres in the tile, x to the right and y down, the tile from
// (0, 0) to (128, 128). What reaches beyond the border is kept whole. A pixel of
// Road is road when more than half of its 4×4 samples are, one of Building when at
// least half are, so that no pixel is both; Land takes the class at its centre.
//
// Choices of ours where the specification leaves them open: names and places of
// the cities and the formulas of StyleAt; blocks meet along missing edges at a lot
// line that keeps the road's width free; buildings whose bounds miss the tile are
// left out; words of the caption are computed from buildings whose centre is in
// the tile and from the coverage at 4 m a pixel, whatever the size; a tile without
// buildings says "with no buildings" and nothing of their size and density.
package city

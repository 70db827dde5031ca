package ops

import (
	"github.com/fidlab/fidlab/cuda"
	"github.com/fidlab/fidlab/gpu"
)

// SplatTileLists are the Gaussians of every tile of a sorted list, and the side of the tiles.
func SplatTileLists(a *SplatAux) (side int, lists [][]int32, err error) {
	g := a.gpu
	e, r := g.entries.To(gpu.CPU()), g.ranges.To(gpu.CPU())
	if err := g.entries.Device().Err(); err != nil {
		return 0, nil, err
	}
	for i := range g.tiles(a.size) * a.size.b {
		lists = append(lists, e.I32()[r.I32()[2*i]:r.I32()[2*i+1]])
	}
	return g.side, lists, nil
}

// LargeTiles sets the least number of large tiles of a product and returns what restores it.
func LargeTiles(least int) (restore func()) {
	old := largeTiles
	largeTiles = least
	return func() { largeTiles = old }
}

// ForcedTile makes one version of the kernels on tensor cores serve all sizes and returns what restores the choice.
func ForcedTile(which int) (restore func()) {
	old := forcedTile
	forcedTile = which
	return func() { forcedTile = old }
}

// HopperAttention makes the host device take attention's kernels of compute capability 9.0 where
// they fit, counts the calls that do, and returns what restores it.
func HopperAttention(calls *int) (restore func()) {
	before, old := SetHopper(HopperHost), attnHopper
	attnHopper = func(d cuda.Device) bool {
		yes := old(d)
		if yes {
			*calls++
		}
		return yes
	}
	return func() {
		attnHopper = old
		SetHopper(before)
	}
}

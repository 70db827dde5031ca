package street

import (
	"github.com/fidlab/fidlab/data"
	"github.com/fidlab/fidlab/geom"
)

// Classes of voxels and pixels. What moves is at most Pedestrian.
const (
	Empty uint8 = iota
	Car
	Truck
	Pedestrian
	Road
	Sidewalk
	Grass
	Building
	Tree
	Classes
)

// ClassNames are their names.
var ClassNames = [Classes]string{"empty", "car", "truck", "pedestrian", "road", "sidewalk", "grass", "building", "tree"}

// The grid of a frame: voxels along x, y and z.
const (
	NX = 32
	NY = 32
	NZ = 4

	reach  = 16 // metres to each side of the ego
	ground = 0  // layer of the ground, z from −1 to 0
)

// Frames is the length of a clip; they are a quarter of a second apart.
const Frames = 8

const (
	maxSpeed = 2
	worldX   = NX + (Frames-1)*maxSpeed // columns of the world: all that a clip sees
)

// Grid are the classes, or the instances, of the voxels of a frame: [x][y][z] from
// the corner (−16, −16, −1).
type Grid [NX][NY][NZ]uint8

// Box is a car, truck or pedestrian. C is its middle, in metres from the ego; L is
// along its way, W across, H up. V is metres a frame, in the world.
type Box struct {
	Cls  uint8   `json:"cls"`
	Cx   float64 `json:"cx"`
	Cy   float64 `json:"cy"`
	Cz   float64 `json:"cz"`
	L    int     `json:"l"`
	W    int     `json:"w"`
	H    int     `json:"h"`
	Yaw  int     `json:"yaw"`  // 0: along x; 90: along y
	Inst uint8   `json:"inst"` // 1, 2, …
	Vx   int     `json:"vx"`
	Vy   int     `json:"vy"`
	Tint uint8   `json:"tint"` // of vehicles, 0 to 4
}

// Corners are the lower and the upper corner.
func (b *Box) Corners() (low, high geom.Vec) {
	dx, dy := float64(b.L)/2, float64(b.W)/2
	if b.Yaw == 90 {
		dx, dy = dy, dx
	}
	dz := float64(b.H) / 2
	return geom.Vec{X: b.Cx - dx, Y: b.Cy - dy, Z: b.Cz - dz}, geom.Vec{X: b.Cx + dx, Y: b.Cy + dy, Z: b.Cz + dz}
}

// sizes are length, width and height by class.
var sizes = [Pedestrian + 1][3]int{Car: {4, 2, 2}, Truck: {6, 2, 3}, Pedestrian: {1, 1, 2}}

// body is a box in the world: its lower corner in whole metres from the ego's first
// place.
type body struct {
	cls          uint8
	x, y         int
	lx, ly, lz   int
	vx, vy       int
	across       bool // along y
	tint         uint8
	firstVoxelID uint64
}

// at are the corners of the body at a frame: from x0, y0 up to x1, y1.
func (b *body) at(frame int) (x0, y0, x1, y1 int) {
	x0, y0 = b.x+frame*b.vx, b.y+frame*b.vy
	return x0, y0, x0 + b.lx, y0 + b.ly
}

// world is all that a clip sees.
type world struct {
	night      bool
	right      int // the road reaches from y = −right …
	left       int // … to y = left
	walkR      int // width of the sidewalks
	walkL      int
	cross      bool // the crossing road reaches from x = crossX to crossX+crossW
	crossX     int
	crossW     int
	speed      int // of the ego
	floor      [worldX][NY]uint8
	solid      [worldX][NY]uint8 // class of what stands there, 0 for nothing
	height     [worldX][NY]uint8 // and how high it is
	bodies     []body
	textureKey uint64
}

// draw makes the world of an item.
func draw(r *data.Stream) *world {
	w := &world{}
	w.night = r.Chance(nightChance)
	width := r.Between(8, 12)
	w.right = r.Between(2, 4) // the ego keeps to the right half
	w.left = width - w.right
	w.walkR, w.walkL = r.Between(2, 3), r.Between(2, 3)
	if w.cross = r.Chance(crossChance); w.cross {
		w.crossW = r.Between(8, 10)
		if r.Chance(0.5) {
			w.crossX = r.Between(4, 8)
		} else {
			w.crossX = -r.Between(4, 6) - w.crossW
		}
	}
	w.speed = r.Between(0, maxSpeed)
	w.pave()
	for _, side := range []int{-1, 1} {
		w.build(r, side)
		w.plant(r, side)
	}
	w.populate(r)
	w.textureKey = r.Uint64()
	return w
}

// inCross reports whether column x is in the crossing road, or at most margin from it.
func (w *world) inCross(x, margin int) bool {
	return w.cross && x >= w.crossX-margin && x < w.crossX+w.crossW+margin
}

// pave lays the ground: road, sidewalks along both roads, grass.
func (w *world) pave() {
	for i := range worldX {
		for j := range NY {
			x, y := i-reach, j-reach
			main := y >= -w.right && y < w.left
			walk := y >= -w.right-w.walkR && y < w.left+w.walkL
			switch {
			case main || w.inCross(x, 0):
				w.floor[i][j] = Road
			case walk || w.inCross(x, crossWalk):
				w.floor[i][j] = Sidewalk
			default:
				w.floor[i][j] = Grass
			}
		}
	}
}

// row is the row of the grid that lies k metres beyond the road's edge on a side:
// −1 right, 1 left.
func (w *world) row(side, k int) int {
	if side < 0 {
		return -w.right - 1 - k
	}
	return w.left + k
}

// put stands something of a height on a column, if that is in the world.
func (w *world) put(x, y int, cls, height uint8) {
	if i, j := x+reach, y+reach; i >= 0 && i < worldX && j >= 0 && j < NY {
		w.solid[i][j], w.height[i][j] = cls, height
	}
}

// build puts buildings behind the sidewalk, with gaps; the crossing road and its
// sidewalks stay free.
func (w *world) build(r *data.Stream, side int) {
	walk := w.walkR
	if side > 0 {
		walk = w.walkL
	}
	for x := -reach - r.Between(0, 5); x < worldX-reach; {
		long, back, deep := r.Between(5, 9), r.Between(0, 1), r.Between(4, 7)
		high := uint8(r.Between(2, 3))
		for dx := range long {
			if w.inCross(x+dx, crossWalk) {
				continue
			}
			for k := range deep {
				w.put(x+dx, w.row(side, walk+back+k), Building, high)
			}
		}
		x += long + r.Between(1, 3)
	}
}

// plant puts trees on the sidewalk next to the road.
func (w *world) plant(r *data.Stream, side int) {
	for x := -reach + r.Between(0, 4); x < worldX-reach; x += r.Between(4, 9) {
		if !w.inCross(x, crossWalk) {
			w.put(x, w.row(side, 0), Tree, 3)
		}
	}
}

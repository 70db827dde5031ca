package street

import "github.com/fidlab/fidlab/data"

const (
	nightChance = 1.0 / 3
	crossChance = 0.4
	crossWalk   = 2 // width of the crossing road's sidewalks
	fewest      = 2
	most        = 8
	nearest     = 3 // of a box's middle to the ego, in metres
	farthest    = 15
	tries       = 40 // for the place of a box
	tints       = 5
)

// kinds are the chances of car, truck and pedestrian.
var kinds = []float64{0.60, 0.15, 0.25}

// populate draws 2 to 8 boxes. A box that finds no place in 40 tries is left out,
// unless there are fewer than two: then more are drawn.
func (w *world) populate(r *data.Stream) {
	n := r.Between(fewest, most)
	for drawn := 0; drawn < n || len(w.bodies) < fewest; drawn++ {
		if drawn == 1000 {
			panic("street: a street without room for two boxes: the rules of draw.go contradict each other")
		}
		cls := Car + uint8(r.Pick(kinds))
		for range tries {
			b, ok := w.place(r, cls)
			if ok && w.free(&b) {
				b.firstVoxelID = 1<<32 | uint64(len(w.bodies)+1)<<16
				w.bodies = append(w.bodies, b)
				break
			}
		}
	}
}

// place draws where a box is, where it goes and its tint. ok is false when it does
// not fit into its road or is too near or too far.
func (w *world) place(r *data.Stream, cls uint8) (b body, ok bool) {
	s := sizes[cls]
	b = body{cls: cls, lx: s[0], ly: s[1], lz: s[2]}
	switch {
	case cls == Pedestrian && r.Chance(0.8):
		// On a sidewalk, along it.
		side, walk := -1, w.walkR
		if r.Chance(0.5) {
			side, walk = 1, w.walkL
		}
		k := r.Intn(walk)
		b.x, b.y, b.vx = r.Between(-reach, reach-1), w.row(side, k), r.Between(-1, 1)
		ok = !w.inCross(b.x, 0)
	case cls == Pedestrian:
		// On the road, crossing it.
		b.x, b.y, b.vy = r.Between(-reach, reach-1), r.Between(-w.right, w.left-1), 2*r.Intn(2)-1
		ok = true
	case w.cross && r.Chance(0.3):
		// On the crossing road, in its right half: forward is +y.
		b.across, b.lx, b.ly = true, s[1], s[0]
		b.x, b.y = w.crossX+r.Intn(w.crossW-b.lx+1), r.Between(-reach, reach-b.ly)
		middle := 2*w.crossX + w.crossW
		b.vy = r.Between(0, 3)
		if 2*b.x+b.lx < middle { // seen along +y, the right half is that of larger x
			b.vy = -b.vy
		}
		ok = true
	default:
		// On the road, in its right half: forward is +x.
		b.x, b.y = r.Between(-reach, reach-b.lx), r.Between(-w.right, w.left-b.ly)
		b.vx = r.Between(0, 3)
		if 2*b.y+b.ly > w.left-w.right {
			b.vx = -b.vx
		}
		ok = true
	}
	b.tint = uint8(r.Intn(tints))
	if cls == Pedestrian {
		b.tint = 0
	}
	// Twice the distances of the middle, so that they are whole.
	dx, dy := 2*b.x+b.lx, 2*b.y+b.ly
	d := dx*dx + dy*dy
	inside := b.x >= -reach && b.y >= -reach && b.x+b.lx <= reach && b.y+b.ly <= reach
	return b, ok && inside && d >= 4*nearest*nearest && d <= 4*farthest*farthest
}

// free reports whether a body meets nothing in any frame: no wall or tree, no other
// body, and not the ego, which keeps 3 m before and behind and 1 m to its sides.
func (w *world) free(b *body) bool {
	for f := range Frames {
		x0, y0, x1, y1 := b.at(f)
		for x := max(x0, -reach); x < min(x1, worldX-reach); x++ {
			for y := max(y0, -reach); y < min(y1, reach); y++ {
				if w.solid[x+reach][y+reach] != 0 {
					return false
				}
			}
		}
		ego := f * w.speed
		if x0 < ego+3 && x1 > ego-3 && y0 < 1 && y1 > -1 {
			return false
		}
		for i := range w.bodies {
			if u0, v0, u1, v1 := w.bodies[i].at(f); x0 < u1 && x1 > u0 && y0 < v1 && y1 > v0 {
				return false
			}
		}
	}
	return true
}

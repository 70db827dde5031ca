package shapes

import (
	"math/bits"
	"strings"

	"github.com/fidlab/fidlab/text"
)

// Entities is the number of glyphs: 0 to 31 are frequent in the train split of
// shapes-glyph, 32 to 39 rare, 40 to 47 never there.
const (
	Entities = 48
	Frequent = 32
	Rare     = 8
)

// bitmaps are the glyphs: bit 5y+x is the cell in column x of row y. Each has 10 to
// 14 cells, all joined, and touches the four sides. The distance of two glyphs
// is the least number of cells that differ when one is shifted by up to one cell
// each way; it is 8 or more, but for every rare and unseen glyph and one frequent
// one, its sibling, where it is 4 or 5. Found by trying all such bitmaps in
// random order.
var bitmaps = [Entities]uint32{
	0x0257b79, 0x071887f, 0x12fcb0e, 0x1fb5198, 0x023fb94, 0x03cd7e2, 0x087257e, 0x18cb5ea,
	0x0e623af, 0x18f7c61, 0x1c53dd8, 0x0623f3c, 0x14fc9e1, 0x08c76f4, 0x1f661e1, 0x0c3b3f8,
	0x14fa19e, 0x1e43c6e, 0x19f8842, 0x04f5ea6, 0x043ea5e, 0x1bf2d88, 0x037389e, 0x0fce623,
	0x0c378e4, 0x072bf43, 0x0ec30e3, 0x04b53ed, 0x07623d4, 0x10ff2c6, 0x0f52b63, 0x0a70afc,
	0x0316bf9, 0x0308d7f, 0x1a7e30c, 0x1f9c398, 0x013db97, 0x01cdfd0, 0x187a46f, 0x18e15eb,
	0x1ee212f, 0x19fd421, 0x0e61dd8, 0x0c2ff2c, 0x14f0bf1, 0x0cc67f8, 0x0f2f1e1, 0x1c397f0,
}

// Bitmap is the glyph of an entity, row by row.
func Bitmap(entity int) (cells [5][5]bool) {
	for i := range 25 {
		cells[i/5][i%5] = bitmaps[entity]>>i&1 == 1
	}
	return cells
}

// Noun is the name of an entity.
func Noun(entity int) string { return text.Scenes.Word(text.SceneNouns + entity) }

// EntityOf is the entity of a name, or −1.
func EntityOf(noun string) int {
	if id, err := text.Scenes.ID(noun); err == nil && id >= text.SceneNouns && id < text.SceneFree {
		return int(id) - text.SceneNouns
	}
	return -1
}

// Sibling is the frequent entity that a rare or unseen one is easily taken for,
// −1 for a frequent one.
func Sibling(entity int) int {
	if entity >= Frequent {
		for f := range Frequent {
			if glyphDistance(bitmaps[entity], bitmaps[f]) <= 5 {
				return f
			}
		}
	}
	return -1
}

// glyphDistance is the least Hamming distance over shifts by up to a cell.
func glyphDistance(a, b uint32) int {
	best, fixed := 64, widen(a, 0, 0)
	for dy := -1; dy <= 1; dy++ {
		for dx := -1; dx <= 1; dx++ {
			best = min(best, bits.OnesCount64(fixed^widen(b, dx, dy)))
		}
	}
	return best
}

// widen puts a bitmap, shifted, into the middle of 7×7 cells.
func widen(b uint32, dx, dy int) (w uint64) {
	for y := range 5 {
		w |= uint64(b>>(5*y)&31) << (7*(y+1+dy) + 1 + dx)
	}
	return w
}

// Describe says in words what an entity's glyph looks like, computed from the
// bitmap: a ring has a hole; else by its loose ends (cells with one neighbour) it
// is a lump (at most one), a snake (two), a fork (three) or a tree; thin with 11
// cells or fewer, thick with 13 or more; and up to two parts that are sides
// filled over three cells or more: a foot, a hat, a back (left), a wing (right).
// Siblings share many of these words: they hint and do not tell.
func Describe(entity int) string {
	c := Bitmap(entity)
	at := func(x, y int) bool { return x >= 0 && x < 5 && y >= 0 && y < 5 && c[y][x] }
	ends, cells, rows, cols := 0, 0, [5]int{}, [5]int{}
	for y := range 5 {
		for x := range 5 {
			if !at(x, y) {
				continue
			}
			cells++
			rows[y]++
			cols[x]++
			n := 0
			for _, d := range [4][2]int{{1, 0}, {-1, 0}, {0, 1}, {0, -1}} {
				if at(x+d[0], y+d[1]) {
					n++
				}
			}
			if n == 1 {
				ends++
			}
		}
	}
	body := [...]string{"lump", "lump", "snake", "fork", "tree"}[min(ends, 4)]
	if hasHole(c) {
		body = "ring"
	}
	w := []string{"like", "a"}
	switch {
	case cells <= 11:
		w = append(w, "thin")
	case cells >= 13:
		w = append(w, "thick")
	}
	w = append(w, body)
	parts := 0
	for i, n := range [4]int{rows[4], rows[0], cols[0], cols[4]} {
		if n >= 3 && parts < 2 {
			w = append(w, [2]string{"with", "and"}[parts], "a", [4]string{"foot", "hat", "back", "wing"}[i])
			parts++
		}
	}
	return strings.Join(w, " ")
}

// hasHole tells whether an empty cell can't be left by steps across sides.
func hasHole(c [5][5]bool) bool {
	var seen [7][7]bool // with a margin, from which the flood starts
	var flood func(x, y int)
	flood = func(x, y int) {
		if x < 0 || y < 0 || x > 6 || y > 6 || seen[y][x] || x > 0 && y > 0 && x < 6 && y < 6 && c[y-1][x-1] {
			return
		}
		seen[y][x] = true
		flood(x+1, y)
		flood(x-1, y)
		flood(x, y+1)
		flood(x, y-1)
	}
	flood(0, 0)
	for y := range 5 {
		for x := range 5 {
			if !c[y][x] && !seen[y+1][x+1] {
				return true
			}
		}
	}
	return false
}

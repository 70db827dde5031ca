package shapes

import (
	"math/bits"

	"github.com/fidlab/fidlab/imageio"
)

// GlyphDetection is the glyph that the reader found.
type GlyphDetection struct {
	Entity   int   // −1 when the picture shows nothing of any colour
	Color    Color // the commonest one
	Cx, Cy   float64
	Distance int // cells that differ from the entity's bitmap, of 25
	Margin   int // how many more differ from the second entity's
}

// ReadGlyph finds the glyph in a picture of shapes-glyph, 32 to 256 pixels a side:
// the most frequent label is its colour; the box of 10×10 pixels around its centre
// of gravity, shifted by up to a pixel each way, has its coverage averaged over
// 2×2 pixels and cut at one half, and the entity with the nearest bitmap wins. The
// margin is over all shifts.
func ReadGlyph(m *imageio.Image) (GlyphDetection, error) {
	none := GlyphDetection{Entity: -1}
	pix, err := glyphs.canvas(m)
	if err != nil {
		return none, err
	}
	p := see(pix, 32)
	var count [Colors + 1]int
	for _, c := range p.label {
		count[c]++
	}
	best := 1
	for c := 2; c <= Colors; c++ {
		if count[c] > count[best] {
			best = c
		}
	}
	if count[best] == 0 {
		return none, nil
	}
	c := uint8(best)
	box := [4]int{32, 32, 0, 0}
	list, owner := p.regions()
	largest := -1
	for i, r := range list {
		if r.color == c && (largest < 0 || r.area > list[largest].area) {
			largest = i
		}
	}
	if largest >= 0 { // of the largest piece: specks far away don't count
		box = list[largest].box
	} else {
		for i, l := range p.label {
			if l == c {
				box = [4]int{min(box[0], i%32), min(box[1], i/32), max(box[2], i%32+1), max(box[3], i/32+1)}
			}
		}
	}
	cover := func(x, y int) float64 {
		if x < 0 || y < 0 || x >= 32 || y >= 32 {
			return 0
		}
		i := y*32 + x
		if l := p.label[i]; l != 0 && l != c || largest >= 0 && l == c && owner[i] != list[largest].id {
			return 0
		}
		return covering(p.pix[3*i:3*i+3], c)
	}
	x0, y0 := (box[0]+box[2])/2-5, (box[1]+box[3])/2-5
	d := GlyphDetection{Entity: -1, Color: Color(c), Distance: 26}
	var nearest [Entities]int
	for i := range nearest {
		nearest[i] = 26
	}
	for dy := -1; dy <= 1; dy++ {
		for dx := -1; dx <= 1; dx++ {
			var b uint32
			for i := range 25 {
				x, y := x0+dx+2*(i%5), y0+dy+2*(i/5)
				if cover(x, y)+cover(x+1, y)+cover(x, y+1)+cover(x+1, y+1) >= 2 {
					b |= 1 << i
				}
			}
			for e := range Entities {
				h := bits.OnesCount32(b ^ bitmaps[e])
				nearest[e] = min(nearest[e], h)
				if h < d.Distance {
					d.Entity, d.Distance = e, h
					d.Cx, d.Cy = float64(x0+dx+5), float64(y0+dy+5)
				}
			}
		}
	}
	second := 26
	for e, h := range nearest {
		if e != d.Entity {
			second = min(second, h)
		}
	}
	d.Margin = second - d.Distance
	return d, nil
}

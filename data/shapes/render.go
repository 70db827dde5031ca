package shapes

import (
	"math"

	"github.com/fidlab/fidlab/data"
)

const samples = 4 // a side, of a pixel's 4×4

// inside tells whether the point (x, y), measured from the centre, is in the shape.
func inside(k Shape, x, y, r float64) bool {
	ax, ay := math.Abs(x), math.Abs(y)
	switch k {
	case Circle:
		return float64(x*x)+float64(y*y) <= float64(r*r)
	case Square:
		h := float64(0.95 * r)
		return ax <= h && ay <= h
	case Triangle:
		return y >= -r && y <= float64(0.75*r) && float64(1.75*ax) <= y+r
	case Cross:
		t := float64(0.36 * r)
		return ax <= t && ay <= r || ay <= t && ax <= r
	}
	return false
}

// covers tells whether the object covers the point (x, y) of the board.
func (o *Object) covers(x, y float64) bool {
	x, y = x-o.Cx, y-o.Cy
	if o.Kind != Glyph {
		return inside(o.Kind, x, y, o.R)
	}
	cx, cy := int(math.Floor((x+o.R)/2)), int(math.Floor((y+o.R)/2)) // cells of 2×2 pixels
	return cx >= 0 && cx < 5 && cy >= 0 && cy < 5 && bitmaps[o.Glyph]>>(5*cy+cx)&1 == 1
}

// level is the background's gray at pixel (x, y) of a board of the given side.
func (b Bg) level(x, y float64, side int) float64 {
	l, half := float64(b.Level), float64(b.Period/2)
	switch b.Kind {
	case Ramp:
		return l + float64(20*(2*x-float64(side-1)))/float64(side-1)
	case Stripes:
		return l + alternate(int(x/half))
	case Checker:
		return l + alternate(int(x/half)+int(y/half))
	}
	return l
}

func alternate(cell int) float64 {
	if cell%2 == 0 {
		return 20
	}
	return -20
}

// render draws the item: Pix, Mask, Seg and the boxes of the objects.
func (it *Item) render() {
	s := it.set
	n, ch := s.size, s.Channels()
	side := s.board.side
	scale := float64(n) / float64(side) // 1, 2, 4 or 8
	it.Pix, it.Mask, it.Seg = make([]uint8, n*n*ch), make([]uint8, n*n), make([]uint8, n*n)
	back := it.backdrop(n, scale, side)
	write := func(p int, v [3]float64) {
		for c := range ch {
			it.Pix[p*ch+c] = uint8(math.Floor(v[c] + 0.5))
		}
	}
	for p, g := range back {
		write(p, [3]float64{g, g, g})
	}
	for k := range it.Objects {
		o := &it.Objects[k]
		o.Box = [4]int{n, n, 0, 0}
		x0, x1 := int((o.Cx-o.R)*scale), int((o.Cx+o.R)*scale)
		y0, y1 := int((o.Cy-o.R)*scale), int((o.Cy+o.R)*scale)
		for y := y0; y < y1; y++ {
			for x := x0; x < x1; x++ {
				hits := 0
				for j := range samples {
					for i := range samples {
						if o.covers((float64(x)+(float64(i)+0.5)/samples)/scale, (float64(y)+(float64(j)+0.5)/samples)/scale) {
							hits++
						}
					}
				}
				if hits == 0 {
					continue
				}
				p := y*n + x
				a, g := float64(hits)/(samples*samples), back[p]
				v := it.paint(o, x, scale)
				for c := range v {
					v[c] = g + float64(a*(v[c]-g))
				}
				write(p, v)
				if 2*hits >= samples*samples {
					it.Mask[p], it.Seg[p] = uint8(k+1), uint8(o.Color)
					o.Box = [4]int{min(o.Box[0], x), min(o.Box[1], y), max(o.Box[2], x+1), max(o.Box[3], y+1)}
				}
			}
		}
	}
}

// backdrop is the background's gray of every pixel.
func (it *Item) backdrop(n int, scale float64, side int) []float64 {
	back := make([]float64, n*n)
	if it.set.opt.Style == Binary {
		return back
	}
	b := it.Bg
	var blocks []float64
	if it.set.opt.Texture == TextureBackground { // a stream of its own, so that the scene is the same
		b.Kind = Flat
		t := data.FromKey(data.Key(it.set.board.set+"/texture", it.Split, version, it.set.seed, uint64(it.Index)))
		blocks = make([]float64, side/2*side/2)
		for i := range blocks {
			blocks[i] = float64(t.Between(-20, 20))
		}
	}
	for y := range n {
		for x := range n {
			// of a pixel of the board, however many of the picture it has: a ramp
			// alone goes on between them
			bx, by := float64(x)/scale, float64(y)/scale
			if b.Kind == Ramp {
				bx = (float64(x)+0.5)/scale - 0.5
			}
			v := b.level(bx, by, side)
			if blocks != nil {
				v += blocks[int(by)/2*(side/2)+int(bx)/2]
			}
			back[y*n+x] = v
		}
	}
	return back
}

// paint is the object's colour in the column x of the picture.
func (it *Item) paint(o *Object, x int, scale float64) (v [3]float64) {
	switch it.set.opt.Style {
	case Binary:
		v = [3]float64{255, 255, 255}
	case Gray:
		v = [3]float64{16, 16, 16}
		if it.Bg.Dark() {
			v = [3]float64{240, 240, 240}
		}
	default:
		for c, l := range o.Color.RGB() {
			v[c] = float64(l)
		}
	}
	if it.set.opt.Texture == TextureObjects && int(float64(x)/scale)/2%2 == 1 {
		g := float64(it.Bg.Level)
		if it.set.opt.Style == Binary {
			g = 0
		}
		for c := range v {
			v[c] = g + float64(0.7*(v[c]-g))
		}
	}
	return v
}

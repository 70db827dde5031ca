package label

import (
	"fmt"
	"math"

	"github.com/fidlab/fidlab/imageio"
)

// Map is a picture of classes, row by row. 0 is usually the background.
type Map struct {
	W, H int
	IDs  []uint8
}

// New is a map of zeros. It panics unless both sides are at least 1.
func New(w, h int) *Map {
	if w < 1 || h < 1 {
		panic(fmt.Sprintf("label: New: %d×%d pixels; want at least 1×1", w, h))
	}
	return &Map{w, h, make([]uint8, w*h)}
}

// At is the class of pixel (x, y).
func (m *Map) At(x, y int) uint8 { return m.IDs[y*m.W+x] }

// whole panics when a map's sizes and pixels do not fit together.
func (m *Map) whole(op string) {
	if m.W < 1 || m.H < 1 || len(m.IDs) != m.W*m.H {
		panic(fmt.Sprintf("label: %s: a map of %d×%d with %d pixels", op, m.W, m.H, len(m.IDs)))
	}
}

// Classes is one more than the greatest class in the map.
func (m *Map) Classes() int {
	k := 0
	for _, v := range m.IDs {
		k = max(k, int(v)+1)
	}
	return k
}

// Mask is 1 where the class is id and 0 elsewhere.
func (m *Map) Mask(id uint8) *Map {
	m.whole("Mask")
	o := New(m.W, m.H)
	for i, v := range m.IDs {
		if v == id {
			o.IDs[i] = 1
		}
	}
	return o
}

// Resize takes, for every pixel of a w×h map, the class at its centre: column
// ⌊(x+½)·W/w⌋ and row ⌊(y+½)·H/h⌋.
func (m *Map) Resize(w, h int) *Map {
	m.whole("Resize")
	o := New(w, h)
	for y := range h {
		row := m.IDs[(2*y+1)*m.H/(2*h)*m.W:]
		for x := range w {
			o.IDs[y*w+x] = row[(2*x+1)*m.W/(2*w)]
		}
	}
	return o
}

// OneHot is the map as float32 [k, H, W], 1 in the plane of the class and 0 in
// the others.
func (m *Map) OneHot(k int) ([]float32, error) {
	m.whole("OneHot")
	n := m.W * m.H
	if k < 1 || k > 256 {
		return nil, fmt.Errorf("label: %d planes; want 1 to 256", k)
	}
	x := make([]float32, k*n)
	for i, v := range m.IDs {
		if int(v) >= k {
			return nil, fmt.Errorf("label: class %d at pixel (%d, %d); with %d planes the classes are 0 to %d", v, i%m.W, i/m.W, k, k-1)
		}
		x[int(v)*n+i] = 1
	}
	return x, nil
}

// Shares is the map shrunk or enlarged to w×h by area: float32 [k, h, w], the
// share of every pixel's area that each class has. The shares of a pixel sum to 1.
func (m *Map) Shares(k, w, h int) ([]float32, error) {
	planes, err := m.OneHot(k)
	if err != nil {
		return nil, err
	}
	x := make([]float32, 0, k*w*h)
	for c := range k {
		f := Field{m.W, m.H, planes[c*m.W*m.H:][:m.W*m.H]}
		x = append(x, f.Area(w, h).V...)
	}
	return x, nil
}

// Join makes one map of masks, of which mask i becomes class i+1. It refuses
// masks of different sizes, masks with fewer than minArea pixels (at least 1, so
// that empty ones are refused), masks that overlap, and more than 255 of them.
func Join(masks []*Map, minArea int) (*Map, error) {
	if len(masks) == 0 || len(masks) > 255 {
		return nil, fmt.Errorf("label: %d masks; want 1 to 255", len(masks))
	}
	o := New(masks[0].W, masks[0].H)
	for i, m := range masks {
		m.whole("Join")
		if m.W != o.W || m.H != o.H {
			return nil, fmt.Errorf("label: mask %d is %d×%d pixels, the first is %d×%d; want one size", i, m.W, m.H, o.W, o.H)
		}
		area := 0
		for p, v := range m.IDs {
			if v == 0 {
				continue
			}
			if o.IDs[p] != 0 {
				return nil, fmt.Errorf("label: masks %d and %d overlap at pixel (%d, %d); want masks that lie apart", o.IDs[p]-1, i, p%o.W, p/o.W)
			}
			o.IDs[p] = uint8(i + 1)
			area++
		}
		if area < max(1, minArea) {
			return nil, fmt.Errorf("label: mask %d has %d pixels; want at least %d, or leave it out", i, area, max(1, minArea))
		}
	}
	return o, nil
}

// Class is an entry of a palette: its index is the class.
type Class struct {
	Name  string
	Color [3]uint8
}

// Palette gives classes their colours.
type Palette []Class

// Check refuses palettes without classes or with more than 256, and names or
// colours given twice.
func (p Palette) Check() error {
	if len(p) < 1 || len(p) > 256 {
		return fmt.Errorf("label: a palette of %d classes; want 1 to 256", len(p))
	}
	for i, c := range p {
		for j, d := range p[:i] {
			if c.Color == d.Color {
				return fmt.Errorf("label: classes %d (%s) and %d (%s) have the colour %s; give each its own", j, d.Name, i, c.Name, hex(c.Color))
			}
			if c.Name == d.Name {
				return fmt.Errorf("label: classes %d and %d are both called %q; give each its own name", j, i, c.Name)
			}
		}
	}
	return nil
}

func hex(c [3]uint8) string { return fmt.Sprintf("#%02x%02x%02x", c[0], c[1], c[2]) }

// Picture colours a map.
func (p Palette) Picture(m *Map) (*imageio.Image, error) {
	m.whole("Picture")
	o := &imageio.Image{Width: m.W, Height: m.H, Pix: make([]uint8, 0, 3*m.W*m.H)}
	o.Facts = imageio.Facts{Format: "raw", Decoder: "palette"}
	for i, v := range m.IDs {
		if int(v) >= len(p) {
			return nil, fmt.Errorf("label: class %d at pixel (%d, %d); the palette has %d classes", v, i%m.W, i/m.W, len(p))
		}
		o.Pix = append(o.Pix, p[v].Color[:]...)
	}
	return o, nil
}

// Read makes the map of a picture whose pixels have exactly the palette's
// colours. Other colours are an error that lists the first of them with their
// counts, and the palette.
func (p Palette) Read(img *imageio.Image) (*Map, error) {
	if err := p.Check(); err != nil {
		return nil, err
	}
	index := make(map[[3]uint8]uint8, len(p))
	for i, c := range p {
		index[c.Color] = uint8(i)
	}
	m := New(img.Width, img.Height)
	var odd [][3]uint8 // in the order of their first pixel
	count := map[[3]uint8]int{}
	for i := range m.IDs {
		c := [3]uint8(img.Pix[3*i:])
		id, ok := index[c]
		if !ok {
			if count[c] == 0 {
				odd = append(odd, c)
			}
			count[c]++
		}
		m.IDs[i] = id
	}
	if len(odd) == 0 {
		return m, nil
	}
	list := ""
	for i, c := range odd {
		if i == 6 {
			list += fmt.Sprintf(", %d more", len(odd)-i)
			break
		}
		if i > 0 {
			list += ", "
		}
		list += fmt.Sprintf("%s (%d pixels)", hex(c), count[c])
	}
	legend := ""
	for i, c := range p {
		if i > 0 {
			legend += ", "
		}
		legend += c.Name + " " + hex(c.Color)
	}
	return nil, fmt.Errorf("label: colours outside of the legend: %s; it has %s", list, legend)
}

// Nearest makes the map of any picture: the class whose colour has the least sum
// of squared differences, of equal ones the first. It panics on a palette
// without classes.
func (p Palette) Nearest(img *imageio.Image) *Map {
	if len(p) < 1 || len(p) > 256 {
		panic(fmt.Sprintf("label: Nearest: a palette of %d classes", len(p)))
	}
	m := New(img.Width, img.Height)
	for i := range m.IDs {
		c, best := img.Pix[3*i:][:3], 1<<30
		for k, e := range p {
			d := 0
			for ch, v := range e.Color {
				d += (int(v) - int(c[ch])) * (int(v) - int(c[ch]))
			}
			if d < best {
				m.IDs[i], best = uint8(k), d
			}
		}
	}
	return m
}

// NearestOf is Nearest of values as networks have them: float32 [3, H, W], with black at -1 and white at 1, and
// whatever lies beyond. What is not a number goes to class 0.
func (p Palette) NearestOf(v []float32, w, h int) *Map {
	if len(p) < 1 || len(p) > 256 || len(v) != 3*w*h {
		panic(fmt.Sprintf("label: NearestOf: a palette of %d classes, %d values for 3×%d×%d", len(p), len(v), w, h))
	}
	m, n := New(w, h), w*h
	for i := range m.IDs {
		best := math.Inf(1)
		for k, e := range p {
			var d float64
			for ch, c := range e.Color {
				off := float64(v[ch*n+i]) - (float64(c)/127.5 - 1)
				d += off * off
			}
			if d < best {
				m.IDs[i], best = uint8(k), d
			}
		}
	}
	return m
}

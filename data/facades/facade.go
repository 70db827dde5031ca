package facades

import (
	"fmt"
	"math"

	"github.com/fidlab/fidlab/data"
	"github.com/fidlab/fidlab/geom"
	"github.com/fidlab/fidlab/imageio"
)

// The canvas, the larger canvas around it, and a crop, in pixels.
const (
	Canvas = 96
	Wide   = 192
	Origin = (Canvas - Wide) / 2 // of the larger canvas: −48
	Crop   = 32
	centre = (Canvas - Crop) / 2 // of the fixed crop
)

// Where things may be: from the first row or column to before the last.
var (
	roofRows    = [2]int{4, 20}
	groundRows  = [2]int{76, 92}
	doorColumns = [2]int{24, 72}
)

// Color is an 8-bit RGB colour.
type Color [3]uint8

// Facade is the front of a building.
type Facade struct {
	Wall    Color    `json:"wall"`
	Window  Color    `json:"window"`
	Door    Color    `json:"door"`
	Py      int      `json:"py"` // height of a storey, width of a bay, before Scale
	Px      int      `json:"px"`
	PhY     int      `json:"ph_y"` // a boundary of storeys, and the first column of a window, in pixels
	PhX     int      `json:"ph_x"`
	WinW    int      `json:"win_w"` // size of a window, before Scale
	WinH    int      `json:"win_h"`
	DoorCol int      `json:"door_col"` // bay of the door, counted from PhX
	RoofY   int      `json:"roof_y"`   // first row of the building
	GroundY int      `json:"ground_y"` // first row of the pavement
	Sky     [2]Color `json:"sky"`      // at row −48 and at row 20
	Scale   int      `json:"scale"`
}

// draw makes a facade.
func draw(r *data.Stream) Facade {
	var f Facade
	f.Wall, f.Window = walls[r.Intn(len(walls))], windows[r.Intn(len(windows))]
	f.Door, f.Sky = doors[r.Intn(len(doors))], skies[r.Intn(len(skies))]
	f.Py, f.Px, f.Scale = r.Between(4, 8), r.Between(4, 8), r.Between(1, 2)
	f.WinW, f.WinH = r.Between(f.Px-2, f.Px-1), r.Between(f.Py-3, f.Py-2)
	py, px := f.Periods()
	f.PhY, f.PhX = r.Intn(py), r.Intn(px)
	one := func(from, to int) int { // of the boundaries of storeys in a range of rows
		first := from + ((f.PhY-from)%py+py)%py
		return first + py*r.Intn((to-1-first)/py+1)
	}
	f.RoofY = one(roofRows[0], roofRows[1])
	f.GroundY = one(groundRows[0], groundRows[1])
	first := (doorColumns[0] - f.PhX + px - 1) / px
	last := (doorColumns[1] - f.WinW*f.Scale - f.PhX) / px
	f.DoorCol = r.Between(first, last)
	return f
}

// fields are the fields, a byte each, in the order of the struct.
func (f *Facade) fields() []byte {
	b := make([]byte, 0, 25)
	for _, c := range []Color{f.Wall, f.Window, f.Door} {
		b = append(b, c[:]...)
	}
	for _, v := range []int{f.Py, f.Px, f.PhY, f.PhX, f.WinW, f.WinH, f.DoorCol, f.RoofY, f.GroundY} {
		b = append(b, byte(v))
	}
	b = append(append(b, f.Sky[0][:]...), f.Sky[1][:]...)
	return append(b, byte(f.Scale))
}

// Periods are the height of a storey and the width of a bay in pixels.
func (f *Facade) Periods() (py, px int) { return f.Py * f.Scale, f.Px * f.Scale }

// Kinds of pixels.
const (
	Wall uint8 = iota
	Window
	Door
	Sky
	Pavement
	kinds
)

// mod is the remainder of 0 to n−1.
func mod(a, n int) int { return (a%n + n) % n }

// Kind is what pixel (x, y) of the plane shows.
func (f *Facade) Kind(x, y int) uint8 {
	switch {
	case y < f.RoofY:
		return Sky
	case y >= f.GroundY:
		return Pavement
	}
	py, px := f.Periods()
	dy := mod(y-f.PhY, py)
	if mod(x-f.PhX, px) >= f.WinW*f.Scale || dy < f.Scale {
		return Wall
	}
	if door := f.PhX + f.DoorCol*px; y >= f.GroundY-py && x >= door && x < door+px {
		return Door
	}
	if dy < f.Scale+f.WinH*f.Scale {
		return Window
	}
	return Wall
}

// At is the colour of pixel (x, y) of the plane.
func (f *Facade) At(x, y int) Color {
	switch f.Kind(x, y) {
	case Window:
		return f.Window
	case Door:
		return f.Door
	case Sky:
		return f.skyAt(y)
	case Pavement:
		return pavement
	}
	return f.Wall
}

// skyAt is the ramp of the sky, rounded half up.
func (f *Facade) skyAt(y int) (c Color) {
	span := roofRows[1] - Origin
	t := max(0, min(span, y-Origin))
	for ch := range c {
		c[ch] = uint8((2*(int(f.Sky[0][ch])*(span-t)+int(f.Sky[1][ch])*t) + span) / (2 * span))
	}
	return c
}

// Draw is the part of the plane of w×h pixels from (x0, y0). It panics unless both
// are at least 1.
func (f *Facade) Draw(x0, y0, w, h int) *imageio.Image {
	if w < 1 || h < 1 {
		panic(fmt.Sprintf("facades: Draw: %d×%d pixels; want at least 1×1", w, h))
	}
	m := &imageio.Image{Width: w, Height: h, Pix: make([]uint8, 0, 3*w*h), Facts: imageio.Facts{Format: "raw", Decoder: name}}
	for y := range h {
		for x := range w {
			c := f.At(x0+x, y0+y)
			m.Pix = append(m.Pix, c[:]...)
		}
	}
	return m
}

// Sample is a rectangle of the plane, of any real place and size, as h×w pixels of
// float32 in [−1, 1], [3, h, w]: each the mean of the plane over its area. It is what
// a network that draws the rectangle at that resolution should draw. It panics
// unless sizes are positive and the rectangle lies within 10,000 pixels of the origin.
func (f *Facade) Sample(r geom.Rect, h, w int) []float32 {
	const far = 10000
	if !(r.H > 0 && r.W > 0 && r.Y >= -far && r.X >= -far && r.Y+r.H <= far && r.X+r.W <= far) || h < 1 || w < 1 {
		panic(fmt.Sprintf("facades: Sample: %v as %d×%d pixels; want positive sizes near the canvas", r, h, w))
	}
	rows, columns := parts(r.Y, r.H, h), parts(r.X, r.W, w)
	x := make([]float32, 3*h*w)
	for i, row := range rows {
		for j, column := range columns {
			var sum [3]float64
			for _, a := range row {
				for _, b := range column {
					c := f.At(b.at, a.at)
					for ch, v := range c {
						sum[ch] += float64(float64(a.share*b.share) * float64(v))
					}
				}
			}
			for ch, v := range sum {
				x[(ch*h+i)*w+j] = float32(v/127.5 - 1)
			}
		}
	}
	return x
}

// part is a share that a pixel of the plane has in one of the result.
type part struct {
	at    int
	share float64
}

// parts cuts a length from start into n equal parts, and each into pixels.
func parts(start, length float64, n int) [][]part {
	out := make([][]part, n)
	step := length / float64(n)
	for i := range out {
		a, b := start+float64(float64(i)*step), start+float64(float64(i+1)*step)
		for k := int(math.Floor(a)); float64(k) < b; k++ {
			if s := (min(b, float64(k+1)) - max(a, float64(k))) / (b - a); s > 0 {
				out[i] = append(out[i], part{k, s})
			}
		}
	}
	return out
}

package bases

import (
	"math"

	"github.com/fidlab/fidlab/imageio"
	"github.com/fidlab/fidlab/motion"
)

// A figure's picture: so many pixels a side, a metre so long, the floor so far above the lower edge.
const (
	stickSide  = 72
	stickMetre = 34.0
	stickFloor = 6.0
)

// stick draws joints as lines from joint to parent on white, seen from the front and to the left, with (x, z) in the middle: what is on the
// right side of the body is blue, on the left red, and the rest black. A gray line is the floor.
func stick(s *motion.Skeleton, joints []float64, x, z float64) *imageio.Image {
	m := &imageio.Image{Width: stickSide, Height: stickSide, Pix: make([]uint8, 3*stickSide*stickSide), Facts: imageio.Facts{Format: "raw", Decoder: "stick"}}
	for i := range m.Pix {
		m.Pix[i] = 255
	}
	floor := stickSide - stickFloor
	line(m, 0, floor, stickSide, floor, [3]uint8{190, 190, 190})
	place := func(j int) (px, py float64) {
		dx, dz := joints[3*j]-x, joints[3*j+2]-z
		return stickSide/2 + (dx-dz)*math.Sqrt2/2*stickMetre, floor - joints[3*j+1]*stickMetre
	}
	for j, p := range s.Parents {
		if p < 0 {
			continue
		}
		c := [3]uint8{}
		switch name := s.Joints[j]; {
		case len(name) > 4 && name[:4] == "left":
			c = [3]uint8{200, 30, 30}
		case len(name) > 5 && name[:5] == "right":
			c = [3]uint8{30, 60, 200}
		}
		x0, y0 := place(p)
		x1, y1 := place(j)
		line(m, x0, y0, x1, y1, c)
	}
	return m
}

// line draws a line of a pixel and a half with soft edges; what is outside the picture is left out.
func line(m *imageio.Image, x0, y0, x1, y1 float64, c [3]uint8) {
	const half = 0.75
	clip := func(v float64, most int) int { return int(math.Min(math.Max(v, 0), float64(most-1))) }
	for y := clip(math.Min(y0, y1)-2, m.Height); y <= clip(math.Max(y0, y1)+2, m.Height); y++ {
		for x := clip(math.Min(x0, x1)-2, m.Width); x <= clip(math.Max(x0, x1)+2, m.Width); x++ {
			px, py := float64(x)+0.5-x0, float64(y)+0.5-y0
			dx, dy := x1-x0, y1-y0
			at := 0.0
			if n := dx*dx + dy*dy; n > 0 {
				at = math.Min(math.Max((px*dx+py*dy)/n, 0), 1)
			}
			ink := math.Min(math.Max(half+0.5-math.Hypot(px-at*dx, py-at*dy), 0), 1)
			if !(ink > 0) { // also of joints that are not finite
				continue
			}
			for k, v := range c {
				p := &m.Pix[3*(y*m.Width+x)+k]
				*p = uint8(math.Round(float64(*p)*(1-ink) + float64(v)*ink))
			}
		}
	}
}

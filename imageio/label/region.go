package label

// Region is a set of pixels of one class.
type Region struct {
	ID     uint8
	Area   int     // pixels
	Box    [4]int  // x0, y0, x1, y1; x1 and y1 are one beyond
	CX, CY float64 // mean of the pixels' centres
}

// grow takes pixel (x, y) in; the centre is a sum until close.
func (r *Region) grow(x, y int) {
	if r.Area == 0 {
		r.Box = [4]int{x, y, x + 1, y + 1}
	}
	r.Box = [4]int{min(r.Box[0], x), min(r.Box[1], y), max(r.Box[2], x+1), max(r.Box[3], y+1)}
	r.Area++
	r.CX += float64(x) + 0.5
	r.CY += float64(y) + 0.5
}

func (r *Region) close() {
	r.CX /= float64(r.Area)
	r.CY /= float64(r.Area)
}

// Regions are the classes in the map other than 0, in their order, each with all
// of its pixels, connected or not.
func (m *Map) Regions() []Region {
	m.whole("Regions")
	var all [256]Region
	for i, v := range m.IDs {
		all[v].grow(i%m.W, i/m.W)
	}
	var out []Region
	for id := 1; id < len(all); id++ {
		if r := all[id]; r.Area > 0 {
			r.ID = uint8(id)
			r.close()
			out = append(out, r)
		}
	}
	return out
}

// Components are the connected regions of equal classes other than 0, in the
// order of their first pixel: pixels that share an edge are connected, and with
// eight also those that share a corner.
func Components(m *Map, eight bool) []Region {
	r, _ := ComponentMap(m, eight)
	return r
}

// ComponentMap is Components with, for every pixel, the index of its region, or
// −1 where the class is 0.
func ComponentMap(m *Map, eight bool) (regions []Region, of []int32) {
	m.whole("Components")
	of = make([]int32, len(m.IDs))
	for i := range of {
		of[i] = -1
	}
	var stack []int32
	for start, id := range m.IDs {
		if id == 0 || of[start] >= 0 {
			continue
		}
		k := int32(len(regions))
		r := Region{ID: id}
		of[start] = k
		stack = append(stack[:0], int32(start))
		for len(stack) > 0 {
			p := int(stack[len(stack)-1])
			stack = stack[:len(stack)-1]
			x, y := p%m.W, p/m.W
			r.grow(x, y)
			for dy := -1; dy <= 1; dy++ {
				for dx := -1; dx <= 1; dx++ {
					nx, ny := x+dx, y+dy
					if !eight && dx*dy != 0 || nx < 0 || ny < 0 || nx >= m.W || ny >= m.H {
						continue
					}
					if q := ny*m.W + nx; m.IDs[q] == id && of[q] < 0 {
						of[q] = k
						stack = append(stack, int32(q))
					}
				}
			}
		}
		r.close()
		regions = append(regions, r)
	}
	return regions, of
}

// Shape is what Dilate moves over a mask.
type Shape uint8

// The shapes of radius r.
const (
	Square Shape = iota // |dx| ≤ r and |dy| ≤ r
	Disc                // dx² + dy² ≤ r²
)

// Dilate is 1 wherever the shape, its centre on the pixel, touches a pixel of m
// other than 0; beyond the border there are none. Radius 0 makes the mask itself.
func Dilate(m *Map, s Shape, radius int) *Map {
	m.whole("Dilate")
	if radius < 0 {
		panic("label: Dilate: want a radius of 0 or more")
	}
	o := New(m.W, m.H)
	for dy := -radius; dy <= radius; dy++ {
		half := radius
		if s == Disc {
			for half*half+dy*dy > radius*radius {
				half--
			}
		}
		for y := max(0, -dy); y < min(m.H, m.H-dy); y++ {
			src, dst := m.IDs[(y+dy)*m.W:][:m.W], o.IDs[y*m.W:][:m.W]
			ahead := -1 // the last pixel set that is at most half beyond x
			for x, next := 0, 0; x < m.W; x++ {
				for ; next < m.W && next <= x+half; next++ {
					if src[next] != 0 {
						ahead = next
					}
				}
				if ahead >= 0 && ahead >= x-half {
					dst[x] = 1
				}
			}
		}
	}
	return o
}

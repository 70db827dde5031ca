package shapes

import (
	"math"

	"github.com/fidlab/fidlab/imageio"
)

// plane is a picture as the reader sees it, n×n pixels: of each the label and
// how much of the colour covers it.
type plane struct {
	n     int
	label []uint8
	pix   []float64 // chroma, three values a pixel
}

// hue is a colour's chroma: its unit vector and its length.
type hue struct {
	u [3]float64
	l float64
}

var hues = func() (h [Colors + 1]hue) {
	for c := 1; c <= Colors; c++ {
		rgb := Color(c).RGB()
		v := [3]float64{float64(rgb[0]), float64(rgb[1]), float64(rgb[2])}
		m := (v[0] + v[1] + v[2]) / 3
		for i := range v {
			v[i] -= m
			h[c].l += float64(v[i] * v[i])
		}
		h[c].l = math.Sqrt(h[c].l)
		for i := range v {
			h[c].u[i] = v[i] / h[c].l
		}
	}
	return h
}()

const (
	minCosine = 0.8 // between a pixel's chroma and its colour's
	minCover  = 0.5 - 1e-9
)

// covering is how much of colour c covers a pixel of the given chroma.
func covering(chroma []float64, c uint8) float64 {
	h := &hues[c]
	return min(1, max(0, (chroma[0]*h.u[0]+chroma[1]*h.u[1]+chroma[2]*h.u[2])/h.l))
}

// see labels n×n pixels of RGB.
func see(pix []float64, n int) *plane {
	p := &plane{n: n, label: make([]uint8, n*n), pix: pix}
	for i := range p.label {
		v := pix[3*i : 3*i+3 : 3*i+3]
		m := (v[0] + v[1] + v[2]) / 3
		v[0], v[1], v[2] = v[0]-m, v[1]-m, v[2]-m
		length := math.Sqrt(v[0]*v[0] + v[1]*v[1] + v[2]*v[2])
		best, at := minCosine*length, uint8(0) // the cosine times the length
		for c := uint8(1); c <= Colors; c++ {
			u := &hues[c].u
			if d := v[0]*u[0] + v[1]*u[1] + v[2]*u[2]; d > best {
				best, at = d, c
			}
		}
		if at > 0 && best/hues[at].l >= minCover {
			p.label[i] = at
		}
	}
	return p
}

// LabelMap is the colour class of every pixel, 0 for background: the class whose
// chroma has the greatest cosine with the pixel's, if that is over 0.8 and the
// colour covers half of the pixel or more. Blending with gray keeps the hue,
// so on scenes of this package it differs from Item.Seg at a few edges only.
func LabelMap(m *imageio.Image) []uint8 { return see(floats(m.Pix), m.Width).label }

func floats(pix []uint8) []float64 {
	v := make([]float64, len(pix))
	for i, b := range pix {
		v[i] = float64(b)
	}
	return v
}

// shrink averages k×k pixels of n×n pixels of RGB to one.
func shrink(pix []float64, n, k int) []float64 {
	if k == 1 {
		return pix
	}
	small := n / k
	out := make([]float64, 3*small*small)
	for y := range n {
		for x := range n {
			for c := range 3 {
				out[3*(y/k*small+x/k)+c] += pix[3*(y*n+x)+c] / float64(k*k)
			}
		}
	}
	return out
}

// enlarge doubles n×n pixels of RGB, linearly between the centres of pixels,
// constant beyond the outermost.
func enlarge(pix []float64, n int) []float64 {
	big := 2 * n
	out := make([]float64, 3*big*big)
	near := func(i int) (int, int) { // three quarters of one, a quarter of the other
		j := i/2 - 1
		if i%2 == 1 {
			j = i/2 + 1
		}
		return i / 2, min(n-1, max(0, j))
	}
	for y := range big {
		y0, y1 := near(y)
		for x := range big {
			x0, x1 := near(x)
			for c := range 3 {
				at := func(y, x int) float64 { return pix[3*(y*n+x)+c] }
				out[3*(y*big+x)+c] = 0.75*(0.75*at(y0, x0)+0.25*at(y0, x1)) + 0.25*(0.75*at(y1, x0)+0.25*at(y1, x1))
			}
		}
	}
	return out
}

// region is a four-connected component of one label.
type region struct {
	id    int // of owner
	color uint8
	area  int
	box   [4]int // half-open
}

const minArea = 24 // pixels of 32×32; smaller regions are noise

// regions finds the components of minArea pixels or more, in the order of their
// first pixel; owner is the component of every pixel, −1 for background.
func (p *plane) regions() (list []region, owner []int) {
	n := p.n
	owner = make([]int, n*n)
	for i := range owner {
		owner[i] = -1
	}
	var stack []int
	var real []bool
	id := 0
	for start, c := range p.label {
		if c == 0 || owner[start] >= 0 {
			continue
		}
		r := region{id: id, color: c, box: [4]int{n, n, 0, 0}}
		id++
		owner[start] = r.id
		stack = append(stack[:0], start)
		for len(stack) > 0 {
			i := stack[len(stack)-1]
			stack = stack[:len(stack)-1]
			x, y := i%n, i/n
			r.area++
			r.box = [4]int{min(r.box[0], x), min(r.box[1], y), max(r.box[2], x+1), max(r.box[3], y+1)}
			visit := func(j int) {
				if owner[j] < 0 && p.label[j] == c {
					owner[j] = r.id
					stack = append(stack, j)
				}
			}
			if x > 0 {
				visit(i - 1)
			}
			if x < n-1 {
				visit(i + 1)
			}
			if y > 0 {
				visit(i - n)
			}
			if y < n-1 {
				visit(i + n)
			}
		}
		if r.area >= minArea {
			list = append(list, r)
			real = append(real, true)
		} else {
			real = append(real, false)
		}
	}
	for i, o := range owner {
		if o >= 0 && !real[o] {
			owner[i] = -1
		}
	}
	return list, owner
}

// patch is the coverage map of a region in its box grown by two pixels, zero where
// another region is.
type patch struct {
	x0, y0, w, h int
	a            []float64
	cx, cy       float64 // the centre of gravity, in pixels of the plane
	sum2         float64 // of the squares
}

func (p *plane) patch(r region, owner []int) *patch {
	const grow = 2
	x0, y0 := max(0, r.box[0]-grow), max(0, r.box[1]-grow)
	x1, y1 := min(p.n, r.box[2]+grow), min(p.n, r.box[3]+grow)
	t := &patch{x0: x0, y0: y0, w: x1 - x0, h: y1 - y0, a: make([]float64, (x1-x0)*(y1-y0))}
	var sum, sx, sy float64
	for y := y0; y < y1; y++ {
		for x := x0; x < x1; x++ {
			i := y*p.n + x
			if l := p.label[i]; l != 0 && (l != r.color || owner[i] >= 0 && owner[i] != r.id) {
				continue
			}
			a := covering(p.pix[3*i:3*i+3], r.color)
			t.a[(y-y0)*t.w+x-x0] = a
			sum += a
			sx += a * (float64(x) + 0.5)
			sy += a * (float64(y) + 0.5)
			t.sum2 += a * a
		}
	}
	t.cx, t.cy = sx/sum, sy/sum // sum is half the area or more
	return t
}

package shapes

import (
	"cmp"
	"math"
	"slices"

	"github.com/fidlab/fidlab/imageio"
)

// Detection is an object that the reader found.
type Detection struct {
	Kind   Shape   // Unknown when the reader abstains
	Guess  Shape   // the best form in any case
	Color  Color   // certain: the hue
	Cx, Cy float64 // in pixels of the board
	R      float64
	Area   int     // pixels of its colour, of a board of 32
	Err    float64 // squared error of the best template over the area
	Margin float64 // error of the best template of another form over that; at most MaxMargin
}

// MaxMargin stands for an error of the best template of next to nothing.
const MaxMargin = 1e6

// Rule is when the reader is sure of a form.
type Rule struct{ MaxErr, MinMargin float64 }

// The rules: Usual for generated pictures, Strict where a wrong answer is worse
// than none.
var (
	Usual  = Rule{0.16, 1.05}
	Strict = Rule{0.08, 1.5}
)

// Read finds the objects of a scene in a picture of 32, 64, 128 or 256 pixels a
// side, in the order of their topmost pixels, by the usual rule. A larger picture is
// averaged to 32.
//
// Every colour's regions of four-connected pixels (LabelMap) of 24 pixels or more
// are objects. The coverage of the region's box grown by two pixels is compared
// with that of each shape, r from 4.5 to 7.5 by 0.25 and the centre up to half a
// pixel by 0.25 off the region's centre of gravity (of the triangle: r/6 above
// it); the smallest squared error wins. It never repairs a picture first. The
// error is an imageio.ErrInput when the picture has another size.
func Read(m *imageio.Image) ([]Detection, error) { return scenes.read(m, Usual) }

// ReadBy is Read by another rule.
func ReadBy(m *imageio.Image, rule Rule) ([]Detection, error) { return scenes.read(m, rule) }

// Read16 reads pictures of shapes16, 16 to 256 pixels a side: it enlarges 16
// pixels twofold and tries r from 5 to 9.
func Read16(m *imageio.Image) ([]Detection, error) { return small.read(m, Usual) }

// canvas is the picture as the reader's 32×32 pixels of RGB.
func (b *board) canvas(m *imageio.Image) ([]float64, error) {
	if err := b.checkSize(m); err != nil {
		return nil, err
	}
	pix := shrink(floats(m.Pix), m.Width, m.Width/b.side)
	if b.side == 16 {
		pix = enlarge(pix, 16)
	}
	return pix, nil
}

func (b *board) read(m *imageio.Image, rule Rule) ([]Detection, error) {
	pix, err := b.canvas(m)
	if err != nil {
		return nil, err
	}
	p := see(pix, 32)
	list, owner := p.regions()
	f := fitter{rMin: 4.5, rMax: 7.5}
	if b.side == 16 {
		f.rMin, f.rMax = 5, 9
	}
	out := []Detection{}
	for _, r := range list {
		d := f.fit(p.patch(r, owner))
		d.Color, d.Area = Color(r.color), r.area
		d.Err /= float64(r.area)
		if d.Kind = d.Guess; d.Err > rule.MaxErr || d.Margin < rule.MinMargin {
			d.Kind = Unknown
		}
		if b.side == 16 {
			d.Cx, d.Cy, d.R = d.Cx/2, d.Cy/2, d.R/2
		}
		out = append(out, d)
	}
	return out, nil
}

// fitter compares a patch with all templates.
type fitter struct {
	rMin, rMax float64
	counts     []uint8 // of 2×2 samples of every pixel that the template covers
}

const step = 0.25 // between radii and between centres

// offsets are the centres that are tried, the nearest first: of templates with the
// same samples, and so the same error, the one in the middle wins.
var offsets = func() (o [][2]float64) {
	for dy := -0.5; dy <= 0.5; dy += step {
		for dx := -0.5; dx <= 0.5; dx += step {
			o = append(o, [2]float64{dx, dy})
		}
	}
	slices.SortStableFunc(o, func(a, b [2]float64) int { return cmp.Compare(a[0]*a[0]+a[1]*a[1], b[0]*b[0]+b[1]*b[1]) })
	return o
}()

// fit is the best template: Guess, centre, R, Err not yet over the area, Margin.
func (f *fitter) fit(t *patch) Detection {
	if cap(f.counts) < len(t.a) {
		f.counts = make([]uint8, len(t.a))
	}
	f.counts = f.counts[:len(t.a)]
	var best [Shapes]Detection
	for k := range Shapes {
		best[k].Err = math.Inf(1)
		for r := f.rMin; r <= f.rMax; r += step {
			cy0 := t.cy
			if Shape(k) == Triangle {
				cy0 -= r / 6
			}
			for _, o := range offsets {
				if e := f.distance(t, Shape(k), t.cx+o[0], cy0+o[1], r); e < best[k].Err {
					best[k] = Detection{Guess: Shape(k), Cx: t.cx + o[0], Cy: cy0 + o[1], R: r, Err: e}
				}
			}
		}
	}
	win := 0
	for k := range best {
		if best[k].Err < best[win].Err {
			win = k
		}
	}
	second := math.Inf(1)
	for k := range best {
		if k != win {
			second = min(second, best[k].Err)
		}
	}
	d := best[win]
	d.Margin = min(MaxMargin, second/max(d.Err, 1e-9))
	return d
}

// distance is the squared error between the patch and the 2×2 sampled coverage of
// a shape: Σa² + Σ(T² − 2aT), T in quarters.
func (f *fitter) distance(t *patch, k Shape, cx, cy, r float64) float64 {
	clear(f.counts)
	x0, y0 := 2*(cx-float64(t.x0)), 2*(cy-float64(t.y0)) // in samples, of which j lies at j + ½
	first, last := max(0, int(y0-2*r-0.5)), min(2*t.h, int(y0+2*r+1.5))
	for j := first; j < last; j++ {
		w := halfWidth(k, (float64(j)+0.5-y0)/2, r)
		if w < 0 {
			continue
		}
		from, to := max(0, int(math.Ceil(x0-2*w-0.5))), min(2*t.w, int(math.Floor(x0+2*w-0.5))+1)
		row := f.counts[j/2*t.w : (j/2+1)*t.w]
		if from < to {
			if from&1 == 1 {
				row[from/2]++
				from++
			}
			if to&1 == 1 && to > from {
				to--
				row[to/2]++
			}
			for x := from / 2; x < to/2; x++ {
				row[x] += 2
			}
		}
	}
	e := t.sum2
	a := t.a[first/2*t.w:]
	for i, c := range f.counts[first/2*t.w : (last+1)/2*t.w] {
		v := quarters[c]
		e += v * (v - 2*a[i])
	}
	return max(0, e)
}

var quarters = [5]float64{0, 0.25, 0.5, 0.75, 1}

// halfWidth is half the width of the shape at height y, negative where it is not.
// All shapes are symmetric and one piece in every row.
func halfWidth(k Shape, y, r float64) float64 {
	ay := math.Abs(y)
	switch k {
	case Circle:
		if ay <= r {
			return math.Sqrt(r*r - y*y)
		}
	case Square:
		if ay <= 0.95*r {
			return 0.95 * r
		}
	case Triangle:
		if y >= -r && y <= 0.75*r {
			return (y + r) / 1.75
		}
	case Cross:
		switch {
		case ay <= 0.36*r:
			return r
		case ay <= r:
			return 0.36 * r
		}
	}
	return -1
}

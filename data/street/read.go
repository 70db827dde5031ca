package street

import (
	"github.com/fidlab/fidlab/data"
	"github.com/fidlab/fidlab/imageio"
	"github.com/fidlab/fidlab/imageio/label"
)

// Read finds the class of every pixel of a view, or of views side by side: the
// nearest (by squared difference, of equal ones the first) of all colours that a
// surface can have, over class, shade and tint, and of the sky's in that row. The
// light, day or night, is the one under which the picture is nearer to its colours
// as a whole.
func Read(img *imageio.Image) (cls *label.Map, night bool, err error) {
	if img == nil || img.Width < 1 || img.Height < 1 || len(img.Pix) != 3*img.Width*img.Height {
		return nil, false, data.Errorf("street: no whole picture; want a view of 16×32 pixels, or several side by side")
	}
	if s := img.Height / Rows; img.Height%Rows != 0 || s != 1 && s != 2 && s != 4 || img.Width%(Columns*s) != 0 {
		return nil, false, data.Errorf("street: the picture is %d×%d pixels; want 16, 32 or 64 rows and twice as many columns a view", img.Width, img.Height)
	}
	day, offDay := read(img, false)
	dark, offDark := read(img, true)
	if offDark < offDay {
		return dark, true, nil
	}
	return day, false, nil
}

// known is a colour that a surface can have.
type known struct {
	cls   uint8
	color [3]int
}

// surfaces are all colours by day and by night.
var surfaces = [2][]known{table(false), table(true)}

func table(night bool) (t []known) {
	for cls := Car; cls < Classes; cls++ {
		n := uint8(1)
		if cls <= Truck {
			n = tints
		}
		for tint := range n {
			for shade := range shades {
				t = append(t, known{cls, surface(cls, tint, shade, night)})
			}
		}
	}
	return t
}

// read takes one light for granted; off is the sum of squared differences.
func read(img *imageio.Image, night bool) (m *label.Map, off int) {
	t := surfaces[0]
	if night {
		t = surfaces[1]
	}
	m = label.New(img.Width, img.Height)
	for y := range img.Height {
		sky := skyColor(y, img.Height, night)
		for x := range img.Width {
			p := y*img.Width + x
			r, g, b := int(img.Pix[3*p]), int(img.Pix[3*p+1]), int(img.Pix[3*p+2])
			distance := func(c0, c1, c2 int) int { return (c0-r)*(c0-r) + (c1-g)*(c1-g) + (c2-b)*(c2-b) }
			best, cls := distance(int(sky[0]), int(sky[1]), int(sky[2])), Empty
			for i := range t {
				if d := distance(t[i].color[0], t[i].color[1], t[i].color[2]); d < best {
					best, cls = d, t[i].cls
				}
			}
			m.IDs[p] = cls
			off += best
		}
	}
	return m, off
}

// Overlap counts, for every class, the pixels that both maps give it and those that
// either does. The zero value is empty.
type Overlap struct{ Both, Either [Classes]int }

// Add takes in a map that was read and the true one. It panics when they differ in
// size or hold what is no class.
func (o *Overlap) Add(got, want *label.Map) {
	if got.W != want.W || got.H != want.H {
		panic("street: Overlap: the maps have different sizes")
	}
	for i, a := range got.IDs {
		b := want.IDs[i]
		o.Either[a]++
		if a == b {
			o.Both[a]++
		} else {
			o.Either[b]++
		}
	}
}

// Mean is the mean of the intersections over unions of the classes from first to
// last; classes that neither map has are left out, and without any it is 1.
func (o *Overlap) Mean(first, last uint8) float64 {
	sum, n := 0.0, 0
	for c := first; c <= last; c++ {
		if o.Either[c] > 0 {
			sum += float64(o.Both[c]) / float64(o.Either[c])
			n++
		}
	}
	if n == 0 {
		return 1
	}
	return sum / float64(n)
}

// Foreground and Background are the means over what moves and what does not; the
// sky counts to neither.
func (o *Overlap) Foreground() float64 { return o.Mean(Car, Pedestrian) }

// Background is the mean over Road to Tree.
func (o *Overlap) Background() float64 { return o.Mean(Road, Tree) }

// Size classes of a box in a view, by its visible pixels at scale 1.
const (
	Small  = iota // fewer than 8
	Medium        // 8 to 32
	Large         // more than 32
	Sizes
)

// SizeNames are their names.
var SizeNames = [Sizes]string{"<8 px", "8-32 px", ">32 px"}

// Recall is the share of a box's visible pixels in one view that were read as its
// class.
type Recall struct {
	Inst  uint8
	Size  int // Small, Medium, Large
	Share float64
}

// Recalls compares the classes that were read of a view with its truth, box by box.
func (f *Frame) Recalls(view int, got *label.Map) []Recall {
	v := &f.Views[view]
	if got.W != v.W || got.H != v.H {
		panic("street: Recalls: the map has another size than the view")
	}
	scale := (v.H / Rows) * (v.H / Rows)
	var out []Recall
	for _, b := range f.Boxes {
		seen, right := 0, 0
		for i, k := range v.Inst.IDs {
			if k == b.Inst {
				seen++
				if got.IDs[i] == b.Cls {
					right++
				}
			}
		}
		if seen == 0 {
			continue
		}
		size := Medium
		switch {
		case seen < 8*scale:
			size = Small
		case seen > 32*scale:
			size = Large
		}
		out = append(out, Recall{b.Inst, size, float64(right) / float64(seen)})
	}
	return out
}

// Seams is the share of rows in which the last column of a view and the first of
// the next one around have the same class. The columns are neighbours, not one and
// the same, so that it is below 1 for true views too: compare with theirs.
func Seams(cls [Views]*label.Map) float64 {
	same, n := 0, 0
	for v, m := range cls {
		next := cls[(v+1)%Views]
		for y := range m.H {
			n++
			if m.At(m.W-1, y) == next.At(0, y) {
				same++
			}
		}
	}
	return float64(same) / float64(n)
}

// Changes compares how the classes of clips change from frame to frame. The zero
// value is empty.
type Changes struct {
	True  int // pixels that change in the true clip
	Wrong int // pixels that change in one of the two and not in the other
}

// Add takes in one view of a clip as it was read, and the true one. It panics
// unless both have as many frames of one size.
func (c *Changes) Add(got, want []*label.Map) {
	if len(got) != len(want) {
		panic("street: Changes: clips of different lengths")
	}
	for t := 1; t < len(want); t++ {
		for i := range want[t].IDs {
			a := got[t].IDs[i] != got[t-1].IDs[i]
			b := want[t].IDs[i] != want[t-1].IDs[i]
			if b {
				c.True++
			}
			if a != b {
				c.Wrong++
			}
		}
	}
}

// Error is what changes wrongly as a share of what changes in truth: 1 for a clip
// that stands still. It is infinite when something changes where nothing should
// at all, so take in many clips before asking.
func (c *Changes) Error() float64 {
	if c.Wrong == 0 {
		return 0
	}
	return float64(c.Wrong) / float64(c.True)
}

package facades

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"

	"github.com/fidlab/fidlab/data"
	"github.com/fidlab/fidlab/imageio"
	"github.com/fidlab/fidlab/imageio/label"
)

// Smallest and Largest are the sides of a picture that the reader reads.
const (
	Smallest = 16
	Largest  = 1024
)

// Reading is what the reader reads of a picture, in its pixels. Periods, and phases
// and sizes with them, are 0 where no lag has a correlation of a half; where fewer
// than two periods are seen, what is read may be a shorter one by chance.
type Reading struct {
	Py      int `json:"py"`   // height of a storey
	Px      int `json:"px"`   // width of a bay
	PhY     int `json:"ph_y"` // first row of a window, 0 to Py−1
	PhX     int `json:"ph_x"` // first column of a window, 0 to Px−1
	WinH    int `json:"win_h"`
	WinW    int `json:"win_w"`
	RoofY   int `json:"roof_y"`   // first row that is no sky; −1: no sky is seen
	GroundY int `json:"ground_y"` // first row of the pavement; −1: none is seen
	DoorX   int `json:"door_x"`   // first column of the door; −1: none is seen
	DoorW   int `json:"door_w"`
}

// likeness is how well a row of sums must match itself after a period, as a share
// of the best match of all: the smallest such period is taken, not a multiple.
const likeness = 0.95

// faint is the least correlation that counts as a period.
const faint = 0.5

// Kinds finds what every pixel shows: the kind of the nearest of all colours of
// walls, windows, doors, pavement and skies, by squared difference, of equal ones
// the first.
func Kinds(img *imageio.Image) (*label.Map, error) {
	if img == nil {
		return nil, data.Errorf("facades: no picture; want a front of %d to %d pixels a side", Smallest, Largest)
	}
	if img.Width < Smallest || img.Height < Smallest || img.Width > Largest || img.Height > Largest {
		return nil, data.Errorf("facades: the picture is %d×%d pixels; want %d to %d a side", img.Width, img.Height, Smallest, Largest)
	}
	if len(img.Pix) != 3*img.Width*img.Height {
		return nil, data.Errorf("facades: the picture has %d bytes for %d×%d pixels; want three channels", len(img.Pix), img.Width, img.Height)
	}
	m := label.New(img.Width, img.Height)
	var last Color
	kind := nearestKind(last)
	for i := range m.IDs {
		if c := Color(img.Pix[3*i:]); c != last { // fronts are mostly runs of one colour
			last, kind = c, nearestKind(c)
		}
		m.IDs[i] = kind
	}
	return m, nil
}

// nearestKind looks through the colours that are known.
func nearestKind(c Color) uint8 {
	best, kind := 1<<30, Wall
	try := func(o Color, k uint8) {
		d := 0
		for ch := range o {
			d += (int(o[ch]) - int(c[ch])) * (int(o[ch]) - int(c[ch]))
		}
		if d < best {
			best, kind = d, k
		}
	}
	for _, o := range walls {
		try(o, Wall)
	}
	for _, o := range windows {
		try(o, Window)
	}
	for _, o := range doors {
		try(o, Door)
	}
	try(pavement, Pavement)
	for _, s := range ramps {
		for _, o := range s {
			try(o, Sky)
		}
	}
	return kind
}

// ramps are the skies in steps of an eighth.
var ramps = func() (out [len(skies)][9]Color) {
	for i, s := range skies {
		for k := range out[i] {
			for ch := range 3 {
				out[i][k][ch] = uint8((int(s[0][ch])*(8-k) + int(s[1][ch])*k + 4) / 8)
			}
		}
	}
	return out
}()

// Read reads a front. Roof: the rows of mostly sky from above. Ground: the rows of
// mostly pavement from below. Door: the longest run of columns with at least two
// pixels of door one below the other, and half as many as any column has. Periods: of the sums of window pixels over the rows between roof and ground,
// and over the columns, the lag of the greatest correlation of the sums with
// themselves; of lags almost as good the smallest. Phase and size: the sums folded to
// one period, cut at half of their greatest value; of several runs the longest.
func Read(img *imageio.Image) (Reading, error) {
	m, err := Kinds(img)
	if err != nil {
		return Reading{}, err
	}
	return ReadKinds(m), nil
}

// ReadKinds is Read of a map of kinds.
func ReadKinds(m *label.Map) Reading {
	r := Reading{RoofY: -1, GroundY: -1, DoorX: -1}
	mostly := func(y int, kind uint8) bool {
		n := 0
		for x := range m.W {
			if m.At(x, y) == kind {
				n++
			}
		}
		return 2*n > m.W
	}
	top, bottom := 0, m.H
	for top < m.H && mostly(top, Sky) {
		top++
	}
	for bottom > top && mostly(bottom-1, Pavement) {
		bottom--
	}
	if top > 0 {
		r.RoofY = top
	}
	if bottom < m.H {
		r.GroundY = bottom
	}
	rows, columns := make([]float64, bottom-top), make([]float64, m.W)
	door, run := make([]int, m.W), make([]int, m.W) // longest run of door in a column, and the present one
	for y := top; y < bottom; y++ {
		line := m.IDs[y*m.W:][:m.W]
		glass, wood := 0, 0
		for x, k := range line {
			switch k {
			case Window:
				glass++
			case Door:
				wood++
				run[x]++
				door[x] = max(door[x], run[x])
				continue
			}
			run[x] = 0
		}
		// A door stands for the window that it replaces, but not below the windows.
		if glass < wood {
			continue
		}
		for x, k := range line {
			if k == Window || k == Door {
				rows[y-top]++
				columns[x]++
			}
		}
	}
	enough := max(2, (slices.Max(door)+1)/2)
	for x := 0; x < m.W; x++ {
		n := 0
		for x+n < m.W && door[x+n] >= enough {
			n++
		}
		if n > r.DoorW {
			r.DoorX, r.DoorW = x, n
		}
		x += n
	}
	r.Py = period(rows)
	r.PhY, r.WinH = fold(rows, r.Py)
	if r.Py > 0 {
		r.PhY = (r.PhY + top) % r.Py
	}
	r.Px = period(columns)
	r.PhX, r.WinW = fold(columns, r.Px)
	return r
}

// period is the lag of 2 to half the length at which the sums are most alike, by
// Pearson's correlation; 0 when none is faintly so.
func period(s []float64) int {
	best := 0.0
	alike := make([]float64, len(s)/2+1)
	for lag := 2; lag < len(alike); lag++ {
		alike[lag] = correlation(s[:len(s)-lag], s[lag:])
		best = max(best, alike[lag])
	}
	for lag, v := range alike {
		if best >= faint && lag >= 2 && v >= likeness*best {
			return lag
		}
	}
	return 0
}

// correlation is Pearson's; 0 when one side is constant.
func correlation(a, b []float64) float64 {
	n := float64(len(a))
	var ma, mb, aa, bb, ab float64
	for i := range a {
		ma += a[i] / n
		mb += b[i] / n
	}
	for i := range a {
		aa += (a[i] - ma) * (a[i] - ma)
		bb += (b[i] - mb) * (b[i] - mb)
		ab += (a[i] - ma) * (b[i] - mb)
	}
	if aa*bb < 1e-12 {
		return 0
	}
	return ab / math.Sqrt(aa*bb)
}

// fold adds the sums up over one period and finds the longest run above half of the
// greatest: its start and its length. Without a period both are 0.
func fold(s []float64, period int) (start, length int) {
	if period == 0 {
		return 0, 0
	}
	mean, count := make([]float64, period), make([]float64, period)
	for i, v := range s {
		mean[i%period] += v
		count[i%period]++
	}
	top := 0.0
	for i := range mean {
		mean[i] /= count[i]
		top = max(top, mean[i])
	}
	in := func(i int) bool { return mean[mod(i, period)] > top/2 }
	for i := range mean {
		if !in(i) || in(i-1) {
			continue
		}
		n := 1
		for n < period && in(i+n) {
			n++
		}
		if n > length {
			start, length = i, n
		}
	}
	return start, length
}

// Expected is what Read should read of the w×h pixels of the facade from (x0, y0).
func (f *Facade) Expected(x0, y0, w, h int) Reading {
	r := Reading{RoofY: -1, GroundY: -1, DoorX: -1}
	top, bottom := max(0, f.RoofY-y0), min(h, f.GroundY-y0)
	if f.RoofY > y0 {
		r.RoofY = min(h, top)
	}
	if f.GroundY < y0+h {
		r.GroundY = max(0, bottom)
	}
	py, px := f.Periods()
	if seen := bottom - top; seen >= 2*py {
		r.Py, r.WinH = py, f.WinH*f.Scale
		r.PhY = mod(f.PhY+f.Scale-y0, py)
	}
	windows := false // in any row that is seen, but those of the ground storey's door
	for y := max(0, top); y < bottom; y++ {
		d := mod(y+y0-f.PhY, py)
		windows = windows || d >= f.Scale && d < f.Scale+f.WinH*f.Scale
	}
	if windows && w >= 2*px {
		r.Px, r.WinW = px, f.WinW*f.Scale
		r.PhX = mod(f.PhX-x0, px)
	}
	door := f.PhX + f.DoorCol*px - x0
	from, to := max(0, door), min(w, door+f.WinW*f.Scale)
	// Two rows of a column make a door for the reader.
	rows := min(h, f.GroundY-y0) - max(0, f.GroundY-py+f.Scale-y0)
	if from < to && rows >= 2 {
		r.DoorX, r.DoorW = from, to-from
	}
	return r
}

// check reads the first picture of an item, which must be its crop.
func check(g data.Given) (data.Check, error) {
	if len(g.Pictures) == 0 {
		return data.Check{}, data.Errorf("facades: no picture; want a crop of %d×%d pixels", Crop, Crop)
	}
	img := g.Pictures[0].Image
	if err := data.CheckImage(name, img, Crop, Crop); err != nil {
		return data.Check{}, err
	}
	r, err := Read(img)
	if err != nil {
		return data.Check{}, err
	}
	c := data.Check{OK: true, Read: r}
	c.Text = fmt.Sprintf("storeys of %d, bays of %d, windows %d×%d, roof %d, ground %d, door %d", r.Py, r.Px, r.WinW, r.WinH, r.RoofY, r.GroundY, r.DoorX)
	if g.Truth == nil {
		return c, nil
	}
	var t Truth
	if err := json.Unmarshal(g.Truth, &t); err != nil {
		return data.Check{}, data.Errorf("facades: truth: %w", err)
	}
	if t.Set != name {
		return data.Check{}, data.Errorf("facades: the truth is of the set %q; want one of facades", t.Set)
	}
	if err := t.Check(); err != nil {
		return data.Check{}, err
	}
	want := t.Expected(t.X, t.Y, Crop, Crop)
	add := func(name string, asked, right bool) {
		n := data.Count{Name: name}
		if asked {
			n.Of = 1
			if right {
				n.Hits = 1
			}
			c.OK = c.OK && right
		}
		c.Counts = append(c.Counts, n)
	}
	add("storey height", want.Py > 0, r.Py == want.Py)
	add("bay width", want.Px > 0, r.Px == want.Px)
	add("rows of windows", want.Py > 0, r.Py == want.Py && r.PhY == want.PhY && r.WinH == want.WinH)
	add("columns of windows", want.Px > 0, r.Px == want.Px && r.PhX == want.PhX && r.WinW == want.WinW)
	add("roof", true, r.RoofY == want.RoofY)
	add("ground", true, r.GroundY == want.GroundY)
	add("door", true, r.DoorX == want.DoorX && r.DoorW == want.DoorW)
	return c, nil
}

// Check refuses a facade that the rules can't draw.
func (f *Facade) Check() error {
	switch {
	case f.Py < 4 || f.Py > 8 || f.Px < 4 || f.Px > 8 || f.Scale < 1 || f.Scale > 2:
		return data.Errorf("facades: storeys of %d and bays of %d at scale %d; want 4 to 8, 4 to 8, 1 or 2", f.Py, f.Px, f.Scale)
	case f.WinW < f.Px-2 || f.WinW > f.Px-1 || f.WinH < f.Py-3 || f.WinH > f.Py-2:
		return data.Errorf("facades: windows of %d×%d in bays of %d×%d; want %d to %d × %d to %d", f.WinW, f.WinH, f.Px, f.Py, f.Px-2, f.Px-1, f.Py-3, f.Py-2)
	case mod(f.RoofY-f.PhY, f.Py*f.Scale) != 0 || mod(f.GroundY-f.PhY, f.Py*f.Scale) != 0 || f.RoofY >= f.GroundY:
		return data.Errorf("facades: roof at %d and ground at %d; want boundaries of storeys, %d modulo %d, the roof above", f.RoofY, f.GroundY, f.PhY, f.Py*f.Scale)
	}
	return nil
}

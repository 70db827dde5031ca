package street

import (
	"encoding/json"

	"github.com/fidlab/fidlab/data"
	"github.com/fidlab/fidlab/geom"
	"github.com/fidlab/fidlab/imageio"
	"github.com/fidlab/fidlab/imageio/label"
)

const (
	name      = "street"
	clipsName = "street-clips"
	version   = 1
)

// Options of a set. The zero value is the default.
type Options struct {
	Scale int    // of the views: 16·Scale×32·Scale pixels; 1 (also 0), 2 or 4
	View  string // "front", "right", "back", "left": the one view that Pictures gives; "" all four
}

func (o *Options) check() (scale, view int, err error) {
	scale, view = o.Scale, -1
	if scale == 0 {
		scale = 1
	}
	if scale != 1 && scale != 2 && scale != 4 {
		return 0, 0, data.Errorf("street: scale %d; want 1 (16×32 pixels), 2 or 4", scale)
	}
	for i, n := range ViewNames {
		if o.View == n {
			view = i
		}
	}
	if view < 0 && o.View != "" {
		return 0, 0, data.Unknown(name, "view", o.View, ViewNames[:])
	}
	return scale, view, nil
}

// Sizes of the splits, in the order of the documentation.
var (
	frameSplits = data.Sizes{{Split: data.Train, N: 3000}, {Split: data.Val, N: 300}, {Split: data.Test, N: 500}, {Split: data.Ref, N: 1024}, {Split: data.Enc, N: 2000}}
	clipSplits  = data.Sizes{{Split: data.Train, N: 600}, {Split: data.Test, N: 100}}
)

// generator is what both sets have.
type generator struct {
	set    string
	seed   uint64
	scale  int
	view   int // −1: all
	splits data.Sizes
}

// Name is "street" or "street-clips".
func (g *generator) Name() string { return g.set }

// Splits are train, val, test, ref and enc; of clips train and test.
func (g *generator) Splits() []data.Split { return g.splits.Splits() }

// Len is 3,000, 300, 500, 1,024 and 2,000 in the order of Splits; of clips 600 and 100.
func (g *generator) Len(split data.Split) int { return g.splits.Len(split) }

func (g *generator) world(split data.Split, i int) *world {
	r := data.NewStream(g.set, split, version, g.seed, uint64(i))
	return draw(&r)
}

// Set generates frames. It is safe for several goroutines.
type Set struct{ generator }

// New is the set of frames under a seed.
func New(seed uint64, o Options) (*Set, error) {
	scale, view, err := o.check()
	if err != nil {
		return nil, err
	}
	return &Set{generator{name, seed, scale, view, frameSplits}}, nil
}

// At is item i. It panics outside of the split.
func (s *Set) At(split data.Split, i int) *Frame {
	data.MustHave(s, split, i)
	f := s.world(split, i).frame(0, s.scale)
	f.view = s.view
	return f
}

// Without is item i without some of its boxes: those of whose numbers, Box.Inst, gone is true.
// All else is as it was. It panics outside of the split.
func (s *Set) Without(split data.Split, i int, gone func(inst uint8) bool) *Frame {
	data.MustHave(s, split, i)
	w := s.world(split, i)
	var left []body
	for n, b := range w.bodies {
		if !gone(uint8(n + 1)) {
			left = append(left, b)
		}
	}
	w.bodies = left
	f := w.frame(0, s.scale)
	f.view = s.view
	return f
}

// Clips generates clips. It is safe for several goroutines.
type Clips struct{ generator }

// NewClips is the set of clips under a seed.
func NewClips(seed uint64, o Options) (*Clips, error) {
	scale, view, err := o.check()
	if err != nil {
		return nil, err
	}
	return &Clips{generator{clipsName, seed, scale, view, clipSplits}}, nil
}

// Clip is an item of Clips: 8 frames, a quarter of a second apart.
type Clip struct {
	Frames [Frames]*Frame
	Speed  int // of the ego along x, metres a frame
}

// At is item i. It panics outside of the split.
func (s *Clips) At(split data.Split, i int) *Clip {
	data.MustHave(s, split, i)
	w := s.world(split, i)
	c := &Clip{Speed: w.speed}
	for t := range c.Frames {
		c.Frames[t] = w.frame(t, s.scale)
		c.Frames[t].view = s.view
	}
	return c
}

// Tensor are the views channels first, [12, H, W]: view v has the channels 3v to 3v+2.
func (f *Frame) Tensor() (x []float32, c, h, w int) {
	for v := range f.Views {
		h, w = f.Views[v].H, f.Views[v].W
		x = append(x, data.FromPixels(f.Views[v].Pix, 3, h, w)...)
	}
	return x, 3 * Views, h, w
}

// Tensor are those of the frames one after the other, [96, H, W].
func (c *Clip) Tensor() (x []float32, ch, h, w int) {
	for _, f := range c.Frames {
		y, n, fh, fw := f.Tensor()
		x, ch, h, w = append(x, y...), ch+n, fh, fw
	}
	return x, ch, h, w
}

// Legend are the colours of classes in pictures of them.
var Legend = legend()

func legend() label.Palette {
	p := make(label.Palette, Classes)
	for i := range p {
		c := palette[i]
		p[i] = label.Class{Name: ClassNames[i], Color: [3]uint8{uint8(c[0]), uint8(c[1]), uint8(c[2])}}
	}
	return p
}

// strip lays the views out from left to right, front, right, back, left; or the one
// that the set was asked for.
func (f *Frame) strip(pix func(v *View) []uint8) *imageio.Image {
	first, n := 0, Views
	if f.view >= 0 {
		first, n = f.view, 1
	}
	h, w := f.Views[0].H, f.Views[0].W
	m := &imageio.Image{Width: n * w, Height: h, Pix: make([]uint8, 0, 3*n*w*h), Facts: imageio.Facts{Format: "raw", Decoder: name}}
	views := make([][]uint8, n)
	for i := range views {
		views[i] = pix(&f.Views[first+i])
	}
	for y := range h {
		for _, v := range views {
			m.Pix = append(m.Pix, v[3*y*w:3*(y+1)*w]...)
		}
	}
	return m
}

func classPixels(v *View) []uint8 {
	img, err := Legend.Picture(v.Cls)
	if err != nil {
		panic(err) // classes of our own making
	}
	return img.Pix
}

// Pictures are the views side by side, and "class", their classes in the colours of
// Legend.
func (f *Frame) Pictures() []data.Picture {
	return []data.Picture{{Image: f.strip(func(v *View) []uint8 { return v.Pix })}, {Name: "class", Image: f.strip(classPixels)}}
}

// Pictures are those of the frames, one below the other.
func (c *Clip) Pictures() []data.Picture {
	var out []data.Picture
	for _, f := range c.Frames {
		for i, p := range f.Pictures() {
			if len(out) == i {
				out = append(out, data.Picture{Name: p.Name, Image: &imageio.Image{Width: p.Image.Width, Facts: p.Image.Facts}})
			}
			out[i].Image.Height += p.Image.Height
			out[i].Image.Pix = append(out[i].Image.Pix, p.Image.Pix...)
		}
	}
	return out
}

// Truth is what the JSON line of a frame holds.
type Truth struct {
	Set     string        `json:"set"`
	Night   bool          `json:"night"`
	Caption string        `json:"caption"`
	Boxes   []Box         `json:"boxes"`
	Lanes   [][]float64   `json:"lanes"` // of each x0, y0, x1, y1, …
	Cams    []TruthCamera `json:"cams"`
	Occ     []byte        `json:"occ"` // [32, 32, 4], x, y, z
}

// TruthCamera is a camera in Truth.
type TruthCamera struct {
	Name string      `json:"name"`
	K    [9]float64  `json:"k"`
	Rt   [12]float64 `json:"rt"`
}

// ClipTruth is what the JSON line of a clip holds.
type ClipTruth struct {
	Set    string  `json:"set"`
	Speed  int     `json:"speed"`
	Frames []Truth `json:"frames"`
}

// Truth returns it as a Truth.
func (f *Frame) Truth() any {
	o := Truth{Set: name, Night: f.Night, Caption: f.Caption, Boxes: f.Boxes}
	for _, l := range f.Lanes {
		var flat []float64
		for _, p := range l {
			flat = append(flat, p.X, p.Y)
		}
		o.Lanes = append(o.Lanes, flat)
	}
	for i, c := range f.Cams {
		o.Cams = append(o.Cams, TruthCamera{ViewNames[i], c.K, c.Rt})
	}
	for i := range f.Occ {
		for j := range f.Occ[i] {
			o.Occ = append(o.Occ, f.Occ[i][j][:]...)
		}
	}
	return o
}

// Truth returns it as a ClipTruth.
func (c *Clip) Truth() any {
	o := ClipTruth{Set: clipsName, Speed: c.Speed}
	for _, f := range c.Frames {
		o.Frames = append(o.Frames, f.Truth().(Truth))
	}
	return o
}

// Bytes are the pixels, classes, instances and depths of the views, the tokens, and
// the truth as JSON.
func (f *Frame) Bytes() []byte {
	var b []byte
	for v := range f.Views {
		w := &f.Views[v]
		b = append(append(append(b, w.Pix...), w.Cls.IDs...), w.Inst.IDs...)
		b = appendFloats(b, w.Depth)
	}
	b = append(b, f.Tokens[:]...)
	j, err := json.Marshal(f.Truth())
	if err != nil {
		panic(err)
	}
	return append(b, j...)
}

// Bytes are those of the frames.
func (c *Clip) Bytes() []byte {
	var b []byte
	for _, f := range c.Frames {
		b = append(b, f.Bytes()...)
	}
	return append(b, uint8(c.Speed))
}

// camera is the truth's as geom has it.
func (c *TruthCamera) camera() geom.Camera { return geom.Camera{K: c.K, Rt: c.Rt} }

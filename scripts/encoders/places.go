package main

import (
	"math"
	"slices"

	"github.com/fidlab/fidlab/data"
	"github.com/fidlab/fidlab/data/city"
	"github.com/fidlab/fidlab/data/facades"
	"github.com/fidlab/fidlab/data/street"
	"github.com/fidlab/fidlab/fid/extract"
	"github.com/fidlab/fidlab/imageio"
	"github.com/fidlab/fidlab/imageio/label"
)

// cityTask is the encoder of footprints of 32×32.
func cityTask(name string) *task {
	const bins = 8 // of orientations
	t := &task{
		name: name, set: "city", net: body(1, 32, 32), recipe: usual,
		heads: []extract.Head{
			{Name: "city", Kind: extract.Class, N: len(city.Places)}, {Name: "orientation", Kind: extract.Class, N: bins},
			{Name: "coverage", Kind: extract.Number, N: 1}, {Name: "components", Kind: extract.Number, N: 1}, {Name: "land use", Kind: extract.Number, N: 5},
		},
	}
	t.recipe.Epochs = 5
	t.open = func() (source, error) {
		set, err := city.New(data.DefaultSeed, 32)
		if err != nil {
			return source{}, err
		}
		s := source{len: set.Len, train: data.Enc, test: data.Test, ref: data.Ref}
		s.picture = func(split data.Split, i int) *imageio.Image { return set.At(split, i).Pictures()[0].Image }
		s.answers = func(split data.Split, i int) [][]float32 {
			tile := set.At(split, i)
			m, err := city.Measure(tile.Building, tile.Road)
			if err != nil {
				panic(err) // rasters of the set's making
			}
			out := []float32{float32(tile.City), float32(int(m.Orientation/(90/bins)+0.5) % bins), float32(4 * m.Coverage), float32(m.Components) / 8}
			land := make([]float32, 5)
			for _, v := range tile.Land.IDs {
				land[v] += 1 / float32(len(tile.Land.IDs))
			}
			return [][]float32{append(out, land...)}
		}
		s.damages = append(pixelDamages(s.picture),
			damage{"buildings dropped", shares, "share of connected pieces", func(split data.Split, i int, level float64) *imageio.Image {
				m := s.picture(split, i)
				covered := label.New(m.Width, m.Height)
				for p := range covered.IDs {
					if m.Pix[3*p] >= city.Threshold {
						covered.IDs[p] = 1
					}
				}
				_, piece := label.ComponentMap(covered, false)
				out := &imageio.Image{Width: m.Width, Height: m.Height, Pix: slices.Clone(m.Pix), Facts: m.Facts}
				for p, k := range piece {
					if k >= 0 && uniform("drop", i, int(k)) < level {
						out.Pix[3*p], out.Pix[3*p+1], out.Pix[3*p+2] = 0, 0, 0
					}
				}
				return out
			}},
			moved(s.picture, 1, 0, 2, 4, 8, 16), exchanged(s.picture, 1, set.Len), withoutClasses(s.picture, set.Label, set.Len, 0, 2, 4, 6, 8))
		return s, nil
	}
	return t
}

// streetTask is the encoder of single views of 16×32.
func streetTask(name string) *task {
	t := &task{
		name: name, set: "street", net: body(3, street.Rows, street.Columns), views: street.Views, recipe: usual,
		heads: []extract.Head{
			{Name: "light", Kind: extract.Class, N: 2}, {Name: "camera", Kind: extract.Class, N: street.Views},
			{Name: "classes", Kind: extract.Number, N: int(street.Classes)}, {Name: "boxes", Kind: extract.Number, N: 3},
		},
	}
	t.recipe.Epochs = 5
	t.open = func() (source, error) {
		set, err := street.New(data.DefaultSeed, street.Options{})
		if err != nil {
			return source{}, err
		}
		s := source{len: set.Len, train: data.Enc, test: data.Test, ref: data.Ref}
		s.picture = func(split data.Split, i int) *imageio.Image { return set.At(split, i).Pictures()[0].Image }
		s.answers = func(split data.Split, i int) [][]float32 {
			f := set.At(split, i)
			var out [][]float32
			for v := range f.Views {
				out = append(out, viewAnswers(f, v))
			}
			return out
		}
		s.damages = append(pixelDamages(s.picture),
			damage{"boxes dropped", shares, "share of cars, trucks and pedestrians", func(split data.Split, i int, level float64) *imageio.Image {
				return set.Without(split, i, func(inst uint8) bool { return uniform("drop", i, int(inst)) < level }).Pictures()[0].Image
			}},
			moved(s.picture, street.Views, 0, 2, 4, 8, 16), exchanged(s.picture, street.Views, set.Len))
		return s, nil
	}
	return t
}

// viewAnswers are the answers for a view of a frame: light, camera, shares of the pixels by class
// (times 2) and how many boxes of each class are seen (over 2).
func viewAnswers(f *street.Frame, v int) []float32 {
	out := make([]float32, 2+int(street.Classes)+3)
	if f.Night {
		out[0] = 1
	}
	out[1] = float32(v)
	view := &f.Views[v]
	seen := map[uint8]bool{}
	for p, c := range view.Cls.IDs {
		out[2+c] += 2 / float32(len(view.Cls.IDs))
		if k := view.Inst.IDs[p]; k != 0 && !seen[k] {
			seen[k] = true
			out[2+street.Classes+c-1] += 0.5
		}
	}
	return out
}

// facadeTask is the encoder of crops of facades.
func facadeTask(name string) *task {
	const edge = 32
	walls := facades.Walls()
	t := &task{
		name: name, set: "facades", net: body(3, edge, edge), recipe: usual,
		heads: []extract.Head{
			{Name: "wall", Kind: extract.Class, N: len(walls)}, {Name: "storey", Kind: extract.Class, N: len(periods)}, {Name: "bay", Kind: extract.Class, N: len(periods)},
			{Name: "window", Kind: extract.Number, N: 2}, {Name: "kinds", Kind: extract.Number, N: 5}, {Name: "roof", Kind: extract.Number, N: 1}, {Name: "door", Kind: extract.Number, N: 2},
			{Name: "wall and storey", Kind: extract.Class, N: len(walls) * periodChoices},
		},
	}
	t.recipe.Epochs = 80
	t.open = func() (source, error) {
		set := facades.New(data.DefaultSeed)
		s := source{len: set.Len, train: data.Enc, test: data.Test, ref: data.Ref}
		s.picture = func(split data.Split, i int) *imageio.Image { return set.At(split, i).Image() }
		s.answers = func(split data.Split, i int) [][]float32 { return [][]float32{facadeAnswers(set.At(split, i), walls)} }
		s.damages = append(pixelDamages(s.picture),
			damage{"windows dropped", shares, "share of windows", func(split data.Split, i int, level float64) *imageio.Image {
				it := set.At(split, i)
				m := it.Image()
				out := &imageio.Image{Width: m.Width, Height: m.Height, Pix: slices.Clone(m.Pix), Facts: m.Facts}
				py, px := it.Facade.Periods()
				for p := range m.Width * m.Height {
					x, y := it.X+p%m.Width, it.Y+p/m.Width
					// a storey and a bay have one number each, whichever their sign
					at := (y-it.Facade.PhY+64*py)/py<<8 | (x-it.Facade.PhX+64*px)/px
					if it.Facade.Kind(x, y) == facades.Window && uniform("drop", i, at) < level {
						copy(out.Pix[3*p:], it.Facade.Wall[:])
					}
				}
				return out
			}},
			moved(s.picture, 1, 0, 2, 4, 8, 16), exchanged(s.picture, 1, set.Len),
			damage{"walls bound to storeys", shares, "share of facades", func(split data.Split, i int, level float64) *imageio.Image {
				it := set.At(split, i)
				if uniform("bind", i, 0) >= level {
					return it.Image()
				}
				f := it.Facade
				f.Wall = walls[int((float64(f.Py-leastPeriod)+uniform("wall", i, 0))*float64(len(walls))/periodChoices)]
				return f.Draw(it.X, it.Y, m32, m32)
			}})
		return s, nil
	}
	return t
}

// m32 is the side of a crop.
const m32 = facades.Crop

// Before the scale, heights of storeys and widths of bays are one of periodChoices from leastPeriod on.
const leastPeriod, periodChoices = 4, 5

// periods are the heights of storeys and widths of bays that facades have, in pixels.
var periods = []int{4, 5, 6, 7, 8, 10, 12, 14, 16}

// facadeAnswers are wall, height of a storey and width of a bay, width and height of a window (both
// over 8 pixels), shares of the pixels by kind (times 2), rows of sky (over 16), whether the
// door is seen and in which column (over 16), and wall and storey together, before the scale.
func facadeAnswers(it *facades.Item, walls []facades.Color) []float32 {
	f := &it.Facade
	py, px := f.Periods()
	out := []float32{float32(slices.Index(walls, f.Wall)), float32(slices.Index(periods, py)), float32(slices.Index(periods, px)), float32(f.WinW*f.Scale) / 8, float32(f.WinH*f.Scale) / 8}
	kinds := make([]float32, 5)
	first := -1
	for p := range m32 * m32 {
		k := f.Kind(it.X+p%m32, it.Y+p/m32)
		kinds[k] += 2.0 / (m32 * m32)
		if k == facades.Door && (first < 0 || p%m32 < first) {
			first = p % m32
		}
	}
	out = append(out, kinds...)
	out = append(out, float32(math.Min(m32, math.Max(0, float64(f.RoofY-it.Y))))/16)
	door := []float32{0, 0}
	if first >= 0 {
		door = []float32{1, float32(first) / 16}
	}
	return append(append(out, door...), float32(slices.Index(walls, f.Wall)*periodChoices+f.Py-leastPeriod))
}

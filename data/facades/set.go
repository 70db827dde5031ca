package facades

import (
	"encoding/json"

	"github.com/fidlab/fidlab/data"
	"github.com/fidlab/fidlab/imageio"
)

const (
	name    = "facades"
	version = 1
)

var splits = data.Sizes{{Split: data.Train, N: 20000}, {Split: data.Val, N: 500}, {Split: data.Test, N: 2000}, {Split: data.Ref, N: 4096}, {Split: data.Enc, N: 8000}}

// Set generates items. It is safe for several goroutines.
type Set struct{ seed uint64 }

// New is the set under a seed.
func New(seed uint64) *Set { return &Set{seed} }

// Name is "facades".
func (s *Set) Name() string { return name }

// Splits are train, val, test, ref and enc.
func (s *Set) Splits() []data.Split { return splits.Splits() }

// Len is 20,000, 500, 2,000, 4,096 and 8,000, in the order of Splits.
func (s *Set) Len(split data.Split) int { return splits.Len(split) }

// Item is a facade and a crop of it.
type Item struct {
	Facade Facade
	X, Y   int     // of the crop's corner on the canvas
	Pix    []uint8 // [32, 32, 3]
}

// At is item i. It panics outside of the split.
func (s *Set) At(split data.Split, i int) *Item {
	data.MustHave(s, split, i)
	r := data.NewStream(name, split, version, s.seed, uint64(i))
	for {
		it := &Item{Facade: drawFor(&r, split), X: centre, Y: centre}
		if split == data.Train || split == data.Enc {
			it.Y = r.Between(0, Canvas-Crop)
			it.X = r.Between(0, Canvas-Crop)
		}
		it.Pix = it.Facade.Draw(it.X, it.Y, Crop, Crop).Pix
		if owner(it.Pix) == split {
			return it
		}
	}
}

// owner is the split that may show these bytes: their hash modulo the number of splits.
func owner(b []byte) data.Split { return splits[data.FNV1a(string(b))%uint64(len(splits))].Split }

// drawFor draws facades until one belongs to the split.
func drawFor(r *data.Stream, split data.Split) Facade {
	for {
		if f := draw(r); owner(f.fields()) == split {
			return f
		}
	}
}

// Image is the crop.
func (it *Item) Image() *imageio.Image {
	return &imageio.Image{Width: Crop, Height: Crop, Pix: it.Pix, Facts: imageio.Facts{Format: "raw", Decoder: name}}
}

// Tensor is the crop, [3, 32, 32].
func (it *Item) Tensor() (x []float32, c, h, w int) {
	return data.FromPixels(it.Pix, 3, Crop, Crop), 3, Crop, Crop
}

// Pictures are the crop, and "canvas", all 96×96 pixels.
func (it *Item) Pictures() []data.Picture {
	return []data.Picture{{Image: it.Image()}, {Name: "canvas", Image: it.Facade.Draw(0, 0, Canvas, Canvas)}}
}

// Truth is what the JSON line of an item holds.
type Truth struct {
	Set string `json:"set"`
	Facade
	X int `json:"x"`
	Y int `json:"y"`
}

// Truth returns it as a Truth.
func (it *Item) Truth() any { return Truth{name, it.Facade, it.X, it.Y} }

// Bytes are the crop, the larger canvas and the truth as JSON.
func (it *Item) Bytes() []byte {
	b := append([]byte(nil), it.Pix...)
	b = append(b, it.Facade.Draw(Origin, Origin, Wide, Wide).Pix...)
	j, err := json.Marshal(it.Truth())
	if err != nil {
		panic(err)
	}
	return append(b, j...)
}

// Entry is the set in the list of the command line.
var Entry = data.Entry{
	Name:   name,
	Golden: golden,
	About:  "fronts of buildings, crops of 32×32 of a canvas that is known everywhere, for out-painting",
	Open: func(seed uint64, options map[string]string) (data.Served, error) {
		for k := range options {
			return nil, data.Unknown(name, "option", k, []string{"n", "from", "seed"})
		}
		s := New(seed)
		return data.Serve(s, check), nil
	},
}

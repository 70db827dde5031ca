package shapes

import (
	"encoding/json"
	"iter"
	"maps"

	"github.com/fidlab/fidlab/data"
	"github.com/fidlab/fidlab/imageio"
)

// Item is a scene and its picture.
type Item struct {
	*Scene
	Split data.Split
	Index int     // in the whole split
	Pix   []uint8 // [size, size, channels], row by row
	Mask  []uint8 // [size, size]: k+1 where object k covers half of the pixel or more, else 0
	Seg   []uint8 // [size, size]: the colour class there
	set   *Set
}

// Forms is [size, size]: 1 + the Shape of the object that covers half of the pixel or more, else 0.
func (it *Item) Forms() []uint8 {
	out := make([]uint8, len(it.Mask))
	for i, k := range it.Mask {
		if k > 0 {
			out[i] = 1 + uint8(it.Objects[k-1].Kind)
		}
	}
	return out
}

// Tensor is the picture in [-1,1], [channels, size, size].
func (it *Item) Tensor() (x []float32, c, h, w int) {
	c, n := it.set.Channels(), it.set.size
	return data.FromPixels(it.Pix, c, n, n), c, n, n
}

// Image is the picture as RGB; without colour the channel is repeated.
func (it *Item) Image() *imageio.Image {
	n := it.set.size
	m := &imageio.Image{Width: n, Height: n, Pix: it.Pix}
	m.Facts = imageio.Facts{Format: "raw", Decoder: it.set.board.set}
	if it.set.Channels() == 1 {
		m.Facts.Gray = true
		m.Pix = make([]uint8, 3*n*n)
		for i, v := range it.Pix {
			m.Pix[3*i], m.Pix[3*i+1], m.Pix[3*i+2] = v, v, v
		}
	} else {
		m.Pix = append([]uint8(nil), it.Pix...) // the image is the caller's
	}
	return m
}

// Pictures is the picture.
func (it *Item) Pictures() []data.Picture { return []data.Picture{{Image: it.Image()}} }

// Truth is the scene in words and numbers.
func (it *Item) Truth() any { return it.truth() }

// truth is how a scene is written as JSON.
type truth struct {
	Set        string        `json:"set"`
	Split      data.Split    `json:"split"`
	Index      int           `json:"index"`
	Seed       uint64        `json:"seed"`
	Size       int           `json:"size"`
	Style      string        `json:"style"`
	Texture    string        `json:"texture"`
	Caption    string        `json:"caption"`
	Tokens     []int         `json:"tokens"`
	Relation   string        `json:"relation,omitempty"`
	Cell       string        `json:"cell,omitempty"`
	Objects    []truthObject `json:"objects"`
	Background truthBg       `json:"background"`
}

type truthObject struct {
	Shape string  `json:"shape"`
	Glyph string  `json:"glyph,omitempty"`
	Color string  `json:"color"`
	Cx    float64 `json:"cx"`
	Cy    float64 `json:"cy"`
	R     float64 `json:"r"`
	Box   [4]int  `json:"box"`
}

type truthBg struct {
	Kind   string `json:"kind"`
	Level  int    `json:"level"`
	Period int    `json:"period"`
}

func (it *Item) truth() truth {
	o := it.set.opt
	t := truth{
		Set: it.set.board.set, Split: it.Split, Index: it.Index, Seed: it.set.seed, Size: it.set.size, Style: o.Style.String(), Texture: o.Texture.String(),
		Caption: it.Caption, Background: truthBg{it.Bg.Kind.String(), it.Bg.Level, it.Bg.Period},
	}
	for _, id := range it.Tokens {
		t.Tokens = append(t.Tokens, int(id))
	}
	if it.Relation != NoRel {
		t.Relation = it.Relation.String()
	}
	if it.Cell != NoCell {
		t.Cell = rowWords[it.Cell/3] + " " + colWords[it.Cell%3]
	}
	for i := range it.Objects {
		o := &it.Objects[i]
		to := truthObject{Shape: o.Kind.String(), Color: o.Color.String(), Cx: o.Cx, Cy: o.Cy, R: o.R, Box: o.Box}
		if o.Kind == Glyph {
			to.Glyph = Noun(o.Glyph)
		}
		t.Objects = append(t.Objects, to)
	}
	return t
}

// Bytes are Pix, Mask, Seg and the truth as JSON.
func (it *Item) Bytes() []byte {
	b := append([]byte(nil), it.Pix...)
	b = append(append(b, it.Mask...), it.Seg...)
	j, err := json.Marshal(it.truth())
	if err != nil {
		panic("shapes: " + err.Error()) // strings and finite numbers always marshal
	}
	return append(b, j...)
}

func keys(m map[string]string) iter.Seq[string] { return maps.Keys(m) }

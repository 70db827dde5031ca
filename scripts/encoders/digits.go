package main

import (
	"github.com/fidlab/fidlab/data"
	"github.com/fidlab/fidlab/data/digits"
	"github.com/fidlab/fidlab/fid/extract"
	"github.com/fidlab/fidlab/imageio"
	"github.com/fidlab/fidlab/nn/tower"
)

// digitsTask is the encoder of digits of 8×8. There is no split enc: it learns from train, and the
// floors tell whether it prefers that.
func digitsTask(name string) *task {
	t := &task{
		name: name, set: "digits", recipe: usual,
		net:   tower.EncoderConfig{Channels: 1, Height: digits.Side, Width: digits.Side, Widths: []int{32, 64, 64}, Steps: []int{1, 2, 2}, Dim: 64},
		heads: []extract.Head{{Name: "digit", Kind: extract.Class, N: 10}},
	}
	t.recipe.Shift, t.recipe.Epochs = 1, 2
	t.open = func() (source, error) {
		set, err := digits.New()
		if err != nil {
			return source{}, err
		}
		s := source{len: set.Len, train: data.Train, test: data.Test, ref: data.Train}
		s.picture = func(split data.Split, i int) *imageio.Image { return set.At(split, i).Image() }
		s.answers = func(split data.Split, i int) [][]float32 { return [][]float32{{float32(set.Label(split, i))}} }
		s.damages = append(pixelDamages(s.picture), moved(s.picture, 1, 0, 1, 2, 3, 4), exchanged(s.picture, 1, set.Len), withoutClasses(s.picture, set.Label, set.Len, 0, 1, 2, 4, 6, 8))
		return s, nil
	}
	return t
}

package main

import (
	"math"

	"github.com/fidlab/fidlab/data"
	"github.com/fidlab/fidlab/data/shapes"
	"github.com/fidlab/fidlab/fid/extract"
	"github.com/fidlab/fidlab/imageio"
)

// shapesTask is an encoder of the scenes of 32×32.
func shapesTask(name string) *task {
	t := &task{
		name: name, set: "shapes", net: body(3, 32, 32), recipe: usual,
		heads: []extract.Head{
			{Name: "count", Kind: extract.Class, N: 3}, {Name: "colours", Kind: extract.Flags, N: shapes.Colors},
			{Name: "pairs", Kind: extract.Flags, N: shapes.Shapes * shapes.Colors}, {Name: "cells", Kind: extract.Flags, N: 9},
			{Name: "background", Kind: extract.Class, N: 4}, {Name: "level", Kind: extract.Class, N: 4},
		},
	}
	t.open = func() (source, error) { return sceneSource(shapes.New(data.DefaultSeed), 32, false), nil }
	return t
}

// shapes16Task is an encoder of the single objects of 16×16.
func shapes16Task(name string) *task {
	t := &task{
		name: name, set: "shapes16", net: body(3, 16, 16), recipe: usual,
		heads: []extract.Head{
			{Name: "shape", Kind: extract.Class, N: shapes.Shapes}, {Name: "colour", Kind: extract.Class, N: shapes.Colors}, {Name: "cell", Kind: extract.Class, N: 9},
			{Name: "radius", Kind: extract.Class, N: 2}, {Name: "background", Kind: extract.Class, N: 4}, {Name: "level", Kind: extract.Class, N: 4},
		},
	}
	t.net.Widths, t.net.Steps, t.recipe.Epochs = []int{16, 32, 64}, []int{1, 2, 2}, 3
	t.open = func() (source, error) { return sceneSource(shapes.New16(data.DefaultSeed), 16, true), nil }
	return t
}

// sceneSource is a set of scenes on a board of that side.
func sceneSource(set *shapes.Set, side int, single bool) source {
	s := source{
		len: set.Len, train: data.Enc, test: data.Test, ref: data.Ref,
		picture: func(split data.Split, i int) *imageio.Image { return set.At(split, i).Image() },
		answers: func(split data.Split, i int) [][]float32 {
			return [][]float32{sceneAnswers(set.Scene(split, i), side, single)}
		},
	}
	changed := func(f func(sc *shapes.Scene, i int, level float64)) func(split data.Split, i int, level float64) *imageio.Image {
		return func(split data.Split, i int, level float64) *imageio.Image {
			sc := set.Scene(split, i)
			f(sc, i, level)
			return set.Draw(sc, split, i).Image()
		}
	}
	s.damages = append(pixelDamages(s.picture),
		damage{"objects dropped", shares, "share of objects", changed(func(sc *shapes.Scene, i int, level float64) {
			kept := sc.Objects[:0]
			for k, o := range sc.Objects {
				if uniform("drop", i, k) >= level {
					kept = append(kept, o)
				}
			}
			sc.Objects = kept
		})},
		damage{"shifted", []float64{0, 0.25, 0.5, 0.75, 1}, "share of the way to the top left corner", changed(func(sc *shapes.Scene, i int, level float64) {
			gather(sc, level)
		})},
		damage{"shapes bound to colours", shares, "share of scenes", changed(func(sc *shapes.Scene, i int, level float64) {
			if uniform("bind", i, 0) < level {
				bind(sc, i)
			}
		})})
	return s
}

// sceneAnswers are the answers of a scene; of single objects their shape, colour and cell.
func sceneAnswers(sc *shapes.Scene, side int, single bool) []float32 {
	const colours, pairs = shapes.Colors, shapes.Shapes * shapes.Colors
	if single {
		o := sc.Objects[0]
		return []float32{float32(o.Kind), float32(o.Color) - 1, float32(cellOf(&o, side)), float32(o.R - 3), float32(sc.Bg.Kind), float32(sc.Bg.Level-32) / 64}
	}
	out := make([]float32, 1+colours+pairs+9+2)
	out[0] = float32(len(sc.Objects) - 1)
	flags := out[1:]
	for _, o := range sc.Objects {
		flags[o.Color-1] = 1
		flags[colours+int(o.Kind)*colours+int(o.Color)-1] = 1
		flags[colours+pairs+cellOf(&o, side)] = 1
	}
	out[len(out)-2], out[len(out)-1] = float32(sc.Bg.Kind), float32(sc.Bg.Level-32)/64
	return out
}

// cellOf is the cell of the 3×3 grid that an object's centre lies in.
func cellOf(o *shapes.Object, side int) int {
	third := func(v float64) int { return min(2, int(3*v/float64(side))) }
	return 3*third(o.Cy) + third(o.Cx)
}

// gather moves the objects of a scene towards the top left corner, all by the same whole pixels,
// as far as their bounds let them.
func gather(sc *shapes.Scene, share float64) {
	left, top := math.Inf(1), math.Inf(1)
	for _, o := range sc.Objects {
		left, top = min(left, o.Cx-o.R-1), min(top, o.Cy-o.R-1)
	}
	for k := range sc.Objects {
		sc.Objects[k].Cx -= math.Round(share * left)
		sc.Objects[k].Cy -= math.Round(share * top)
	}
}

// bind gives every object a shape that its colour decides but for a draw: colours are in the places
// they were in, and over a set both colours and shapes are as common as before, but a third of the
// pairs are all that is left: red and half of yellow are circles, and so on.
func bind(sc *shapes.Scene, i int) {
	for k := range sc.Objects {
		o := &sc.Objects[k]
		o.Kind = shapes.Shape((float64(o.Color-1) + uniform("shape", i, k)) * shapes.Shapes / shapes.Colors)
	}
}

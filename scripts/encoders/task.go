package main

import (
	"github.com/fidlab/fidlab/data"
	"github.com/fidlab/fidlab/fid/extract"
	"github.com/fidlab/fidlab/imageio"
	"github.com/fidlab/fidlab/internal/cpu"
	"github.com/fidlab/fidlab/nn/tower"
)

// task is an encoder of pictures: its network, what it is asked, and the set that it is for.
type task struct {
	name   string // of the encoder
	set    string // that it is for
	net    tower.EncoderConfig
	views  int
	heads  []extract.Head
	recipe recipe
	// open gives the set.
	open func() (source, error)
}

// source is a set as training and measuring need it.
type source struct {
	len func(split data.Split) int
	// train, test and ref are the splits: what is learned from, what is judged, what references
	// are made of.
	train, test, ref data.Split
	picture          func(split data.Split, i int) *imageio.Image
	// answers are those to the heads for each view of a picture.
	answers func(split data.Split, i int) [][]float32
	damages []damage
}

// damage is a way to make a set worse by levels, of which the first is none.
type damage struct {
	name   string
	levels []float64
	unit   string
	// worse is item i of a split at a level. It is asked for items 0, 1, … of the set's test split.
	worse func(split data.Split, i int, level float64) *imageio.Image
}

// spec is what the encoder's file says of it.
func (t *task) spec() extract.EncoderSpec {
	net := t.net
	net.Outputs = extract.Outputs(t.heads)
	return extract.EncoderSpec{Name: t.name, Network: net, Heads: t.heads, Views: t.views}
}

// tasks are all encoders of pictures.
var tasks = []*task{
	shapesTask("shapes-enc"), second(shapesTask("shapes-enc-b"), 24), shapes16Task("shapes16-enc"), digitsTask("digits-enc"),
	cityTask("city-enc"), second(cityTask("city-enc-b"), 8), streetTask("street-enc"), second(streetTask("street-enc-b"), 24), facadeTask("facade-enc"),
}

// body is the network that the encoders share, for pictures of a size.
func body(channels, height, width int) tower.EncoderConfig {
	return tower.EncoderConfig{Channels: channels, Height: height, Width: width, Widths: []int{16, 32, 64, 64}, Steps: []int{2, 2, 2, 1}, Dim: 64}
}

// second makes of an encoder one that knows nothing of the first: another seed, a wider and shorter
// body and other cells, for who measures what was trained to please the first.
func second(t *task, epochs int) *task {
	t.recipe.Seed, t.recipe.Epochs = 101, epochs
	t.net.Widths, t.net.Steps, t.net.Cells = []int{24, 48, 96}, []int{2, 2, 2}, 2
	return t
}

// learn makes the examples of the split that is learned from.
func (t *task) learn(s source) *examples {
	spec := t.spec()
	n := s.len(s.train)
	xs, as := make([][]float32, n), make([][]float32, n)
	e := t.blank()
	cpu.Each(n, func(_ *cpu.Worker, i int) {
		for k, m := range e.Cut(s.picture(s.train, i)) {
			x := make([]float32, spec.Network.Channels*spec.Network.Height*spec.Network.Width)
			e.Load(x, m)
			xs[i], as[i] = append(xs[i], x...), append(as[i], s.answers(s.train, i)[k]...)
		}
	})
	out := &examples{}
	for i := range xs {
		out.x, out.answers = append(out.x, xs[i]...), append(out.answers, as[i]...)
	}
	return out
}

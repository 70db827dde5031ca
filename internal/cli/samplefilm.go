package cli

import (
	"time"

	"github.com/fidlab/fidlab/imageio"
	"github.com/fidlab/fidlab/sampler"
	"github.com/fidlab/fidlab/tensor"
)

// The film strip: so many samples, and of each so many states.
const (
	filmRows    = 8
	filmColumns = 12
)

// film collects states of the first samples on their way from noise to data.
type film struct {
	*sampleKind
	first int
	steps []int // the columns
	strip map[int][]*imageio.Image
}

func newFilm(k *sampleKind, first, steps int) *film {
	f := &film{sampleKind: k, first: first, strip: map[int][]*imageio.Image{}}
	columns := min(filmColumns, steps+1)
	for i := range columns {
		f.steps = append(f.steps, (2*i*steps+columns-1)/(2*(columns-1)))
	}
	return f
}

// see is an Options.Trajectory.
func (f *film) see(e sampler.Event) error {
	column := -1
	for i, s := range f.steps {
		if s == e.Step {
			column = i
		}
	}
	if column < 0 || e.First-f.first >= filmRows {
		return nil
	}
	for i, m := range f.states(e, filmRows-(e.First-f.first)) {
		row := e.First - f.first + i
		f.strip[row] = append(f.strip[row], m)
	}
	return nil
}

// noiseShare is how much of the range a deviation of pure noise takes in a picture.
const noiseShare = 0.25

// states are the first n states A·x0 + B·noise of a batch as pictures, about the
// middle of the range: gray noise at first, then the data.
func (k *sampleKind) states(e sampler.Event, n int) []*imageio.Image {
	v := values(e.X)
	images := e.X.Shape()[0]
	per := len(v) / images
	mid := (k.lo + k.hi) / 2
	scale := e.At.A + e.At.B/(noiseShare*(k.hi-k.lo))
	var out []*imageio.Image
	for i := range min(images, n) {
		x := make([]float64, per)
		for j, s := range v[i*per:][:per] {
			x[j] = mid + (s-e.At.A*mid)/scale
		}
		out = append(out, k.picture(x))
	}
	return out
}

// write writes the strip, a row for each sample.
func (f *film) write(path string, opt ...tensor.FileOption) error {
	var all []*imageio.Image
	for row := range len(f.strip) {
		all = append(all, f.strip[row]...)
	}
	return imageio.WritePNG(path, imageio.Grid(all, len(f.steps), 2), opt...)
}

// previewEvery is how often the preview is written at most.
const previewEvery = time.Second

// preview keeps a contact sheet of the batch on its way up to date.
type preview struct {
	*sampleKind
	path  string
	last  time.Time
	now   func() time.Time
	steps int
}

// see is an Options.Trajectory.
func (p *preview) see(e sampler.Event) error {
	if now := p.now(); e.Step == p.steps || now.Sub(p.last) >= previewEvery {
		p.last = now
		return imageio.WritePNG(p.path, contactSheet(p.states(e, onSheet)), tensor.Overwrite)
	}
	return nil
}

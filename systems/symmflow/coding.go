package symmflow

import (
	"math"

	"github.com/fidlab/fidlab/data"
	"github.com/fidlab/fidlab/imageio/label"
	"github.com/fidlab/fidlab/rng"
)

// The kinds of a Coding.
const (
	Palette = "palette" // a class a pixel: three channels, the colour of a palette
	Ordinal = "ordinal" // a class a picture: one channel, filled with the class's place among all
	OneHot  = "one-hot" // a class a picture: a channel a class, filled with 1 or -1 times half of Beta
)

// Coding makes channels of labels and reads labels in channels. With u uniform in [0, 1), drawn for every value,
//
//	palette   v = colour/127.5 - 1 + Beta·(u-½)/127.5                                decoded to the nearest colour
//	ordinal   v = Beta/2·(2c/(C-1)-1) + Beta/2·(u-½)/(C-1)                           decoded by the channel's mean
//	one-hot   v = ±Beta/2 + Beta/2·(u-½)/(C-1)                                       decoded to the channel with the greatest mean
//
// The noise is what keeps labels from being points: between data that are points and noise a flow has no density to match. The paper has a Beta
// of 10 (CelebAMask-HQ) and 6 (COCO-Stuff) for palettes and 4 for classes.
type Coding struct {
	Kind    string        `json:"kind"`
	Beta    float64       `json:"beta"`
	Flat    bool          `json:"flat,omitempty"` // no noise: u = ½
	Classes int           `json:"classes"`
	Palette label.Palette `json:"palette,omitempty"` // of kind palette, a colour a class
}

// Check says what is wrong with a coding.
func (c Coding) Check() error {
	if !(c.Beta > 0) || math.IsInf(c.Beta, 0) {
		return data.Errorf("symmflow: beta %g; want a finite number above 0 (flat leaves the noise out)", c.Beta)
	}
	switch c.Kind {
	case Palette:
		if err := c.Palette.Check(); err != nil {
			return data.Errorf("symmflow: %w", err)
		}
		if len(c.Palette) != c.Classes || c.Classes < 2 {
			return data.Errorf("symmflow: a palette of %d colours for %d classes; want a colour each, and 2 at least", len(c.Palette), c.Classes)
		}
	case Ordinal, OneHot:
		if c.Classes < 2 || c.Classes > 256 {
			return data.Errorf("symmflow: %d classes in %s coding; want 2 to 256: a place among C classes is c/(C-1)", c.Classes, c.Kind)
		}
	default:
		return data.Unknown("symmflow", "coding", c.Kind, []string{Palette, Ordinal, OneHot})
	}
	return nil
}

// Channels is how many a label has.
func (c Coding) Channels() int {
	switch c.Kind {
	case Palette:
		return 3
	case OneHot:
		return c.Classes
	}
	return 1
}

// PerPixel tells whether a label has a class for every pixel, or one for the picture.
func (c Coding) PerPixel() bool { return c.Kind == Palette }

// labels is how many classes a label of pictures of so many pixels has.
func (c Coding) labels(pixels int) int {
	if c.PerPixel() {
		return pixels
	}
	return 1
}

// Encode writes a label to dst, [Channels, pixels]: ids are the classes of all pixels, or the one of the picture. The noise is s's.
// It refuses classes that there are not, and labels of another size.
func (c Coding) Encode(dst []float32, ids []uint8, s *rng.Stream) error {
	pixels := len(dst) / c.Channels()
	if want := c.labels(pixels); len(ids) != want {
		return data.Errorf("symmflow: a label of %d classes for %d pixels; want %d", len(ids), pixels, want)
	}
	for i, id := range ids {
		if int(id) >= c.Classes {
			return data.Errorf("symmflow: class %d at place %d; the classes are 0 to %d", id, i, c.Classes-1)
		}
	}
	width := c.Beta / 2 / float64(c.Classes-1)
	if c.Kind == Palette {
		width = c.Beta / 127.5
	}
	noise := func() float64 {
		if c.Flat {
			return 0
		}
		return width * (s.Float64() - 0.5)
	}
	for k := range c.Channels() {
		for p := range pixels {
			var v float64
			switch c.Kind {
			case Palette:
				v = float64(c.Palette[ids[p]].Color[k])/127.5 - 1
			case Ordinal:
				v = c.Beta / 2 * (2*float64(ids[0])/float64(c.Classes-1) - 1)
			default:
				if v = -c.Beta / 2; int(ids[0]) == k {
					v = c.Beta / 2
				}
			}
			dst[k*pixels+p] = float32(v + noise())
		}
	}
	return nil
}

// Decode reads the label of y, [Channels, pixels], whatever values it has.
func (c Coding) Decode(y []float32) []uint8 {
	pixels := len(y) / c.Channels()
	if c.Kind == Palette {
		return c.Palette.NearestOf(y, pixels, 1).IDs
	}
	mean := func(k int) float64 { // of all pixels before it is rounded: every pixel has a say
		var sum float64
		for _, v := range y[k*pixels:][:pixels] {
			sum += float64(v)
		}
		return sum / float64(pixels)
	}
	if c.Kind == Ordinal {
		last := float64(c.Classes - 1)
		at := (mean(0)/(c.Beta/2)*0.5 + 0.5) * last
		return []uint8{uint8(min(max(math.Round(at), 0), last))}
	}
	best := 0
	for k := range c.Classes {
		if mean(k) > mean(best) {
			best = k
		}
	}
	return []uint8{uint8(best)}
}

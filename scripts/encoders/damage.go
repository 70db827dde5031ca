package main

import (
	"github.com/fidlab/fidlab/data"
	"github.com/fidlab/fidlab/imageio"
)

// uniform is in [0,1), a function of a purpose, an item and a part of it.
func uniform(purpose string, i, part int) float64 {
	s := data.FromKey(data.FNV1a(purpose) ^ data.Mix(uint64(i)<<16|uint64(part)))
	return s.Float64()
}

// shares are levels of damage that hits a share of the items.
var shares = []float64{0, 0.1, 0.25, 0.5, 0.75, 1}

// pixelDamages are those that know nothing of what a picture shows.
func pixelDamages(picture func(split data.Split, i int) *imageio.Image) []damage {
	return []damage{
		{"noise", []float64{0, 0.05, 0.1, 0.15, 0.2, 0.3}, "standard deviation, on the scale 0 to 1", func(split data.Split, i int, level float64) *imageio.Image {
			m := picture(split, i)
			if level == 0 {
				return m
			}
			return data.Noisy(m, level, data.FromKey(data.FNV1a("noise")^data.Mix(uint64(i))))
		}},
		{"blur", []float64{0, 1, 2, 3}, "passes of a 3×3 box", func(split data.Split, i int, level float64) *imageio.Image {
			return data.Blurred(picture(split, i), int(level))
		}},
	}
}

// moved moves all of a picture to the right by pixels; what was at the left edge is repeated.
// Pictures of several views side by side move view by view.
func moved(picture func(split data.Split, i int) *imageio.Image, views int, levels ...float64) damage {
	return damage{"moved", levels, "pixels to the right, edges repeated", func(split data.Split, i int, level float64) *imageio.Image {
		m := picture(split, i)
		out := &imageio.Image{Width: m.Width, Height: m.Height, Pix: make([]uint8, len(m.Pix)), Facts: m.Facts}
		w := m.Width / views
		for y := range m.Height {
			for x := range m.Width {
				from := x/w*w + max(0, x%w-int(level))
				copy(out.Pix[3*(y*m.Width+x):][:3], m.Pix[3*(y*m.Width+from):])
			}
		}
		return out
	}}
}

// exchanged gives a share of the pictures the right half of another one: the pixels of every
// place are as they were over the set, but halves do not fit. Of several views side by side every
// one gets the half of the other picture's.
func exchanged(picture func(split data.Split, i int) *imageio.Image, views int, n func(split data.Split) int) damage {
	return damage{"halves exchanged", shares, "share of pictures", func(split data.Split, i int, level float64) *imageio.Image {
		m := picture(split, i)
		if uniform("exchange", i, 0) >= level {
			return m
		}
		o := picture(split, (i+n(split)/2)%n(split))
		out := &imageio.Image{Width: m.Width, Height: m.Height, Pix: append([]uint8(nil), m.Pix...), Facts: m.Facts}
		w := m.Width / views
		for y := range m.Height {
			for v := range views {
				at := 3 * (y*m.Width + v*w + w/2)
				copy(out.Pix[at:at+3*(w-w/2)], o.Pix[at:])
			}
		}
		return out
	}}
}

// withoutClasses shows, in place of a picture of one of the first classes, the next one of another
// class: classes are missing.
func withoutClasses(picture func(split data.Split, i int) *imageio.Image, label func(split data.Split, i int) int, n func(split data.Split) int, levels ...float64) damage {
	return damage{"classes dropped", levels, "classes, the first ones", func(split data.Split, i int, level float64) *imageio.Image {
		for label(split, i) < int(level) {
			i = (i*31 + 7) % n(split) // on the way through the split, not to the neighbour
		}
		return picture(split, i)
	}}
}

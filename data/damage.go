package data

import (
	"fmt"
	"math"

	"github.com/fidlab/fidlab/imageio"
)

// Noisy is the picture with Gaussian noise of standard deviation sigma on the scale
// 0 to 1, independent in every value, rounded and clipped to 0..255. The noise
// is a function of the stream's key alone.
func Noisy(m *imageio.Image, sigma float64, s Stream) *imageio.Image {
	out := &imageio.Image{Width: m.Width, Height: m.Height, Pix: make([]uint8, len(m.Pix)), Facts: m.Facts}
	for i, v := range m.Pix {
		out.Pix[i] = level(float64(v) + float64(255*sigma*s.Normal()))
	}
	return out
}

// Blurred is the picture after some passes of a 3×3 box filter: the mean of a
// pixel and its eight neighbours, those at the border repeated outwards,
// rounded after each pass.
func Blurred(m *imageio.Image, passes int) *imageio.Image {
	out := &imageio.Image{Width: m.Width, Height: m.Height, Pix: append([]uint8(nil), m.Pix...), Facts: m.Facts}
	src := make([]uint8, len(m.Pix))
	w, h := m.Width, m.Height
	for range passes {
		copy(src, out.Pix)
		for y := range h {
			for x := range w {
				for c := range 3 {
					sum := 0
					for dy := -1; dy <= 1; dy++ {
						for dx := -1; dx <= 1; dx++ {
							sum += int(src[3*(min(h-1, max(0, y+dy))*w+min(w-1, max(0, x+dx)))+c])
						}
					}
					out.Pix[3*(y*w+x)+c] = uint8((2*sum + 9) / 18)
				}
			}
		}
	}
	return out
}

// level rounds to the nearest of 0..255, halves up.
func level(v float64) uint8 { return uint8(min(255, max(0, math.Floor(v+0.5)))) }

// Damage is what is done to pictures before a reader sees them.
type Damage struct {
	Noise float64 // standard deviation on the scale 0 to 1
	Blur  int     // passes of the 3×3 box filter, before the noise
}

// Damages are those by which readers are judged, the clean pictures first.
var Damages = []Damage{{}, {Noise: 0.05}, {Noise: 0.1}, {Noise: 0.2}, {Blur: 1}, {Blur: 2}}

func (d Damage) String() string {
	switch {
	case d.Blur == 0 && d.Noise == 0:
		return "clean"
	case d.Noise == 0:
		return fmt.Sprintf("blur %d", d.Blur)
	case d.Blur == 0:
		return fmt.Sprintf("noise %g", d.Noise)
	}
	return fmt.Sprintf("blur %d, noise %g", d.Blur, d.Noise)
}

// Apply is what is given with its pictures damaged. The noise of picture p of
// item i is that of the key FNV1a("noise") ^ Mix(i) ^ p.
func (d Damage) Apply(g Given, i int) Given {
	g.Pictures = append([]Picture(nil), g.Pictures...)
	for p := range g.Pictures {
		m := g.Pictures[p].Image
		if d.Blur > 0 {
			m = Blurred(m, d.Blur)
		}
		if d.Noise > 0 {
			m = Noisy(m, d.Noise, FromKey(FNV1a("noise")^Mix(uint64(i))^uint64(p)))
		}
		g.Pictures[p].Image = m
	}
	return g
}

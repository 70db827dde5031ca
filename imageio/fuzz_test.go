package imageio_test

import (
	"bytes"
	"context"
	"image"
	"image/color"
	"image/png"
	"slices"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/imageio"
)

// small keeps fuzzing fast: pictures of at most 64 Ki pixels.
var small = imageio.DecodeOptions{MaxPixels: 1 << 16, Orient: true}

// FuzzDecode: any bytes give a whole picture within the limit, or an error.
func FuzzDecode(f *testing.F) {
	cases, data := decodeCases(f)
	for i, c := range cases {
		if len(data[i]) < 2500 && !strings.Contains(c.File, "filter") {
			f.Add(data[i])
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := imageio.Decode(b, small)
		if err != nil {
			return
		}
		if m.Width < 1 || m.Height < 1 || m.Width*m.Height > small.MaxPixels || len(m.Pix) != 3*m.Width*m.Height {
			t.Fatalf("%dx%d with %d bytes", m.Width, m.Height, len(m.Pix))
		}
	})
}

// FuzzPNG compares our PNG decoder with the standard library's wherever both
// accept the file.
func FuzzPNG(f *testing.F) {
	cases, data := decodeCases(f)
	for i, c := range cases {
		if strings.HasSuffix(c.File, ".png") && len(data[i]) < 4000 {
			f.Add(data[i])
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		ours, err := imageio.Decode(b, small)
		if err != nil || ours.Facts.Format != "png" {
			return
		}
		theirs, err := png.Decode(bytes.NewReader(b))
		if err != nil {
			return // it also verifies what we don't need
		}
		if o := ours.Facts; o.Rotated {
			return
		}
		for y := range ours.Height {
			for x := range ours.Width {
				want := rgbOf(theirs, x, y)
				if got := ours.Pix[3*(y*ours.Width+x):][:3]; !slices.Equal(got, want[:]) {
					t.Fatalf("pixel %d,%d is %v, want %v (%T)", x, y, got, want, theirs)
				}
			}
		}
	})
}

// rgbOf is a pixel's colour without its alpha.
func rgbOf(m image.Image, x, y int) [3]uint8 {
	switch m := m.(type) {
	case *image.NRGBA:
		c := m.NRGBAAt(x, y)
		return [3]uint8{c.R, c.G, c.B}
	case *image.NRGBA64:
		c := m.NRGBA64At(x, y)
		return [3]uint8{uint8(c.R >> 8), uint8(c.G >> 8), uint8(c.B >> 8)}
	case *image.Paletted:
		if c, ok := m.Palette[m.ColorIndexAt(x, y)].(color.NRGBA); ok {
			return [3]uint8{c.R, c.G, c.B}
		}
	}
	r, g, b, _ := m.At(x, y).RGBA()
	return [3]uint8{uint8(r >> 8), uint8(g >> 8), uint8(b >> 8)}
}

// FuzzTar: a stream of any bytes ends in pictures or errors.
func FuzzTar(f *testing.F) {
	p := pngBytes(f, noisy(3, 3, 1))
	b := tarBytes(f, []string{"a.png", "d/b.txt", ".c"}, func(string) []byte { return p })
	f.Add(b)
	f.Add(gzipped(f, b))
	f.Add(tarBytes(f, []string{"../a.png"}, func(string) []byte { return p }))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := imageio.Open("-", imageio.Options{Stdin: bytes.NewReader(b), Labels: true, MaxFileBytes: 1 << 16, Decode: small})
		if err != nil {
			return
		}
		s.Each(context.Background(), func(it imageio.Item) error {
			if strings.Contains(it.Name, "..") && slices.Contains(strings.Split(it.Name, "/"), "..") {
				t.Fatalf("member %q", it.Name)
			}
			it.Load()
			return nil
		})
	})
}

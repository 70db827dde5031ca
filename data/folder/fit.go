package folder

import (
	"fmt"
	"math"
	"slices"

	"github.com/fidlab/fidlab/data"
	"github.com/fidlab/fidlab/imageio"
)

// The ways to make a picture square.
const (
	// Crop takes the largest square in the middle and resizes it: the center-crop of EDM's dataset_tool (Karras et al. 2022).
	Crop = "crop"
	// Squash resizes both sides, whatever the picture's shape.
	Squash = "squash"
	// ADM halves by the box filter while the shorter side is at least twice the size, resizes that side to the size by
	// Pillow's bicubic filter, and takes the middle: what Dhariwal and Nichol 2021 (arXiv 2105.05233) trained on.
	ADM = "adm"
)

// Fits are the names that Options.Fit knows.
func Fits() []string { return []string{Crop, Squash, ADM} }

// fitter makes pictures of one size.
type fitter struct {
	fit  string
	size int
	to   *imageio.Resizer
}

func newFitter(o *Options) (*fitter, error) {
	if !slices.Contains(Fits(), o.Fit) {
		return nil, data.Unknown("folder", "fit", o.Fit, Fits())
	}
	if o.Fit == ADM {
		if o.Resize != "" {
			return nil, data.Errorf("folder: the fit adm with the resize %s; it has its own, box and then bicubic: leave the resize out", o.Resize)
		}
		return &fitter{fit: o.Fit, size: o.Size, to: imageio.NewResizer(imageio.PILU8(imageio.Bicubic), o.Size, o.Size)}, nil
	}
	var known []string
	for _, k := range imageio.ResizeKinds() {
		if k.String() == o.Resize {
			return &fitter{fit: o.Fit, size: o.Size, to: imageio.NewResizer(k, o.Size, o.Size)}, nil
		}
		known = append(known, k.String())
	}
	return nil, data.Unknown("folder", "resize", o.Resize, known)
}

// into writes the picture to dst, float32 [3, size, size], as v/127.5 − 1.
func (f *fitter) into(dst []float32, m *imageio.Image) {
	switch f.fit {
	case Crop:
		side := min(m.Width, m.Height)
		m = cut(m, (m.Width-side)/2, (m.Height-side)/2, side)
	case ADM:
		box, cubic := imageio.PILU8(imageio.Box), imageio.PILU8(imageio.Bicubic)
		for min(m.Width, m.Height) >= 2*f.size {
			m = imageio.NewResizer(box, m.Width/2, m.Height/2).U8(m)
		}
		scale := float64(f.size) / float64(min(m.Width, m.Height))
		w, h := int(math.RoundToEven(float64(m.Width)*scale)), int(math.RoundToEven(float64(m.Height)*scale))
		m = imageio.NewResizer(cubic, w, h).U8(m)
		m = cut(m, (w-f.size)/2, (h-f.size)/2, f.size)
	}
	f.to.Into(dst, m, 1/127.5, -1, nil) // one that has the size stays as it is
}

// cut is the square of that side at x, y.
func cut(m *imageio.Image, x, y, side int) *imageio.Image {
	if x < 0 || y < 0 || x+side > m.Width || y+side > m.Height {
		panic(fmt.Sprintf("folder: cut: a square of %d at %d,%d of %dx%d", side, x, y, m.Width, m.Height))
	}
	if m.Width == side && m.Height == side {
		return m
	}
	out := &imageio.Image{Width: side, Height: side, Pix: make([]uint8, 0, 3*side*side), Facts: m.Facts}
	for r := range side {
		out.Pix = append(out.Pix, m.Pix[3*((y+r)*m.Width+x):][:3*side]...)
	}
	return out
}

package imageio

import (
	"fmt"
	"image"
	"image/color"
)

// fill converts a decoded picture of the libraries to RGB by the rules of the
// package documentation. Alpha is dropped, not composited, so colours must be
// read from the type itself: the general color.Color is alpha-premultiplied.
func (m *Image) fill(src image.Image) error {
	switch s := src.(type) {
	case *image.Gray:
		m.Facts.Gray = true
		m.rows(s.Pix, s.Stride, 1, 0, 0)
	case *image.Gray16:
		m.Facts.Gray, m.Facts.Deep = true, true
		m.rows(s.Pix, s.Stride, 2, 0, 0)
	case *image.RGBA:
		m.rows(s.Pix, s.Stride, 4, 1, 2)
	case *image.NRGBA:
		m.Facts.Alpha = true
		m.rows(s.Pix, s.Stride, 4, 1, 2)
	case *image.RGBA64:
		m.Facts.Deep = true
		m.rows(s.Pix, s.Stride, 8, 2, 4)
	case *image.NRGBA64:
		m.Facts.Deep, m.Facts.Alpha = true, true
		m.rows(s.Pix, s.Stride, 8, 2, 4)
	case *image.Paletted:
		m.paletted(s)
	case *image.CMYK:
		m.Facts.CMYK = true
		for y := range m.Height {
			row, out := s.Pix[y*s.Stride:], m.Pix[3*y*m.Width:]
			for x := range m.Width {
				p := row[4*x:][:4]
				cmyk(out[3*x:][:3], p[0], p[1], p[2], p[3])
			}
		}
	case *image.YCbCr:
		m.lossy(s)
	case *image.NYCbCrA:
		m.Facts.Alpha = true
		m.lossy(&s.YCbCr)
	default:
		return fmt.Errorf("pixel layout %T is not supported; convert it to 8-bit PNG", src)
	}
	return nil
}

// rows copies the bytes at 0, g and b of every pixel of step bytes. For 16-bit
// samples that are the high bytes: the samples are big-endian.
func (m *Image) rows(pix []uint8, stride, step, g, b int) {
	for y := range m.Height {
		row, out := pix[y*stride:][:step*m.Width], m.Pix[3*y*m.Width:][:3*m.Width]
		for x := range m.Width {
			p, q := row[x*step:][:step], out[3*x:][:3]
			q[0], q[1], q[2] = p[0], p[g], p[b]
		}
	}
}

func (m *Image) paletted(s *image.Paletted) {
	m.Facts.Palette = true
	var table [256][3]uint8 // an index beyond the palette is black, as in Pillow
	for i, c := range s.Palette {
		switch c := c.(type) {
		case color.RGBA:
			table[i] = [3]uint8{c.R, c.G, c.B}
		case color.NRGBA:
			table[i] = [3]uint8{c.R, c.G, c.B}
			m.Facts.Alpha = m.Facts.Alpha || c.A != 255
		default:
			r, g, b, _ := c.RGBA()
			table[i] = [3]uint8{uint8(r >> 8), uint8(g >> 8), uint8(b >> 8)}
		}
	}
	for y := range m.Height {
		row, out := s.Pix[y*s.Stride:][:m.Width], m.Pix[3*y*m.Width:][:3*m.Width]
		for x, i := range row {
			copy(out[3*x:][:3], table[i][:])
		}
	}
}

func (m *Image) lossy(s *image.YCbCr) {
	m.Facts.Lossy = true
	if m.Facts.Format == "webp" {
		m.webpYCbCr(s)
		return
	}
	m.jpegYCbCr(s)
}

// ycbcr is the plain conversion, each pixel with its nearest chroma sample.
func (m *Image) ycbcr(s *image.YCbCr) {
	for y := range m.Height {
		out := m.Pix[3*y*m.Width:][:3*m.Width]
		for x := range m.Width {
			yi, ci := s.YOffset(x+s.Rect.Min.X, y+s.Rect.Min.Y), s.COffset(x+s.Rect.Min.X, y+s.Rect.Min.Y)
			out[3*x], out[3*x+1], out[3*x+2] = color.YCbCrToRGB(s.Y[yi], s.Cb[ci], s.Cr[ci])
		}
	}
}

// cmyk is Pillow's conversion: every ink darkens what black leaves, with a
// rounded product, c·(255−k)/255.
func cmyk(rgb []uint8, c, m, y, k uint8) {
	white := 255 - int(k)
	for i, ink := range [3]uint8{c, m, y} {
		t := int(ink)*white + 128
		rgb[i] = uint8(white - (t>>8+t)>>8)
	}
}

package imageio

import (
	"fmt"
	"image"
	"image/png"
	"io"
	"math"
	"sync"

	"github.com/fidlab/fidlab/tensor"
)

// pngBuffers recycles the encoder's memory between pictures.
type pngBuffers struct{ sync.Pool }

func (p *pngBuffers) Get() *png.EncoderBuffer {
	b, _ := p.Pool.Get().(*png.EncoderBuffer)
	return b
}

func (p *pngBuffers) Put(b *png.EncoderBuffer) { p.Pool.Put(b) }

var pngEncoder = png.Encoder{BufferPool: new(pngBuffers)}

// EncodePNG writes m as an 8-bit PNG, RGB or, when every pixel is gray, gray.
func EncodePNG(w io.Writer, m *Image) error {
	m.mustBeWhole("EncodePNG")
	rect := image.Rect(0, 0, m.Width, m.Height)
	gray := true
	for i := 0; i < len(m.Pix) && gray; i += 3 {
		gray = m.Pix[i] == m.Pix[i+1] && m.Pix[i] == m.Pix[i+2]
	}
	if gray {
		g := image.NewGray(rect)
		for i := range g.Pix {
			g.Pix[i] = m.Pix[3*i]
		}
		return pngEncoder.Encode(w, g)
	}
	c := image.NewNRGBA(rect)
	for i := range m.Width * m.Height {
		p, q := m.Pix[3*i:][:3], c.Pix[4*i:][:4]
		q[0], q[1], q[2], q[3] = p[0], p[1], p[2], 255
	}
	return pngEncoder.Encode(w, c)
}

// WritePNG writes m to a file that appears under its name only when complete.
// An existing file is an error unless tensor.Overwrite is given.
func WritePNG(path string, m *Image, opt ...tensor.FileOption) error {
	if err := tensor.WriteAtomic(path, func(w io.Writer) error { return EncodePNG(w, m) }, opt...); err != nil {
		return fmt.Errorf("imageio: %w", err)
	}
	return nil
}

// FromGray makes a picture of gray levels [h, w], such as a data set holds;
// decoder names where they are from.
func FromGray(levels []uint8, w, h int, decoder string) *Image {
	m := &Image{Width: w, Height: h, Pix: make([]uint8, 3*w*h), Facts: Facts{Format: "raw", Decoder: decoder, Gray: true}}
	for i, v := range levels {
		m.Pix[3*i], m.Pix[3*i+1], m.Pix[3*i+2] = v, v, v
	}
	return m
}

// FromPlanar makes a picture of x, float32 [channels, h, w] with one or three
// channels: v*scale + offset, rounded to the nearest level (halves up) and
// clipped to 0..255. NaN becomes 0.
func FromPlanar(x []float32, channels, h, w int, scale, offset float32) *Image {
	if channels != 1 && channels != 3 || h < 1 || w < 1 || len(x) != channels*h*w {
		panic(fmt.Sprintf("imageio: FromPlanar: %d values for [%d, %d, %d]; want one or three channels", len(x), channels, h, w))
	}
	m := &Image{Width: w, Height: h, Pix: make([]uint8, 3*h*w)}
	m.Facts = Facts{Format: "raw", Decoder: "float32", Gray: channels == 1}
	n := h * w
	for c := range 3 {
		plane := x[c%channels*n:][:n]
		for i, v := range plane {
			level := math.Floor(float64(v*scale+offset) + 0.5)
			if level > 0 { // false for NaN
				m.Pix[3*i+c] = uint8(min(level, 255))
			}
		}
	}
	return m
}

// Grid lays pictures out row by row in cols columns, with pad pixels of white
// around each. Cells have the size of the largest picture; smaller ones sit in
// the middle.
func Grid(imgs []*Image, cols, pad int) *Image {
	if len(imgs) == 0 || cols < 1 || pad < 0 {
		panic(fmt.Sprintf("imageio: Grid: %d pictures in %d columns, padding %d; want at least one in one", len(imgs), cols, pad))
	}
	cols = min(cols, len(imgs))
	rows := (len(imgs) + cols - 1) / cols
	var cw, ch int
	for _, m := range imgs {
		m.mustBeWhole("Grid")
		cw, ch = max(cw, m.Width), max(ch, m.Height)
	}
	g := &Image{Width: cols*(cw+pad) + pad, Height: rows*(ch+pad) + pad, Facts: Facts{Format: "raw", Decoder: "grid"}}
	g.Pix = make([]uint8, 3*g.Width*g.Height)
	for i := range g.Pix {
		g.Pix[i] = 255
	}
	for i, m := range imgs {
		x := pad + i%cols*(cw+pad) + (cw-m.Width)/2
		y := pad + i/cols*(ch+pad) + (ch-m.Height)/2
		for r := range m.Height {
			copy(g.Pix[3*((y+r)*g.Width+x):], m.Pix[3*r*m.Width:][:3*m.Width])
		}
	}
	return g
}

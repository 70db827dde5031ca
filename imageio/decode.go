package imageio

import (
	"bytes"
	"errors"
	"fmt"
	"image"
	"image/jpeg"
	"image/png"
	"io"
	"strings"
	"sync"

	"golang.org/x/image/bmp"
	"golang.org/x/image/tiff"
	"golang.org/x/image/webp"

	"github.com/fidlab/fidlab/internal/cpu"
)

// DecodeOptions bound and change decoding. The zero value is the default.
type DecodeOptions struct {
	MaxPixels int  // width times height at most; 0 is DefaultMaxPixels
	Orient    bool // turn pictures as their EXIF orientation asks; it is ignored by default
}

// Decode decodes one picture of any supported format by the rules in the
// package documentation. The format is told by content. Not to be called on a
// worker of internal/cpu: there, use DecodeOn.
func Decode(b []byte, o DecodeOptions) (*Image, error) { return DecodeOn(nil, b, o) }

// DecodeOn is Decode on the worker w.
func DecodeOn(w *cpu.Worker, b []byte, o DecodeOptions) (*Image, error) {
	format := sniff(b[:min(len(b), sniffLen)])
	switch {
	case len(b) == 0:
		return nil, errors.New("empty file (0 bytes)")
	case unsupported[format] != "":
		return nil, fmt.Errorf("%s is not supported; convert it to PNG", unsupported[format])
	case format == "":
		return nil, fmt.Errorf("not an image: starts with % x", b[:min(len(b), 8)])
	}
	// The skeleton first: it holds the size limit, and says "cut short" where a
	// decoder would say something about Huffman codes.
	if err := checkStructure(format, bytes.NewReader(b), int64(len(b)), o.MaxPixels); err != nil {
		return nil, err
	}
	m, err := decodeFormat(w, format, b, o.MaxPixels)
	if err != nil {
		return nil, err
	}
	m.Facts.Bytes, m.Facts.ICC = len(b), hasProfile(format, b)
	if format == "jpeg" {
		m.Facts.readJPEG(b)
	}
	if turn := orientation(format, b); turn > 1 {
		m.Facts.Orientation = turn
		m.Facts.Rotated = format != "tiff"
		if o.Orient || format == "tiff" { // the tag is part of TIFF itself; Pillow obeys it
			m = oriented(m, turn)
		}
	}
	return m, nil
}

func decodeFormat(w *cpu.Worker, format string, b []byte, maxPixels int) (*Image, error) {
	switch format {
	case "png":
		m, err := decodePNG(w, b)
		if !errors.Is(err, errPNGGeneral) {
			return m, err
		}
		return decodeStd(b, "png", "image/png", maxPixels, png.DecodeConfig, png.Decode)
	case "jpeg":
		return decodeJPEG(w, b, maxPixels)
	case "pnm":
		return decodePNM(b, maxPixels)
	case "webp":
		m, err := decodeStd(b, "webp", "x/image/webp", maxPixels, webp.DecodeConfig, webp.Decode)
		if err == nil {
			m.Facts.Alpha = webpAlpha(b)
		}
		return m, err
	case "bmp":
		return decodeStd(b, "bmp", "x/image/bmp", maxPixels, bmp.DecodeConfig, bmp.Decode)
	case "tiff":
		return decodeStd(b, "tiff", "x/image/tiff", maxPixels, tiff.DecodeConfig, tiff.Decode)
	default:
		return decodeGIF(b, maxPixels)
	}
}

// webpAlpha reads from the header whether a WebP has alpha; the library returns
// all lossless ones as if they had.
func webpAlpha(b []byte) bool {
	if len(b) < 25 {
		return false
	}
	switch string(b[12:16]) {
	case "VP8X":
		return b[20]&0x10 != 0
	case "VP8L":
		return b[24]&0x10 != 0 // after the signature byte and two sizes of 14 bits
	}
	return false
}

// decodeJPEG decodes with libjpeg-turbo, whose bits are Pillow's, or with Go's
// decoder, which differs from it by a few levels.
func decodeJPEG(w *cpu.Worker, b []byte, maxPixels int) (*Image, error) {
	if maxPixels <= 0 {
		maxPixels = DefaultMaxPixels
	}
	j, err := cpu.DecodeJPEG(w, b, maxPixels)
	if errors.Is(err, cpu.ErrNoTurbo) {
		m, err := decodeStd(b, "jpeg", "image/jpeg", maxPixels, jpeg.DecodeConfig, jpeg.Decode)
		if err == nil {
			m.Facts.Lossy = true
		}
		return m, err
	}
	if err != nil {
		return nil, errors.New("damaged JPEG: " + strings.TrimPrefix(err.Error(), "cpu: DecodeJPEG: "))
	}
	m := &Image{Width: j.Width, Height: j.Height, Pix: j.Pix}
	if j.Channels != 3 {
		m = newImage(j.Width, j.Height)
	}
	m.Facts = Facts{Format: "jpeg", Decoder: "libjpeg-turbo", Lossy: true, Gray: j.Channels == 1, CMYK: j.Channels == 4}
	switch j.Channels {
	case 1:
		m.rows(j.Pix, j.Width, 1, 0, 0)
	case 4: // stored inverted: 255 is no ink
		for i := range m.Width * m.Height {
			p := j.Pix[4*i:][:4]
			cmyk(m.Pix[3*i:][:3], 255-p[0], 255-p[1], 255-p[2], 255-p[3])
		}
	}
	return m, nil
}

// pixels recycles the memory of pictures; see (*Image).recycle.
var pixels = sync.Pool{New: func() any { return new([]uint8) }}

// newImage returns a picture whose pixels are not cleared.
func newImage(w, h int) *Image {
	p := pixels.Get().(*[]uint8)
	m := &Image{Width: w, Height: h, Pix: *p, pooled: true}
	if n := 3 * w * h; cap(m.Pix) < n {
		m.Pix = make([]uint8, n)
	} else {
		m.Pix = m.Pix[:n]
	}
	return m
}

// recycle gives the pixels of newImage to the next picture; m must not be used
// any more. It leaves pictures of other origin alone.
func (m *Image) recycle() {
	if m.pooled {
		p := m.Pix
		m.Pix, m.pooled = nil, false
		pixels.Put(&p)
	}
}

// decodeStd decodes with a library that returns an image.Image.
func decodeStd(b []byte, format, decoder string, maxPixels int,
	config func(r io.Reader) (image.Config, error), decode func(r io.Reader) (image.Image, error),
) (m *Image, err error) {
	defer func() { // foreign bytes must not end the program
		if v := recover(); v != nil {
			m, err = nil, fmt.Errorf("%s gave up on it: %v", decoder, v)
		}
	}()
	c, err := config(bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	if err := checkDims(int64(c.Width), int64(c.Height), maxPixels); err != nil {
		return nil, err
	}
	src, err := decode(bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	bounds := src.Bounds()
	if err := checkDims(int64(bounds.Dx()), int64(bounds.Dy()), maxPixels); err != nil {
		return nil, err
	}
	m = newImage(bounds.Dx(), bounds.Dy())
	m.Facts = Facts{Format: format, Decoder: decoder}
	return m, m.fill(src)
}

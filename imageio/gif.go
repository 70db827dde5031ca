package imageio

import (
	"bytes"
	"encoding/binary"
	"image/gif"
)

// gifFrame is what the library does not tell of a GIF's first picture.
type gifFrame struct {
	screenW, screenH int
	x, y             int
	colours          []byte // its palette, three bytes a colour
	transparent      int    // index of the transparent colour, -1 without one
	control          int    // where that is flagged in the file
}

// firstFrame walks to the first picture; ok is false when there is none.
func firstFrame(b []byte) (f gifFrame, ok bool) {
	if len(b) < 13 {
		return f, false
	}
	f.screenW, f.screenH = int(binary.LittleEndian.Uint16(b[6:])), int(binary.LittleEndian.Uint16(b[8:]))
	f.transparent = -1
	pos := 13 + int(gifColours(b[10]))
	f.colours = b[13:min(pos, len(b))]
	for pos+10 <= len(b) {
		switch b[pos] {
		case 0x2c:
			f.x, f.y = int(binary.LittleEndian.Uint16(b[pos+1:])), int(binary.LittleEndian.Uint16(b[pos+3:]))
			if n := int(gifColours(b[pos+9])); n > 0 && pos+10+n <= len(b) {
				f.colours = b[pos+10:][:n]
			}
			return f, true
		case 0x21:
			if b[pos+1] == 0xf9 && b[pos+2] >= 4 && b[pos+3]&1 != 0 {
				f.transparent, f.control = int(b[pos+6]), pos+3
			}
			for pos += 2; pos < len(b) && b[pos] != 0; pos += int(b[pos]) + 1 {
			}
			pos++
		default:
			return f, false
		}
	}
	return f, false
}

// colour is entry i of the palette, black beyond its end.
func (f *gifFrame) colour(i int) [3]uint8 {
	var c [3]uint8
	if i >= 0 && 3*i+3 <= len(f.colours) {
		copy(c[:], f.colours[3*i:])
	}
	return c
}

// decodeGIF decodes the first picture and lays it on the whole screen. The
// library makes a transparent colour black; alpha is dropped here, so the mark
// that makes it transparent is removed before.
func decodeGIF(b []byte, maxPixels int) (*Image, error) {
	f, ok := firstFrame(b)
	if ok && f.transparent >= 0 {
		b = bytes.Clone(b)
		b[f.control] &^= 1
	}
	m, err := decodeStd(b, "gif", "image/gif", maxPixels, gif.DecodeConfig, gif.Decode)
	if err != nil || !ok {
		return m, err
	}
	m.Facts.Alpha = f.transparent >= 0
	if m.Width == f.screenW && m.Height == f.screenH {
		return m, nil
	}
	if err := checkDims(int64(f.screenW), int64(f.screenH), maxPixels); err != nil {
		return nil, err
	}
	screen := newImage(f.screenW, f.screenH)
	screen.Facts = m.Facts
	fill := f.colour(max(f.transparent, 0))
	for i := 0; i < len(screen.Pix); i += 3 {
		copy(screen.Pix[i:], fill[:])
	}
	for y := range min(m.Height, f.screenH-f.y) {
		if w := min(m.Width, f.screenW-f.x); w > 0 {
			copy(screen.Pix[3*((y+f.y)*f.screenW+f.x):], m.Pix[3*y*m.Width:][:3*w])
		}
	}
	m.recycle()
	return screen, nil
}

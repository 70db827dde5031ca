package imageio

import "encoding/binary"

// orientation finds the EXIF orientation (1 to 8) of a picture, 1 when it has none.
func orientation(format string, b []byte) int {
	switch format {
	case "jpeg":
		o := 0
		jpegSegments(b, func(kind byte, body []byte) {
			if o == 0 && kind == 0xe1 && len(body) > 6 && string(body[:6]) == "Exif\x00\x00" {
				o = tiffOrientation(body[6:])
			}
		})
		return max(o, 1)
	case "png":
		o := 1
		pngChunks(b, func(kind string, body []byte) bool {
			if kind == "eXIf" {
				o = tiffOrientation(body)
			}
			return kind != "eXIf"
		})
		return o
	case "webp":
		for pos := 12; pos+8 <= len(b); {
			n := int(binary.LittleEndian.Uint32(b[pos+4:]))
			if n < 0 || n > len(b)-pos-8 {
				break
			}
			if body := b[pos+8 : pos+8+n]; string(b[pos:pos+4]) == "EXIF" {
				if len(body) > 6 && string(body[:6]) == "Exif\x00\x00" {
					body = body[6:]
				}
				return tiffOrientation(body)
			}
			pos += 8 + n + n&1
		}
	case "tiff":
		return tiffOrientation(b)
	}
	return 1
}

// tiffOrientation reads tag 274 of the first directory of a TIFF structure.
func tiffOrientation(b []byte) int {
	if len(b) < 8 {
		return 1
	}
	var order binary.ByteOrder = binary.LittleEndian
	if b[0] == 'M' {
		order = binary.BigEndian
	}
	off := int64(order.Uint32(b[4:]))
	if off+2 > int64(len(b)) {
		return 1
	}
	entries := b[off+2:]
	for range order.Uint16(b[off:]) {
		if len(entries) < 12 {
			break
		}
		if order.Uint16(entries) == 274 {
			if v := int(order.Uint16(entries[8:])); 1 <= v && v <= 8 {
				return v
			}
			break
		}
		entries = entries[12:]
	}
	return 1
}

// oriented returns m turned as EXIF orientation o asks.
func oriented(m *Image, o int) *Image {
	if o < 2 || o > 8 {
		return m
	}
	w, h := m.Width, m.Height
	if o >= 5 {
		w, h = h, w
	}
	out := newImage(w, h)
	out.Facts = m.Facts
	for y := range m.Height {
		for x := range m.Width {
			u, v := x, y
			if o == 2 || o == 3 || o == 7 || o == 8 { // the source's columns run backwards
				u = m.Width - 1 - x
			}
			if o == 3 || o == 4 || o == 6 || o == 7 { // its rows do
				v = m.Height - 1 - y
			}
			if o >= 5 {
				u, v = v, u
			}
			copy(out.Pix[3*(v*w+u):][:3], m.Pix[3*(y*m.Width+x):][:3])
		}
	}
	m.recycle()
	return out
}

package imageio

import (
	"errors"
	"fmt"
	"math"
)

// pnmHeader is the head of a portable bit, gray or pix map (P1 to P6).
type pnmHeader struct {
	kind          byte // '1' … '6'
	width, height int
	maxval        int
	offset        int // of the first pixel
}

func (h pnmHeader) binary() bool { return h.kind >= '4' }

func (h pnmHeader) channels() int {
	if h.kind == '3' || h.kind == '6' {
		return 3
	}
	return 1
}

// bytes is the size of a binary raster.
func (h pnmHeader) bytes() int {
	switch {
	case h.kind == '4':
		return (h.width + 7) / 8 * h.height
	case h.maxval > 255:
		return 2 * h.channels() * h.width * h.height
	}
	return h.channels() * h.width * h.height
}

// pnmScanner reads whitespace-separated numbers; a # begins a comment.
type pnmScanner struct {
	b   []byte
	pos int
}

func (s *pnmScanner) skip() {
	for s.pos < len(s.b) {
		switch c := s.b[s.pos]; {
		case c == '#':
			for s.pos < len(s.b) && s.b[s.pos] != '\n' {
				s.pos++
			}
		case isSpace(c):
			s.pos++
		default:
			return
		}
	}
}

func (s *pnmScanner) number() (int, error) {
	s.skip()
	start, v := s.pos, 0
	for ; s.pos < len(s.b) && '0' <= s.b[s.pos] && s.b[s.pos] <= '9'; s.pos++ {
		if v = 10*v + int(s.b[s.pos]-'0'); v > 1<<30 {
			return 0, fmt.Errorf("damaged PNM: number at byte %d is too large", start)
		}
	}
	switch {
	case s.pos > start:
		return v, nil
	case s.pos == len(s.b):
		return 0, errors.New("cut short: the PNM ends where a number should stand")
	}
	return 0, fmt.Errorf("damaged PNM: byte %d is %q; want a number", s.pos, s.b[s.pos])
}

func parsePNMHeader(b []byte) (pnmHeader, error) {
	if sniff(b) != "pnm" {
		return pnmHeader{}, errors.New("not a PNM header")
	}
	h := pnmHeader{kind: b[1], maxval: 1}
	s := &pnmScanner{b: b, pos: 2}
	fields := []*int{&h.width, &h.height, &h.maxval}
	if h.kind == '1' || h.kind == '4' {
		fields = fields[:2]
	}
	for _, f := range fields {
		v, err := s.number()
		if err != nil {
			return h, err
		}
		*f = v
	}
	if h.maxval < 1 || h.maxval > math.MaxUint16 {
		return h, fmt.Errorf("damaged PNM: largest value %d; want 1 to 65535", h.maxval)
	}
	if s.pos < len(b) { // exactly one white space before the raster
		s.pos++
	}
	h.offset = s.pos
	return h, nil
}

// decodePNM follows Pillow: values are scaled to 0..255 and rounded; but gray
// of more than 8 bits gives its high byte, where Pillow saturates.
func decodePNM(b []byte, maxPixels int) (*Image, error) {
	h, err := parsePNMHeader(b)
	if err != nil {
		return nil, err
	}
	if err := checkDims(int64(h.width), int64(h.height), maxPixels); err != nil {
		return nil, err
	}
	if h.binary() && len(b)-h.offset < h.bytes() {
		return nil, fmt.Errorf("cut short: the header asks for %d bytes, there are %d", h.offset+h.bytes(), len(b))
	}
	if !h.binary() && len(b)-h.offset < h.channels()*h.width*h.height {
		return nil, errors.New("cut short: fewer characters than values") // before anything is allocated
	}
	m := newImage(h.width, h.height)
	m.Facts = Facts{Format: "pnm", Decoder: "fidlab", Gray: h.channels() == 1, Deep: h.maxval > 255}
	next := h.reader(b)
	scale := h.scale()
	for i := 0; i < len(m.Pix); {
		v, err := next()
		if err != nil {
			return nil, err
		}
		m.Pix[i] = scale(v)
		if i++; h.channels() == 1 {
			m.Pix[i], m.Pix[i+1] = m.Pix[i-1], m.Pix[i-1]
			i += 2
		}
	}
	return m, nil
}

// scale maps a file's value to 0..255.
func (h pnmHeader) scale() func(int) uint8 {
	top := float64(h.maxval)
	switch {
	case h.kind == '1' || h.kind == '4':
		return func(v int) uint8 { return 255 * uint8(1-v) } // 1 is black
	case h.maxval == 255:
		return func(v int) uint8 { return uint8(v) }
	case h.maxval > 255 && h.channels() == 1:
		return func(v int) uint8 { return uint8(int(math.RoundToEven(float64(min(v, h.maxval))/top*65535)) >> 8) }
	}
	return func(v int) uint8 { return uint8(math.RoundToEven(float64(min(v, h.maxval)) / top * 255)) }
}

// reader returns a function that gives the raster's values one by one.
func (h pnmHeader) reader(b []byte) func() (int, error) {
	pos := h.offset
	switch {
	case h.kind == '1':
		s := &pnmScanner{b: b, pos: pos}
		return func() (int, error) { // digits need no space between them
			if s.skip(); s.pos == len(b) {
				return 0, errors.New("cut short: the PNM ends inside its raster")
			}
			c := b[s.pos]
			if s.pos++; c != '0' && c != '1' {
				return 0, fmt.Errorf("damaged PNM: byte %d is %q; want 0 or 1", s.pos-1, c)
			}
			return int(c - '0'), nil
		}
	case !h.binary():
		s := &pnmScanner{b: b, pos: pos}
		return func() (int, error) {
			v, err := s.number()
			if err == nil && v > h.maxval {
				err = fmt.Errorf("damaged PNM: value %d; the header allows %d", v, h.maxval)
			}
			return v, err
		}
	case h.kind == '4':
		x := 0
		return func() (int, error) {
			bit := int(b[pos]>>(7-x&7)) & 1
			if x++; x&7 == 0 || x == h.width {
				pos++
			}
			if x == h.width {
				x = 0
			}
			return bit, nil
		}
	case h.maxval > 255:
		return func() (int, error) {
			pos += 2
			return int(b[pos-2])<<8 | int(b[pos-1]), nil
		}
	}
	return func() (int, error) {
		pos++
		return int(b[pos-1]), nil
	}
}

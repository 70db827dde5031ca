package imageio

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// DefaultMaxPixels bounds width times height of a picture: 2^28, 768 MB decoded.
const DefaultMaxPixels = 1 << 28

// checkStructure looks at a picture's skeleton without decoding it: headers,
// chunk lengths, end marker and size. It finds cut files in a few small reads.
func checkStructure(format string, r io.ReaderAt, size int64, maxPixels int) error {
	var err error
	c := checker{r: r, size: size, maxPixels: maxPixels}
	switch format {
	case "png":
		err = c.png()
	case "jpeg":
		err = c.jpeg()
	case "webp":
		err = c.webp()
	case "bmp":
		err = c.bmp()
	case "gif":
		err = c.gif()
	case "tiff":
		err = c.tiff()
	case "pnm":
		err = c.pnm()
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("cut short: the file ends inside its %s header (%d bytes)", format, size)
	}
	return err
}

type checker struct {
	r         io.ReaderAt
	size      int64
	maxPixels int
	buf       [64]byte
}

// at reads n <= 64 bytes at an offset.
func (c *checker) at(off int64, n int) ([]byte, error) {
	m, err := c.r.ReadAt(c.buf[:n], off)
	if m == n {
		return c.buf[:n], nil
	}
	return nil, err
}

func (c *checker) dims(w, h int64) error { return checkDims(w, h, c.maxPixels) }

// checkDims refuses sizes that are nothing or would take too much memory.
func checkDims(w, h int64, maxPixels int) error {
	if w < 1 || h < 1 {
		return fmt.Errorf("%dx%d pixels; a picture has at least 1x1", w, h)
	}
	if maxPixels <= 0 {
		maxPixels = DefaultMaxPixels
	}
	if w > int64(maxPixels)/h {
		return fmt.Errorf("%dx%d pixels; the limit is %d in all", w, h, maxPixels)
	}
	return nil
}

func (c *checker) png() error {
	pos, data := int64(8), false
	for first := true; ; first = false {
		b, err := c.at(pos, 8)
		if err != nil {
			return fmt.Errorf("cut short: no IEND chunk (%d bytes)", c.size)
		}
		n, kind := int64(binary.BigEndian.Uint32(b)), string(b[4:8])
		if n > 1<<31-1 || pos+12+n > c.size {
			return fmt.Errorf("cut short: chunk %q of %d bytes at byte %d goes past the end (%d bytes)", kind, n, pos, c.size)
		}
		switch {
		case first && (kind != "IHDR" || n != 13):
			return fmt.Errorf("damaged PNG: first chunk is %q of %d bytes; want IHDR of 13", kind, n)
		case first:
			if b, err = c.at(pos+8, 8); err != nil {
				return err
			}
			if err := c.dims(int64(binary.BigEndian.Uint32(b)), int64(binary.BigEndian.Uint32(b[4:]))); err != nil {
				return err
			}
		case kind == "IDAT":
			data = true
		case kind == "IEND" && !data:
			return errors.New("damaged PNG: no IDAT chunk")
		case kind == "IEND":
			return nil
		}
		pos += 12 + n
	}
}

func (c *checker) jpeg() error {
	pos, frame := int64(2), false
	for {
		b, err := c.at(pos, 4)
		if err != nil {
			return fmt.Errorf("cut short: the JPEG ends before its picture data (%d bytes)", c.size)
		}
		if b[0] != 0xff {
			return fmt.Errorf("damaged JPEG: byte %d is %02x; want a marker", pos, b[0])
		}
		kind, n := b[1], int64(binary.BigEndian.Uint16(b[2:]))
		switch {
		case kind == 0xff: // fill byte
			pos++
			continue
		case kind == 0x01 || 0xd0 <= kind && kind <= 0xd7: // no length
			pos += 2
			continue
		case kind == 0xd9:
			return errors.New("damaged JPEG: it ends without picture data")
		case n < 2 || pos+2+n > c.size:
			return fmt.Errorf("cut short: segment %02x of %d bytes at byte %d goes past the end (%d bytes)", kind, n, pos, c.size)
		case kind == 0xda:
			if !frame {
				return errors.New("damaged JPEG: picture data before the frame header")
			}
			return c.jpegEnd(pos + 2 + n)
		case 0xc0 <= kind && kind <= 0xcf && kind != 0xc4 && kind != 0xc8 && kind != 0xcc:
			if b, err = c.at(pos+5, 4); err != nil {
				return err
			}
			frame = true
			if err := c.dims(int64(binary.BigEndian.Uint16(b[2:])), int64(binary.BigEndian.Uint16(b))); err != nil {
				return err
			}
		}
		pos += 2 + n
	}
}

// jpegEnd looks for the end marker backwards: within picture data ff is always
// followed by 00 or a restart number, so ff d9 can't be there by chance.
func (c *checker) jpegEnd(from int64) error {
	buf := make([]byte, 4096)
	for end := c.size; end > from; {
		start := max(from, end-int64(len(buf)))
		b := buf[:end-start]
		if _, err := c.r.ReadAt(b, start); err != nil && err != io.EOF {
			return err
		}
		if bytes.Contains(b, []byte{0xff, 0xd9}) {
			return nil
		}
		if start == from {
			break
		}
		end = start + 1 // the marker may straddle
	}
	return fmt.Errorf("cut short: no end marker (%d bytes)", c.size)
}

func (c *checker) webp() error {
	b, err := c.at(0, 12)
	if err != nil {
		return err
	}
	if n := int64(binary.LittleEndian.Uint32(b[4:])) + 8; n > c.size {
		return fmt.Errorf("cut short: the header says %d bytes, there are %d", n, c.size)
	}
	return nil
}

func (c *checker) bmp() error {
	b, err := c.at(0, 34)
	if err != nil {
		return err
	}
	if binary.LittleEndian.Uint32(b[14:]) < 40 {
		return nil // OS/2 header: the decoder tells
	}
	w, h := int64(int32(binary.LittleEndian.Uint32(b[18:]))), int64(int32(binary.LittleEndian.Uint32(b[22:])))
	h = max(h, -h)
	if err := c.dims(w, h); err != nil {
		return err
	}
	bits := int64(binary.LittleEndian.Uint16(b[28:]))
	packed := binary.LittleEndian.Uint32(b[30:])
	need := int64(binary.LittleEndian.Uint32(b[10:])) + h*((w*bits+31)/32*4)
	if (packed == 0 || packed == 3) && need > c.size {
		return fmt.Errorf("cut short: the header asks for %d bytes, there are %d", need, c.size)
	}
	return nil
}

func (c *checker) tiff() error {
	b, err := c.at(0, 8)
	if err != nil {
		return err
	}
	off := int64(binary.LittleEndian.Uint32(b[4:]))
	if b[0] == 'M' {
		off = int64(binary.BigEndian.Uint32(b[4:]))
	}
	if off+2 > c.size {
		return fmt.Errorf("cut short: its directory is at byte %d, there are %d", off, c.size)
	}
	return nil
}

// gif walks to the end of the first picture, the only one that is used.
func (c *checker) gif() error {
	b, err := c.at(0, 13)
	if err != nil {
		return err
	}
	if err := c.dims(int64(binary.LittleEndian.Uint16(b[6:])), int64(binary.LittleEndian.Uint16(b[8:]))); err != nil {
		return err
	}
	pos := int64(13) + gifColours(b[10])
	cut := fmt.Errorf("cut short: the GIF ends inside its first picture (%d bytes)", c.size)
	for {
		if b, err = c.at(pos, 1); err != nil {
			return cut
		}
		last := false
		switch b[0] {
		case 0x21:
			pos += 2
		case 0x2c:
			if b, err = c.at(pos, 10); err != nil {
				return cut
			}
			pos += 10 + gifColours(b[9]) + 1
			last = true
		case 0x3b:
			return errors.New("damaged GIF: it has no picture")
		default:
			return fmt.Errorf("damaged GIF: block %02x at byte %d", b[0], pos)
		}
		for n := int64(1); n > 0; pos += n + 1 {
			if b, err = c.at(pos, 1); err != nil {
				return cut
			}
			n = int64(b[0])
		}
		if last {
			return nil
		}
	}
}

func gifColours(flags byte) int64 {
	if flags&0x80 == 0 {
		return 0
	}
	return 3 << (flags&7 + 1)
}

func (c *checker) pnm() error {
	b := make([]byte, min(c.size, 4096))
	if _, err := c.r.ReadAt(b, 0); err != nil && err != io.EOF {
		return err
	}
	h, err := parsePNMHeader(b)
	if err != nil {
		return err
	}
	if err := c.dims(int64(h.width), int64(h.height)); err != nil {
		return err
	}
	if need := h.offset + h.bytes(); h.binary() && int64(need) > c.size {
		return fmt.Errorf("cut short: the header asks for %d bytes, there are %d", need, c.size)
	}
	return nil
}

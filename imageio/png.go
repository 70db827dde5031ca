package imageio

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"strings"
	"sync"

	"github.com/fidlab/fidlab/internal/cpu"
)

// errPNGGeneral says that a PNG is of a kind left to the general decoder.
var errPNGGeneral = errors.New("interlaced or reserved PNG")

// pngReader decodes the usual PNGs: not interlaced. It inflates all rows at
// once, undoes their filters in place and writes RGB directly, without the
// intermediate image that the standard library makes.
type pngReader struct {
	data     []byte // of all IDAT chunks
	joined   []byte // memory for it when there are several
	raw      []byte // the rows, each after its filter byte
	palette  [256][3]uint8
	colours  int
	width    int
	height   int
	depth    int
	kind     byte
	channels int
	trns     bool
}

var pngReaders = sync.Pool{New: func() any { return new(pngReader) }}

// maxInflate is how many bytes deflate can make of one.
const maxInflate = 1032

// decodePNG decodes b, whose chunk structure and size are checked already.
func decodePNG(w *cpu.Worker, b []byte) (*Image, error) {
	p := pngReaders.Get().(*pngReader)
	defer func() {
		p.data = nil // it may be the caller's
		pngReaders.Put(p)
	}()
	if err := p.chunks(b); err != nil {
		return nil, err
	}
	row := (p.width*p.channels*p.depth+7)/8 + 1
	if len(p.data) < row*p.height/maxInflate { // before that much is allocated
		return nil, fmt.Errorf("damaged PNG: %d bytes of data can't hold %dx%d pixels", len(p.data), p.width, p.height)
	}
	p.raw = grow(p.raw, row*p.height)
	n, err := cpu.Inflate(w, p.raw, p.data)
	switch {
	case errors.Is(err, cpu.ErrTooLong): // the rest belongs to no row
	case err != nil:
		return nil, errors.New("damaged PNG: " + strings.TrimPrefix(err.Error(), "cpu: Inflate: "))
	case n < len(p.raw):
		return nil, fmt.Errorf("damaged PNG: its data end in row %d of %d", n/row, p.height)
	}
	m := newImage(p.width, p.height)
	m.Facts = Facts{
		Format: "png", Decoder: "fidlab", Gray: p.kind&2 == 0, Alpha: p.kind&4 != 0 || p.trns,
		Palette: p.kind == 3, Deep: p.depth == 16,
	}
	if err := p.rows(m, row); err != nil {
		m.recycle()
		return nil, err
	}
	return m, nil
}

// chunks collects header, palette and data, and verifies their checksums.
func (p *pngReader) chunks(b []byte) error {
	p.colours, p.trns, p.joined = 0, false, p.joined[:0]
	p.palette = [256][3]uint8{}
	var only []byte // the usual case, one IDAT chunk, needs no copy
	for pos := 8; ; {
		n, kind := int(binary.BigEndian.Uint32(b[pos:])), string(b[pos+4:pos+8])
		data := b[pos+8 : pos+8+n]
		switch kind {
		case "IHDR", "PLTE", "IDAT", "tRNS", "IEND":
			if crc32.ChecksumIEEE(b[pos+4:pos+8+n]) != binary.BigEndian.Uint32(b[pos+8+n:]) {
				return fmt.Errorf("damaged PNG: checksum of chunk %s at byte %d is wrong", kind, pos)
			}
		}
		switch kind {
		case "IHDR":
			if pos != 8 {
				return fmt.Errorf("damaged PNG: a second header at byte %d", pos)
			}
			if err := p.header(data); err != nil {
				return err
			}
		case "PLTE":
			if n%3 != 0 || n > 768 {
				return fmt.Errorf("damaged PNG: palette of %d bytes", n)
			}
			for p.colours = range n / 3 {
				copy(p.palette[p.colours][:], data[3*p.colours:])
			}
			p.colours = n / 3
		case "tRNS":
			p.trns = true
		case "IDAT":
			if only == nil && len(p.joined) == 0 {
				only = data
			} else {
				p.joined = append(append(p.joined, only...), data...)
				only = nil
			}
		case "IEND":
			if p.kind == 3 && p.colours == 0 {
				return errors.New("damaged PNG: no palette")
			}
			if len(p.joined) > 0 {
				only = p.joined
			}
			p.data = only
			return nil
		}
		pos += 12 + n
	}
}

func (p *pngReader) header(d []byte) error {
	p.width, p.height = int(binary.BigEndian.Uint32(d)), int(binary.BigEndian.Uint32(d[4:]))
	p.depth, p.kind = int(d[8]), d[9]
	channels := map[byte]int{0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[p.kind]
	ok := p.depth == 8 || p.depth == 16 && p.kind != 3 ||
		(p.depth == 1 || p.depth == 2 || p.depth == 4) && (p.kind == 0 || p.kind == 3)
	if channels == 0 || !ok {
		return fmt.Errorf("damaged PNG: colour type %d with %d bits", p.kind, p.depth)
	}
	if d[10] != 0 || d[11] != 0 || d[12] != 0 {
		return errPNGGeneral
	}
	p.channels = channels
	return nil
}

func (p *pngReader) rows(m *Image, size int) error {
	step := max(p.channels*p.depth/8, 1)
	prev := make([]byte, size-1) // above the first row are zeros
	for y := range p.height {
		line := p.raw[y*size:][:size]
		if err := unfilter(line[0], line[1:], prev, step); err != nil {
			return fmt.Errorf("damaged PNG: row %d: %w", y, err)
		}
		prev = line[1:]
		p.store(m.Pix[3*y*p.width:][:3*p.width], prev)
	}
	return nil
}

// unfilter undoes a row's filter in place; step is the bytes of a pixel.
func unfilter(filter byte, row, prev []byte, step int) error {
	prev = prev[:len(row)]
	switch filter {
	case 0:
	case 1:
		for i := step; i < len(row); i++ {
			row[i] += row[i-step]
		}
	case 2:
		for i, v := range prev {
			row[i] += v
		}
	case 3:
		for i := range min(step, len(row)) {
			row[i] += prev[i] / 2
		}
		for i := step; i < len(row); i++ {
			row[i] += uint8((int(row[i-step]) + int(prev[i])) / 2)
		}
	case 4:
		if step == 3 {
			paeth3(row, prev)
			return nil
		}
		for i := range min(step, len(row)) {
			row[i] += prev[i]
		}
		for i := step; i < len(row); i++ {
			row[i] += paeth(int(row[i-step]), int(prev[i]), int(prev[i-step]))
		}
	default:
		return fmt.Errorf("filter %d; there are 0 to 4", filter)
	}
	return nil
}

// paeth is whichever of left, up and upper left is nearest to left+up-corner.
func paeth(left, up, corner int) uint8 {
	pa, pb := up-corner, left-corner
	pc := pa + pb
	pa, pb, pc = max(pa, -pa), max(pb, -pb), max(pc, -pc)
	v := left
	if pb < pa {
		v, pa = up, pb
	}
	if pc < pa {
		v = corner
	}
	return uint8(v)
}

// paeth3 keeps the three channels of an RGB row in registers.
func paeth3(row, prev []byte) {
	var l0, l1, l2, c0, c1, c2 int
	for i := 0; i+3 <= len(row); i += 3 {
		q, u := row[i:i+3:i+3], prev[i:i+3:i+3]
		u0, u1, u2 := int(u[0]), int(u[1]), int(u[2])
		v0, v1, v2 := q[0]+paeth(l0, u0, c0), q[1]+paeth(l1, u1, c1), q[2]+paeth(l2, u2, c2)
		q[0], q[1], q[2] = v0, v1, v2
		l0, l1, l2, c0, c1, c2 = int(v0), int(v1), int(v2), u0, u1, u2
	}
}

// store converts a row of samples to RGB.
func (p *pngReader) store(out, row []byte) {
	switch {
	case p.depth < 8:
		scale := byte(255 / (1<<p.depth - 1))
		for x := range p.width {
			bit := x * p.depth
			v := row[bit>>3] >> (8 - p.depth - bit&7) & (1<<p.depth - 1)
			q := out[3*x:][:3]
			if p.kind == 3 {
				copy(q, p.palette[v][:])
			} else {
				q[0], q[1], q[2] = v*scale, v*scale, v*scale
			}
		}
	case p.kind == 2 && p.depth == 8:
		copy(out, row)
	case p.kind == 3:
		for x, v := range row {
			copy(out[3*x:][:3], p.palette[v][:])
		}
	default: // whole bytes: the first of each sample, of the first one or three samples
		size, step := p.depth/8, p.channels*p.depth/8
		g, b := size, 2*size
		if p.channels < 3 {
			g, b = 0, 0
		}
		for x := range p.width {
			s, q := row[x*step:][:step], out[3*x:][:3]
			q[0], q[1], q[2] = s[0], s[g], s[b]
		}
	}
}

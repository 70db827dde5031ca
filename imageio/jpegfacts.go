package imageio

import (
	"encoding/binary"
	"fmt"
	"math"
	"sync"
)

// The tables of quality 50, in rows: tables K.1 and K.2 of ITU-T T.81.
var (
	lumaTable = [64]int{
		16, 11, 10, 16, 24, 40, 51, 61,
		12, 12, 14, 19, 26, 58, 60, 55,
		14, 13, 16, 24, 40, 57, 69, 56,
		14, 17, 22, 29, 51, 87, 80, 62,
		18, 22, 37, 56, 68, 109, 103, 77,
		24, 35, 55, 64, 81, 104, 113, 92,
		49, 64, 78, 87, 103, 121, 120, 101,
		72, 92, 95, 98, 112, 100, 103, 99,
	}
	chromaTable = [64]int{
		17, 18, 24, 47, 99, 99, 99, 99,
		18, 21, 26, 66, 99, 99, 99, 99,
		24, 26, 56, 99, 99, 99, 99, 99,
		47, 66, 99, 99, 99, 99, 99, 99,
		99, 99, 99, 99, 99, 99, 99, 99,
		99, 99, 99, 99, 99, 99, 99, 99,
		99, 99, 99, 99, 99, 99, 99, 99,
		99, 99, 99, 99, 99, 99, 99, 99,
	}
	zigzag = zigzagOrder()
)

// zigzagOrder is the place in rows of each number of a table as a file has it.
func zigzagOrder() (order [64]int) {
	k := 0
	for s := range 15 {
		for t := range s + 1 {
			y, x := t, s-t
			if s%2 == 0 {
				y, x = x, y
			}
			if x < 8 && y < 8 {
				order[k] = 8*y + x
				k++
			}
		}
	}
	return order
}

// scaledTables are the tables of every quality from 1 on, as libjpeg scales them (jpeg_set_quality).
func scaledTables(base *[64]int) (all [101][64]int) {
	for q := 1; q < len(all); q++ {
		scale := 200 - 2*q
		if q < 50 {
			scale = 5000 / q
		}
		for i, v := range base {
			all[q][i] = min(max((v*scale+50)/100, 1), 255)
		}
	}
	return all
}

// ofQuality are both tables of every quality. Every JPEG that is decoded is compared with them.
var ofQuality = sync.OnceValue(func() *[2][101][64]int {
	return &[2][101][64]int{scaledTables(&lumaTable), scaledTables(&chromaTable)}
})

// qualityOf is the quality whose tables are nearest to these, by the sum of the
// differences; of equals the highest. chroma may be nil.
func qualityOf(luma, chroma *[64]int) (quality int, exact bool) {
	all, least := ofQuality(), math.MaxInt
	for q := 100; q >= 1 && least > 0; q-- {
		off := tableDistance(luma, &all[0][q])
		if chroma != nil {
			off += tableDistance(chroma, &all[1][q])
		}
		if off < least {
			quality, least = q, off
		}
	}
	return quality, least == 0
}

func tableDistance(t, of *[64]int) (sum int) {
	for i, v := range of {
		sum += max(t[i]-v, v-t[i])
	}
	return sum
}

// readJPEG reads quality, sampling and order from the segments before the
// picture data. What is damaged or of another kind is left unknown.
func (f *Facts) readJPEG(b []byte) {
	var tables [4]*[64]int
	chroma := -1
	jpegSegments(b, func(kind byte, body []byte) {
		switch {
		case kind == 0xdb:
			readTables(body, &tables)
		case 0xc0 <= kind && kind <= 0xcf && kind != 0xc4 && kind != 0xc8 && kind != 0xcc:
			f.Progressive = kind == 0xc2 || kind == 0xc6 || kind == 0xca || kind == 0xce
			chroma = f.readFrame(body)
		}
	})
	if tables[0] == nil {
		return
	}
	var second *[64]int
	if chroma > 0 {
		second = tables[chroma]
	}
	q, exact := qualityOf(tables[0], second)
	f.Quality, f.OwnTables = q, !exact
}

// samplings are the usual names by how many pixels, across and down, share a chroma value.
var samplings = map[[2]int]string{{1, 1}: "4:4:4", {2, 1}: "4:2:2", {2, 2}: "4:2:0", {1, 2}: "4:4:0", {4, 1}: "4:1:1", {4, 2}: "4:1:0"}

// readFrame reads the sampling of a frame header; it returns the number of the chroma's table, -1 for none.
func (f *Facts) readFrame(body []byte) int {
	if len(body) < 9 || len(body) < 6+3*int(body[5]) {
		return -1
	}
	n := int(body[5])
	if n == 1 {
		f.Sampling = "gray"
		return -1
	}
	if n < 3 {
		return -1
	}
	part := func(i int) (h, v int) { return int(body[6+3*i+1] >> 4), int(body[6+3*i+1] & 15) }
	h, v := part(0)
	ch, cv := part(1)
	f.Sampling = fmt.Sprintf("%dx%d to %dx%d", h, v, ch, cv)
	if ch > 0 && cv > 0 && h%ch == 0 && v%cv == 0 {
		if name := samplings[[2]int{h / ch, v / cv}]; name != "" {
			f.Sampling = name
		}
	}
	return int(body[6+3*1+2] & 3)
}

// readTables reads the quantisation tables of a segment.
func readTables(body []byte, tables *[4]*[64]int) {
	for len(body) > 0 {
		wide, slot := int(body[0]>>4), int(body[0]&15)
		size := 64 << wide
		if wide > 1 || slot > 3 || len(body) < 1+size {
			return
		}
		t := new([64]int)
		for i := range 64 {
			if wide == 1 {
				t[zigzag[i]] = int(binary.BigEndian.Uint16(body[1+2*i:]))
			} else {
				t[zigzag[i]] = int(body[1+i])
			}
		}
		tables[slot] = t
		body = body[1+size:]
	}
}

// jpegSegments calls f with every segment before the picture data.
func jpegSegments(b []byte, f func(kind byte, body []byte)) {
	for pos := 2; pos+4 <= len(b) && b[pos] == 0xff; {
		kind, n := b[pos+1], int(binary.BigEndian.Uint16(b[pos+2:]))
		switch {
		case kind == 0xff: // fill byte
			pos++
			continue
		case kind == 0x01 || 0xd0 <= kind && kind <= 0xd7: // no length
			pos += 2
			continue
		case kind == 0xda || kind == 0xd9 || n < 2 || n > len(b)-pos-2:
			return
		}
		f(kind, b[pos+4:pos+2+n])
		pos += 2 + n
	}
}

// pngChunks calls f with every chunk as long as it asks for more.
func pngChunks(b []byte, f func(kind string, body []byte) (more bool)) {
	for pos := 8; pos+12 <= len(b); {
		n := int(binary.BigEndian.Uint32(b[pos:]))
		if n < 0 || n > len(b)-pos-12 || !f(string(b[pos+4:pos+8]), b[pos+8:pos+8+n]) {
			return
		}
		pos += 12 + n
	}
}

// hasProfile tells whether a picture carries an ICC profile.
func hasProfile(format string, b []byte) (has bool) {
	switch format {
	case "jpeg":
		jpegSegments(b, func(kind byte, body []byte) {
			has = has || kind == 0xe2 && len(body) > 12 && string(body[:12]) == "ICC_PROFILE\x00"
		})
	case "png":
		pngChunks(b, func(kind string, _ []byte) bool {
			has = kind == "iCCP"
			return !has && kind != "IDAT" // a profile comes before the data
		})
	case "webp":
		return len(b) > 20 && string(b[12:16]) == "VP8X" && b[20]&0x20 != 0
	}
	return has
}

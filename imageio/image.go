package imageio

import (
	"context"
	"crypto/sha256"
	"encoding/binary"

	"github.com/fidlab/fidlab/internal/cpu"
)

// Image is a decoded picture: 8-bit RGB, row by row, three bytes a pixel.
type Image struct {
	Width, Height int
	Pix           []uint8 // [Height, Width, 3]
	Facts         Facts
	pooled        bool // Pix is of newImage, so recycle may take it
}

// Sum is the SHA-256 of a picture's size and pixels: what tells equal pictures, however they were stored.
func (m *Image) Sum() (sum [sha256.Size]byte) {
	h := sha256.New()
	var size [16]byte
	binary.LittleEndian.PutUint64(size[:], uint64(m.Width))
	binary.LittleEndian.PutUint64(size[8:], uint64(m.Height))
	h.Write(size[:])
	h.Write(m.Pix)
	h.Sum(sum[:0])
	return sum
}

// Facts are what decoding had to decide; the pipeline counts them.
type Facts struct {
	Format  string // "jpeg", "png", "webp", "bmp", "tiff", "pnm", "gif", "raw"
	Decoder string // e.g. "libjpeg-turbo 2.1.5", "image/jpeg"
	Gray    bool   // one channel, repeated three times
	Alpha   bool   // an alpha channel was dropped
	Palette bool
	Deep    bool // more than 8 bits a sample
	CMYK    bool
	Rotated bool // EXIF asks for a rotation, which is ignored by default
	Lossy   bool // JPEG or lossy WebP

	Bytes       int    // of the encoded file; 0 where there is none
	Orientation int    // what EXIF asks for, 2 to 8; 1 or 0 for nothing
	ICC         bool   // an embedded colour profile, which is ignored
	Quality     int    // of a JPEG, 1 to 100 on the scale of libjpeg, from its tables; 0 where unknown
	OwnTables   bool   // its tables are not libjpeg's: Quality is the nearest
	Sampling    string // of a JPEG's colours: "4:4:4", "4:2:2", "4:2:0", "gray", ...
	Progressive bool   // a progressive JPEG
}

// Item is one picture of a Source, not yet read or decoded.
type Item struct {
	Name  string // path or member name, as shown to the user
	Label int    // class index, -1 when the source has none
	// Load returns the decoded picture. It may be called once, on any goroutine,
	// after the Each callback that delivered the item has returned. On a worker
	// of internal/cpu, LoadOn must be used where it is not nil.
	Load func() (*Image, error)
	// LoadOn is Load on a worker: native decoders run there and only there.
	LoadOn func(w *cpu.Worker) (*Image, error)
}

// Source is a set of pictures in a fixed order: a folder, an archive, an array, a data set.
type Source interface {
	// Describe names the source for messages, e.g. "out/ (folder)".
	Describe() string
	// Len is the number of items, or -1 when only reading tells (a tar stream).
	Len() int
	// Each calls yield for every item in order until it returns an error, which
	// Each returns. A stream holds at most the bytes of the items in flight.
	Each(ctx context.Context, yield func(Item) error) error
}

// On decodes the item on the worker w.
func (it Item) On(w *cpu.Worker) (*Image, error) {
	if it.LoadOn != nil {
		return it.LoadOn(w)
	}
	return it.Load()
}

// Classed is a source whose labels have names: label i is class Classes()[i].
type Classed interface{ Classes() []string }

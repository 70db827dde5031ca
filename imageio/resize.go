package imageio

import (
	"fmt"
	"sync"

	"github.com/fidlab/fidlab/internal/cpu"
)

// maxTables bounds the tables that a Resizer keeps. A set of pictures of one
// size needs two; at thousands of sizes keeping them all would cost gigabytes.
const maxTables = 64

// Resizer resizes pictures of any size to one size. It is safe for use by
// several goroutines at once.
type Resizer struct {
	Kind       ResizeKind
	OutW, OutH int

	mu     sync.Mutex
	tables map[[2]int]*table
	pool   sync.Pool // of *Scratch
}

// NewResizer returns a resizer to outW by outH pixels.
func NewResizer(kind ResizeKind, outW, outH int) *Resizer {
	if outW < 1 || outH < 1 {
		panic(fmt.Sprintf("imageio: NewResizer: to %dx%d; want at least 1x1", outW, outH))
	}
	return &Resizer{Kind: kind, OutW: outW, OutH: outH, tables: map[[2]int]*table{}}
}

// Scratch is the working memory of one resize at a time. The zero value is
// ready; it grows to what is needed and is then reused without allocation.
type Scratch struct {
	float cpu.ResampleScratch
	ints  []int32
}

// Into resizes img and writes v*scale + offset for every value v on the scale
// 0..255 to dst, float32 [3, OutH, OutW]. With scale 1 and offset 0 that is the
// picture; a network's normalisation costs nothing more. Float results are
// rounded to float32 after each pass, as Pillow does. A nil scratch is taken
// from a pool. Both give the same bits.
func (r *Resizer) Into(dst []float32, img *Image, scale, offset float32, scratch *Scratch) {
	if len(dst) != 3*r.OutW*r.OutH {
		panic(fmt.Sprintf("imageio: Into: %d values for 3x%dx%d; want %d", len(dst), r.OutH, r.OutW, 3*r.OutW*r.OutH))
	}
	img.mustBeWhole("Into")
	if scratch == nil {
		if scratch, _ = r.pool.Get().(*Scratch); scratch == nil {
			scratch = new(Scratch)
		}
		defer r.pool.Put(scratch)
	}
	h, v := r.axis(img.Width, r.OutW), r.axis(img.Height, r.OutH)
	if r.Kind.method == pilU8 {
		p := u8Pass{h: h, v: v, img: img, outW: r.OutW, outH: r.OutH}
		p.put = func(y int, row []int32) {
			n := r.OutW * r.OutH
			for c := range 3 {
				out := dst[c*n+y*r.OutW:][:r.OutW]
				for x, v := range row[c*r.OutW:][:r.OutW] {
					out[x] = float32(float32(v)*scale) + offset
				}
			}
		}
		p.run(r.Kind.verticalFirst(img.Width, img.Height, r.OutW, r.OutH), scratch)
		return
	}
	p := cpu.Resample{
		H: h.ResampleAxis, V: v.ResampleAxis, Scale: scale, Offset: offset, Clip: r.Kind.method == pilFloat,
		VerticalFirst: r.Kind.verticalFirst(img.Width, img.Height, r.OutW, r.OutH),
	}
	p.Run(dst, img.Pix, img.Width, img.Height, &scratch.float)
}

// U8 returns the resized picture of a resizer of kind PILU8, with img's facts.
func (r *Resizer) U8(img *Image) *Image {
	if r.Kind.method != pilU8 {
		panic(fmt.Sprintf("imageio: U8: resize %v has no 8-bit result; use Into", r.Kind))
	}
	img.mustBeWhole("U8")
	out := &Image{Width: r.OutW, Height: r.OutH, Pix: make([]uint8, 3*r.OutW*r.OutH), Facts: img.Facts}
	p := u8Pass{h: r.axis(img.Width, r.OutW), v: r.axis(img.Height, r.OutH), img: img, outW: r.OutW, outH: r.OutH}
	p.put = func(y int, row []int32) {
		line := out.Pix[3*y*r.OutW:][:3*r.OutW]
		for c := range 3 {
			for x, v := range row[c*r.OutW:][:r.OutW] {
				line[3*x+c] = uint8(v)
			}
		}
	}
	p.run(r.Kind.verticalFirst(img.Width, img.Height, r.OutW, r.OutH), new(Scratch))
	return out
}

func (m *Image) mustBeWhole(op string) {
	if m.Width < 1 || m.Height < 1 || len(m.Pix) != 3*m.Width*m.Height {
		panic(fmt.Sprintf("imageio: %s: %dx%d picture with %d bytes; want three a pixel", op, m.Width, m.Height, len(m.Pix)))
	}
}

func (r *Resizer) axis(in, out int) *table {
	r.mu.Lock()
	defer r.mu.Unlock()
	key := [2]int{in, out}
	t := r.tables[key]
	if t == nil {
		if len(r.tables) >= maxTables {
			clear(r.tables)
		}
		t = r.Kind.table(in, out)
		r.tables[key] = t
	}
	return t
}

// grow returns s with length n, keeping its memory when that is enough.
func grow[T any](s []T, n int) []T {
	if cap(s) < n {
		return make([]T, n)
	}
	return s[:n]
}

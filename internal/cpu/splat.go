package cpu

import (
	"fmt"
	"math"
)

// Splat is a two-dimensional Gaussian made ready to draw. At a pixel (dx, dy)
// from its mean, q = P·(dx + K·dy)² + V·dy² and its value is O·exp(-q), where
// q <= QMax and the pixel lies in [X0, X1) × [Y0, Y1). P, V > 0; the rectangle is
// within the image, or empty. QMax is +Inf where the rectangle alone decides.
type Splat struct {
	X, Y, K, P, V, O, QMax float32
	X0, X1, Y0, Y1         int32
}

// splatPad is how many floats a row has beyond its last pixel: vectors of
// sixteen hang over by at most fifteen.
const splatPad = 16

// SplatCanvas is the pixel grid that Gaussians are drawn on. Planes of it have
// Stride floats a row, of which the first Width are pixels and the rest must be
// finite.
type SplatCanvas struct {
	Width, Height, Stride int
	xs, ys                []float32
	origin, inverse       float32 // pixel i of a row is near origin + i/inverse
}

// NewSplatCanvas makes the grid of the pixels at (xs[i], ys[j]). Positions are
// evenly spaced and rise.
func NewSplatCanvas(xs, ys []float32) *SplatCanvas {
	w, h := len(xs), len(ys)
	if w == 0 || h == 0 {
		panic(fmt.Sprintf("cpu: NewSplatCanvas: %d x %d pixels, want at least one", w, h))
	}
	c := &SplatCanvas{Width: w, Height: h, Stride: w + splatPad, xs: make([]float32, w+splatPad), ys: ys, origin: xs[0], inverse: 1}
	copy(c.xs, xs)
	for i := w; i < len(c.xs); i++ {
		c.xs[i] = xs[w-1]
	}
	if w > 1 {
		c.inverse = float32(w-1) / (xs[w-1] - xs[0])
	}
	return c
}

// XS is the positions of the columns.
func (c *SplatCanvas) XS() []float32 { return c.xs[:c.Width] }

// YS is the positions of the rows.
func (c *SplatCanvas) YS() []float32 { return c.ys }

func (c *SplatCanvas) rows(op string, channels, y0, y1 int, f []float32, s []Splat) int {
	if channels < 1 || y0 < 0 || y1 <= y0 || y1 > c.Height || len(f) < channels*len(s) {
		panic(fmt.Sprintf("cpu: %s: rows [%d, %d) of %d, %d channels, %d features of %d Gaussians", op, y0, y1, c.Height, channels, len(f), len(s)))
	}
	return (y1 - y0) * c.Stride
}

func splatLen(op, what string, got, want int) {
	if got < want {
		panic(fmt.Sprintf("cpu: %s: %s has %d elements, want %d", op, what, got, want))
	}
}

// Add adds O·exp(-q)·f[id] of every Gaussian of ids, in their order, to the rows
// [y0, y1), planes acc [channels, y1-y0, Stride], and the same without the
// feature to z [y1-y0, Stride] unless z is nil. f is [len(s), channels].
func (c *SplatCanvas) Add(s []Splat, ids []int32, f []float32, channels, y0, y1 int, acc, z []float32) {
	n := c.rows("SplatCanvas.Add", channels, y0, y1, f, s)
	splatLen("SplatCanvas.Add", "acc", len(acc), channels*n)
	if z != nil {
		splatLen("SplatCanvas.Add", "z", len(z), n)
	}
	if len(ids) > 0 && !nativeSplatAdd(c, s, ids, f, channels, y0, y1, acc, z) {
		goSplatAdd(c, s, ids, f, channels, y0, y1, acc, z)
	}
}

// SplatLight is what front-to-back blending keeps of rows [y1-y0, Stride]: the
// light that is left, 1 at first; 1 + the place in ids of the last Gaussian
// drawn, 0 at first; and -1 where the pixel is still open.
type SplatLight struct {
	Left []float32
	Last []int32
	Open []int32
}

// The constants of front-to-back blending (gsplat): alpha is at most alphaCap,
// below alphaLeast it is skipped, and a pixel is closed before its light would
// fall to alphaEnd = (1 - alphaCap)².
const (
	alphaCap   float32 = 0.99
	alphaLeast float32 = 1.0 / 255
	alphaEnd   float32 = 1e-4
)

// Alpha blends the Gaussians of ids front to back into acc, planes as Add's.
func (c *SplatCanvas) Alpha(s []Splat, ids []int32, f []float32, channels, y0, y1 int, acc []float32, l *SplatLight) {
	n := c.rows("SplatCanvas.Alpha", channels, y0, y1, f, s)
	splatLen("SplatCanvas.Alpha", "acc", len(acc), channels*n)
	splatLen("SplatCanvas.Alpha", "l", min(len(l.Left), len(l.Last), len(l.Open)), n)
	if len(ids) > 0 && !nativeSplatAlpha(c, s, ids, f, channels, y0, y1, acc, l) {
		goSplatAlpha(c, s, ids, f, channels, y0, y1, acc, l)
	}
}

// SplatSums is how many sums over its pixels a Gaussian's gradient needs: with
// t = exp(-q)·dL/dg and u = dx + K·dy they are t, t·u, t·dy, t·u², t·u·dy, t·dy².
const SplatSums = 6

// Gather makes the gradients of Add for the Gaussians [lo, hi) of s: SplatSums
// sums each, and df = O Σ exp(-q)·v. dL/dg of a pixel is v·f - offset; v is planes
// [channels, Height, Stride], offset one plane or nil.
func (c *SplatCanvas) Gather(w *Worker, s []Splat, lo, hi int, f []float32, channels int, v, offset, sums, df []float32) {
	n := c.rows("SplatCanvas.Gather", channels, 0, c.Height, f, s)
	splatLen("SplatCanvas.Gather", "v", len(v), channels*n)
	splatLen("SplatCanvas.Gather", "sums", len(sums), SplatSums*len(s))
	splatLen("SplatCanvas.Gather", "df", len(df), channels*len(s))
	if offset != nil {
		splatLen("SplatCanvas.Gather", "offset", len(offset), n)
	}
	if lo < 0 || hi > len(s) {
		panic(fmt.Sprintf("cpu: SplatCanvas.Gather: Gaussians [%d, %d) of %d", lo, hi, len(s)))
	}
	work := w.f32(scratchWork, 16*channels)
	if lo < hi && !nativeSplatGather(c, s, lo, hi, f, channels, v, offset, work, sums, df) {
		goSplatGather(c, s, lo, hi, f, channels, v, offset, work, sums, df)
	}
}

// AlphaBack makes the gradients of Alpha from these rows, back to front.
// SplatSums sums and then df of ids[i] go to slots[i·(SplatSums+channels):]. v is
// planes [channels, y1-y0, Stride]. left starts as Alpha left it, behind as left
// times (v·background - the gradient of the coverage); both are used up.
func (c *SplatCanvas) AlphaBack(w *Worker, s []Splat, ids []int32, f []float32, channels, y0, y1 int, v, left, behind []float32, last []int32, slots []float32) {
	n := c.rows("SplatCanvas.AlphaBack", channels, y0, y1, f, s)
	splatLen("SplatCanvas.AlphaBack", "v", len(v), channels*n)
	splatLen("SplatCanvas.AlphaBack", "left, behind or last", min(len(left), len(behind), len(last)), n)
	splatLen("SplatCanvas.AlphaBack", "slots", len(slots), len(ids)*(SplatSums+channels))
	work := w.f32(scratchWork, 16*channels)
	if len(ids) > 0 && !nativeSplatAlphaBack(c, s, ids, f, channels, y0, y1, v, left, behind, last, work, slots) {
		goSplatAlphaBack(c, s, ids, f, channels, y0, y1, v, left, behind, last, work, slots)
	}
}

// Interleave sets out [rows, Width, channels] to planes, each rows of Stride
// floats, the first of a channel plane floats after the one before.
func (c *SplatCanvas) Interleave(out, planes []float32, channels, rows, plane int) {
	c.planes("SplatCanvas.Interleave", planes, out, channels, rows, plane)
	if rows*channels == 0 || nativeSplatInterleave(c, out, planes, channels, rows, plane) {
		return
	}
	for y := range rows {
		for x := range c.Width {
			for k := range channels {
				out[(y*c.Width+x)*channels+k] = planes[k*plane+y*c.Stride+x]
			}
		}
	}
}

// Planes is Interleave backwards; the padding of the rows is left alone.
func (c *SplatCanvas) Planes(planes, in []float32, channels, rows, plane int) {
	c.planes("SplatCanvas.Planes", planes, in, channels, rows, plane)
	if rows*channels == 0 || nativeSplatPlanes(c, planes, in, channels, rows, plane) {
		return
	}
	for y := range rows {
		for x := range c.Width {
			for k := range channels {
				planes[k*plane+y*c.Stride+x] = in[(y*c.Width+x)*channels+k]
			}
		}
	}
}

func (c *SplatCanvas) planes(op string, planes, pixels []float32, channels, rows, plane int) {
	if channels < 0 || rows < 0 || plane < rows*c.Stride {
		panic(fmt.Sprintf("cpu: %s: %d channels of %d rows, planes %d apart", op, channels, rows, plane))
	}
	splatLen(op, "the pixels", len(pixels), rows*c.Width*channels)
	if channels > 0 {
		splatLen(op, "the planes", len(planes), (channels-1)*plane+rows*c.Stride)
	}
}

var infinity32 = float32(math.Inf(1))

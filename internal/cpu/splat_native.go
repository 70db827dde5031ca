//go:build native && cgo

package cpu

// #cgo noescape splat_add
// #cgo nocallback splat_add
// #cgo noescape splat_alpha
// #cgo nocallback splat_alpha
// #cgo noescape splat_interleave
// #cgo nocallback splat_interleave
// #cgo noescape splat_planes
// #cgo nocallback splat_planes
// #cgo noescape splat_gather
// #cgo nocallback splat_gather
// #cgo noescape splat_alpha_back
// #cgo nocallback splat_alpha_back
// #cgo LDFLAGS: -lm
// #include "splat.h"
import "C"

import "unsafe"

func splats(s []Splat) *C.splat { return (*C.splat)(unsafe.Pointer(&s[0])) }

func splatIDs(x []int32) *C.int32_t { return (*C.int32_t)(&x[0]) }

// splatPlane is a plane that may be missing.
func splatPlane(x []float32) *C.float { return (*C.float)(unsafe.SliceData(x)) }

func nativeSplatAdd(c *SplatCanvas, s []Splat, ids []int32, f []float32, channels, y0, y1 int, acc, z []float32) bool {
	calls.vec.Add(1)
	C.splat_add(splats(s), splatIDs(ids), C.long(len(ids)), f32(f), C.int(channels), f32(c.xs), f32(c.ys),
		C.float(c.origin), C.float(c.inverse), C.int(y0), C.int(y1), C.long(c.Stride), f32(acc), splatPlane(z))
	return true
}

func nativeSplatAlpha(c *SplatCanvas, s []Splat, ids []int32, f []float32, channels, y0, y1 int, acc []float32, l *SplatLight) bool {
	calls.vec.Add(1)
	C.splat_alpha(splats(s), splatIDs(ids), C.long(len(ids)), f32(f), C.int(channels), f32(c.xs), f32(c.ys),
		C.float(c.origin), C.float(c.inverse), C.int(y0), C.int(y1), C.long(c.Stride), f32(acc), f32(l.Left), splatIDs(l.Last), splatIDs(l.Open))
	return true
}

func nativeSplatGather(c *SplatCanvas, s []Splat, lo, hi int, f []float32, channels int, v, offset, work, sums, df []float32) bool {
	calls.vec.Add(1)
	C.splat_gather(splats(s), C.long(lo), C.long(hi), f32(f), C.int(channels), f32(c.xs), f32(c.ys),
		C.float(c.origin), C.float(c.inverse), C.long(c.Height), C.long(c.Stride), f32(v), splatPlane(offset), f32(work), f32(sums), f32(df))
	return true
}

func nativeSplatAlphaBack(c *SplatCanvas, s []Splat, ids []int32, f []float32, channels, y0, y1 int, v, left, behind []float32, last []int32, work, slots []float32) bool {
	calls.vec.Add(1)
	C.splat_alpha_back(splats(s), splatIDs(ids), C.long(len(ids)), f32(f), C.int(channels), f32(c.xs), f32(c.ys),
		C.float(c.origin), C.float(c.inverse), C.int(y0), C.int(y1), C.long(c.Stride), f32(v), f32(left), f32(behind), splatIDs(last), f32(work), f32(slots))
	return true
}

func nativeSplatInterleave(c *SplatCanvas, out, planes []float32, channels, rows, plane int) bool {
	calls.vec.Add(1)
	C.splat_interleave(f32(out), f32(planes), C.int(channels), C.long(c.Width), C.long(rows), C.long(c.Stride), C.long(plane))
	return true
}

func nativeSplatPlanes(c *SplatCanvas, planes, in []float32, channels, rows, plane int) bool {
	calls.vec.Add(1)
	C.splat_planes(f32(planes), f32(in), C.int(channels), C.long(c.Width), C.long(rows), C.long(c.Stride), C.long(plane))
	return true
}

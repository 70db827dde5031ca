//go:build native && cgo

package cpu

// #cgo noescape resample_rgb
// #cgo nocallback resample_rgb
// #include "native.h"
import "C"

func nativeResample(r *Resample, dst []float32, pix []uint8, w int, s *ResampleScratch) bool {
	calls.resample.Add(1)
	outW, outH := len(r.H.Start), len(r.V.Start)
	s.line, s.ring = growTo(s.line, 4*w), growTo(s.ring, 4*outW*r.V.Taps)
	clip := C.int(0)
	if r.Clip {
		clip = 1
	}
	C.resample_rgb((*C.uint8_t)(&pix[0]), C.long(w), C.long(outW), C.long(outH),
		C.int(r.H.Taps), (*C.int32_t)(&r.H.Start[0]), f64(r.H.Weight),
		C.int(r.V.Taps), (*C.int32_t)(&r.V.Start[0]), f64(r.V.Weight),
		f64(s.line), f64(s.ring), f32(dst), C.float(r.Scale), C.float(r.Offset), clip)
	return true
}

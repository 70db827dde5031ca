//go:build !native || !cgo

package cpu

func nativeSplatAdd(*SplatCanvas, []Splat, []int32, []float32, int, int, int, []float32, []float32) bool {
	return false
}

func nativeSplatAlpha(*SplatCanvas, []Splat, []int32, []float32, int, int, int, []float32, *SplatLight) bool {
	return false
}

func nativeSplatGather(*SplatCanvas, []Splat, int, int, []float32, int, []float32, []float32, []float32, []float32, []float32) bool {
	return false
}

func nativeSplatAlphaBack(*SplatCanvas, []Splat, []int32, []float32, int, int, int, []float32, []float32, []float32, []int32, []float32, []float32) bool {
	return false
}

func nativeSplatInterleave(*SplatCanvas, []float32, []float32, int, int, int) bool { return false }

func nativeSplatPlanes(*SplatCanvas, []float32, []float32, int, int, int) bool { return false }

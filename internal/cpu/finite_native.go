//go:build native && cgo

package cpu

// #cgo noescape vec_finite32
// #cgo nocallback vec_finite32
// #cgo noescape vec_finite64
// #cgo nocallback vec_finite64
// int vec_finite32(long n, const float *x);
// int vec_finite64(long n, const double *x);
import "C"

func nativeFinite32(x []float32) (finite, ok bool) {
	calls.vec.Add(1)
	return C.vec_finite32(C.long(len(x)), f32(x)) != 0, true
}

func nativeFinite64(x []float64) (finite, ok bool) {
	calls.vec.Add(1)
	return C.vec_finite64(C.long(len(x)), f64(x)) != 0, true
}

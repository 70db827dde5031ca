//go:build native && cgo

package cpu

// #cgo noescape vec_lincomb32
// #cgo nocallback vec_lincomb32
// #cgo noescape vec_lincomb64
// #cgo nocallback vec_lincomb64
// #cgo noescape vec_triad
// #cgo nocallback vec_triad
// #cgo noescape vec_relu
// #cgo nocallback vec_relu
// #cgo noescape vec_exp
// #cgo nocallback vec_exp
// #cgo noescape vec_softmax
// #cgo nocallback vec_softmax
// #cgo noescape vec_pool
// #cgo nocallback vec_pool
// #include "native.h"
import "C"

// linVectors is how wide a linear combination's vectors are: 0 what every
// processor has, 1 AVX2, 2 AVX-512.
var linVectors = int(C.vec_vectors())

func nativeLinComb[T float32 | float64](out []T, c []float64, x *[linOperands][]T) (finite, ok bool) {
	calls.vec.Add(1)
	var r C.int
	switch out := any(out).(type) {
	case []float32:
		x := any(x).(*[linOperands][]float32)
		r = C.vec_lincomb32(C.int(linVectors), C.long(len(out)), C.int(len(c)), f32(out), f64(c), f32(x[0]), f32(x[1]), f32(x[2]), f32(x[3]), f32(x[4]), f32(x[5]), f32(x[6]), f32(x[7]))
	case []float64:
		x := any(x).(*[linOperands][]float64)
		r = C.vec_lincomb64(C.long(len(out)), C.int(len(c)), f64(out), f64(c), f64(x[0]), f64(x[1]), f64(x[2]), f64(x[3]), f64(x[4]), f64(x[5]), f64(x[6]), f64(x[7]))
	}
	return r != 0, true
}

func nativeTriad(out, a, b []float32, s float32) bool {
	calls.vec.Add(1)
	C.vec_triad(C.long(len(out)), f32(out), f32(a), f32(b), C.float(s))
	return true
}

func nativeReLU32(out, x []float32) bool {
	calls.vec.Add(1)
	C.vec_relu(C.long(len(out)), f32(out), f32(x))
	return true
}

func nativeExp32(out, x []float32) bool {
	calls.vec.Add(1)
	C.vec_exp(C.long(len(out)), f32(out), f32(x))
	return true
}

func nativeSoftmax32(rows, cols int, out []float32, ldo int, x []float32, ldx int) bool {
	calls.vec.Add(1)
	C.vec_softmax(C.long(rows), C.long(cols), f32(out), C.long(ldo), f32(x), C.long(ldx))
	return true
}

func nativePool(p *Pool, average bool, out, in []float32, oh, ow int) bool {
	calls.vec.Add(1)
	C.vec_pool(f32(out), C.int(oh), C.int(ow), f32(in), C.int(p.H), C.int(p.W), C.int(p.KH), C.int(p.KW),
		C.int(p.StrideH), C.int(p.StrideW), C.int(p.PadH), C.int(p.PadW), flag(average), flag(p.CountPadding))
	return true
}

package ops

import (
	"math"
	"unsafe"

	"github.com/fidlab/fidlab/gpu"
)

// Finite tells whether no element of x is NaN or infinite; at is the first one
// that is, or -1.
func Finite(x *gpu.Tensor) (at int, ok bool) {
	if x.Double() {
		v := x.F64()
		if finiteWords(unsafe.Slice((*uint64)(unsafe.Pointer(unsafe.SliceData(v))), len(v)), 0x7ff0000000000000, 0x0010000000000000, 1<<63) {
			return -1, true
		}
		for i, e := range v {
			if e-e != 0 {
				return i, false
			}
		}
		return -1, true
	}
	v := x.F32()
	// The bit test reads words of two elements: peel off what is not 8-byte aligned.
	head := 0
	if len(v) > 0 && uintptr(unsafe.Pointer(unsafe.SliceData(v)))%8 != 0 {
		head = 1
	}
	body := v[head:]
	words := unsafe.Slice((*uint64)(unsafe.Pointer(unsafe.SliceData(body))), len(body)/2)
	if finiteWords(words, 0x7f8000007f800000, 0x0080000000800000, 1<<63|1<<31) &&
		(head == 0 || finite32(v[0])) && (len(body)%2 == 0 || finite32(v[len(v)-1])) {
		return -1, true
	}
	for i, e := range v {
		if !finite32(e) {
			return i, false
		}
	}
	return -1, true
}

func finite32(e float32) bool { return math.Float32bits(e)&0x7f800000 != 0x7f800000 }

// finiteWords looks at exponents only: an exponent of all ones plus one in its
// last place carries into the sign bit, which expo leaves clear.
func finiteWords(w []uint64, expo, one, sign uint64) bool {
	var a, b, c, d uint64
	i := 0
	for ; i+4 <= len(w); i += 4 {
		q := w[i : i+4 : i+4]
		a |= (q[0] & expo) + one
		b |= (q[1] & expo) + one
		c |= (q[2] & expo) + one
		d |= (q[3] & expo) + one
	}
	for ; i < len(w); i++ {
		a |= (w[i] & expo) + one
	}
	return (a|b|c|d)&sign == 0
}

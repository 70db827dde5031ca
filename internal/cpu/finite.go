package cpu

import "math"

// Finite32 tells whether no element of x is NaN or infinite. It reads x once, on
// the caller's thread: at the speed of memory more threads would not help.
func Finite32(x []float32) bool {
	if len(x) == 0 {
		return true
	}
	if finite, ok := nativeFinite32(x); ok {
		return finite
	}
	return goFinite32(x)
}

// Finite64 is Finite32 for float64.
func Finite64(x []float64) bool {
	if len(x) == 0 {
		return true
	}
	if finite, ok := nativeFinite64(x); ok {
		return finite
	}
	return goFinite64(x)
}

// Exponents only: all ones plus one in the last place carries into the sign
// bit, which the mask leaves clear. Four sums keep the processor busy.
func goFinite32(x []float32) bool {
	const mask, one = 0x7f800000, 0x00800000
	var a, b, c, d uint32
	for ; len(x) >= 4; x = x[4:] {
		a |= math.Float32bits(x[0])&mask + one
		b |= math.Float32bits(x[1])&mask + one
		c |= math.Float32bits(x[2])&mask + one
		d |= math.Float32bits(x[3])&mask + one
	}
	for _, v := range x {
		a |= math.Float32bits(v)&mask + one
	}
	return (a|b|c|d)>>31 == 0
}

func goFinite64(x []float64) bool {
	const mask, one = 0x7ff0000000000000, 0x0010000000000000
	var a, b, c, d uint64
	for ; len(x) >= 4; x = x[4:] {
		a |= math.Float64bits(x[0])&mask + one
		b |= math.Float64bits(x[1])&mask + one
		c |= math.Float64bits(x[2])&mask + one
		d |= math.Float64bits(x[3])&mask + one
	}
	for _, v := range x {
		a |= math.Float64bits(v)&mask + one
	}
	return (a|b|c|d)>>63 == 0
}

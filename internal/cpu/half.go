package cpu

import "math"

// F16ToFloat is the value of the float16 with the bits u.
func F16ToFloat(u uint16) float32 {
	sign, e, m := uint32(u>>15)<<31, uint32(u>>10)&31, uint32(u)&0x3ff
	switch e {
	case 0: // zero and subnormals: m 2^-24
		return math.Float32frombits(math.Float32bits(float32(m)*0x1p-24) | sign)
	case 31:
		return math.Float32frombits(sign | 0x7f800000 | m<<13)
	}
	return math.Float32frombits(sign | (e+112)<<23 | m<<13)
}

// FloatToF16 rounds x to the nearest float16, ties to even; what is too large
// becomes an infinity, NaN a quiet NaN.
func FloatToF16(x float32) uint16 {
	u := math.Float32bits(x)
	sign := uint16(u >> 16 & 0x8000)
	u &= 0x7fffffff
	switch {
	case u > 0x7f800000: // NaN keeps its high bits and becomes quiet
		return sign | 0x7e00 | uint16(u>>13&0x3ff)
	case u >= 0x477ff000: // 65520 and more round to infinity
		return sign | 0x7c00
	case u < 0x38800000: // below 2^-14: adding 0.5 rounds at 2^-24
		return sign | uint16(math.Float32bits(math.Float32frombits(u)+0.5)-0x3f000000)
	}
	return sign | uint16((u+0xfff+u>>13&1-0x38000000)>>13)
}

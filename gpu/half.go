package gpu

import "math"

// BF16ToFloat is the value of the bfloat16 with these bits.
func BF16ToFloat(b uint16) float32 { return math.Float32frombits(uint32(b) << 16) }

// FloatToBF16 rounds f to the nearest bfloat16, ties to even; NaN becomes a
// quiet NaN.
func FloatToBF16(f float32) uint16 {
	u := math.Float32bits(f)
	if u&0x7fffffff > 0x7f800000 {
		return uint16(u>>16) | 0x40
	}
	return uint16((u + 0x7fff + u>>16&1) >> 16)
}

// F16ToFloat is the value of the IEEE 754 binary16 with these bits.
func F16ToFloat(h uint16) float32 {
	sign := uint32(h&0x8000) << 16
	exp, frac := uint32(h>>10&31), uint32(h&0x3ff)
	switch exp {
	case 31:
		return math.Float32frombits(sign | 0x7f800000 | frac<<13)
	case 0: // zero or subnormal: frac · 2^-24
		v := float32(frac) * (1.0 / (1 << 24))
		return math.Float32frombits(sign | math.Float32bits(v))
	}
	return math.Float32frombits(sign | (exp+112)<<23 | frac<<13)
}

// FloatToF16 rounds f to the nearest binary16, ties to even; what is too large
// becomes an infinity, NaN a quiet NaN.
func FloatToF16(f float32) uint16 {
	u := math.Float32bits(f)
	sign, u := uint16(u>>16&0x8000), u&0x7fffffff
	switch {
	case u > 0x7f800000:
		return sign | 0x7e00 | uint16(u>>13&0x3ff)
	case u >= 0x477ff000: // 65520 and above round to infinity
		return sign | 0x7c00
	case u < 0x38800000: // below 2^-14: a subnormal, a multiple of 2^-24
		// Adding 0.5 moves the value's last bit, 2^-24, to the end of the float's
		// mantissa, so the sum's rounding is the wanted one.
		v := math.Float32frombits(u) + 0.5
		return sign | uint16(math.Float32bits(v)-0x3f000000)
	}
	u += 0xc8000fff + u>>13&1 // rebias the exponent by -112, round the 13 bits that go
	return sign | uint16(u>>13)
}

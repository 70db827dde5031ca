package gpu

import (
	"math"

	"github.com/fidlab/fidlab/internal/cpu"
)

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
func F16ToFloat(h uint16) float32 { return cpu.F16ToFloat(h) }

// FloatToF16 rounds f to the nearest binary16, ties to even; what is too large
// becomes an infinity, NaN a quiet NaN.
func FloatToF16(f float32) uint16 { return cpu.FloatToF16(f) }

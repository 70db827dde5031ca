package tensor

import (
	"encoding/binary"
	"fmt"
	"math"
)

// FromF16 makes an Array of float16 of the given shape: the values of v rounded to the nearest one, ties to the one whose
// last bit is zero. It is an error when a value is not finite, or rounds to infinity, as those from 65520 on do. It panics
// when the shape does not hold len(v) elements.
func FromF16(v []float32, shape ...int) (*Array, error) {
	a := &Array{DType: F16, Shape: shape, Data: make([]byte, 2*len(v))}
	a.mustHold(len(v))
	for i, x := range v {
		h := floatToHalf(x)
		if h&0x7c00 == 0x7c00 {
			return nil, fmt.Errorf("tensor: element %d of %v is %g, which float16 cannot hold; it ends at 65504", i, shape, x)
		}
		binary.LittleEndian.PutUint16(a.Data[2*i:], h)
	}
	return a, nil
}

// floatToHalf rounds to the nearest IEEE binary16, ties to even; what is too large becomes infinite.
func floatToHalf(f float32) uint16 {
	b := math.Float32bits(f)
	sign := uint16(b>>16) & 0x8000
	b &= 1<<31 - 1
	switch {
	case b > 255<<23:
		return sign | 0x7e00 // not a number
	case b >= 0x477ff000: // 65520, half way to 65536
		return sign | 0x7c00
	case b >= 113<<23: // 2^-14, the least normal one
		b -= 112 << 23
		return sign | uint16((b+1<<12-1+b>>13&1)>>13)
	}
	return sign | uint16(math.RoundToEven(float64(math.Float32frombits(b))*(1<<24))) // a multiple of 2^-24
}

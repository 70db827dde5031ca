package tensor

import (
	"encoding/binary"
	"fmt"
	"math"
)

// DType is the element type of an Array.
type DType uint8

// The element types that the file formats share.
const (
	Invalid DType = iota
	Bool
	U8
	I8
	U16
	I16
	U32
	I32
	U64
	I64
	F16
	BF16
	F32
	F64
)

var dtypes = [...]struct {
	name string
	size int
}{
	Invalid: {"invalid", 0}, Bool: {"bool", 1}, U8: {"uint8", 1}, I8: {"int8", 1}, U16: {"uint16", 2}, I16: {"int16", 2},
	U32: {"uint32", 4}, I32: {"int32", 4}, U64: {"uint64", 8}, I64: {"int64", 8},
	F16: {"float16", 2}, BF16: {"bfloat16", 2}, F32: {"float32", 4}, F64: {"float64", 8},
}

// Size is the number of bytes of one element.
func (d DType) Size() int { return dtypes[d].size }

func (d DType) String() string { return dtypes[d].name }

// Array is a host array: little-endian elements in C order.
type Array struct {
	DType DType
	Shape []int
	Data  []byte // len = Len() * DType.Size()
}

// Len is the number of elements, the product of the shape.
func (a *Array) Len() int {
	n := 1
	for _, d := range a.Shape {
		n *= d
	}
	return n
}

// FromF32 makes an Array of the given shape that holds a copy of v. It panics
// when the shape does not hold len(v) elements.
func FromF32(v []float32, shape ...int) *Array {
	a := &Array{DType: F32, Shape: shape, Data: make([]byte, 4*len(v))}
	a.mustHold(len(v))
	for i, x := range v {
		binary.LittleEndian.PutUint32(a.Data[4*i:], math.Float32bits(x))
	}
	return a
}

// FromF64 is FromF32 for float64.
func FromF64(v []float64, shape ...int) *Array {
	a := &Array{DType: F64, Shape: shape, Data: make([]byte, 8*len(v))}
	a.mustHold(len(v))
	for i, x := range v {
		binary.LittleEndian.PutUint64(a.Data[8*i:], math.Float64bits(x))
	}
	return a
}

// FromI64 is FromF32 for int64; without a shape it makes a 0-d array of one value.
func FromI64(v []int64, shape ...int) *Array {
	a := &Array{DType: I64, Shape: shape, Data: make([]byte, 8*len(v))}
	a.mustHold(len(v))
	for i, x := range v {
		binary.LittleEndian.PutUint64(a.Data[8*i:], uint64(x))
	}
	return a
}

// FromU8 is FromF32 for bytes; it keeps v.
func FromU8(v []byte, shape ...int) *Array {
	a := &Array{DType: U8, Shape: shape, Data: v}
	a.mustHold(len(v))
	return a
}

func (a *Array) mustHold(n int) {
	if a.Len() != n {
		panic(fmt.Sprintf("tensor: shape %v does not hold %d elements", a.Shape, n))
	}
}

// F32 returns the elements as float32, whatever the dtype (float64 and integers are rounded).
func (a *Array) F32() []float32 {
	out := make([]float32, a.Len())
	if a.DType == F32 {
		for i := range out {
			out[i] = math.Float32frombits(binary.LittleEndian.Uint32(a.Data[4*i:]))
		}
		return out
	}
	for i := range out {
		out[i] = float32(a.at(i))
	}
	return out
}

// F64 returns the elements as float64, whatever the dtype (64-bit integers above 2^53 are rounded).
func (a *Array) F64() []float64 {
	out := make([]float64, a.Len())
	for i := range out {
		out[i] = a.at(i)
	}
	return out
}

func (a *Array) at(i int) float64 {
	b := a.Data[i*a.DType.Size():]
	switch a.DType {
	case Bool, U8:
		return float64(b[0])
	case I8:
		return float64(int8(b[0]))
	case U16:
		return float64(binary.LittleEndian.Uint16(b))
	case I16:
		return float64(int16(binary.LittleEndian.Uint16(b)))
	case U32:
		return float64(binary.LittleEndian.Uint32(b))
	case I32:
		return float64(int32(binary.LittleEndian.Uint32(b)))
	case U64:
		return float64(binary.LittleEndian.Uint64(b))
	case I64:
		return float64(int64(binary.LittleEndian.Uint64(b)))
	case F16:
		return float64(halfToFloat(binary.LittleEndian.Uint16(b)))
	case BF16:
		return float64(math.Float32frombits(uint32(binary.LittleEndian.Uint16(b)) << 16))
	case F32:
		return float64(math.Float32frombits(binary.LittleEndian.Uint32(b)))
	case F64:
		return math.Float64frombits(binary.LittleEndian.Uint64(b))
	}
	panic("tensor: array of dtype " + a.DType.String())
}

// halfToFloat widens an IEEE binary16; it is exact.
func halfToFloat(h uint16) float32 {
	sign, exp, frac := uint32(h>>15)<<31, uint32(h>>10)&31, uint32(h)&1023
	switch {
	case exp == 31:
		return math.Float32frombits(sign | 255<<23 | frac<<13)
	case exp == 0: // zero or subnormal: frac * 2^-24
		f := float32(frac) * (1.0 / (1 << 24))
		return math.Float32frombits(sign | math.Float32bits(f))
	}
	return math.Float32frombits(sign | (exp+112)<<23 | frac<<13)
}

package gpu

import "fmt"

// DType is the type of a tensor's elements.
type DType uint8

// The element types. Float16 and BFloat16 are stored as their 16 bits.
const (
	Float32 DType = iota
	Float64
	Float16
	BFloat16
	Int32
	Uint8
)

var dtypes = [...]struct {
	name string
	size int
}{
	Float32: {"float32", 4}, Float64: {"float64", 8}, Float16: {"float16", 2},
	BFloat16: {"bfloat16", 2}, Int32: {"int32", 4}, Uint8: {"uint8", 1},
}

func (d DType) String() string {
	if int(d) < len(dtypes) {
		return dtypes[d].name
	}
	return fmt.Sprintf("DType(%d)", uint8(d))
}

// Size is the number of bytes of one element.
func (d DType) Size() int { return dtypes[d].size }

// Half tells whether d is one of the two 16-bit float types.
func (d DType) Half() bool { return d == Float16 || d == BFloat16 }

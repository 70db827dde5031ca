package cuda

import "fmt"

// TensorMap is a tensor as the copy engine of compute capability 9.0 (TMA) sees it:
// where it lies, its extents, and the box that one copy takes. A kernel has it as a
// parameter; the bytes are the driver's own.
type TensorMap [16]uint64

// TensorType is an element's type (CUtensorMapDataType).
type TensorType int32

// The types of tensors that kernels copy by maps.
const (
	TensorF16  TensorType = 6
	TensorBF16 TensorType = 9
)

// Swizzle is how a box's 16-byte pieces are permuted in shared memory (CUtensorMapSwizzle).
type Swizzle int32

// The permutations: none, and piece i of row r at i xor (r mod 8) in rows of 128 bytes.
const (
	SwizzleNone Swizzle = 0
	Swizzle128  Swizzle = 3
)

// Tiles describes a tensor for a TensorMap: Rank dimensions, the fastest first.
type Tiles struct {
	Base    Ptr // on 16 bytes
	Type    TensorType
	Rank    int
	Dims    [5]uint64 // extents, at least 1 each
	Strides [4]uint64 // of the dimensions after the first, in bytes, multiples of 16 below 2^40
	Box     [5]uint32 // extents of one copy, 1 to 256 each, the first one a multiple of 16 bytes
	Swizzle Swizzle
}

// Encode makes the tensor map of t. What lies outside of the extents reads as zeros.
// It fails where the driver is too old to know tensor maps, and on what no map can
// describe; the memory itself is not looked at.
func (t *Tiles) Encode() (TensorMap, error) {
	var m TensorMap
	if t.Rank < 1 || t.Rank > len(t.Dims) {
		return m, fmt.Errorf("cuda: tensor map of %d dimensions, want 1 to %d", t.Rank, len(t.Dims))
	}
	if status := encodeTiles(&m, t); status != 0 {
		bad := *t // so that t itself stays where it is
		return m, fmt.Errorf("cuda: tensor map of extents %d, strides %d and boxes of %d at %#x: %s",
			bad.Dims[:bad.Rank], bad.Strides[:bad.Rank-1], bad.Box[:bad.Rank], uint64(bad.Base), reason(status))
	}
	return m, nil
}

package ops

import (
	"encoding/binary"
	"math"

	"github.com/fidlab/fidlab/cuda"
)

// newIndex is the memory for the smallest index that a kernel finds, all ones
// to begin with.
func newIndex(s *cuda.Stream) cuda.Ptr {
	p := s.Alloc(8)
	s.Memset(p, 0xff, 8)
	return p
}

// takeIndex waits for the kernels and frees p; -1 when none was found, and when
// the stream has failed.
func takeIndex(s *cuda.Stream, p cuda.Ptr) int {
	var b [8]byte
	err := s.CopyOut(b[:], p)
	s.Free(p)
	if i := binary.LittleEndian.Uint64(b[:]); err == nil && i != math.MaxUint64 {
		return int(i)
	}
	return -1
}

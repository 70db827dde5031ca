package mnist

import (
	"encoding/binary"
	"fmt"
	"io"
)

// maxIDX bounds the elements of an IDX file: the largest of the four has 47 million bytes.
const maxIDX = 64 << 20

// readIDX reads one IDX file of unsigned bytes: a magic number 0x0000 08 rank,
// rank big-endian sizes of four bytes, then the elements in C order. It refuses
// another rank, more than maxIDX elements, a short file and trailing bytes.
func readIDX(r io.Reader, rank int) (shape []int, data []byte, err error) {
	head := make([]byte, 4+4*rank)
	if _, err := io.ReadFull(r, head); err != nil {
		return nil, nil, fmt.Errorf("header of %d bytes is cut: %w", len(head), err)
	}
	if m, want := binary.BigEndian.Uint32(head), uint32(0x0800+rank); m != want {
		return nil, nil, fmt.Errorf("magic number %#08x; wanted %#08x (unsigned bytes in %d dimensions)", m, want, rank)
	}
	n := int64(1)
	for i := range rank {
		d := int64(binary.BigEndian.Uint32(head[4+4*i:]))
		if d == 0 || d > maxIDX/n {
			return nil, nil, fmt.Errorf("dimension %d has size %d; wanted at least 1 and at most %d elements in all", i, d, maxIDX)
		}
		n *= d
		shape = append(shape, int(d))
	}
	// ReadAll grows with what is really there, so that a header cannot make us allocate 64 MB.
	data, err = io.ReadAll(io.LimitReader(r, n+1))
	if err != nil {
		return nil, nil, err
	}
	if int64(len(data)) != n {
		return nil, nil, fmt.Errorf("%d bytes or more follow the header; its sizes %v want %d", len(data), shape, n)
	}
	return shape, data, nil
}

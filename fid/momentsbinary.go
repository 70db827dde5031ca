package fid

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
)

// momentsMagic begins the bytes of a Moments; the last letter is the version.
const momentsMagic = "fidlabmA"

// What MarshalBinary writes after the magic: d, n, pending and whether a
// covariance is summed, as uint32; the mean; the scatter's lower triangle, row by
// row; the rows that are not yet folded in. All float64 and little-endian.
const momentsHead = len(momentsMagic) + 4*4

// MarshalBinary writes the whole state of m, with rows that are not folded in
// yet: what UnmarshalBinary makes of it goes on to the same bits as m. At 2048
// features it takes 16.8 MB, and up to as much again for such rows.
func (m *Moments) MarshalBinary() ([]byte, error) {
	triangle := 0
	if m.scatter != nil {
		triangle = m.d * (m.d + 1) / 2
	}
	b := make([]byte, 0, momentsHead+8*(m.d+triangle+m.pending*m.d))
	b = append(b, momentsMagic...)
	for _, v := range []int{m.d, m.n, m.pending, triangle} {
		if v > math.MaxUint32 {
			return nil, fmt.Errorf("fid: Moments.MarshalBinary: %d does not fit into 32 bits", v)
		}
		b = binary.LittleEndian.AppendUint32(b, uint32(v))
	}
	b = appendF64(b, m.mean)
	if m.scatter != nil {
		for i := range m.d {
			b = appendF64(b, m.scatter[i*m.d:][:i+1])
		}
	}
	return appendF64(b, m.block[:m.pending*m.d]), nil
}

func appendF64(b []byte, x []float64) []byte {
	b = slices.Grow(b, 8*len(x))
	for _, v := range x {
		b = binary.LittleEndian.AppendUint64(b, math.Float64bits(v))
	}
	return b
}

// UnmarshalBinary reads what MarshalBinary wrote. Other bytes, cut ones and
// sizes that do not agree are a BadInputError; m is then unchanged.
func (m *Moments) UnmarshalBinary(b []byte) error {
	if len(b) < momentsHead || string(b[:len(momentsMagic)]) != momentsMagic {
		return badInput("these %d bytes are no moments of this version of fidlab", len(b))
	}
	var head [4]int
	for i := range head {
		head[i] = int(binary.LittleEndian.Uint32(b[len(momentsMagic)+4*i:]))
	}
	d, n, pending, triangle := head[0], head[1], head[2], head[3]
	if d < 1 || d > maxDim || pending >= blockRows || triangle != 0 && triangle != d*(d+1)/2 {
		return badInput("moments of %d features with %d rows pending and %d products: not written by fidlab, or damaged", d, pending, triangle)
	}
	if want := momentsHead + 8*(d+triangle+pending*d); len(b) != want {
		return badInput("moments of %d features are cut or damaged: %d bytes; want %d", d, len(b), want)
	}
	b = b[momentsHead:]
	take := func(x []float64) {
		for i := range x {
			x[i] = math.Float64frombits(binary.LittleEndian.Uint64(b[8*i:]))
		}
		b = b[8*len(x):]
	}
	out := newMeans(d)
	if triangle > 0 {
		out = NewMoments(d)
	}
	out.n, out.pending = n, pending
	take(out.mean)
	if triangle > 0 {
		for i := range d {
			row := out.scatter[i*d:][:i+1]
			take(row)
			for j, v := range row[:i] {
				out.scatter[j*d+i] = v
			}
		}
	}
	take(out.block[:pending*d])
	*m = *out
	return nil
}

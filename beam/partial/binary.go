package partial

import (
	"encoding/binary"
	"encoding/json"
	"fmt"

	"github.com/fidlab/fidlab/fid"
)

// magic begins the bytes of a Partial; the last letter is the version.
const magic = "fidlabpA"

// MarshalBinary writes the whole state; what is read back goes on to the same bits.
func (p *Partial) MarshalBinary() ([]byte, error) {
	b := []byte(magic)
	dropped := 0
	if p.dropped {
		dropped = 1
	}
	for _, v := range []int{int(p.keep), p.dim, p.values, dropped, len(p.seen)} {
		b = binary.AppendUvarint(b, uint64(v))
	}
	for _, s := range p.seen {
		for _, v := range []int{s.shard, s.from, s.to} {
			b = binary.AppendUvarint(b, uint64(v))
		}
	}
	ends, err := json.Marshal(p.ends)
	if err != nil {
		return nil, err
	}
	b = append(binary.AppendUvarint(b, uint64(len(ends))), ends...)
	var sums []byte
	if p.moments != nil {
		if sums, err = p.moments.MarshalBinary(); err != nil {
			return nil, err
		}
	}
	b = append(binary.AppendUvarint(b, uint64(len(sums))), sums...)
	b = binary.AppendUvarint(b, uint64(len(p.kept)))
	for i := range p.kept {
		if b, err = p.kept[i].append(b); err != nil {
			return nil, err
		}
	}
	return b, nil
}

// UnmarshalBinary reads what MarshalBinary wrote. After an error p is of no use.
func (p *Partial) UnmarshalBinary(b []byte) error {
	if len(b) < len(magic) || string(b[:len(magic)]) != magic {
		return fmt.Errorf("partial: %d bytes that this version of fidlab did not write; all workers must run the same program", len(b))
	}
	r := reader{b: b[len(magic):]}
	*p = Partial{keep: int64(r.count()), dim: r.count(), values: r.count(), dropped: r.count() == 1}
	for range r.count() {
		s := span{r.count(), r.count(), r.count()}
		if r.err != nil {
			return r.err
		}
		p.seen = append(p.seen, s)
	}
	if r.json(r.count(), &p.ends); r.err == nil && p.ends == nil {
		p.ends = map[int]End{}
	}
	if sums := r.take(r.count(), 1); len(sums) > 0 && r.err == nil {
		p.moments = new(fid.Moments)
		r.err = p.moments.UnmarshalBinary(sums)
	}
	for range r.count() {
		var piece Piece
		if piece.read(&r); r.err != nil {
			return r.err
		}
		p.kept = append(p.kept, piece)
	}
	if r.err == nil && len(r.b) > 0 {
		r.fail()
	}
	return r.err
}

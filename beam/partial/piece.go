package partial

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"slices"

	"github.com/fidlab/fidlab/fid"
)

// Piece is consecutive rows of one shard, or its end, or both.
type Piece struct {
	Shard int // number of the shard in its set
	First int // number of the first row in the shard
	Dim   int // features of a row; 0 without rows
	// The rows, one after another. Wide is for files of more digits than float32
	// has; at most one of the two is set. They are not changed any more.
	Rows []float32
	Wide []float64
	End  *End // with the last piece of the shard
}

// End closes a shard: it says what should have come.
type End struct {
	Name string          `json:"name"`
	Rows int             `json:"rows"`
	Made *fid.Provenance `json:"made,omitempty"` // nil where nothing tells
}

// Count is the number of rows.
func (p *Piece) Count() int {
	if p.Dim == 0 {
		return 0
	}
	return (len(p.Rows) + len(p.Wide)) / p.Dim
}

func (p *Piece) check() error {
	n := len(p.Rows) + len(p.Wide)
	switch {
	case p.Shard < 0 || p.First < 0 || p.Dim < 0 || p.Rows != nil && p.Wide != nil:
		return fmt.Errorf("partial: a piece of shard %d from row %d with %d features: not made by fidlab", p.Shard, p.First, p.Dim)
	case n > 0 && (p.Dim == 0 || n%p.Dim != 0):
		return fmt.Errorf("partial: shard %d: %d values are no whole rows of %d", p.Shard, n, p.Dim)
	}
	return nil
}

// MarshalBinary writes the piece for another process.
func (p Piece) MarshalBinary() ([]byte, error) { return p.append(nil) }

func (p *Piece) append(b []byte) ([]byte, error) {
	for _, v := range []int{p.Shard, p.First, p.Dim, len(p.Rows), len(p.Wide)} {
		b = binary.AppendUvarint(b, uint64(v))
	}
	b = slices.Grow(b, 4*len(p.Rows)+8*len(p.Wide))
	for _, v := range p.Rows {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(v))
	}
	for _, v := range p.Wide {
		b = binary.LittleEndian.AppendUint64(b, math.Float64bits(v))
	}
	if p.End == nil {
		return binary.AppendUvarint(b, 0), nil
	}
	end, err := json.Marshal(p.End)
	if err != nil {
		return nil, err
	}
	return append(binary.AppendUvarint(b, uint64(len(end))), end...), nil
}

// UnmarshalBinary reads what MarshalBinary wrote.
func (p *Piece) UnmarshalBinary(b []byte) error {
	r := reader{b: b}
	p.read(&r)
	if r.err == nil && len(r.b) > 0 {
		r.fail()
	}
	return r.err
}

func (p *Piece) read(r *reader) {
	*p = Piece{Shard: r.count(), First: r.count(), Dim: r.count()}
	rows, wide := r.count(), r.count()
	if raw := r.take(rows, 4); rows > 0 && r.err == nil {
		p.Rows = make([]float32, rows)
		for i := range p.Rows {
			p.Rows[i] = math.Float32frombits(binary.LittleEndian.Uint32(raw[4*i:]))
		}
	}
	if raw := r.take(wide, 8); wide > 0 && r.err == nil {
		p.Wide = make([]float64, wide)
		for i := range p.Wide {
			p.Wide[i] = math.Float64frombits(binary.LittleEndian.Uint64(raw[8*i:]))
		}
	}
	if n := r.count(); n > 0 {
		r.json(n, &p.End)
	}
	if r.err == nil {
		r.err = p.check()
	}
}

// reader takes bytes apart; after its first error it gives zeros.
type reader struct {
	b   []byte
	err error
}

func (r *reader) fail() {
	if r.err == nil {
		r.err = fmt.Errorf("partial: cut or damaged on its way, or of another version of fidlab: all workers must run the same program")
	}
}

func (r *reader) count() int {
	v, n := binary.Uvarint(r.b)
	if n <= 0 || v > math.MaxInt64 || r.err != nil {
		r.fail()
		return 0
	}
	r.b = r.b[n:]
	return int(v)
}

// take is the next n values of size bytes each.
func (r *reader) take(n, size int) []byte {
	if r.err != nil || n < 0 || n > len(r.b)/size {
		r.fail()
		return nil
	}
	out := r.b[:n*size]
	r.b = r.b[n*size:]
	return out
}

func (r *reader) json(n int, to any) {
	if raw := r.take(n, 1); r.err == nil && json.Unmarshal(raw, to) != nil {
		r.fail()
	}
}

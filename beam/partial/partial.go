// Package partial gathers the feature vectors of one set that come from many
// machines, in any order and grouping, to the statistics that one process that
// read all shards in turn would have made: the same bits while the vectors
// themselves are kept, up to 1e-12 of √(Σᵢᵢ·Σⱼⱼ) when only their moments are.
//
// It keeps account of which rows of which shard it has counted. A row that comes
// twice, or never, is an error that names the shard, whatever the engine that
// moved the pieces promised.
package partial

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/fidlab/fidlab/fid"
)

// Partial is the statistics of some of the rows of a set. It is not safe for
// concurrent use.
type Partial struct {
	keep    int64        // bytes of vectors that are kept
	dim     int          // 0: no row yet
	moments *fid.Moments // of all rows; nil while the kept ones say it all
	kept    []Piece      // all rows as float32, without ends
	values  int          // in kept
	dropped bool         // there were more than may be kept
	seen    []span       // sorted, disjoint, none touches the next
	ends    map[int]End
}

// span is rows from to to-1 of a shard.
type span struct{ shard, from, to int }

// New is an empty Partial that keeps vectors while they take no more than keep
// bytes, or are no more than their features, which the exact distance needs.
func New(keep int64) *Partial { return &Partial{keep: keep, ends: map[int]End{}} }

// N is the number of rows.
func (p *Partial) N() int {
	n := 0
	for _, s := range p.seen {
		n += s.to - s.from
	}
	return n
}

// Add takes a piece, which it keeps. After an error p is of no use.
func (p *Partial) Add(piece Piece) error {
	if err := piece.check(); err != nil {
		return err
	}
	if piece.End != nil {
		if err := p.close(piece.Shard, *piece.End); err != nil {
			return err
		}
	}
	n := piece.Count()
	if n == 0 {
		return nil
	}
	if err := p.setDim(piece.Shard, piece.Dim); err != nil {
		return err
	}
	if err := p.count(span{piece.Shard, piece.First, piece.First + n}); err != nil {
		return err
	}
	p.values += n * p.dim
	over := !p.dropped && p.values > p.most()
	if piece.Wide != nil || over {
		if err := p.sum(); err != nil {
			return err
		}
	}
	if over {
		p.kept, p.dropped = nil, true
	}
	if p.moments != nil {
		if err := addTo(p.moments, &piece); err != nil {
			return fmt.Errorf("%s: from row %d: %w", p.name(piece.Shard), piece.First, err)
		}
	}
	if !p.dropped {
		p.kept = append(p.kept, Piece{Shard: piece.Shard, First: piece.First, Dim: piece.Dim, Rows: narrow(&piece)})
	}
	return nil
}

// most is how many values may be kept.
func (p *Partial) most() int { return max(p.dim*p.dim, int(p.keep/4)) }

// narrow are the rows as float32.
func narrow(piece *Piece) []float32 {
	if piece.Wide == nil {
		return piece.Rows
	}
	out := make([]float32, len(piece.Wide))
	for i, v := range piece.Wide {
		out[i] = float32(v)
	}
	return out
}

func addTo(m *fid.Moments, piece *Piece) error {
	if piece.Wide != nil {
		return m.Add64(piece.Wide)
	}
	return m.Add(piece.Rows)
}

// sum makes the moments of what was kept so far.
func (p *Partial) sum() error {
	if p.moments != nil || p.dim == 0 {
		return nil
	}
	p.moments = fid.NewMoments(p.dim)
	p.sort()
	for i := range p.kept {
		if err := p.moments.Add(p.kept[i].Rows); err != nil {
			return fmt.Errorf("%s: from row %d: %w", p.name(p.kept[i].Shard), p.kept[i].First, err)
		}
	}
	return nil
}

// sort puts the kept rows into the order of the set.
func (p *Partial) sort() {
	slices.SortFunc(p.kept, func(a, b Piece) int { return cmp.Or(a.Shard-b.Shard, a.First-b.First) })
}

// Merge adds what o has gathered; o is of no use afterwards.
func (p *Partial) Merge(o *Partial) error {
	for _, shard := range slices.Sorted(maps.Keys(o.ends)) {
		if err := p.close(shard, o.ends[shard]); err != nil {
			return err
		}
	}
	if o.dim == 0 {
		return nil
	}
	if err := p.setDim(o.seen[0].shard, o.dim); err != nil {
		return err
	}
	for _, s := range o.seen {
		if err := p.count(s); err != nil {
			return err
		}
	}
	p.values += o.values
	dropped := p.dropped || o.dropped || p.values > p.most()
	if dropped || p.moments != nil || o.moments != nil {
		if err := errors.Join(p.sum(), o.sum()); err != nil {
			return err
		}
		p.moments.Merge(o.moments)
	}
	if p.dropped = dropped; dropped {
		p.kept = nil
	} else {
		p.kept = append(p.kept, o.kept...)
	}
	return nil
}

func (p *Partial) setDim(shard, d int) error {
	if p.dim == 0 {
		p.dim = d
	}
	if p.dim != d {
		return fmt.Errorf("%s has %d features a row, others of the set have %d; extract all with one extractor", p.name(shard), d, p.dim)
	}
	return nil
}

// close notes the end of a shard.
func (p *Partial) close(shard int, end End) error {
	if _, twice := p.ends[shard]; twice {
		return fmt.Errorf("%s was counted twice; each shard may be listed once, and a bundle that is tried again must replace the one before", end.Name)
	}
	p.ends[shard] = end
	return nil
}

// count notes rows, and refuses those that it has counted.
func (p *Partial) count(s span) error {
	i, _ := slices.BinarySearchFunc(p.seen, s, func(a, b span) int { return cmp.Or(a.shard-b.shard, a.from-b.from) })
	if i > 0 && p.seen[i-1].shard == s.shard && p.seen[i-1].to > s.from || i < len(p.seen) && p.seen[i].shard == s.shard && s.to > p.seen[i].from {
		return fmt.Errorf("%s: rows %d to %d were counted twice; each shard may be listed once, and a bundle that is tried again must replace the one before",
			p.name(s.shard), s.from, s.to-1)
	}
	p.seen = slices.Insert(p.seen, i, s)
	if i+1 < len(p.seen) && p.seen[i+1].shard == s.shard && p.seen[i+1].from == s.to {
		p.seen[i].to = p.seen[i+1].to
		p.seen = slices.Delete(p.seen, i+1, i+2)
	}
	if i > 0 && p.seen[i-1].shard == s.shard && p.seen[i-1].to == s.from {
		p.seen[i-1].to = p.seen[i].to
		p.seen = slices.Delete(p.seen, i, i+1)
	}
	return nil
}

func (p *Partial) name(shard int) string {
	if end, ok := p.ends[shard]; ok {
		return end.Name
	}
	return fmt.Sprintf("shard %d", shard)
}

// Stats are the statistics of a set of so many shards. A row that is missing or
// shards that were not made alike are an error; no row at all too.
func (p *Partial) Stats(shards int) (*fid.Stats, error) {
	at := 0
	for i := range shards {
		end, ok := p.ends[i]
		if !ok {
			return nil, fmt.Errorf("shard %d of %d never came to its end; the engine lost it: run the job again", i, shards)
		}
		rows := 0
		for ; at < len(p.seen) && p.seen[at].shard == i; at++ {
			rows += p.seen[at].to - p.seen[at].from
		}
		if rows != end.Rows || at > 0 && rows > 0 && (p.seen[at-1].from != 0 || p.seen[at-1].to != end.Rows) {
			return nil, fmt.Errorf("%s: %d of %d rows arrived; the engine lost some: run the job again", end.Name, rows, end.Rows)
		}
	}
	if at != len(p.seen) || len(p.ends) != shards {
		return nil, fmt.Errorf("rows of %d shards came, of %d that there are; do not mix jobs", len(p.ends), shards)
	}
	if p.dim == 0 {
		return nil, errors.New("the set has no rows: every shard is empty")
	}
	s, err := p.stats()
	if err != nil {
		return nil, err
	}
	s.Provenance, err = p.provenance(shards)
	return s, err
}

func (p *Partial) stats() (*fid.Stats, error) {
	if p.dropped {
		return p.moments.Stats(), nil
	}
	p.sort()
	all := make([]float32, 0, p.values)
	for i := range p.kept {
		all = append(all, p.kept[i].Rows...)
	}
	if p.moments == nil {
		return fid.FromFeatures(all, len(all)/p.dim, p.dim)
	}
	s := p.moments.Stats()
	s.Features = all
	return s, nil
}

// maxNotes bounds what is said about single shards.
const maxNotes = 10

// provenance is how all shards were made; nil where the first does not tell.
func (p *Partial) provenance(shards int) (*fid.Provenance, error) {
	first := p.ends[0]
	if first.Made == nil {
		return nil, nil
	}
	out := *first.Made
	out.Input, out.Decoders, out.Notes, out.Skipped = first.Name, nil, nil, 0
	if shards > 1 {
		out.Input = fmt.Sprintf("%d shards, %s to %s", shards, first.Name, p.ends[shards-1].Name)
	}
	var notes []string
	for i := range shards {
		end := p.ends[i]
		if end.Made == nil {
			continue
		}
		if err := fid.CheckAlike(&fid.Stats{Provenance: first.Made}, &fid.Stats{Provenance: end.Made}); err != nil {
			return nil, fmt.Errorf("%s and %s: %w", first.Name, end.Name, err)
		}
		out.Skipped += end.Made.Skipped
		out.Decoders = append(out.Decoders, end.Made.Decoders...)
		for _, n := range end.Made.Notes {
			notes = append(notes, end.Name+": "+n)
		}
	}
	slices.Sort(out.Decoders)
	out.Decoders = slices.Compact(out.Decoders)
	if more := len(notes) - maxNotes; more > 0 {
		notes = append(notes[:maxNotes], fmt.Sprintf("%d more notes about shards", more))
	}
	out.Notes = notes
	return &out, nil
}

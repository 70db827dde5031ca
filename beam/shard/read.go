package shard

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/fidlab/fidlab/beam/partial"
	"github.com/fidlab/fidlab/fid"
	"github.com/fidlab/fidlab/imageio"
	"github.com/fidlab/fidlab/internal/cpu"
	"github.com/fidlab/fidlab/tensor"
)

// maxDim is the widest row, as in package fid: a covariance of 2 GiB.
const maxDim = 1 << 14

// Shard is one shard of a set.
type Shard struct {
	Set   string // "ref" or "gen"
	Index int    // in the set
	Path  string
}

// Read reads a shard and hands its rows to emit piece by piece, the last with
// its end, on the goroutine of the caller. The features of pictures are held in
// memory until all of the shard is done (8 KB a picture of 2048 features), so
// that a bad picture leaves nothing behind.
func Read(ctx context.Context, s Shard, c Config, emit func(partial.Piece) error) error {
	local, done, err := Local(ctx, s.Path)
	if err != nil {
		return err
	}
	defer done()
	out := &cutter{shard: s, emit: emit}
	if err = read(ctx, s.Path, local, c, out); err == nil {
		err = out.finish()
	}
	if err != nil {
		return fmt.Errorf("%s: %w", s.Path, err)
	}
	return nil
}

func read(ctx context.Context, name, local string, c Config, out *cutter) error {
	switch kind, member, err := kindOf(local); {
	case err != nil:
		return err
	case kind == kindArray, kind == kindArchive:
		made, err := record(ctx, name)
		if err != nil {
			return err
		}
		out.made = made
		return readArray(local, member, out)
	case kind == kindTable:
		return readTable(ctx, local, c, out)
	}
	src, err := imageio.OpenContext(ctx, local, imageio.Options{SkipBad: c.SkipBad})
	if err != nil {
		return err
	}
	if closer, ok := src.(io.Closer); ok {
		defer closer.Close()
	}
	return readPictures(ctx, src, c, out)
}

type kind int

const (
	kindPictures kind = iota
	kindArray         // .npy of feature vectors
	kindArchive       // .npz with them
	kindTable         // Parquet
)

// kindOf tells shards apart; member is the array of an archive.
func kindOf(local string) (k kind, member string, err error) {
	st, err := os.Stat(local)
	if err != nil || !st.Mode().IsRegular() || st.Size() == 0 {
		return kindPictures, "", nil // imageio says what is wrong with it
	}
	switch strings.ToLower(filepath.Ext(local)) {
	case ".parquet", ".pq":
		return kindTable, "", nil
	case ".npy":
		r, closeFile, err := openArray(local, "")
		if err != nil {
			return 0, "", err
		}
		defer closeFile()
		if len(r.Shape()) == 2 {
			return kindArray, "", nil
		}
	case ".npz":
		return kindOfArchive(local)
	}
	return kindPictures, "", nil
}

func kindOfArchive(local string) (kind, string, error) {
	z, err := tensor.OpenNPZ(local)
	if err != nil {
		return 0, "", inputf("%w", err)
	}
	defer z.Close()
	if z.Has("mu") && z.Has("sigma") {
		return 0, "", inputf("statistics, not a shard; give them alone as a set, or join them by fidlab merge")
	}
	names := []string{"features", "feats", "arr_0"}
	if all := z.Names(); len(all) == 1 {
		names = all
	}
	for _, n := range names {
		if !z.Has(n) {
			continue
		}
		r, err := z.Open(n)
		if err != nil {
			return 0, "", inputf("%w", err)
		}
		shape := r.Shape()
		r.Close()
		if len(shape) == 2 {
			return kindArchive, n, nil
		}
	}
	return kindPictures, "", nil
}

// HoldsStats tells whether an argument is one file of statistics: an .npz with
// mu and sigma, or a .pkl. What cannot be read is left to who reads it.
func HoldsStats(ctx context.Context, arg string) bool {
	switch strings.ToLower(filepath.Ext(arg)) {
	case ".pkl":
		return true
	case ".npz":
	default:
		return false
	}
	local, done, err := Local(ctx, arg)
	if err != nil {
		return false
	}
	defer done()
	z, err := tensor.OpenNPZ(local)
	if err != nil {
		return false
	}
	defer z.Close()
	return z.Has("mu") && z.Has("sigma")
}

// openArray opens an array of a file, or of an archive where a member is named.
func openArray(local, member string) (*tensor.NPYReader, func(), error) {
	if member == "" {
		f, err := os.Open(local)
		if err != nil {
			return nil, nil, inputf("%w", err)
		}
		limit := int64(-1)
		if st, err := f.Stat(); err == nil {
			limit = st.Size()
		}
		r, err := tensor.NewNPYReader(f, limit)
		if err != nil {
			f.Close()
			return nil, nil, inputf("%w", err)
		}
		return r, func() { f.Close() }, nil
	}
	z, err := tensor.OpenNPZ(local)
	if err != nil {
		return nil, nil, inputf("%w", err)
	}
	r, err := z.Open(member)
	if err != nil {
		z.Close()
		return nil, nil, inputf("%w", err)
	}
	return r, func() { r.Close(); z.Close() }, nil
}

// readArray reads feature vectors, [n,d].
func readArray(local, member string, out *cutter) error {
	r, closeFile, err := openArray(local, member)
	if err != nil {
		return err
	}
	defer closeFile()
	shape := r.Shape()
	n, d := shape[0], shape[1]
	if n < 1 || d < 1 || d > maxDim {
		return inputf("shape %v; want feature vectors [n,d] of 1 to %d features", shape, maxDim)
	}
	rows := min(rowsOf(d), n)
	buf := make([]byte, rows*r.RowBytes())
	for at := 0; at < n; {
		k, err := r.ReadRows(rows, buf)
		if err != nil {
			return inputf("after row %d: %w", at, err)
		}
		a := &tensor.Array{DType: r.DType(), Shape: []int{k, d}, Data: buf[:k*r.RowBytes()]}
		if r.DType().Size() <= 2 || r.DType() == tensor.F32 {
			err = out.rows(d, a.F32())
		} else {
			err = out.wide(d, a.F64())
		}
		if err != nil {
			return err
		}
		at += k
	}
	return nil
}

// readPictures extracts the features of pictures.
func readPictures(ctx context.Context, src imageio.Source, c Config, out *cutter) error {
	ex, err := c.extractor(ctx)
	if err != nil {
		return err
	}
	info := ex.Info()
	var rows []float32
	got, err := fid.EachFeatures(ctx, src, ex, fid.CollectOptions{SkipBad: c.SkipBad}, func(_ *cpu.Worker, x []float32) error {
		rows = append(rows, x...)
		return nil
	})
	if err != nil {
		return err
	}
	out.made = &fid.Provenance{
		Version: c.Version, Input: out.shard.Path, Extractor: info, Device: "cpu",
		Decoders: got.Summary.DecoderNames(), Skipped: len(got.Skipped), Notes: got.Summary.Notes(),
	}
	for step := rowsOf(info.Dim) * info.Dim; len(rows) > 0; {
		k := min(step, len(rows))
		if err := out.rows(info.Dim, rows[:k:k]); err != nil {
			return err
		}
		rows = rows[k:]
	}
	return nil
}

// rowsOf is how many rows of d features make a piece: 8 MB of float32 at most.
func rowsOf(d int) int { return max(1, min(1024, (2<<20)/d)) }

// cutter hands on the rows of a shard one piece late, so that the last has its end.
type cutter struct {
	shard Shard
	emit  func(partial.Piece) error
	made  *fid.Provenance
	n     int
	last  *partial.Piece
}

func (c *cutter) rows(d int, x []float32) error {
	return c.add(partial.Piece{Dim: d, Rows: x}, firstBad(x))
}

func (c *cutter) wide(d int, x []float64) error {
	return c.add(partial.Piece{Dim: d, Wide: x}, firstBad(x))
}

func firstBad[T float32 | float64](x []T) int {
	for i, v := range x {
		if v-v != 0 {
			return i
		}
	}
	return -1
}

func (c *cutter) add(p partial.Piece, bad int) error {
	if bad >= 0 {
		return numericf("feature %d of row %d is not finite; every feature must be", bad%p.Dim, c.n+bad/p.Dim)
	}
	p.Shard, p.First = c.shard.Index, c.n
	c.n += p.Count()
	if c.last != nil {
		if err := c.emit(*c.last); err != nil {
			return err
		}
	}
	c.last = &p
	return nil
}

func (c *cutter) finish() error {
	if c.last == nil {
		c.last = &partial.Piece{Shard: c.shard.Index}
	}
	c.last.End = &partial.End{Name: c.shard.Path, Rows: c.n, Made: c.made}
	return c.emit(*c.last)
}

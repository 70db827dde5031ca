package shard

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/format"

	"github.com/fidlab/fidlab/imageio"
	"github.com/fidlab/fidlab/internal/cpu"
)

// A Parquet table has pictures as files in a column of bytes, by itself or as
// the field "bytes" of a column (as the data sets of Hugging Face have it), or
// feature vectors in a column of lists of floats.

// readTable reads the pictures or the feature vectors of a Parquet table.
func readTable(ctx context.Context, local string, c Config, out *cutter) (err error) {
	f, err := os.Open(local)
	if err != nil {
		return inputf("%w", err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	t := &table{name: local}
	if err := t.guard(func() (err error) {
		t.file, err = parquet.OpenFile(f, st.Size(), parquet.SkipBloomFilters(true), parquet.SkipPageIndex(true))
		if err != nil {
			return inputf("no Parquet table, or a damaged one: %w", err)
		}
		return t.choose(c.Column)
	}); err != nil {
		return err
	}
	if t.file.NumRows() == 0 {
		return inputf("the table has no rows")
	}
	if t.vectors {
		return t.guard(func() error { return t.readVectors(out) })
	}
	return readPictures(ctx, t, c, out)
}

type table struct {
	name    string
	file    *parquet.File
	path    []string // of the chosen leaf
	index   int      // of its column
	kind    parquet.Kind
	vectors bool
}

// guard turns the panics into errors by which the library tells some damage.
func (t *table) guard(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = inputf("the table is damaged: %v", p)
		}
	}()
	return f()
}

// choose finds the column: the one that is named, else "image", else the only one that could be meant.
func (t *table) choose(column string) error {
	var all []string
	type candidate struct {
		path []string
		leaf parquet.LeafColumn // whose own path is cut short
	}
	candidates := map[string]candidate{}
	for _, path := range t.file.Schema().Columns() {
		if !slices.Contains(all, path[0]) {
			all = append(all, path[0])
		}
		leaf, ok := t.file.Schema().Lookup(path...)
		if !ok || !usable(path, leaf) {
			continue
		}
		candidates[path[0]] = candidate{path, leaf}
	}
	if column == "" {
		if _, ok := candidates["image"]; ok {
			column = "image"
		} else if names := slices.Collect(maps.Keys(candidates)); len(names) == 1 {
			column = names[0]
		} else {
			return inputf("%d of the columns %s could be pictures or feature vectors; name one: --column NAME", len(candidates), strings.Join(all, ", "))
		}
	}
	found, ok := candidates[column]
	if !ok {
		return inputf("no column %q of pictures (bytes) or feature vectors (lists of floats); it has %s", column, strings.Join(all, ", "))
	}
	t.path, t.index, t.kind = found.path, found.leaf.ColumnIndex, found.leaf.Node.Type().Kind()
	t.vectors = t.kind != parquet.ByteArray
	return nil
}

// usable tells whether a leaf may hold pictures or feature vectors.
func usable(path []string, leaf parquet.LeafColumn) bool {
	typ := leaf.Node.Type()
	switch typ.Kind() {
	case parquet.ByteArray:
		if l := typ.LogicalType(); l != nil {
			if _, text := l.Value.(*format.StringType); text {
				return false
			}
		}
		return leaf.MaxRepetitionLevel == 0 && (len(path) == 1 || len(path) == 2 && path[1] == "bytes")
	case parquet.Float, parquet.Double:
		return leaf.MaxRepetitionLevel == 1
	}
	return false
}

// each calls f with every value of the column and the row that it is of.
func (t *table) each(f func(row int, first bool, v parquet.Value) error) error {
	room := make([]parquet.Value, 1<<10)
	row := -1
	for _, group := range t.file.RowGroups() {
		pages := group.ColumnChunks()[t.index].Pages()
		err := func() error {
			defer pages.Close()
			for {
				page, err := pages.ReadPage()
				if errors.Is(err, io.EOF) {
					return nil
				}
				if err != nil {
					return inputf("after row %d: %w", row, err)
				}
				for values := page.Values(); ; {
					n, err := values.ReadValues(room)
					for _, v := range room[:n] {
						first := v.RepetitionLevel() == 0
						if first {
							row++
						}
						if err := f(row, first, v); err != nil {
							return err
						}
					}
					if err != nil && !errors.Is(err, io.EOF) {
						return inputf("after row %d: %w", row, err)
					}
					if err != nil || n == 0 {
						break
					}
				}
				parquet.Release(page)
			}
		}()
		if err != nil {
			return err
		}
	}
	if n := int(t.file.NumRows()); row+1 != n {
		return inputf("the table has %d rows, its column %s has %d; it is damaged", n, t.path[0], row+1)
	}
	return nil
}

// readVectors reads a column of lists of floats, all of one length.
func (t *table) readVectors(out *cutter) error {
	d := 0
	var one []float64 // the row at hand
	var rows []float64
	wide := t.kind == parquet.Double
	flush := func() error {
		if len(rows) == 0 {
			return nil
		}
		x := rows
		rows = nil
		if wide {
			return out.wide(d, x)
		}
		narrow := make([]float32, len(x))
		for i, v := range x {
			narrow[i] = float32(v)
		}
		return out.rows(d, narrow)
	}
	end := func(row int) error { // of a row
		if row < 0 {
			return nil
		}
		if d == 0 {
			if d = len(one); d == 0 || d > maxDim {
				return inputf("row 0 of column %s has %d features; want 1 to %d", t.path[0], d, maxDim)
			}
		}
		if len(one) != d {
			return inputf("row %d of column %s has %d features, row 0 has %d; want lists of one length", row, t.path[0], len(one), d)
		}
		rows = append(rows, one...)
		if one = one[:0]; len(rows) >= rowsOf(d)*d {
			return flush()
		}
		return nil
	}
	last := -1
	err := t.each(func(row int, first bool, v parquet.Value) error {
		if first {
			if err := end(row - 1); err != nil {
				return err
			}
			last = row
		}
		switch {
		case v.IsNull():
			return inputf("row %d of column %s is null, empty, or has a null in it; want lists of floats", row, t.path[0])
		case wide:
			one = append(one, v.Double())
		default:
			one = append(one, float64(v.Float()))
		}
		if len(one) > maxDim {
			return inputf("row %d of column %s has over %d features", row, t.path[0], maxDim)
		}
		return nil
	})
	if err == nil {
		err = end(last)
	}
	if err == nil {
		err = flush()
	}
	return err
}

// Describe, Len and Each make a table of pictures a source of them.

func (t *table) Describe() string { return t.name + " (Parquet)" }
func (t *table) Len() int         { return int(t.file.NumRows()) }

func (t *table) Each(ctx context.Context, yield func(imageio.Item) error) error {
	base := filepath.Base(t.name)
	return t.guard(func() error {
		return t.each(func(row int, _ bool, v parquet.Value) error {
			if err := ctx.Err(); err != nil {
				return err
			}
			var data []byte
			if !v.IsNull() {
				data = slices.Clone(v.ByteArray())
			}
			load := func(w *cpu.Worker) (*imageio.Image, error) {
				if len(data) == 0 {
					return nil, fmt.Errorf("no bytes of a picture in column %s", strings.Join(t.path, "."))
				}
				return imageio.DecodeOn(w, data, imageio.DecodeOptions{})
			}
			return yield(imageio.Item{
				Name: fmt.Sprintf("%s[%d]", base, row), Label: -1, LoadOn: load,
				Load: func() (*imageio.Image, error) { return load(nil) },
			})
		})
	})
}

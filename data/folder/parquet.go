package folder

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/parquet-go/parquet-go"
)

// parquetExt is the ending of tables in Apache Parquet's format.
const parquetExt = ".parquet"

const rowValues = 1 << 12 // of a column that are read at a time

// eachRow calls f with every row of a Parquet table as the JSON document that a line would be, with those of the keys
// that it has columns for, until one is an error. A column is of texts, of whole numbers, or of lists of texts.
func eachRow(b []byte, keys []string, f func(n int, doc map[string]json.RawMessage) error) (err error) {
	// The library checks much of a table only as it reads it, by panics of slices.
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("it is damaged: %v", p)
		}
	}()
	file, err := parquet.OpenFile(bytes.NewReader(b), int64(len(b)), parquet.SkipBloomFilters(true), parquet.SkipPageIndex(true))
	if err != nil {
		return err
	}
	var has []string
	at, list := []int{}, []bool{} // column and whether it is a list, by has
	for i, path := range file.Schema().Columns() {
		nested := len(path) == 3 && path[1] == "list" || len(path) == 2 && path[1] == "array"
		switch key := path[0]; {
		case !slices.Contains(keys, key):
		case len(path) == 1 || nested:
			has, at, list = append(has, key), append(at, i), append(list, nested)
		default:
			return fmt.Errorf("its column %s is not of texts, whole numbers, or lists of texts", strings.Join(path, "."))
		}
	}
	n := 0
	for _, group := range file.RowGroups() {
		cols := make([]column, len(has))
		for i := range cols {
			cols[i] = column{name: has[i], list: list[i], pages: group.ColumnChunks()[at[i]].Pages(), room: make([]parquet.Value, rowValues)}
			defer cols[i].pages.Close()
		}
		for range group.NumRows() {
			n++
			doc := make(map[string]json.RawMessage, len(cols))
			for i := range cols {
				raw, err := cols[i].next()
				if err != nil {
					return fmt.Errorf("row %d: column %s: %w", n, has[i], err)
				}
				if raw != nil {
					doc[has[i]] = raw
				}
			}
			if err := f(n, doc); err != nil {
				return err
			}
		}
	}
	return nil
}

// column reads a column of a group of rows, row after row.
type column struct {
	name   string
	list   bool
	pages  parquet.Pages
	values parquet.ValueReader // of the page at hand; nil: none
	room   []parquet.Value
	have   []parquet.Value // read and not yet used
	bytes  int
}

// peek is the next value; io.EOF: there is none.
func (c *column) peek() (parquet.Value, error) {
	for len(c.have) == 0 {
		if c.values == nil {
			page, err := c.pages.ReadPage()
			if err != nil {
				return parquet.Value{}, err
			}
			c.values = page.Values()
		}
		k, err := c.values.ReadValues(c.room)
		c.have = c.room[:k]
		if err != nil && !errors.Is(err, io.EOF) {
			return parquet.Value{}, err
		}
		if err != nil || k == 0 {
			c.values = nil
		}
	}
	return c.have[0], nil
}

// next is the next row's value as JSON; nil: it is null.
func (c *column) next() (json.RawMessage, error) {
	var many []string
	for first := true; ; first = false {
		v, err := c.peek()
		switch {
		case errors.Is(err, io.EOF) && !first || err == nil && !first && v.RepetitionLevel() == 0:
			return json.Marshal(many)
		case errors.Is(err, io.EOF):
			return nil, io.ErrUnexpectedEOF
		case err != nil:
			return nil, err
		}
		c.have = c.have[1:]
		raw, err := c.value(v)
		if err != nil {
			return nil, err
		}
		if !c.list {
			return raw, nil
		}
		if raw == nil {
			continue // of an empty list, or null in one
		}
		var text string
		if json.Unmarshal(raw, &text) != nil {
			return nil, fmt.Errorf("a list of %s; want texts", raw)
		}
		if many = append(many, text); len(many) > maxCaptions {
			return nil, fmt.Errorf("a list of over %d", maxCaptions)
		}
	}
}

// value is one value as JSON.
func (c *column) value(v parquet.Value) (json.RawMessage, error) {
	switch v.Kind() {
	case parquet.ByteArray, parquet.FixedLenByteArray:
		b := v.ByteArray()
		if c.bytes += len(b); c.bytes > maxLabelBytes {
			return nil, fmt.Errorf("over %d bytes", maxLabelBytes)
		}
		if !utf8.Valid(b) {
			return nil, errors.New("it is no UTF-8")
		}
		return json.Marshal(string(b))
	case parquet.Int32, parquet.Int64:
		return json.Marshal(v.Int64())
	}
	if v.IsNull() {
		return nil, nil
	}
	return nil, fmt.Errorf("a value of the kind %v; want texts, whole numbers, or lists of texts", v.Kind())
}

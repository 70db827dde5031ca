package search

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
)

// The kinds of evaluations.
const (
	kindSearch = "search"
	kindRank   = "rank"
)

// journal is the evaluations of a search, a line of JSON each. A search is a
// function of its settings and of these, so that they are all that going on
// needs. A nil journal is empty and keeps nothing.
type journal struct {
	path    string
	f       *os.File
	values  map[[2]string]float64
	seconds float64 // that they took
}

// JournalError means that a file is no journal, a damaged one, or one of another search.
type JournalError struct {
	Path   string
	detail string
}

func (e *JournalError) Error() string { return "search: journal " + e.Path + e.detail }

func (j *journal) refuse(format string, args ...any) error {
	return &JournalError{j.path, fmt.Sprintf(format, args...)}
}

type journalHead struct {
	Format string `json:"format"`
	Of     string `json:"of"`
}

type journalLine struct {
	Kind    string   `json:"kind"`
	Key     string   `json:"key"`
	Value   *float64 `json:"value"` // null: could not be measured
	Seconds float64  `json:"seconds"`
}

const (
	journalFormat = "fidlab search journal 1"
	maxJournal    = 1 << 28 // bytes
)

// openJournal reads the journal at path, or begins it. A last line that was cut
// off, as a killed process leaves it, is dropped.
func openJournal(path, of string) (*journal, error) {
	j := &journal{path: path, values: map[[2]string]float64{}}
	st, err := os.Stat(path)
	if err == nil && st.Size() > maxJournal {
		return nil, j.refuse(": %d bytes; wanted at most %d", st.Size(), maxJournal)
	}
	var b []byte
	if err == nil {
		b, err = os.ReadFile(path)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("search: journal: %w", err)
	}
	whole := b[:bytes.LastIndexByte(b, '\n')+1]
	if err := j.read(whole, of); err != nil {
		return nil, err
	}
	if j.f, err = os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o666); err != nil {
		return nil, fmt.Errorf("search: journal: %w", err)
	}
	if err = j.f.Truncate(int64(len(whole))); err == nil {
		_, err = j.f.Seek(int64(len(whole)), 0)
	}
	if err == nil && len(whole) == 0 {
		err = j.write(journalHead{journalFormat, of})
	}
	if err != nil {
		j.f.Close()
		return nil, fmt.Errorf("search: journal: %w", err)
	}
	return j, nil
}

func (j *journal) read(whole []byte, of string) error {
	for n := 1; len(whole) > 0; n++ {
		at := bytes.IndexByte(whole, '\n')
		line := whole[:at]
		whole = whole[at+1:]
		if n == 1 {
			var h journalHead
			if err := json.Unmarshal(line, &h); err != nil || h.Format != journalFormat {
				return j.refuse(": its first line is not that of a %q; wanted the journal of a search, or a name that is free", journalFormat)
			}
			if h.Of != of {
				return j.refuse(" is of another search: of %q, this one is %q; take the same settings to go on, or another journal", h.Of, of)
			}
			continue
		}
		var l journalLine
		if err := json.Unmarshal(line, &l); err != nil || l.Key == "" || l.Kind != kindSearch && l.Kind != kindRank {
			return j.refuse(": line %d is damaged: %.60q; cut the file off before it", n, line)
		}
		v := math.Inf(1)
		if l.Value != nil {
			v = *l.Value
		}
		j.values[[2]string{l.Kind, l.Key}] = v
		j.seconds += l.Seconds
	}
	return nil
}

// value is what an evaluation gave in an earlier run.
func (j *journal) value(kind, key string) (float64, bool) {
	if j == nil {
		return 0, false
	}
	v, ok := j.values[[2]string{kind, key}]
	return v, ok
}

// add keeps an evaluation, in one write.
func (j *journal) add(kind, key string, v, seconds float64) error {
	if j == nil {
		return nil
	}
	l := journalLine{Kind: kind, Key: key, Seconds: seconds}
	if !math.IsInf(v, 1) {
		l.Value = &v
	}
	if err := j.write(l); err != nil {
		return fmt.Errorf("search: journal: %w", err)
	}
	return nil
}

func (j *journal) write(v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = j.f.Write(append(b, '\n'))
	return err
}

func (j *journal) close() {
	j.f.Close() // every line was written as it came
}

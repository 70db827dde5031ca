package lion

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"sync"
)

// Journal keeps scores in a file, a line of JSON each, so that a search that was broken off
// goes on: asked for again, it makes the same programs and finds their scores here. A nil
// Journal keeps nothing.
type Journal struct {
	mu    sync.Mutex
	f     *os.File
	known map[string]Score
}

// JournalError means that a file is no journal, or that of another search.
type JournalError struct{ Path, Detail string }

func (e *JournalError) Error() string { return "lion: journal " + e.Path + " " + e.Detail }

type journalHead struct {
	Format string `json:"format"`
	Of     string `json:"of"`
}

type journalLine struct {
	Graph string `json:"graph"`
	Score Score  `json:"score"`
}

const journalFormat = "fidlab program scores 1"

// OpenJournal reads the journal at path, or begins it. of names all that scores depend on.
// A last line that was cut off is dropped.
func OpenJournal(path, of string) (*Journal, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, fmt.Errorf("lion: journal: %w", err)
	}
	j := &Journal{f: f, known: map[string]Score{}}
	end, err := j.read(of)
	if e, ok := err.(*JournalError); ok {
		e.Path = path
	}
	if err == nil {
		err = f.Truncate(end)
	}
	if err == nil {
		_, err = f.Seek(end, io.SeekStart)
	}
	if err == nil && end == 0 {
		err = j.write(journalHead{journalFormat, of})
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return j, nil
}

// read takes complete lines in and returns where they end.
func (j *Journal) read(of string) (end int64, err error) {
	in := bufio.NewReader(j.f)
	for n := 1; ; n++ {
		line, err := in.ReadBytes('\n')
		if err == io.EOF {
			if n == 1 && len(line) > 0 {
				return 0, &JournalError{Detail: fmt.Sprintf("has no first line of a %q; want the journal of a search, or a name that is free", journalFormat)}
			}
			return end, nil
		} else if err != nil {
			return 0, fmt.Errorf("lion: journal: %w", err)
		}
		if n == 1 {
			var h journalHead
			if json.Unmarshal(line, &h) != nil || h.Format != journalFormat {
				return 0, &JournalError{Detail: fmt.Sprintf("has no first line of a %q; want the journal of a search, or a name that is free", journalFormat)}
			}
			if h.Of != of {
				return 0, &JournalError{Detail: fmt.Sprintf("is of another search: of %s, this one is %s; take the same settings to go on, or another journal", h.Of, of)}
			}
		} else {
			var l journalLine
			if json.Unmarshal(bytes.TrimSpace(line), &l) != nil || l.Graph == "" {
				return 0, &JournalError{Detail: fmt.Sprintf("is damaged in line %d; delete that line and the rest to go on from there", n)}
			}
			j.known[l.Graph] = l.Score
		}
		end += int64(len(line))
	}
}

func (j *Journal) get(graph string) (Score, bool) {
	if j == nil {
		return Score{}, false
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	s, ok := j.known[graph]
	return s, ok
}

func (j *Journal) put(graph string, s Score) error {
	if j == nil {
		return nil
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.known[graph] = s
	return j.write(journalLine{graph, s})
}

func (j *Journal) write(v any) error {
	b, err := json.Marshal(v)
	if err == nil {
		_, err = j.f.Write(append(b, '\n'))
	}
	if err != nil {
		return fmt.Errorf("lion: journal: %w", err)
	}
	return nil
}

// Len is how many scores it has.
func (j *Journal) Len() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return len(j.known)
}

// Close closes the file.
func (j *Journal) Close() error { return j.f.Close() }

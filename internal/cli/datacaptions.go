package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/fidlab/fidlab/data"
)

// withCaptions gives a folder's pictures the captions that promptsFile names, and leaves out those that it does not name: the contact
// sheet. Without the file the pictures stay as they are.
func withCaptions(dir string, lines []truthLine) (out []truthLine, found bool, err error) {
	path := filepath.Join(dir, promptsFile)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return lines, false, nil
	}
	if err != nil {
		return nil, false, &inputError{err}
	}
	have := map[string]bool{}
	for _, l := range lines {
		have[filepath.ToSlash(l.Files[0].Path)] = true
	}
	for n, text := range bytes.Split(bytes.TrimSpace(b), []byte("\n")) {
		var p struct {
			File string  `json:"file_name"`
			Text *string `json:"text"`
		}
		if err := json.Unmarshal(text, &p); err != nil || p.File == "" || p.Text == nil {
			return nil, false, inputf("%s: line %d is %.60q; want {\"file_name\": …, \"text\": …}, as fidlab sample writes it", path, n+1, text)
		}
		if !have[p.File] {
			return nil, false, inputf("%s: line %d: the folder has no picture %q", path, n+1, p.File)
		}
		out = append(out, truthLine{Files: []itemFile{{Path: p.File}}, caption: p.Text})
	}
	return out, true, nil
}

// countInterval is a share with its interval, for JSON.
type countInterval struct {
	data.Count
	Low  float64 `json:"low"`
	High float64 `json:"high"`
}

func withIntervals(counts []data.Count) []countInterval {
	out := []countInterval{}
	for _, c := range counts {
		lo, hi := c.Interval()
		out = append(out, countInterval{c, lo, hi})
	}
	return out
}

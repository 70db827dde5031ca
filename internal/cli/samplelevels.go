package cli

import (
	"bufio"
	"bytes"
	"encoding/json"
	"os"
	"strconv"
	"strings"

	"github.com/fidlab/fidlab/diffusion"
)

// gridRules are the rules that --steps goes with.
func gridRules() []string {
	var names []string
	for _, r := range diffusion.Rules() {
		if r != "sigmas" && r != "times" {
			names = append(names, r)
		}
	}
	return names
}

// maxLevelsFile bounds a file of noise levels.
const maxLevelsFile = 1 << 20

// readLevels turns sigmas:LIST, times:LIST and FILE.json into a rule with a list.
func readLevels(grid string, s *diffusion.Spec) error {
	if kind, list, ok := strings.Cut(grid, ":"); ok && (kind == "sigmas" || kind == "times") {
		s.Rule = kind
		for part := range strings.SplitSeq(list, ",") {
			v, err := strconv.ParseFloat(strings.TrimSpace(part), 64)
			if err != nil {
				return usagef("--grid %q: want numbers between commas after %s:", grid, kind)
			}
			s.List = append(s.List, v)
		}
		return nil
	}
	if !strings.HasSuffix(strings.ToLower(grid), ".json") {
		return nil
	}
	st, err := os.Stat(grid)
	if err != nil {
		return &inputError{err}
	}
	if st.Size() > maxLevelsFile {
		return inputf("%s: %d bytes; a file of noise levels has at most %d", grid, st.Size(), maxLevelsFile)
	}
	b, err := os.ReadFile(grid)
	if err != nil {
		return &inputError{err}
	}
	var file struct{ Sigmas, Times []float64 }
	if err := json.Unmarshal(b, &file); err != nil {
		if err := json.Unmarshal(b, &file.Sigmas); err != nil { // a plain list, as other tools take it
			return inputf("%s: no list of noise levels: %w", grid, err)
		}
	}
	switch {
	case len(file.Sigmas) > 0 == (len(file.Times) > 0):
		return inputf("%s: want either \"sigmas\" or \"times\", a list of numbers", grid)
	case len(file.Times) > 0:
		s.Rule, s.List = "times", file.Times
	default:
		s.Rule, s.List = "sigmas", file.Sigmas
		if n := len(s.List); s.List[n-1] == 0 { // many lists say the end themselves
			s.List, s.End = s.List[:n-1], diffusion.Zero
		}
	}
	return nil
}

// readClasses adds the classes of --class-file.
func (o *sampleOptions) readClasses() error {
	if o.classFile == "" {
		return nil
	}
	if len(o.classes) > 0 {
		return usagef("--class and --class-file both name classes; give one")
	}
	b, err := os.ReadFile(o.classFile)
	if err != nil {
		return &inputError{err}
	}
	lines := bufio.NewScanner(bytes.NewReader(b))
	for i := 1; lines.Scan(); i++ {
		text := strings.TrimSpace(lines.Text())
		if text == "" {
			continue
		}
		c, err := strconv.Atoi(text)
		if err != nil {
			return inputf("%s: line %d is %q; want a class number", o.classFile, i, text)
		}
		o.classes = append(o.classes, c)
	}
	if err := lines.Err(); err != nil {
		return inputf("%s: %w", o.classFile, err)
	}
	if len(o.classes) == 0 {
		return inputf("%s: no classes in it", o.classFile)
	}
	return nil
}

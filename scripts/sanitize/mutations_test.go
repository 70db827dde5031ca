package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Every mutation changes a piece of a file that is there: one that has moved away would be told by make sanitize alone.
func TestMutationsApply(t *testing.T) {
	if len(mutations) < 40 {
		t.Errorf("%d mutations, want at least 40", len(mutations))
	}
	seen := map[string]bool{}
	for _, m := range mutations {
		text, err := os.ReadFile(filepath.Join("..", "..", "kernels", m.file))
		if err != nil {
			t.Errorf("%s: %v", m.name, err)
			continue
		}
		if !strings.Contains(string(text), m.old) || m.old == m.new {
			t.Errorf("%s: %s has no %q, or it stays as it is", m.name, m.file, m.old)
		}
		if _, err := regexp.Compile(m.kernels); err != nil || seen[m.name] {
			t.Errorf("%s: %v, or the name is taken", m.name, err)
		}
		seen[m.name] = true
	}
}

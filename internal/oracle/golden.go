// Package oracle is what tests compare with: golden files of named peers and
// closed formulas in float64. Only tests import it.
package oracle

import (
	"encoding/json"
	"os"
	"path/filepath"
	"runtime"
	"testing"
)

// Golden is the path of a golden file: under the folder that FIDLAB_GOLDEN
// names, else under the repository's testdata/golden. A missing file fails the
// test: golden tests never skip.
func Golden(t testing.TB, elem ...string) string {
	t.Helper()
	dir := os.Getenv("FIDLAB_GOLDEN")
	if dir == "" {
		_, self, _, ok := runtime.Caller(0)
		if !ok {
			t.Fatal("oracle: no caller information to find testdata/golden with; set FIDLAB_GOLDEN")
		}
		dir = filepath.Join(filepath.Dir(self), "..", "..", "testdata", "golden")
	}
	p := filepath.Join(append([]string{dir}, elem...)...)
	if _, err := os.Stat(p); err != nil {
		t.Fatalf("oracle: golden file: %v", err)
	}
	return p
}

// GoldenJSON decodes the golden JSON file into v.
func GoldenJSON(t testing.TB, v any, elem ...string) {
	t.Helper()
	p := Golden(t, elem...)
	b, err := os.ReadFile(p)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, v); err != nil {
		t.Fatalf("oracle: %s: %v", p, err)
	}
}

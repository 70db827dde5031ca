package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A log that is too short gives no figure, one that is none an error.
func TestWriteCurve(t *testing.T) {
	for name, c := range map[string]struct {
		log  string
		file bool
		err  string
	}{
		"two phases":    {"step,loss.a,loss.b,held_out\n1,2,,\n2,1,3,0.5\n3,0.5,2,\n", true, ""},
		"one line":      {"step,loss\n1,2\n", false, ""},
		"below zero":    {"step,loss\n1,2\n2,-1\n", true, ""},
		"nothing known": {"step,loss\n1,\n2,\n", false, ""},
		"ragged":        {"step,loss\n1,2\n2\n", false, "wrong number of fields"},
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "log.csv"), []byte(c.log), 0o666); err != nil {
			t.Fatal(err)
		}
		err := writeCurve(dir, "test")
		if (err != nil) != (c.err != "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := os.Stat(filepath.Join(dir, "curve.png")); (err == nil) != c.file {
			t.Errorf("%s: the figure: %v", name, err)
		}
	}
	if err := writeCurve(t.TempDir(), "test"); err == nil {
		t.Error("no log, no error")
	}
}

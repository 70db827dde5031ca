package cli

import (
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/report"
)

func TestThinned(t *testing.T) {
	var p []report.Point
	for i := range 107 {
		p = append(p, report.Point{X: float64(i), Y: 2 * float64(i)})
	}
	got := thinned(p, 50)
	if len(got) != 36 || got[0] != (report.Point{X: 1, Y: 2}) || got[35] != (report.Point{X: 105.5, Y: 211}) {
		t.Errorf("%d points, %+v to %+v", len(got), got[0], got[len(got)-1])
	}
	for i, q := range got {
		if math.Abs(q.Y-2*q.X) > 1e-9 {
			t.Errorf("point %d is %+v", i, q)
		}
	}
	if same := thinned(p[:50], 50); len(same) != 50 || same[7] != p[7] {
		t.Errorf("few points became %d", len(same))
	}
}

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

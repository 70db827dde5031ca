package cli

import (
	"encoding/csv"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/fidlab/fidlab/report"
	"github.com/fidlab/fidlab/tensor"
)

// curveMarks is how many places of a line the figure shows at most; each is a mean.
const curveMarks = 50

// writeCurve draws the losses in a run's log.csv into curve.png: those of training and the held-out one.
func writeCurve(dir, title string) error {
	f, err := os.Open(filepath.Join(dir, "log.csv"))
	if err != nil {
		return err
	}
	defer f.Close()
	lines, err := csv.NewReader(f).ReadAll()
	if err != nil {
		return fmt.Errorf("%s: %w", f.Name(), err)
	}
	if len(lines) < 3 {
		return nil // a line needs two places
	}
	fig := &report.Lines{Title: title, X: "step", Y: "loss", LogY: true}
	for i, name := range lines[0] {
		if !strings.HasPrefix(name, "loss") && name != "held_out" {
			continue
		}
		s := report.Series{Name: strings.ReplaceAll(name, "_", " ")}
		for _, l := range lines[1:] {
			x, err1 := strconv.ParseFloat(l[0], 64)
			y, err2 := strconv.ParseFloat(l[i], 64)
			if err1 == nil && err2 == nil { // an empty cell is no place
				s.Points = append(s.Points, report.Point{X: x, Y: y})
				fig.LogY = fig.LogY && y > 0
			}
		}
		if s.Points = thinned(s.Points, curveMarks); len(s.Points) > 1 {
			fig.Series = append(fig.Series, s)
		}
	}
	if len(fig.Series) == 0 {
		return nil
	}
	return tensor.WriteAtomic(filepath.Join(dir, "curve.png"), fig.WritePNG, tensor.Overwrite)
}

// thinned is at most n points, the means of runs of equal length; the last may be shorter.
func thinned(p []report.Point, n int) []report.Point {
	run := (len(p) + n - 1) / n
	if run < 2 {
		return p
	}
	var out []report.Point
	for part := range slices.Chunk(p, run) {
		var m report.Point
		for _, q := range part {
			m.X += q.X / float64(len(part))
			m.Y += q.Y / float64(len(part))
		}
		out = append(out, m)
	}
	return out
}

package systems

import (
	"encoding/csv"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/fidlab/fidlab/report"
)

// curveMarks is how many places of a line LossCurve shows at most; each is a mean.
const curveMarks = 50

// LossCurve is the figure of the losses in the log.csv of a training run: those of training and the held-out one. It is nil where no
// loss has two places.
func LossCurve(log io.Reader, title string) (*report.Lines, error) {
	lines, err := csv.NewReader(log).ReadAll()
	if err != nil {
		return nil, err
	}
	if len(lines) < 3 {
		return nil, nil // a line needs two places
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
		return nil, nil
	}
	return fig, nil
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

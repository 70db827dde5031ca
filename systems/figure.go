package systems

import (
	"fmt"
	"math"

	"github.com/fidlab/fidlab/report"
)

// longestAxis is how many letters an axis has room for.
const longestAxis = 60

// Figure draws a sweep of the record: a line for each arm.
type Figure struct {
	File       string // its name without ending, as "error"
	Experiment string // a sweep
	Measure    string
	Title      string
	Y          string // the axis; the measure's text where it is "", or its name where that is too long
	LogX, LogY bool
	// Cost puts the arms' evaluations on the axis in place of the sweep's values.
	Cost bool
}

// Draw makes a figure of a record.
func (r *Record) Draw(f Figure) (*report.Lines, error) {
	for i := range r.Experiments {
		e := &r.Experiments[i]
		if e.Name != f.Experiment || e.Sweep == nil {
			continue
		}
		y := f.Y
		for _, m := range e.Measures {
			if m.Name == f.Measure && y == "" {
				if y = m.Text; len(y) > longestAxis {
					y = m.Name
				}
			}
		}
		out := &report.Lines{Title: f.Title, X: e.Sweep.Label, Y: y, LogX: f.LogX, LogY: f.LogY}
		if f.Cost {
			out.X = "evaluations of the denoiser"
		}
		for _, a := range e.Arms {
			s := report.Series{Name: a.Name}
			for _, p := range a.Points {
				mean, lo, hi := overSeeds(p.Values[f.Measure])
				if f.LogY {
					lo = math.Max(lo, mean/10) // an interval beyond zero has no place on the axis
				}
				x := p.At
				if f.Cost {
					x = p.Cost.NFE
				}
				s.Points = append(s.Points, report.Point{X: x, Y: mean, Lo: lo, Hi: hi})
			}
			out.Series = append(out.Series, s)
		}
		return out, nil
	}
	return nil, fmt.Errorf("systems: %s: the record has no sweep %q", r.System, f.Experiment)
}

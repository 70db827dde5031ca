package report

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Chart compares numbers on one axis: each a point, or a bar from zero, with
// its interval.
type Chart struct {
	Caption string
	Unit    string // named at the axis, e.g. "FID[mnist]"; empty for none
	// Log asks for a logarithmic axis. It is drawn linear all the same when a
	// value is not positive; the axis says which one it is.
	Log  bool
	Bars bool // bars from zero instead of points; only on a linear axis
	Rows []Row
}

// Row is one number of a Chart. Lo and Hi bound its interval; there is none
// when both are zero or one is NaN.
type Row struct {
	Label  string
	Value  float64
	Lo, Hi float64
	Accent bool // the row that the chart is about
}

func (r Row) interval() bool {
	return (r.Lo != 0 || r.Hi != 0) && !math.IsNaN(r.Lo) && !math.IsNaN(r.Hi)
}

// text is the row's value as written at its end.
func (r Row) text() string {
	if !r.interval() {
		return Number(r.Value, math.NaN(), math.NaN())
	}
	return Number(r.Value, r.Lo, r.Hi) + " (" + Range(r.Value, r.Lo, r.Hi) + ")"
}

func (c Chart) check() error {
	if len(c.Rows) == 0 {
		return fmt.Errorf("chart %q: no rows", c.Caption)
	}
	for _, r := range c.Rows {
		for _, v := range []float64{r.Value, r.Lo, r.Hi} {
			if math.IsInf(v, 0) {
				return fmt.Errorf("chart %q: row %q: infinite number", c.Caption, r.Label)
			}
		}
		if math.IsNaN(r.Value) {
			return fmt.Errorf("chart %q: row %q: not a number", c.Caption, r.Label)
		}
		if r.interval() && r.Lo > r.Hi {
			return fmt.Errorf("chart %q: row %q: interval from %v to %v", c.Caption, r.Label, r.Lo, r.Hi)
		}
	}
	return nil
}

// Vertical measures in pixels. Horizontal ones are percentages: the picture
// widens with the page while its letters keep their size.
const (
	rowHeight  = 50
	axisHeight = 44
	margin     = 1.5 // percent left free at both ends of the axis
)

// plot is a Chart with its coordinates.
type plot struct {
	Height, Axis int // Axis is where the rows end
	Rows         []plotRow
	Ticks        []tick
	Scale        string // under the axis
	Summary      string // the chart in words
}

type plotRow struct {
	Label, Text    string
	TextY, Y, BarY int
	X, Lo, Hi      string // percent
	BarX, BarWidth string
	Bar, Whisker   bool
	Accent         bool
}

type tick struct{ X, Text, Anchor string }

// axis maps values to percent.
type axis struct {
	lo, hi float64
	log    bool
}

func (a axis) percent(v float64) float64 {
	lo, hi := a.lo, a.hi
	if a.log {
		lo, hi, v = math.Log(lo), math.Log(hi), math.Log(max(v, a.lo))
	}
	return margin + (100-2*margin)*min(max((v-lo)/(hi-lo), 0), 1)
}

func (c Chart) layout() *plot {
	a, ticks := c.axis()
	p := &plot{Axis: rowHeight * len(c.Rows), Height: rowHeight*len(c.Rows) + axisHeight}
	var words []string
	for i, r := range c.Rows {
		y := rowHeight * i
		q := plotRow{Label: r.Label, Text: r.text(), TextY: y + 16, Y: y + 31, BarY: y + 25, X: pct(a.percent(r.Value)), Accent: r.Accent}
		if q.Whisker = r.interval(); q.Whisker {
			q.Lo, q.Hi = pct(a.percent(r.Lo)), pct(a.percent(r.Hi))
		}
		if c.Bars && !a.log {
			from, to := a.percent(min(r.Value, 0)), a.percent(max(r.Value, 0))
			q.Bar, q.BarX, q.BarWidth = true, pct(from), pct(to-from)
		}
		p.Rows = append(p.Rows, q)
		words = append(words, r.Label+": "+q.Text)
	}
	for i, v := range ticks {
		t := tick{X: pct(a.percent(v)), Text: tickText(v), Anchor: "middle"}
		switch {
		case i == 0 && a.percent(v) < 4:
			t.Anchor = "start"
		case i == len(ticks)-1 && a.percent(v) > 96:
			t.Anchor = "end"
		}
		p.Ticks = append(p.Ticks, t)
	}
	p.Scale = "linear axis"
	if a.log {
		p.Scale = "logarithmic axis"
	}
	if c.Unit != "" {
		p.Scale = c.Unit + ", " + p.Scale
	}
	p.Summary = strings.Join(words, "; ")
	return p
}

// axis chooses the range and about five ticks.
func (c Chart) axis() (axis, []float64) {
	lo, hi, log := math.Inf(1), math.Inf(-1), c.Log
	for _, r := range c.Rows {
		vs := []float64{r.Value}
		if r.interval() {
			vs = append(vs, r.Lo, r.Hi)
		}
		log = log && r.Value > 0
		for _, v := range vs {
			if !c.Log || v > 0 {
				lo, hi = min(lo, v), max(hi, v)
			}
		}
	}
	if log {
		lo, hi = math.Pow(10, math.Floor(math.Log10(lo))), math.Pow(10, math.Ceil(math.Log10(hi)))
		if lo == hi {
			hi *= 10
		}
		step := math.Ceil(math.Log10(hi/lo) / 6)
		var ticks []float64
		for v := lo; v <= hi*1.0001; v *= math.Pow(10, step) {
			ticks = append(ticks, v)
		}
		return axis{lo, hi, true}, ticks
	}
	lo, hi = min(lo, 0), max(hi, 0) // a linear axis always shows zero: lengths can be compared
	for _, r := range c.Rows {
		lo, hi = min(lo, r.Value), max(hi, r.Value)
	}
	if lo == hi {
		hi = 1
	}
	step := niceStep((hi - lo) / 5)
	lo, hi = step*math.Floor(lo/step+1e-9), step*math.Ceil(hi/step-1e-9)
	var ticks []float64
	for i := range int(math.Round((hi-lo)/step)) + 1 {
		ticks = append(ticks, lo+step*float64(i))
	}
	return axis{lo, hi, false}, ticks
}

// niceStep is the smallest of 1, 2, 5 times a power of ten that is not below x.
func niceStep(x float64) float64 {
	p := math.Pow(10, math.Floor(math.Log10(x)))
	for _, k := range []float64{1, 2, 5} {
		if k*p >= x*(1-1e-9) {
			return k * p
		}
	}
	return 10 * p
}

func pct(v float64) string { return strconv.FormatFloat(v, 'f', 2, 64) + "%" }

func tickText(v float64) string {
	if a := math.Abs(v); a != 0 && (a >= 1e7 || a < 1e-4) {
		return strconv.FormatFloat(v, 'g', 3, 64)
	}
	s := strconv.FormatFloat(math.Abs(v), 'f', 6, 64)
	s = group(strings.TrimRight(strings.TrimRight(s, "0"), "."))
	if v < 0 {
		return "−" + s
	}
	return s
}

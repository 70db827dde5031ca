package report

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Graph shows curves over two axes, in the colours of the page: it follows the
// reader's light or dark setting. Curves differ in colour and in dash or mark.
type Graph struct {
	Caption    string
	X, Y       string // what the axes show
	LogX, LogY bool
	Equal      bool // one unit is as long on both axes
	Curves     []Curve
	Ellipses   []Ellipse
	// Data has the numbers, for who cannot see the picture; it is folded up.
	Data *Table
}

// Curve is a line, points, or a histogram's steps, in the colour of its number.
type Curve struct {
	Name   string
	Kind   CurveKind
	Points []Point // of a histogram: where a bin begins and its height, the last one where the last bin ends
	Color  int     // 0, 1 or 2
}

// CurveKind is how a Curve is drawn.
type CurveKind uint8

// The kinds of curves.
const (
	LineCurve CurveKind = iota
	DotCurve
	StepCurve
)

// Ellipse is drawn around a centre: the half axes A and B, turned by Angle.
type Ellipse struct {
	X, Y, A, B float64
	Angle      float64 // from the X axis to A, in radians
	Color      int
}

// EllipseOf is the ellipse around two correlated numbers that is that many
// standard deviations out; the covariance is that of x, of x and y, of y.
func EllipseOf(mean [2]float64, cov [3]float64, deviations float64, color int) Ellipse {
	half, diff := (cov[0]+cov[2])/2, (cov[0]-cov[2])/2
	root := math.Hypot(diff, cov[1])
	return Ellipse{
		X: mean[0], Y: mean[1], A: deviations * math.Sqrt(max(half+root, 0)), B: deviations * math.Sqrt(max(half-root, 0)),
		Angle: math.Atan2(cov[1], diff) / 2, Color: color,
	}
}

func (Graph) kind() string { return "graph" }

// maxCurves is how many colours there are.
const maxCurves = 3

func (g Graph) check() error {
	n := 0
	for _, c := range g.Curves {
		if c.Color < 0 || c.Color >= maxCurves {
			return fmt.Errorf("graph %q: curve %q has colour %d; there are %d", g.Caption, c.Name, c.Color, maxCurves)
		}
		for i, p := range c.Points {
			if !finite(p.X) || !finite(p.Y) {
				return fmt.Errorf("graph %q: curve %q, point %d: %g, %g; want finite numbers", g.Caption, c.Name, i, p.X, p.Y)
			}
			if g.LogX && p.X <= 0 {
				return fmt.Errorf("graph %q: curve %q, point %d: x is %g on a logarithmic axis", g.Caption, c.Name, i, p.X)
			}
			n++
		}
	}
	for _, e := range g.Ellipses {
		for _, v := range []float64{e.X, e.Y, e.A, e.B, e.Angle} {
			if !finite(v) {
				return fmt.Errorf("graph %q: an ellipse with %g; want finite numbers", g.Caption, v)
			}
		}
	}
	if n == 0 {
		return fmt.Errorf("graph %q: no points", g.Caption)
	}
	if g.Data != nil {
		return g.Data.check()
	}
	return nil
}

func finite(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) }

// Histogram counts values in bins of one width between the least and the
// greatest, or up to the limits where these are finite; what lies beyond goes
// into the last bin on its side. Several histograms of the same bins can be compared.
func Histogram(name string, values []float64, bins int, lo, hi float64, color int) Curve {
	c := Curve{Name: name, Kind: StepCurve, Color: color}
	if !(hi > lo) {
		hi = lo + max(math.Abs(lo), 1)
	}
	count := make([]float64, bins)
	for _, v := range values {
		count[min(max(int(float64(bins)*(v-lo)/(hi-lo)), 0), bins-1)]++
	}
	for i, n := range count {
		c.Points = append(c.Points, Point{X: lo + float64(i)*(hi-lo)/float64(bins), Y: n})
	}
	c.Points = append(c.Points, Point{X: hi})
	return c
}

// The picture in units of its viewBox: it is scaled to the width of the page.
const (
	graphWidth  = 720.
	graphHeight = 380.
	graphLeft   = 64.
	graphRight  = 14.
	graphTop    = 34. // the legend is above
	graphBottom = 50.
)

// graphPlot is a Graph with its coordinates.
type graphPlot struct {
	Width, Height            float64
	Left, Right, Top, Bottom float64 // the edges of the field
	MidX, MidY               float64
	XTicks, YTicks           []graphTick
	Paths                    []graphPath
	Ellipses                 []graphEllipse
	Legend                   []graphLegend
	XName, YName, Summary    string
}

type graphTick struct {
	At, Text string
	Label    float64
}

type graphPath struct {
	Class, D string
}

type graphEllipse struct {
	Class, CX, CY, RX, RY, Turn string
}

type graphLegend struct {
	Class, Name     string
	X, Mid, End, At float64
	Dot             bool
}

// scaling maps values to the picture.
type scaling struct {
	lo, hi   float64
	from, to float64
	log      bool
}

func (s scaling) at(v float64) float64 {
	lo, hi := s.lo, s.hi
	if s.log {
		lo, hi, v = math.Log(lo), math.Log(hi), math.Log(max(v, s.lo))
	}
	return s.from + (s.to-s.from)*min(max((v-lo)/(hi-lo), -0.2), 1.2)
}

func (g Graph) layout() *graphPlot {
	p := &graphPlot{Width: graphWidth, Height: graphHeight, Left: graphLeft, Right: graphWidth - graphRight, Top: graphTop, Bottom: graphHeight - graphBottom, XName: g.X, YName: g.Y}
	xlo, xhi, ylo, yhi := math.Inf(1), math.Inf(-1), math.Inf(1), math.Inf(-1)
	for _, c := range g.Curves {
		for _, q := range c.Points {
			xlo, xhi = min(xlo, q.X), max(xhi, q.X)
			if !g.LogY || q.Y > 0 {
				ylo, yhi = min(ylo, q.Y), max(yhi, q.Y)
			}
		}
		if c.Kind == StepCurve && !g.LogY {
			ylo = min(ylo, 0)
		}
	}
	for _, e := range g.Ellipses {
		w, h := e.extent()
		xlo, xhi, ylo, yhi = min(xlo, e.X-w), max(xhi, e.X+w), min(ylo, e.Y-h), max(yhi, e.Y+h)
	}
	logY := g.LogY && ylo <= yhi // else nothing is above 0
	if !(ylo <= yhi) {
		ylo, yhi = 0, 1
	}
	if g.Equal {
		xlo, xhi, ylo, yhi = equalRanges(xlo, xhi, ylo, yhi, (p.Right-p.Left)/(p.Bottom-p.Top))
	}
	x, xt := axisOf(xlo, xhi, g.LogX, g.Equal)
	y, yt := axisOf(ylo, yhi, logY, g.Equal)
	x.from, x.to, y.from, y.to = p.Left, p.Right, p.Bottom, p.Top
	if g.LogX {
		p.XName += ", logarithmic"
	}
	if logY {
		p.YName += ", logarithmic"
	}
	p.MidX, p.MidY = (p.Left+p.Right)/2, (p.Top+p.Bottom)/2
	for _, v := range xt {
		p.XTicks = append(p.XTicks, graphTick{At: unit(x.at(v)), Text: tickText(v)})
	}
	for _, v := range yt {
		p.YTicks = append(p.YTicks, graphTick{At: unit(y.at(v)), Text: tickText(v), Label: y.at(v) + 4})
	}
	var words []string
	for i, c := range g.Curves {
		p.Paths = append(p.Paths, graphPath{Class: c.class(), D: c.path(x, y)})
		at := p.Left + 220*float64(i)
		p.Legend = append(p.Legend, graphLegend{Class: c.class(), Name: c.Name, X: at, Mid: at + 12, End: at + 24, At: at + 32, Dot: c.Kind == DotCurve})
		words = append(words, c.words())
	}
	for _, e := range g.Ellipses {
		a := scaling{0, x.hi - x.lo, 0, x.to - x.from, false}
		p.Ellipses = append(p.Ellipses, graphEllipse{
			Class: fmt.Sprint("c", e.Color), CX: unit(x.at(e.X)), CY: unit(y.at(e.Y)),
			RX: unit(a.at(e.A)), RY: unit(a.at(e.B)), Turn: unit(-180 / math.Pi * e.Angle),
		})
	}
	p.Summary = strings.Join(words, "; ")
	return p
}

func (c Curve) class() string {
	return [...]string{"line", "dots", "steps"}[c.Kind] + " c" + strconv.Itoa(c.Color)
}

// words tell of a curve what its picture shows at a glance.
func (c Curve) words() string {
	if len(c.Points) == 0 {
		return c.Name + ": nothing"
	}
	lo, hi := c.Points[0], c.Points[0]
	for _, q := range c.Points {
		if q.Y < lo.Y {
			lo = q
		}
		if q.Y > hi.Y {
			hi = q
		}
	}
	n := len(c.Points)
	switch c.Kind {
	case DotCurve:
		return fmt.Sprintf("%s: %s points", c.Name, Count(n))
	case StepCurve:
		return fmt.Sprintf("%s: most, %s, from %s", c.Name, tickText(hi.Y), tickText(round3(hi.X)))
	}
	return fmt.Sprintf("%s: from %s to %s", c.Name, tickText(round3(hi.Y)), tickText(round3(lo.Y)))
}

func round3(v float64) float64 {
	r, _ := strconv.ParseFloat(strconv.FormatFloat(v, 'g', 3, 64), 64) // its own text
	return r
}

// path is the curve's outline: dots are strokes of no length with round ends.
func (c Curve) path(x, y scaling) string {
	var b strings.Builder
	last := ""
	for i, q := range c.Points {
		at := unit(x.at(q.X)) + " " + unit(y.at(q.Y))
		switch {
		case c.Kind == DotCurve:
			if at != last { // equal ones are one
				b.WriteString("M" + at + "h0")
			}
		case i == 0 && c.Kind == StepCurve:
			b.WriteString("M" + unit(x.at(q.X)) + " " + unit(y.at(y.lo)) + "V" + unit(y.at(q.Y)))
		case i == 0:
			b.WriteString("M" + at)
		case c.Kind == StepCurve && i == len(c.Points)-1:
			b.WriteString("H" + unit(x.at(q.X)) + "V" + unit(y.at(y.lo)))
		case c.Kind == StepCurve:
			b.WriteString("H" + unit(x.at(q.X)) + "V" + unit(y.at(q.Y)))
		case c.Kind == LineCurve:
			b.WriteString("L" + at)
		}
		last = at
	}
	return b.String()
}

// extent is half the width and half the height of the ellipse's box.
func (e Ellipse) extent() (w, h float64) {
	sin, cos := math.Sincos(e.Angle)
	return math.Hypot(e.A*cos, e.B*sin), math.Hypot(e.A*sin, e.B*cos)
}

// equalRanges widens one range so that a unit is as long on both axes of a field of that width over height.
func equalRanges(xlo, xhi, ylo, yhi, shape float64) (a, b, c, d float64) {
	w, h := 1.04*max(xhi-xlo, 1e-12), 1.04*max(yhi-ylo, 1e-12)
	w, h = max(w, h*shape), max(h, w/shape)
	mx, my := (xlo+xhi)/2, (ylo+yhi)/2
	return mx - w/2, mx + w/2, my - h/2, my + h/2
}

// axisOf is a range with ticks: widened to whole ticks unless it is exact.
func axisOf(lo, hi float64, log, exact bool) (scaling, []float64) {
	if log {
		lo, hi = math.Pow(10, math.Floor(math.Log10(lo)+1e-9)), math.Pow(10, math.Ceil(math.Log10(hi)-1e-9))
		if lo == hi {
			hi *= 10
		}
		step := math.Ceil(math.Log10(hi/lo)/7 - 1e-9)
		var ticks []float64
		for v := lo; v <= hi*1.0001; v *= math.Pow(10, step) {
			ticks = append(ticks, v)
		}
		return scaling{lo: lo, hi: hi, log: true}, ticks
	}
	if lo == hi {
		lo, hi = lo-max(math.Abs(lo)/2, 0.5), hi+max(math.Abs(hi)/2, 0.5)
	}
	step := niceStep((hi - lo) / 6)
	first, last := math.Floor(lo/step+1e-9), math.Ceil(hi/step-1e-9)
	if exact {
		first, last = math.Ceil(lo/step-1e-9), math.Floor(hi/step+1e-9)
	}
	var ticks []float64
	for i := first; i <= last; i++ {
		ticks = append(ticks, i*step)
	}
	if !exact {
		lo, hi = first*step, last*step
	}
	return scaling{lo: lo, hi: hi}, ticks
}

func unit(v float64) string { return strings.TrimSuffix(strconv.FormatFloat(v, 'f', 1, 64), ".0") }

// Gallery is pictures side by side, each with what is to say of it.
type Gallery struct {
	Caption string
	Items   []GalleryItem
}

// GalleryItem is one picture or two, one above the other.
type GalleryItem struct {
	PNG      []byte
	Alt      string // what it shows; required
	Below    []byte // a second one, such as its neighbour; nil for none
	BelowAlt string
	Lines    []string // under the pictures
}

func (Gallery) kind() string { return "gallery" }

func (g Gallery) check() error {
	if len(g.Items) == 0 {
		return fmt.Errorf("gallery %q: no pictures", g.Caption)
	}
	for _, it := range g.Items {
		if err := (Image{PNG: it.PNG, Alt: it.Alt}).check(); err != nil {
			return fmt.Errorf("gallery %q: %w", g.Caption, err)
		}
		if it.Below != nil {
			if err := (Image{PNG: it.Below, Alt: it.BelowAlt}).check(); err != nil {
				return fmt.Errorf("gallery %q: below %q: %w", g.Caption, it.Alt, err)
			}
		}
	}
	return nil
}

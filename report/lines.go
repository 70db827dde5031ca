package report

import (
	"fmt"
	"image/color"
	"io"
	"math"

	gonum "gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"
	"gonum.org/v1/plot/vg/vgsvg"
)

// Lines is a figure of lines over two axes, as papers print them. Lines differ
// in colour, dash and mark, so that it can be read in black and white too.
type Lines struct {
	Title      string
	X, Y       string // what the axes show
	LogX, LogY bool
	Series     []Series // in the order of the legend
}

// Series is one line, its points from left to right.
type Series struct {
	Name   string
	Points []Point
}

// Point is a place on a line. Lo and Hi bound the interval of Y; there is none
// when both are zero or one is NaN.
type Point struct{ X, Y, Lo, Hi float64 }

func (p Point) interval() bool { return Row{Lo: p.Lo, Hi: p.Hi}.interval() }

// The figure is as wide as a page and wider, or higher, where its legend needs it.
const (
	linesWidth  = 6.5 * vg.Inch
	linesHeight = 4 * vg.Inch
	axesWidth   = 4 * vg.Inch // at least, with their labels
	legendTop   = 24          // points above the legend, where the title is
	linesMargin = 8           // points
	linesDPI    = 160         // of a PNG
)

// The marks, dashes and colours of the lines in turn; their numbers have no
// common divisor, so that 168 lines differ. The colours are those of Okabe and
// Ito, which colour-blind readers can tell apart, without the pale yellow.
var (
	lineMarks = []draw.GlyphDrawer{
		draw.CircleGlyph{}, draw.BoxGlyph{}, draw.PyramidGlyph{}, hollow{draw.CircleGlyph{}}, diamond{}, hollow{draw.BoxGlyph{}}, hollow{draw.PyramidGlyph{}}, hollow{diamond{}},
	}
	lineDashes = [][]vg.Length{nil, {6, 2.5}, {1.5, 2}}
	lineColors = []color.Color{
		color.RGBA{0, 0, 0, 255},
		color.RGBA{213, 94, 0, 255},
		color.RGBA{0, 114, 178, 255},
		color.RGBA{0, 158, 115, 255},
		color.RGBA{204, 121, 167, 255},
		color.RGBA{230, 159, 0, 255},
		color.RGBA{86, 180, 233, 255},
	}
)

// diamond is a square on its corner.
type diamond struct{}

func (diamond) DrawGlyph(c *draw.Canvas, sty draw.GlyphStyle, at vg.Point) {
	r := 1.2 * sty.Radius
	c.FillPolygon(sty.Color, []vg.Point{{X: at.X, Y: at.Y + r}, {X: at.X - r, Y: at.Y}, {X: at.X, Y: at.Y - r}, {X: at.X + r, Y: at.Y}})
}

// hollow is a mark with a white middle, which covers the line.
type hollow struct{ draw.GlyphDrawer }

func (h hollow) DrawGlyph(c *draw.Canvas, sty draw.GlyphStyle, at vg.Point) {
	h.GlyphDrawer.DrawGlyph(c, sty, at)
	sty.Color, sty.Radius = color.White, sty.Radius*0.6
	c.SetColor(sty.Color)
	h.GlyphDrawer.DrawGlyph(c, sty, at)
}

// WritePNG draws the figure as a PNG. It fails on numbers that are not finite,
// or that a logarithmic axis has no place for.
func (l *Lines) WritePNG(w io.Writer) error {
	f, err := l.layout()
	if err != nil {
		return err
	}
	c := vgimg.NewWith(vgimg.UseWH(f.width, f.height), vgimg.UseDPI(linesDPI))
	f.draw(c)
	_, err = vgimg.PngCanvas{Canvas: c}.WriteTo(w)
	return err
}

// WriteSVG draws the figure as an SVG, with its letters as text.
func (l *Lines) WriteSVG(w io.Writer) error {
	f, err := l.layout()
	if err != nil {
		return err
	}
	c := vgsvg.New(f.width, f.height)
	f.draw(c)
	_, err = c.WriteTo(w)
	return err
}

func (l *Lines) check() error {
	if len(l.Series) == 0 {
		return fmt.Errorf("report: figure %q: no lines", l.Title)
	}
	for _, s := range l.Series {
		if len(s.Points) == 0 {
			return fmt.Errorf("report: figure %q: line %q has no points", l.Title, s.Name)
		}
		for i, p := range s.Points {
			bad := func(v float64) bool { return math.IsNaN(v) || math.IsInf(v, 0) }
			switch {
			case bad(p.X) || bad(p.Y) || p.interval() && (bad(p.Lo) || bad(p.Hi)):
				return fmt.Errorf("report: figure %q: line %q, point %d: %v; wanted finite numbers", l.Title, s.Name, i, p)
			case l.LogX && p.X <= 0 || l.LogY && p.Y <= 0:
				return fmt.Errorf("report: figure %q: line %q, point %d: (%g, %g) on a logarithmic axis; wanted numbers above 0", l.Title, s.Name, i, p.X, p.Y)
			case p.interval() && p.Lo > p.Hi:
				return fmt.Errorf("report: figure %q: line %q, point %d: interval from %g to %g", l.Title, s.Name, i, p.Lo, p.Hi)
			case i > 0 && p.X < s.Points[i-1].X:
				return fmt.Errorf("report: figure %q: line %q goes from x %g back to %g; wanted points from left to right", l.Title, s.Name, s.Points[i-1].X, p.X)
			}
		}
	}
	return nil
}

// linesFigure is a Lines with its sizes.
type linesFigure struct {
	axes          *gonum.Plot
	legend        gonum.Legend
	legendWidth   vg.Length
	width, height vg.Length
}

func (l *Lines) layout() (*linesFigure, error) {
	if err := l.check(); err != nil {
		return nil, err
	}
	p := gonum.New()
	p.Title.Text, p.X.Label.Text, p.Y.Label.Text = l.Title, l.X, l.Y
	p.Title.Padding = vg.Points(2)
	for _, s := range []*text.Style{&p.Title.TextStyle, &p.X.Label.TextStyle, &p.Y.Label.TextStyle, &p.X.Tick.Label, &p.Y.Tick.Label, &p.Legend.TextStyle} {
		s.Font.Typeface, s.Font.Variant, s.Font.Size = "Liberation", "Sans", vg.Points(10)
	}
	p.Title.TextStyle.Font.Size = vg.Points(11)
	p.X.Label.Padding, p.Y.Label.Padding = vg.Points(3), vg.Points(3)
	grid := plotter.NewGrid()
	grid.Horizontal.Color, grid.Vertical.Color = color.Gray{225}, color.Gray{225}
	p.Add(grid)
	lowest := l.setAxes(p)
	legend := p.Legend
	legend.Top, legend.Left = true, true
	legend.ThumbnailWidth, legend.Padding = vg.Points(30), vg.Points(4)
	legend.YPosition = draw.PosCenter
	for i, s := range l.Series {
		line, marks, bars, err := s.plotters(i, lowest)
		if err != nil {
			return nil, err
		}
		p.Add(line)
		if len(bars.XYs) > 0 {
			p.Add(bars)
		}
		p.Add(marks)
		legend.Add(s.Name, line, marks)
	}
	size := legend.Rectangle(draw.Canvas{}).Size()
	return &linesFigure{
		axes: p, legend: legend, legendWidth: size.X,
		width: max(linesWidth, axesWidth+size.X), height: max(linesHeight, size.Y+legendTop+3*linesMargin),
	}, nil
}

// draw puts the axes at the left and the legend beside them, where it covers no line.
func (f *linesFigure) draw(c vg.CanvasSizer) {
	page := draw.Crop(draw.New(c), linesMargin, -linesMargin, linesMargin, -linesMargin)
	f.axes.Draw(draw.Crop(page, 0, -f.legendWidth-linesMargin, 0, 0))
	f.legend.Draw(draw.Crop(page, page.Max.X-page.Min.X-f.legendWidth, 0, 0, -legendTop))
}

// setAxes fixes ranges and ticks; it returns the lowest y that has a place.
func (l *Lines) setAxes(p *gonum.Plot) (lowest float64) {
	xlo, xhi, ylo, yhi := math.Inf(1), math.Inf(-1), math.Inf(1), math.Inf(-1)
	for _, s := range l.Series {
		for _, q := range s.Points {
			xlo, xhi = min(xlo, q.X), max(xhi, q.X)
			ylo, yhi = min(ylo, q.Y), max(yhi, q.Y)
			if q.interval() {
				yhi = max(yhi, q.Hi)
				if !l.LogY || q.Lo > 0 {
					ylo = min(ylo, q.Lo)
				}
			}
		}
	}
	set := func(a *gonum.Axis, lo, hi float64, log bool) {
		var ticks []gonum.Tick
		if log {
			a.Scale = gonum.LogScale{}
			a.Min, a.Max, ticks = logTicks(lo, hi)
		} else {
			a.Min, a.Max, ticks = linearTicks(lo, hi)
		}
		a.Tick.Marker = gonum.ConstantTicks(ticks)
	}
	set(&p.X, xlo, xhi, l.LogX)
	set(&p.Y, ylo, yhi, l.LogY)
	return p.Y.Min
}

// logTicks widens a range to the next 1, 2 or 5 times a power of ten at both
// ends and names these, or the powers alone where the range is long.
func logTicks(lo, hi float64) (from, to float64, ticks []gonum.Tick) {
	steps := []float64{1, 2, 5}
	decade := int(math.Floor(math.Log10(lo)))
	if math.Log10(hi/lo) > 3 {
		steps = []float64{1}
	}
	value := func(d int, k float64) float64 { return k * math.Pow(10, float64(d)) }
	from = value(decade, 1)
	for _, k := range steps {
		if v := value(decade, k); v <= lo*(1+1e-9) {
			from = v
		}
	}
	to = math.Inf(1)
	for d := decade; math.IsInf(to, 1); d++ {
		for _, k := range steps {
			if v := value(d, k); v >= hi*(1-1e-9) && v > from*(1+1e-9) {
				to = min(to, v)
			}
		}
	}
	for d := decade; value(d, 1) <= to*(1+1e-9); d++ {
		for k := 1.0; k < 10; k++ {
			v := value(d, k)
			if v < from*(1-1e-9) || v > to*(1+1e-9) {
				continue
			}
			t := gonum.Tick{Value: min(max(v, from), to)}
			for _, s := range steps {
				if k == s {
					t.Label = tickText(v)
				}
			}
			ticks = append(ticks, t)
		}
	}
	return from, to, ticks
}

// linearTicks widens a range to whole steps of about a fifth of it.
func linearTicks(lo, hi float64) (from, to float64, ticks []gonum.Tick) {
	if lo == hi {
		lo, hi = lo-max(math.Abs(lo)/2, 0.5), hi+max(math.Abs(hi)/2, 0.5)
	}
	step := niceStep((hi - lo) / 5)
	first, last := math.Floor(lo/step+1e-9), math.Ceil(hi/step-1e-9)
	for i := first; i <= last; i++ {
		ticks = append(ticks, gonum.Tick{Value: i * step, Label: tickText(i * step)})
	}
	return first * step, last * step, ticks
}

// plotters draw the series as number i of the figure.
func (s *Series) plotters(i int, lowest float64) (*plotter.Line, *plotter.Scatter, *plotter.YErrorBars, error) {
	var points plotter.XYs
	bars := &plotter.YErrorBars{CapWidth: vg.Points(5)}
	for _, q := range s.Points {
		points = append(points, plotter.XY{X: q.X, Y: q.Y})
		if q.interval() { // which may lie beside the value: the bar is hung on its own middle
			lo := max(q.Lo, lowest) // on a logarithmic axis an interval down to 0 ends at the axis
			half := (q.Hi - lo) / 2
			bars.XYs = append(bars.XYs, plotter.XY{X: q.X, Y: lo + half})
			bars.YErrors = append(bars.YErrors, struct{ Low, High float64 }{half, half})
		}
	}
	line, marks, err := plotter.NewLinePoints(points)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("report: line %q: %w", s.Name, err)
	}
	c := lineColors[i%len(lineColors)]
	line.Color, line.Width, line.Dashes = c, vg.Points(1.3), lineDashes[i%len(lineDashes)]
	marks.GlyphStyle = draw.GlyphStyle{Color: c, Shape: lineMarks[i%len(lineMarks)], Radius: vg.Points(3.2)}
	bars.LineStyle = draw.LineStyle{Color: c, Width: vg.Points(1)}
	return line, marks, bars, nil
}

package report

import (
	"bytes"
	"encoding/xml"
	"errors"
	"image/color"
	"image/png"
	"io"
	"math"
	"slices"
	"strings"
	"testing"
)

func lines() *Lines {
	return &Lines{
		Title: "a <model> & its solvers", X: "evaluations", Y: "error", LogX: true, LogY: true,
		Series: []Series{
			{"ddim", []Point{{X: 5, Y: 0.3, Lo: 0.28, Hi: 0.33}, {X: 20, Y: 0.07, Lo: 0.06, Hi: 0.08}}},
			{"heun", []Point{{X: 5, Y: 0.5, Lo: -0.2, Hi: 0.63}, {X: 19, Y: 0.02}}},
			{"dpm++2m", []Point{{X: 10, Y: 0.05, Lo: math.NaN(), Hi: math.NaN()}}},
		},
	}
}

// Every line is drawn in its colour, and names are text.
func TestLinesPictures(t *testing.T) {
	var b, again, svg bytes.Buffer
	for _, w := range []io.Writer{&b, &again} {
		if err := lines().WritePNG(w); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(b.Bytes(), again.Bytes()) {
		t.Error("equal figures gave different bytes")
	}
	m, err := png.Decode(&b)
	if err != nil {
		t.Fatal(err)
	}
	if s := m.Bounds().Size(); s.X != 1040 || s.Y != 640 {
		t.Errorf("the picture is %v; want 6.5 by 4 inches of 160 pixels", s)
	}
	found := make([]int, len(lineColors))
	for y := range m.Bounds().Dy() {
		for x := range m.Bounds().Dx() {
			found[max(0, slices.Index(lineColors, color.Color(color.RGBAModel.Convert(m.At(x, y)).(color.RGBA))))]++
		}
	}
	if found[1] < 100 || found[2] < 100 || found[3] != 0 {
		t.Errorf("pixels in the lines' colours: %v; want many of the first three and none of the rest", found)
	}
	if err := lines().WriteSVG(&svg); err != nil {
		t.Fatal(err)
	}
	var texts []string
	for d := xml.NewDecoder(bytes.NewReader(svg.Bytes())); ; {
		tok, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("the SVG is no XML: %v", err)
		}
		if s, ok := tok.(xml.CharData); ok {
			texts = append(texts, strings.TrimSpace(string(s)))
		}
	}
	for _, want := range []string{"a <model> & its solvers", "evaluations", "error", "ddim", "heun", "dpm++2m", "5", "10", "20", "0.02", "0.1", "1"} {
		if !slices.Contains(texts, want) {
			t.Errorf("the SVG does not say %q: %q", want, texts)
		}
	}
}

// A long legend takes nothing from the axes.
func TestLinesGrowWithLegend(t *testing.T) {
	l := lines()
	for range 30 {
		l.Series = append(l.Series, Series{"a sampler with many options: " + strings.Repeat("option=1,", 5), l.Series[2].Points})
	}
	var b bytes.Buffer
	if err := l.WritePNG(&b); err != nil {
		t.Fatal(err)
	}
	c, err := png.DecodeConfig(&b)
	if err != nil {
		t.Fatal(err)
	}
	if c.Width < 1100 || c.Height < 900 {
		t.Errorf("the picture is %d by %d; want room for names of 74 letters, and for 33 lines of them", c.Width, c.Height)
	}
}

// Ranges end at named ticks around the numbers, and at least two are named.
func TestLinesTicks(t *testing.T) {
	for _, c := range []struct {
		lo, hi, from, to float64
		log              bool
		names            string
	}{
		{5, 20, 5, 20, true, "5 10 20"},
		{5, 19, 5, 20, true, "5 10 20"},
		{0.0061, 0.5, 0.005, 0.5, true, "0.005 0.01 0.02 0.05 0.1 0.2 0.5"},
		{0.3, 0.3, 0.2, 0.5, true, "0.2 0.5"},
		{10, 10, 10, 20, true, "10 20"},
		{3e-5, 2, 1e-5, 10, true, "1e-05 0.0001 0.001 0.01 0.1 1 10"},
		{1.2, 4.7, 1, 5, false, "1 2 3 4 5"},
		{7, 7, 2, 12, false, "2 4 6 8 10 12"},
		{0, 0, -0.6, 0.6, false, "−0.6 −0.4 −0.2 0 0.2 0.4 0.6"},
	} {
		ticks := linearTicks
		if c.log {
			ticks = logTicks
		}
		from, to, list := ticks(c.lo, c.hi)
		var names []string
		for _, k := range list {
			if k.Value < from || k.Value > to {
				t.Errorf("%v: tick %v outside %v to %v", c, k, from, to)
			}
			if k.Label != "" {
				names = append(names, k.Label)
			}
		}
		if math.Abs(from-c.from) > 1e-9*math.Abs(c.from) || math.Abs(to-c.to) > 1e-9*math.Abs(c.to) || strings.Join(names, " ") != c.names {
			t.Errorf("%g to %g, log %t: axis from %g to %g named %q; want %g to %g, %q", c.lo, c.hi, c.log, from, to, names, c.from, c.to, c.names)
		}
	}
}

func TestLinesRefuses(t *testing.T) {
	bend := func(f func(*Lines)) *Lines { l := lines(); f(l); return l }
	for want, l := range map[string]*Lines{
		"no lines":                        {Title: "x"},
		`line "heun" has no points`:       bend(func(l *Lines) { l.Series[1].Points = nil }),
		"point 0: {5 NaN":                 bend(func(l *Lines) { l.Series[0].Points[0].Y = math.NaN() }),
		"wanted finite numbers":           bend(func(l *Lines) { l.Series[0].Points[0].Hi = math.Inf(1) }),
		"(5, 0) on a logarithmic axis":    bend(func(l *Lines) { l.Series[1].Points[0].Y = 0 }),
		"(-1, 0.5) on a logarithmic axis": bend(func(l *Lines) { l.Series[1].Points[0].X = -1 }),
		"interval from 0.4 to 0.33":       bend(func(l *Lines) { l.Series[0].Points[0].Lo = 0.4 }),
		"from x 20 back to 6":             bend(func(l *Lines) { l.Series[0].Points = append(l.Series[0].Points, Point{X: 6, Y: 1}) }),
	} {
		var b bytes.Buffer
		for _, write := range []func(io.Writer) error{l.WritePNG, l.WriteSVG} {
			if err := write(&b); err == nil || !strings.Contains(err.Error(), want) || b.Len() > 0 {
				t.Errorf("%v, %d bytes written; want an error with %q and nothing written", err, b.Len(), want)
			}
		}
	}
}

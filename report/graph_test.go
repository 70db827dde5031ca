package report

import (
	"encoding/xml"
	"fmt"
	"math"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// graphPage is a page with all that graphs and galleries have.
func graphPage(t *testing.T) *Page {
	p := example(t)
	spiral := Curve{Name: "generated", Kind: DotCurve, Color: 1}
	for i := range 400 {
		a := float64(i) / 20
		spiral.Points = append(spiral.Points, Point{X: a * math.Cos(a), Y: a * math.Sin(a)})
	}
	fall := Curve{Name: "reference"}
	for i := range 60 {
		fall.Points = append(fall.Points, Point{X: float64(i + 1), Y: 100 * math.Pow(float64(i+1), -1.5)})
	}
	h := Histogram("effects", []float64{1, 1, 2, 2, 2, 3, 7}, 5, 1, 7, 2)
	p.Sections = append(p.Sections,
		Section{Title: "Graphs", Blocks: []Block{
			Graph{Caption: "Spectrum", X: "direction", Y: "variance", LogX: true, LogY: true, Curves: []Curve{fall}, Data: &Table{Caption: "Spectrum", Columns: Columns("a", "b>"), Rows: [][]string{{"1", "2"}}}},
			Graph{Caption: "Plane", X: "first", Y: "second", Equal: true, Curves: []Curve{spiral}, Ellipses: []Ellipse{EllipseOf([2]float64{1, 2}, [3]float64{25, 12, 16}, 2, 0)}},
			Graph{Caption: "Effects", X: "effect", Y: "images", Curves: []Curve{h}},
		}},
		Section{Title: "Gallery", Blocks: []Block{Gallery{Caption: "Pairs", Items: []GalleryItem{
			{PNG: grid(t, 30, 30), Alt: "generated: a.png", Below: grid(t, 20, 30), BelowAlt: "nearest: b.png", Lines: []string{"a.png", "effect 1.2"}},
			{PNG: grid(t, 40, 20), Alt: "generated: c.png", Lines: []string{"c.png"}},
		}}}})
	return p
}

// TestPageStructure reads the page as a browser's tree: what a keyboard and a screen reader need is there, and nothing comes from outside.
func TestPageStructure(t *testing.T) {
	got := render(t, graphPage(t))
	if name := os.Getenv("FIDLAB_REPORT_GRAPHS"); name != "" { // to look at it in a browser
		if err := os.WriteFile(name, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	wellFormed(t, got)
	d := xml.NewDecoder(strings.NewReader(got))
	d.Entity = xml.HTMLEntity
	ids, links, count := map[string]bool{}, []string{}, map[string]int{}
	var level int
	for {
		tok, err := d.Token()
		if err != nil {
			break
		}
		e, ok := tok.(xml.StartElement)
		if !ok {
			continue
		}
		name, attr := e.Name.Local, map[string]string{}
		for _, a := range e.Attr {
			attr[a.Name.Local] = a.Value
		}
		count[name]++
		if id := attr["id"]; id != "" {
			if ids[id] {
				t.Errorf("id %q is there twice", id)
			}
			ids[id] = true
		}
		if v, ok := attr["tabindex"]; ok && v != "0" {
			t.Errorf("%s has tabindex %q", name, v)
		}
		switch name {
		case "img":
			if attr["alt"] == "" || !strings.HasPrefix(attr["src"], "data:image/png;base64,") {
				t.Errorf("a picture without a description, or from outside: %q, %.30q", attr["alt"], attr["src"])
			}
		case "svg":
			if attr["role"] != "img" || len(attr["aria-label"]) < 20 {
				t.Errorf("a chart without a description: %q", attr["aria-label"])
			}
		case "th":
			if attr["scope"] == "" {
				t.Error("a head of a table without its scope")
			}
		case "a":
			links = append(links, strings.TrimPrefix(attr["href"], "#"))
		case "h1", "h2", "h3":
			if n := int(name[1] - '0'); n > level+1 {
				t.Errorf("%s after a heading of level %d", name, level)
			} else {
				level = n
			}
		case "script", "link", "iframe", "object":
			t.Errorf("element %s", name)
		}
	}
	for _, l := range links {
		if !ids[l] {
			t.Errorf("a link to #%s, which is not there", l)
		}
	}
	if len(links) != 7 || count["nav"] != 1 || count["main"] != 1 || count["h1"] != 1 || count["caption"] != 2 || count["details"] != 1 || count["summary"] != 1 || count["ellipse"] != 1 {
		t.Errorf("%d links, elements %v", len(links), count)
	}
	for _, want := range []string{"Spectrum. direction, logarithmic across, variance, logarithmic up. reference: from 100 to 0.215", "generated: 400 points", "effects: most, 5, from 1"} {
		if !strings.Contains(got, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
}

// Places in the picture are in proportion to the numbers, or to their logarithms; a unit is as long on both axes where that is asked for.
func TestGraphGeometry(t *testing.T) {
	g := Graph{LogX: true, LogY: true, Curves: []Curve{{Points: []Point{{X: 1, Y: 100}, {X: 10, Y: 10}, {X: 100, Y: 1}}}}}
	var at []float64
	for _, v := range regexp.MustCompile(`[0-9.]+`).FindAllString(g.layout().Paths[0].D, -1) {
		f, err := strconv.ParseFloat(v, 64)
		if err != nil {
			t.Fatal(err)
		}
		at = append(at, f)
	}
	if len(at) != 6 || math.Abs(at[2]-at[0]-(at[4]-at[2])) > 0.2 || math.Abs(at[3]-at[1]-(at[5]-at[3])) > 0.2 || at[1] >= at[3] || at[0] != graphLeft || at[5] != graphHeight-graphBottom {
		t.Errorf("three decades at %v", at)
	}
	p := Graph{Equal: true, Curves: []Curve{{Kind: DotCurve, Points: []Point{{X: 0, Y: 0}, {X: 4, Y: 3}}}}, Ellipses: []Ellipse{{X: 2, Y: 1, A: 2, B: 2}}}.layout()
	if p.Ellipses[0].RX != p.Ellipses[0].RY {
		t.Errorf("a circle of %s by %s", p.Ellipses[0].RX, p.Ellipses[0].RY)
	}
	e := EllipseOf([2]float64{}, [3]float64{5, 3, 5}, 1, 0) // eigenvalues 8 and 2 on the diagonals
	if math.Abs(e.A*e.A-8) > 1e-12 || math.Abs(e.B*e.B-2) > 1e-12 || math.Abs(e.Angle-math.Pi/4) > 1e-12 {
		t.Errorf("%+v", e)
	}
	h := Histogram("h", []float64{-9, 0, 0.4, 1, 3.9, 4, 77}, 4, 0, 4, 0)
	if fmt.Sprint(h.Points) != "[{0 3 0 0} {1 1 0 0} {2 0 0 0} {3 3 0 0} {4 0 0 0}]" {
		t.Errorf("%v", h.Points)
	}
	if h := Histogram("h", []float64{2, 2}, 3, 2, 2, 0); h.Points[0].Y != 2 {
		t.Errorf("equal values: %v", h.Points)
	}
}

func TestGraphRefuses(t *testing.T) {
	one := func(points ...Point) Graph { return Graph{Curves: []Curve{{Name: "c", Points: points}}} }
	for name, c := range map[string]struct {
		b    Block
		want string
	}{
		"nothing":       {Graph{}, "no points"},
		"nan":           {one(Point{X: 1, Y: math.NaN()}), "want finite numbers"},
		"log of 0":      {Graph{LogX: true, Curves: []Curve{{Points: []Point{{X: 0, Y: 1}}}}}, "on a logarithmic axis"},
		"colour":        {Graph{Curves: []Curve{{Color: 3, Points: []Point{{X: 1}}}}}, "has colour 3"},
		"ellipse":       {Graph{Curves: one(Point{X: 1}).Curves, Ellipses: []Ellipse{{A: math.Inf(1)}}}, "an ellipse with"},
		"no pictures":   {Gallery{}, "no pictures"},
		"no text":       {Gallery{Items: []GalleryItem{{PNG: grid(t, 2, 2)}}}, "without a description"},
		"no text below": {Gallery{Items: []GalleryItem{{PNG: grid(t, 2, 2), Alt: "a", Below: grid(t, 2, 2)}}}, "without a description"},
	} {
		p := &Page{Title: "x", Sections: []Section{{Blocks: []Block{c.b}}}}
		if err := p.WriteHTML(discard{}); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v; want %q", name, err, c.want)
		}
	}
}

package report

import (
	"bytes"
	"encoding/base64"
	"encoding/xml"
	"errors"
	"image"
	"image/color"
	"image/png"
	"io"
	"math"
	"os"
	"strings"
	"testing"
)

// grid is a small picture with an edge in it.
func grid(t *testing.T, w, h int) []byte {
	t.Helper()
	im := image.NewGray(image.Rect(0, 0, w, h))
	for y := range h {
		for x := range w {
			im.SetGray(x, y, color.Gray{Y: uint8(255 * ((x/4 + y/4) & 1))})
		}
	}
	var b bytes.Buffer
	if err := png.Encode(&b, im); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func example(t *testing.T) *Page {
	return &Page{
		Title: "Digits sampled from mnist-gmm",
		Lead:  "2,000 samples of each sampler against the 60,000 images of the MNIST training set, in the feature space of the mnist encoder.",
		Sections: []Section{
			{Title: "Result", Blocks: []Block{
				Figures{{"FID of test images (the floor)", Number(0.412, 0.39, 0.44), "95 %: " + Range(0.412, 0.39, 0.44)}, {"DPM++ 2M, 10 steps", Number(8.7312, 8.4, 9.1), "95 %: " + Range(8.7312, 8.4, 9.1)}, {"DDIM, 10 steps", "11.92", "95 %: 11.4 to 12.4"}},
				Chart{Caption: "FID with its 95 % interval; lower is better", Unit: "FID[mnist]", Log: true, Rows: []Row{
					{Label: "test images", Value: 0.412, Lo: 0.39, Hi: 0.44},
					{Label: "DPM++ 2M, 10 steps", Value: 8.7312, Lo: 8.4, Hi: 9.1, Accent: true},
					{Label: "DDIM, 10 steps", Value: 11.92, Lo: 11.4, Hi: 12.4},
					{Label: "noise", Value: 412.2, Lo: 405, Hi: 419},
				}},
				Chart{Caption: "Time", Unit: "seconds", Bars: true, Rows: []Row{{Label: "read", Value: 0.31}, {Label: "features", Value: 2.4, Accent: true}, {Label: "distance", Value: 0.004}}},
				Note{Text: "mnist encoder, not Inception: these values compare with each other, not with published FIDs."},
			}},
			{Title: "Numbers", Blocks: []Block{
				Table{Caption: "All comparisons", Columns: Columns("set", "n>", "FID>", "mean term>", "95 % interval>"), Rows: [][]string{{"test", "10,000", "0.412", "0.101", "0.390 to 0.440"}, {"DPM++ 2M", "2,000", "8.73", "3.31", "8.40 to 9.10"}}},
				Note{Warning: true, Text: "300 images are few for 64 dimensions."},
			}},
			{Title: "Samples", Blocks: []Block{Image{PNG: grid(t, 280, 84), Alt: "grid of 10 by 3 samples", Caption: "The first 30 samples, DPM++ 2M.", Crisp: true}}},
			{Title: "Again, and on your own folders", Blocks: []Block{Commands{Lines: []string{"fidlab fid real/ generated/", `fidlab fid mnist:train "my samples/" --features mnist --ci --report out.html`}}}},
		},
		Facts:  []Fact{{"Extractor", "mnist, 64 dimensions, SHA-256 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"}, {"Preset", "native"}, {"Seed", "1"}},
		Footer: "fidlab 0.1.0",
	}
}

func render(t *testing.T, p *Page) string {
	t.Helper()
	var b bytes.Buffer
	if err := p.WriteHTML(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestPage checks that everything is on the page, that it is well formed, that
// it asks for nothing from outside, and that it is the same bytes every time.
func TestPage(t *testing.T) {
	p := example(t)
	got := render(t, p)
	if name := os.Getenv("FIDLAB_REPORT_EXAMPLE"); name != "" { // to look at it in a browser
		if err := os.WriteFile(name, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range []string{
		"<title>Digits sampled from mnist-gmm</title>", "DPM++ 2M, 10 steps", "8.73 (8.40 to 9.10)", "FID[mnist], logarithmic axis",
		"seconds, linear axis", "<strong>Warning.</strong>", `alt="grid of 10 by 3 samples"`, "fidlab fid real/ generated/", "Provenance", "fidlab 0.1.0",
		"data:image/png;base64," + base64.StdEncoding.EncodeToString(grid(t, 280, 84)), "prefers-color-scheme: dark", `lang="en"`,
	} {
		if !strings.Contains(strings.ReplaceAll(got, "&#43;", "+"), want) {
			t.Errorf("page lacks %q", want)
		}
	}
	for _, bad := range []string{"ZgotmplZ", "http:", "https:", "<script", "url(", "@import"} {
		if strings.Contains(got, bad) {
			t.Errorf("page contains %q", bad)
		}
	}
	if render(t, p) != got {
		t.Error("two renderings differ")
	}
	wellFormed(t, got)
}

// wellFormed checks that every tag is closed in order.
func wellFormed(t *testing.T, page string) {
	t.Helper()
	d := xml.NewDecoder(strings.NewReader(page))
	d.Entity = xml.HTMLEntity
	for {
		_, err := d.Token()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatalf("page is not well formed: %v", err)
		}
	}
}

// TestHostileText puts markup into every string of a page.
func TestHostileText(t *testing.T) {
	const evil = `"><script>alert(1)</script><img src=x onerror='alert(2)'> javascript:alert(3) {{.}} </style></svg>`
	p := &Page{Title: evil, Lead: evil, Footer: evil, Facts: []Fact{{evil, evil}}, Sections: []Section{{Title: evil, Text: evil, Blocks: []Block{
		Figures{{evil, evil, evil}},
		Table{Caption: evil, Columns: Columns(evil), Rows: [][]string{{evil}}},
		Chart{Caption: evil, Unit: evil, Rows: []Row{{Label: evil, Value: 1}}},
		Image{PNG: grid(t, 4, 4), Alt: evil, Caption: evil},
		Commands{Caption: evil, Lines: []string{evil}},
		Note{Text: evil},
		Note{Warning: true, Text: evil},
	}}}}
	got := render(t, p)
	wellFormed(t, got)
	elements, texts := map[string]int{}, 0
	d := xml.NewDecoder(strings.NewReader(got))
	d.Entity = xml.HTMLEntity
	for {
		tok, err := d.Token()
		if err != nil {
			break
		}
		switch e := tok.(type) {
		case xml.StartElement:
			elements[e.Name.Local]++
			for _, a := range e.Attr {
				if strings.HasPrefix(a.Name.Local, "on") {
					t.Errorf("attribute %s on %s", a.Name.Local, e.Name.Local)
				}
			}
		case xml.CharData:
			if strings.Contains(string(e), evil) {
				texts++
			}
		}
	}
	if elements["script"] != 0 || elements["img"] != 1 || elements["style"] != 1 {
		t.Errorf("elements of the page: %v; want no script, one img, one style", elements)
	}
	if texts < 18 {
		t.Errorf("the hostile text is shown %d times; want at least 18, one per string", texts)
	}
}

func TestPageRefuses(t *testing.T) {
	one := func(b Block) *Page {
		return &Page{Title: "x", Sections: []Section{{Title: "part", Blocks: []Block{b}}}}
	}
	for name, c := range map[string]struct {
		page *Page
		want string
	}{
		"no title":    {&Page{}, "without a title"},
		"nil block":   {one(nil), "nil"},
		"ragged":      {one(Table{Columns: Columns("a", "b"), Rows: [][]string{{"1", "2"}, {"1"}}}), "row 1 has 1 cells; want 2"},
		"no columns":  {one(Table{}), "no columns"},
		"empty chart": {one(Chart{}), "no rows"},
		"nan":         {one(Chart{Rows: []Row{{Label: "r", Value: math.NaN()}}}), "not a number"},
		"infinite":    {one(Chart{Rows: []Row{{Label: "r", Value: 1, Hi: math.Inf(1)}}}), "infinite"},
		"reversed":    {one(&Chart{Rows: []Row{{Label: "r", Value: 1, Lo: 2, Hi: 1}}}), "interval from 2 to 1"},
		"not png":     {one(Image{PNG: []byte("GIF89a"), Alt: "x"}), "not a PNG (6 bytes)"},
		"no alt":      {one(Image{PNG: grid(t, 2, 2)}), "without a description"},
	} {
		var b bytes.Buffer
		err := c.page.WriteHTML(&b)
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), "report: ") {
			t.Errorf("%s: error %v; want one with %q", name, err, c.want)
		}
		if b.Len() != 0 {
			t.Errorf("%s: %d bytes written before the error", name, b.Len())
		}
	}
}

type fullDisk struct{}

var errFull = errors.New("no space left")

func (fullDisk) Write([]byte) (int, error) { return 0, errFull }

func TestWriteError(t *testing.T) {
	if err := example(t).WriteHTML(fullDisk{}); !errors.Is(err, errFull) {
		t.Errorf("error %v; want the writer's", err)
	}
	if err := (Table{Columns: Columns("a")}).WriteText(fullDisk{}); !errors.Is(err, errFull) {
		t.Errorf("error %v; want the writer's", err)
	}
}

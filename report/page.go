package report

import (
	"bufio"
	"bytes"
	_ "embed"
	"encoding/base64"
	"errors"
	"fmt"
	"html/template"
	"io"
)

// Page is a whole report.
type Page struct {
	Title    string
	Lead     string // what this is about, in a sentence or two
	Sections []Section
	Facts    []Fact // where the figures come from: versions, hashes, seeds, settings
	Footer   string // e.g. "fidlab 0.1.0"
}

// Section is a heading with blocks under it.
type Section struct {
	Title  string
	Text   string // a paragraph before the blocks; empty for none
	Blocks []Block
}

// Block is one of Figures, Table, Chart, Graph, Image, Gallery, Commands and Note.
type Block interface {
	kind() string
	check() error
}

// Figures are the few numbers that the reader came for.
type Figures []Figure

// Figure is one number with its name.
type Figure struct {
	Name   string
	Value  string
	Detail string // the interval, or what it is compared with
}

// Image is a PNG that becomes part of the page.
type Image struct {
	PNG     []byte
	Alt     string // what it shows, for who cannot see it; required
	Caption string
	Crisp   bool // enlarge by whole pixels, without smoothing
}

// Commands are lines to type into a shell.
type Commands struct {
	Caption string
	Lines   []string
}

// Note is a remark that must not be missed.
type Note struct {
	Warning bool
	Text    string
}

// Fact is one line of provenance.
type Fact struct{ Name, Value string }

func (Figures) kind() string  { return "figures" }
func (Table) kind() string    { return "table" }
func (Chart) kind() string    { return "chart" }
func (Image) kind() string    { return "image" }
func (Commands) kind() string { return "commands" }
func (Note) kind() string     { return "note" }

func (Figures) check() error  { return nil }
func (Commands) check() error { return nil }
func (Note) check() error     { return nil }

//go:embed page.tmpl
var pageSource string

//go:embed page.css
var pageStyle string

var pageTemplate = template.Must(template.New("page").Funcs(template.FuncMap{
	"style": func() template.CSS { return template.CSS(pageStyle) },
	"kind":  func(b Block) string { return b.kind() },
	"plot":  func(c Chart) *plot { return c.layout() },
	"graph": func(g Graph) *graphPlot { return g.layout() },
	"data":  func(i Image) template.URL { return dataURI(i.PNG) },
	"png":   dataURI,
	"part":  func(i int) string { return fmt.Sprintf("part-%d", i+1) },
	"long":  func(p *Page) bool { return len(p.Sections) > 3 }, // a table of contents helps
}).Parse(pageSource))

// WriteHTML writes the page as one HTML file. It fails, before it writes
// anything, on a table whose rows do not fit its columns, a chart without
// finite numbers, and an image that is no PNG or has no description.
func (p *Page) WriteHTML(w io.Writer) error {
	if err := p.check(); err != nil {
		return err
	}
	b := bufio.NewWriter(w)
	if err := pageTemplate.Execute(b, p); err != nil {
		return fmt.Errorf("report: page %q: %w", p.Title, err)
	}
	return b.Flush()
}

func (p *Page) check() error {
	if p.Title == "" {
		return errors.New("report: page without a title")
	}
	for _, s := range p.Sections {
		for _, b := range s.Blocks {
			err := errors.New("block is nil")
			if b != nil {
				err = b.check()
			}
			if err != nil {
				return fmt.Errorf("report: section %q: %w", s.Title, err)
			}
		}
	}
	return nil
}

func (i Image) check() error {
	if !bytes.HasPrefix(i.PNG, []byte("\x89PNG\r\n\x1a\n")) {
		return fmt.Errorf("image %q: not a PNG (%d bytes)", i.Alt, len(i.PNG))
	}
	if i.Alt == "" {
		return errors.New("image without a description (Alt)")
	}
	return nil
}

// dataURI is safe as a URL: the alphabet of base64 has no character that could
// end the attribute, and the type is fixed to a picture that check has seen.
func dataURI(png []byte) template.URL {
	return template.URL("data:image/png;base64," + base64.StdEncoding.EncodeToString(png))
}

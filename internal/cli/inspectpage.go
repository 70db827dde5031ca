package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/fidlab/fidlab/imageio"
	"github.com/fidlab/fidlab/report"
	"github.com/fidlab/fidlab/tensor"
)

// The page's pictures: how many in a row, and their size where they are larger.
const (
	galleryColumns = 10
	thumbnail      = 96
)

// writeInspection writes the page, with the pictures that its tables name.
func writeInspection(ctx context.Context, o *inspectOptions, f *inspection) error {
	page, err := inspectionPage(ctx, o, f)
	if err != nil {
		return err
	}
	return tensor.WriteAtomic(o.report.path, page.WriteHTML, o.report.options()...)
}

func inspectionPage(ctx context.Context, o *inspectOptions, f *inspection) (*report.Page, error) {
	top := min(o.top, len(f.Images))
	groups := []gallery{
		{"Images that raise FID most", "Above the generated image, below the nearest of the reference.", f.Images[:top]},
		{"Images that lower FID most", "FID would rise without them.", f.lowest(top)},
		{"Nearest to copies", "Above the generated image, below the reference image that it is nearest to.", f.nearCopies()[:top]},
	}
	shown, err := f.pictures(ctx, groups)
	if err != nil {
		return nil, err
	}
	page := fidPage(&o.fidOptions, f.Result)
	page.Title = "What makes " + page.Title
	result := page.Sections[0]
	again := report.Section{Title: "Do it again", Blocks: []report.Block{report.Commands{Lines: []string{o.command(f.Result)}}}}
	tables := f.tables(o.top)
	sections := []report.Section{result}
	for i, g := range groups {
		s := report.Section{Title: g.title, Text: g.text}
		if img, err := g.draw(f, shown); err != nil {
			return nil, err
		} else if img != nil {
			s.Blocks = append(s.Blocks, *img)
		}
		switch i {
		case 0:
			s.Blocks = append(s.Blocks, tables[0])
		case 2:
			s.Blocks = append(s.Blocks, tables[1])
		}
		if len(s.Blocks) > 0 {
			sections = append(sections, s)
		}
	}
	if len(tables) > 2 {
		s := report.Section{Title: "Classes", Blocks: []report.Block{tables[2]}}
		if c := f.classChart(); len(c.Rows) > 0 {
			s.Blocks = append([]report.Block{c}, s.Blocks...)
		}
		sections = append(sections, s)
	}
	if t := f.files(); len(t.Rows) > 0 {
		sections = append(sections, report.Section{Title: "Files", Text: "What the images of both sets are; what differs can move FID by itself.", Blocks: []report.Block{t}})
	}
	page.Sections = append(sections, again)
	return page, nil
}

// lowest are the images of the lowest effect.
func (f *inspection) lowest(n int) []inspected {
	out := slices.Clone(f.Images[len(f.Images)-n:])
	slices.Reverse(out)
	return out
}

// classChart has the distance of each class.
func (f *inspection) classChart() report.Chart {
	c := report.Chart{Caption: "FID of each class", Unit: "FID", Bars: true}
	for _, k := range f.Classes {
		if k.FID != nil {
			c.Rows = append(c.Rows, report.Row{Label: k.Class, Value: *k.FID})
		}
	}
	return c
}

// files says what the images of both sides are.
func (f *inspection) files() report.Table {
	t := report.Table{Columns: report.Columns("", "reference>", "generated>")}
	r, g := f.ref.summary, f.gen.summary
	if r.Images == 0 || g.Images == 0 {
		return t
	}
	add := func(name string, of func(s imageio.Summary) string) {
		if a, b := of(r), of(g); a != "0" || b != "0" {
			t.Rows = append(t.Rows, []string{name, a, b})
		}
	}
	number := func(of func(s imageio.Summary) int) func(imageio.Summary) string {
		return func(s imageio.Summary) string { return fmt.Sprint(of(s)) }
	}
	add("images", number(func(s imageio.Summary) int { return s.Images }))
	add("left out", number(func(s imageio.Summary) int { return len(s.Bad) }))
	add("size", func(s imageio.Summary) string {
		if s.MinWidth == s.MaxWidth && s.MinHeight == s.MaxHeight {
			return fmt.Sprintf("%d×%d", s.MinWidth, s.MinHeight)
		}
		return fmt.Sprintf("%d×%d to %d×%d", s.MinWidth, s.MinHeight, s.MaxWidth, s.MaxHeight)
	})
	add("format", func(s imageio.Summary) string {
		var names []string
		for name, n := range s.Formats {
			names = append(names, fmt.Sprintf("%s %d", name, n))
		}
		slices.Sort(names)
		return strings.Join(names, ", ")
	})
	add("gray", number(func(s imageio.Summary) int { return s.Gray }))
	add("alpha, dropped", number(func(s imageio.Summary) int { return s.Alpha }))
	add("palette", number(func(s imageio.Summary) int { return s.Palette }))
	add("more than 8 bits", number(func(s imageio.Summary) int { return s.Deep }))
	add("CMYK", number(func(s imageio.Summary) int { return s.CMYK }))
	add("turned by EXIF, ignored", number(func(s imageio.Summary) int { return s.Rotated }))
	add("lossy", number(func(s imageio.Summary) int { return s.Lossy }))
	return t
}

// gallery is a row of images with their neighbours.
type gallery struct {
	title, text string
	images      []inspected
}

// pictures are those that the galleries show, of both sides by their number in the source.
func (f *inspection) pictures(ctx context.Context, groups []gallery) ([2]map[int]*imageio.Image, error) {
	var out [2]map[int]*imageio.Image
	for side, s := range []*inspectedSet{f.ref, f.gen} {
		want := map[int]bool{}
		for _, g := range groups {
			for _, m := range g.images {
				row := m.ref
				if side == 1 {
					row = m.row
				}
				if s.members != nil {
					want[s.members[row].Index] = true
				}
			}
		}
		var err error
		if out[side], err = pick(ctx, s.src, want); err != nil {
			return out, err
		}
	}
	return out, nil
}

// pick decodes some pictures of a source again, small.
func pick(ctx context.Context, src imageio.Source, want map[int]bool) (map[int]*imageio.Image, error) {
	out := map[int]*imageio.Image{}
	if len(want) == 0 {
		return out, nil
	}
	done := errors.New("all are there")
	items, at := map[int]imageio.Item{}, 0
	err := src.Each(ctx, func(it imageio.Item) error {
		if want[at] {
			items[at] = it
		}
		at++
		if len(items) == len(want) {
			return done
		}
		return nil
	})
	if err != nil && !errors.Is(err, done) {
		return nil, &inputError{err}
	}
	for i, it := range items {
		img, err := it.Load()
		if err != nil {
			return nil, inputf("%s: it was read before: %w", it.Name, err)
		}
		out[i] = small(img)
	}
	return out, nil
}

// small is the picture with its longer side no more than a thumbnail's.
func small(m *imageio.Image) *imageio.Image {
	long := max(m.Width, m.Height)
	if long <= thumbnail {
		return m
	}
	w, h := max(1, m.Width*thumbnail/long), max(1, m.Height*thumbnail/long)
	return imageio.NewResizer(imageio.PILU8(imageio.Lanczos), w, h).U8(m)
}

// draw lays the images out, each above its neighbour; nil where the set has no pictures.
func (g *gallery) draw(f *inspection, shown [2]map[int]*imageio.Image) (*report.Image, error) {
	if f.gen.members == nil || len(g.images) == 0 {
		return nil, nil
	}
	var all []*imageio.Image
	cols := min(galleryColumns, len(g.images))
	for row := 0; row < len(g.images); row += cols {
		part := g.images[row:min(row+cols, len(g.images))]
		for _, m := range part {
			all = append(all, shown[1][f.gen.members[m.row].Index])
		}
		for range cols - len(part) {
			all = append(all, blank())
		}
		if f.ref.members == nil {
			continue
		}
		for _, m := range part {
			all = append(all, shown[0][f.ref.members[m.ref].Index])
		}
		for range cols - len(part) {
			all = append(all, blank())
		}
	}
	var png bytes.Buffer
	if err := imageio.EncodePNG(&png, imageio.Grid(all, cols, 2)); err != nil {
		return nil, err
	}
	var names []string
	for _, m := range g.images {
		names = append(names, m.Image)
	}
	return &report.Image{PNG: png.Bytes(), Alt: g.title + ": " + strings.Join(names, ", "), Caption: strings.Join(names, ", "), Crisp: true}, nil
}

// blank is a white pixel, which fills a row.
func blank() *imageio.Image { return &imageio.Image{Width: 1, Height: 1, Pix: []uint8{255, 255, 255}} }

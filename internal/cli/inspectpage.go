package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/fidlab/fidlab/fid"
	"github.com/fidlab/fidlab/imageio"
	"github.com/fidlab/fidlab/report"
	"github.com/fidlab/fidlab/tensor"
)

// The page's pictures: their size where they are larger, and how many classes and images of each are shown.
const (
	thumbnail  = 96
	classRows  = 12
	inClassRow = 6 // half of the greatest effect, half of the lowest
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
	stats := [2]*fid.Stats{f.ref.stats, f.gen.stats}
	page := fidPage(&o.fidOptions, f.Result, stats)
	page.Title = "What makes " + page.Title
	again := report.Section{Title: "Do it again", Blocks: []report.Block{report.Commands{Lines: []string{o.command(f.Result)}}}}
	tables := f.tables(o.top)
	sections := []report.Section{page.Sections[0]}
	w := &wall{f: f}
	sections = append(sections,
		report.Section{Title: "Images that raise FID most", Text: "Above the generated image, below the nearest of the reference.", Blocks: []report.Block{w.pairs(f.Images[:top]), tables[0]}},
		report.Section{Title: "Images that lower FID most", Text: "FID would rise without them.", Blocks: []report.Block{w.pairs(f.lowest(top))}},
		report.Section{Title: "Nearest to copies", Text: "Above the generated image, below the reference image that it is nearest to.", Blocks: []report.Block{w.pairs(f.nearCopies()[:top]), tables[1]}})
	tables = tables[2:]
	if len(f.Clusters) > 0 {
		s := report.Section{
			Title: "Clusters", Blocks: []report.Block{tables[0]},
			Text: "Both sets parted together by k-means over their features. What the generated set lacks or has too much of shows by the shares; the images are those nearest to the middle of each cluster.",
		}
		for i, c := range f.Clusters {
			s.Blocks = append(s.Blocks, w.cluster(i, &c))
		}
		sections, tables = append(sections, s), tables[1:]
	}
	if len(tables) > 0 {
		s := report.Section{Title: "Classes", Text: "Of each class the images that raise FID most, then those that lower it most.", Blocks: []report.Block{tables[0]}}
		if c := f.classChart(); len(c.Rows) > 0 {
			s.Blocks = append([]report.Block{c}, s.Blocks...)
		}
		for _, c := range f.Classes[:min(classRows, len(f.Classes))] {
			s.Blocks = append(s.Blocks, w.class(c.Class))
		}
		sections = append(sections, s)
	}
	figures, err := setFigures(ctx, o.dev, f.ref.stats, f.gen.stats, f.effects, f.nearest)
	if err != nil {
		return nil, err
	}
	sections = append(sections, figures...)
	if f.Hygiene != nil {
		sections = append(sections, f.Hygiene.sections(o.top)...)
	}
	if err := w.hang(ctx, sections); err != nil {
		return nil, err
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

// wall is the galleries of a page before their pictures are there: they are decoded once, together.
type wall struct {
	f     *inspection
	shown []*hung
}

// hung is a gallery with the rows that it shows: of each item the generated or reference one above, and below it another or -1.
type hung struct {
	report.Gallery
	above []place
	below []place
}

// place is a row of a side, 0 for the reference; row -1 for none.
type place struct{ side, row int }

// pairs shows generated images, each above the nearest of the reference.
func (w *wall) pairs(images []inspected) *hung {
	h := &hung{}
	for _, m := range images {
		h.add(place{1, m.row}, place{0, m.ref}, "generated: "+m.Image, "nearest of the reference: "+m.Nearest, m.Image, "effect "+valueText(m.Effect), "nearest/own "+ratioText(m.ratio))
	}
	return w.keep(h)
}

// cluster shows reference images of a cluster and generated ones.
func (w *wall) cluster(i int, c *inspectedCluster) *hung {
	h := &hung{Gallery: report.Gallery{Caption: fmt.Sprintf("Cluster %d, %s: %.1f %% of the reference, %.1f %% of the generated", i+1, c.State, 100*c.RefShare, 100*c.GenShare)}}
	for side, names := range [][]string{c.RefImages, c.GenImages} {
		rows, word := c.cluster.Ref, "reference"
		if side == 1 {
			rows, word = c.cluster.Gen, "generated"
		}
		for k, name := range names {
			h.add(place{side, rows[k]}, place{row: -1}, word+": "+name, "", word, name)
		}
	}
	return w.keep(h)
}

// class shows the images of a class with the greatest effects, and with the lowest.
func (w *wall) class(name string) *hung {
	var of []inspected
	for _, m := range w.f.Images {
		if m.Class == name {
			of = append(of, m)
		}
	}
	if len(of) > inClassRow {
		of = slices.Concat(of[:inClassRow/2], of[len(of)-inClassRow/2:])
	}
	h := w.pairs(of)
	h.Caption = "Class " + name
	return h
}

func (h *hung) add(above, below place, alt, belowAlt string, lines ...string) {
	h.above, h.below = append(h.above, above), append(h.below, below)
	h.Items = append(h.Items, report.GalleryItem{Alt: alt, BelowAlt: belowAlt, Lines: lines})
}

func (w *wall) keep(h *hung) *hung {
	w.shown = append(w.shown, h)
	return h
}

// hang decodes what the galleries show and puts them, with their pictures, into the sections; those without any are left out.
func (w *wall) hang(ctx context.Context, sections []report.Section) error {
	var pictures [2]map[int][]byte
	for side, s := range []*inspectedSet{w.f.ref, w.f.gen} {
		want := map[int]bool{}
		for _, h := range w.shown {
			for _, p := range slices.Concat(h.above, h.below) {
				if p.side == side && p.row >= 0 && s.members != nil {
					want[s.members[p.row].Index] = true
				}
			}
		}
		found, err := pick(ctx, s.src, want)
		if err != nil {
			return err
		}
		pictures[side] = map[int][]byte{}
		for i, m := range found {
			var b bytes.Buffer
			if err := imageio.EncodePNG(&b, m); err != nil {
				return err
			}
			pictures[side][i] = b.Bytes()
		}
	}
	of := func(p place) []byte {
		s := []*inspectedSet{w.f.ref, w.f.gen}[p.side]
		if p.row < 0 || s.members == nil {
			return nil
		}
		return pictures[p.side][s.members[p.row].Index]
	}
	for i := range sections {
		var blocks []report.Block
		for _, b := range sections[i].Blocks {
			h, ok := b.(*hung)
			if !ok {
				blocks = append(blocks, b)
				continue
			}
			g := report.Gallery{Caption: h.Caption}
			for k, it := range h.Items {
				if it.PNG, it.Below = of(h.above[k]), of(h.below[k]); it.PNG != nil {
					g.Items = append(g.Items, it)
				}
			}
			if len(g.Items) > 0 {
				blocks = append(blocks, g)
			}
		}
		sections[i].Blocks = blocks
	}
	return nil
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

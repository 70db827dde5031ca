package shapes

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/fidlab/fidlab/data"
	"github.com/fidlab/fidlab/imageio"
)

// The sets of the command line.
var (
	Entry = entry(scenes, "scenes of 1 to 3 coloured objects before gray, 32×32 RGB, with captions, masks and an exact reader",
		"only=1|2|3: scenes of so many objects", "pairs=seen|unseen: scenes without or with a pair that train never shows")
	Entry16    = entry(small, "one object of radius 3 or 4, 16×16 RGB", "pairs=seen|unseen: without or with a pair that train never shows")
	EntryGlyph = entry(glyphs, "one of 48 invented figures with names, 32×32 RGB; 32 frequent, 8 rare and 8 unseen in train")
)

func entry(b *board, about string, options ...string) data.Entry {
	sizes := "size=32|64|128|256: pixels of a side"
	textures := "texture=background|objects: gray blocks instead of the pattern, or striped objects"
	switch {
	case b.side == 16:
		sizes = "size=16|32|64|128|256: pixels of a side"
	case b.glyphs:
		textures = "texture=background: gray blocks instead of the pattern"
	}
	return data.Entry{
		Name: b.set, About: about, Options: append(options, sizes, "style=binary|gray: no colour", textures), Golden: golden[b.set], Captions: !b.glyphs,
		Open: func(seed uint64, o map[string]string) (data.Served, error) { return open(b, seed, o) },
	}
}

func (b *board) checkSize(m *imageio.Image) error {
	if m != nil && m.Width == m.Height && m.Width >= b.side && data.CheckSize(b.set, m.Width) == nil {
		return data.CheckImage(b.set, m, m.Width, m.Width)
	}
	return data.CheckImage(b.set, m, b.side, b.side)
}

// Check reads a picture and, where the truth is known, judges it:
//
//	scene         all objects right: as many, each of its shape and colour
//	colour+shape  objects of the truth that are there, by the best template
//	abstained     objects for which the reader is not sure of the shape
//	caption       everything that the caption says holds, the reader being sure
//	iou CLASS     pixels of a class by LabelMap and by the truth: both of either
//
// and the distance of the centres. Where only a caption is known, judge compares with that. Without colour there is nothing to read by; it
// refuses such pictures.
func (s *Set) Check(g data.Given) (data.Check, error) {
	b := s.board
	if len(g.Pictures) != 1 {
		return data.Check{}, data.Errorf("%s: %d pictures; want one", b.set, len(g.Pictures))
	}
	m := g.Pictures[0].Image
	if err := b.checkSize(m); err != nil {
		return data.Check{}, err
	}
	var it *Item
	if g.Truth != nil {
		var err error
		if it, err = b.fromTruth(g.Truth); err != nil {
			return data.Check{}, err
		}
		if it.set.size != m.Width {
			return data.Check{}, data.Errorf("%s: the picture is %d pixels wide, its truth says %d; they belong to different runs", b.set, m.Width, it.set.size)
		}
		if st := it.set.opt.Style; st != Colour {
			return data.Check{}, data.Errorf("%s: style %v has no colour, and the reader goes by colour; check the same scenes in style colour", b.set, st)
		}
	}
	if b.glyphs || it != nil && len(it.Objects) == 1 && it.Objects[0].Kind == Glyph {
		return checkGlyph(m, it)
	}
	dets, err := b.read(m, Usual)
	if err != nil {
		return data.Check{}, err
	}
	c := data.Check{OK: true, Text: sayAll(dets), Read: readObjects(dets)}
	if it == nil && g.Caption != nil {
		return c, b.judge(&c, *g.Caption, dets)
	}
	if it == nil {
		abstained := 0
		for _, d := range dets {
			abstained += bit(d.Kind == Unknown)
		}
		c.OK = len(dets) > 0 && abstained == 0
		c.Counts = []data.Count{{Name: "objects read", Hits: len(dets) - abstained, Of: len(dets)}}
		return c, nil
	}
	b.compare(&c, it, dets)
	grades, err := b.grade(it.Caption, dets)
	if err != nil {
		return data.Check{}, err
	}
	c.Counts = append(c.Counts, data.Count{Name: "caption", Hits: bit(grades.All()), Of: 1})
	c.Counts = append(c.Counts, overlaps(LabelMap(m), it.Seg)...)
	return c, nil
}

// judge compares what was read with the caption by which a picture was drawn, OK where everything holds that it says:
//
//	caption            everything holds, the reader being sure
//	binding            objects of the caption that are there, each of its shape and colour: the binding accuracy
//	binding, K objects the same of captions of so many
//	complete           all objects of the caption are there
//	nothing else       no object is there that it does not ask for
//	relation, position hold, of captions that tell one
//	abstained          objects for which the reader is not sure of the shape, which then count as not there
func (b *board) judge(c *data.Check, caption string, dets []Detection) error {
	p, err := Parse(caption)
	if err != nil {
		return err
	}
	g, err := b.grade(caption, dets)
	if err != nil {
		return err
	}
	abstained := 0
	for _, d := range dets {
		abstained += bit(d.Kind == Unknown)
	}
	c.OK = g.All()
	c.Text = fmt.Sprintf("%q: %d of %d; %s", caption, g.Found, g.Asked, c.Text)
	c.Counts = []data.Count{
		{Name: "caption", Hits: bit(g.All()), Of: 1}, {Name: "binding", Hits: g.Found, Of: g.Asked},
	}
	for k := 1; k <= 3; k++ { // all of them, so that their order is the same in any folder
		n := data.Count{Name: fmt.Sprintf("binding, %d objects", k)}
		if k == 1 {
			n.Name = "binding, 1 object"
		}
		if len(p.Objects) == k {
			n.Hits, n.Of = g.Found, g.Asked
		}
		c.Counts = append(c.Counts, n)
	}
	c.Counts = append(c.Counts,
		data.Count{Name: "complete", Hits: bit(g.Pairs), Of: 1}, data.Count{Name: "nothing else", Hits: bit(g.NoExtra), Of: 1},
		data.Count{Name: "relation", Hits: bit(p.Relation != NoRel && g.Relation), Of: bit(p.Relation != NoRel)},
		data.Count{Name: "position", Hits: bit(p.Cell != NoCell && g.Cell), Of: bit(p.Cell != NoCell)},
		data.Count{Name: "abstained", Hits: abstained, Of: len(dets)})
	return nil
}

func bit(b bool) int {
	if b {
		return 1
	}
	return 0
}

// compare matches detections with the truth: by pair, which no two objects share.
func (b *board) compare(c *data.Check, it *Item, dets []Detection) {
	right, sure, abstained := 0, 0, 0
	for _, d := range dets {
		abstained += bit(d.Kind == Unknown)
	}
	for i := range it.Objects {
		o := &it.Objects[i]
		k := slices.IndexFunc(dets, func(d Detection) bool { return d.Guess == o.Kind && d.Color == o.Color })
		if k < 0 {
			continue
		}
		right++
		sure += bit(dets[k].Kind == o.Kind)
		c.Errors = append(c.Errors, data.Value{Name: "centre, pixels", Value: math.Hypot(dets[k].Cx-o.Cx, dets[k].Cy-o.Cy)})
	}
	n := len(it.Objects)
	c.OK = right == n && len(dets) == n
	c.Counts = append(c.Counts,
		data.Count{Name: "scene", Hits: bit(c.OK), Of: 1}, data.Count{Name: "colour+shape", Hits: right, Of: n},
		data.Count{Name: "colour+shape, sure", Hits: sure, Of: n}, data.Count{Name: "abstained", Hits: abstained, Of: len(dets)})
}

// overlaps counts for each class the pixels that are its in both maps, of those
// in either.
func overlaps(got, want []uint8) []data.Count {
	var both, either [Colors + 1]int
	for i, g := range got {
		w := want[i]
		either[g]++
		if g == w {
			both[g]++
		} else {
			either[w]++
		}
	}
	var out []data.Count
	for c := range both {
		out = append(out, data.Count{Name: "iou " + Color(c).String(), Hits: both[c], Of: either[c]})
	}
	return out
}

func checkGlyph(m *imageio.Image, it *Item) (data.Check, error) {
	d, err := ReadGlyph(m)
	if err != nil {
		return data.Check{}, err
	}
	c := data.Check{OK: d.Entity >= 0, Text: "nothing"}
	read := struct {
		Entity   string  `json:"entity"`
		Color    string  `json:"color"`
		Cx       float64 `json:"cx"`
		Cy       float64 `json:"cy"`
		Distance int     `json:"distance"`
		Margin   int     `json:"margin"`
	}{"", d.Color.String(), d.Cx, d.Cy, d.Distance, d.Margin}
	if d.Entity >= 0 {
		read.Entity = Noun(d.Entity)
		c.Text = fmt.Sprintf("%s %s at %g,%g, %d cells off", d.Color, read.Entity, d.Cx, d.Cy, d.Distance)
	}
	c.Read = read
	if it == nil {
		return c, nil
	}
	o := it.Objects[0]
	grades, err := ScoreGlyph(it.Caption, d, 3)
	if err != nil {
		return data.Check{}, err
	}
	c.OK = d.Entity == o.Glyph && d.Color == o.Color
	c.Counts = []data.Count{
		{Name: "entity", Hits: bit(d.Entity == o.Glyph), Of: 1}, {Name: "entity+colour", Hits: bit(c.OK), Of: 1}, {Name: "caption", Hits: bit(grades.All()), Of: 1},
	}
	c.Counts = append(c.Counts, overlaps(LabelMap(m), it.Seg)...)
	if d.Entity >= 0 {
		c.Errors = []data.Value{{Name: "centre, pixels", Value: math.Hypot(d.Cx-o.Cx, d.Cy-o.Cy)}, {Name: "cells", Value: float64(d.Distance)}}
	}
	return c, nil
}

type readObject struct {
	Shape  string  `json:"shape"`
	Guess  string  `json:"guess"`
	Color  string  `json:"color"`
	Cx     float64 `json:"cx"`
	Cy     float64 `json:"cy"`
	R      float64 `json:"r"`
	Area   int     `json:"area"`
	Err    float64 `json:"err"`
	Margin float64 `json:"margin"`
}

func readObjects(dets []Detection) []readObject {
	out := []readObject{}
	for _, d := range dets {
		out = append(out, readObject{d.Kind.String(), d.Guess.String(), d.Color.String(), d.Cx, d.Cy, d.R, d.Area, d.Err, d.Margin})
	}
	return out
}

func sayAll(dets []Detection) string {
	if len(dets) == 0 {
		return "nothing"
	}
	var s []string
	for _, d := range dets {
		sure := ""
		if d.Kind == Unknown {
			sure = "perhaps "
		}
		s = append(s, fmt.Sprintf("%s%s %s at %.1f,%.1f", sure, d.Color, d.Guess, d.Cx, d.Cy))
	}
	return strings.Join(s, "; ")
}

// fromTruth makes the item again that a line of truth describes. The scene is
// taken from the line, not drawn, so that lines may also be written by hand.
func (b *board) fromTruth(line json.RawMessage) (*Item, error) {
	var t truth
	if err := json.Unmarshal(line, &t); err != nil {
		return nil, data.Errorf("%s: the truth is no JSON object of this set: %w", b.set, err)
	}
	if t.Set != b.set {
		return nil, data.Errorf("%s: the truth is of the set %q; check it with that one", b.set, t.Set)
	}
	var failed error
	named := func(what, got string, names []string) int { // an empty one is the first
		i := slices.Index(names, got)
		if i < 0 && got != "" && failed == nil {
			failed = data.Unknown(b.set, what, got, names)
		}
		return max(0, i)
	}
	style, texture := named("style", t.Style, styleNames[:]), named("texture", t.Texture, textureNames[:])
	bg := Bg{Level: t.Background.Level, Period: t.Background.Period, Kind: BgKind(named("background", t.Background.Kind, bgNames[:]))}
	switch {
	case failed != nil:
		return nil, failed
	case bg.Level < 20 || bg.Level > 235:
		return nil, data.Errorf("%s: the truth has a background of level %d; want 20 to 235", b.set, bg.Level)
	case bg.Kind >= Stripes && (bg.Period < 2 || bg.Period > 32):
		return nil, data.Errorf("%s: the truth has a period of %d pixels; want 2 to 32", b.set, bg.Period)
	}
	if t.Size == 0 {
		t.Size = b.side
	}
	set, err := newSet(b, t.Seed, Options{Size: t.Size, Style: Style(style), Texture: Texture(texture)})
	if err != nil {
		return nil, err
	}
	sc := &Scene{Caption: t.Caption, Cell: NoCell, Bg: bg}
	if len(t.Objects) < 1 || len(t.Objects) > 3 {
		return nil, data.Errorf("%s: the truth has %d objects; want 1 to 3", b.set, len(t.Objects))
	}
	for i, o := range t.Objects {
		kind, color := slices.Index(shapeNames[:Glyph+1], o.Shape), slices.Index(colorNames[1:], o.Color)+1
		switch {
		case kind < 0:
			return nil, data.Unknown(b.set, "shape", o.Shape, shapeNames[:Glyph+1])
		case color < 1:
			return nil, data.Unknown(b.set, "colour", o.Color, colorNames[1:])
		case !(o.R > 0) || !(o.Cx >= o.R && o.Cx <= float64(b.side)-o.R && o.Cy >= o.R && o.Cy <= float64(b.side)-o.R):
			return nil, data.Errorf("%s: object %d of the truth has radius %g at %g,%g; want it inside the %d×%d pixels of the scene", b.set, i+1, o.R, o.Cx, o.Cy, b.side, b.side)
		}
		obj := Object{Kind: Shape(kind), Color: Color(color), Cx: o.Cx, Cy: o.Cy, R: o.R, Glyph: -1}
		if obj.Kind == Glyph {
			if obj.Glyph = EntityOf(o.Glyph); obj.Glyph < 0 || len(t.Objects) > 1 {
				return nil, data.Errorf("%s: the truth has the glyph %q among %d objects; want one glyph with a noun of the vocabulary", b.set, o.Glyph, len(t.Objects))
			}
		}
		sc.Objects = append(sc.Objects, obj)
	}
	it := &Item{Scene: sc, Split: t.Split, Index: t.Index, set: set}
	it.render()
	return it, nil
}

package shapes

import (
	"slices"
	"strings"

	"github.com/fidlab/fidlab/data"
	"github.com/fidlab/fidlab/text"
)

// Wanted is an object that a caption asks for. Fields that the caption leaves
// open have their zero value's meaning: NoColor, Unknown, −1.
type Wanted struct {
	Shape Shape // Unknown: any
	Color Color // NoColor: any
	Glyph int   // of Glyph, else −1
}

// Parsed is what a caption says.
type Parsed struct {
	Objects  []Wanted
	Relation Rel    // of the first to the second
	Cell     int    // of the first, or NoCell
	Tone     string // "dark", "light" or ""
	Pattern  string // "plain", "striped", "checkered" or ""
}

// Parse reads a caption: those that the generator writes, and beside them
// colours left out ("a circle"), "shape" for any form, "two shapes", "three
// shapes", "a photo of" an object, and a noun's description after a comma ("a
// zobi , like a thin ring with a foot"), which is checked for its words alone.
// The error, an imageio.ErrInput, names the word that does not fit, and the
// nearest known one for a word outside the vocabulary.
func Parse(caption string) (*Parsed, error) {
	p := parser{caption: caption, words: text.Words(caption)}
	for _, w := range p.words {
		if _, err := text.Scenes.ID(w); err != nil {
			return nil, data.Errorf("shapes: caption %q: %w", caption, err)
		}
	}
	out := &Parsed{Cell: NoCell}
	if err := p.objects(out); err != nil {
		return nil, err
	}
	if err := p.background(out); err != nil {
		return nil, err
	}
	if p.at < len(p.words) {
		return nil, p.fail("the end of the caption")
	}
	return out, nil
}

type parser struct {
	caption string
	words   []string
	at      int
}

// next takes the coming words if they are these; words that end in ? may be missing.
func (p *parser) next(words ...string) bool {
	at := p.at
	for _, w := range words {
		w, optional := strings.CutSuffix(w, "?")
		if at < len(p.words) && p.words[at] == w {
			at++
		} else if !optional {
			return false
		}
	}
	p.at = at
	return true
}

// one takes the coming word if it is in the list and tells its place, or −1.
func (p *parser) one(list []string) int {
	if p.at < len(p.words) {
		if i := slices.Index(list, p.words[p.at]); i >= 0 {
			p.at++
			return i
		}
	}
	return -1
}

func (p *parser) fail(want string) error {
	got := "the end"
	if p.at < len(p.words) {
		got = `"` + p.words[p.at] + `"`
	}
	return data.Errorf("shapes: caption %q: word %d is %s; want %s", p.caption, p.at+1, got, want)
}

func (p *parser) objects(out *Parsed) error {
	if n := p.one([]string{"two", "three"}); n >= 0 {
		if !p.next("shapes") {
			return p.fail("shapes")
		}
		out.Objects = slices.Repeat([]Wanted{{Shape: Unknown, Glyph: -1}}, n+2)
		return nil
	}
	p.next("a?", "photo", "of")
	first, err := p.object()
	if err != nil {
		return err
	}
	out.Objects = append(out.Objects, first)
	if p.next("at", "the?") {
		row := p.one(rowWords[:])
		if row < 0 {
			return p.fail("top, middle or bottom")
		}
		col := p.one(colWords[:])
		if col < 0 {
			return p.fail("left, centre or right")
		}
		out.Cell = 3*row + col
		return nil
	}
	for r := LeftOf; r <= Below; r++ {
		if p.next(strings.Fields(r.String())...) {
			out.Relation = r
			return p.more(out)
		}
	}
	if p.next(",") {
		if p.next("like") {
			return p.description()
		}
		if err := p.more(out); err != nil {
			return err
		}
		if !p.next("and") {
			return p.fail("and")
		}
		return p.more(out)
	}
	if p.next("and") {
		return p.more(out)
	}
	return nil
}

func (p *parser) more(out *Parsed) error {
	o, err := p.object()
	out.Objects = append(out.Objects, o)
	return err
}

// object reads [a] [COLOUR] SHAPE.
func (p *parser) object() (Wanted, error) {
	p.next("a")
	o := Wanted{Shape: Unknown, Glyph: -1}
	if c := p.one(colorNames[1:]); c >= 0 {
		o.Color = Color(c + 1)
	}
	if k := p.one(shapeNames[:Shapes]); k >= 0 {
		o.Shape = Shape(k)
		return o, nil
	}
	if p.next("shape") {
		return o, nil
	}
	if p.at < len(p.words) {
		if e := EntityOf(p.words[p.at]); e >= 0 {
			p.at++
			return Wanted{Shape: Glyph, Color: o.Color, Glyph: e}, nil
		}
	}
	if o.Color == NoColor {
		return o, p.fail("a colour, a shape or a noun")
	}
	return o, p.fail("a shape or a noun")
}

// description reads what Describe writes behind "like", in any order.
func (p *parser) description() error {
	from := p.at
	for p.at < len(p.words) {
		id, err := text.Scenes.ID(p.words[p.at])
		describes := err == nil && id >= text.SceneDescribe && id < text.SceneNouns
		if !describes && p.words[p.at] != "a" && p.words[p.at] != "and" {
			break
		}
		p.at++
	}
	if p.at == from {
		return p.fail("words that describe, such as a thin ring")
	}
	return nil
}

// background reads [on [a] dark|light [PATTERN] background].
func (p *parser) background(out *Parsed) error {
	if !p.next("on", "a?") {
		return nil
	}
	tones := []string{"dark", "light"}
	t := p.one(tones)
	if t < 0 {
		return p.fail("dark or light")
	}
	out.Tone = tones[t]
	patterns := []string{"plain", "striped", "checkered"}
	if i := p.one(patterns); i >= 0 {
		out.Pattern = patterns[i]
	}
	if !p.next("background") {
		return p.fail("background")
	}
	return nil
}

package shapes

import (
	"strings"

	"github.com/fidlab/fidlab/text"
)

// Slots is the number of tokens of a caption.
const Slots = 16

// Chances of the forms of captions.
const (
	// sayRelation is chosen so that 30 % of the scenes of two objects tell it: it can be told of 0.688 of them.
	sayRelation   = 0.3 / 0.688
	sayPosition   = 0.3
	dropArticles  = 0.1
	sayBackground = 0.1 // short; as often again with its pattern
)

var (
	rowWords = [3]string{"top", "middle", "bottom"}
	colWords = [3]string{"left", "centre", "right"}
)

// patternWord is what captions call a pattern; a ramp counts as plain.
func (k BgKind) patternWord() string {
	switch k {
	case Stripes:
		return "striped"
	case Checker:
		return "checkered"
	}
	return "plain"
}

// form says how a caption is put.
type form struct {
	rel      Rel // told of objects 0 and 1
	cell     int // told of object 0, or NoCell
	articles bool
	bg       bool // "on a dark background"
	pattern  bool // "on a dark striped background"
}

// noun is the word for the object's shape.
func (o *Object) noun() string {
	if o.Kind == Glyph {
		return Noun(o.Glyph)
	}
	return o.Kind.String()
}

// caption puts the objects into words. The closed grammar, articles left out
// where f says so:
//
//	object:  a COLOUR SHAPE
//	caption: object | object and object | object , object and object
//	         | object RELATION object | object at the ROW COLUMN
//	         then, of at most two objects: on a dark|light [plain|striped|checkered] background
func caption(objects []Object, bg Bg, f form) string {
	var w []string
	object := func(o *Object) { w = append(w, "a", o.Color.String(), o.noun()) }
	for i := range objects {
		switch {
		case i == 0:
		case i < len(objects)-1:
			w = append(w, ",")
		case f.rel != NoRel:
			w = append(w, strings.Fields(f.rel.String())...)
		default:
			w = append(w, "and")
		}
		object(&objects[i])
	}
	if f.cell != NoCell {
		w = append(w, "at", "the", rowWords[f.cell/3], colWords[f.cell%3])
	}
	if f.bg {
		tone := "light"
		if bg.Dark() {
			tone = "dark"
		}
		w = append(w, "on", "a", tone)
		if f.pattern {
			w = append(w, bg.Kind.patternWord())
		}
		w = append(w, "background")
	}
	if !f.articles {
		kept := w[:0]
		for _, s := range w {
			if s != "a" && s != "the" {
				kept = append(kept, s)
			}
		}
		w = kept
	}
	return strings.Join(w, " ")
}

// say writes the scene's caption in the given form.
func (s *Scene) say(f form) {
	s.Relation, s.Cell = f.rel, f.cell
	s.Caption = caption(s.Objects, s.Bg, f)
	s.tokenize()
}

// tokenize fills in the tokens of a caption made here, which always has known
// words and fits (a test enumerates all).
func (s *Scene) tokenize() {
	if err := text.Scenes.Encode(s.Tokens[:], s.Caption); err != nil {
		panic("shapes: " + err.Error())
	}
}

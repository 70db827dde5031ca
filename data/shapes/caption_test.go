package shapes

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/data"
	"github.com/fidlab/fidlab/imageio"
	"github.com/fidlab/fidlab/text"
)

// Every caption of the grammar fits into the slots, has known words only, and is
// read back as what it was made of.
func TestEveryCaption(t *testing.T) {
	var objects []Object
	for k := range Shapes {
		for c := range Colors {
			objects = append(objects, Object{Kind: Shape(k), Color: Color(c + 1), Glyph: -1})
		}
	}
	n, longest := 0, 0
	used := map[string]bool{}
	check := func(o []Object, bg Bg, f form) {
		n++
		s := caption(o, bg, f)
		words := text.Words(s)
		longest = max(longest, len(words)+2)
		for _, w := range words {
			used[w] = true
		}
		var tokens [Slots]uint8
		if err := text.Scenes.Encode(tokens[:], s); err != nil {
			t.Fatalf("%q: %v", s, err)
		}
		p, err := Parse(s)
		if err != nil {
			t.Fatal(err)
		}
		tone, pattern := "", ""
		if f.bg {
			tone = map[bool]string{true: "dark", false: "light"}[bg.Level < 128]
			if f.pattern {
				pattern = []string{"plain", "plain", "striped", "checkered"}[bg.Kind]
			}
		}
		ok := len(p.Objects) == len(o) && p.Relation == f.rel && p.Cell == f.cell && p.Tone == tone && p.Pattern == pattern
		for i := range o {
			ok = ok && p.Objects[i] == Wanted{o[i].Kind, o[i].Color, o[i].Glyph}
		}
		if !ok {
			t.Fatalf("%q was read as %+v", s, p)
		}
	}
	backgrounds := func(do func(bg Bg, f form)) {
		for _, articles := range []bool{true, false} {
			do(Bg{}, form{cell: NoCell, articles: articles})
			for _, level := range []int{32, 224} {
				do(Bg{Level: level}, form{cell: NoCell, articles: articles, bg: true})
				for k := range BgKind(4) {
					do(Bg{Kind: k, Level: level}, form{cell: NoCell, articles: articles, bg: true, pattern: true})
				}
			}
		}
	}
	for _, a := range objects {
		backgrounds(func(bg Bg, f form) {
			for f.cell = NoCell; f.cell < 9; f.cell++ {
				check([]Object{a}, bg, f)
			}
			for _, b := range objects {
				f.cell = NoCell
				for f.rel = NoRel; f.rel <= Below; f.rel++ {
					check([]Object{a, b}, bg, f)
				}
			}
		})
		for _, b := range objects {
			for _, c := range objects {
				check([]Object{a, b, c}, Bg{}, form{cell: NoCell, articles: true})
				check([]Object{a, b, c}, Bg{}, form{cell: NoCell})
			}
		}
	}
	for e := range Entities {
		for c := range Colors {
			o := []Object{{Kind: Glyph, Glyph: e, Color: Color(c + 1)}}
			backgrounds(func(bg Bg, f form) {
				for f.cell = NoCell; f.cell < 9; f.cell++ {
					check(o, bg, f)
				}
			})
		}
	}
	// n=1: (24 + 48·6) objects × 10 positions × 2·(1 + 2 + 8) backgrounds; n=2: 24² × 5 × 22; n=3: 24³ × 2
	if want := (24+288)*10*22 + 576*5*22 + 13824*2; n != want || longest != 15 {
		t.Errorf("%d captions, the longest with %d tokens; want %d and 15", n, longest, want)
	}
	for id := text.SceneWords; id < text.SceneDescribe; id++ {
		if w := text.Scenes.Word(id); w != "" && !used[w] && !slices.Contains([]string{"photo", "of", "shape", "shapes", "two", "three"}, w) {
			t.Errorf("no caption has the word %q", w)
		}
	}
}

func TestParseOther(t *testing.T) {
	for s, want := range map[string]Parsed{
		"two shapes on a dark background":                {Objects: []Wanted{{Unknown, 0, -1}, {Unknown, 0, -1}}, Cell: NoCell, Tone: "dark"},
		"three shapes":                                   {Objects: []Wanted{{Unknown, 0, -1}, {Unknown, 0, -1}, {Unknown, 0, -1}}, Cell: NoCell},
		"a red shape":                                    {Objects: []Wanted{{Unknown, Red, -1}}, Cell: NoCell},
		"a circle above a shape":                         {Objects: []Wanted{{Circle, 0, -1}, {Unknown, 0, -1}}, Relation: Above, Cell: NoCell},
		"a photo of a zobi":                              {Objects: []Wanted{{Glyph, 0, 40}}, Cell: NoCell},
		"a photo of a red tiba":                          {Objects: []Wanted{{Glyph, Red, 0}}, Cell: NoCell},
		"a red circle, a blue square, and a green cross": {}, // one comma too many
	} {
		p, err := Parse(s)
		if want.Objects == nil {
			if err == nil {
				t.Errorf("%q was read as %+v", s, p)
			}
			continue
		}
		if err != nil || !slices.Equal(p.Objects, want.Objects) || p.Relation != want.Relation || p.Cell != want.Cell || p.Tone != want.Tone {
			t.Errorf("%q: %+v, %v; want %+v", s, p, err, want)
		}
	}
	// descriptions fit the slots, too
	for e := range Entities {
		s := "a " + Noun(e) + " , " + Describe(e)
		var tokens [Slots]uint8
		if err := text.Scenes.Encode(tokens[:], s); err != nil {
			t.Error(err)
		}
		if p, err := Parse(s); err != nil || p.Objects[0].Glyph != e {
			t.Errorf("%q: %+v, %v", s, p, err)
		}
	}
}

func TestDescribe(t *testing.T) {
	// bitmaps looked at by hand
	for e, want := range map[int]string{
		1:  "like a thick snake with a foot and a hat",
		9:  "like a thick lump with a back and a wing",
		18: "like a thin snake with a foot",
	} {
		if got := Describe(e); got != want {
			t.Errorf("%s: %q, want %q", Noun(e), got, want)
		}
	}
	ring := [5][5]bool{{false, true, true, true, false}, {false, true, false, true, false}, {false, true, true, true, false}}
	open := ring
	open[2][2] = false
	if !hasHole(ring) || hasHole(open) {
		t.Error("a ring has a hole, an open one has none")
	}
}

func TestParseRefuses(t *testing.T) {
	for s, want := range map[string]string{
		"a red crcle":                     `did you mean "circle"`,
		"a purple circle":                 `"purple" is not among`,
		"":                                "word 1 is the end; want a colour, a shape or a noun",
		"a red":                           "word 3 is the end; want a shape or a noun",
		"a red circle a blue square":      `word 4 is "a"; want the end`,
		"a red circle at the left":        `word 6 is "left"; want top, middle or bottom`,
		"a red circle at the top below":   `word 7 is "below"; want left, centre or right`,
		"a red circle , a blue square":    "word 8 is the end; want and",
		"a red circle left a blue square": `word 4 is "left"; want the end`,
		"two circle":                      `word 2 is "circle"; want shapes`,
		"a red circle on a blue square":   `word 6 is "blue"; want dark or light`,
		"a red circle on a dark dark":     `word 7 is "dark"; want background`,
		"a zobi , like":                   "word 5 is the end; want words that describe",
	} {
		if p, err := Parse(s); err == nil || !strings.Contains(err.Error(), want) || !errors.Is(err, imageio.ErrInput) {
			t.Errorf("%q: %+v, %v; want an input error with %q", s, p, err, want)
		}
	}
}

func TestScore(t *testing.T) {
	at := func(k Shape, c Color, x, y float64) Detection {
		return Detection{Kind: k, Guess: k, Color: c, Cx: x, Cy: y}
	}
	red, blue := at(Circle, Red, 8, 8), at(Square, Blue, 24, 10)
	for i, c := range []struct {
		caption string
		dets    []Detection
		want    Grades
	}{
		{"a red circle", []Detection{red}, Grades{true, true, true, true, true, 1, 1}},
		{"a red circle", []Detection{red, blue}, Grades{false, true, false, true, true, 1, 1}},
		{"a red circle", nil, Grades{false, false, true, true, true, 0, 1}},
		{"a red circle and a blue square", []Detection{blue, red}, Grades{true, true, true, true, true, 2, 2}},
		{"a blue circle and a red square", []Detection{blue, red}, Grades{true, false, false, true, true, 0, 2}}, // bound the other way round
		{"a red circle left of a blue square", []Detection{blue, red}, Grades{true, true, true, true, true, 2, 2}},
		{"a red circle right of a blue square", []Detection{blue, red}, Grades{true, true, true, false, true, 2, 2}},
		{"a red circle above a blue square", []Detection{blue, red}, Grades{true, true, true, false, true, 2, 2}},
		{"a red circle left of a blue square", []Detection{red}, Grades{false, false, true, false, true, 1, 2}},
		{"a red circle at the top left", []Detection{red}, Grades{true, true, true, true, true, 1, 1}},
		{"a red circle at the top centre", []Detection{red}, Grades{true, true, true, true, false, 1, 1}},
		{"a red circle at the top centre", []Detection{at(Circle, Red, 9.5, 8)}, Grades{true, true, true, true, true, 1, 1}}, // within the slack
		{"a red circle at the top centre", nil, Grades{false, false, true, true, false, 0, 1}},
		{"a red shape and a circle", []Detection{red, at(Cross, Red, 20, 20)}, Grades{true, true, true, true, true, 2, 2}},
		{"a shape and a red circle", []Detection{red, blue}, Grades{true, true, true, true, true, 2, 2}}, // the exact one is served first
		{"two shapes", []Detection{red, {Kind: Unknown, Color: Red}}, Grades{true, true, true, true, true, 2, 2}},
		{"a red circle", []Detection{{Kind: Unknown, Guess: Circle, Color: Red}}, Grades{true, false, false, true, true, 0, 1}}, // abstained
		{"a red circle and a red circle", []Detection{red}, Grades{false, false, true, true, true, 1, 2}},
	} {
		g, err := Score(c.caption, c.dets)
		if err != nil || g != c.want {
			t.Errorf("case %d, %q: %+v, %v; want %+v", i, c.caption, g, err, c.want)
		}
		if want := float64(c.want.Found) / float64(c.want.Asked); g.Binding() != want {
			t.Errorf("case %d: binding %g, want %g", i, g.Binding(), want)
		}
	}
	if _, err := Score("a zobi", nil); err == nil || !strings.Contains(err.Error(), "ReadGlyph") {
		t.Errorf("Score of a glyph: %v", err)
	}
	if _, err := ScoreGlyph("a red circle", GlyphDetection{}, 3); err == nil || !strings.Contains(err.Error(), "one noun") {
		t.Errorf("ScoreGlyph of a circle: %v", err)
	}
	found := GlyphDetection{Entity: 40, Color: Red, Cx: 6, Cy: 6, Distance: 3}
	for caption, want := range map[string]Grades{
		"a photo of a zobi": {true, true, true, true, true, 1, 1}, "a blue zobi": {true, false, true, true, true, 0, 1}, "a red zobi at the bottom right": {true, true, true, true, false, 1, 1},
		"a tiba": {true, false, true, true, true, 0, 1},
	} {
		if g, err := ScoreGlyph(caption, found, 3); err != nil || g != want {
			t.Errorf("%q: %+v, %v; want %+v", caption, g, err, want)
		}
	}
	if g, _ := ScoreGlyph("a zobi", found, 2); g.Pairs || g.Count {
		t.Errorf("3 cells off passed with 2 allowed: %+v", g)
	}
}

// Twins are told apart by their captions in both directions.
func TestScoreBinding(t *testing.T) {
	set := New(data.DefaultSeed)
	for i := range 40 {
		dets, err := Read(set.At(TestBinding, i).Image())
		if err != nil {
			t.Fatal(err)
		}
		own, _ := Score(set.Scene(TestBinding, i).Caption, dets)
		other, _ := Score(set.Scene(TestBinding, i^1).Caption, dets)
		if !own.All() || other.Found != 0 || !other.Count {
			t.Errorf("%d: own caption %+v, the twin's %+v", i, own, other)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("a red circle left of a blue square on a dark plain background")
	f.Add("two shapes")
	f.Fuzz(func(t *testing.T, s string) {
		p, err := Parse(s)
		if err != nil {
			return
		}
		if n := len(p.Objects); n < 1 || n > 3 || p.Cell < NoCell || p.Cell > 8 {
			t.Fatalf("%q: %+v", s, p)
		}
		if p.Objects[0].Shape != Glyph && n(p) == 0 {
			if _, err := Score(s, nil); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// n counts the nouns of glyphs.
func n(p *Parsed) (k int) {
	for _, o := range p.Objects {
		k += bit(o.Shape == Glyph)
	}
	return k
}

package shapes

import (
	"fmt"
	"slices"
	"strconv"
	"sync"

	"github.com/fidlab/fidlab/data"
)

// Style is how objects are coloured.
type Style uint8

// The styles.
const (
	Colour Style = iota
	Binary       // white objects on black; one channel
	Gray         // light objects on dark backgrounds and dark ones on light; one channel
)

var styleNames = [...]string{"colour", "binary", "gray"}

func (s Style) String() string { return nameOf(styleNames[:], int(s)) }

// Texture is what is not flat beside the background's pattern.
type Texture uint8

// The textures.
const (
	Smooth            Texture = iota
	TextureBackground         // blocks of 2×2 pixels, each up to 20 levels darker or lighter, instead of the pattern
	TextureObjects            // upright stripes on the objects: two pixels full, two at 0.7 of the way from the background
)

var textureNames = [...]string{"none", "background", "objects"}

func (t Texture) String() string { return nameOf(textureNames[:], int(t)) }

// Options choose a variant; the zero value is the set itself.
type Options struct {
	Size    int // pixels of a side: 0 for the board's 32 (shapes16: 16), or a multiple of it up to 256
	Style   Style
	Texture Texture
}

// Set is one of the three sets, or a part of one.
type Set struct {
	board *board
	seed  uint64
	opt   Options
	size  int
	keep  func(*Scene) bool // nil: all
	kept  map[data.Split]func() []int
}

// New is the set shapes.
func New(seed uint64) *Set { return must(newSet(scenes, seed, Options{})) }

// New16 is the set shapes16: one object of radius 3 or 4 on 16×16 pixels.
func New16(seed uint64) *Set { return must(newSet(small, seed, Options{})) }

// NewGlyphs is the set shapes-glyph.
func NewGlyphs(seed uint64) *Set { return must(newSet(glyphs, seed, Options{})) }

func must(s *Set, err error) *Set {
	if err != nil {
		panic(err)
	}
	return s
}

func newSet(b *board, seed uint64, o Options) (*Set, error) {
	s := &Set{board: b, seed: seed, opt: o, size: o.Size}
	if s.size == 0 {
		s.size = b.side
	}
	if err := data.CheckSize(b.set, s.size); err != nil {
		return nil, err
	}
	if s.size < b.side {
		return nil, data.Errorf("%s: size %d; the scenes need %d pixels or more: take shapes16 for fewer", b.set, s.size, b.side)
	}
	if int(o.Style) >= len(styleNames) || int(o.Texture) >= len(textureNames) {
		return nil, data.Errorf("%s: style %v, texture %v; want one of the package's constants", b.set, o.Style, o.Texture)
	}
	if b.glyphs && o.Texture == TextureObjects {
		return nil, data.Errorf("%s: texture=objects; glyphs are too fine for stripes: take texture=background", b.set)
	}
	return s, nil
}

// With is the same set, or part of it, in another variant: the same scenes. It refuses sizes that are not 32, 64, 128
// or 256 (shapes16: 16 too) and stripes on glyphs.
func (s *Set) With(o Options) (*Set, error) {
	n, err := newSet(s.board, s.seed, o)
	if err == nil && s.keep != nil {
		n = n.filter(s.keep)
	}
	return n, err
}

// Only is the part of the set whose scenes have n objects, in the same order. Its
// splits are as long as there are such scenes.
func (s *Set) Only(n int) *Set { return s.filter(func(sc *Scene) bool { return len(sc.Objects) == n }) }

// Pairs is the part whose scenes show a pair of Heldout, or none.
func (s *Set) Pairs(heldout bool) *Set {
	return s.filter(func(sc *Scene) bool { return sc.shows(IsHeldout) == heldout })
}

func (s *Set) filter(keep func(*Scene) bool) *Set {
	n := *s
	if before := s.keep; before != nil {
		n.keep = func(sc *Scene) bool { return before(sc) && keep(sc) }
	} else {
		n.keep = keep
	}
	n.kept = map[data.Split]func() []int{}
	for _, z := range s.board.sizes {
		n.kept[z.split] = sync.OnceValue(func() (list []int) {
			for i := range z.n {
				if n.keep(n.board.scene(z.split, n.seed, i)) {
					list = append(list, i)
				}
			}
			return list
		})
	}
	return &n
}

// Name is shapes, shapes16 or shapes-glyph.
func (s *Set) Name() string { return s.board.set }

// Splits are train, val, test, ref, enc and those of the set.
func (s *Set) Splits() []data.Split {
	var out []data.Split
	for _, z := range s.board.sizes {
		out = append(out, z.split)
	}
	return out
}

// Len is the number of items of a split; of a part of a set the whole split is
// drawn to know it, once.
func (s *Set) Len(split data.Split) int {
	if s.keep != nil {
		if list := s.kept[split]; list != nil {
			return len(list())
		}
		return 0
	}
	for _, z := range s.board.sizes {
		if z.split == split {
			return z.n
		}
	}
	return 0
}

// Size is the pixels of a side of the pictures.
func (s *Set) Size() int { return s.size }

// Channels is 3, or 1 when the style has no colour.
func (s *Set) Channels() int {
	if s.opt.Style == Colour {
		return 3
	}
	return 1
}

// Scene is the truth of item i without its picture, which takes most of the time.
// It panics outside the split. Boxes are not filled in.
func (s *Set) Scene(split data.Split, i int) *Scene {
	data.MustHave(s, split, i)
	return s.board.scene(split, s.seed, s.index(split, i))
}

// At is item i of the split.
func (s *Set) At(split data.Split, i int) *Item {
	data.MustHave(s, split, i)
	i = s.index(split, i)
	it := &Item{Scene: s.board.scene(split, s.seed, i), Split: split, Index: i, set: s}
	it.render()
	return it
}

// Draw is an item that shows a scene, changed from one of the set's or made by hand, with this
// set's size and style; its split and number are those given, which a background of texture
// blocks depends on. It panics unless every object is inside the board. Boxes of the scene's
// objects are filled in.
func (s *Set) Draw(sc *Scene, split data.Split, i int) *Item {
	side := float64(s.board.side)
	for _, o := range sc.Objects {
		if !(o.R > 0 && o.Cx >= o.R && o.Cy >= o.R && o.Cx <= side-o.R && o.Cy <= side-o.R) {
			panic(fmt.Sprintf("shapes: Draw: an object of radius %g at %g,%g; want it inside of %g×%g", o.R, o.Cx, o.Cy, side, side))
		}
	}
	it := &Item{Scene: sc, Split: split, Index: i, set: s}
	it.render()
	return it
}

// Clone is a copy of a scene that can be changed.
func (s *Scene) Clone() *Scene {
	c := *s
	c.Objects = slices.Clone(s.Objects)
	return &c
}

// index is the number in the whole split.
func (s *Set) index(split data.Split, i int) int {
	if s.keep != nil {
		return s.kept[split]()[i]
	}
	return i
}

// open makes the Served of a board with the options of an input.
func open(b *board, seed uint64, options map[string]string) (data.Served, error) {
	var o Options
	only, pairs := 0, ""
	known := []string{"only", "pairs", "size", "style", "texture"}
	for _, k := range slices.Sorted(keys(options)) {
		v := options[k]
		switch k {
		case "only":
			n, err := strconv.Atoi(v)
			if most := b.most(); err != nil || n < 1 || n > most {
				return nil, data.Errorf("%s: only=%s; want a number of objects, 1 to %d", b.set, v, most)
			}
			only = n
		case "pairs":
			if v != "seen" && v != "unseen" {
				return nil, data.Unknown(b.set, "value of pairs", v, []string{"seen", "unseen"})
			}
			pairs = v
		case "size":
			n, err := strconv.Atoi(v)
			if err != nil {
				return nil, data.Errorf("%s: size=%s; want 16, 32, 64, 128 or 256", b.set, v)
			}
			if err := data.CheckSize(b.set, n); err != nil {
				return nil, err
			}
			o.Size = n
		case "style":
			i := slices.Index(styleNames[:], v)
			if i < 0 {
				return nil, data.Unknown(b.set, "style", v, styleNames[:])
			}
			o.Style = Style(i)
		case "texture":
			i := slices.Index(textureNames[:], v)
			if i < 0 {
				return nil, data.Unknown(b.set, "texture", v, textureNames[:])
			}
			o.Texture = Texture(i)
		default:
			return nil, data.Unknown(b.set, "option", k, append([]string{"n", "from", "seed"}, known...))
		}
	}
	s, err := newSet(b, seed, o)
	if err != nil {
		return nil, err
	}
	if only > 0 {
		s = s.Only(only)
	}
	if pairs != "" {
		s = s.Pairs(pairs == "unseen")
	}
	if b.single || only == 1 {
		return data.Serve(data.Set[*Item](Classed{s}), s.Check), nil
	}
	return data.Serve(data.Set[*Item](s), s.Check), nil
}

// Classed is a set whose scenes have one object, of which the class is known:
// shape and colour, "red circle" first, colours of a shape together; of glyphs
// the entity.
type Classed struct{ *Set }

// Classes are the names of the classes.
func (c Classed) Classes() []string {
	var names []string
	if c.board.glyphs {
		for e := range Entities {
			names = append(names, Noun(e))
		}
		return names
	}
	for k := range Shapes {
		for col := range Colors {
			names = append(names, Pair{Shape(k), Color(col + 1)}.String())
		}
	}
	return names
}

// Label is the class of item i.
func (c Classed) Label(split data.Split, i int) int {
	o := c.Scene(split, i).Objects[0]
	if o.Kind == Glyph {
		return o.Glyph
	}
	return int(o.Kind)*Colors + int(o.Color) - 1
}

// most is the greatest number of objects in a scene.
func (b *board) most() int {
	if b.single {
		return 1
	}
	return 3
}

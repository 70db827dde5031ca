package shapes

import (
	"cmp"
	"math"
	"slices"
	"sync"

	"github.com/fidlab/fidlab/data"
)

// board is what the three sets differ in.
type board struct {
	set    string
	side   int    // pixels of the drawing board
	radius [2]int // smallest and largest
	single bool   // one object always
	glyphs bool   // which is a glyph
	sizes  []splitSize
}

type splitSize struct {
	split data.Split
	n     int
}

var common = []splitSize{{data.Train, 40000}, {data.Val, 2000}, {data.Test, 4000}, {data.Ref, 8192}, {data.Enc, 20000}}

var (
	kbSize     = splitSize{KB, 4 * Entities}
	unseenSize = splitSize{TestUnseen, 1000}
	scenes     = &board{set: "shapes", side: 32, radius: [2]int{5, 7}, sizes: append(slices.Clone(common), unseenSize, splitSize{TestBinding, 1000}, kbSize)}
	small      = &board{set: "shapes16", side: 16, radius: [2]int{3, 4}, single: true, sizes: append(slices.Clone(common), unseenSize)}
	glyphs     = &board{set: "shapes-glyph", side: 32, radius: [2]int{5, 5}, single: true, glyphs: true, sizes: append(slices.Clone(common), kbSize)}
)

// version is in every key: a change of what is drawn is a new one.
const version = 1

const maxTries = 40 // places of an object before the scene begins again

// stream is the random stream of an item. Glyphs of the knowledge base are the
// same ones in both sets that have it.
func (b *board) stream(split data.Split, seed uint64, i int) data.Stream {
	set := b.set
	if split == KB {
		set = scenes.set
	}
	return data.NewStream(set, split, version, seed, uint64(i))
}

// withheld tells whether a split never shows Heldout and what is kept for
// test-binding.
func withheld(split data.Split) bool {
	return split == data.Train || split == data.Val || split == data.Enc
}

// scene draws item i.
func (b *board) scene(split data.Split, seed uint64, i int) *Scene {
	if split == TestBinding {
		return b.binding(seed, i)
	}
	s := b.stream(split, seed, i)
	if b.glyphs || split == KB {
		return glyphs.glyph(&s, split, i)
	}
	for {
		sc := b.arrange(&s, split, nil)
		if sc == nil || split == TestUnseen && !sc.shows(IsHeldout) {
			continue
		}
		if sc.Bg = background(&s); owner(sc) == split {
			sc.say(b.form(&s, sc))
			return sc
		}
	}
}

// shows tells whether an object of the scene is of such a pair.
func (s *Scene) shows(pair func(Pair) bool) bool {
	return slices.ContainsFunc(s.Objects, func(o Object) bool { return pair(o.Pair()) })
}

// owners share out all scenes among the splits by a hash of what is seen, so
// that no two splits show the same: with one object there are few enough scenes
// to meet by chance. The knowledge base shares with test-unseen, which has no
// glyphs.
var owners = [16]data.Split{
	data.Train, data.Train, data.Train, data.Train, data.Train, data.Enc, data.Enc, data.Enc,
	data.Ref, data.Ref, data.Ref, data.Test, data.Test, data.Val, TestUnseen, TestBinding,
}

// owner is the split that may show the scene. The hash is of the objects from left
// to right, then top to bottom (shape, place, radius, glyph), of their colours
// in the order of their numbers, and of the background, where a period counts if it
// shows. A scene and its twin with swapped colours have the same owner.
func owner(sc *Scene) data.Split {
	o := slices.Clone(sc.Objects)
	slices.SortFunc(o, func(a, b Object) int { return cmp.Or(cmp.Compare(a.Cx, b.Cx), cmp.Compare(a.Cy, b.Cy)) })
	var colors [Colors + 1]uint64
	h := uint64(0)
	add := func(v uint64) { h = data.Mix(h ^ (v + 1)) }
	for i := range o {
		add(uint64(o[i].Kind))
		add(uint64(o[i].Cx))
		add(uint64(o[i].Cy))
		add(uint64(o[i].R))
		add(uint64(o[i].Glyph + 1))
		colors[o[i].Color]++
	}
	for _, n := range colors {
		add(n)
	}
	add(uint64(sc.Bg.Kind))
	add(uint64(sc.Bg.Level))
	if sc.Bg.Kind >= Stripes {
		add(uint64(sc.Bg.Period))
	}
	return owners[h%uint64(len(owners))]
}

// binding draws an item of test-binding: the prompt's scene, with the colours
// swapped when i is odd.
func (b *board) binding(seed uint64, i int) *Scene {
	s := b.stream(TestBinding, seed, i/2)
	list := bindings().prompts
	pairs := list[s.Intn(len(list))]
	var sc *Scene
	for sc == nil || owner(sc) != TestBinding {
		if sc = b.arrange(&s, TestBinding, pairs[:]); sc != nil {
			sc.Bg = background(&s)
		}
	}
	f := b.form(&s, sc)
	if i%2 == 1 {
		o := sc.Objects
		o[0].Color, o[1].Color = o[1].Color, o[0].Color
	}
	sc.say(f)
	return sc
}

// arrange places objects and puts them into the caption's order; nil when one
// did not fit. Their pairs are drawn unless given.
func (b *board) arrange(s *data.Stream, split data.Split, pairs []Pair) *Scene {
	n := len(pairs)
	switch {
	case n > 0:
	case b.single:
		n = 1
	default:
		n = 1 + s.Intn(3)
	}
	sc := &Scene{Cell: NoCell, Objects: make([]Object, 0, 3)}
	for k := range n {
		o := Object{Glyph: -1}
		if len(pairs) > 0 {
			o.Kind, o.Color = pairs[k].Shape, pairs[k].Color
		} else {
			p := drawPair(s, split, n, sc.Objects)
			o.Kind, o.Color = p.Shape, p.Color
		}
		largest := 32
		if n == 3 {
			largest = 6
		}
		if !b.place(s, &o, largest, sc.Objects) {
			return nil
		}
		sc.Objects = append(sc.Objects, o)
	}
	s.Shuffle(n, func(i, j int) { sc.Objects[i], sc.Objects[j] = sc.Objects[j], sc.Objects[i] })
	return sc
}

// drawPair draws a shape and a colour that the split allows beside the earlier ones.
func drawPair(s *data.Stream, split data.Split, n int, earlier []Object) Pair {
	for {
		p := Pair{Shape(s.Intn(Shapes)), Color(1 + s.Intn(Colors))}
		if slices.ContainsFunc(earlier, func(o Object) bool { return o.Pair() == p }) {
			continue
		}
		if withheld(split) && (IsHeldout(p) || n == 2 && len(earlier) == 1 && BindingHeldout(earlier[0].Pair(), p)) {
			continue
		}
		return p
	}
}

// place draws radius and centre until the object keeps its distance to the
// earlier ones.
func (b *board) place(s *data.Stream, o *Object, largest int, earlier []Object) bool {
	for range maxTries {
		r := min(largest, s.Between(b.radius[0], b.radius[1]))
		o.R = float64(r)
		o.Cx = float64(s.Between(r+1, b.side-r-1))
		o.Cy = float64(s.Between(r+1, b.side-r-1))
		if !slices.ContainsFunc(earlier, func(e Object) bool {
			return max(math.Abs(o.Cx-e.Cx), math.Abs(o.Cy-e.Cy)) < o.R+e.R+2
		}) {
			return true
		}
	}
	return false
}

func background(s *data.Stream) Bg {
	return Bg{Level: 32 + 64*s.Intn(4), Kind: BgKind(s.Intn(4)), Period: 4 + 2*s.Intn(3)}
}

// form draws how the scene's caption is put.
func (b *board) form(s *data.Stream, sc *Scene) form {
	told, article, bg := s.Float64(), s.Float64(), s.Float64()
	f := form{cell: NoCell, articles: article >= dropArticles}
	o := sc.Objects
	side := float64(b.side)
	switch {
	case len(o) == 1 && told < sayPosition:
		f.cell = cellOf(o[0].Cx, o[0].Cy, side)
	case len(o) == 2 && told < sayRelation:
		rels := relation(o[1].Cx-o[0].Cx, o[1].Cy-o[0].Cy, side, 0)
		f.rel = max(rels[0], rels[1]) // at most one is told
	}
	if len(o) <= 2 {
		f.bg = bg < 2*sayBackground
		f.pattern = bg < sayBackground
	}
	return f
}

// glyph draws an item that shows a glyph.
func (b *board) glyph(s *data.Stream, split data.Split, i int) *Scene {
	o := Object{Kind: Glyph, Glyph: glyphOf(s, split, i), Color: Color(1 + s.Intn(Colors))}
	own := split
	if split == KB {
		own = TestUnseen
	}
	sc := &Scene{Cell: NoCell}
	for len(sc.Objects) == 0 || owner(sc) != own {
		b.place(s, &o, 5, nil)
		sc.Objects, sc.Bg = append(sc.Objects[:0], o), background(s)
	}
	if split == KB {
		sc.Caption = "a photo of a " + Noun(o.Glyph)
		sc.tokenize()
		return sc
	}
	sc.say(b.form(s, sc))
	return sc
}

// zipf are the chances of the frequent entities: the k-th in proportion to k^−0.7.
var zipf = sync.OnceValue(func() []float64 {
	w := make([]float64, Frequent)
	for k := range w {
		w[k] = math.Pow(float64(k+1), -0.7)
	}
	return w
})

// glyphOf is the entity that item i shows. In train and enc every thousandth item
// shows a rare one, in turn, five times each in the 40,000 of train; the others
// frequent ones. The knowledge base shows each four times, the rest of the
// splits all alike.
func glyphOf(s *data.Stream, split data.Split, i int) int {
	switch {
	case split == KB:
		return i / 4
	case split != data.Train && split != data.Enc:
		return s.Intn(Entities)
	case i%1000 == 500:
		return Frequent + i/1000%Rare
	}
	return s.Pick(zipf())
}

// bindingTable is what is kept for test-binding.
type bindingTable struct {
	held    map[[2]Pair]bool // two pairs that train does not show together, in both orders
	prompts [][2]Pair
}

var bindings = sync.OnceValue(func() *bindingTable {
	var seen []Pair
	for k := range Shapes {
		for c := range Colors {
			if p := (Pair{Shape(k), Color(c + 1)}); !IsHeldout(p) {
				seen = append(seen, p)
			}
		}
	}
	var all [][2]Pair
	for i := range seen {
		for j := range i {
			all = append(all, [2]Pair{seen[j], seen[i]})
		}
	}
	s := data.FromKey(data.FNV1a("shapes/binding/v1"))
	s.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	t := &bindingTable{held: map[[2]Pair]bool{}}
	for _, p := range all[:len(all)*4/10] {
		a, b := p[0], p[1]
		t.held[[2]Pair{a, b}], t.held[[2]Pair{b, a}] = true, true
		if a.Shape != b.Shape && a.Color != b.Color && !IsHeldout(Pair{a.Shape, b.Color}) && !IsHeldout(Pair{b.Shape, a.Color}) {
			t.prompts = append(t.prompts, p)
		}
	}
	return t
})

// BindingHeldout tells whether scenes of two objects in train, val and enc never
// show these two together.
func BindingHeldout(a, b Pair) bool { return bindings().held[[2]Pair{a, b}] }

package shapes

import (
	"fmt"
	"hash/fnv"
	"maps"
	"math"
	"math/bits"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/fidlab/fidlab/data"
)

// words is SplitMix64 once more, written from the published C, so that the rules of
// drawing are checked against something that the package did not make.
type words struct{ x uint64 }

func (w *words) mix(z uint64) uint64 {
	z = (z ^ (z >> 30)) * 13787848793156543929
	z = (z ^ (z >> 27)) * 10723151780598845931
	return z ^ (z >> 31)
}

func (w *words) next() uint64 {
	w.x += 11400714819323198485
	return w.mix(w.x)
}

func (w *words) below(k int) int  { return int(w.next() % uint64(k)) }
func (w *words) uniform() float64 { return math.Ldexp(float64(w.next()>>11), -53) }

func newWords(name string, seed, index uint64) *words {
	h := fnv.New64a()
	h.Write([]byte(name))
	w := &words{}
	w.x = w.mix(h.Sum64() ^ w.mix(seed) ^ w.mix(index))
	return w
}

// TestDrawingRules draws scenes by the text of the package documentation, in
// integers, and wants the same ones.
func TestDrawingRules(t *testing.T) {
	type object struct{ kind, color, r, x, y int }
	colors := strings.Fields("- red yellow green cyan blue magenta")
	kinds := strings.Fields("circle square triangle cross")
	held := map[[2]int]bool{{0, 6}: true, {1, 4}: true, {2, 2}: true, {3, 5}: true}
	for _, c := range []struct {
		split      data.Split
		lo, hi     int // of the owner's share
		n          int
		train      bool
		onlyUnseen bool
	}{{data.Train, 0, 4, 60, true, false}, {data.Enc, 5, 7, 20, true, false}, {data.Test, 11, 12, 40, false, false}, {TestUnseen, 14, 14, 10, false, true}} {
		for seed := uint64(1); seed < 3; seed++ {
			set := New(seed)
			for i := range c.n {
				w := newWords("shapes/"+string(c.split)+"/v1", seed, uint64(i))
				var objs []object
				var level, kind, period int
			again:
				for {
					objs = objs[:0]
					n := 1 + w.below(3)
					for len(objs) < n {
						var o object
					pair:
						for {
							o.kind, o.color = w.below(4), 1+w.below(6)
							for _, e := range objs {
								if e.kind == o.kind && e.color == o.color {
									continue pair
								}
							}
							if c.train && held[[2]int{o.kind, o.color}] {
								continue
							}
							if c.train && n == 2 && len(objs) == 1 && BindingHeldout(Pair{Shape(objs[0].kind), Color(objs[0].color)}, Pair{Shape(o.kind), Color(o.color)}) {
								continue
							}
							break
						}
						placed := false
						for try := 0; try < 40 && !placed; try++ {
							o.r = 5 + w.below(3)
							if n == 3 && o.r == 7 {
								o.r = 6
							}
							o.x = o.r + 1 + w.below(31-o.r-o.r) // r+1 to 31−r
							o.y = o.r + 1 + w.below(31-o.r-o.r)
							placed = true
							for _, e := range objs {
								if max(max(o.x-e.x, e.x-o.x), max(o.y-e.y, e.y-o.y)) < o.r+e.r+2 {
									placed = false
								}
							}
						}
						if !placed {
							continue again
						}
						objs = append(objs, o)
					}
					for j := n - 1; j > 0; j-- {
						k := w.below(j + 1)
						objs[j], objs[k] = objs[k], objs[j]
					}
					unseen := false
					for _, o := range objs {
						unseen = unseen || held[[2]int{o.kind, o.color}]
					}
					if c.onlyUnseen && !unseen {
						continue
					}
					level, kind, period = 32+64*w.below(4), w.below(4), 4+2*w.below(3)
					sorted := slices.Clone(objs)
					slices.SortFunc(sorted, func(a, b object) int { return 1000*(a.x-b.x) + a.y - b.y })
					h, counts := uint64(0), [7]int{}
					add := func(v int) { h = w.mix(h ^ uint64(v+1)) }
					for _, o := range sorted {
						for _, v := range []int{o.kind, o.x, o.y, o.r, 0} {
							add(v)
						}
						counts[o.color]++
					}
					for _, v := range counts {
						add(v)
					}
					add(kind)
					add(level)
					if kind >= 2 {
						add(period)
					}
					if share := int(h % 16); share >= c.lo && share <= c.hi {
						break
					}
				}
				told, article, back := w.uniform(), w.uniform(), w.uniform()
				var s []string
				for j, o := range objs {
					sep := ""
					switch {
					case j > 0 && j == len(objs)-1:
						sep = "and"
					case j > 0:
						sep = ","
					}
					if j == 1 && len(objs) == 2 && told < 0.3/0.688 {
						dx, dy := objs[1].x-objs[0].x, objs[1].y-objs[0].y
						ax, ay := max(dx, -dx), max(dy, -dy)
						switch {
						case ax >= 10 && 2*ay <= ax && dx > 0:
							sep = "left of"
						case ax >= 10 && 2*ay <= ax:
							sep = "right of"
						case ay >= 10 && 2*ax <= ay && dy > 0:
							sep = "above"
						case ay >= 10 && 2*ax <= ay:
							sep = "below"
						}
					}
					s = append(s, sep, "a", colors[o.color], kinds[o.kind])
				}
				if len(objs) == 1 && told < 0.3 {
					s = append(s, "at the", []string{"top", "middle", "bottom"}[3*objs[0].y/32], []string{"left", "centre", "right"}[3*objs[0].x/32])
				}
				if len(objs) < 3 && back < 0.2 {
					s = append(s, "on a", map[bool]string{true: "dark", false: "light"}[level < 128])
					if back < 0.1 {
						s = append(s, []string{"plain", "plain", "striped", "checkered"}[kind])
					}
					s = append(s, "background")
				}
				want := strings.Join(strings.Fields(strings.Join(s, " ")), " ")
				if article < 0.1 {
					want = strings.ReplaceAll(strings.ReplaceAll(" "+want, " a ", " "), " the ", " ")[1:]
				}
				sc := set.Scene(c.split, i)
				got := fmt.Sprint(sc.Bg, sc.Caption)
				for _, o := range sc.Objects {
					got += fmt.Sprint(" ", o.Kind, o.Color, o.R, o.Cx, o.Cy)
				}
				wanted := fmt.Sprint(Bg{BgKind(kind), level, period}, want)
				for _, o := range objs {
					wanted += fmt.Sprint(" ", Shape(o.kind), Color(o.color), float64(o.r), float64(o.x), float64(o.y))
				}
				if got != wanted {
					t.Fatalf("%s %d of seed %d:\n got %s\nwant %s", c.split, i, seed, got, wanted)
				}
			}
		}
	}
}

// share fails unless hits of n are within five standard errors of p.
func share(t *testing.T, what string, hits, n int, p float64) {
	t.Helper()
	if se := math.Sqrt(float64(n) * p * (1 - p)); math.Abs(float64(hits)-p*float64(n)) > 5*se {
		t.Errorf("%s: %d of %d, %.4f; want %.4f within %.4f", what, hits, n, float64(hits)/float64(n), p, 5*se/float64(n))
	}
}

// TestDistribution holds all 76,384 scenes of the set to its rules.
func TestDistribution(t *testing.T) {
	set := New(data.DefaultSeed)
	sizes := map[data.Split]int{data.Train: 40000, data.Val: 2000, data.Test: 4000, data.Ref: 8192, data.Enc: 20000, TestUnseen: 1000, TestBinding: 1000, KB: 192}
	owner := map[string]data.Split{}
	pairsOfPairs := map[[2]Pair]bool{}
	var n [4]int
	var free, kinds, levels, periods, shapes, colors, told, cells, articles, short, long, few int
	for _, split := range set.Splits() {
		if set.Len(split) != sizes[split] {
			t.Errorf("%s has %d items, want %d", split, set.Len(split), sizes[split])
		}
		train := split == data.Train || split == data.Val || split == data.Enc
		for i := range set.Len(split) {
			sc := set.Scene(split, i)
			unseen := 0
			for k, o := range sc.Objects {
				if o.Kind == Glyph {
					continue
				}
				if o.R != 5 && o.R != 6 && (o.R != 7 || len(sc.Objects) == 3) || o.Cx-o.R < 1 || o.Cy-o.R < 1 || o.Cx+o.R > 31 || o.Cy+o.R > 31 || o.Cx != math.Trunc(o.Cx) {
					t.Fatalf("%s %d: object %+v", split, i, o)
				}
				if IsHeldout(o.Pair()) {
					unseen++
				}
				for _, e := range sc.Objects[:k] {
					if e.Pair() == o.Pair() || max(math.Abs(e.Cx-o.Cx), math.Abs(e.Cy-o.Cy)) < e.R+o.R+2 {
						t.Fatalf("%s %d: %+v beside %+v", split, i, o, e)
					}
				}
			}
			if train && unseen > 0 || split == TestUnseen && unseen == 0 || split == TestBinding && (unseen > 0 || len(sc.Objects) != 2) {
				t.Fatalf("%s %d shows %d pairs of Heldout among %d objects", split, i, unseen, len(sc.Objects))
			}
			if len(sc.Objects) == 2 {
				p := [2]Pair{sc.Objects[0].Pair(), sc.Objects[1].Pair()}
				if train && BindingHeldout(p[0], p[1]) || split == TestBinding && i%2 == 0 && !BindingHeldout(p[0], p[1]) {
					t.Fatalf("%s %d: %v", split, i, p)
				}
				pairsOfPairs[p] = pairsOfPairs[p] || split == data.Train
			}
			// what is seen: a scene in one split is in no other
			content := fmt.Sprint(sc.Bg.Kind, sc.Bg.Level)
			if sc.Bg.Kind == Stripes || sc.Bg.Kind == Checker {
				content += fmt.Sprint(sc.Bg.Period)
			}
			var parts []string
			for _, o := range sc.Objects {
				parts = append(parts, fmt.Sprint(o.Kind, o.Glyph, o.Color, o.Cx, o.Cy, o.R))
			}
			slices.Sort(parts)
			content += strings.Join(parts, ";")
			if was, seen := owner[content]; seen && was != split {
				t.Fatalf("%s %d is also in %s: %s", split, i, was, content)
			}
			owner[content] = split
			if split == TestUnseen || split == TestBinding || split == KB {
				continue
			}
			n[len(sc.Objects)]++
			free++
			kinds += bit(sc.Bg.Kind == Checker)
			levels += bit(sc.Bg.Level == 224)
			periods += bit(sc.Bg.Period == 6)
			if !train {
				shapes += bit(sc.Objects[0].Kind == Cross)
				colors += bit(sc.Objects[0].Color == Cyan)
			}
			articles += bit(!strings.HasPrefix(sc.Caption, "a "))
			told += bit(sc.Relation != NoRel)
			cells += bit(sc.Cell != NoCell)
			if len(sc.Objects) <= 2 {
				few++
				w := strings.Fields(sc.Caption)
				if w[len(w)-1] == "background" {
					pattern := bit(slices.Contains([]string{"plain", "striped", "checkered"}, w[len(w)-2]))
					long += pattern
					short += 1 - pattern
				}
			}
		}
	}
	share(t, "one object", n[1], free, 0.407)
	share(t, "two objects", n[2], free, 0.349)
	share(t, "three objects", n[3], free, 0.244)
	share(t, "checker", kinds, free, 0.25)
	share(t, "level 224", levels, free, 0.25)
	share(t, "period 6", periods, free, 1.0/3)
	share(t, "crosses", shapes, sizes[data.Test]+sizes[data.Ref], 0.25)
	share(t, "cyan", colors, sizes[data.Test]+sizes[data.Ref], 1.0/6)
	share(t, "no articles", articles, free, 0.1)
	share(t, "relations", told, n[2], 0.3)
	share(t, "positions", cells, n[1], 0.3)
	share(t, "background told", short, few, 0.1)
	share(t, "pattern told", long, few, 0.1)
	seen, all := 0, 0
	for p, inTrain := range pairsOfPairs {
		if !IsHeldout(p[0]) && !IsHeldout(p[1]) {
			all++
			seen += bit(inTrain)
		}
	}
	if all != 380 || seen != 228 { // 20·19, and 60 % of them
		t.Errorf("train shows %d of %d ordered pairs of pairs, want 228 of 380", seen, all)
	}
}

// A twin is its prompt's scene with the colours swapped.
func TestBindingTwins(t *testing.T) {
	set := New(3)
	for i := 0; i < set.Len(TestBinding); i += 2 {
		a, b := set.Scene(TestBinding, i), set.Scene(TestBinding, i+1)
		if a.Caption == b.Caption || a.Bg != b.Bg || a.Relation != b.Relation || a.Objects[0].Kind == a.Objects[1].Kind {
			t.Fatalf("%d: %q and %q", i, a.Caption, b.Caption)
		}
		for k := range 2 {
			o := a.Objects[k]
			o.Color = a.Objects[1-k].Color
			if b.Objects[k] != o || o.Color == a.Objects[k].Color {
				t.Fatalf("%d: %+v became %+v", i, a.Objects[k], b.Objects[k])
			}
		}
	}
}

// The glyphs' tables by brute force, on sets of cells.
func TestGlyphTables(t *testing.T) {
	cells := func(e, dx, dy int) map[[2]int]bool {
		m := map[[2]int]bool{}
		for y, row := range Bitmap(e) {
			for x, on := range row {
				if on {
					m[[2]int{x + dx, y + dy}] = true
				}
			}
		}
		return m
	}
	siblings := map[int]int{}
	for e := range Entities {
		m := cells(e, 0, 0)
		if len(m) < 10 || len(m) > 14 || len(m) != bits.OnesCount32(bitmaps[e]) {
			t.Errorf("%s has %d cells", Noun(e), len(m))
		}
		var left [5]bool
		for c := range m {
			left[0], left[1], left[2], left[3] = left[0] || c[0] == 0, left[1] || c[0] == 4, left[2] || c[1] == 0, left[3] || c[1] == 4
		}
		if !(left[0] && left[1] && left[2] && left[3]) {
			t.Errorf("%s does not touch all sides", Noun(e))
		}
		var start [2]int
		for c := range m {
			start = c
		}
		reach := map[[2]int]bool{start: true}
		for grown := true; grown; {
			grown = false
			for c := range maps.Clone(reach) {
				for _, d := range [][2]int{{1, 0}, {-1, 0}, {0, 1}, {0, -1}} {
					if q := [2]int{c[0] + d[0], c[1] + d[1]}; m[q] && !reach[q] {
						reach[q], grown = true, true
					}
				}
			}
		}
		if len(reach) != len(m) {
			t.Errorf("%s is in pieces", Noun(e))
		}
		for f := range e {
			least := 99
			for dy := -1; dy <= 1; dy++ {
				for dx := -1; dx <= 1; dx++ {
					d, s := 0, cells(f, dx, dy)
					for c := range m {
						d += bit(!s[c])
					}
					for c := range s {
						d += bit(!m[c])
					}
					least = min(least, d)
				}
			}
			switch {
			case e >= Frequent && f < Frequent && Sibling(e) == f:
				if least != 4 && least != 5 {
					t.Errorf("%s and its sibling %s are %d apart", Noun(e), Noun(f), least)
				}
				siblings[f]++
			case least < 8:
				t.Errorf("%s and %s are %d apart", Noun(e), Noun(f), least)
			}
		}
		if EntityOf(Noun(e)) != e || (Sibling(e) < 0) != (e < Frequent) {
			t.Errorf("entity %d: noun %q, sibling %d", e, Noun(e), Sibling(e))
		}
	}
	if len(siblings) != 16 {
		t.Errorf("%d frequent glyphs have a sibling, want 16", len(siblings))
	}
	if EntityOf("circle") != -1 || EntityOf("nothing") != -1 {
		t.Error("a word that is no noun has an entity")
	}
}

// How often train shows each glyph, and that splits share no pictures.
func TestGlyphFrequencies(t *testing.T) {
	set := NewGlyphs(data.DefaultSeed)
	owner := map[string]data.Split{}
	for _, split := range set.Splits() {
		var count [Entities]int
		for i := range set.Len(split) {
			sc := set.Scene(split, i)
			count[sc.Objects[0].Glyph]++
			content := fmt.Sprint(sc.Objects, sc.Bg.Kind, sc.Bg.Level)
			if was, seen := owner[content]; seen && was != split && sc.Bg.Kind < Stripes {
				t.Fatalf("%s %d is also in %s", split, i, was)
			}
			owner[content] = split
			if split == KB && sc.Caption != "a photo of a "+Noun(i/4) {
				t.Fatalf("kb %d: %q", i, sc.Caption)
			}
		}
		for e, n := range count {
			switch {
			case split == KB:
				if n != 4 {
					t.Errorf("kb shows %s %d times", Noun(e), n)
				}
			case split != data.Train && split != data.Enc:
				share(t, string(split)+" "+Noun(e), n, set.Len(split), 1.0/Entities)
			case e >= Frequent+Rare:
				if n > 0 {
					t.Errorf("%s shows %s %d times", split, Noun(e), n)
				}
			case e >= Frequent:
				if split == data.Train && n != 5 {
					t.Errorf("train shows %s %d times, want 5", Noun(e), n)
				}
			default:
				sum := 0.0
				for k := 1; k <= Frequent; k++ {
					sum += math.Pow(float64(k), -0.7)
				}
				share(t, string(split)+" "+Noun(e), n, set.Len(split), 0.999*math.Pow(float64(e+1), -0.7)/sum)
				if split == data.Train && n < 150 {
					t.Errorf("train shows %s %d times, want 150 or more", Noun(e), n)
				}
			}
		}
	}
}

// At from many goroutines, in any order, is At.
func TestAnyOrder(t *testing.T) {
	set := New(5)
	want := make([]string, 200)
	for i := range want {
		want[i] = string(set.At(data.Val, i).Bytes())
	}
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for k := range want {
				i := (k*37 + g*11) % len(want)
				if string(New(5).At(data.Val, i).Bytes()) != want[i] {
					t.Errorf("item %d differs", i)
				}
			}
		})
	}
	wg.Wait()
}

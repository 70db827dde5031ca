package shapes

import (
	"bytes"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/data"
)

// hitsOf counts the 4×4 samples of pixel (x, y) in an object, in integers: all
// lengths are multiples of 1/8 pixel, and r and the centre are whole.
func hitsOf(o Object, x, y int) (hits int) {
	r := int(o.R) * 8
	for j := range 4 {
		for i := range 4 {
			dx, dy := 8*x+2*i+1-8*int(o.Cx), 8*y+2*j+1-8*int(o.Cy)
			ax, ay := max(dx, -dx), max(dy, -dy)
			in := false
			switch o.Kind {
			case Circle:
				in = dx*dx+dy*dy <= r*r
			case Square:
				in = 100*ax <= 95*r && 100*ay <= 95*r
			case Triangle: // from the apex at −r the half width grows from 0 to r over 1.75 r
				in = dy >= -r && 4*dy <= 3*r && 7*ax <= 4*(dy+r)
			case Cross:
				in = 100*ax <= 36*r && ay <= r || 100*ay <= 36*r && ax <= r
			case Glyph:
				c, w := (dx+r)>>4, (dy+r)>>4
				in = dx+r >= 0 && dy+r >= 0 && c < 5 && w < 5 && Bitmap(o.Glyph)[w][c]
			}
			hits += bit(in)
		}
	}
	return hits
}

// grayOf is 31 times the background's gray at pixel (x, y).
func grayOf(b Bg, x, y int) int {
	alternate := func(k int) int { return 31 * (20 - 40*(k%2)) }
	switch b.Kind {
	case Ramp:
		return 31*b.Level - 20*31 + 40*x
	case Stripes:
		return 31*b.Level + alternate(2*x/b.Period)
	case Checker:
		return 31*b.Level + alternate(2*x/b.Period+2*y/b.Period)
	}
	return 31 * b.Level
}

// Every pixel, mask, class and box by integer arithmetic.
func TestRenderExactly(t *testing.T) {
	n := map[string]int{}
	for _, set := range []*Set{New(data.DefaultSeed), NewGlyphs(data.DefaultSeed)} {
		for i := range 300 {
			it := set.At(data.Ref, i)
			n[it.Bg.Kind.String()]++
			boxes := make([][4]int, len(it.Objects))
			for k := range boxes {
				boxes[k] = [4]int{32, 32, 0, 0}
			}
			for y := range 32 {
				for x := range 32 {
					g := grayOf(it.Bg, x, y)
					v, mask, seg := [3]int{16 * g, 16 * g, 16 * g}, uint8(0), uint8(0) // 31·16 times
					for k, o := range it.Objects {
						hits := hitsOf(o, x, y)
						if hits == 0 {
							continue
						}
						n[o.Kind.String()]++
						for c, l := range o.Color.RGB() {
							v[c] = 16*g + hits*(31*int(l)-g)
						}
						if hits >= 8 {
							mask, seg = uint8(k+1), uint8(o.Color)
							b := &boxes[k]
							*b = [4]int{min(b[0], x), min(b[1], y), max(b[2], x+1), max(b[3], y+1)}
						}
					}
					p := 32*y + x
					for c := range 3 {
						if want := (2*v[c] + 31*16) / (2 * 31 * 16); int(it.Pix[3*p+c]) != want {
							t.Fatalf("%s ref %d, pixel %d,%d channel %d: %d, want %d (%q)", set.Name(), i, x, y, c, it.Pix[3*p+c], want, it.Caption)
						}
					}
					if it.Mask[p] != mask || it.Seg[p] != seg {
						t.Fatalf("%s ref %d, pixel %d,%d: mask %d class %d, want %d %d", set.Name(), i, x, y, it.Mask[p], it.Seg[p], mask, seg)
					}
				}
			}
			for k, o := range it.Objects {
				if o.Box != boxes[k] {
					t.Fatalf("%s ref %d: box %v of object %d, want %v", set.Name(), i, o.Box, k, boxes[k])
				}
			}
		}
	}
	for _, what := range []string{"flat", "ramp", "stripes", "checker", "circle", "square", "triangle", "cross", "glyph"} {
		if n[what] == 0 {
			t.Errorf("no %s was drawn", what)
		}
	}
}

// The areas by their formulas: 4×4 samples of a boundary are off by less than a
// fifth of a pixel in all per pixel of length, mostly far less.
func TestAreas(t *testing.T) {
	area := map[Shape]func(r float64) float64{
		Circle: func(r float64) float64 { return math.Pi * r * r }, Square: func(r float64) float64 { return 3.61 * r * r },
		Triangle: func(r float64) float64 { return 1.75 * r * r }, Cross: func(r float64) float64 { return (4*0.72 - 0.72*0.72) * r * r },
	}
	for k, f := range area {
		for r := 5.0; r <= 7; r++ {
			o := Object{Kind: k, R: r, Cx: 16, Cy: 16}
			sum := 0.0
			for p := range 32 * 32 * 64 { // 8×8 samples a pixel
				x, y := float64(p%256)/8+1.0/16, float64(p/256)/8+1.0/16
				sum += float64(bit(o.covers(x, y))) / 64
			}
			if want := f(r); math.Abs(sum-want) > 0.03*want {
				t.Errorf("%v of radius %g covers %.2f pixels, want %.2f", k, r, sum, want)
			}
		}
	}
}

func TestVariants(t *testing.T) {
	base := New(7)
	with := func(o Options) *Set {
		t.Helper()
		s, err := base.With(o)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	for i := range 40 {
		it := base.At(data.Val, i)
		for _, o := range []Options{{Size: 64}, {Size: 256}, {Style: Binary}, {Style: Gray}, {Texture: TextureBackground}, {Texture: TextureObjects}} {
			v := with(o).At(data.Val, i)
			if v.Caption != it.Caption || v.Bg != it.Bg || len(v.Objects) != len(it.Objects) || v.Objects[0].Cx != it.Objects[0].Cx {
				t.Fatalf("%+v moved the scene %d", o, i)
			}
			if o.Size == 0 && (!bytes.Equal(v.Mask, it.Mask) || !bytes.Equal(v.Seg, it.Seg)) {
				t.Fatalf("%+v changed the masks of %d", o, i)
			}
		}
		// four pixels of the larger picture are about one of the smaller: the samples are
		// finer, so edges differ by up to 3 of 16 samples
		big := with(Options{Size: 64}).At(data.Val, i)
		for p, v := range shrink(floats(big.Pix), 64, 2) {
			q := p / 3
			if d := math.Abs(v - float64(it.Pix[p])); d > 48 || d > 0.51 && it.Mask[q] == 0 && clear9(it, q) {
				t.Fatalf("size 64 of %d: value %d is %g, at 32 pixels %d", i, p, v, it.Pix[p])
			}
		}
		b := with(Options{Style: Binary}).At(data.Val, i)
		x, c, h, w := b.Tensor()
		if c != 1 || h != 32 || w != 32 || len(x) != 1024 || len(b.Pix) != 1024 {
			t.Fatalf("binary: [%d,%d,%d], %d values", c, h, w, len(x))
		}
		for y := range 32 {
			for x := range 32 {
				hits := 0
				for _, o := range it.Objects {
					hits += hitsOf(o, x, y)
				}
				if want := (2*255*hits + 16) / 32; int(b.Pix[32*y+x]) != want {
					t.Fatalf("binary %d at %d,%d: %d, want %d", i, x, y, b.Pix[32*y+x], want)
				}
			}
		}
		g := with(Options{Style: Gray}).At(data.Val, i)
		for p, m := range it.Mask {
			bg := grayOf(it.Bg, p%32, p/32)
			if far := math.Abs(float64(g.Pix[p]) - float64(bg)/31); m > 0 && far < 40 {
				t.Fatalf("gray %d: pixel %d of an object is %d, the background %d", i, p, g.Pix[p], bg/31)
			}
		}
		x1, x2 := with(Options{Texture: TextureBackground}).At(data.Val, i), with(Options{Texture: TextureObjects}).At(data.Val, i)
		if bytes.Equal(x1.Pix, it.Pix) || bytes.Equal(x2.Pix, it.Pix) {
			t.Fatalf("a texture changed nothing in %d", i)
		}
		for p := range 1024 {
			r, gr, bl := x1.Pix[3*p], x1.Pix[3*p+1], x1.Pix[3*p+2]
			if it.Mask[p] == 0 && clear9(it, p) && (r != gr || r != bl || math.Abs(float64(r)-float64(it.Bg.Level)) > 20) {
				t.Fatalf("texture of %d: pixel %d is %d %d %d before level %d", i, p, r, gr, bl, it.Bg.Level)
			}
		}
		if got := LabelMap(x1.Image()); !bytes.Equal(got, LabelMap(it.Image())) {
			diff := 0
			for p := range got {
				diff += bit(got[p] != it.Seg[p])
			}
			if diff > 6 {
				t.Errorf("texture of %d: %d labels are wrong", i, diff)
			}
		}
	}
}

// clear9 tells whether no object is near the pixel.
func clear9(it *Item, p int) bool {
	for dy := -1; dy <= 1; dy++ {
		for dx := -1; dx <= 1; dx++ {
			if x, y := p%32+dx, p/32+dy; x >= 0 && y >= 0 && x < 32 && y < 32 && it.Mask[32*y+x] > 0 {
				return false
			}
		}
	}
	return true
}

func TestParts(t *testing.T) {
	set := New(data.DefaultSeed)
	for n := 1; n <= 3; n++ {
		part, k := set.Only(n), 0
		for i := range set.Len(data.Val) {
			if sc := set.Scene(data.Val, i); len(sc.Objects) == n {
				if it := part.At(data.Val, k); it.Index != i || it.Caption != sc.Caption {
					t.Fatalf("item %d of Only(%d) is %d, want %d", k, n, it.Index, i)
				}
				k++
			}
		}
		if part.Len(data.Val) != k {
			t.Errorf("Only(%d) has %d items, want %d", n, part.Len(data.Val), k)
		}
	}
	seen, unseen := set.Pairs(false).Len(data.Test), set.Pairs(true).Len(data.Test)
	if seen+unseen != 4000 || unseen < 800 || set.Pairs(true).Len(data.Train) != 0 || set.Pairs(false).Len(TestUnseen) != 0 || set.Only(1).Len("valid") != 0 {
		t.Errorf("%d scenes of test are seen and %d not", seen, unseen)
	}
	if both := set.Only(2).Pairs(true); both.Len(data.Test) == 0 || both.Len(data.Test) >= set.Only(2).Len(data.Test) {
		t.Errorf("Only and Pairs together leave %d", both.Len(data.Test))
	}
}

// shapes16 keeps its rules, and its splits share no picture.
func TestSmall(t *testing.T) {
	set := New16(data.DefaultSeed)
	owner := map[string]data.Split{}
	var large, all int
	for _, split := range set.Splits() {
		for i := range set.Len(split) {
			sc := set.Scene(split, i)
			o := sc.Objects[0]
			if len(sc.Objects) != 1 || o.R != 3 && o.R != 4 || o.Cx-o.R < 1 || o.Cy-o.R < 1 || o.Cx+o.R > 15 || o.Cy+o.R > 15 {
				t.Fatalf("%s %d: %+v", split, i, sc.Objects)
			}
			if IsHeldout(o.Pair()) && withheld(split) || !IsHeldout(o.Pair()) && split == TestUnseen {
				t.Fatalf("%s %d shows %v", split, i, o.Pair())
			}
			content := fmt.Sprint(o, sc.Bg.Kind, sc.Bg.Level, sc.Bg.Period*bit(sc.Bg.Kind > Ramp))
			if was, seen := owner[content]; seen && was != split {
				t.Fatalf("%s %d is also in %s", split, i, was)
			}
			owner[content] = split
			large += bit(o.R == 4)
			all++
		}
	}
	share(t, "radius 4", large, all, 0.5)
	it := set.At(data.Test, 0)
	if x, c, h, w := it.Tensor(); len(x) != 768 || c != 3 || h != 16 || w != 16 {
		t.Errorf("tensor [%d,%d,%d]", c, h, w)
	}
}

func TestClassed(t *testing.T) {
	c := Classed{New16(2)}
	names := c.Classes()
	if len(names) != 24 || names[0] != "red circle" || names[23] != "magenta cross" {
		t.Errorf("classes %v", names)
	}
	for i := range 50 {
		if sc := c.Scene(data.Ref, i); !strings.HasPrefix(strings.TrimPrefix(sc.Caption, "a "), names[c.Label(data.Ref, i)]) {
			t.Errorf("%q is of class %q", sc.Caption, names[c.Label(data.Ref, i)])
		}
	}
	g := Classed{NewGlyphs(2)}
	for i := range 50 {
		if sc := g.Scene(data.Ref, i); !strings.Contains(sc.Caption, g.Classes()[g.Label(data.Ref, i)]) {
			t.Errorf("%q is of class %q", sc.Caption, g.Classes()[g.Label(data.Ref, i)])
		}
	}
}

// The two sets that have a knowledge base have the same pictures in it.
func TestSameKB(t *testing.T) {
	a, b := New(1), NewGlyphs(1)
	for i := range a.Len(KB) {
		if x, y := a.At(KB, i), b.At(KB, i); !bytes.Equal(x.Pix, y.Pix) || x.Caption != y.Caption {
			t.Fatalf("kb %d differs: %q and %q", i, x.Caption, y.Caption)
		}
	}
}

func BenchmarkAt(b *testing.B) {
	set := New(1)
	for i := range b.N {
		set.At(data.Train, i%40000)
	}
}

// The masks of forms are those of objects, with each object's form in place of its number.
func TestForms(t *testing.T) {
	set := New(data.DefaultSeed)
	seen := map[uint8]bool{}
	for i := range 20 {
		it := set.At(data.Val, i)
		for p, f := range it.Forms() {
			want := uint8(0)
			for k, o := range it.Objects {
				if int(it.Mask[p]) == k+1 {
					want = map[Shape]uint8{Circle: 1, Square: 2, Triangle: 3, Cross: 4}[o.Kind]
				}
			}
			if f != want {
				t.Fatalf("scene %d, pixel %d: form %d, want %d", i, p, f, want)
			}
			seen[f] = true
		}
	}
	if len(seen) != 5 {
		t.Errorf("forms seen: %v", seen)
	}
}

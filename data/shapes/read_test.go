package shapes

import (
	"encoding/json"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fidlab/fidlab/data"
	"github.com/fidlab/fidlab/imageio"
	"github.com/fidlab/fidlab/tensor"
)

// judge reads n items of the test split after some damage.
func judge(t *testing.T, set *Set, d data.Damage, n int) *data.Totals {
	t.Helper()
	tot := new(data.Totals)
	for i := range n {
		g, err := data.Give(set.At(data.Test, i))
		if err != nil {
			t.Fatal(err)
		}
		c, err := set.Check(d.Apply(g, i))
		if err != nil {
			t.Fatal(err)
		}
		tot.Add(c)
	}
	return tot
}

func count(t *testing.T, tot *data.Totals, name string) data.Count {
	t.Helper()
	for _, c := range tot.Counts() {
		if c.Name == name {
			return c
		}
	}
	t.Fatalf("no count %q", name)
	return data.Count{}
}

// The reader's accuracy as specified for it, with room for what so few scenes tell:
// three standard errors where not everything is read. "fidlab data check shapes -n 4000"
// prints the same for more scenes.
func TestAccuracy(t *testing.T) {
	set := New(data.DefaultSeed)
	for _, c := range []struct {
		d              data.Damage
		n              int
		scene, objects float64 // shares read, at least
		centre         float64 // 99 % of the centres are nearer, pixels
		iou            float64
	}{
		{data.Damage{}, 300, 1, 1, 0.36, 0.998},
		{data.Damage{Noise: 0.05}, 300, 1, 1, 0.53, 0.97},
		{data.Damage{Noise: 0.1}, 150, 1, 1, 0.53, 0.81},
		{data.Damage{Noise: 0.2}, 150, 0.78, 0.88, math.Inf(1), 0.29},
		{data.Damage{Blur: 1}, 150, 0.98, 0.98, 0.27, 0.95},
		{data.Damage{Blur: 2}, 150, 0.76, 0.84, math.Inf(1), 0.91},
	} {
		tot := judge(t, set, c.d, c.n)
		scene, objects := count(t, tot, "scene"), count(t, tot, "colour+shape")
		iou, _ := tot.MeanIoU()
		p99 := tot.Spreads()[0].P99
		t.Logf("%v: %v; %v; centre p99 %.2f; mIoU %.3f", c.d, scene, objects, p99, iou)
		if scene.Of != c.n || float64(scene.Hits) < c.scene*float64(scene.Of) || float64(objects.Hits) < c.objects*float64(objects.Of) || p99 > c.centre || iou < c.iou {
			t.Errorf("%v: want scenes %g, objects %g, centres %g, mIoU %g", c.d, c.scene, c.objects, c.centre, c.iou)
		}
		if c.d == (data.Damage{}) {
			if k := count(t, tot, "caption"); k.Hits != k.Of {
				t.Errorf("clean: %v", k)
			}
			if k := count(t, tot, "abstained"); k.Hits != 0 {
				t.Errorf("clean: %v", k)
			}
		}
		if c.d.Noise == 0.2 { // what it can't see it does not claim
			if k := count(t, tot, "abstained"); k.Hits < k.Of*9/10 {
				t.Errorf("%v: %v", c.d, k)
			}
		}
	}
	for _, other := range []*Set{New16(data.DefaultSeed), NewGlyphs(data.DefaultSeed)} {
		for _, d := range []data.Damage{{}, {Noise: 0.05}} {
			if tot := judge(t, other, d, 200); tot.OK != 200 {
				t.Errorf("%s, %v: %d of %d right", other.Name(), d, tot.OK, tot.Items)
			}
		}
	}
	for _, o := range []Options{{Size: 64}, {Size: 128}, {Texture: TextureBackground}, {Texture: TextureObjects}} {
		v, err := set.With(o)
		if err != nil {
			t.Fatal(err)
		}
		if tot := judge(t, v, data.Damage{}, 100); tot.OK != 100 {
			t.Errorf("%+v: %d of %d right", o, tot.OK, tot.Items)
		}
	}
}

// Labels by their definition, with the angle itself.
func TestLabelMap(t *testing.T) {
	m := data.Noisy(New(4).At(data.Ref, 3).Image(), 0.15, data.FromKey(1))
	got := LabelMap(m)
	seen := map[uint8]bool{}
	for i := range got {
		v := [3]float64{float64(m.Pix[3*i]), float64(m.Pix[3*i+1]), float64(m.Pix[3*i+2])}
		chroma := func(v [3]float64) [3]float64 {
			mean := (v[0] + v[1] + v[2]) / 3
			return [3]float64{v[0] - mean, v[1] - mean, v[2] - mean}
		}
		dot := func(a, b [3]float64) float64 { return a[0]*b[0] + a[1]*b[1] + a[2]*b[2] }
		p := chroma(v)
		want, best := uint8(0), 0.8
		for c := 1; c <= Colors; c++ {
			rgb := Color(c).RGB()
			u := chroma([3]float64{float64(rgb[0]), float64(rgb[1]), float64(rgb[2])})
			if cos := dot(p, u) / math.Sqrt(dot(p, p)*dot(u, u)); cos > best {
				best, want = cos, 0
				if dot(p, u)/dot(u, u) >= 0.5 {
					want = uint8(c)
				}
			}
		}
		if got[i] != want {
			t.Fatalf("pixel %d, %v: label %d, want %d", i, v, got[i], want)
		}
		seen[want] = true
	}
	if len(seen) < 3 {
		t.Errorf("labels %v only", seen)
	}
}

// A template's squared error, sample by sample.
func TestDistance(t *testing.T) {
	s := data.FromKey(9)
	for trial := range 400 {
		p := &patch{x0: s.Intn(10), y0: s.Intn(10), w: 8 + s.Intn(12), h: 8 + s.Intn(12)}
		p.a = make([]float64, p.w*p.h)
		for i := range p.a {
			p.a[i] = s.Float64()
			p.sum2 += p.a[i] * p.a[i]
		}
		k, r := Shape(s.Intn(Shapes)), 4.5+0.25*float64(s.Intn(19))
		cx, cy := float64(p.x0)+s.Uniform(2, float64(p.w)-2), float64(p.y0)+s.Uniform(-1, float64(p.h))
		want := 0.0
		for y := range p.h {
			for x := range p.w {
				hits := 0
				for j := range 2 {
					for i := range 2 {
						hits += bit(inside(k, float64(p.x0+x)+0.25+0.5*float64(i)-cx, float64(p.y0+y)+0.25+0.5*float64(j)-cy, r))
					}
				}
				want += math.Pow(p.a[y*p.w+x]-float64(hits)/4, 2)
			}
		}
		var f fitter
		f.counts = make([]uint8, len(p.a))
		if got := f.distance(p, k, cx, cy, r); math.Abs(got-want) > 1e-9 {
			t.Fatalf("trial %d, %v of radius %g at %g,%g: %g, want %g", trial, k, r, cx, cy, got, want)
		}
	}
}

// Every component belongs together, and nothing else does, by a flood of another kind.
func TestRegions(t *testing.T) {
	s := data.FromKey(2)
	for range 20 {
		p := &plane{n: 32, label: make([]uint8, 1024)}
		for i := range p.label {
			p.label[i] = uint8(s.Intn(3)) * uint8(1+s.Intn(2)/2)
		}
		root := make([]int, 1024)
		for i := range root {
			root[i] = i
		}
		for changed := true; changed; { // the least index spreads to its neighbours
			changed = false
			for i := range root {
				for _, j := range []int{i + 1, i + 32} {
					if j < 1024 && (j != i+1 || i%32 < 31) && p.label[i] == p.label[j] && p.label[i] > 0 && root[i] != root[j] {
						root[i] = min(root[i], root[j])
						root[j], changed = root[i], true
					}
				}
			}
		}
		size := map[int]int{}
		for i, r := range root {
			if p.label[i] > 0 {
				size[r]++
			}
		}
		want := 0
		for _, n := range size {
			want += bit(n >= minArea)
		}
		list, owner := p.regions()
		if len(list) != want {
			t.Fatalf("%d regions, want %d", len(list), want)
		}
		for _, r := range list {
			members := 0
			for i, o := range owner {
				if o == r.id {
					members++
					x, y := i%32, i/32
					if p.label[i] != r.color || size[root[i]] != r.area || x < r.box[0] || y < r.box[1] || x >= r.box[2] || y >= r.box[3] {
						t.Fatalf("pixel %d does not fit region %+v", i, r)
					}
				}
			}
			if members != r.area {
				t.Fatalf("%d pixels in region %+v", members, r)
			}
		}
	}
}

// The stricter rule abstains more often and claims nothing that the usual one does not.
func TestRules(t *testing.T) {
	usual, strict := 0, 0
	for i := range 40 {
		m := data.Noisy(New(6).At(data.Ref, i).Image(), 0.1, data.FromKey(uint64(i)))
		a, err1 := ReadBy(m, Usual)
		b, err2 := ReadBy(m, Strict)
		if err1 != nil || err2 != nil || len(a) != len(b) {
			t.Fatal(err1, err2)
		}
		for k := range a {
			usual += bit(a[k].Kind == Unknown)
			strict += bit(b[k].Kind == Unknown)
			if b[k].Kind != Unknown && (b[k].Kind != a[k].Kind || b[k].Err > 0.08 || b[k].Margin < 1.5) || a[k].Kind != Unknown && (a[k].Kind != a[k].Guess || a[k].Err > 0.16 || a[k].Margin < 1.05) {
				t.Fatalf("%+v and %+v", a[k], b[k])
			}
		}
	}
	if strict <= usual {
		t.Errorf("the strict rule abstains %d times, the usual one %d times", strict, usual)
	}
}

func TestReadNothing(t *testing.T) {
	for _, v := range []uint8{0, 128, 255} {
		m := &imageio.Image{Width: 32, Height: 32, Pix: slices.Repeat([]uint8{v}, 3072)}
		if d, err := Read(m); err != nil || len(d) != 0 {
			t.Errorf("gray %d: %v, %v", v, d, err)
		}
		if d, err := ReadGlyph(m); err != nil || d.Entity != -1 {
			t.Errorf("gray %d: %+v, %v", v, d, err)
		}
	}
}

func TestBadInput(t *testing.T) {
	img := func(w, h int) *imageio.Image { return &imageio.Image{Width: w, Height: h, Pix: make([]uint8, 3*w*h)} }
	set := New(data.DefaultSeed)
	line := func(change func(*truth)) json.RawMessage {
		it := set.At(data.Test, 0).truth()
		change(&it)
		b, _ := json.Marshal(it)
		return b
	}
	check := func(s *Set, m *imageio.Image, raw json.RawMessage) error {
		_, err := s.Check(data.Given{Pictures: []data.Picture{{Image: m}}, Truth: raw})
		return err
	}
	with := func(s *Set, o Options) error { _, err := s.With(o); return err }
	opened := func(e data.Entry, k, v string) error {
		_, err := e.Open(1, map[string]string{k: v})
		return err
	}
	source := func(arg string) error { _, err := data.Source(Entry)(arg); return err }
	_, noSplit := data.Get(data.Set[*Item](set), "tset", 0)
	_, noIndex := data.Get(data.Set[*Item](set), data.Val, 2000)
	_, small := Read(img(16, 16))
	_, odd := Read16(img(24, 24))
	_, wide := ReadGlyph(img(64, 32))
	_, noArray := set.Check(data.Given{Array: tensor.FromF32(nil, 0)})
	nan := make([]float32, 3072)
	nan[5] = float32(math.NaN())
	_, nanErr := data.ToImage("shapes", nan, 3, 32, 32, 3, 32, 32)
	for i, c := range []struct {
		err  error
		want string
	}{
		{noSplit, "did you mean test"},
		{noIndex, "val has no item 2000; want 0 to 1999"},
		{small, "16×16 pixels; the reader reads 32×32"},
		{odd, "24×24 pixels; the reader reads 16×16"},
		{wide, "64×32"},
		{noArray, "0 pictures; want one"},
		{nanErr, "value 5 of the tensor is NaN"},
		{with(set, Options{Size: 33}), "size 33; want 16, 32, 64, 128 or 256"},
		{with(set, Options{Size: 16}), "take shapes16"},
		{with(set, Options{Style: 9}), "style number 9"},
		{with(NewGlyphs(1), Options{Texture: TextureObjects}), "too fine"},
		{opened(Entry, "only", "4"), "only=4; want a number of objects, 1 to 3"},
		{opened(Entry16, "only", "2"), "1 to 1"},
		{opened(Entry, "onyl", "2"), "did you mean only"},
		{opened(Entry, "style", "grey"), "did you mean gray"},
		{opened(Entry, "texture", "rough"), "there are none, background, objects"},
		{opened(Entry, "pairs", "all"), "there are seen, unseen"},
		{opened(Entry, "size", "big"), "size=big"},
		{opened(Entry, "size", "48"), "size 48"},
		{source("test?n=0"), "at least 1"},
		{source("test?n=5000"), "test has 4000 items from 0 on"},
		{source("test-unsen"), "did you mean test-unseen"},
		{source("train?pairs=unseen"), "no item of train is left"},
		{check(set, img(32, 32), json.RawMessage("[")), "no JSON"},
		{check(New16(1), img(16, 16), line(func(*truth) {})), `of the set "shapes"`},
		{check(set, img(64, 64), line(func(*truth) {})), "64 pixels wide, its truth says 32"},
		{check(set, img(32, 32), line(func(o *truth) { o.Objects[0].Shape = "circel" })), "did you mean circle"},
		{check(set, img(32, 32), line(func(o *truth) { o.Objects[0].Color = "pink" })), `no colour "pink"`},
		{check(set, img(32, 32), line(func(o *truth) { o.Objects[0].Cx = 400 })), "inside the 32×32"},
		{check(set, img(32, 32), line(func(o *truth) { o.Objects[0].R = -1 })), "inside the 32×32"},
		{check(set, img(32, 32), line(func(o *truth) { o.Objects = nil })), "0 objects; want 1 to 3"},
		{check(set, img(32, 32), line(func(o *truth) { o.Objects[0].Shape, o.Objects[0].Glyph = "glyph", "zobbi" })), `the glyph "zobbi"`},
		{check(set, img(32, 32), line(func(o *truth) { o.Caption = "a red crcle" })), `did you mean "circle"`},
		{check(set, img(32, 32), line(func(o *truth) { o.Style = "binary" })), "no colour"},
		{check(set, img(32, 32), line(func(o *truth) { o.Texture = "object" })), "did you mean objects"},
		{check(set, img(32, 32), line(func(o *truth) { o.Background = truthBg{"stripes", 32, 0} })), "period of 0"},
		{check(set, img(32, 32), line(func(o *truth) { o.Background.Level = 300 })), "level 300"},
	} {
		if c.err == nil || !strings.Contains(c.err.Error(), c.want) || !errors.Is(c.err, imageio.ErrInput) {
			t.Errorf("case %d: %v, want an input error with %q", i, c.err, c.want)
		}
	}
	for _, f := range []func(){func() { set.At(data.Test, 4000) }, func() { set.At("tset", 0) }, func() { set.Scene(data.Test, -1) }} {
		func() {
			defer func() {
				if s, _ := recover().(string); !strings.HasPrefix(s, "shapes: t") {
					t.Errorf("panic %q", s)
				}
			}()
			f()
		}()
	}
}

// Without truth the reader says what it sees.
func TestCheckWithoutTruth(t *testing.T) {
	set := New(data.DefaultSeed)
	it := set.Only(1).At(data.Test, 0)
	c, err := set.Check(data.Given{Pictures: it.Pictures()})
	if err != nil || !c.OK || !strings.HasPrefix(c.Text, it.Objects[0].Pair().String()) {
		t.Errorf("%q: %+v, %v", it.Caption, c, err)
	}
	g := NewGlyphs(1).At(data.Test, 0)
	c, err = NewGlyphs(1).Check(data.Given{Pictures: g.Pictures()})
	if err != nil || !c.OK || !strings.Contains(c.Text, Noun(g.Objects[0].Glyph)) {
		t.Errorf("%q: %+v, %v", g.Caption, c, err)
	}
}

// BenchmarkRead prints how many times faster than the goal of 5 ms a scene it is.
func BenchmarkRead(b *testing.B) {
	set := New(1)
	imgs := make([]*imageio.Image, 64)
	for i := range imgs {
		imgs[i] = set.At(data.Test, i).Image()
	}
	start := time.Now()
	for i := range b.N {
		if _, err := Read(imgs[i%64]); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(0.005*float64(b.N)/time.Since(start).Seconds(), "x-goal")
}

func FuzzCheck(f *testing.F) {
	b, _ := json.Marshal(New(1).At(data.Test, 0).truth())
	f.Add(b)
	b, _ = json.Marshal(New(1).At(KB, 0).truth())
	f.Add(b)
	m := New(1).At(data.Test, 0).Image()
	f.Fuzz(func(t *testing.T, line []byte) {
		c, err := New(1).Check(data.Given{Pictures: []data.Picture{{Image: m}}, Truth: line})
		if err != nil && !errors.Is(err, imageio.ErrInput) {
			t.Fatal(err)
		}
		if _, err := json.Marshal(c); err != nil {
			t.Fatal(err)
		}
	})
}

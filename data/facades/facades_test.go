package facades

import (
	"encoding/json"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/data"
	"github.com/fidlab/fidlab/geom"
	"github.com/fidlab/fidlab/imageio"
)

// The hashes were made by this package; TestDrawingRules is what says that they are
// right.
func TestGoldenHashes(t *testing.T) {
	s := New(data.DefaultSeed)
	served := data.Serve(s, check)
	if len(golden) != len(splits) {
		t.Errorf("%d hashes, %d splits", len(golden), len(splits))
	}
	for _, split := range s.Splits() {
		got, err := data.Hash(t.Context(), served, split, data.GoldenItems)
		if err != nil {
			t.Fatal(err)
		}
		if got != golden[split] {
			t.Errorf("%s: %s, want %s: the generator changed; a change is a new version", split, got, golden[split])
		}
	}
}

func distance(a, b Color) float64 {
	sum := 0.0
	for i := range a {
		sum += (float64(a[i]) - float64(b[i])) * (float64(a[i]) - float64(b[i]))
	}
	return math.Sqrt(sum)
}

// What the package documentation and color.go say of the colours.
func TestColors(t *testing.T) {
	type named struct {
		kind uint8
		c    Color
	}
	all := []named{{Pavement, pavement}}
	for kind, list := range map[uint8][]Color{Wall: walls[:], Window: windows[:], Door: doors[:]} {
		for _, c := range list {
			all = append(all, named{kind, c})
		}
	}
	for _, s := range skies {
		f := Facade{Sky: s}
		for y := Origin; y < roofRows[1]; y++ {
			all = append(all, named{Sky, f.skyAt(y)})
		}
	}
	least := math.Inf(1)
	for i, a := range all {
		for _, b := range all[:i] {
			if a.kind == b.kind {
				continue
			}
			d := distance(a.c, b.c)
			least = min(least, d)
			if d <= 60 {
				t.Errorf("%v of kind %d and %v of kind %d are %.1f apart", a.c, a.kind, b.c, b.kind, d)
			}
		}
		if k := nearestKind(a.c); k != a.kind {
			t.Errorf("%v of kind %d is read as %d", a.c, a.kind, k)
		}
	}
	t.Logf("least distance of two kinds: %.1f", least)
}

// right reports whether all that can be read is right, and whether the periods can.
func right(got, want Reading) (ok bool) {
	ok = got.RoofY == want.RoofY && got.GroundY == want.GroundY && got.DoorX == want.DoorX && got.DoorW == want.DoorW
	if want.Py > 0 {
		ok = ok && got.Py == want.Py && got.PhY == want.PhY && got.WinH == want.WinH
	}
	if want.Px > 0 {
		ok = ok && got.Px == want.Px && got.PhX == want.PhX && got.WinW == want.WinW
	}
	return ok
}

// The reader makes no error: on crops, on the canvases, and on other rectangles.
func TestReader(t *testing.T) {
	s := New(data.DefaultSeed)
	rnd := rand.New(rand.NewPCG(3, 3))
	periods, doors := 0, 0
	for _, split := range s.Splits() {
		for i := range 400 {
			it := s.At(split, i)
			x, y := it.X+rnd.IntN(20)-10, it.Y+rnd.IntN(20)-10
			for _, r := range [][4]int{{it.X, it.Y, Crop, Crop}, {0, 0, Canvas, Canvas}, {x, y, 32 + rnd.IntN(40), 32 + rnd.IntN(40)}} {
				got, err := Read(it.Facade.Draw(r[0], r[1], r[2], r[3]))
				if err != nil {
					t.Fatal(err)
				}
				want := it.Facade.Expected(r[0], r[1], r[2], r[3])
				if !right(got, want) {
					t.Fatalf("%s %d, pixels %v: read %+v, want %+v of %+v", split, i, r, got, want, it.Facade)
				}
				if want.Py > 0 && want.Px > 0 {
					periods++
				}
				if want.DoorX >= 0 {
					doors++
				}
			}
			if split != data.Train && split != data.Enc && (it.X != 32 || it.Y != 32) {
				t.Fatalf("%s %d is the crop at (%d, %d)", split, i, it.X, it.Y)
			}
		}
	}
	t.Logf("of 6000 pictures %d show both periods, %d a door", periods, doors)
	if periods < 5000 || doors < 2000 {
		t.Errorf("of 6000 pictures %d show both periods, %d a door", periods, doors)
	}
}

// firstMaximum is the obvious period: the lag of the very greatest correlation of
// the sums, with the door's pixels no window.
func firstMaximum(it *Item) int {
	m, _ := Kinds(it.Image())
	columns := make([]float64, m.W)
	for i, k := range m.IDs {
		if k == Window {
			columns[i%m.W]++
		}
	}
	best, at := 0.0, 0
	for lag := 2; lag <= m.W/2; lag++ {
		if c := correlation(columns[:m.W-lag], columns[lag:]); c > best {
			best, at = c, lag
		}
	}
	return at
}

// Noise, and the obvious reader, which takes multiples of the period and is misled
// by the door.
func TestReaderUnderNoise(t *testing.T) {
	s := New(data.DefaultSeed)
	const n = 300
	for _, c := range []struct{ sigma, atLeast float64 }{{0.02, 1}, {0.05, 0.99}, {0.1, 0.7}, {0.2, 0}} {
		rnd := rand.New(rand.NewPCG(1, 9))
		ok := 0
		for i := range n {
			it := s.At(data.Test, i)
			img := it.Image()
			img.Pix = slices.Clone(img.Pix)
			for p, v := range img.Pix {
				img.Pix[p] = uint8(max(0, min(255, math.Round(float64(v)+255*c.sigma*rnd.NormFloat64()))))
			}
			got, err := Read(img)
			if err != nil {
				t.Fatal(err)
			}
			want := it.Facade.Expected(it.X, it.Y, Crop, Crop)
			if got.Py == want.Py && got.Px == want.Px && got.PhY == want.PhY && got.PhX == want.PhX {
				ok++
			}
		}
		t.Logf("noise σ = %.2f: periods and phases right in %d of %d", c.sigma, ok, n)
		if float64(ok) < c.atLeast*n {
			t.Errorf("noise σ = %.2f: periods and phases right in %d of %d", c.sigma, ok, n)
		}
	}
	wrong, asked := 0, 0
	for i := range 1000 {
		it := s.At(data.Train, i)
		want := it.Facade.Expected(it.X, it.Y, Crop, Crop)
		if want.Px > 0 && want.DoorX >= 0 {
			asked++
			if firstMaximum(it) != want.Px {
				wrong++
			}
		}
	}
	if asked < 50 || wrong < asked/3 {
		t.Errorf("the obvious period is wrong in %d of %d crops with a door: the care of Read shows nothing", wrong, asked)
	}
}

// Sample of whole pixels is Draw; of any rectangle it is the mean over its area,
// here by a fine grid of points, and four quarters have the mean of the whole.
func TestSample(t *testing.T) {
	f := New(1).At(data.Test, 5).Facade
	whole := f.Sample(geom.Rect{Y: -3, X: 10, H: 20, W: 30}, 20, 30)
	m := f.Draw(10, -3, 30, 20)
	for i := range whole {
		ch, p := i/600, i%600
		if want := float32(float64(m.Pix[3*p+ch])/127.5 - 1); whole[i] != want {
			t.Fatalf("value %d is %g, want %g", i, whole[i], want)
		}
	}
	for _, r := range []geom.Rect{{Y: -20.3, X: -11.7, H: 93.1, W: 110.6}, {Y: 30, X: 40.25, H: 3.7, W: 2.2}} {
		const h, w = 7, 5
		got := f.Sample(r, h, w)
		const n = 240
		for _, p := range [][2]int{{0, 0}, {3, 2}, {6, 4}} {
			var sum [3]float64
			for a := range n {
				for b := range n {
					y := r.Y + r.H*(float64(p[0])+(float64(a)+0.5)/n)/h
					x := r.X + r.W*(float64(p[1])+(float64(b)+0.5)/n)/w
					for ch, v := range f.At(int(math.Floor(x)), int(math.Floor(y))) {
						sum[ch] += float64(v) / (n * n)
					}
				}
			}
			for ch, v := range sum {
				if d := math.Abs(float64(got[(ch*h+p[0])*w+p[1]]) - (v/127.5 - 1)); d > 0.02 { // the grid's own error: an edge of n points of n²
					t.Errorf("%v: pixel %v, channel %d is off by %g", r, p, ch, d)
				}
			}
		}
		fine := f.Sample(r, 2*h, 2*w)
		for i := range got {
			ch, y, x := i/(h*w), i/w%h, i%w
			at := func(dy, dx int) float64 { return float64(fine[(ch*2*h+2*y+dy)*2*w+2*x+dx]) }
			if d := math.Abs(float64(got[i]) - (at(0, 0)+at(0, 1)+at(1, 0)+at(1, 1))/4); d > 1e-6 {
				t.Errorf("%v: value %d differs from its quarters by %g", r, i, d)
			}
		}
	}
	for name, f := range map[string]func(){
		"no height": func() { f.Sample(geom.Rect{W: 1}, 1, 1) }, "NaN": func() { f.Sample(geom.Rect{Y: math.NaN(), H: 1, W: 1}, 1, 1) },
		"no pixels": func() { f.Sample(geom.Rect{H: 1, W: 1}, 0, 1) }, "Draw": func() { f.Draw(0, 0, 0, 1) },
	} {
		func() {
			defer func() {
				if s, ok := recover().(string); !ok || !strings.HasPrefix(s, "facades: ") {
					t.Errorf("%s: panic %q", name, s)
				}
			}()
			f()
		}()
	}
}

// No facade and no crop is in two splits, and no two items share their draws.
func TestSplitsAreApart(t *testing.T) {
	s := New(data.DefaultSeed)
	total := 0
	seen := map[[3]uint64]string{}
	facades := map[Facade]data.Split{}
	crops := map[string]data.Split{}
	for _, split := range s.Splits() {
		for i := range s.Len(split) {
			r := data.NewStream(name, split, version, s.seed, uint64(i))
			k := [3]uint64{r.Uint64(), r.Uint64(), r.Uint64()}
			if was := seen[k]; was != "" {
				t.Fatalf("%s %d has the draws of one of %s", split, i, was)
			}
			seen[k] = string(split)
			it := s.At(split, i)
			if was, ok := facades[it.Facade]; ok && was != split {
				t.Fatalf("%s %d is a facade of %s", split, i, was)
			}
			facades[it.Facade] = split
			if was, ok := crops[string(it.Pix)]; ok && was != split {
				t.Fatalf("%s %d is a crop of %s", split, i, was)
			}
			crops[string(it.Pix)] = split
			total++
		}
	}
	if total != 34596 {
		t.Errorf("%d items in all splits, want 34596", total)
	}
	t.Logf("%d facades, %d crops in %d items", len(facades), len(crops), total)
}

func TestCheck(t *testing.T) {
	s := New(data.DefaultSeed)
	served := data.Serve(s, check)
	for i := range 200 {
		it := s.At(data.Train, i)
		g, err := data.Give(it)
		if err != nil {
			t.Fatal(err)
		}
		c, err := served.Check(g)
		if err != nil || !c.OK {
			t.Fatalf("item %d: %+v, %v", i, c, err)
		}
		g.Pictures = s.At(data.Train, i+1).Pictures()
		if c, err := served.Check(g); err != nil || c.OK {
			t.Errorf("item %d: the next item's picture passes: %+v, %v", i, c, err)
		}
	}
	it := s.At(data.Test, 0)
	x, c, h, w := it.Tensor()
	if c != 3 || h != 32 || w != 32 || x[1024+37] != float32(float64(it.Pix[3*37+1])/127.5-1) {
		t.Errorf("tensor [%d, %d, %d]", c, h, w)
	}
	if p := it.Pictures(); len(p) != 2 || p[1].Name != "canvas" || p[1].Image.Width != 96 || !slices.Equal(p[1].Image.Pix[3*(32*96+32):][:96], it.Pix[:96]) {
		t.Error("the canvas does not hold the crop")
	}
	g, _ := data.Give(it)
	pic := func(w, h, n int) []data.Picture {
		return []data.Picture{{Image: &imageio.Image{Width: w, Height: h, Pix: make([]uint8, n)}}}
	}
	truth := func(change func(t *Truth)) json.RawMessage {
		o := it.Truth().(Truth)
		change(&o)
		b, err := json.Marshal(o)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	for want, g := range map[string]data.Given{
		"no picture":       {Truth: g.Truth},
		"no picture; want": {Truth: g.Truth, Pictures: []data.Picture{{}}},
		"33×32":            {Truth: g.Truth, Pictures: pic(33, 32, 3*33*32)},
		"three channels":   {Truth: g.Truth, Pictures: pic(32, 32, 32*32)},
		"truth: json":      {Truth: json.RawMessage(`[]`), Pictures: g.Pictures},
		`set "city"`:       {Truth: truth(func(t *Truth) { t.Set = "city" }), Pictures: g.Pictures},
		"storeys of 9":     {Truth: truth(func(t *Truth) { t.Py = 9 }), Pictures: g.Pictures},
		"at scale 0":       {Truth: truth(func(t *Truth) { t.Scale = 0 }), Pictures: g.Pictures},
		"windows of":       {Truth: truth(func(t *Truth) { t.WinW = t.Px }), Pictures: g.Pictures},
		"boundaries":       {Truth: truth(func(t *Truth) { t.RoofY++ }), Pictures: g.Pictures},
		"the roof above":   {Truth: truth(func(t *Truth) { t.RoofY = t.GroundY }), Pictures: g.Pictures},
	} {
		if _, err := served.Check(g); err == nil || !strings.Contains(err.Error(), want) || !errors.Is(err, imageio.ErrInput) {
			t.Errorf("error %v, want an input error with %q", err, want)
		}
	}
	for want, img := range map[string]*imageio.Image{"no picture": nil, "15×40": pic(15, 40, 1800)[0].Image, "40×1025": pic(40, 1025, 0)[0].Image, "bytes": pic(32, 32, 7)[0].Image} {
		if _, err := Read(img); err == nil || !strings.Contains(err.Error(), want) || !errors.Is(err, imageio.ErrInput) {
			t.Errorf("error %v, want an input error with %q", err, want)
		}
	}
	if _, err := Entry.Open(1, map[string]string{"size": "64"}); err == nil || !errors.Is(err, imageio.ErrInput) {
		t.Errorf("option: %v", err)
	}
	if _, err := data.Get[*Item](s, data.Val, 500); err == nil {
		t.Error("item 500 of val: no error")
	}
	// Pictures without anything to read.
	gray := &imageio.Image{Width: 32, Height: 32, Pix: slices.Repeat([]uint8{95, 95, 100}, 1024)}
	if r, err := Read(gray); err != nil || r != (Reading{RoofY: -1, GroundY: 0, DoorX: -1}) {
		t.Errorf("pavement alone: %+v, %v", r, err)
	}
	blank := &imageio.Image{Width: 32, Height: 32, Pix: slices.Repeat([]uint8{185, 170, 150}, 1024)}
	if r, err := Read(blank); err != nil || r != (Reading{RoofY: -1, GroundY: -1, DoorX: -1}) {
		t.Errorf("a blank wall: %+v, %v", r, err)
	}
}

func BenchmarkRead(b *testing.B) {
	img := New(1).At(data.Test, 0).Image()
	for b.Loop() {
		if _, err := Read(img); err != nil {
			b.Fatal(err)
		}
	}
}

package label_test

import (
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/imageio"
	"github.com/fidlab/fidlab/imageio/label"
)

func randomMap(r *rand.Rand, w, h, k int) *label.Map {
	m := label.New(w, h)
	for i := range m.IDs {
		m.IDs[i] = uint8(r.IntN(k))
	}
	return m
}

func randomField(r *rand.Rand, w, h int) *label.Field {
	f := label.NewField(w, h)
	for i := range f.V {
		f.V[i] = r.Float32()
	}
	return f
}

func wantPanic(t *testing.T, name string, f func()) {
	t.Helper()
	defer func() {
		if s, ok := recover().(string); !ok || !strings.HasPrefix(s, "label: ") {
			t.Errorf("%s: panic %q, want one of label", name, s)
		}
	}()
	f()
}

func TestPalette(t *testing.T) {
	p := label.Palette{{"grass", [3]uint8{0, 200, 0}}, {"road", [3]uint8{90, 90, 90}}, {"house", [3]uint8{200, 30, 30}}}
	m := randomMap(rand.New(rand.NewPCG(1, 1)), 7, 5, 3)
	img, err := p.Picture(m)
	if err != nil {
		t.Fatal(err)
	}
	back, err := p.Read(img)
	if err != nil || !slices.Equal(back.IDs, m.IDs) || back.W != 7 || back.H != 5 {
		t.Fatalf("a map comes back as %v, %v", back, err)
	}
	if c := img.Pix[3*9:][:3]; !slices.Equal(c, p[m.IDs[9]].Color[:]) {
		t.Errorf("pixel 9 of class %d is %v", m.IDs[9], c)
	}
	for i := range img.Pix { // at most 11 off: still nearest to its own colour
		img.Pix[i] = uint8(min(255, int(img.Pix[i])+11*(i%2)))
	}
	if n := p.Nearest(img); !slices.Equal(n.IDs, m.IDs) {
		t.Errorf("nearest: %v, want %v", n.IDs, m.IDs)
	}
	odd := &imageio.Image{Width: 3, Height: 1, Pix: []uint8{1, 2, 3, 90, 90, 90, 1, 2, 3}}
	if _, err := p.Read(odd); err == nil || !strings.Contains(err.Error(), "#010203 (2 pixels)") || !strings.Contains(err.Error(), "house #c81e1e") {
		t.Errorf("unknown colours: %v", err)
	}
	m.IDs[8] = 3
	if _, err := p.Picture(m); err == nil || !strings.Contains(err.Error(), "class 3 at pixel (1, 1)") {
		t.Errorf("class beyond the palette: %v", err)
	}
	for want, bad := range map[string]label.Palette{
		"0 classes": nil, "257 classes": make(label.Palette, 257), "colour #010101": {{"a", [3]uint8{1, 1, 1}}, {"b", [3]uint8{1, 1, 1}}},
		`called "a"`: {{"a", [3]uint8{1, 1, 1}}, {"a", [3]uint8{1, 1, 2}}},
	} {
		if err := bad.Check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("palette: error %v, want one with %q", err, want)
		}
	}
	wantPanic(t, "Nearest", func() { label.Palette(nil).Nearest(odd) })
}

func TestJoin(t *testing.T) {
	mask := func(at ...int) *label.Map {
		m := label.New(4, 2)
		for _, i := range at {
			m.IDs[i] = 7
		}
		return m
	}
	m, err := label.Join([]*label.Map{mask(0, 1), mask(5), mask(7, 6)}, 0)
	if err != nil || !slices.Equal(m.IDs, []uint8{1, 1, 0, 0, 0, 2, 3, 3}) {
		t.Errorf("joined: %v, %v", m, err)
	}
	if got := m.Mask(3); !slices.Equal(got.IDs, []uint8{0, 0, 0, 0, 0, 0, 1, 1}) || m.Classes() != 4 {
		t.Errorf("mask of class 3: %v; %d classes", got.IDs, m.Classes())
	}
	for _, c := range []struct {
		masks []*label.Map
		area  int
		want  string
	}{
		{nil, 0, "0 masks"},
		{make([]*label.Map, 256), 0, "256 masks"},
		{[]*label.Map{mask(1, 2), mask(3, 2)}, 0, "masks 0 and 1 overlap at pixel (2, 0)"},
		{[]*label.Map{mask(1), mask()}, 0, "mask 1 has 0 pixels"},
		{[]*label.Map{mask(1, 2), mask(3)}, 2, "want at least 2"},
		{[]*label.Map{mask(1), label.New(2, 4)}, 0, "one size"},
	} {
		if _, err := label.Join(c.masks, c.area); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("join: error %v, want one with %q", err, c.want)
		}
	}
}

func TestOneHotAndShares(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 1))
	m := randomMap(r, 6, 4, 3)
	x, err := m.OneHot(3)
	if err != nil {
		t.Fatal(err)
	}
	for i, v := range m.IDs {
		for c := range 3 {
			if (x[c*24+i] == 1) != (int(v) == c) {
				t.Fatalf("pixel %d of class %d has %g in plane %d", i, v, x[c*24+i], c)
			}
		}
	}
	x, err = m.Shares(3, 3, 2)
	if err != nil || len(x) != 18 {
		t.Fatal(len(x), err)
	}
	for c := range 3 {
		for y := range 2 {
			for px := range 3 {
				n := 0
				for k := range 4 {
					if m.At(2*px+k%2, 2*y+k/2) == uint8(c) {
						n++
					}
				}
				if got := x[c*6+y*3+px]; got != float32(n)/4 {
					t.Errorf("class %d in (%d, %d): share %g, want %d/4", c, px, y, got, n)
				}
			}
		}
	}
	if _, err := m.OneHot(2); err == nil || !strings.Contains(err.Error(), "with 2 planes") {
		t.Errorf("too few planes: %v", err)
	}
	if _, err := m.Shares(0, 3, 2); err == nil {
		t.Error("no planes: no error")
	}
}

// Area by its definition: the overlap of every old pixel with every new one.
func TestArea(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 1))
	for _, c := range [][4]int{{6, 4, 3, 2}, {7, 5, 3, 2}, {5, 3, 8, 7}, {4, 4, 4, 4}, {1, 1, 3, 2}, {9, 2, 1, 1}, {32, 32, 12, 20}} {
		f := randomField(r, c[0], c[1])
		got := f.Area(c[2], c[3])
		overlap := func(i, to, j, from int) float64 { // shares of new pixel i's length in old pixel j
			a, b := float64(i)*float64(from)/float64(to), float64(i+1)*float64(from)/float64(to)
			return max(0, min(b, float64(j+1))-max(a, float64(j))) / (b - a)
		}
		for y := range c[3] {
			for x := range c[2] {
				want := 0.0
				for j := range c[1] {
					for i := range c[0] {
						want += overlap(y, c[3], j, c[1]) * overlap(x, c[2], i, c[0]) * float64(f.V[j*c[0]+i])
					}
				}
				if d := math.Abs(float64(got.V[y*c[2]+x]) - want); d > 1e-7 {
					t.Errorf("%v: (%d, %d) is %g, want %g", c, x, y, got.V[y*c[2]+x], want)
				}
			}
		}
	}
}

func TestResizeNearest(t *testing.T) {
	r := rand.New(rand.NewPCG(4, 1))
	for _, c := range [][4]int{{6, 4, 3, 2}, {7, 5, 3, 2}, {5, 3, 8, 7}, {3, 3, 3, 3}, {1, 1, 4, 4}} {
		m := randomMap(r, c[0], c[1], 200)
		got := m.Resize(c[2], c[3])
		for y := range c[3] {
			for x := range c[2] {
				sx := int(math.Floor((float64(x) + 0.5) * float64(c[0]) / float64(c[2])))
				sy := int(math.Floor((float64(y) + 0.5) * float64(c[1]) / float64(c[3])))
				if got.At(x, y) != m.At(sx, sy) {
					t.Errorf("%v: (%d, %d) is %d, want %d of (%d, %d)", c, x, y, got.At(x, y), m.At(sx, sy), sx, sy)
				}
			}
		}
	}
}

// The oracle of components is reachability, by repeated spreading.
func TestComponents(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 1))
	for k := range 400 {
		eight := k%2 == 0
		m := randomMap(r, 1+r.IntN(9), 1+r.IntN(9), 3)
		regions, of := label.ComponentMap(m, eight)
		first := make([]int, len(m.IDs))
		for i := range first {
			first[i] = i
		}
		for changed := true; changed; {
			changed = false
			for i := range first {
				for j := range first {
					dx, dy := i%m.W-j%m.W, i/m.W-j/m.W
					near := dx*dx+dy*dy == 1 || eight && dx*dx+dy*dy == 2
					if near && m.IDs[i] == m.IDs[j] && first[j] < first[i] {
						first[i], changed = first[j], true
					}
				}
			}
		}
		at := -1
		for i, v := range m.IDs {
			if v == 0 {
				if of[i] != -1 {
					t.Fatalf("background pixel %d is in region %d", i, of[i])
				}
				continue
			}
			if of[i] != of[first[i]] {
				t.Fatalf("%v: pixels %d and %d are connected, their regions are %d and %d", m, i, first[i], of[i], of[first[i]])
			}
			if first[i] == i {
				at++
				if int(of[i]) != at {
					t.Fatalf("region %d begins at pixel %d, want region %d", of[i], i, at)
				}
				// The region's numbers, summed anew.
				want := label.Region{ID: v, Box: [4]int{m.W, m.H, 0, 0}}
				for j := range first {
					if first[j] == i {
						x, y := j%m.W, j/m.W
						want.Area++
						want.CX += float64(x) + 0.5
						want.CY += float64(y) + 0.5
						want.Box = [4]int{min(want.Box[0], x), min(want.Box[1], y), max(want.Box[2], x+1), max(want.Box[3], y+1)}
					}
				}
				want.CX /= float64(want.Area)
				want.CY /= float64(want.Area)
				if got := regions[at]; got.ID != want.ID || got.Area != want.Area || got.Box != want.Box || math.Abs(got.CX-want.CX)+math.Abs(got.CY-want.CY) > 1e-12 {
					t.Fatalf("region %+v, want %+v", got, want)
				}
			}
		}
		if len(regions) != at+1 {
			t.Fatalf("%d regions, want %d", len(regions), at+1)
		}
	}
	m := &label.Map{W: 3, H: 2, IDs: []uint8{2, 0, 2, 0, 1, 0}}
	got := m.Regions()
	if len(got) != 2 || got[0] != (label.Region{ID: 1, Area: 1, Box: [4]int{1, 1, 2, 2}, CX: 1.5, CY: 1.5}) || got[1] != (label.Region{ID: 2, Area: 2, Box: [4]int{0, 0, 3, 1}, CX: 1.5, CY: 0.5}) {
		t.Errorf("regions %+v", got)
	}
	if len(label.Components(m, false)) != 3 || len(label.Components(m, true)) != 3 { // corners join equal classes only
		t.Errorf("components %+v", label.Components(m, true))
	}
}

// Dilation by its definition.
func TestDilate(t *testing.T) {
	r := rand.New(rand.NewPCG(6, 1))
	for range 200 {
		m := randomMap(r, 1+r.IntN(12), 1+r.IntN(12), 9)
		for i, v := range m.IDs {
			if v < 7 {
				m.IDs[i] = 0
			}
		}
		radius := r.IntN(4)
		for _, s := range []label.Shape{label.Square, label.Disc} {
			got := label.Dilate(m, s, radius)
			for i := range m.IDs {
				want := uint8(0)
				for j, v := range m.IDs {
					dx, dy := i%m.W-j%m.W, i/m.W-j/m.W
					in := max(dx, -dx, dy, -dy) <= radius
					if s == label.Disc {
						in = dx*dx+dy*dy <= radius*radius
					}
					if v != 0 && in {
						want = 1
					}
				}
				if got.IDs[i] != want {
					t.Fatalf("shape %d, radius %d, map %v: pixel %d is %d, want %d", s, radius, m, i, got.IDs[i], want)
				}
			}
		}
	}
	wantPanic(t, "Dilate", func() { label.Dilate(label.New(1, 1), label.Disc, -1) })
}

// mirrored reads a field beyond its borders by walking there and back.
func mirrored(f *label.Field, x, y int) float64 {
	walk := func(i, n int) int {
		for i < 0 || i >= n {
			if i < 0 {
				i = -1 - i
			} else {
				i = 2*n - 1 - i
			}
		}
		return i
	}
	return float64(f.V[walk(y, f.H)*f.W+walk(x, f.W)])
}

// Blur as one sum over the plane, in float64.
func TestBlur(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 1))
	for _, c := range []struct {
		w, h  int
		sigma float64
	}{{9, 7, 1}, {5, 12, 0.6}, {3, 2, 2.3}, {1, 4, 1}} {
		f := randomField(r, c.w, c.h)
		got := f.Blur(c.sigma)
		radius := int(math.Floor(4*c.sigma + 0.5))
		for y := range c.h {
			for x := range c.w {
				sum, all := 0.0, 0.0
				for dy := -radius; dy <= radius; dy++ {
					for dx := -radius; dx <= radius; dx++ {
						g := math.Exp(-float64(dx*dx+dy*dy) / (2 * c.sigma * c.sigma))
						sum += g * mirrored(f, x+dx, y+dy)
						all += g
					}
				}
				if d := math.Abs(float64(got.V[y*c.w+x]) - sum/all); d > 1e-7 {
					t.Errorf("%+v: (%d, %d) is %g, want %g", c, x, y, got.V[y*c.w+x], sum/all)
				}
			}
		}
	}
	f := randomField(r, 4, 4)
	if same := f.Blur(0); !slices.Equal(same.V, f.V) || &same.V[0] == &f.V[0] {
		t.Error("blur of σ = 0 is no copy")
	}
	for _, s := range []float64{-1, math.NaN(), math.Inf(1)} {
		wantPanic(t, "Blur", func() { f.Blur(s) })
	}
}

func TestSobel(t *testing.T) {
	r := rand.New(rand.NewPCG(8, 1))
	f := randomField(r, 6, 5)
	gx, gy := f.Sobel()
	length := f.Gradient()
	for y := range 5 {
		for x := range 6 {
			var wx, wy float64
			for k := -1; k <= 1; k++ {
				s := float64(2 - k*k)
				wx += s * (mirrored(f, x+1, y+k) - mirrored(f, x-1, y+k))
				wy += s * (mirrored(f, x+k, y+1) - mirrored(f, x+k, y-1))
			}
			i := y*6 + x
			if math.Abs(float64(gx.V[i])-wx) > 1e-6 || math.Abs(float64(gy.V[i])-wy) > 1e-6 || math.Abs(float64(length.V[i])-math.Sqrt(wx*wx+wy*wy)) > 1e-6 {
				t.Errorf("(%d, %d): gradient (%g, %g), length %g; want (%g, %g)", x, y, gx.V[i], gy.V[i], length.V[i], wx, wy)
			}
		}
	}
	ramp := label.NewField(5, 5)
	for i := range ramp.V {
		ramp.V[i] = float32(i%5) - 2*float32(i/5)
	}
	if gx, gy := ramp.Sobel(); gx.V[12] != 8 || gy.V[12] != -16 {
		t.Errorf("a ramp of slopes 1 and -2 gives %g and %g, want 8 and -16", gx.V[12], gy.V[12])
	}
}

// Otsu against the variance between classes of the values themselves, which are
// multiples of 1/255 and so one to a bin.
func TestOtsu(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 1))
	for range 200 {
		f := label.NewField(8, 8)
		for i := range f.V {
			level := 40 + r.IntN(60)
			if r.IntN(3) == 0 {
				level = 130 + r.IntN(100)
			}
			f.V[i] = float32(level) / 255
		}
		f.V[0], f.V[1] = 0, 1
		got, err := f.Otsu()
		if err != nil {
			t.Fatal(err)
		}
		between := func(t float32) float64 {
			var n, s [2]float64
			for _, v := range f.V {
				k := 0
				if v > t {
					k = 1
				}
				n[k]++
				s[k] += float64(v)
			}
			d := s[0]/n[0] - s[1]/n[1]
			return n[0] * n[1] * d * d
		}
		best := 0.0
		for _, v := range f.V {
			if v < 1 {
				best = max(best, between(v))
			}
		}
		// A bin's middle stands for its value: off by half a bin at most.
		if b := between(got); b < best*(1-0.01) {
			t.Fatalf("threshold %g: variance %g, the best is %g", got, b, best)
		}
		if !slices.Contains(f.V, got) {
			t.Fatalf("threshold %g is no value of the field", got)
		}
	}
	two := &label.Field{W: 2, H: 2, V: []float32{3, 5, 5, 3}}
	if v, err := two.Otsu(); err != nil || v != 3 || !slices.Equal(two.Over(v).IDs, []uint8{0, 1, 1, 0}) {
		t.Errorf("two values: threshold %g, %v", v, err)
	}
	for want, v := range map[string][]float32{"want two values": {2, 2}, "value 1 is NaN": {1, float32(math.NaN())}, "value 0 is +Inf": {float32(math.Inf(1)), 0}} {
		if _, err := (&label.Field{W: 2, H: 1, V: v}).Otsu(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: error %v, want one with %q", v, err, want)
		}
	}
}

func TestBadSizes(t *testing.T) {
	bad := &label.Map{W: 3, H: 2, IDs: make([]uint8, 5)}
	field := &label.Field{W: 3, H: 2, V: make([]float32, 7)}
	for name, f := range map[string]func(){
		"New": func() { label.New(0, 1) }, "NewField": func() { label.NewField(1, 0) }, "Mask": func() { bad.Mask(1) },
		"Resize": func() { bad.Resize(1, 1) }, "Resize to nothing": func() { label.New(2, 2).Resize(0, 2) }, "Components": func() { label.Components(bad, true) },
		"Regions": func() { bad.Regions() }, "Field": func() { bad.Field() }, "Area": func() { field.Area(1, 1) }, "Blur": func() { field.Blur(1) },
		"Sobel": func() { field.Sobel() }, "Over": func() { field.Over(1) },
	} {
		wantPanic(t, name, f)
	}
}

func BenchmarkComponents(b *testing.B) {
	m := randomMap(rand.New(rand.NewPCG(1, 1)), 256, 256, 2)
	b.SetBytes(int64(len(m.IDs)))
	for b.Loop() {
		label.Components(m, false)
	}
}

// The nearest colour of values: that of the picture they are of, and beyond its levels too.
func TestNearestOf(t *testing.T) {
	p := label.Palette{{Name: "a"}, {Name: "b", Color: [3]uint8{255, 0, 0}}, {Name: "c", Color: [3]uint8{40, 200, 90}}}
	r := rand.New(rand.NewPCG(3, 4))
	img := &imageio.Image{Width: 7, Height: 5, Pix: make([]uint8, 3*35)}
	v := make([]float32, 3*35)
	for i := range img.Pix {
		img.Pix[i] = uint8(r.IntN(256))
		v[i%3*35+i/3] = float32(img.Pix[i])/127.5 - 1
	}
	want, got := p.Nearest(img), p.NearestOf(v, 7, 5)
	if !slices.Equal(got.IDs, want.IDs) || got.W != 7 || got.H != 5 {
		t.Errorf("%v, want %v", got.IDs, want.IDs)
	}
	nan := float32(math.NaN())
	if got := p.NearestOf([]float32{9, -3, nan, -1, 9, 0, -1, -3, 0}, 3, 1); !slices.Equal(got.IDs, []uint8{1, 2, 0}) {
		t.Errorf("%v, want 1 2 0", got.IDs)
	}
}

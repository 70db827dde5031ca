package street

import (
	"encoding/json"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/data"
	"github.com/fidlab/fidlab/imageio"
	"github.com/fidlab/fidlab/imageio/label"
)

// Colours of different classes are farther apart than twice what a texture adds, so
// that the reader cannot err; the texture itself has all its values.
func TestColorsAreApart(t *testing.T) {
	for n, all := range surfaces {
		least := math.Inf(1)
		for i, a := range all {
			for _, b := range all[:i] {
				if a.cls != b.cls {
					least = min(least, distance(a.color, b.color))
				}
			}
			for _, h := range []int{16, 32, 64} {
				for y := range h {
					sky := skyColor(y, h, n == 1)
					least = min(least, distance(a.color, [3]int{int(sky[0]), int(sky[1]), int(sky[2])}))
				}
			}
		}
		t.Logf("least distance of two classes, night %v: %.1f", n == 1, least)
		if least <= 2*math.Sqrt(3)*roughness {
			t.Errorf("night %v: two classes are %.1f apart; the texture needs more than %.1f", n == 1, least, 2*math.Sqrt(3)*roughness)
		}
	}
	count := map[int]int{}
	for k := range uint64(30000) {
		for _, v := range texture(7, k) {
			count[v]++
		}
	}
	for v := -4; v <= 4; v++ {
		if d := math.Abs(float64(count[v])-10000) / math.Sqrt(90000*8/81.0); d > 5 {
			t.Errorf("texture %d came %d times of 90000", v, count[v])
		}
	}
	if len(count) != 9 {
		t.Errorf("the texture has %d values, want 9", len(count))
	}
}

func distance(a, b [3]int) float64 {
	sum := 0.0
	for i := range a {
		sum += float64((a[i] - b[i]) * (a[i] - b[i]))
	}
	return math.Sqrt(sum)
}

// A colour by its formula in float64.
func TestSurface(t *testing.T) {
	for cls := Car; cls < Classes; cls++ {
		for tint := range uint8(tints) {
			for shade, s := range []float64{1, 0.85, 0.7} {
				for n, g := range []float64{1, 0.45} {
					got := surface(cls, tint, shade, n == 1)
					for ch := range got {
						want := float64(palette[cls][ch]) * s * g
						if cls <= Truck {
							want *= float64(bodyTints[tint][ch]) / 255
						}
						if math.Abs(float64(got[ch])-want) > 0.5+1e-9 {
							t.Errorf("class %d, tint %d, shade %d, light %g: %v, want %g", cls, tint, shade, g, got, want)
						}
					}
				}
			}
		}
	}
	top, low := skyColor(0, 1000, false), skyColor(999, 1000, false)
	for ch := range 3 {
		if math.Abs(float64(top[ch])-float64(palette[Empty][ch])) > 1 || math.Abs(float64(low[ch])-float64(skyLow[ch])) > 1 {
			t.Errorf("sky from %v to %v", top, low)
		}
	}
	if shadeOf(2) != 0 || shadeOf(0) != 1 || shadeOf(1) != 2 {
		t.Error("shades: top 1, across x 0.85, across y 0.7")
	}
}

// noisy adds Gaussian noise of a standard deviation on the scale 0 to 1.
func noisy(m *imageio.Image, sigma float64, r *rand.Rand) *imageio.Image {
	o := &imageio.Image{Width: m.Width, Height: m.Height, Pix: make([]uint8, len(m.Pix))}
	for i, v := range m.Pix {
		o.Pix[i] = uint8(max(0, min(255, math.Round(float64(v)+255*sigma*r.NormFloat64()))))
	}
	return o
}

// The reader makes no error on clean pictures. How noise wears it down is logged;
// the limits below are those of the least distance, 30 at night.
func TestReader(t *testing.T) {
	s := newSet(t, Options{})
	for i := range 250 {
		f := s.At(data.Test, i)
		for v := range f.Views {
			cls, night, err := Read(f.Views[v].Image())
			if err != nil || night != f.Night || !slices.Equal(cls.IDs, f.Views[v].Cls.IDs) {
				t.Fatalf("frame %d, %s: misread (night %v, %v)", i, ViewNames[v], night, err)
			}
		}
	}
	r := rand.New(rand.NewPCG(1, 2))
	for _, c := range []struct{ sigma, fore, back float64 }{{0.01, 0.999, 0.999}, {0.02, 0.97, 0.99}, {0.05, 0.55, 0.75}, {0.1, 0, 0}} {
		var o Overlap
		light := 0
		for i := range 100 {
			f := s.At(data.Test, i)
			for v := range f.Views {
				cls, night, err := Read(noisy(f.Views[v].Image(), c.sigma, r))
				if err != nil {
					t.Fatal(err)
				}
				if night != f.Night {
					light++
				}
				o.Add(cls, f.Views[v].Cls)
			}
		}
		t.Logf("noise σ = %.2f: mIoU foreground %.3f, background %.3f, light wrong in %d of 400 views", c.sigma, o.Foreground(), o.Background(), light)
		if o.Foreground() < c.fore || o.Background() < c.back || light > 0 {
			t.Errorf("noise σ = %.2f: mIoU foreground %.3f, background %.3f, light wrong in %d", c.sigma, o.Foreground(), o.Background(), light)
		}
	}
	big := newSet(t, Options{Scale: 4})
	for i := range 8 {
		f := big.At(data.Test, i)
		for v := range f.Views {
			if cls, _, err := Read(f.Views[v].Image()); err != nil || !slices.Equal(cls.IDs, f.Views[v].Cls.IDs) {
				t.Fatalf("scale 4, frame %d, %s: misread", i, ViewNames[v])
			}
		}
	}
	// The naive reader, which takes day for granted, fails at night.
	var o Overlap
	for i := range 60 {
		f := s.At(data.Test, i)
		if f.Night {
			m, _ := read(f.Views[0].Image(), false)
			o.Add(m, f.Views[0].Cls)
		}
	}
	if o.Background() > 0.5 {
		t.Errorf("a reader that knows no night reads it with mIoU %.3f: this test shows nothing", o.Background())
	}
}

func TestOverlap(t *testing.T) {
	var o Overlap
	if o.Foreground() != 1 {
		t.Error("no pixels: want 1")
	}
	o.Add(&label.Map{W: 4, H: 1, IDs: []uint8{Car, Car, Road, Empty}}, &label.Map{W: 4, H: 1, IDs: []uint8{Car, Truck, Road, Road}})
	if got, want := o.Foreground(), (0.5+0)/2; got != want {
		t.Errorf("foreground %g, want %g", got, want)
	}
	if got := o.Background(); got != 0.5 {
		t.Errorf("background %g, want 0.5", got)
	}
}

func TestRecalls(t *testing.T) {
	s := newSet(t, Options{})
	sizesSeen := [Sizes]int{}
	for i := range 50 {
		f := s.At(data.Test, i)
		for v := range f.Views {
			truth := f.Views[v].Cls
			for _, r := range f.Recalls(v, truth) {
				n := visible(&f.Views[v], r.Inst)
				if r.Share != 1 || r.Size != map[bool]int{true: Small, false: map[bool]int{true: Medium, false: Large}[n <= 32]}[n < 8] {
					t.Fatalf("frame %d, %s: %+v for %d pixels", i, ViewNames[v], r, n)
				}
				sizesSeen[r.Size]++
			}
			for _, r := range f.Recalls(v, label.New(Columns, Rows)) {
				if r.Share != 0 {
					t.Fatalf("an empty map: %+v", r)
				}
			}
		}
	}
	for k, n := range sizesSeen {
		if n < 10 {
			t.Errorf("only %d boxes of %s", n, SizeNames[k])
		}
	}
	t.Logf("boxes in views by size: %v", sizesSeen)
}

func TestSeams(t *testing.T) {
	s := newSet(t, Options{})
	truth, shuffled := 0.0, 0.0
	const n = 100
	for i := range n {
		var a, b [Views]*label.Map
		for v := range a {
			a[v] = s.At(data.Ref, i).Views[v].Cls
			b[v] = s.At(data.Ref, i+v*n).Views[v].Cls
		}
		truth += Seams(a) / n
		shuffled += Seams(b) / n
	}
	t.Logf("seams agree in %.3f of the rows; between views of different frames in %.3f", truth, shuffled)
	if truth < 0.75 || shuffled > truth-0.1 {
		t.Errorf("seams %.3f, of different frames %.3f", truth, shuffled)
	}
}

func TestChanges(t *testing.T) {
	c := newClips(t)
	var same, frozen Changes
	for i := range 30 {
		clip := c.At(data.Test, i)
		var want, still []*label.Map
		for _, f := range clip.Frames {
			want = append(want, f.Views[Front].Cls)
			still = append(still, clip.Frames[0].Views[Front].Cls)
		}
		same.Add(want, want)
		frozen.Add(still, want)
	}
	if same.True < 1000 || same.Error() != 0 || frozen.Error() != 1 {
		t.Errorf("clips against themselves: %+v; standing still: %+v", same, frozen)
	}
	a := &label.Map{W: 4, H: 1, IDs: []uint8{1, 1, 1, 1}}
	b := &label.Map{W: 4, H: 1, IDs: []uint8{1, 1, 2, 2}}
	d := &label.Map{W: 4, H: 1, IDs: []uint8{1, 2, 2, 1}}
	var one, odd Changes
	if one.Add([]*label.Map{a, d}, []*label.Map{a, b}); one != (Changes{True: 2, Wrong: 2}) { // one missed, one invented
		t.Errorf("%+v, want two wrong of two", one)
	}
	if odd.Add([]*label.Map{a, b}, []*label.Map{a, a}); !math.IsInf(odd.Error(), 1) {
		t.Errorf("changes where none should be: %g", odd.Error())
	}
}

func TestCaptions(t *testing.T) {
	longest := 0
	for _, night := range []bool{false, true} {
		for cars := range 9 {
			for trucks := range 9 - cars {
				for walkers := range 9 - cars - trucks {
					s := caption(night, [Pedestrian + 1]int{Car: cars, Truck: trucks, Pedestrian: walkers})
					tokens, err := Encode(s)
					if err != nil {
						t.Fatal(err)
					}
					if back, err := Words.Decode(tokens[:]); err != nil || back != s {
						t.Fatalf("%q comes back as %q, %v", s, back, err)
					}
					longest = max(longest, len(strings.Fields(s))+2)
				}
			}
		}
	}
	if longest != 14 {
		t.Errorf("the longest caption has %d tokens", longest)
	}
	for want, c := range map[string][Pedestrian + 1]int{
		"a day street with three cars and one pedestrian":             {Car: 3, Pedestrian: 1},
		"a day street with two cars , one truck and four pedestrians": {Car: 2, Truck: 1, Pedestrian: 4},
		"a day street with eight trucks":                              {Truck: 8},
		"a day street with no traffic":                                {},
	} {
		if got := caption(false, c); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	if _, err := Encode("a day street with tree cars"); err == nil || !strings.Contains(err.Error(), `"three"`) || !errors.Is(err, imageio.ErrInput) {
		t.Errorf("unknown word: %v", err)
	}
	// The caption counts what is seen, which is not all there is.
	s := newSet(t, Options{})
	hidden := 0
	for i := range 100 {
		f := s.At(data.Train, i)
		for _, b := range f.Boxes {
			if f.Visible(b.Inst) == 0 {
				hidden++
			}
		}
	}
	if hidden == 0 {
		t.Error("no box of 100 frames is hidden: this test shows nothing")
	}
}

func TestCheck(t *testing.T) {
	for _, o := range []Options{{}, {View: "right"}, {Scale: 2}} {
		s := newSet(t, o)
		served := data.Serve(s, s.check)
		for i := range 30 {
			f := s.At(data.Test, i)
			g, err := data.Give(f)
			if err != nil {
				t.Fatal(err)
			}
			c, err := served.Check(g)
			if err != nil || !c.OK {
				t.Fatalf("%+v, frame %d: %+v, %v", o, i, c, err)
			}
			for _, n := range c.Counts {
				if n.Hits != n.Of {
					t.Fatalf("%+v, frame %d: %v", o, i, n)
				}
			}
			g.Pictures = s.At(data.Test, i+1).Pictures()
			if c, err := served.Check(g); err != nil || c.OK {
				t.Fatalf("%+v, frame %d: the next frame's pictures pass: %+v, %v", o, i, c, err)
			}
		}
	}
	clips := newClips(t)
	served := data.Serve(clips, clips.check)
	for i := range 6 {
		g, err := data.Give(clips.At(data.Test, i))
		if err != nil {
			t.Fatal(err)
		}
		c, err := served.Check(g)
		if last := c.Errors[len(c.Errors)-1]; err != nil || !c.OK || last.Value != 0 && last.Name == "change" {
			t.Fatalf("clip %d: %+v, %v", i, c, err)
		}
	}
	if x, ch, h, w := clips.At(data.Test, 0).Tensor(); ch != 96 || h != 16 || w != 32 || len(x) != 96*16*32 {
		t.Errorf("tensor of a clip: [%d, %d, %d], %d values", ch, h, w, len(x))
	}
	s := newSet(t, Options{})
	f := s.At(data.Test, 0)
	x, ch, h, w := f.Tensor()
	if ch != 12 || h != 16 || w != 32 || x[(3*Back+1)*512+37] != float32(float64(f.Views[Back].Pix[3*37+1])/127.5-1) {
		t.Errorf("tensor [%d, %d, %d]", ch, h, w)
	}
	back, err := Legend.Read(f.Pictures()[1].Image)
	if err != nil || back.At(Columns*Left+3, 9) != f.Views[Left].Cls.At(3, 9) {
		t.Errorf("the picture of classes comes back otherwise: %v", err)
	}
}

func TestBadInput(t *testing.T) {
	for _, o := range []Options{{Scale: 3}, {Scale: -1}, {View: "up"}} {
		if _, err := New(1, o); err == nil || !errors.Is(err, imageio.ErrInput) {
			t.Errorf("%+v: %v", o, err)
		}
		if _, err := NewClips(1, o); err == nil {
			t.Errorf("%+v: no error", o)
		}
	}
	for o, want := range map[string]string{"scale=3": "scale 3", "scale=x": "scale=x", "view=frnt": "did you mean front", "view=": "no view", "veiw=left": "did you mean view"} {
		k, v, _ := strings.Cut(o, "=")
		for _, e := range []data.Entry{Entry, ClipsEntry} {
			if _, err := e.Open(1, map[string]string{k: v}); err == nil || !strings.Contains(err.Error(), want) || !errors.Is(err, imageio.ErrInput) {
				t.Errorf("%s: error %v, want one with %q", o, err, want)
			}
		}
	}
	s := newSet(t, Options{})
	if _, err := data.Get[*Frame](s, "tset", 0); err == nil || !strings.Contains(err.Error(), "did you mean test") {
		t.Errorf("split: %v", err)
	}
	f := s.At(data.Test, 0)
	g, _ := data.Give(f)
	pic := func(w, h int) []data.Picture {
		return []data.Picture{{Image: &imageio.Image{Width: w, Height: h, Pix: make([]uint8, 3*w*h)}}}
	}
	truth := func(change func(t *Truth)) json.RawMessage {
		o := f.Truth().(Truth)
		o.Boxes = slices.Clone(o.Boxes)
		o.Occ = slices.Clone(o.Occ)
		o.Cams = slices.Clone(o.Cams)
		change(&o)
		b, err := json.Marshal(o)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	for want, g := range map[string]data.Given{
		"no picture":       {Truth: g.Truth},
		"no whole picture": {Truth: g.Truth, Pictures: []data.Picture{{}}},
		"96×17":            {Truth: g.Truth, Pictures: pic(96, 17)},
		"100×16":           {Truth: g.Truth, Pictures: pic(100, 16)},
		"shows 2 views":    {Truth: g.Truth, Pictures: pic(64, 16)},
		"truth: json":      {Truth: json.RawMessage(`{"night":7}`), Pictures: g.Pictures},
		`set "city"`:       {Truth: truth(func(t *Truth) { t.Set = "city" }), Pictures: g.Pictures},
		"4095 voxels":      {Truth: truth(func(t *Truth) { t.Occ = t.Occ[1:] }), Pictures: g.Pictures},
		"class 9":          {Truth: truth(func(t *Truth) { t.Occ[5] = 9 }), Pictures: g.Pictures},
		"3 cameras":        {Truth: truth(func(t *Truth) { t.Cams = t.Cams[1:] }), Pictures: g.Pictures},
		"singular":         {Truth: truth(func(t *Truth) { t.Cams[1].K[0] = 0 }), Pictures: g.Pictures},
		"rotation":         {Truth: truth(func(t *Truth) { t.Cams[2].Rt[0] = 0.5 }), Pictures: g.Pictures},
		"box 0":            {Truth: truth(func(t *Truth) { t.Boxes[0].L = 0 }), Pictures: g.Pictures},
		"box 1":            {Truth: truth(func(t *Truth) { t.Boxes[1].Yaw = 45 }), Pictures: g.Pictures},
	} {
		if _, err := s.check(g); err == nil || !strings.Contains(err.Error(), want) || !errors.Is(err, imageio.ErrInput) {
			t.Errorf("error %v, want an input error with %q", err, want)
		}
	}
	c := newClips(t)
	cg, _ := data.Give(c.At(data.Test, 0))
	for want, g := range map[string]data.Given{
		"no picture":   {Truth: cg.Truth},
		`set "street"`: {Truth: g.Truth, Pictures: cg.Pictures},
		"128×120":      {Truth: cg.Truth, Pictures: pic(128, 120)},
		"7 frames":     {Truth: json.RawMessage(`{"set":"street-clips","speed":1,"frames":[{},{},{},{},{},{},{}]}`), Pictures: cg.Pictures},
		"shows 1":      {Truth: cg.Truth, Pictures: pic(32, 128)},
		"truth: json":  {Truth: json.RawMessage(`[]`), Pictures: cg.Pictures},
	} {
		if _, err := c.check(g); err == nil || !strings.Contains(err.Error(), want) || !errors.Is(err, imageio.ErrInput) {
			t.Errorf("clip: error %v, want an input error with %q", err, want)
		}
	}
}

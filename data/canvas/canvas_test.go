package canvas

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/data"
	"github.com/fidlab/fidlab/data/mnist"
	"github.com/fidlab/fidlab/imageio"
	"github.com/fidlab/fidlab/text"
)

func open(t testing.TB) (small, large *Set) {
	t.Helper()
	a, err := New32(data.DefaultSeed)
	if err != nil {
		t.Fatal(err)
	}
	b, err := New64(data.DefaultSeed)
	if err != nil {
		t.Fatal(err)
	}
	return a, b
}

// words is SplitMix64 once more, so that the rules are checked by other means.
type words struct{ x uint64 }

func mix(z uint64) uint64 {
	z = (z ^ (z >> 30)) * 13787848793156543929
	z = (z ^ (z >> 27)) * 10723151780598845931
	return z ^ (z >> 31)
}

func (w *words) below(k int) int {
	w.x += 11400714819323198485
	return int(mix(w.x) % uint64(k))
}

func newWords(name string, index int) *words {
	h := fnv.New64a()
	h.Write([]byte(name))
	return &words{mix(h.Sum64() ^ mix(data.DefaultSeed) ^ mix(uint64(index)))}
}

// TestDrawingRules makes items by the text of the package documentation.
func TestDrawingRules(t *testing.T) {
	small, large := open(t)
	train, err := mnist.Load(mnist.Train)
	if err != nil {
		t.Fatal(err)
	}
	test, err := mnist.Load(mnist.Test)
	if err != nil {
		t.Fatal(err)
	}
	of := map[data.Split]func(i int) ([]uint8, int){
		data.Train: func(i int) ([]uint8, int) { return train.Images[i], int(train.Labels[i]) },
		data.Enc:   func(i int) ([]uint8, int) { return train.Images[40000+i], int(train.Labels[40000+i]) },
		data.Val:   func(i int) ([]uint8, int) { return train.Images[55000+i], int(train.Labels[55000+i]) },
		data.Test:  func(i int) ([]uint8, int) { return test.Images[2*i], int(test.Labels[2*i]) },
		data.Ref:   func(i int) ([]uint8, int) { return test.Images[2*i+1], int(test.Labels[2*i+1]) },
	}
	pool := map[data.Split]int{data.Train: 40000, data.Enc: 15000, data.Val: 5000, data.Test: 5000, data.Ref: 5000}
	names := strings.Fields("zero one two three four five six seven eight nine")
	for split, digit := range of {
		if small.Len(split) != pool[split] {
			t.Errorf("mnist32 %s has %d items, want %d", split, small.Len(split), pool[split])
		}
		for i := range 30 {
			w := newWords("mnist32/"+string(split)+"/v1", i)
			x0, y0 := w.below(5), w.below(5)
			img, label := digit(i)
			it := small.At(split, i)
			if it.Caption != "a "+names[label] || (classed{small}).Label(split, i) != label {
				t.Fatalf("mnist32 %s %d: %q, want a %s", split, i, it.Caption, names[label])
			}
			for p, v := range it.Pix {
				want := uint8(0)
				if x, y := p%32-x0, p/32-y0; x >= 0 && y >= 0 && x < 28 && y < 28 {
					want = img[28*y+x]
				}
				if v != want || (it.Mask[p] == 1) != (want > 64) {
					t.Fatalf("mnist32 %s %d, pixel %d: %d mask %d, want %d", split, i, p, v, it.Mask[p], want)
				}
			}

			w = newWords("mnist64/"+string(split)+"/v1", i)
			n := 1 + w.below(3)
			src, xs, ys := make([]int, n), make([]int, n), make([]int, n)
			for k := range n {
				src[k] = w.below(pool[split])
			}
			for ok := false; !ok; {
				var inked [][2]int
				owner := []int{}
				for k := range n {
					xs[k], ys[k] = w.below(37), w.below(37)
					img, _ := digit(src[k])
					lo, hi := [2]int{99, 99}, [2]int{}
					for p, v := range img {
						if v > 0 {
							lo = [2]int{min(lo[0], p%28), min(lo[1], p/28)}
							hi = [2]int{max(hi[0], p%28), max(hi[1], p/28)}
						}
					}
					inked = append(inked, [2]int{xs[k] + lo[0], ys[k] + lo[1]}, [2]int{xs[k] + hi[0], ys[k] + hi[1]})
					owner = append(owner, k, k)
				}
				ok = true
				for a := 0; a < len(owner); a += 2 {
					for b := 0; b < a; b += 2 {
						// free pixels between the boxes, across and down
						dx := max(inked[a][0]-inked[b+1][0], inked[b][0]-inked[a+1][0]) - 1
						dy := max(inked[a][1]-inked[b+1][1], inked[b][1]-inked[a+1][1]) - 1
						ok = ok && (dx >= 4 || dy >= 4)
					}
				}
			}
			it = large.At(split, i)
			got := ""
			for _, d := range it.Digits {
				got += fmt.Sprint(d.Value, d.Source, d.X, d.Y, ";")
			}
			want := ""
			for k := range n {
				_, label := digit(src[k])
				want += fmt.Sprint(label, src[k], xs[k], ys[k], ";")
			}
			if got != want {
				t.Fatalf("mnist64 %s %d: %s, want %s", split, i, got, want)
			}
			for p, v := range it.Pix {
				want, mask := uint8(0), uint8(0)
				for k := range n {
					img, _ := digit(src[k])
					if x, y := p%64-xs[k], p/64-ys[k]; x >= 0 && y >= 0 && x < 28 && y < 28 {
						want = max(want, img[28*y+x])
						if img[28*y+x] > 64 {
							mask = uint8(k + 1)
						}
					}
				}
				if v != want || it.Mask[p] != mask {
					t.Fatalf("mnist64 %s %d, pixel %d: %d mask %d, want %d %d", split, i, p, v, it.Mask[p], want, mask)
				}
			}
		}
	}
}

// The shares of numbers, and what captions tell.
func TestCaptions(t *testing.T) {
	_, set := open(t)
	var n [4]int
	told, could := 0, 0
	for i := range 1500 {
		it := set.At(data.Train, i)
		n[len(it.Digits)]++
		if len(it.Digits) == 2 {
			a, b := it.Digits[0], it.Digits[1]
			dx := float64(b.Box[0]+b.Box[2]-a.Box[0]-a.Box[2]) / 2
			dy := float64(b.Box[1]+b.Box[3]-a.Box[1]-a.Box[3]) / 2
			want := ""
			switch {
			case math.Abs(dx) >= 20 && math.Abs(dy) <= math.Abs(dx)/2 && dx > 0:
				want = "left of"
			case math.Abs(dx) >= 20 && math.Abs(dy) <= math.Abs(dx)/2:
				want = "right of"
			case math.Abs(dy) >= 20 && math.Abs(dx) <= math.Abs(dy)/2 && dy > 0:
				want = "above"
			case math.Abs(dy) >= 20 && math.Abs(dx) <= math.Abs(dy)/2:
				want = "below"
			}
			could += bit(want != "")
			told += bit(it.Relation != "")
			if it.Relation != "" && it.Relation != want {
				t.Fatalf("%d: %q, but %g,%g apart", i, it.Caption, dx, dy)
			}
		}
		var s [Slots]uint8
		if err := Words.Encode(s[:], it.Caption); err != nil || s != it.Tokens {
			t.Fatalf("%q: %v, tokens %v and %v", it.Caption, err, s, it.Tokens)
		}
	}
	for k := 1; k <= 3; k++ {
		if math.Abs(float64(n[k])-500) > 5*math.Sqrt(1500*2.0/9) {
			t.Errorf("%d of 1500 have %d digits", n[k], k)
		}
	}
	if se := math.Sqrt(0.09 * float64(could)); math.Abs(float64(told)-0.9*float64(could)) > 5*se {
		t.Errorf("%d of %d relations are told, want 0.9", told, could)
	}
	// every caption fits
	count := 0
	for a := range 10 {
		for b := range 10 {
			for _, rel := range []string{"", "left of", "right of", "above", "below"} {
				for c := -1; c < 10; c++ {
					d := []Digit{{Value: a}, {Value: b}}
					if c >= 0 {
						d = append(d, Digit{Value: c})
					}
					var s [Slots]uint8
					if err := Words.Encode(s[:], caption(d, rel)); err != nil {
						t.Fatal(err)
					}
					count++
				}
			}
		}
	}
	if count != 5500 || Words.Len() != 21 || DigitName(7) != "seven" {
		t.Errorf("%d captions of %d words", count, Words.Len())
	}
	if _, err := Words.ID("sevn"); !strings.Contains(fmt.Sprint(err), `did you mean "seven"`) {
		t.Errorf("sevn: %v", err)
	}
	if _, err := text.Scenes.ID("seven"); err == nil {
		t.Error("seven is a word of scenes, too: use one vocabulary")
	}
}

// trimmed is a digit without its black margins: the same wherever it lies.
func trimmed(pix []uint8) string {
	b := boxOf(pix)
	var s strings.Builder
	for y := b[1]; y < b[3]; y++ {
		s.Write(pix[28*y+b[0] : 28*y+b[2]])
		s.WriteByte('|')
	}
	return s.String()
}

// The reader hands whole digits to the classifier: here one that knows them by heart.
func TestRead(t *testing.T) {
	small, large := open(t)
	heart := map[string]int{}
	p := large.pools[data.Test]
	for i, img := range p.images {
		heart[trimmed(img)] = int(p.labels[i])
	}
	whole, asked := 0, 0
	classify := func(pix []uint8) (int, float64, error) {
		asked++
		d, ok := heart[trimmed(pix)]
		whole += bit(ok)
		if !ok {
			return -1, 0, nil
		}
		var sum, sx, sy float64
		for i, v := range pix {
			sum += float64(v)
			sx += float64(v) * (float64(i%28) + 0.5)
			sy += float64(v) * (float64(i/28) + 0.5)
		}
		if math.Abs(sx/sum-14) > 0.51 || math.Abs(sy/sum-14) > 0.51 {
			t.Errorf("the centre of mass is at %g,%g, want 14,14", sx/sum, sy/sum)
		}
		return d, 1, nil
	}
	for _, set := range []*Set{small, large} {
		var tot data.Totals
		for i := range 400 {
			g, err := data.Give(set.At(data.Test, i))
			if err != nil {
				t.Fatal(err)
			}
			c, err := set.Check(g, classify)
			if err != nil {
				t.Fatal(err)
			}
			tot.Add(c)
		}
		t.Logf("%s: %v, %v", set.Name(), tot.Counts(), tot.Spreads())
		if tot.OK < 380 { // digits in pieces, or with faint tails that are cut
			t.Errorf("%s: %d of %d right", set.Name(), tot.OK, tot.Items)
		}
	}
	if whole < asked*97/100 {
		t.Errorf("%d of %d digits arrived whole", whole, asked)
	}
	// a classifier that is always wrong, and one that fails
	g, _ := data.Give(large.At(data.Test, 0))
	if c, err := large.Check(g, func([]uint8) (int, float64, error) { return -1, 0, nil }); err != nil || c.OK || c.Counts[1].Hits != 0 {
		t.Errorf("wrong classifier: %+v, %v", c, err)
	}
	stop := errors.New("stop")
	if _, err := large.Check(g, func([]uint8) (int, float64, error) { return 0, 0, stop }); !errors.Is(err, stop) {
		t.Errorf("failing classifier: %v", err)
	}
	g.Truth = nil
	if c, err := large.Check(g, classify); err != nil || !c.OK || c.Counts != nil {
		t.Errorf("without truth: %+v, %v", c, err)
	}
	black := &imageio.Image{Width: 64, Height: 64, Pix: make([]uint8, 3*64*64)}
	if f, err := Read(black, classify); err != nil || len(f) != 0 {
		t.Errorf("black: %v, %v", f, err)
	}
	white := &imageio.Image{Width: 64, Height: 64, Pix: bytes.Repeat([]uint8{255}, 3*64*64)}
	if f, err := Read(white, classify); err != nil || len(f) != 0 {
		t.Errorf("white: %v, %v", f, err)
	}
}

func TestBadInput(t *testing.T) {
	_, set := open(t)
	never := func([]uint8) (int, float64, error) { panic("asked") }
	pic := func(n int) []data.Picture {
		return []data.Picture{{Image: &imageio.Image{Width: n, Height: n, Pix: make([]uint8, 3*n*n)}}}
	}
	check := func(g data.Given) error { _, err := set.Check(g, never); return err }
	_, tiny := Read(pic(20)[0].Image, never)
	_, none := Read(nil, never)
	_, option := Entries(never, "")[1].Open(1, map[string]string{"form": "1"})
	_, index := data.Get(data.Set[*Item](set), data.Test, 4000)
	for i, c := range []struct {
		err  error
		want string
	}{
		{check(data.Given{}), "0 pictures"},
		{check(data.Given{Pictures: pic(32)}), "32×32 pixels; the reader reads 64×64"},
		{tiny, "28×28 pixels or more"},
		{none, "28×28 pixels or more"},
		{check(data.Given{Pictures: pic(64), Truth: json.RawMessage("1")}), "no JSON"},
		{check(data.Given{Pictures: pic(64), Truth: json.RawMessage(`{"set":"mnist32"}`)}), `of the set "mnist32"`},
		{option, "did you mean from"},
		{index, "test has no item 4000"},
	} {
		if c.err == nil || !strings.Contains(c.err.Error(), c.want) || !errors.Is(c.err, imageio.ErrInput) {
			t.Errorf("case %d: %v, want an input error with %q", i, c.err, c.want)
		}
	}
}

// TestGolden: every split still begins with the same 256 items.
func TestGolden(t *testing.T) {
	n := 0
	for _, e := range Entries(nil, "") {
		s, err := e.Open(data.DefaultSeed, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, split := range s.Splits() {
			got, err := data.Hash(t.Context(), s, split, data.GoldenItems)
			if n++; err != nil || got != e.Golden[split] {
				t.Errorf("%s %s: %s, %v; want %s", e.Name, split, got, err, e.Golden[split])
			}
		}
	}
	if n != 10 {
		t.Errorf("%d hashes were compared, want 10", n)
	}
}

func TestOtherSeed(t *testing.T) {
	_, a := open(t)
	b, err := New64(2)
	if err != nil {
		t.Fatal(err)
	}
	same := 0
	for i := 3; i < 40; i++ { // items 1 and 2 are those that Key is symmetric in
		same += bit(slices.Equal(a.At(data.Val, i).Pix, b.At(data.Val, i).Pix))
	}
	if same > 0 {
		t.Errorf("%d items are the same under seed 2", same)
	}
}

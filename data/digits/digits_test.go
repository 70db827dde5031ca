package digits

import (
	"encoding/json"
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/data"
	"github.com/fidlab/fidlab/data/mnist"
	"github.com/fidlab/fidlab/imageio"
)

func open(t testing.TB) *Set {
	t.Helper()
	s, err := New()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Every value is the mean of its nine pixels, over 255.
func TestReduced(t *testing.T) {
	s := open(t)
	for split, name := range map[data.Split]mnist.Split{data.Train: mnist.Train, data.Test: mnist.Test} {
		m, err := mnist.Load(name)
		if err != nil {
			t.Fatal(err)
		}
		if s.Len(split) != len(m.Images) {
			t.Fatalf("%s has %d digits, want %d", split, s.Len(split), len(m.Images))
		}
		for i := 0; i < len(m.Images); i += 97 {
			it := s.At(split, i)
			v, img := it.Values(), it.Image()
			x, c, h, w := it.Tensor()
			if it.Label != int(m.Labels[i]) || s.Label(split, i) != it.Label || c != 1 || h != 8 || w != 8 {
				t.Fatalf("%s %d: digit %d, [%d,%d,%d]", split, i, it.Label, c, h, w)
			}
			for y := range 8 {
				for xx := range 8 {
					mean := 0.0
					for k := range 9 {
						mean += float64(m.Images[i][(2+3*y+k/3)*28+2+3*xx+k%3]) / 9
					}
					p := 8*y + xx
					if math.Abs(float64(v[p])-mean/255) > 1e-7 || math.Abs(float64(x[p])-(mean/127.5-1)) > 2e-7 || math.Abs(float64(img.Pix[3*p])-mean) > 0.5+1e-9 {
						t.Fatalf("%s %d at %d,%d: value %g, tensor %g, level %d; the mean is %g", split, i, xx, y, v[p], x[p], img.Pix[3*p], mean)
					}
				}
			}
		}
	}
	if s.Len(data.Val) != 0 {
		t.Error("there is a split val")
	}
}

// The reader against the plain definition, and its accuracy.
func TestRead(t *testing.T) {
	s := open(t)
	var train [][]float32
	for i := range s.Len(data.Train) {
		train = append(train, s.At(data.Train, i).Values())
	}
	for i := 0; i < 6; i++ {
		q := s.At(data.Test, 1000*i).Values()
		best, digit := math.Inf(1), -1
		for k, v := range train {
			d := 0.0
			for j := range v {
				d += math.Pow(float64(v[j])-float64(q[j]), 2)
			}
			if d < best {
				best, digit = d, s.Label(data.Train, k)
			}
		}
		r, err := s.Read(q)
		if err != nil || r.Digit != digit || math.Abs(r.Distance-math.Sqrt(best)) > 1e-5 || r.Ratio < 1 || r.Second == r.Digit {
			t.Errorf("test %d: %+v, %v; want %d at %g", 1000*i, r, err, digit, math.Sqrt(best))
		}
	}
	hits := 0
	for i := range 500 {
		g, err := data.Give(s.At(data.Test, 20*i))
		if err != nil {
			t.Fatal(err)
		}
		c, err := s.Check(g)
		if err != nil {
			t.Fatal(err)
		}
		if c.OK {
			hits++
		}
	}
	if hits < 470 { // 96.5 % of all 10,000, less three standard errors
		t.Errorf("%d of 500 digits read, want 470", hits)
	}
	// a training digit does not find itself
	g, _ := data.Give(s.At(data.Train, 3))
	c, err := s.Check(g)
	if err != nil || !strings.Contains(c.Text, "times") {
		t.Fatal(err)
	}
	b, _ := json.Marshal(c.Read)
	var read struct{ Distance float64 }
	if err := json.Unmarshal(b, &read); err != nil || read.Distance == 0 {
		t.Errorf("a training digit found itself: %s, %v", b, err)
	}
	g.Truth = nil
	if c, err := s.Check(g); err != nil || !c.OK || c.Counts != nil {
		t.Errorf("without truth: %+v, %v", c, err)
	}
}

func TestBadInput(t *testing.T) {
	s := open(t)
	pic := func(n int) []data.Picture {
		return []data.Picture{{Image: &imageio.Image{Width: n, Height: n, Pix: make([]uint8, 3*n*n)}}}
	}
	check := func(g data.Given) error { _, err := s.Check(g); return err }
	read := func(v []float32) error { _, err := s.Read(v); return err }
	opened := func(seed uint64, o map[string]string) error { _, err := Entry.Open(seed, o); return err }
	nan := make([]float32, 64)
	nan[9] = float32(math.NaN())
	for i, c := range []struct {
		err  error
		want string
	}{
		{read(nil), "0 values; want 64"},
		{read(nan), "value 9 is NaN"},
		{check(data.Given{}), "0 pictures"},
		{check(data.Given{Pictures: pic(28)}), "28×28"},
		{check(data.Given{Pictures: pic(8), Truth: json.RawMessage("{")}), "no JSON"},
		{check(data.Given{Pictures: pic(8), Truth: json.RawMessage(`{"set":"shapes"}`)}), `of the set "shapes"`},
		{check(data.Given{Pictures: pic(8), Truth: json.RawMessage(`{"set":"digits","digit":12}`)}), "digit 12"},
		{opened(2, nil), "seed 2"},
		{opened(1, map[string]string{"form": "3"}), "did you mean from"},
	} {
		if c.err == nil || !strings.Contains(c.err.Error(), c.want) || !errors.Is(c.err, imageio.ErrInput) {
			t.Errorf("case %d: %v, want an input error with %q", i, c.err, c.want)
		}
	}
}

// TestGolden: the digits are the published ones, reduced as always.
func TestGolden(t *testing.T) {
	s, err := Entry.Open(data.DefaultSeed, nil)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for split, want := range Entry.Golden {
		got, err := data.Hash(t.Context(), s, split, data.GoldenItems)
		if n++; err != nil || got != want {
			t.Errorf("%s: %s, %v; want %s", split, got, err, want)
		}
	}
	if n != 2 {
		t.Errorf("%d hashes were compared, want 2", n)
	}
}

func BenchmarkRead(b *testing.B) {
	s := open(b)
	q := s.At(data.Test, 1).Values()
	for range b.N {
		if _, err := s.Read(q); err != nil {
			b.Fatal(err)
		}
	}
}

package data

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/fnv"
	"math"
	"runtime"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/imageio"
)

// Outputs of the published splitmix64.c for two seeds (also in the tests of the
// Java and Rust ports).
func TestSplitMix64Vectors(t *testing.T) {
	for seed, want := range map[uint64][]uint64{
		0:       {0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F, 0xF88BB8A8724C81EC},
		1234567: {6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431, 16408922859458223821},
	} {
		s := FromKey(seed)
		for i, w := range want {
			if got := s.Uint64(); got != w {
				t.Errorf("seed %d, output %d: %#x, want %#x", seed, i, got, w)
			}
		}
	}
	if Mix(0) != 0 || Mix(golden) != 0xE220A8397B1DCDAF {
		t.Error("Mix is not the finaliser alone")
	}
}

func TestFNV1a(t *testing.T) {
	for s, want := range map[string]uint64{"": 0xcbf29ce484222325, "a": 0xaf63dc4c8601ec8c, "foobar": 0x85944171f73967e8} { // of the authors' page
		if got := FNV1a(s); got != want {
			t.Errorf("FNV1a(%q) = %#x, want %#x", s, got, want)
		}
	}
	for _, s := range []string{"shapes/test/v1", "ünï\x00"} {
		h := fnv.New64a()
		h.Write([]byte(s))
		if FNV1a(s) != h.Sum64() {
			t.Errorf("FNV1a(%q) differs from hash/fnv", s)
		}
	}
}

// The key by its formula, written with the standard library.
func TestKey(t *testing.T) {
	for _, c := range []struct {
		version     int
		seed, index uint64
	}{{1, 1, 0}, {1, 0, 5}, {12, 1 << 63, 1<<64 - 1}} {
		h := fnv.New64a()
		fmt.Fprintf(h, "shapes/test/v%d", c.version)
		want := Mix(h.Sum64() ^ Mix(c.seed) ^ Mix(c.index))
		if got := Key("shapes", Test, c.version, c.seed, c.index); got != want {
			t.Errorf("%+v: %#x, want %#x", c, got, want)
		}
	}
	seen := map[uint64]string{}
	for _, split := range []Split{Train, Val, Test, Ref, Enc} {
		for i := range uint64(5000) {
			k, name := Key("shapes", split, 1, DefaultSeed, i), fmt.Sprint(split, i)
			if seen[k] != "" {
				t.Fatalf("%s has the key of %s", name, seen[k])
			}
			seen[k] = name
		}
	}
	if Key("a", Test, 1, 2, 3) != Key("a", Test, 1, 3, 2) {
		t.Error("Key is documented as symmetric in seed and index")
	}
}

// Draws by their definitions from the raw words, and moments.
func TestDraws(t *testing.T) {
	raw, s := FromKey(7), FromKey(7)
	if got, want := s.Float64(), float64(raw.Uint64()>>11)*0x1p-53; got != want {
		t.Errorf("Float64 %v, want %v", got, want)
	}
	if got, want := s.Intn(10), int(raw.Uint64()%10); got != want {
		t.Errorf("Intn %v, want %v", got, want)
	}
	u, v := float64(raw.Uint64()>>11)*0x1p-53, float64(raw.Uint64()>>11)*0x1p-53
	if got, want := s.Normal(), math.Sqrt(-2*math.Log1p(-u))*math.Cos(2*math.Pi*v); math.Abs(got-want) > 1e-14 {
		t.Errorf("Normal %v, want %v", got, want)
	}
	const n = 200000
	var m [5]float64
	counts := map[int]int{}
	picks := [3]int{}
	for range n {
		z := s.Normal()
		for k, p := 1, z; k < 5; k, p = k+1, p*z {
			m[k] += p / n
		}
		counts[s.Between(-1, 2)]++
		picks[s.Pick([]float64{1, 0, 3})]++
	}
	for k, c := range []struct{ want, sd float64 }{{}, {0, 1}, {1, math.Sqrt2}, {0, math.Sqrt(15)}, {3, math.Sqrt(96)}} {
		if d := math.Abs(m[k]-c.want) / (c.sd / math.Sqrt(n)); k > 0 && d > 5 {
			t.Errorf("moment %d of Normal is %v, %.1f standard errors from %v", k, m[k], d, c.want)
		}
	}
	for k := -1; k <= 2; k++ {
		if d := math.Abs(float64(counts[k])-n/4) / math.Sqrt(n*3/16.0); d > 5 {
			t.Errorf("Between gave %d %d times", k, counts[k])
		}
	}
	if len(counts) != 4 || picks[1] != 0 || math.Abs(float64(picks[0])-n/4) > 5*math.Sqrt(n*3/16.0) {
		t.Errorf("Between %v, Pick %v", counts, picks)
	}
	perms := map[[3]int]int{}
	for range 60000 {
		p := [3]int{0, 1, 2}
		s.Shuffle(3, func(i, j int) { p[i], p[j] = p[j], p[i] })
		perms[p]++
	}
	for p, c := range perms {
		if math.Abs(float64(c)-10000) > 5*math.Sqrt(60000*5/36.0) {
			t.Errorf("permutation %v came %d times of 60000", p, c)
		}
	}
	for name, f := range map[string]func(){
		"Intn(0)": func() { s.Intn(0) }, "Pick none": func() { s.Pick(nil) }, "Pick 0": func() { s.Pick([]float64{0}) },
		"Pick NaN": func() { s.Pick([]float64{1, math.NaN()}) }, "Pick -1": func() { s.Pick([]float64{2, -1}) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			f()
		}()
	}
}

// toy is a set of one-pixel pictures.
type toy struct{}

type toyItem struct {
	I   int    `json:"i"`
	Key uint64 `json:"key"`
}

func (toy) Name() string    { return "toy" }
func (toy) Splits() []Split { return []Split{Train, Test} }
func (toy) Len(s Split) int { return map[Split]int{Train: 1000, Test: 5}[s] }
func (t toy) At(split Split, i int) toyItem {
	MustHave(t, split, i)
	return toyItem{i, Key("toy", split, 1, 1, uint64(i))}
}

func (i toyItem) Tensor() ([]float32, int, int, int) {
	return FromPixels([]uint8{uint8(i.I), 128, 255}, 3, 1, 1), 3, 1, 1
}

func (i toyItem) Pictures() []Picture {
	return []Picture{{Image: &imageio.Image{Width: 1, Height: 1, Pix: []uint8{uint8(i.I), 128, 255}}}}
}
func (i toyItem) Truth() any    { return i }
func (i toyItem) Bytes() []byte { return binary.LittleEndian.AppendUint64(nil, i.Key) }

var toyEntry = Entry{Name: "toy", Open: func(_ uint64, o map[string]string) (Served, error) {
	for k := range o {
		return nil, Unknown("toy", "option", k, []string{"n", "from", "seed"})
	}
	return Serve(Set[toyItem](toy{}), func(Given) (Check, error) { return Check{OK: true}, nil }), nil
}}

func TestHash(t *testing.T) {
	s, _ := toyEntry.Open(1, nil)
	h := sha256.New()
	for i := range 777 {
		h.Write([]byte{8, 0, 0, 0, 0, 0, 0, 0})
		h.Write(toy{}.At(Train, i).Bytes())
	}
	want := hex.EncodeToString(h.Sum(nil))
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	for _, threads := range []int{7, 2, 1} {
		runtime.GOMAXPROCS(threads)
		if got, err := Hash(t.Context(), s, Train, 777); err != nil || got != want {
			t.Errorf("%d threads: %s, %v; want %s", threads, got, err, want)
		}
	}
	for _, c := range []struct {
		split Split
		n     int
		want  string
	}{{"tset", 1, "did you mean test"}, {Test, 0, "at least 1"}, {Test, 6, "has 5 items"}} {
		if _, err := Hash(t.Context(), s, c.split, c.n); err == nil || !strings.Contains(err.Error(), c.want) || !errors.Is(err, imageio.ErrInput) {
			t.Errorf("%s %d: %v, want an input error with %q", c.split, c.n, err, c.want)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Hash(ctx, s, Train, 777); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestInOrderStops(t *testing.T) {
	stop := errors.New("stop")
	var used []int
	err := InOrder(t.Context(), 100, func(i int) (int, error) {
		if i == 40 {
			return 0, stop
		}
		return i * i, nil
	}, func(i, v int) error {
		if v != i*i {
			t.Errorf("item %d came with %d", i, v)
		}
		used = append(used, i)
		return nil
	})
	if err != stop || len(used) != 40 {
		t.Errorf("%v after %d items, want stop after 40", err, len(used))
	}
	if err := InOrder(t.Context(), 100, func(i int) (int, error) { return i, nil }, func(i, _ int) error {
		if i == 3 {
			return stop
		}
		return nil
	}); err != stop {
		t.Errorf("error of use: %v", err)
	}
}

func TestSource(t *testing.T) {
	open := Source(toyEntry)
	src, err := open("test?from=2&n=3")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	err = src.Each(t.Context(), func(it imageio.Item) error {
		m, err := it.Load()
		if err != nil || m.Pix[0] != uint8(2+len(names)) || it.Label != -1 {
			t.Errorf("%s: %v, %v, label %d", it.Name, m, err, it.Label)
		}
		names = append(names, it.Name)
		return nil
	})
	if err != nil || len(names) != 3 || src.Len() != 3 || names[0] != "toy:test/00002" {
		t.Errorf("%v, %v, Len %d", names, err, src.Len())
	}
	for arg, want := range map[string]string{
		"": "no split", "tests": "did you mean test", "test?n=6": "has 5 items from 0", "test?n=0": "at least 1", "test?n=x": "n=x", "test?from=5": "items 0 to 4",
		"test?from=-1": "0 or more", "test?seed=-1": "64 bits", "test?n=1&n=2": "given 2 times", "test?form=1": "did you mean from", "test?%zz": "options",
	} {
		if _, err := open(arg); err == nil || !strings.Contains(err.Error(), want) || !errors.Is(err, imageio.ErrInput) {
			t.Errorf("%q: %v, want an input error with %q", arg, err, want)
		}
	}
}

func TestRefusals(t *testing.T) {
	img := func(w, h, bytes int) *imageio.Image {
		return &imageio.Image{Width: w, Height: h, Pix: make([]uint8, bytes)}
	}
	nan := float32(math.NaN())
	tensorErr := func(x []float32, c, h, w int) error { _, err := ToImage("toy", x, c, h, w, 3, 1, 1); return err }
	_, getSplit := Get(Set[toyItem](toy{}), "valid", 0)
	_, getIndex := Get(Set[toyItem](toy{}), Test, 5)
	for i, c := range []struct {
		err  error
		want string
	}{
		{CheckSize("toy", 33), "size 33; want 16, 32"},
		{CheckImage("toy", img(2, 1, 6), 1, 1), "2×1"},
		{CheckImage("toy", img(1, 1, 1), 1, 1), "three channels"},
		{CheckImage("toy", nil, 1, 1), "no picture"},
		{tensorErr([]float32{0, nan, 0}, 3, 1, 1), "value 1 of the tensor is NaN"},
		{tensorErr([]float32{0}, 1, 1, 1), "[1,1,1]; want [3,1,1]"},
		{tensorErr([]float32{0}, 3, 1, 1), "1 values"},
		{getSplit, `no split "valid"; there are train, test`},
		{getIndex, "test has no item 5; want 0 to 4"},
		{CheckIndex("toy", Test, -1, 5), "no item -1"},
	} {
		if c.err == nil || !strings.Contains(c.err.Error(), c.want) || !errors.Is(c.err, imageio.ErrInput) {
			t.Errorf("case %d: %v, want an input error with %q", i, c.err, c.want)
		}
	}
	if CheckSize("toy", 64) != nil || CheckImage("toy", img(1, 1, 3), 1, 1) != nil {
		t.Error("good sizes are refused")
	}
	defer func() {
		if s, _ := recover().(string); !strings.Contains(s, "toy: test has no item 5") {
			t.Errorf("At(5) panicked with %q", s)
		}
	}()
	toy{}.At(Test, 5)
}

// Every level survives the way to the tensor and back.
func TestTensorRoundTrip(t *testing.T) {
	pix := make([]uint8, 3*256)
	for i := range pix {
		pix[i] = uint8(i * 7)
	}
	m, err := ToImage("toy", FromPixels(pix, 3, 16, 16), 3, 16, 16, 3, 16, 16)
	if err != nil || !bytes.Equal(m.Pix, pix) {
		t.Errorf("pixels changed on the way (%v)", err)
	}
	if x := FromPixels([]uint8{0, 255}, 1, 1, 2); x[0] != -1 || x[1] != 1 {
		t.Errorf("ends are %v", x)
	}
}

func TestTotals(t *testing.T) {
	var tot Totals
	for i := range 200 {
		tot.Add(Check{OK: i%4 > 0, Counts: []Count{{"objects", i % 2, 2}}, Errors: []Value{{"centre", float64(199 - i)}}})
	}
	if tot.Items != 200 || tot.OK != 150 {
		t.Errorf("%d of %d", tot.OK, tot.Items)
	}
	if c := tot.Counts(); len(c) != 1 || c[0] != (Count{"objects", 100, 400}) || c[0].String() != "objects: 100 of 400, 25.0 %" {
		t.Errorf("counts %v", c)
	}
	if s := tot.Spreads(); len(s) != 1 || s[0] != (Spread{"centre", 200, 99.5, 197, 199}) {
		t.Errorf("spreads %v", s)
	}
}

func TestDamage(t *testing.T) {
	m := &imageio.Image{Width: 7, Height: 5, Pix: make([]uint8, 105)}
	s := FromKey(3)
	for i := range m.Pix {
		m.Pix[i] = uint8(s.Intn(256))
	}
	at := func(m *imageio.Image, x, y, c int) float64 {
		return float64(m.Pix[3*(min(4, max(0, y))*7+min(6, max(0, x)))+c])
	}
	once, twice := Blurred(m, 1), Blurred(m, 2)
	for y := range 5 {
		for x := range 7 {
			for c := range 3 {
				for _, p := range [][2]*imageio.Image{{m, once}, {once, twice}} {
					mean := 0.0
					for k := range 9 {
						mean += at(p[0], x+k%3-1, y+k/3-1, c) / 9
					}
					if got := at(p[1], x, y, c); math.Abs(got-mean) > 0.5+1e-9 {
						t.Fatalf("blur at %d,%d channel %d: %g, want %g rounded", x, y, c, got, mean)
					}
				}
			}
		}
	}
	big := &imageio.Image{Width: 200, Height: 200, Pix: bytes.Repeat([]uint8{128}, 120000)}
	n1, n2 := Noisy(big, 0.05, FromKey(1)), Noisy(big, 0.05, FromKey(1))
	var sum, sum2 float64
	for _, v := range n1.Pix {
		d := float64(v) - 128
		sum += d / 120000
		sum2 += d * d / 120000
	}
	// rounding adds 1/12 to the variance
	if want := 12.75*12.75 + 1.0/12; math.Abs(sum) > 5*12.75/math.Sqrt(120000) || math.Abs(sum2-want) > 5*want*math.Sqrt(2.0/120000) || !bytes.Equal(n1.Pix, n2.Pix) {
		t.Errorf("noise has mean %g, variance %g, want 0 and %g, and is the same each time: %v", sum, sum2, want, bytes.Equal(n1.Pix, n2.Pix))
	}
	g := Given{Pictures: []Picture{{Name: "a", Image: big}, {Name: "b", Image: big}}}
	d := Damage{Noise: 0.1, Blur: 1}.Apply(g, 4)
	if d.Pictures[0].Image == big || g.Pictures[0].Image != big || bytes.Equal(d.Pictures[0].Image.Pix, d.Pictures[1].Image.Pix) || d.Pictures[1].Name != "b" {
		t.Error("Apply changed what it was given, or gave two pictures the same noise")
	}
	for d, want := range map[Damage]string{{}: "clean", {Noise: 0.1}: "noise 0.1", {Blur: 2}: "blur 2", {Noise: 0.2, Blur: 1}: "blur 1, noise 0.2"} {
		if d.String() != want {
			t.Errorf("%+v is %q, want %q", d, d.String(), want)
		}
	}
}

func TestMeanIoU(t *testing.T) {
	var tot Totals
	if _, ok := tot.MeanIoU(); ok {
		t.Error("a mean of nothing")
	}
	tot.Add(Check{Counts: []Count{{"iou a", 1, 4}, {"iou b", 3, 4}, {"iou c", 0, 0}, {"objects", 5, 5}}})
	if v, ok := tot.MeanIoU(); !ok || v != 0.5 {
		t.Errorf("mean %g, want 0.5", v)
	}
}

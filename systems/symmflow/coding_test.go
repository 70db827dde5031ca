package symmflow

import (
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/imageio/label"
	"github.com/fidlab/fidlab/rng"
)

func codings() map[string]Coding {
	return map[string]Coding{
		Palette: shapesRecipe().coding, Ordinal: mnistRecipe().coding, OneHot: {Kind: OneHot, Beta: 4, Classes: 10},
	}
}

// Values lie around their codes as the formulas say, uniformly, and without noise on them.
func TestEncode(t *testing.T) {
	const pixels = 4000
	code := func(c Coding, id, k int) (v, width float64) {
		switch c.Kind {
		case Palette:
			return 2*float64(c.Palette[id].Color[k])/255 - 1, 10 / 127.5
		case Ordinal:
			return -2 + 4*float64(id)/9, 2. / 9
		}
		if id == k {
			return 2, 2. / 9
		}
		return -2, 2. / 9
	}
	for name, c := range codings() {
		for id := range c.Classes {
			ids := slices.Repeat([]uint8{uint8(id)}, c.labels(pixels))
			v := make([]float32, c.Channels()*pixels)
			if err := c.Encode(v, ids, rng.New(1, uint64(id))); err != nil {
				t.Fatal(err)
			}
			flat := c
			flat.Flat = true
			exact := make([]float32, len(v))
			if err := flat.Encode(exact, ids, nil); err != nil {
				t.Fatal(err)
			}
			for k := range c.Channels() {
				want, width := code(c, id, k)
				var sum, squares float64
				for p := range pixels {
					off := float64(v[k*pixels+p]) - want
					if math.Abs(off) > width/2+1e-6 {
						t.Fatalf("%s: class %d, channel %d: %g is %g from its code %g, want at most %g", name, id, k, v[k*pixels+p], off, want, width/2)
					}
					if math.Abs(float64(exact[k*pixels+p])-want) > 1e-6 {
						t.Fatalf("%s: without noise class %d is %g, want %g", name, id, exact[k*pixels+p], want)
					}
					sum, squares = sum+off/pixels, squares+off*off/pixels
				}
				// A uniform variable has the variance w²/12; its mean and square have deviations of w/√(12·n) and w²/√(180·n).
				if math.Abs(sum) > 5*width/math.Sqrt(12*pixels) || math.Abs(squares-width*width/12) > 5*width*width/math.Sqrt(180*pixels) {
					t.Errorf("%s: class %d, channel %d: mean %g, square %g of a width of %g", name, id, k, sum, squares, width)
				}
			}
			if got := c.Decode(v); !slices.Equal(got, ids) {
				t.Errorf("%s: class %d is read as %d", name, id, got[0])
			}
		}
	}
}

// A class is read from the mean of the channel, which is rounded once: rounded before, six pixels in ten would outvote what all of them say.
func TestDecodeRoundsOnce(t *testing.T) {
	c := mnistRecipe().coding
	place := func(at float64) float32 { return float32(c.Beta / 2 * (2*at/9 - 1)) }
	y := slices.Concat(slices.Repeat([]float32{place(0.4)}, 60), slices.Repeat([]float32{place(1.4)}, 40))
	var before float64
	for _, v := range y {
		before += math.Round((float64(v)/(c.Beta/2)*0.5+0.5)*9) / 100
	}
	if math.Round(before) != 0 {
		t.Fatalf("rounding first gives %g: the example shows nothing", before)
	}
	if got := c.Decode(y); got[0] != 1 {
		t.Errorf("read as %d, want 1: the mean is 0.8", got[0])
	}
	for v, want := range map[float32]uint8{-50: 0, 50: 9, -2: 0, 2: 9, 0.1: 5, -0.1: 4} {
		if got := c.Decode(slices.Repeat([]float32{v}, 10)); got[0] != want {
			t.Errorf("%g is read as %d, want %d", v, got[0], want)
		}
	}
}

func TestCodingRefused(t *testing.T) {
	ok := shapesRecipe().coding
	for want, c := range map[string]Coding{
		"beta 0; want a finite number": {Kind: Ordinal, Classes: 10}, "1 classes in ordinal coding; want 2 to 256": {Kind: Ordinal, Beta: 4, Classes: 1},
		"257 classes in one-hot coding": {Kind: OneHot, Beta: 4, Classes: 257}, `no coding "ordinals"; did you mean ordinal?`: {Kind: "ordinals", Beta: 4, Classes: 10},
		"a palette of 5 colours for 4 classes": {Kind: Palette, Beta: 4, Classes: 4, Palette: Forms},
		"a palette of 0 classes":               {Kind: Palette, Beta: 4, Classes: 4},
		"have the colour #000000":              {Kind: Palette, Beta: 4, Classes: 2, Palette: label.Palette{{Name: "a"}, {Name: "b"}}},
	} {
		if err := c.Check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", c, err, want)
		}
	}
	y := make([]float32, 3*4)
	for want, ids := range map[string][]uint8{"class 5 at place 2; the classes are 0 to 4": {0, 1, 5, 0}, "a label of 3 classes for 4 pixels; want 4": {0, 1, 2}} {
		if err := ok.Encode(y, ids, rng.New(1, 1)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v, want %q", ids, err, want)
		}
	}
	if err := mnistRecipe().coding.Encode(make([]float32, 4), []uint8{10}, rng.New(1, 1)); err == nil || !strings.Contains(err.Error(), "the classes are 0 to 9") {
		t.Error(err)
	}
}

// Between two forms there is no background: what is unsure of the form is sure that there is one.
func TestFormsBetween(t *testing.T) {
	c := shapesRecipe().coding
	code := func(id uint8) []float32 {
		v := make([]float32, 3)
		flat := c
		flat.Flat = true
		if err := flat.Encode(v, []uint8{id}, nil); err != nil {
			t.Fatal(err)
		}
		return v
	}
	for a := uint8(1); a < 5; a++ {
		for b := uint8(1); b < 5; b++ {
			for share := float32(0); share <= 1; share += 0.125 {
				mid := code(a)
				for k, v := range code(b) {
					mid[k] += share * (v - mid[k])
				}
				if got := c.Decode(mid); got[0] == 0 {
					t.Errorf("%g of the way from form %d to %d is read as background", share, a, b)
				}
			}
		}
	}
}

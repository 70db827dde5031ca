package imageio_test

import (
	"bytes"
	"image"
	"image/jpeg"
	"os"
	"regexp"
	"strconv"
	"testing"

	"github.com/fidlab/fidlab/imageio"
	"github.com/fidlab/fidlab/internal/oracle"
)

// TestGoldenJPEGFacts: Pillow's files say in their names what they were written with.
func TestGoldenJPEGFacts(t *testing.T) {
	cases, data := decodeCases(t)
	named := regexp.MustCompile(`^q(\d+)-(\d)(\d)(\d)\.jpg$`)
	n := 0
	for i, c := range cases {
		m := named.FindStringSubmatch(c.File)
		if m == nil {
			continue
		}
		img, err := imageio.Decode(data[i], imageio.DecodeOptions{})
		if err != nil {
			t.Fatal(err)
		}
		f := img.Facts
		want, _ := strconv.Atoi(m[1])
		if f.Quality != want || f.OwnTables || f.Sampling != m[2]+":"+m[3]+":"+m[4] || f.Progressive || f.Bytes != len(data[i]) {
			t.Errorf("%s: %+v", c.File, f)
		}
		n++
	}
	if n != 21 {
		t.Errorf("%d files, want 21", n)
	}
}

// TestGoldenFacts: profiles and progressive order, as Pillow reads them.
func TestGoldenFacts(t *testing.T) {
	var set struct {
		Cases []struct {
			File             string
			ICC, Progressive bool
		}
	}
	oracle.GoldenJSON(t, &set, "facts", "cases.json")
	profiles := 0
	for _, c := range set.Cases {
		b, err := os.ReadFile(oracle.Golden(t, "facts", c.File))
		if err != nil {
			t.Fatal(err)
		}
		m, err := imageio.Decode(b, imageio.DecodeOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if m.Facts.ICC != c.ICC || m.Facts.Progressive != c.Progressive {
			t.Errorf("%s: %+v; Pillow has %+v", c.File, m.Facts, c)
		}
		if c.ICC {
			profiles++
		}
	}
	if len(set.Cases) != 9 || profiles != 3 {
		t.Errorf("%d cases, %d with a profile; want 9 and 3", len(set.Cases), profiles)
	}
}

// Go's encoder scales the same tables by itself, for every quality. Two qualities whose tables are equal are not told apart.
func TestJPEGQuality(t *testing.T) {
	im := image.NewRGBA(image.Rect(0, 0, 16, 16))
	seen := map[string]int{}
	for q := 100; q >= 1; q-- {
		var b bytes.Buffer
		if err := jpeg.Encode(&b, im, &jpeg.Options{Quality: q}); err != nil {
			t.Fatal(err)
		}
		at := bytes.Index(b.Bytes(), []byte{0xff, 0xdb})
		tables := string(b.Bytes()[at : at+134])
		want := q
		if higher, ok := seen[tables]; ok {
			want = higher
		}
		seen[tables] = want
		m, err := imageio.Decode(b.Bytes(), imageio.DecodeOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if m.Facts.Quality != want || m.Facts.OwnTables {
			t.Errorf("quality %d: %d, own tables %v; want %d", q, m.Facts.Quality, m.Facts.OwnTables, want)
		}
		own := bytes.Clone(b.Bytes())
		own[at+5+10] ^= 3 // tables of nobody
		if m, err = imageio.Decode(own, imageio.DecodeOptions{}); err != nil {
			t.Fatal(err)
		}
		if !m.Facts.OwnTables || q > 20 && (m.Facts.Quality < want-2 || m.Facts.Quality > want+2) {
			t.Errorf("quality %d, one number changed: %d, own tables %v", q, m.Facts.Quality, m.Facts.OwnTables)
		}
	}
}

// Facts are read from foreign bytes: nothing may go wrong wherever a file is cut or damaged.
func TestJPEGFactsOfDamage(t *testing.T) {
	b, err := os.ReadFile(oracle.Golden(t, "facts", "profile.jpg"))
	if err != nil {
		t.Fatal(err)
	}
	for i := range min(len(b), 1200) {
		bad := bytes.Clone(b)
		bad[i] ^= 0x5a
		imageio.Decode(bad, imageio.DecodeOptions{})       // must not panic
		imageio.Decode(bad[:i+1], imageio.DecodeOptions{}) // nor this
	}
	if m, err := imageio.Decode(b, imageio.DecodeOptions{}); err != nil || m.Facts.Quality != 85 || m.Facts.Sampling != "4:2:0" || !m.Facts.ICC {
		t.Errorf("%+v, %v", m.Facts, err)
	}
}

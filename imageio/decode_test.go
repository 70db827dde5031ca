package imageio_test

import (
	"bytes"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/imageio"
	"github.com/fidlab/fidlab/internal/cpu"
	"github.com/fidlab/fidlab/internal/oracle"
)

type decodeCase struct {
	File         string `json:"file"`
	Want         string `json:"want"`
	WantOriented string `json:"want_oriented"`
	Exact        bool   `json:"exact"`

	Gray, Alpha, Palette, Deep, CMYK, Rotated, Lossy bool
}

func decodeCases(t testing.TB) (cases []decodeCase, data [][]byte) {
	t.Helper()
	// A folder of golden data from elsewhere may have none of this kind: then
	// the repository's are used, since the test must not pass by doing nothing.
	if dir := os.Getenv("FIDLAB_GOLDEN"); dir != "" {
		if _, err := os.Stat(filepath.Join(dir, "decode")); err != nil {
			t.Setenv("FIDLAB_GOLDEN", "")
		}
	}
	var set struct{ Cases []decodeCase }
	oracle.GoldenJSON(t, &set, "decode", "cases.json")
	for _, c := range set.Cases {
		b, err := os.ReadFile(oracle.Golden(t, "decode", c.File))
		if err != nil {
			t.Fatal(err)
		}
		data = append(data, b)
	}
	return set.Cases, data
}

// haveTurbo tells whether JPEGs are decoded by libjpeg-turbo here. Where the
// native flavour found it, falling back would be a fault.
func haveTurbo(t testing.TB) bool {
	t.Helper()
	for _, l := range cpu.Report() {
		if l.Name == "TurboJPEG" {
			return l.Used
		}
	}
	return false
}

func TestDecodeGolden(t *testing.T) {
	cases, data := decodeCases(t)
	turbo := haveTurbo(t)
	exact, near := 0, 0
	for i, c := range cases {
		for _, orient := range []bool{false, true} {
			m, err := imageio.Decode(data[i], imageio.DecodeOptions{Orient: orient})
			if err != nil {
				t.Errorf("%s: %v", c.File, err)
				continue
			}
			want := c.Want
			if orient && c.WantOriented != "" {
				want = c.WantOriented
			}
			w := readPNG(t, oracle.Golden(t, "decode", want))
			if m.Width != w.Width || m.Height != w.Height {
				t.Errorf("%s: %dx%d, want %dx%d", c.File, m.Width, m.Height, w.Width, w.Height)
				continue
			}
			switch {
			case c.Exact || turbo:
				exact++
				if n, worst := differ(m.Pix, w.Pix); n > 0 {
					t.Errorf("%s (%s): %d of %d values differ, by up to %d", c.File, m.Facts.Decoder, n, len(w.Pix), worst)
				}
			default:
				near++
				// Only the inverse DCT differs: one level of rounding in luma and chroma,
				// which the conversion makes up to 1 + 1.772 in a colour.
				n, worst := differ(m.Pix, w.Pix)
				if d := meanDiff(m.Pix, w.Pix); worst > 4 || d > 0.2 {
					t.Errorf("%s (%s): %d values differ, by up to %d, %.2f in the mean", c.File, m.Facts.Decoder, n, worst, d)
				}
			}
			f := m.Facts
			if f.Gray != c.Gray || f.Alpha != c.Alpha || f.Palette != c.Palette || f.Deep != c.Deep || f.CMYK != c.CMYK || f.Rotated != c.Rotated || f.Lossy != c.Lossy {
				t.Errorf("%s: facts %+v, want %+v", c.File, f, c)
			}
			if jpeg := strings.HasSuffix(c.File, ".jpg"); jpeg && turbo != (f.Decoder == "libjpeg-turbo") {
				t.Errorf("%s: decoded by %s", c.File, f.Decoder)
			}
		}
	}
	if len(cases) == 0 || exact == 0 {
		t.Fatal("no cases")
	}
	if os.Getenv("FIDLAB_GOLDEN") == "" && exact+near != 256 {
		t.Errorf("%d exact and %d near comparisons ran; the file has 256", exact, near)
	}
}

func differ(a, b []uint8) (n, worst int) {
	for i := range a {
		if d := int(a[i]) - int(b[i]); d != 0 {
			n++
			worst = max(worst, d, -d)
		}
	}
	return n, worst
}

func meanDiff(a, b []uint8) float64 {
	var s float64
	for i := range a {
		s += math.Abs(float64(a[i]) - float64(b[i]))
	}
	return s / float64(len(a))
}

// Every file, cut at many places, is refused by the check of the skeleton or by
// the decoder, and never crashes. What is cut after the picture's data may pass.
func TestDecodeCutFiles(t *testing.T) {
	cases, data := decodeCases(t)
	for i, c := range cases {
		b := data[i]
		for k := range 12 {
			cut := b[:len(b)*k/12]
			if _, err := imageio.Decode(cut, imageio.DecodeOptions{}); err == nil {
				ext := filepath.Ext(c.File)
				if ext != ".tif" && ext != ".gif" { // may end in directories or further frames
					t.Errorf("%s cut to %d of %d bytes was accepted", c.File, len(cut), len(b))
				}
			}
		}
	}
}

func TestDecodeRefuses(t *testing.T) {
	big := []byte("\x89PNG\r\n\x1a\n\x00\x00\x00\x0dIHDR\x7f\xff\xff\xff\x7f\xff\xff\xff\x08\x02\x00\x00\x00\x00\x00\x00\x00")
	for name, c := range map[string]struct {
		data []byte
		want string
	}{
		"empty":        {nil, "empty file"},
		"text":         {[]byte("hello, this is text"), "not an image: starts with 68 65 6c 6c"},
		"avif":         {[]byte("\x00\x00\x00\x20ftypavif\x00\x00\x00\x00"), "AVIF is not supported; convert it to PNG"},
		"huge png":     {big, "2147483647x2147483647 pixels; the limit is 268435456"},
		"huge ppm":     {[]byte("P6 100000 100000 255\n"), "the limit is"},
		"huge gif":     {[]byte("GIF89a\xff\xff\xff\xff\x00\x00\x00"), "the limit is"},
		"no pixels":    {[]byte("P6 0 3 255\n"), "at least 1x1"},
		"lying text":   {[]byte("P3 9000 9000 255\n1 2 3"), "cut short"},
		"no jpeg data": {[]byte("\xff\xd8\xff\xd9"), "cut short"},
	} {
		_, err := imageio.Decode(c.data, imageio.DecodeOptions{})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v; want %q", name, err, c.want)
		}
	}
	cases, data := decodeCases(t)
	for i, c := range cases {
		if c.File == "rgb-big.png" || c.File == "q95-420.jpg" || c.File == "rgb.bmp" {
			if _, err := imageio.Decode(data[i], imageio.DecodeOptions{MaxPixels: 100}); err == nil || !strings.Contains(err.Error(), "the limit is 100") {
				t.Errorf("%s with at most 100 pixels: %v", c.File, err)
			}
		}
	}
}

func TestDecodePNGDamage(t *testing.T) {
	good := pngBytes(t, noisy(20, 20, 1))
	for name, change := range map[string]func([]byte) []byte{
		"checksum":      func(b []byte) []byte { b[len(b)/2] ^= 1; return b },
		"filter":        func(b []byte) []byte { return rawPNG(t, 1, 1, 8, 2, []byte{9, 1, 2, 3}) },
		"few rows":      func(b []byte) []byte { return rawPNG(t, 2, 2, 8, 2, make([]byte, 7)) },
		"colour type":   func(b []byte) []byte { return rawPNG(t, 1, 1, 8, 5, make([]byte, 4)) },
		"depth":         func(b []byte) []byte { return rawPNG(t, 1, 1, 4, 2, make([]byte, 4)) },
		"no palette":    func(b []byte) []byte { return rawPNG(t, 1, 1, 8, 3, make([]byte, 2)) },
		"second header": func(b []byte) []byte { return append(bytes.Clone(b[:33]), b[8:]...) },
	} {
		if _, err := imageio.Decode(change(bytes.Clone(good)), imageio.DecodeOptions{}); err == nil || !strings.Contains(err.Error(), "damaged PNG") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := imageio.Decode(rawPNG(t, 1, 1, 8, 2, []byte{0, 1, 2, 3}), imageio.DecodeOptions{}); err != nil {
		t.Errorf("the undamaged one: %v", err)
	}
}

package cpu

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

type jpegCase struct {
	File                    string
	Width, Height, Channels int
	SHA256                  string
}

// jpegCases are files of several samplings and qualities with the SHA-256 of
// the pixels that Pillow 12.3.0 decodes them to.
func jpegCases(t testing.TB) (cases []jpegCase, data [][]byte) {
	t.Helper()
	b, err := os.ReadFile("testdata/jpeg/cases.json")
	if err != nil {
		t.Fatal(err)
	}
	var all struct{ Cases []jpegCase }
	if err := json.Unmarshal(b, &all); err != nil {
		t.Fatal(err)
	}
	for _, c := range all.Cases {
		b, err := os.ReadFile(filepath.Join("testdata/jpeg", c.File))
		if err != nil {
			t.Fatal(err)
		}
		data = append(data, b)
	}
	return all.Cases, data
}

// turboOrPure reports whether TurboJPEG is in use; without it, it checks that DecodeJPEG says so.
func turboOrPure(t testing.TB) bool {
	t.Helper()
	_, data := jpegCases(t)
	_, err := DecodeJPEG(nil, data[0], 1<<20)
	if err == nil {
		return true
	}
	if !errors.Is(err, ErrNoTurbo) {
		t.Fatal(err)
	}
	for _, l := range Report() {
		if l.Name == jpegName && l.Path != "" {
			t.Fatalf("TurboJPEG was found and is not used: %s", l.Why)
		}
	}
	return false
}

func TestDecodeJPEGEqualsPillow(t *testing.T) {
	if !turboOrPure(t) {
		return // image/jpeg is the pure-Go version, and its user tests it
	}
	cases, data := jpegCases(t)
	if len(cases) != 12 {
		t.Errorf("%d cases, want 12", len(cases))
	}
	before := calls.jpeg.Load()
	for i, c := range cases {
		img, err := DecodeJPEG(nil, data[i], 1<<20)
		if err != nil {
			t.Errorf("%s: %v", c.File, err)
			continue
		}
		sum := sha256.Sum256(img.Pix)
		if got := hex.EncodeToString(sum[:]); img.Width != c.Width || img.Height != c.Height || img.Channels != c.Channels || got != c.SHA256 || img.Warning != "" {
			t.Errorf("%s: %d×%d×%d %s %q, want %d×%d×%d %s", c.File, img.Width, img.Height, img.Channels, got, img.Warning, c.Width, c.Height, c.Channels, c.SHA256)
		}
	}
	if got := calls.jpeg.Load() - before; got != int64(len(cases)) {
		t.Errorf("TurboJPEG decoded %d files of %d", got, len(cases))
	}
}

func TestDecodeJPEGRefusesDamage(t *testing.T) {
	for _, data := range [][]byte{nil, {0xff}, []byte("\x89PNG\r\n")} {
		if _, err := DecodeJPEG(nil, data, 1<<20); err == nil || !strings.Contains(err.Error(), "not a JPEG") {
			t.Errorf("% x: %v", data, err)
		}
	}
	if !turboOrPure(t) {
		return
	}
	cases, all := jpegCases(t)
	data := all[0]
	if _, err := DecodeJPEG(nil, data, cases[0].Width*cases[0].Height-1); err == nil || !strings.Contains(err.Error(), "33×17 pixels") {
		t.Errorf("over the limit: %v", err)
	}
	for _, n := range []int{4, 20, 300, len(data) / 2, len(data) - 40} {
		if img, err := DecodeJPEG(nil, data[:n], 1<<20); err == nil {
			t.Errorf("cut to %d of %d bytes: %+v", n, len(data), img.Warning)
		}
	}
	junk := bytes.Clone(data[:len(data)-2])
	junk = append(junk, 0x12, 0x34, 0xff, 0xd9) // libjpeg skips to the end marker
	if img, err := DecodeJPEG(nil, junk, 1<<20); err != nil || img.Width != cases[0].Width {
		t.Errorf("junk before the end marker: %v", err)
	}
}

// A file cut anywhere must not change what the same worker makes of the next one.
func TestDecodeJPEGAfterDamage(t *testing.T) {
	if !turboOrPure(t) {
		return
	}
	cases, data := jpegCases(t)
	Do(func(w *Worker) {
		for i, cut := range data {
			for n := 4; n < len(cut); n++ {
				_, _ = DecodeJPEG(w, cut[:n], 1<<20)
				img, err := DecodeJPEG(w, data[0], 1<<20)
				if err != nil {
					t.Errorf("after %d of %d bytes of %s: %v", n, len(cut), cases[i].File, err)
					break
				}
				if sum := sha256.Sum256(img.Pix); hex.EncodeToString(sum[:]) != cases[0].SHA256 {
					t.Errorf("after %d of %d bytes of %s: other pixels", n, len(cut), cases[i].File)
					break
				}
			}
		}
	})
}

func FuzzDecodeJPEG(f *testing.F) {
	_, data := jpegCases(f)
	for _, d := range data[:4] {
		f.Add(d)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		img, err := DecodeJPEG(nil, data, 1<<16)
		if err == nil && (len(img.Pix) != img.Width*img.Height*img.Channels || img.Width*img.Height > 1<<16) {
			t.Errorf("%d×%d×%d in %d bytes", img.Width, img.Height, img.Channels, len(img.Pix))
		}
	})
}

func BenchmarkDecodeJPEG(b *testing.B) {
	if !turboOrPure(b) {
		b.Skip("no TurboJPEG here")
	}
	_, data := jpegCases(b)
	b.SetBytes(64 * 48 * 3)
	for b.Loop() {
		if _, err := DecodeJPEG(nil, data[3], 1<<20); err != nil {
			b.Fatal(err)
		}
	}
}

package imageio_test

import (
	"bytes"
	"errors"
	"image/png"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/fidlab/fidlab/imageio"
	"github.com/fidlab/fidlab/tensor"
)

func TestPNGRoundTrip(t *testing.T) {
	dir := t.TempDir()
	for _, gray := range []bool{false, true} {
		m := &imageio.Image{Width: 17, Height: 9, Pix: make([]uint8, 3*17*9)}
		for i := range m.Pix {
			m.Pix[i] = uint8(i * 11)
			if gray {
				m.Pix[i] = uint8(i / 3 * 5)
			}
		}
		path := filepath.Join(dir, map[bool]string{false: "rgb.png", true: "gray.png"}[gray])
		if err := imageio.WritePNG(path, m); err != nil {
			t.Fatal(err)
		}
		if got := readPNG(t, path); !bytes.Equal(got.Pix, m.Pix) || got.Width != 17 {
			t.Errorf("gray %v: pixels differ after a round trip", gray)
		}
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if c, err := png.DecodeConfig(bytes.NewReader(b)); err != nil || (b[25] == 0) != gray {
			t.Errorf("gray %v: colour type %d, %v, %v", gray, b[25], c.ColorModel, err)
		}
		back, err := imageio.Decode(b, imageio.DecodeOptions{})
		if err != nil || !bytes.Equal(back.Pix, m.Pix) || back.Facts.Gray != gray {
			t.Errorf("gray %v: our decoder: %v", gray, err)
		}
		if err := imageio.WritePNG(path, m); !errors.Is(err, fs.ErrExist) {
			t.Errorf("an existing file: %v", err)
		}
		if err := imageio.WritePNG(path, m, tensor.Overwrite); err != nil {
			t.Errorf("with Overwrite: %v", err)
		}
	}
	if err := imageio.WritePNG(filepath.Join(dir, "none", "x.png"), &imageio.Image{Width: 1, Height: 1, Pix: make([]uint8, 3)}); err == nil {
		t.Error("a missing folder was accepted")
	}
	if left, _ := filepath.Glob(filepath.Join(dir, ".*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestFromPlanar(t *testing.T) {
	nan := float32(math.NaN())
	m := imageio.FromPlanar([]float32{-1, 1, 0, nan, -3, 0.2, 7, -0.996}, 1, 2, 4, 127.5, 127.5)
	for i, want := range []uint8{0, 255, 128, 0, 0, 153, 255, 1} {
		if m.Pix[3*i] != want || m.Pix[3*i+1] != want || m.Pix[3*i+2] != want {
			t.Errorf("value %d: %v, want %d", i, m.Pix[3*i:][:3], want)
		}
	}
	c := imageio.FromPlanar([]float32{1, 2, 3, 4, 5, 6}, 3, 1, 2, 1, 0)
	if !bytes.Equal(c.Pix, []uint8{1, 3, 5, 2, 4, 6}) {
		t.Errorf("three channels: %v", c.Pix)
	}
}

func TestGrid(t *testing.T) {
	one := func(w, h int, v uint8) *imageio.Image {
		return &imageio.Image{Width: w, Height: h, Pix: bytes.Repeat([]byte{v}, 3*w*h)}
	}
	g := imageio.Grid([]*imageio.Image{one(2, 2, 10), one(2, 2, 20), one(1, 2, 30)}, 2, 1)
	want := []uint8{
		255, 255, 255, 255, 255, 255, 255,
		255, 10, 10, 255, 20, 20, 255,
		255, 10, 10, 255, 20, 20, 255,
		255, 255, 255, 255, 255, 255, 255,
		255, 30, 255, 255, 255, 255, 255,
		255, 30, 255, 255, 255, 255, 255,
		255, 255, 255, 255, 255, 255, 255,
	}
	if g.Width != 7 || g.Height != 7 {
		t.Fatalf("%dx%d", g.Width, g.Height)
	}
	for i, v := range want {
		if g.Pix[3*i] != v || g.Pix[3*i+2] != v {
			t.Errorf("pixel %d,%d: %d, want %d", i%7, i/7, g.Pix[3*i], v)
		}
	}
}

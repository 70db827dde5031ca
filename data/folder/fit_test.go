package folder

import (
	"encoding/hex"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/imageio"
)

// formula is the picture of scripts/golden/fit.py.
func formula(w, h int) *imageio.Image {
	m := &imageio.Image{Width: w, Height: h}
	for y := range h {
		for x := range w {
			for c := range 3 {
				m.Pix = append(m.Pix, uint8((7*x+13*y+50*c+x*y)%251))
			}
		}
	}
	return m
}

// Pictures are what Pillow makes by the scripts of EDM and ADM, to the bit.
func TestFitGolden(t *testing.T) {
	b, err := os.ReadFile("testdata/fit.json")
	if err != nil {
		t.Fatal(err)
	}
	var doc struct {
		Cases []struct {
			Fit                 string
			Width, Height, Size int
			Pixels              string
		}
	}
	if err := json.Unmarshal(b, &doc); err != nil {
		t.Fatal(err)
	}
	for _, c := range doc.Cases {
		want, err := hex.DecodeString(c.Pixels)
		if err != nil || len(want) != 3*c.Size*c.Size {
			t.Fatal(len(want), err)
		}
		o := Options{Input: "x", Size: c.Size, Fit: c.Fit}
		if err := o.fill(); err != nil {
			t.Fatal(err)
		}
		f, err := newFitter(&o)
		if err != nil {
			t.Fatal(err)
		}
		got := make([]float32, len(want))
		f.into(got, formula(c.Width, c.Height))
		n, off := c.Size*c.Size, 0
		for i, v := range want {
			// A level v and (v/127.5 − 1) in float32 name each other.
			if level := (float64(got[i%3*n+i/3]) + 1) * 127.5; level < float64(v)-1e-4 || level > float64(v)+1e-4 {
				off++
			}
		}
		if off > 0 {
			t.Errorf("%s of %d×%d to %d: %d of %d values differ", c.Fit, c.Width, c.Height, c.Size, off, len(want))
		}
	}
	if len(doc.Cases) != 24 {
		t.Errorf("%d cases, want 24", len(doc.Cases))
	}
}

func TestFitRefusals(t *testing.T) {
	for want, o := range map[string]Options{
		`no fit "corp"; did you mean crop?`:       {Input: "x", Size: 8, Fit: "corp"},
		`no resize "pil-u8-lancos"; did you mean`: {Input: "x", Size: 8, Resize: "pil-u8-lancos"},
		"leave the resize out":                    {Input: "x", Size: 8, Fit: ADM, Resize: "pil-u8-box"},
		"the size 0; want 1 to 4096":              {Input: "x"},
		"-1 items to be left out":                 {Input: "x", Size: 8, Skip: -1},
		"no input; want a folder":                 {Size: 8},
		"nowhere: no such file or folder":         {Input: "nowhere", Size: 8},
	} {
		_, err := Load(t.Context(), o)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", o, err, want)
		}
	}
}

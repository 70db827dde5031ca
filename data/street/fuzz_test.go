package street

import (
	"encoding/json"
	"errors"
	"testing"

	"github.com/fidlab/fidlab/data"
	"github.com/fidlab/fidlab/imageio"
)

// Whatever the truth of a folder says, the readers answer or refuse.
func FuzzTruth(f *testing.F) {
	s, err := New(data.DefaultSeed, Options{})
	if err != nil {
		f.Fatal(err)
	}
	c, err := NewClips(data.DefaultSeed, Options{})
	if err != nil {
		f.Fatal(err)
	}
	frame, clip := s.At(data.Test, 0), c.At(data.Test, 0)
	for _, truth := range []any{frame.Truth(), clip.Truth()} {
		b, err := json.Marshal(truth)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	far := frame.Truth().(Truth)
	far.Boxes = []Box{{Cls: Car, Cx: 1e308, Cy: -1e308, L: 1 << 40, W: 1, H: 1 << 62, Inst: 255}}
	far.Cams[1].Rt[3], far.Cams[2].Rt[11] = 1e308, -1e308
	b, err := json.Marshal(far)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, truth []byte) {
		_, err := s.check(data.Given{Truth: truth, Pictures: frame.Pictures()})
		if err != nil && !errors.Is(err, imageio.ErrInput) {
			t.Fatalf("%q: %v is no input error", truth, err)
		}
		_, err = c.check(data.Given{Truth: truth, Pictures: clip.Pictures()})
		if err != nil && !errors.Is(err, imageio.ErrInput) {
			t.Fatalf("%q: %v is no input error", truth, err)
		}
	})
}

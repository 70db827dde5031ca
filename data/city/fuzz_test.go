package city

import (
	"encoding/json"
	"errors"
	"slices"
	"testing"

	"github.com/fidlab/fidlab/data"
	"github.com/fidlab/fidlab/imageio"
)

// Whatever the truth of a folder says, the reader answers or refuses.
func FuzzTruth(f *testing.F) {
	s, err := New(data.DefaultSeed, 32)
	if err != nil {
		f.Fatal(err)
	}
	b, err := json.Marshal(s.At(data.Test, 0).Truth())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(`{"set":"city","roads":[[1,2,1,2,6]],"buildings":[[[0,0,1e308,0,-1e308,1e308]],[]]}`))
	f.Add([]byte(`{"set":"city","buildings":[[[0,0,1,0]]]}`))
	img := &imageio.Image{Width: 32, Height: 32, Pix: slices.Repeat([]uint8{0, 200, 255}, 1024)}
	f.Fuzz(func(t *testing.T, truth []byte) {
		_, err := s.check(data.Given{Truth: truth, Pictures: []data.Picture{{Image: img}}})
		if err != nil && !errors.Is(err, imageio.ErrInput) {
			t.Fatalf("%q: %v is no input error", truth, err)
		}
	})
}

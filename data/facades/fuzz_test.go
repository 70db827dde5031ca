package facades

import (
	"encoding/json"
	"errors"
	"testing"

	"github.com/fidlab/fidlab/data"
	"github.com/fidlab/fidlab/imageio"
)

// Whatever the truth of a folder says, the reader answers or refuses.
func FuzzTruth(f *testing.F) {
	it := New(data.DefaultSeed).At(data.Test, 0)
	for _, change := range []func(t *Truth){
		func(*Truth) {}, func(t *Truth) { t.X, t.Y = 1<<62, -1<<62 }, func(t *Truth) { t.DoorCol = 1 << 62 },
		func(t *Truth) { t.GroundY += 1 << 40 * t.Py * t.Scale }, func(t *Truth) { t.Scale = 0 },
	} {
		truth := it.Truth().(Truth)
		change(&truth)
		b, err := json.Marshal(truth)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, truth []byte) {
		_, err := check(data.Given{Truth: truth, Pictures: it.Pictures()})
		if err != nil && !errors.Is(err, imageio.ErrInput) {
			t.Fatalf("%q: %v is no input error", truth, err)
		}
	})
}

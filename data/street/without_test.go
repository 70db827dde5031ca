package street

import (
	"bytes"
	"testing"

	"github.com/fidlab/fidlab/data"
)

// Without no box is the item; without all there is no foreground, and the rest is as it was.
func TestWithout(t *testing.T) {
	set, err := New(data.DefaultSeed, Options{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 10 {
		want := set.At(data.Test, i)
		if got := set.Without(data.Test, i, func(uint8) bool { return false }); !bytes.Equal(got.Bytes(), want.Bytes()) {
			t.Fatalf("frame %d without no box is another one", i)
		}
		bare := set.Without(data.Test, i, func(uint8) bool { return true })
		if len(bare.Boxes) != 0 || len(want.Boxes) == 0 {
			t.Errorf("frame %d: %d boxes of %d are left", i, len(bare.Boxes), len(want.Boxes))
		}
		for v := range bare.Views {
			got, was := &bare.Views[v], &want.Views[v]
			for p, c := range got.Cls.IDs {
				if c >= Car && c <= Pedestrian {
					t.Fatalf("frame %d, view %d, pixel %d shows a %s", i, v, p, ClassNames[c])
				}
				if was.Inst.IDs[p] == 0 && !bytes.Equal(got.Pix[3*p:3*p+3], was.Pix[3*p:3*p+3]) {
					t.Fatalf("frame %d, view %d: pixel %d, of no box, has changed", i, v, p)
				}
			}
		}
	}
}

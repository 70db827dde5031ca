package shapes

import (
	"bytes"
	"testing"

	"github.com/fidlab/fidlab/data"
	"github.com/fidlab/fidlab/internal/oracle"
)

// A scene of the set drawn again is the item to the last byte, in every variant; a changed copy
// leaves the scene as it was.
func TestDraw(t *testing.T) {
	texture, err := New(data.DefaultSeed).With(Options{Texture: TextureBackground, Size: 64})
	if err != nil {
		t.Fatal(err)
	}
	for _, set := range []*Set{New(data.DefaultSeed), New16(data.DefaultSeed), texture} {
		for i := range 20 {
			want := set.At(data.Test, i)
			sc := set.Scene(data.Test, i)
			if got := set.Draw(sc.Clone(), data.Test, i); !bytes.Equal(got.Bytes(), want.Bytes()) {
				t.Fatalf("%s: scene %d drawn again is another item", set.Name(), i)
			}
			c := sc.Clone()
			c.Objects[0].Color = 1 + c.Objects[0].Color%Colors
			if c.Objects[0].Color == sc.Objects[0].Color {
				t.Fatalf("scene %d changed with its copy", i)
			}
			if set.opt.Style == Colour && bytes.Equal(set.Draw(c, data.Test, i).Pix, want.Pix) {
				t.Errorf("%s: scene %d with another colour has the same pixels", set.Name(), i)
			}
			c.Objects = nil
			for p, v := range set.Draw(c, data.Test, i).Mask {
				if v != 0 {
					t.Fatalf("pixel %d of a scene without objects is of object %d", p, v)
				}
			}
		}
	}
	sc := New(data.DefaultSeed).Scene(data.Test, 0)
	sc.Objects[0].Cx = 1
	oracle.RefusesOne(t, "want it inside of 32×32", func() { New(data.DefaultSeed).Draw(sc, data.Test, 0) })
}

package unet_test

import (
	"slices"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/models"
	"github.com/fidlab/fidlab/nn"
)

// A network of patches is the network of the pictures cut into them, with the same weights; so
// is a control branch.
func TestPatchIsAShuffle(t *testing.T) {
	c := everything()
	c.Patch, c.Height, c.Width = 2, 8, 4
	cut := everything()
	cut.Channels, cut.Extra, cut.Out = (c.Channels+c.Extra)*4, 0, c.Out*4
	u, v := built(c, gpu.Float64), built(cut, gpu.Float64)
	for i, p := range u.Params().All() {
		v.Params().All()[i].Value.Copy(p.Value)
	}
	b, _ := branch(c, gpu.Float64)
	b.CopyFrom(u)
	d, of := branch(cut, gpu.Float64)
	for i, p := range b.Params().All() {
		of.All()[i].Value.Copy(p.Value)
	}
	tape := nn.NewTape(gpu.CPU(), gpu.Float64)
	tape.Run(func() {
		x, time, in := given(tape, u.Takes(), 2, 10)
		small, without := nn.Concat(1, x, in.Extra).PixelUnshuffle(2), in
		without.Extra = nil
		got, want := u.Forward(x, time, in), v.Forward(small, time, without)
		if g, w := got.PixelUnshuffle(2).Value().F64(), want.Value().F64(); !slices.Equal(g, w) || got.Shape()[1] != c.Out {
			t.Errorf("%v of shape %v, want %v", g[:4], got.Shape(), w[:4])
		}
		var r, s models.Residuals
		b.Forward(&r, x, time, hint(tape, small), in)
		d.Forward(&s, small, time, hint(tape, small), without)
		for i := range r.Skips {
			if !slices.Equal(r.Skips[i].Value().F64(), s.Skips[i].Value().F64()) {
				t.Errorf("residual %d is another", i)
			}
		}
	})
	blocks, rest := u.Costs(8, 4, 3)
	small, smallRest := v.Costs(4, 2, 3)
	if !slices.Equal(blocks, small) || rest != smallRest {
		t.Errorf("costs %g and %g, want %g and %g", blocks, rest, small, smallRest)
	}
	odd := c
	odd.Height = 6
	if k := u.Takes().Multiple; k != 4 {
		t.Errorf("sides are multiples of %d, want 4", k)
	}
	oracle.Refuses(t, map[string]func(){
		"multiples of 4, which 2 levels of squares of 2": func() {
			if err := odd.Check(); err != nil {
				panic(err.Error())
			}
		},
		"hints of shape": func() {
			x, time, in := given(tape, u.Takes(), 2, 10)
			b.Forward(&models.Residuals{}, x, time, hint(tape, x), in)
		},
	})
}

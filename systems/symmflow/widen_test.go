package symmflow

import (
	"math"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/models"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/rng"
)

// filled is a network of so many channels in and out with weights that are all drawn.
func filled(t *testing.T, patch, base, channels int, seed uint64) (models.Net, *nn.Params) {
	t.Helper()
	c := sizes{tiny: true, learned: 1}.scenesRecipe().net
	c.UNet.Patch, c.UNet.Base = patch, base
	p := nn.NewParams(gpu.CPU(), gpu.Float32)
	n, err := c.with(channels, 0, 0).make(p)
	if err != nil {
		t.Fatal(err)
	}
	p.Init(seed)
	s := rng.New(seed, 0)
	for i := range p.Value().F32() {
		p.Value().F32()[i] = float32(0.2 * s.Normal())
	}
	return n, p
}

// A widened network says of pictures what the one says that it began with, whatever the label's channels are, and nothing of labels.
func TestWiden(t *testing.T) {
	for _, patch := range []int{1, 2} {
		src, from := filled(t, patch, 8, 3, 1)
		dst, to := filled(t, patch, 8, 6, 2)
		if err := Widen(to, from); err != nil {
			t.Fatal(err)
		}
		const n, pixels = 2, 32 * 32
		z, x := gpu.CPU().New(gpu.Float32, n, 6, 32, 32), gpu.CPU().New(gpu.Float32, n, 3, 32, 32)
		s := rng.New(5, 5)
		for i := range z.F32() {
			z.F32()[i] = float32(s.Normal())
		}
		for i := range n {
			copy(x.F32()[i*3*pixels:(i+1)*3*pixels], z.F32()[i*6*pixels:])
		}
		said := func(net models.Net, x *gpu.Tensor) (out []float32) {
			tape := nn.NewTape(gpu.CPU(), gpu.Float32)
			tape.Run(func() {
				tape.NoGrad(func() {
					out = append(out, net.Forward(tape.Input(x), tape.Const(0.3, n), models.Inputs{}).Value().F32()...)
				})
			})
			return out
		}
		want, got := said(src, x), said(dst, z)
		var size float64
		for i := range n {
			for k := range 6 * pixels {
				w := 0.0
				if k < 3*pixels {
					w = float64(want[i*3*pixels+k])
					size = math.Max(size, math.Abs(w))
				}
				if off := math.Abs(float64(got[i*6*pixels+k]) - w); off > 1e-5*(1+math.Abs(w)) {
					t.Fatalf("squares of %d: picture %d, value %d is %g, want %g", patch, i, k, got[i*6*pixels+k], w)
				}
			}
		}
		if size < 0.1 {
			t.Errorf("the network says at most %g: the test shows nothing", size)
		}
	}
}

func TestWidenRefused(t *testing.T) {
	_, joint := filled(t, 1, 8, 6, 1)
	_, other := filled(t, 1, 16, 3, 1)
	_, more := filled(t, 1, 8, 7, 1)
	before := append([]float32{}, joint.Value().F32()...)
	for what, from := range map[string]*nn.Params{"of another width": other, "of more channels": more} {
		if err := Widen(joint, from); err == nil || !strings.Contains(err.Error(), "want as many inputs and outputs at least") {
			t.Errorf("%s: %v", what, err)
		}
	}
	alone := nn.NewParams(gpu.CPU(), gpu.Float32)
	alone.At("").Param("w", nn.Zeros, 3)
	alone.Init(1)
	if err := Widen(joint, alone); err == nil || !strings.Contains(err.Error(), "want the same layers") {
		t.Error(err)
	}
	for i, v := range joint.Value().F32() {
		if v != before[i] {
			t.Fatal("what was refused has changed the network")
		}
	}
}

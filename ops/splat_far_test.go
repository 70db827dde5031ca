package ops_test

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/internal/oracle/device"
	"github.com/fidlab/fidlab/ops"
)

// farScene has narrow Gaussians with a support of many sigmas, so that most pixels
// see weights that float32 does not have, and a corner that none reaches.
func farScene(seed uint64, c int) *scene {
	s := newScene(seed, sceneKind{mode: ops.SplatNormalised, support: "ellipse", size: 22, n: 9, c: c, h: 20, w: 37, sigma: [2]float64{0.5, 0.9}})
	s.eps = 0
	for i := range s.n {
		s.mean[2*i] = f32of(10 + math.Mod(math.Abs(s.mean[2*i]), 5)) // the right edge is beyond all
	}
	return s
}

// With ExactFar the image is the weighted mean wherever a Gaussian reaches, also
// where every weight is below 1e-30, and the background elsewhere; gradients too.
func TestSplatExactFar(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		for _, c := range []int{1, 3, 9, 17} {
			for _, planar := range []bool{false, true} {
				t.Run(fmt.Sprintf("c=%d/planar=%v", c, planar), func(t *testing.T) {
					s := farScene(uint64(c), c)
					far, none := s.farPixels()
					if far < 50 || none < 20 {
						t.Fatalf("%d far pixels and %d that no Gaussian reaches: the scene tests too little", far, none)
					}
					// Weights are exp of differences of q up to 242, each to 2^-24 of itself.
					compare(t, dev, 20, func(cfg *ops.SplatConfig) { cfg.ExactFar, cfg.Planar = true, planar }, s, farScene(uint64(c+9), c))
				})
			}
		}
	})
}

// farPixels counts the pixels of weights below 1e-30, and those without any.
func (s *scene) farPixels() (far, none int) {
	order, conics := s.order(), s.conics()
	s.risky = make([]bool, s.h*s.w)
	for p := range s.h * s.w {
		z := 0.0
		list := s.hits(p%s.w, p/s.w, order, conics)
		for _, h := range list {
			z += h.g
		}
		switch {
		case len(list) == 0:
			none++
		case z < 1e-30:
			far++
		}
	}
	return far, none
}

// A single Gaussian is its own feature to the edge of its support, where without
// ExactFar it fades.
func TestSplatExactFarOne(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		p := one(dev, 1)
		p.Background = dev.From([]float32{5, 7}, 1, 2)
		cfg := ops.SplatConfig{Mode: ops.SplatNormalised, Support: ops.SplatEllipse(25), ExactFar: true}
		r := render(t, cfg, p, 8, 80, oracle.Normal(1, 8*80*2))
		at := func(x int) [2]float32 { return [2]float32(r.image[(4*80+x)*2:]) }
		for x, want := range map[int][2]float32{8: {2, -3}, 30: {2, -3}, 57: {2, -3}, 70: {5, 7}} {
			if got := at(x); math.Abs(float64(got[0]-want[0])) > 1e-6 || math.Abs(float64(got[1]-want[1])) > 1e-6 {
				t.Errorf("column %d: %v, want %v", x, got, want)
			}
		}
		cfg.ExactFar = false
		if r = render(t, cfg, p, 8, 80, nil); !(math.Abs(float64(at(57)[0])-5) < 1e-3) {
			t.Errorf("without ExactFar the end of the support is %v, want the background", at(57))
		}
	})
}

func TestSplatExactFarRefuses(t *testing.T) {
	for _, c := range []struct {
		cfg  ops.SplatConfig
		want string
	}{
		{ops.SplatConfig{ExactFar: true}, "it is for SplatNormalised"},
		{ops.SplatConfig{Mode: ops.SplatNormalised, ExactFar: true, Eps: 1e-6}, "it has no epsilon"},
	} {
		if _, _, err := ops.SplatForward(c.cfg, one(gpu.CPU(), 3), 8, 8); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: error %v; want %q", c.cfg, err, c.want)
		}
	}
}

package ops_test

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle/device"
	"github.com/fidlab/fidlab/ops"
)

var splatHalves = map[gpu.DType]float64{gpu.Float16: 0x1p-11, gpu.BFloat16: 0x1p-8} // and what rounding may move, of the value

// naive draws the scene, and takes the gradient of the features from v, with
// every value, product and sum rounded: the plain loop in half precision.
func (s *scene) naive(round func(float64) float64, v []float64) (image, dFeature []float64) {
	image, dFeature = make([]float64, s.h*s.w*s.c), make([]float64, s.n*s.c)
	order, conics := s.order(), s.conics()
	for p := range s.h * s.w {
		list := s.hits(p%s.w, p/s.w, order, conics)
		weights, z, t := make([]float64, len(list)), 0.0, 1.0
		for j, h := range list {
			weights[j] = round(h.g)
			if s.mode == ops.SplatAlpha {
				alpha := round(h.alpha)
				weights[j] = round(alpha * t)
				t = round(t * round(1-alpha))
			}
			z = round(z + weights[j])
		}
		left := map[ops.SplatMode]float64{ops.SplatAdditive: 1, ops.SplatNormalised: s.eps, ops.SplatAlpha: t}[s.mode]
		for k := range s.c {
			sum := 0.0
			for j, h := range list {
				sum = round(sum + round(weights[j]*s.feature[h.i*s.c+k]))
			}
			sum = round(sum + round(left*s.bg[k]))
			over := 1.0
			if s.mode == ops.SplatNormalised {
				over = round(z + s.eps)
			}
			image[p*s.c+k] = round(sum / over)
			for j, h := range list {
				d := &dFeature[h.i*s.c+k]
				*d = round(*d + round(round(weights[j]/over)*v[p*s.c+k]))
			}
		}
	}
	return image, dFeature
}

// Features in half precision: what is drawn and their gradient are at most twice
// as far from float64 as the plain loop in that precision, and rounded but once;
// the other gradients are those of float32.
func TestSplatHalf(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		for dt, unit := range splatHalves {
			for mode, mv := range splatModes {
				for _, c := range []int{3, 8, 12, 33} {
					for _, planar := range []bool{false, true} {
						t.Run(fmt.Sprintf("%v/%s/c=%d/planar=%v", dt, mode, c, planar), func(t *testing.T) {
							compareHalf(t, dev, dt, unit, sceneKind{mode: mv, support: "level", size: 1e-3, n: 14, c: c, h: 18, w: 20}, planar)
						})
					}
				}
			}
		}
	})
}

func compareHalf(t *testing.T, dev *gpu.Device, dt gpu.DType, unit float64, k sceneKind, asPlanes bool) {
	round := func(x float64) float64 { return float64(rounded(dt, float32(x))) }
	s := newScene(uint64(k.c), k)
	for i, f := range s.feature {
		s.feature[i] = round(f)
	}
	v, vc := s.upstream(t, 4)
	for i := range v {
		v[i] = round(v[i])
	}
	p, cfg := params(dev, s), s.config()
	p.Feature, cfg.Planar = dev.FromAs(dt, f32s(s.feature), 1, s.n, s.c), asPlanes
	image, aux, err := ops.SplatForward(cfg, p, s.h, s.w)
	if err != nil {
		t.Fatal(err)
	}
	defer aux.Free()
	up := f32s(v)
	if asPlanes {
		up = planar(up, 1, s.h*s.w, s.c)
	}
	var dCover *gpu.Tensor
	if s.mode == ops.SplatAlpha {
		dCover = dev.From(f32s(vc), 1, s.h, s.w)
	}
	g, err := ops.SplatBackward(aux, dev.FromAs(dt, up, image.Shape()...), dCover)
	if err != nil {
		t.Fatal(err)
	}
	if image.DType() != dt || g.Feature.DType() != dt || g.Mean.DType() != gpu.Float32 {
		t.Fatalf("image %v, gradient of features %v, of means %v", image.DType(), g.Feature.DType(), g.Mean.DType())
	}
	naiveImage, naiveFeature := s.naive(round, v)
	want := append([]float64(nil), s.image...)
	for i, x := range s.image { // SplatNormalised's gradient reads the image as it is stored
		s.image[i] = round(x)
	}
	s.back(v, vc)
	got := floats(t, image)
	if asPlanes {
		got = interleaved(got, s.h*s.w, s.c)
	}
	for p, risky := range s.risky {
		if risky {
			for k := range s.c {
				got[p*s.c+k], naiveImage[p*s.c+k] = float32(want[p*s.c+k]), want[p*s.c+k]
			}
		}
	}
	worst := func(x []float64, y []float64) (d float64) {
		for i := range x {
			d = math.Max(d, math.Abs(x[i]-y[i]))
		}
		return d
	}
	held := func(what string, got []float32, want, naive []float64, tol float64) {
		t.Helper()
		limit, scale := 2*worst(naive, want), math.Max(1, largest(want))
		for i, x := range got {
			d := math.Abs(float64(x) - want[i])
			if once := unit*math.Abs(want[i]) + tol*scale + 0x1p-25; !(d <= once && d <= limit) {
				t.Fatalf("%s[%d] is %g, want %g: off by %.3g, at most %.3g by one rounding and %.3g by the plain loop", what, i, x, want[i], d, once, limit)
			}
		}
	}
	held("image", got, want, naiveImage, 1e-5)
	held("feature", floats(t, g.Feature), s.dFeature, naiveFeature, 1e-4)
	for _, q := range []struct {
		name  string
		got   *gpu.Tensor
		want  []float64
		parts int
	}{{"mean", g.Mean, s.dMean, 1}, {"cov", g.Cov, s.dCov, 3}, {"opacity", g.Opacity, s.dOpacity, 1}, {"background", g.Background, s.dBg, 1}} {
		closeBy(t, q.name, floats(t, q.got), q.want, q.parts, 1e-4)
	}
}

func TestSplatHalfRefuses(t *testing.T) {
	dev := gpu.CPU()
	p := one(dev, 3)
	p.Feature = dev.FromAs(gpu.Float16, make([]float32, 6), 1, 3, 2)
	_, aux, err := ops.SplatForward(ops.SplatConfig{}, p, 8, 8)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ops.SplatBackward(aux, dev.Empty(1, 8, 8, 2), nil); err == nil || !strings.Contains(err.Error(), "the gradient of the image is float32; want float16") {
		t.Errorf("a gradient in float32 of an image in float16: error %v", err)
	}
	p.Mean = dev.FromAs(gpu.Float16, make([]float32, 6), 1, 3, 2)
	if _, _, err := ops.SplatForward(ops.SplatConfig{}, p, 8, 8); err == nil || !strings.Contains(err.Error(), "Mean is float16; want float32") {
		t.Errorf("means in float16: error %v", err)
	}
}

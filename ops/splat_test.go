package ops_test

import (
	"fmt"
	"math"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/internal/oracle/device"
	"github.com/fidlab/fidlab/ops"
)

var (
	splatForms    = map[string]ops.SplatForm{"cholesky": ops.SplatCholesky, "rs": ops.SplatRS, "sigmarho": ops.SplatSigmaRho}
	splatModes    = map[string]ops.SplatMode{"additive": ops.SplatAdditive, "normalised": ops.SplatNormalised, "alpha": ops.SplatAlpha}
	splatGrids    = map[string]ops.SplatGrid{"centers": ops.SplatCenters, "corners": ops.SplatCorners}
	splatSupports = map[string]float64{"box": 3, "ellipse": 2.5, "level": 1.0 / 255}
)

// everyKind runs f over forms x modes x grids x supports.
func everyKind(t *testing.T, f func(t *testing.T, k sceneKind)) {
	for form, fv := range splatForms {
		for mode, mv := range splatModes {
			for grid, gv := range splatGrids {
				for support, size := range splatSupports {
					t.Run(fmt.Sprintf("%s/%s/%s/%s", form, mode, grid, support), func(t *testing.T) {
						f(t, sceneKind{form: fv, mode: mv, grid: gv, support: support, size: size})
					})
				}
			}
		}
	}
}

// upstream is a gradient of image and coverage, 0 where rounding may decide what is drawn.
func (s *scene) upstream(t *testing.T, seed uint64) (v, vc []float64) {
	t.Helper()
	s.draw()
	n, out := 0, 0
	for _, f := range oracle.Normal(seed, s.h*s.w*s.c) {
		v = append(v, float64(f))
	}
	for p, f := range oracle.Normal(seed+1, s.h*s.w) {
		vc = append(vc, float64(f))
		if s.risky[p] {
			clear(v[p*s.c:][:s.c])
			vc[p] = 0
			out++
		}
		n++
	}
	if out > n/4 {
		t.Fatalf("%d of %d pixels hang on rounding: the scene tests too little", out, n)
	}
	return v, vc
}

// The textbook gradients of the oracle against central differences of its own
// drawing: what the other tests rest on.
func TestSplatOracleGradients(t *testing.T) {
	everyKind(t, func(t *testing.T, k sceneKind) {
		k.n, k.c, k.h, k.w, k.lowPass = 5, 2, 12, 17, 0.1
		checkGradients(t, newScene(3, k))
	})
}

// checkGradients holds the oracle's formulas against central differences.
func checkGradients(t *testing.T, s *scene) {
	t.Helper()
	v, vc := s.upstream(t, 5)
	s.back(v, vc)
	loss := func(at *[]float64) func(x []float64) float64 {
		keep := *at
		return func(x []float64) float64 {
			*at = x
			s.draw()
			*at = keep
			sum := 0.0
			for i, f := range s.image {
				sum += v[i] * f
			}
			if s.mode == ops.SplatAlpha {
				for p, f := range s.coverage {
					sum += vc[p] * f
				}
			}
			return sum
		}
	}
	for _, q := range []struct {
		name   string
		at     *[]float64
		formal []float64
	}{{"mean", &s.mean, s.dMean}, {"cov", &s.cov, s.dCov}, {"opacity", &s.opacity, s.dOpacity}, {"feature", &s.feature, s.dFeature}, {"background", &s.bg, s.dBg}} {
		want := oracle.Grad(t, *q.at, 1e-6, loss(q.at))
		scale := largest(want)
		for i, g := range q.formal {
			if !(math.Abs(g-want[i]) <= 1e-6*scale+1e-9) {
				t.Errorf("%s[%d]: %g by formula, %g by differences, largest %g", q.name, i, g, want[i], scale)
			}
		}
	}
}

func largest(x []float64) float64 {
	m := 0.0
	for _, v := range x {
		m = math.Max(m, math.Abs(v))
	}
	return m
}

// compare draws the scenes as one batch, takes gradients, and holds both
// against the oracle: images within 1e-5 of their size, gradients within 1e-4 of
// the largest of their kind. change edits the configuration.
func compare(t *testing.T, dev *gpu.Device, tol float64, change func(*ops.SplatConfig), scenes ...*scene) {
	t.Helper()
	cfg := scenes[0].config()
	if change != nil {
		change(&cfg)
	}
	s := scenes[0]
	p := params(dev, scenes...)
	image, aux, err := ops.SplatForward(cfg, p, s.h, s.w)
	if err != nil {
		t.Fatal(err)
	}
	defer aux.Free()
	shape := fmt.Sprint([]int{len(scenes), s.h, s.w, s.c})
	if cfg.Planar {
		shape = fmt.Sprint([]int{len(scenes), s.c, s.h, s.w})
	}
	if fmt.Sprint(image.Shape()) != shape {
		t.Fatalf("the image has shape %v, want %s", image.Shape(), shape)
	}
	got := floats(t, image)
	var cover []float32
	if c := aux.Coverage(); c != nil {
		cover = floats(t, c)
	}
	var v, vc []float32
	for b, s := range scenes {
		vs, vcs := s.upstream(t, uint64(40+b))
		s.back(vs, vcs)
		v, vc = append(v, f32s(vs)...), append(vc, f32s(vcs)...)
		scale := math.Max(1, largest(s.image))
		bad := 0
		for p := range s.h * s.w {
			if s.risky[p] {
				continue
			}
			for k := range s.c {
				i := (b*s.h*s.w+p)*s.c + k
				if cfg.Planar {
					i = (b*s.c+k)*s.h*s.w + p
				}
				if d := math.Abs(float64(got[i]) - s.image[p*s.c+k]); !(d <= tol*1e-5*scale) {
					if bad++; bad < 4 {
						t.Errorf("image %d, pixel %d,%d, channel %d: %g, want %g (scale %g)", b, p%s.w, p/s.w, k, got[i], s.image[p*s.c+k], scale)
					}
				}
			}
			if cover != nil {
				if d := math.Abs(float64(cover[b*s.h*s.w+p]) - s.coverage[p]); !(d <= tol*1e-5) {
					t.Errorf("image %d, pixel %d: coverage %g, want %g", b, p, cover[b*s.h*s.w+p], s.coverage[p])
				}
			}
		}
	}
	var dCover *gpu.Tensor
	if s.mode == ops.SplatAlpha {
		dCover = dev.From(vc, len(scenes), s.h, s.w)
	}
	if cfg.Planar {
		v = planar(v, len(scenes), s.h*s.w, s.c)
	}
	g, err := ops.SplatBackward(aux, dev.From(v, image.Shape()...), dCover)
	if err != nil {
		t.Fatal(err)
	}
	for _, q := range []struct {
		name string
		got  *gpu.Tensor
		of   func(s *scene) []float64
	}{
		{"mean", g.Mean, func(s *scene) []float64 { return s.dMean }},
		{"cov", g.Cov, func(s *scene) []float64 { return s.dCov }},
		{"opacity", g.Opacity, func(s *scene) []float64 { return s.dOpacity }},
		{"feature", g.Feature, func(s *scene) []float64 { return s.dFeature }},
		{"background", g.Background, func(s *scene) []float64 { return s.dBg }},
	} {
		if q.got == nil {
			continue
		}
		got, n := floats(t, q.got), len(q.of(s))
		// The components of a covariance have different units: each is held against its own largest.
		parts := 1
		if q.name == "cov" {
			parts = 3
		}
		for b, s := range scenes {
			closeBy(t, fmt.Sprintf("image %d: gradient of %s", b, q.name), got[b*n:][:n], q.of(s), parts, tol*1e-4)
		}
	}
	g.Free()
}

// closeBy holds got to within tol of the largest of want; element i is one of
// the kind i % parts, which has a largest of its own.
func closeBy(t *testing.T, what string, got []float32, want []float64, parts int, tol float64) {
	t.Helper()
	for part := range parts {
		scale := 0.0
		for i := part; i < len(want); i += parts {
			scale = math.Max(scale, math.Abs(want[i]))
		}
		for i := part; i < len(want); i += parts {
			if d := math.Abs(float64(got[i]) - want[i]); !(d <= tol*scale+1e-30) {
				t.Errorf("%s[%d] is %g, want %g, largest %g", what, i, got[i], want[i], scale)
				return
			}
		}
	}
}

func floats(t *testing.T, x *gpu.Tensor) []float32 {
	t.Helper()
	v, err := x.Floats()
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func planar(v []float32, b, pixels, c int) []float32 {
	out := make([]float32, len(v))
	for i := range v {
		out[(i/(pixels*c)*c+i%c)*pixels+i/c%pixels] = v[i]
	}
	return out
}

// interleaved is planar's inverse for one image.
func interleaved(v []float32, pixels, c int) []float32 { return planar(v, 1, c, pixels) }

func TestSplatEveryKind(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		everyKind(t, func(t *testing.T, k sceneKind) {
			k.n, k.c, k.h, k.w = 14, 3, 21, 37
			compare(t, dev, 1, nil, newScene(11, k), newScene(12, k))
		})
	})
}

// Channel counts around every kernel's limits, sizes that are no multiple of a tile, both layouts.
func TestSplatChannels(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		for _, c := range []int{1, 3, 4, 5, 8, 9, 16, 17, 33, 64, 65, 130} {
			for mode, mv := range splatModes {
				for _, planar := range []bool{false, true} {
					t.Run(fmt.Sprintf("c=%d/%s/planar=%v", c, mode, planar), func(t *testing.T) {
						s := newScene(uint64(c), sceneKind{mode: mv, support: "level", size: 1e-3, n: 9, c: c, h: 17, w: 20})
						compare(t, dev, 1, func(cfg *ops.SplatConfig) { cfg.Planar = planar }, s)
					})
				}
			}
		}
	})
}

// Without opacity, background and depth; with a low pass; N = 0; one pixel.
func TestSplatOptions(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		for mode, mv := range splatModes {
			k := sceneKind{mode: mv, support: "box", size: 3, n: 7, c: 3, h: 18, w: 16}
			plain := func(k sceneKind) *scene {
				s := newScene(21, k)
				s.noOpacity, s.noBackground, s.noDepth = true, true, true
				clear(s.bg)
				for i := range s.opacity {
					s.opacity[i] = 1
				}
				return s
			}
			t.Run(mode+"/plain", func(t *testing.T) { compare(t, dev, 1, nil, plain(k)) })
			low := k
			low.lowPass, low.sigma = 0.3, [2]float64{0.05, 1}
			for form, fv := range splatForms {
				low.form = fv
				t.Run(mode+"/low pass/"+form, func(t *testing.T) { compare(t, dev, 1, nil, newScene(22, low)) })
			}
			none := k
			none.n = 0
			t.Run(mode+"/none", func(t *testing.T) { compare(t, dev, 1, nil, newScene(23, none), newScene(24, none)) })
			one := k
			one.h, one.w = 1, 1
			row := k
			row.h, row.w = 1, 37
			t.Run(mode+"/one row", func(t *testing.T) { compare(t, dev, 1, nil, newScene(28, row)) })
			t.Run(mode+"/one pixel", func(t *testing.T) { compare(t, dev, 1, nil, newScene(27, one)) })
		}
	})
}

// More Gaussians than any batch or list of one tile, N beyond the path without a sort.
func TestSplatManyInOneTile(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		for mode, mv := range splatModes {
			for _, n := range []int{300, 2100} {
				t.Run(fmt.Sprintf("%s/n=%d", mode, n), func(t *testing.T) {
					s := newScene(31, sceneKind{mode: mv, support: "level", size: 1e-2, n: n, c: 3, h: 12, w: 13})
					for i := range s.opacity { // faint, so that the last still count
						s.opacity[i] = f32of(s.opacity[i] * 0.02)
					}
					compare(t, dev, 1, nil, s)
				})
			}
		}
	})
}

// 256 Gaussians, 16 features: the size at which the tolerances are stated.
func TestSplatTokens(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		s := newScene(41, sceneKind{form: ops.SplatSigmaRho, grid: ops.SplatCorners, support: "box", size: 3, n: 256, c: 16, h: 32, w: 32})
		compare(t, dev, 1, nil, s)
	})
}

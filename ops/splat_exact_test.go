package ops_test

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/internal/oracle/device"
	"github.com/fidlab/fidlab/ops"
)

// rendering is one forward pass and, where v is given, one backward pass.
type rendering struct {
	image []float32
	grads [5][]float32 // mean, cov, feature, opacity, background
}

func render(t *testing.T, cfg ops.SplatConfig, p ops.SplatParams, h, w int, v []float32) (r rendering) {
	t.Helper()
	image, aux, err := ops.SplatForward(cfg, p, h, w)
	if err != nil {
		t.Fatal(err)
	}
	defer aux.Free()
	r.image = floats(t, image)
	if v == nil {
		return r
	}
	g, err := ops.SplatBackward(aux, image.Device().From(v, image.Shape()...), nil)
	if err != nil {
		t.Fatal(err)
	}
	for i, x := range []*gpu.Tensor{g.Mean, g.Cov, g.Feature, g.Opacity, g.Background} {
		if x != nil {
			r.grads[i] = floats(t, x)
		}
	}
	return r
}

func (r rendering) equal(o rendering) bool {
	same := slices.Equal(r.image, o.image)
	for i := range r.grads {
		same = same && slices.Equal(r.grads[i], o.grads[i])
	}
	return same
}

// one is a single round Gaussian of sigma 2 at the centre of pixel (8, 8) with features 2 and -3.
func one(dev *gpu.Device, n int) ops.SplatParams {
	var mean, cov, feature []float32
	for range n {
		mean, cov, feature = append(mean, 8.5, 8.5), append(cov, 2, 0, 2), append(feature, 2, -3)
	}
	return ops.SplatParams{Mean: dev.From(mean, 1, n, 2), Cov: dev.From(cov, 1, n, 3), Feature: dev.From(feature, 1, n, 2)}
}

func TestSplatExact(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		near := func(t *testing.T, what string, got, want float64) {
			t.Helper()
			if !(math.Abs(got-want) <= 1e-6*math.Max(1, math.Abs(want))) {
				t.Errorf("%s: %g, want %g", what, got, want)
			}
		}
		at := func(r rendering, x, y, k int) float64 { return float64(r.image[(y*20+x)*2+k]) }
		cfg := ops.SplatConfig{Support: ops.SplatBox(4)}
		r := render(t, cfg, one(dev, 1), 18, 20, nil)
		near(t, "at the mean", at(r, 8, 8, 0), 2)
		near(t, "a sigma away in x", at(r, 10, 8, 1), -3*math.Exp(-0.5))
		near(t, "a sigma away in y", at(r, 8, 6, 0), 2*math.Exp(-0.5))
		near(t, "beyond the box", at(r, 17, 8, 0), 0)
		near(t, "at its edge", at(r, 16, 8, 0), 2*math.Exp(-8))
		cfg.Mode = ops.SplatNormalised
		for _, n := range []int{1, 2} { // one, or two equal ones: their plain mean, constant within the support
			r = render(t, cfg, one(dev, n), 18, 20, nil)
			near(t, "normalised", at(r, 8, 8, 0), 2/(1+1e-6/float64(n)))
			g := float64(n) * math.Exp(-0.5)
			near(t, "normalised, a sigma away", at(r, 10, 8, 1), -3*g/(g+1e-6))
		}
		same := one(dev, 3) // of constant features, whatever their places: constant within the support
		same.Mean, cfg.ExactFar = dev.From([]float32{6, 7, 9.5, 8, 12, 11}, 1, 3, 2), true
		r = render(t, cfg, same, 18, 20, nil)
		for _, at2 := range [][2]int{{2, 3}, {8, 8}, {16, 15}, {11, 4}} {
			near(t, "constant features", at(r, at2[0], at2[1], 1), -3)
		}
		cfg.ExactFar = false
		point := one(dev, 1) // a sigma of 1e-4 pixels is held at 1e-3: one pixel, no gradient
		point.Cov = dev.From([]float32{1e-4, 1e-4, 0.3}, 1, 1, 3)
		r = render(t, ops.SplatConfig{Form: ops.SplatRS, Support: ops.SplatEllipse(3)}, point, 18, 20, make([]float32, 18*20*2))
		near(t, "at a point", at(r, 8, 8, 0), 2)
		near(t, "beside it", at(r, 9, 8, 0), 0)
		if g := r.grads[1]; g[0] != 0 || g[1] != 0 {
			t.Errorf("sigmas that are held have gradients %v", g)
		}
		p := one(dev, 1)
		p.Opacity, p.Background = dev.From([]float32{0}, 1, 1), dev.From([]float32{5, 7}, 1, 2)
		r = render(t, ops.SplatConfig{Mode: ops.SplatAlpha}, p, 18, 20, nil)
		near(t, "a transparent one over a background", at(r, 8, 8, 1), 7)
		p.Opacity = dev.From([]float32{0.5}, 1, 1)
		r = render(t, ops.SplatConfig{Mode: ops.SplatAlpha}, p, 18, 20, nil)
		near(t, "half over a background", at(r, 8, 8, 0), 3.5)
	})
}

// Doubled features double the image bit by bit, two runs agree bit by bit, and a
// batch of eight is eight single runs bit by bit, gradients too.
func TestSplatReproducible(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		for mode, mv := range splatModes {
			for _, c := range []int{3, 12} {
				t.Run(fmt.Sprintf("%s/c=%d", mode, c), func(t *testing.T) {
					const b = 8
					k := sceneKind{mode: mv, support: "ellipse", size: 3, n: 20, c: c, h: 19, w: 33}
					var scenes []*scene
					for i := range b {
						scenes = append(scenes, newScene(uint64(50+i), k))
					}
					cfg := scenes[0].config()
					v := oracle.Normal(9, b*k.h*k.w*c)
					batch := render(t, cfg, params(dev, scenes...), k.h, k.w, v)
					if !batch.equal(render(t, cfg, params(dev, scenes...), k.h, k.w, v)) {
						t.Error("two runs differ")
					}
					for i, s := range scenes {
						size := k.h * k.w * c
						single := render(t, cfg, params(dev, s), k.h, k.w, v[i*size:][:size])
						part := rendering{image: batch.image[i*size:][:size]}
						for j, g := range batch.grads {
							part.grads[j] = g[i*len(g)/b:][:len(g)/b]
						}
						if !part.equal(single) {
							t.Fatalf("image %d of the batch differs from a run of its own", i)
						}
					}
					if mv != ops.SplatAdditive {
						return
					}
					s := scenes[0]
					clear(s.bg)
					plain := render(t, cfg, params(dev, s), k.h, k.w, nil)
					for i := range s.feature {
						s.feature[i] *= 2
					}
					twice := render(t, cfg, params(dev, s), k.h, k.w, nil)
					for i, x := range plain.image {
						if twice.image[i] != 2*x {
							t.Fatalf("doubled features give %g where the others give %g", twice.image[i], x)
						}
					}
				})
			}
		}
	})
}

// 2048 Gaussians are found by testing all boxes, 2049 by sorting; the one more
// lies outside, so nothing may change.
func TestSplatSortedEqualsTested(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		for _, c := range []int{3, 9} {
			k := sceneKind{support: "box", size: 2, n: 2049, c: c, h: 20, w: 34, sigma: [2]float64{0.5, 1}}
			s := newScene(61, k)
			s.mean[2*2048] = -1000
			v := oracle.Normal(9, k.h*k.w*c)
			sorted := render(t, s.config(), params(dev, s), k.h, k.w, v)
			s.keep(2048)
			tested := render(t, s.config(), params(dev, s), k.h, k.w, v)
			for i, n := range []int{2 * s.n, 3 * s.n, c * s.n, s.n, c} {
				sorted.grads[i] = sorted.grads[i][:n]
			}
			if !sorted.equal(tested) {
				t.Errorf("c=%d: the image or the gradients hang on how a tile finds its Gaussians", c)
			}
		}
	})
}

// The drawing is linear in the features, so <F(f), v> = <f, dF'v>.
func TestSplatAdjoint(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		for _, mode := range []ops.SplatMode{ops.SplatAdditive, ops.SplatNormalised} {
			k := sceneKind{form: ops.SplatRS, mode: mode, support: "ellipse", size: 3, n: 40, c: 5, h: 24, w: 30}
			s := newScene(71, k)
			clear(s.bg)
			v := oracle.Normal(3, k.h*k.w*k.c)
			r := render(t, s.config(), params(dev, s), k.h, k.w, v)
			var left, right, scale float64
			for i, x := range r.image {
				left += float64(x) * float64(v[i])
				scale += math.Abs(float64(x) * float64(v[i]))
			}
			for i, x := range s.feature {
				right += x * float64(r.grads[2][i])
			}
			if !(math.Abs(left-right) <= 1e-5*scale) {
				t.Errorf("mode %d: <F(f), v> = %g and <f, dF'v> = %g, of terms that add up to %g", mode, left, right, scale)
			}
		}
	})
}

// Another order of the Gaussians, a shift by a tile, and x exchanged with y change nothing but roundings.
func TestSplatSymmetries(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		for form, fv := range splatForms {
			if fv == ops.SplatCholesky {
				continue // its transpose is another factor
			}
			k := sceneKind{form: fv, support: "ellipse", size: 3, n: 30, c: 2, h: 40, w: 40}
			draw := func(change func(s *scene)) []float32 {
				s := newScene(81, k)
				for i := range s.n { // within the first quarter, so that a shift loses nothing
					s.mean[2*i], s.mean[2*i+1] = f32of(4+math.Mod(s.mean[2*i], 8)), f32of(4+math.Mod(s.mean[2*i+1], 8))
				}
				change(s)
				return render(t, s.config(), params(dev, s), k.h, k.w, nil).image
			}
			plain := draw(func(*scene) {})
			compareAt := func(what string, got []float32, place func(x, y int) (int, int)) {
				for y := range 20 {
					for x := range 20 {
						gx, gy := place(x, y)
						for c := range k.c {
							a, b := plain[(y*k.w+x)*k.c+c], got[(gy*k.w+gx)*k.c+c]
							// q of up to 4.5 from positions of up to 40 with 24 bits: a few parts in a million of 30 terms.
							if !(math.Abs(float64(a-b)) <= 2e-5) {
								t.Fatalf("%s, %s: pixel %d,%d is %g, want %g", form, what, x, y, b, a)
							}
						}
					}
				}
			}
			compareAt("backwards", draw(func(s *scene) {
				for i, j := 0, s.n-1; i < j; i, j = i+1, j-1 {
					for width, v := range map[int][]float64{2: s.mean, 3: s.cov, 1: s.opacity} {
						for m := range width {
							v[i*width+m], v[j*width+m] = v[j*width+m], v[i*width+m]
						}
					}
					for m := range k.c {
						s.feature[i*k.c+m], s.feature[j*k.c+m] = s.feature[j*k.c+m], s.feature[i*k.c+m]
					}
				}
			}), func(x, y int) (int, int) { return x, y })
			compareAt("a tile further", draw(func(s *scene) {
				for i := range s.n {
					s.mean[2*i], s.mean[2*i+1] = s.mean[2*i]+16, s.mean[2*i+1]+16
				}
			}), func(x, y int) (int, int) { return x + 16, y + 16 })
			compareAt("transposed", draw(func(s *scene) {
				for i := range s.n {
					s.mean[2*i], s.mean[2*i+1] = s.mean[2*i+1], s.mean[2*i]
					if fv == ops.SplatRS {
						s.cov[3*i+2] = math.Pi/2 - s.cov[3*i+2]
					} else {
						s.cov[3*i], s.cov[3*i+1] = s.cov[3*i+1], s.cov[3*i]
					}
				}
			}), func(x, y int) (int, int) { return y, x })
		}
	})
}

// Needles, points, nearly singular and far Gaussians, among ordinary ones.
func TestSplatExtremes(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		for mode, mv := range splatModes {
			needle := newScene(91, sceneKind{form: ops.SplatRS, mode: mv, support: "ellipse", size: 3, n: 4, c: 3, h: 50, w: 50})
			copy(needle.cov, []float64{20, 0.5, f32of(math.Pi / 4)})
			copy(needle.mean, []float64{f32of(24.3), f32of(25.1), 1000, -1000}) // and one far away
			t.Run(mode+"/needle", func(t *testing.T) { compare(t, dev, 1, nil, needle) })
			narrow := newScene(92, sceneKind{form: ops.SplatSigmaRho, mode: mv, support: "box", size: 3, n: 4, c: 3, h: 40, w: 40})
			narrow.cov[2], narrow.cov[5] = f32of(0.9999), f32of(-0.999) // just within the limit of rho
			// The limit is rho = 1 - 1e-4 in float64; its own float32 may lie a rounding beyond it.
			narrow.cov[2] = f32of(0.99985)
			t.Run(mode+"/rho", func(t *testing.T) { compare(t, dev, 4, nil, narrow) })
			point := newScene(93, sceneKind{mode: mv, support: "ellipse", size: 3, n: 6, c: 3, h: 16, w: 16}) // enough that pixels have several: alone, f - F of SplatNormalised is all cancellation
			copy(point.cov, []float64{f32of(0.002), 0, f32of(0.002)})
			copy(point.mean, []float64{f32of(7.1), f32of(7.2)}) // between pixels: no gradient reaches it
			t.Run(mode+"/point", func(t *testing.T) { compare(t, dev, 1, nil, point) })
		}
	})
}

// Fast sums in any order, so it is held against the oracle, not against bits.
func TestSplatFast(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		for _, c := range []int{3, 6, 14, 30, 70} {
			s := newScene(95, sceneKind{mode: ops.SplatAlpha, support: "level", size: 1e-3, n: 12, c: c, h: 20, w: 24})
			compare(t, dev, 1, func(cfg *ops.SplatConfig) { cfg.Fast = true }, s)
		}
	})
}

func TestSplatFaultyValues(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		nan, inf := float32(math.NaN()), float32(math.Inf(1))
		for _, c := range []struct {
			what   string
			form   ops.SplatForm
			change func(mean, cov, opacity, depth, feature []float32)
			want   string
		}{
			{"mean", ops.SplatRS, func(mean, _, _, _, _ []float32) { mean[2*7+1] = nan }, "mean is not finite"},
			{"cov", ops.SplatRS, func(_, cov, _, _, _ []float32) { cov[3*7] = inf }, "covariance's numbers are not finite"},
			{"opacity", ops.SplatRS, func(_, _, o, _, _ []float32) { o[7] = nan }, "opacity is not finite"},
			{"feature", ops.SplatRS, func(_, _, _, _, f []float32) { f[3*7+2] = inf }, "a feature is not finite"},
			{"depth", ops.SplatRS, func(_, _, _, d, _ []float32) { d[7] = -1 }, "depth is negative"},
			{"sigma", ops.SplatRS, func(_, cov, _, _, _ []float32) { cov[3*7+1] = 0 }, "sigma is not positive"},
			{"rho", ops.SplatSigmaRho, func(_, cov, _, _, _ []float32) { cov[3*7+2] = 1 }, "rho is not between"},
			{"size", ops.SplatRS, func(_, cov, _, _, _ []float32) { cov[3*7], cov[3*7+1] = 1e15, 1e15 }, "covariance overflows"},
		} {
			t.Run(c.what, func(t *testing.T) {
				s := newScene(5, sceneKind{form: c.form, mode: ops.SplatAlpha, support: "ellipse", size: 3, n: 5, c: 3, h: 16, w: 16})
				s2 := newScene(6, sceneKind{form: c.form, mode: ops.SplatAlpha, support: "ellipse", size: 3, n: 5, c: 3, h: 16, w: 16})
				host := params(gpu.CPU(), s, s2) // Gaussian 7 is number 2 of image 1
				c.change(host.Mean.F32(), host.Cov.F32(), host.Opacity.F32(), host.Depth.F32(), host.Feature.F32())
				host.Opacity.F32()[9] = nan // a second fault, later
				p := ops.SplatParams{Mean: host.Mean.To(dev), Cov: host.Cov.To(dev), Opacity: host.Opacity.To(dev), Depth: host.Depth.To(dev), Feature: host.Feature.To(dev), Background: host.Background.To(dev)}
				image, aux, err := ops.SplatForward(s.config(), p, 16, 16)
				var bad *ops.SplatDataError
				if !errors.As(err, &bad) || bad.Image != 1 || bad.Gaussian != 2 || bad.Count != 2 || !strings.Contains(err.Error(), c.want) {
					t.Fatalf("error %v; want number 2 of image 1, of 2: %s", err, c.want)
				}
				g, err := ops.SplatBackward(aux, dev.From(oracle.Normal(1, image.Len()), image.Shape()...), nil)
				if err != nil {
					t.Fatal(err)
				}
				for i, x := range []*gpu.Tensor{image, g.Mean, g.Cov, g.Feature, g.Opacity, g.Background} {
					for _, v := range floats(t, x) {
						if v-v != 0 {
							t.Fatalf("tensor %d has %g", i, v)
						}
					}
				}
				if m := floats(t, g.Mean)[14:16]; m[0] != 0 || m[1] != 0 {
					t.Errorf("the faulty one's mean has gradient %v", m)
				}
			})
		}
	})
}

func TestSplatRefuses(t *testing.T) {
	dev := gpu.CPU()
	good := func() (ops.SplatConfig, ops.SplatParams) { return ops.SplatConfig{}, one(dev, 3) }
	for _, c := range []struct {
		what, want string
		h, w       int
		change     func(cfg *ops.SplatConfig, p *ops.SplatParams)
	}{
		{"no mean", "must be given", 8, 8, func(_ *ops.SplatConfig, p *ops.SplatParams) { p.Mean = nil }},
		{"a flat mean", "want [B, N, 2]", 8, 8, func(_ *ops.SplatConfig, p *ops.SplatParams) { p.Mean = dev.Empty(3, 2) }},
		{"fewer covariances", "Cov has shape [1 2 3]; want [1 3 3]", 8, 8, func(_ *ops.SplatConfig, p *ops.SplatParams) { p.Cov = dev.Empty(1, 2, 3) }},
		{"float64 features", "Feature is float64", 8, 8, func(_ *ops.SplatConfig, p *ops.SplatParams) { p.Feature = dev.Empty64(1, 3, 2) }},
		{"no channels", "0 channels", 8, 8, func(_ *ops.SplatConfig, p *ops.SplatParams) { p.Feature = dev.Empty(1, 3, 0) }},
		{"no pixels", "0 x 8 pixels", 0, 8, func(*ops.SplatConfig, *ops.SplatParams) {}},
		{"corners of one row", "at least 1 and 2 x 2", 1, 8, func(cfg *ops.SplatConfig, _ *ops.SplatParams) { cfg.Grid = ops.SplatCorners }},
		{"too many pixels", "pixels; at most 2^31-1", 1 << 20, 1 << 20, func(*ops.SplatConfig, *ops.SplatParams) {}},
		{"depth without order", "Depth is for SplatAlpha", 8, 8, func(_ *ops.SplatConfig, p *ops.SplatParams) { p.Depth = dev.Empty(1, 3) }},
		{"a support of nothing", "a support of 0", 8, 8, func(cfg *ops.SplatConfig, _ *ops.SplatParams) { cfg.Support = ops.SplatBox(0) }},
		{"a form from nowhere", "unknown form 7", 8, 8, func(cfg *ops.SplatConfig, _ *ops.SplatParams) { cfg.Form = 7 }},
		{"a mode from nowhere", "unknown mode 3", 8, 8, func(cfg *ops.SplatConfig, _ *ops.SplatParams) { cfg.Mode = 3 }},
		{"a negative low pass", "LowPass is -1", 8, 8, func(cfg *ops.SplatConfig, _ *ops.SplatParams) { cfg.LowPass = -1 }},
		{"a negative epsilon", "Eps is -1", 8, 8, func(cfg *ops.SplatConfig, _ *ops.SplatParams) { cfg.Eps = -1 }},
	} {
		cfg, p := good()
		c.change(&cfg, &p)
		if _, _, err := ops.SplatForward(cfg, p, c.h, c.w); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v; want %q", c.what, err, c.want)
		}
	}
	cfg, p := good()
	image, aux, err := ops.SplatForward(cfg, p, 8, 8)
	if err != nil {
		t.Fatal(err)
	}
	for what, call := range map[string]func() error{
		"no gradient":             func() error { _, err := ops.SplatBackward(aux, nil, nil); return err },
		"a gradient's shape":      func() error { _, err := ops.SplatBackward(aux, dev.Empty(1, 8, 9, 2), nil); return err },
		"coverage of an additive": func() error { _, err := ops.SplatBackward(aux, image, dev.Empty(1, 8, 8)); return err },
	} {
		if call() == nil {
			t.Errorf("%s: no error", what)
		}
	}
	aux.Free()
	if _, err := ops.SplatBackward(aux, image, nil); err == nil {
		t.Error("a freed aux: no error")
	}
}

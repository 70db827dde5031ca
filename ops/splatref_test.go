package ops_test

import (
	"math"
	"math/rand/v2"
	"sort"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/ops"
)

// This file is the oracle of the Gaussian rasteriser: the definitions in
// float64, pixel by pixel over all Gaussians, and the textbook gradients through
// the conic, which the code under test does not use.

// scene is one image's worth of Gaussians in float64 (of float32 values).
type scene struct {
	form                                   ops.SplatForm
	mode                                   ops.SplatMode
	grid                                   ops.SplatGrid
	support                                string // "box", "ellipse", "level"
	size, eps, lowPass                     float64
	n, c, h, w                             int
	mean, cov, opacity, feature, bg, depth []float64
	dMean, dCov, dOpacity, dFeature, dBg   []float64
	image, coverage                        []float64
	risky                                  []bool // pixels within rounding of an edge or a threshold
	noBackground, noOpacity, noDepth       bool
	rawMean                                ops.SplatRawMean
	rawCov                                 bool
}

// config is the scene's configuration for the code under test.
func (s *scene) config() ops.SplatConfig {
	sup := map[string]func(float32) ops.SplatSupport{"box": ops.SplatBox, "ellipse": ops.SplatEllipse, "level": ops.SplatLevel}[s.support]
	return ops.SplatConfig{Form: s.form, Mode: s.mode, Grid: s.grid, Support: sup(float32(s.size)), Eps: float32(s.eps), LowPass: float32(s.lowPass), RawMean: s.rawMean, RawCov: s.rawCov}
}

// sceneKind is what random scenes are made of.
type sceneKind struct {
	form       ops.SplatForm
	mode       ops.SplatMode
	grid       ops.SplatGrid
	support    string
	size       float64
	n, c, h, w int
	lowPass    float64
	sigma      [2]float64 // in pixels; 0 is 1.2 to 6
}

func newScene(seed uint64, k sceneKind) *scene {
	r := rand.New(rand.NewPCG(seed, 77))
	if k.sigma[1] == 0 {
		k.sigma = [2]float64{1.2, 6}
	}
	s := &scene{form: k.form, mode: k.mode, grid: k.grid, support: k.support, size: f32of(k.size), eps: f32of(1e-6), lowPass: f32of(k.lowPass), n: k.n, c: k.c, h: k.h, w: k.w}
	px, py := 1.0, 1.0 // the grid's unit in pixels
	if k.grid == ops.SplatCorners {
		px, py = 2/float64(k.w-1), 2/float64(k.h-1)
	}
	for range k.n {
		x, y := (r.Float64()*1.2-0.1)*float64(k.w), (r.Float64()*1.2-0.1)*float64(k.h)
		sigma := func() float64 { return k.sigma[0] * math.Pow(k.sigma[1]/k.sigma[0], r.Float64()) }
		sx, sy := sigma(), sigma()
		if k.grid == ops.SplatCorners {
			x, y = (x-0.5)*px-1, (y-0.5)*py-1
		}
		s.mean = append(s.mean, f32of(x), f32of(y))
		switch k.form {
		case ops.SplatCholesky:
			s.cov = append(s.cov, f32of(sx*px), f32of(r.NormFloat64()*sy*py/2), f32of(-sy*py))
		case ops.SplatRS:
			m := math.Min(px, py)
			s.cov = append(s.cov, f32of(sx*m), f32of(sy*m), f32of(r.Float64()*7))
		case ops.SplatSigmaRho:
			s.cov = append(s.cov, f32of(sx*px), f32of(sy*py), f32of(r.Float64()*1.8-0.9))
		}
		s.opacity = append(s.opacity, f32of(0.1+1.1*r.Float64()))
		s.depth = append(s.depth, f32of(math.Floor(r.Float64()*float64(k.n)))) // with ties
	}
	for range k.n * k.c {
		s.feature = append(s.feature, f32of(r.Float64()*2-1))
	}
	for range k.c {
		s.bg = append(s.bg, f32of(r.NormFloat64()))
	}
	return s
}

// keep leaves the first n Gaussians.
func (s *scene) keep(n int) {
	s.n = n
	s.mean, s.cov, s.opacity, s.depth, s.feature = s.mean[:2*n], s.cov[:3*n], s.opacity[:n], s.depth[:n], s.feature[:s.c*n]
}

func f32of(x float64) float64 { return float64(float32(x)) }

func f32s(x []float64) []float32 {
	out := make([]float32, len(x))
	for i, v := range x {
		out[i] = float32(v)
	}
	return out
}

// pos is where pixel i of an axis of n sits, and one pixel's step.
func (s *scene) pos(i, n int) (at, step float64) {
	if s.grid == ops.SplatCorners {
		return 2*float64(i)/float64(n-1) - 1, 2 / float64(n-1)
	}
	return float64(i) + 0.5, 1
}

// covariance is a, b, c by the definition.
func (s *scene) covariance(i int) (a, b, c float64) {
	u, v, w := s.numbers(i)
	switch s.form {
	case ops.SplatCholesky:
		a, b, c = u*u, u*v, v*v+w*w
	case ops.SplatRS:
		sin, cos := math.Sin(w), math.Cos(w)
		a, b, c = u*u*cos*cos+v*v*sin*sin, (u*u-v*v)*sin*cos, u*u*sin*sin+v*v*cos*cos
	default:
		a, b, c = u*u, w*u*v, v*v
	}
	_, px := s.pos(0, s.w)
	_, py := s.pos(0, s.h)
	return a + s.lowPass*px*px, b, c + s.lowPass*py*py
}

// hit is one Gaussian at one pixel.
type hit struct {
	i             int
	dx, dy, e, g  float64
	alpha, before float64 // SplatAlpha: α and the light in front of it
}

const near = 1e-4 // relative distance below which rounding may decide

// hits are the Gaussians that reach pixel (x, y), in drawing order. It marks the pixel where that hangs on rounding.
func (s *scene) hits(x, y int, order []int, conics [][6]float64) (list []hit) {
	p := y*s.w + x
	fx, _ := s.pos(x, s.w)
	fy, _ := s.pos(y, s.h)
	for _, i := range order {
		k := conics[i]
		mx, my := s.place(i)
		dx, dy, o := fx-mx, fy-my, s.opacity[i]
		q := (k[0]*dx*dx+k[2]*dy*dy)/2 + k[1]*dx*dy
		inside := false
		edge := func(v, limit float64) bool {
			s.risky[p] = s.risky[p] || math.Abs(v/limit-1) < near
			return v <= limit
		}
		switch s.support {
		case "box":
			ex, ey := s.size*math.Sqrt(k[3]), s.size*math.Sqrt(k[4])
			if math.Abs(dx) <= ex*(1+near) && math.Abs(dy) <= ey*(1+near) {
				inx, iny := edge(math.Abs(dx), ex), edge(math.Abs(dy), ey)
				inside = inx && iny
			}
		case "ellipse":
			inside = edge(q, s.size*s.size/2)
		case "level":
			inside = o > s.size && edge(q, math.Log(o/s.size))
		}
		if inside {
			e := math.Exp(-q)
			list = append(list, hit{i: i, dx: dx, dy: dy, e: e, g: o * e})
		}
	}
	if s.mode != ops.SplatAlpha {
		return list
	}
	drawn, t := list[:0], 1.0
	for _, h := range list {
		h.alpha = math.Min(0.99, h.g)
		s.risky[p] = s.risky[p] || math.Abs(h.g/0.99-1) < near || math.Abs(h.alpha*255-1) < near
		if h.alpha < 1.0/255 {
			continue
		}
		then := t * (1 - h.alpha)
		s.risky[p] = s.risky[p] || math.Abs(then/1e-4-1) < 10*near
		if then <= 1e-4 {
			break
		}
		h.before, t = t, then
		drawn = append(drawn, h)
	}
	return drawn
}

func (s *scene) order() []int {
	order := make([]int, s.n)
	for i := range order {
		order[i] = i
	}
	if s.mode == ops.SplatAlpha && !s.noDepth {
		sort.SliceStable(order, func(a, b int) bool { return s.depth[order[a]] < s.depth[order[b]] })
	}
	return order
}

// conics are A, B, D, a, c, det of every Gaussian.
func (s *scene) conics() [][6]float64 {
	out := make([][6]float64, s.n)
	for i := range out {
		a, b, c := s.covariance(i)
		det := a*c - b*b
		out[i] = [6]float64{c / det, -b / det, a / det, a, c, det}
	}
	return out
}

// draw makes image [H, W, C], coverage [H, W] and risky.
func (s *scene) draw() {
	s.image, s.coverage, s.risky = make([]float64, s.h*s.w*s.c), make([]float64, s.h*s.w), make([]bool, s.h*s.w)
	order, conics := s.order(), s.conics()
	for p := range s.h * s.w {
		out := s.image[p*s.c:][:s.c]
		z, t := 0.0, 1.0
		for _, h := range s.hits(p%s.w, p/s.w, order, conics) {
			weight := h.g
			if s.mode == ops.SplatAlpha {
				weight, t = h.alpha*h.before, h.before*(1-h.alpha)
			}
			z += h.g
			for k := range out {
				out[k] += weight * s.feature[h.i*s.c+k]
			}
		}
		s.coverage[p] = 1 - t
		for k := range out {
			switch s.mode {
			case ops.SplatAdditive:
				out[k] += s.bg[k]
			case ops.SplatNormalised:
				out[k] = (out[k] + s.eps*s.bg[k]) / (z + s.eps)
				if z+s.eps == 0 { // no Gaussian and no epsilon
					out[k] = s.bg[k]
				}
			case ops.SplatAlpha:
				out[k] += t * s.bg[k]
			}
		}
	}
}

// back makes the gradients from v [H, W, C] and vc [H, W] by the textbook formulas.
func (s *scene) back(v, vc []float64) {
	s.dMean, s.dCov, s.dOpacity = make([]float64, 2*s.n), make([]float64, 3*s.n), make([]float64, s.n)
	s.dFeature, s.dBg = make([]float64, s.n*s.c), make([]float64, s.c)
	order, conics := s.order(), s.conics()
	conic := make([][3]float64, s.n)
	if s.image == nil {
		s.draw()
	}
	for p := range s.h * s.w {
		vp := v[p*s.c:][:s.c]
		list := s.hits(p%s.w, p/s.w, order, conics)
		z, t := s.eps, 1.0
		for _, h := range list {
			z += h.g
			t *= 1 - h.alpha
		}
		left := map[ops.SplatMode]float64{ops.SplatAdditive: 1, ops.SplatNormalised: s.eps / z, ops.SplatAlpha: t}[s.mode]
		if z == 0 {
			left = 1
		}
		behind := make([]float64, s.c)
		for k := range behind {
			s.dBg[k] += left * vp[k]
			behind[k] = left * s.bg[k]
		}
		for j := len(list) - 1; j >= 0; j-- {
			h, dh := list[j], 0.0
			f := s.feature[h.i*s.c:][:s.c]
			for k := range f {
				switch s.mode {
				case ops.SplatAdditive:
					dh += vp[k] * f[k]
					s.dFeature[h.i*s.c+k] += h.g * vp[k]
				case ops.SplatNormalised:
					dh += vp[k] * (f[k] - s.image[p*s.c+k]) / z
					s.dFeature[h.i*s.c+k] += h.g / z * vp[k]
				case ops.SplatAlpha:
					dh += vp[k] * (h.before*f[k] - behind[k]/(1-h.alpha))
					behind[k] += h.alpha * h.before * f[k]
					s.dFeature[h.i*s.c+k] += h.alpha * h.before * vp[k]
				}
			}
			if s.mode == ops.SplatAlpha {
				dh += vc[p] * t / (1 - h.alpha)
				if h.g > 0.99 {
					dh = 0
				}
			}
			a := conics[h.i]
			s.dOpacity[h.i] += h.e * dh
			m := -h.g * dh
			conic[h.i][0] += m * h.dx * h.dx / 2
			conic[h.i][1] += m * h.dx * h.dy
			conic[h.i][2] += m * h.dy * h.dy / 2
			s.dMean[2*h.i] -= m * (a[0]*h.dx + a[1]*h.dy)
			s.dMean[2*h.i+1] -= m * (a[1]*h.dx + a[2]*h.dy)
		}
	}
	for i := range s.n {
		a, b, d := conics[i][0], conics[i][1], conics[i][2]
		da, db, dd := conic[i][0], conic[i][1], conic[i][2]
		ga := -(da*a*a + db*a*b + dd*b*b)
		gb := -(2*da*a*b + db*(a*d+b*b) + 2*dd*b*d)
		gc := -(da*b*b + db*b*d + dd*d*d)
		u, v, w := s.numbers(i)
		out := s.dCov[3*i:]
		switch s.form {
		case ops.SplatCholesky:
			out[0], out[1], out[2] = 2*u*ga+v*gb, u*gb+2*v*gc, 2*w*gc
		case ops.SplatRS:
			sin, cos := math.Sin(w), math.Cos(w)
			out[0] = 2 * u * (cos*cos*ga + sin*cos*gb + sin*sin*gc)
			out[1] = 2 * v * (sin*sin*ga - sin*cos*gb + cos*cos*gc)
			out[2] = (u*u - v*v) * (-2*sin*cos*ga + (cos*cos-sin*sin)*gb + 2*sin*cos*gc)
		default:
			out[0], out[1], out[2] = 2*u*ga+w*v*gb, 2*v*gc+w*u*gb, u*v*gb
		}
		s.chainRaw(i)
	}
}

// params puts scenes of one kind on a device as a batch.
func params(dev *gpu.Device, scenes ...*scene) ops.SplatParams {
	s := scenes[0]
	all := func(of func(s *scene) []float64) (v []float32) {
		for _, s := range scenes {
			v = append(v, f32s(of(s))...)
		}
		return v
	}
	b := len(scenes)
	p := ops.SplatParams{
		Mean:    dev.From(all(func(s *scene) []float64 { return s.mean }), b, s.n, 2),
		Cov:     dev.From(all(func(s *scene) []float64 { return s.cov }), b, s.n, 3),
		Feature: dev.From(all(func(s *scene) []float64 { return s.feature }), b, s.n, s.c),
	}
	if !s.noOpacity {
		p.Opacity = dev.From(all(func(s *scene) []float64 { return s.opacity }), b, s.n)
	}
	if !s.noBackground {
		p.Background = dev.From(all(func(s *scene) []float64 { return s.bg }), b, s.c)
	}
	if s.mode == ops.SplatAlpha && !s.noDepth {
		p.Depth = dev.From(all(func(s *scene) []float64 { return s.depth }), b, s.n)
	}
	return p
}

package ops_test

import (
	"fmt"
	"math"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle/device"
	"github.com/fidlab/fidlab/ops"
)

var splatRawMeans = map[string]ops.SplatRawMean{"given": ops.SplatMeanGiven, "tanh": ops.SplatMeanTanh, "sigmoid": ops.SplatMeanSigmoid}

func logistic(x float64) float64 { return 1 / (1 + math.Exp(-x)) }

// half is half an axis of n pixels and its middle, in the grid's unit.
func (s *scene) half(n int) (half, centre float64) {
	if s.grid == ops.SplatCorners {
		return 1, 0
	}
	return float64(n) / 2, float64(n) / 2
}

// place is a Gaussian's mean, by the definition of the raw variable.
func (s *scene) place(i int) (x, y float64) {
	at := func(v float64, n int) float64 {
		half, centre := s.half(n)
		switch s.rawMean {
		case ops.SplatMeanTanh:
			return half*math.Tanh(v) + centre
		case ops.SplatMeanSigmoid:
			return half*(2*logistic(v)-1) + centre
		}
		return v
	}
	return at(s.mean[2*i], s.w), at(s.mean[2*i+1], s.h)
}

// numbers are the form's three numbers.
func (s *scene) numbers(i int) (u, v, w float64) {
	u, v, w = s.cov[3*i], s.cov[3*i+1], s.cov[3*i+2]
	switch {
	case !s.rawCov:
	case s.form == ops.SplatCholesky:
		u, w = u+0.5, w+0.5
	case s.form == ops.SplatRS:
		u, v, w = math.Abs(u+0.5), math.Abs(v+0.5), 2*math.Pi*logistic(w)
	default:
		u, v, w = logistic(u), logistic(v), 2*logistic(w)-1
	}
	return u, v, w
}

// chainRaw takes a Gaussian's gradients to the raw variables, with the activations' textbook derivatives.
func (s *scene) chainRaw(i int) {
	x, y := s.place(i)
	for j, p := range [2]float64{x, y} {
		half, centre := s.half([2]int{s.w, s.h}[j])
		unit := (p - centre) / half
		switch s.rawMean {
		case ops.SplatMeanTanh:
			s.dMean[2*i+j] *= half * (1 - unit*unit)
		case ops.SplatMeanSigmoid:
			s.dMean[2*i+j] *= half * (1 - unit*unit) / 2
		}
	}
	if !s.rawCov || s.form == ops.SplatCholesky {
		return
	}
	u, v, w := s.numbers(i)
	d := s.dCov[3*i:]
	if s.form == ops.SplatRS {
		d[0] *= math.Copysign(1, s.cov[3*i]+0.5)
		d[1] *= math.Copysign(1, s.cov[3*i+1]+0.5)
		turn := w / (2 * math.Pi)
		d[2] *= 2 * math.Pi * turn * (1 - turn)
		return
	}
	d[0] *= u * (1 - u)
	d[1] *= v * (1 - v)
	d[2] *= (1 - w*w) / 2
}

// rawScene is a scene whose means and covariances are raw variables, rounded to float32.
func rawScene(seed uint64, k sceneKind, mean ops.SplatRawMean) *scene {
	s := newScene(seed, k)
	logit := func(p float64) float64 { return math.Log(p / (1 - p)) }
	for i := range s.mean {
		half, centre := s.half([2]int{s.w, s.h}[i%2])
		unit := math.Max(-0.97, math.Min(0.97, (s.mean[i]-centre)/half))
		switch mean {
		case ops.SplatMeanTanh:
			s.mean[i] = f32of(math.Atanh(unit))
		case ops.SplatMeanSigmoid:
			s.mean[i] = f32of(logit((unit + 1) / 2))
		}
	}
	for i := range s.n {
		c := s.cov[3*i:]
		switch k.form {
		case ops.SplatCholesky:
			c[0], c[2] = f32of(c[0]-0.5), f32of(c[2]-0.5)
		case ops.SplatRS:
			c[0], c[1] = f32of(c[0]-0.5), f32of(-c[1]-0.5) // of either sign
			c[2] = f32of(logit(0.05 + 0.9*math.Mod(c[2], 1)))
		default:
			c[0], c[1], c[2] = f32of(logit(c[0])), f32of(logit(c[1])), f32of(logit((c[2]+1)/2))
		}
	}
	s.rawMean, s.rawCov = mean, true
	return s
}

// everyRaw runs f over forms, means and grids. Sigmas by sigmoid are below 1, in the grid's unit.
func everyRaw(t *testing.T, f func(t *testing.T, k sceneKind, mean ops.SplatRawMean)) {
	for form, fv := range splatForms {
		for mean, mv := range splatRawMeans {
			for grid, gv := range splatGrids {
				t.Run(fmt.Sprintf("%s/%s/%s", form, mean, grid), func(t *testing.T) {
					k := sceneKind{form: fv, grid: gv, support: "box", size: 3}
					if fv == ops.SplatSigmaRho && gv == ops.SplatCenters {
						k.sigma, k.lowPass = [2]float64{0.6, 0.95}, 0.3
					}
					f(t, k, mv)
				})
			}
		}
	}
}

// The oracle's chains of raw variables against central differences of its drawing.
func TestSplatOracleRaw(t *testing.T) {
	everyRaw(t, func(t *testing.T, k sceneKind, mean ops.SplatRawMean) {
		k.n, k.c, k.h, k.w = 5, 2, 12, 17
		checkGradients(t, rawScene(3, k, mean))
	})
}

func TestSplatRaw(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		modes := []ops.SplatMode{ops.SplatAdditive, ops.SplatNormalised, ops.SplatAlpha}
		i := 0
		everyRaw(t, func(t *testing.T, k sceneKind, mean ops.SplatRawMean) {
			k.n, k.c, k.h, k.w, k.mode = 14, 3, 21, 37, modes[i%3]
			i++
			compare(t, dev, 1, nil, rawScene(11, k, mean), rawScene(12, k, mean))
		})
	})
}

// Raw variables far out saturate: no fault, no NaN, gradients of 0 where a limit holds; what is not finite is a fault still.
func TestSplatRawExtremes(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		nan := float32(math.NaN())
		for form, fv := range splatForms {
			mean := []float32{1e4, -1e4, 0, 0, 0.1, 0.2}
			cov := []float32{-0.5, 0, -0.5, 1e4, -1e4, 1e4, -200, 200, -300}
			p := ops.SplatParams{Mean: dev.From(mean, 1, 3, 2), Cov: dev.From(cov, 1, 3, 3), Feature: dev.From([]float32{1, 2, 3}, 1, 3, 1)}
			for _, rm := range splatRawMeans {
				if rm == ops.SplatMeanGiven {
					continue
				}
				cfg := ops.SplatConfig{Form: fv, Grid: ops.SplatCorners, RawMean: rm, RawCov: true, Support: ops.SplatBox(3)}
				v := make([]float32, 64)
				for i := range v {
					v[i] = 1
				}
				r := render(t, cfg, p, 8, 8, v)
				for i, x := range append(append(append([]float32{}, r.image...), r.grads[0]...), r.grads[1]...) {
					if x-x != 0 {
						t.Errorf("%s: value %d is %g", form, i, x)
					}
				}
				if r.grads[0][0] != 0 || r.grads[0][1] != 0 {
					t.Errorf("%s: a saturated mean has gradient %v", form, r.grads[0][:2])
				}
			}
			p.Cov = dev.From([]float32{0, nan, 0, 0, 0, 0, 0, 0, 0}, 1, 3, 3)
			if _, _, err := ops.SplatForward(ops.SplatConfig{Form: fv, RawCov: true}, p, 8, 8); err == nil {
				t.Errorf("%s: a raw number that is NaN: no error", form)
			}
		}
		if _, _, err := ops.SplatForward(ops.SplatConfig{RawMean: 3}, one(dev, 2), 8, 8); err == nil {
			t.Error("a raw mean from nowhere: no error")
		}
	})
}

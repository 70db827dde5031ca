package sampler_test

import (
	"context"
	"math"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/sampler"
)

// The walk of one value is followed by the formulas of the method in x/A: which
// steps it tries, and where it ends.
func TestAdaptiveByHand(t *testing.T) {
	for _, order := range []int{2, 3} {
		const rtol, atol, safety = 0.01, 0.001, 0.81
		d := func(y, l float64) float64 { // the golden files' kind of mixture in one dimension: two points of deviation 0.1
			s2 := math.Exp(-2 * l)
			v := 0.01 + s2
			r := 1 / (1 + math.Exp(-2*y/v))
			m := 2*r - 1
			return m + 0.01/v*(y-m)
		}
		eps := func(y, l float64) float64 { return (y - d(y, l)) * math.Exp(l) }
		two := func(y, l, h, r float64) float64 {
			u := y - math.Exp(-l-r*h)*math.Expm1(r*h)*eps(y, l)
			e0, e1 := eps(y, l), eps(u, l+r*h)
			return y - math.Exp(-l-h)*math.Expm1(h)*(e0+(e1-e0)/(2*r))
		}
		three := func(y, l, h float64) float64 {
			const r1, r2 = 1. / 3, 2. / 3
			e0 := eps(y, l)
			u := y - math.Exp(-l-r1*h)*math.Expm1(r1*h)*e0
			e1 := eps(u, l+r1*h)
			w := y - math.Exp(-l-r2*h)*(math.Expm1(r2*h)*e0+r2/r1*(math.Expm1(r2*h)/(r2*h)-1)*(e1-e0))
			return y - math.Exp(-l-h)*(math.Expm1(h)*e0+(math.Expm1(h)/h-1)/r2*(eps(w, l+r2*h)-e0))
		}
		y, l, end, h := 0.3*5, -math.Log(5), -math.Log(0.02), 0.05
		last, tried, rejected := y, 0, 0
		for l < end {
			step := h
			if end-l <= 1.01*h {
				step = end - l
			}
			low, high := y-math.Exp(-l-step)*math.Expm1(step)*eps(y, l), two(y, l, step, 0.5)
			if order == 3 {
				low, high = two(y, l, step, 1./3), three(y, l, step)
			}
			err := math.Abs(low-high) / max(atol, rtol*max(math.Abs(low), math.Abs(last)))
			f := 1 + math.Atan(math.Pow(err+1e-8, -1/float64(order))-1)
			tried++
			h = min(h, step) * f
			if f < safety {
				rejected++
				continue
			}
			y, last, l = high, low, l+step
			if end-l < 1e-12 {
				break
			}
		}
		den := pointwise(func(x float64, p diffusion.Point) float64 { return d(x/p.A, -math.Log(p.Sigma())) })
		for _, path := range []string{"ve", "vp-sde"} {
			g := build(t, path, diffusion.Spec{Rule: "sigmas", List: []float64{5, 0.02}, End: diffusion.Keep})
			s := sampler.DPMAdaptive{Order: order, RTol: rtol, ATol: atol, H: 0.05, I: 1, Safety: safety}
			res, err := sampler.Run(context.Background(), den, s, g, sampler.Options{
				N: 1, Shape: []int{1}, Double: true, State: gpu.CPU().From64([]float64{0.3 * 5 * g.Steps[0].From.A}, 1, 1),
			})
			if err != nil {
				t.Fatal(err)
			}
			if got := res.X.F64()[0]; math.Abs(got-y) > 1e-11 {
				t.Errorf("order %d on %s: %.15g, want %.15g", order, path, got, y)
			}
			if want := order*tried - rejected; res.NFE != want || res.Rejected != (order-1)*rejected {
				t.Errorf("order %d on %s: NFE %d, rejected %d; want %d and %d", order, path, res.NFE, res.Rejected, want, (order-1)*rejected)
			}
		}
		if rejected == 0 {
			t.Errorf("order %d: nothing was rejected in %d steps; nothing is tested", order, tried)
		}
	}
}

// pointwise denoises every value by a function of it.
type pointwise func(x float64, p diffusion.Point) float64

func (f pointwise) DenoiseAt(_ context.Context, out, x *gpu.Tensor, at []diffusion.Point, _ sampler.Cond) error {
	size := x.Len() / len(at)
	for i, v := range x.F64() {
		out.F64()[i] = f(v, at[i/size])
	}
	return nil
}

func (f pointwise) Denoise(ctx context.Context, out, x *gpu.Tensor, sigma []float64, c sampler.Cond) error {
	return f.DenoiseAt(ctx, out, x, points(sigma), c)
}

// Tighter tolerances give smaller errors, in proportion.
func TestAdaptiveFollowsItsTolerance(t *testing.T) {
	for _, order := range []int{2, 3} {
		for _, p := range []problem{gaussianProblem, mixtureProblem(t)} {
			g := build(t, "ve", diffusion.Spec{Rule: "sigmas", List: []float64{10, 0.05}, End: diffusion.Keep})
			for _, tol := range []float64{1e-2, 1e-4, 1e-6} {
				s := sampler.DPMAdaptive{Order: order, RTol: tol, ATol: tol, H: 0.05, I: 1, Safety: 0.81}
				if e := errorOf(t, p, s, g); e > 10*tol {
					t.Errorf("order %d on the %s: error %.2g at tolerance %g", order, p.name, e, tol)
				}
			}
		}
	}
}

func TestDPMAdaptiveRefusals(t *testing.T) {
	for spec, want := range map[string]string{
		"order=4": "wanted 2 or 3", "h=0": "first step 0", "h=Inf": "first step +Inf", "safety=1": "safety 1", "i=0": "i=0", "p=-1": "p=-1", "d=NaN": "d=NaN",
	} {
		if _, err := sampler.ByName("dpm-adaptive:" + spec); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q", spec, err, want)
		}
	}
}

package sampler_test

import (
	"context"
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/sampler"
)

// singlesteps are the solvers of several evaluations a step whose states are
// scaled for bookkeeping only.
var singlesteps = []string{"dpm-solver-2", "dpm-solver-3", "dpm++2s", "dpm++3s", "dpm-fast", "dpm-singlestep", "dpm-singlestep:order=3,of=eps", "dpm2"}

// severalEvaluations is how many evaluations n steps take, the last to zero or
// not, of every solver that takes more than one a step.
var severalEvaluations = map[string]func(n int, zero bool) int{
	"heun":         func(n int, zero bool) int { return 2*n - one(zero) },
	"dpm2":         func(n int, zero bool) int { return 2*n - one(zero) },
	"dpm-solver-2": func(n int, zero bool) int { return 2*n - one(zero) },
	"dpm++2s":      func(n int, zero bool) int { return 2*n - one(zero) },
	"dpm-solver-3": func(n int, zero bool) int { return 3*n - 2*one(zero) },
	"dpm++3s":      func(n int, zero bool) int { return 3*n - 2*one(zero) },
	"dpm-fast":     func(n int, zero bool) int { return 3*n - 1 - one(zero) },
	"midpoint":     func(n int, zero bool) int { return 2 * n },
	"rk4":          func(n int, zero bool) int { return 4*n - 2*one(zero) },
	"pndm":         func(n int, _ bool) int { return n + 9 },
	"plms":         func(n int, _ bool) int { return n + 1 },
	"edm":          func(n int, zero bool) int { return 2*n - one(zero) },
	"flowturbo":    func(n int, zero bool) int { return n + 1 - one(zero) },
	"dpm2-a":       func(n int, zero bool) int { return 2*n - one(zero) },
	"dpm++2s-a":    func(n int, zero bool) int { return 2*n - one(zero) },
	"dpm++sde":     func(n int, zero bool) int { return 2*n - one(zero) },
}

func one(b bool) int {
	if b {
		return 1
	}
	return 0
}

func TestOrdersOfSinglesteps(t *testing.T) {
	for name, order := range map[string]float64{
		"dpm-solver-2": 2, "dpm-solver-2:r1=0.7": 2, "dpm-solver-2:r1=0.3,form=taylor": 2,
		"dpm++2s": 2, "dpm++2s:form=taylor": 2, "dpm2": 2,
		"dpm-solver-3": 3, "dpm-solver-3:r1=0.5": 3, "dpm-solver-3:r1=0.5,form=taylor": 3, "dpm++3s": 3, "dpm++3s:form=taylor": 3,
		"dpm-fast": 3, "dpm-fast:rest=1": 2,
		"dpm-singlestep": 2, "dpm-singlestep:form=taylor": 2, "dpm-singlestep:of=eps": 2,
		"dpm-singlestep:order=3": 3, "dpm-singlestep:order=3,form=taylor": 3, "dpm-singlestep:order=3,of=eps": 3,
	} {
		wantOrder(t, name, order, 120) // a multiple of the groups
	}
}

// A Gaussian's D is a linear function of x, so that one step has a closed form,
// written here with the integrals of the papers.
func TestOneSinglestepByHand(t *testing.T) {
	den := gaussian{0.3, 0.5}
	g := build(t, "vp-sde", diffusion.Spec{Rule: "sigmas", List: []float64{4, 1.5}, End: diffusion.Keep})
	from, to := g.Steps[0].From, g.Steps[0].To
	h := math.Log(from.Sigma() / to.Sigma())
	at := func(r float64) diffusion.Point {
		a, b := diffusion.VPSpace.Scale(from.Sigma() * math.Exp(-r*h))
		return diffusion.Point{A: a, B: b}
	}
	d := func(x float64, p diffusion.Point) float64 {
		kx, k0 := den.coeffs(p.A, p.B)
		return kx*x + k0
	}
	eps := func(x float64, p diffusion.Point) float64 { return (x - p.A*d(x, p)) / p.B }
	const n = 0.8
	x := from.B * n
	for name, want := range map[string]func() float64{
		"dpm-solver-2": func() float64 {
			m := at(0.5)
			u := m.A/from.A*x - m.B*math.Expm1(h/2)*eps(x, from)
			return to.A/from.A*x - to.B*math.Expm1(h)*eps(u, m)
		},
		"dpm++2s": func() float64 {
			m := at(0.5)
			u := m.B/from.B*x - m.A*math.Expm1(-h/2)*d(x, from)
			return to.B/from.B*x - to.A*math.Expm1(-h)*d(u, m)
		},
		"dpm-solver-3": func() float64 {
			p, q, r1, r2 := at(1./3), at(2./3), 1./3, 2./3
			u := p.A/from.A*x - p.B*math.Expm1(r1*h)*eps(x, from)
			d1 := eps(u, p) - eps(x, from)
			v := q.A/from.A*x - q.B*math.Expm1(r2*h)*eps(x, from) - q.B*r2/r1*(math.Expm1(r2*h)/(r2*h)-1)*d1
			d2 := eps(v, q) - eps(x, from)
			return to.A/from.A*x - to.B*math.Expm1(h)*eps(x, from) - to.B/r2*(math.Expm1(h)/h-1)*d2
		},
		"dpm2": func() float64 { // in y = x/A
			s, e := from.Sigma(), to.Sigma()
			m := math.Sqrt(s * e)
			ve := func(s float64) diffusion.Point { return diffusion.Point{A: 1, B: s} }
			y := x / from.A
			mid := y + (m-s)/s*(y-d(y, ve(s)))
			return to.A * (y + (e-s)/m*(mid-d(mid, ve(m))))
		},
	} {
		res, err := sampler.Run(context.Background(), den, solver(t, name), g, sampler.Options{
			N: 1, Shape: []int{1}, Double: true, Noise: gpu.CPU().From64([]float64{n}, 1, 1),
		})
		if err != nil {
			t.Fatal(err)
		}
		if got, w := res.X.F64()[0], want()/to.A; math.Abs(got-w) > 1e-14 {
			t.Errorf("%s: %.17g, want %.17g", name, got, w)
		}
	}
}

// dpm-fast spends its budget to the last evaluation.
func TestFastSpendsItsBudget(t *testing.T) {
	for budget := 4; budget < 13; budget++ {
		n := budget/3 + 1
		g := build(t, "ve", diffusion.Spec{Rule: "exponential", Steps: n, End: diffusion.Min})
		if got := sampler.DPMFast(budget % 3).NFE(g); got != budget {
			t.Errorf("budget %d: %d evaluations in %d steps", budget, got, n)
		}
	}
}

// From pure noise and to zero the methods are of first order and go on.
func TestSinglestepsFromPureNoise(t *testing.T) {
	zt, err := diffusion.NewVP(diffusion.ZeroTerminalSNR(diffusion.LinearBetas(1000, 1e-4, 0.02)))
	if err != nil {
		t.Fatal(err)
	}
	g, err := diffusion.Build(zt, diffusion.Spec{Rule: "trailing", Steps: 201})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range singlesteps {
		if name == "dpm2" {
			continue
		}
		res, err := sampler.Run(context.Background(), gaussian{0.3, 0.5}, solver(t, name), g, sampler.Options{
			N: 1, Shape: []int{1}, Double: true, Noise: gpu.CPU().From64([]float64{0.7}, 1, 1),
		})
		if err != nil {
			t.Fatal(err)
		}
		// The exact flow from sigma = ∞ takes n to m + s·n; the first and the last step's errors are below 1 %.
		if want := 0.3 + 0.5*0.7; math.Abs(res.X.F64()[0]-want) > 0.01*want {
			t.Errorf("%s: %g, want about %g", name, res.X.F64()[0], want)
		}
	}
}

func TestSinglestepRefusals(t *testing.T) {
	for spec, want := range map[string]string{
		"dpm-solver-2:r1=1": "first node at 1", "dpm-solver-2:r1=-0.1": "first node at -0.1", "dpm-solver-2:r1=NaN": "first node at NaN", "dpm++3s:r1=0.7": "less than 0.6667",
		"dpm-fast:rest=3": "rest", "dpm-fast:rest=1.5": "rest", "dpm-singlestep:order=4": "wanted 2 or 3", "dpm-singlestep:order=2.5": "wanted 2 or 3",
		"dpm-singlestep:of=v": "of=x0 or eps",
	} {
		if _, err := sampler.ByName(spec); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q", spec, err, want)
		}
	}
	two := build(t, "ve", diffusion.Spec{Rule: "karras", Steps: 2})
	if err := solver(t, "dpm-singlestep:order=3").Check(two); err == nil || !strings.Contains(err.Error(), "2 of the 3 steps") {
		t.Errorf("a group without its steps: %v", err)
	}
	inf := build(t, "flow", diffusion.Spec{Rule: "flow", Steps: 4})
	if err := solver(t, "dpm2").Check(inf); err == nil || !strings.Contains(err.Error(), "infinite sigma") {
		t.Errorf("dpm2 from pure noise: %v", err)
	}
}

// Upwards, from images to noise, the methods have their order too.
func TestOrdersOfRising(t *testing.T) {
	den := gaussian{0.3, 0.5}
	images := []float64{0.4, -0.9, 1.3, 0.2}
	for name, order := range map[string]float64{
		"dpm-solver-2": 2, "dpm++2s": 2, "dpm2": 2, "dpm-solver-3": 3, "dpm++3s": 3, "dpm-singlestep": 2, "dpm-singlestep:order=3": 3, "rk4": 4,
		"dpm-solver-v3:order=2,corrector=none,lower-final=0": 2,
	} {
		off := func(steps int) float64 {
			g := build(t, "vp-sde", diffusion.Spec{Rule: "exponential", Steps: steps, SigmaMax: 10, SigmaMin: 0.05, End: diffusion.Min})
			up, err := sampler.Run(context.Background(), den, solver(t, name), g.Reversed(), sampler.Options{
				N: 2, Shape: []int{2}, Double: true, Image: gpu.CPU().From64(images, 2, 2),
			})
			if err != nil {
				t.Fatal(err)
			}
			want := make([]float64, len(images))
			for i, y := range images {
				want[i] = (0.3 + (y-0.3)*math.Hypot(0.5, 10)/math.Hypot(0.5, 0.05)) / 10
			}
			return rel(up.X.F64(), want)
		}
		const n = 60
		e1, e2 := off(n), off(2*n)
		if got := math.Log2(e1 / e2); math.Abs(got-order) > 0.1*order {
			t.Errorf("%s: order %.2f upwards (error %.2g), want %g", name, got, e2, order)
		}
	}
}

// Whichever evaluation of a step goes wrong, its image is named.
func TestNotFiniteInsideAStepIsRefused(t *testing.T) {
	g := build(t, "ve", diffusion.Spec{Rule: "sigmas", List: []float64{8, 4, 2, 1}, End: diffusion.Keep})
	for _, name := range append([]string{"midpoint", "rk4", "dopri5", "dpm-adaptive", "dpm-solver-v3"}, singlesteps...) {
		for nth := 1; nth <= 3; nth++ {
			for _, bad := range []float64{math.NaN(), math.Inf(1)} {
				_, err := sampler.Run(context.Background(), &broken{at: nth, bad: float32(bad)}, solver(t, name), g, sampler.Options{N: 5, Shape: []int{3}})
				var nf *sampler.NotFiniteError
				if !errors.As(err, &nf) || nf.Image != 2 || nf.State {
					t.Errorf("%s: %v in evaluation %d: error %v, want image 2", name, bad, nth, err)
				}
			}
		}
	}
}

package sampler_test

import (
	"context"
	"math"
	"math/big"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/sampler"
)

// multisteps are the multistep solvers with every option that changes a step.
var multisteps = []string{
	"dpm++2m", "dpm++2m-heun", "dpm++2m:lower-final=always", "dpm++3m", "dpm++3m:third=published,form=heun", "dpm++3m:lower-final=last",
	"dpm-2m", "dpm-2m:form=heun", "dpm-3m", "dpm-3m:third=published,lower-final=never",
	"lms", "lms:order=1", "lms:order=2", "lms:order=3", "lms:start=plain",
	"deis", "deis:order=1", "deis:order=2", "deis:start=plain,lower-final=always",
	"ipndm", "ipndm:order=1", "ipndm:order=2", "ipndm:order=3", "pndm", "plms",
	"unipc", "unipc:order=1", "unipc:order=3", "unipc:order=4,lower-final=never", "unipc:order=5", "unipc:variant=bh1", "unipc:variant=vary",
	"unipc:predict=eps", "unipc:order=5,variant=bh1,predict=eps", "unipc:corrector=0", "unipc:order=3,skip=0+2",
}

// coefficients are what a table solver makes of a step through VE levels, after
// enough others that it has its full order.
func coefficients(t *testing.T, name string, sigmas ...float64) []float64 {
	t.Helper()
	s := solver(t, name).(sampler.Table)
	at := points(sigmas)
	n := len(at) - 1
	h := sampler.History{To: at[n], Step: 20, Steps: 50}
	for i := range n {
		h.At = append(h.At, at[n-1-i])
	}
	c := make([]float64, n+2)
	s.Coeffs(c, &h)
	return c[:n+1]
}

// LMS's coefficients against the integrals of Lagrange polynomials, worked out in
// fractions.
func TestCoefficientsOfLMSAreIntegrals(t *testing.T) {
	levels := []float64{10, 7, 4.5, 4, 2.25}
	for order := 1; order <= 4; order++ {
		sigmas := levels[4-order:]
		got := coefficients(t, "lms:order="+string(rune('0'+order)), sigmas...)
		for j := range order {
			sj := sigmas[order-1-j]
			poly := []*big.Rat{big.NewRat(1, 1)} // Π (s - σ_k)/(σ_j - σ_k), constant term first
			for _, sk := range sigmas[:order] {
				if sk == sj {
					continue
				}
				d := new(big.Rat).Inv(new(big.Rat).SetFloat64(sj - sk))
				next := make([]*big.Rat, len(poly)+1)
				for i := range next {
					next[i] = new(big.Rat)
				}
				for i, p := range poly {
					q := new(big.Rat).Mul(p, d)
					next[i+1].Add(next[i+1], q)
					next[i].Sub(next[i], q.Mul(q, new(big.Rat).SetFloat64(sk)))
				}
				poly = next
			}
			integral := new(big.Rat)
			for i, p := range poly {
				for end, sign := range map[float64]int64{levels[4]: 1, levels[3]: -1} {
					term := big.NewRat(sign, int64(i+1))
					for range i + 1 {
						term.Mul(term, new(big.Rat).SetFloat64(end))
					}
					integral.Add(integral, term.Mul(term, p))
				}
			}
			want, _ := integral.Float64()
			if math.Abs(got[1+j]-want) > 1e-14*10 || got[0] != 1 {
				t.Errorf("order %d: coefficient %d is %.16g, want %.16g; of x %g, want 1", order, j, got[1+j], want, got[0])
			}
		}
	}
}

// The exponential integrators' coefficients against integrals of Lagrange
// polynomials in ln sigma: of N over sigma itself, and of D/sigma over ln sigma
// times -sigma', by Simpson's rule. Steps are short and long.
func TestCoefficientsOfExponentialIntegrators(t *testing.T) {
	for _, levels := range [][]float64{{10, 8, 5, 4, 2.5, 1.2}, {1.04, 1.03, 1.02, 1.015, 1.01, 1}, {1000, 300, 80, 40, 10, 0.8}, {1e9, 1e8, 3e7, 1e7, 1e6, 0.2}} {
		for name, order := range map[string]int{
			"deis": 3, "deis:order=2": 2, "dpm-2m:form=heun": 2, "dpm-3m": 3, "unipc:predict=eps,corrector=0,order=5": 5, "unipc:predict=eps,corrector=0,variant=vary": 2,
			"dpm++2m-heun": 2, "dpm++3m": 3, "unipc:corrector=0,order=4": 4, "unipc:corrector=0,order=3,variant=bh1": 3,
		} {
			sigmas := levels[5-order:]
			from, to := sigmas[order-1], sigmas[order]
			got := coefficients(t, name, sigmas...)
			noise := strings.HasPrefix(name, "de") || strings.HasPrefix(name, "dpm-") || strings.Contains(name, "eps")
			if want := map[bool]float64{true: 1, false: to / from}[noise]; got[0] != want {
				t.Errorf("%s: coefficient of x is %g, want %g", name, got[0], want)
			}
			for j := range order {
				f := func(u float64) float64 { // u = ln sigma
					p := lagrange(sigmas[:order], order-1-j, u)
					if noise {
						return p * math.Exp(u)
					}
					return -to * p * math.Exp(-u)
				}
				const n = 4000
				a, h := math.Log(from), (math.Log(to)-math.Log(from))/n
				sum, size := f(a)+f(a+n*h), 0.0
				for i := 1; i < n; i++ {
					v := f(a + float64(i)*h)
					sum, size = sum+v*float64(2+2*(i%2)), size+math.Abs(v*h)
				}
				if want := sum * h / 3; math.Abs(got[1+j]-want) > 1e-11*size {
					t.Errorf("%s, to %g: coefficient %d is %.16g, want %.16g", name, to, j, got[1+j], want)
				}
			}
		}
	}
}

// lagrange is the polynomial in u = ln sigma that is 1 at sigmas[j] and 0 at the others.
func lagrange(sigmas []float64, j int, u float64) float64 {
	p := 1.0
	for k, s := range sigmas {
		if k != j {
			p *= (u - math.Log(s)) / (math.Log(sigmas[j]) - math.Log(s))
		}
	}
	return p
}

// How many points the last steps have.
func TestLowerFinal(t *testing.T) {
	for _, c := range []struct {
		rule        string
		steps, left int // left is 1 in the last step
		want        int
	}{
		{"never", 10, 1, 3},
		{"short", 14, 1, 1},
		{"short", 14, 2, 2},
		{"short", 14, 3, 3},
		{"short", 15, 1, 3},
		{"always", 100, 1, 1},
		{"always", 100, 2, 2},
		{"always", 100, 3, 3},
		{"last", 100, 1, 1},
		{"last", 10, 2, 3},
	} {
		for _, name := range []string{"dpm++3m", "dpm-3m", "deis", "unipc:order=3,corrector=0"} {
			sep := ":"
			if strings.Contains(name, sep) {
				sep = ","
			}
			h := sampler.History{At: points([]float64{2, 3, 4}), To: diffusion.Point{A: 1, B: 1}, Step: c.steps - c.left, Steps: c.steps}
			k := make([]float64, 5)
			solver(t, name+sep+"lower-final="+c.rule).(sampler.Table).Coeffs(k, &h)
			n := 0
			for _, v := range k[1:4] {
				if v != 0 {
					n++
				}
			}
			if n != c.want {
				t.Errorf("%s, %s, %d steps with %d left: %d points, want %d", name, c.rule, c.steps, c.left, n, c.want)
			}
		}
	}
}

// The flow to a single point of data is a straight line, on which D and the noise
// never change: every method walks it exactly, in any number of steps, from pure
// noise too, and to zero.
func TestPointOfDataIsExact(t *testing.T) {
	den := gaussian{0.3, 0}
	zt, err := diffusion.NewVP(diffusion.ZeroTerminalSNR(diffusion.LinearBetas(1000, 1e-4, 0.02)))
	if err != nil {
		t.Fatal(err)
	}
	vp := goldenPath(t, &goldenIndex{Beta0: 1e-4, Beta1: 0.02}, "vp")
	for _, name := range multisteps {
		s, tol := solver(t, name), 1e-11
		if strings.Contains(name, "predict=eps") {
			// A correction by noise from where sigma is small, which has rounding errors of
			// 1/sigma, is as long as the step before: up to sigma's ratio of 1e6 here, and
			// the weights of five points.
			tol = 1e-7
		}
		walked := 0
		for _, c := range []struct {
			path diffusion.Path
			spec diffusion.Spec
		}{
			{diffusion.DefaultVE(), diffusion.Spec{Rule: "karras"}},
			{diffusion.DefaultVE(), diffusion.Spec{Rule: "karras", End: diffusion.Min}},
			{vp, diffusion.Spec{Rule: "exponential"}},
			{vp, diffusion.Spec{Rule: "leading", End: diffusion.Keep}},
			{diffusion.Flow{}, diffusion.Spec{Rule: "karras", SigmaMax: 1000, SigmaMin: 1e-3}},
			{diffusion.Flow{}, diffusion.Spec{Rule: "flow"}},
			{zt, diffusion.Spec{Rule: "trailing"}},
			{zt, diffusion.Spec{Rule: "trailing", End: diffusion.Min}},
		} {
			for n := 1; n <= 20; n += 1 + n/6 {
				c.spec.Steps = n
				g, err := diffusion.Build(c.path, c.spec)
				if err != nil {
					t.Fatal(err)
				}
				if s.Check(g) != nil {
					continue
				}
				walked++
				from := g.Steps[0].From
				res, err := sampler.Run(context.Background(), den, s, g, sampler.Options{
					N: 1, Shape: []int{2}, Double: true, State: gpu.CPU().From64([]float64{0.3*from.A + 0.7*from.B, 0.3*from.A - 1.3*from.B}, 1, 2),
				})
				if err != nil {
					t.Fatalf("%s, %d steps of %s on %s: %v", name, n, g.Name, c.path.Name(), err)
				}
				end := g.Steps[n-1].To.Sigma()
				if e := rel(res.X.F64(), []float64{0.3 + 0.7*end, 0.3 - 1.3*end}); e > tol {
					t.Errorf("%s, %d steps of %s on %s: off by %.2g", name, n, g.Name, c.path.Name(), e)
				}
			}
		}
		if walked < 30 {
			t.Errorf("%s walked %d grids", name, walked)
		}
	}
}

// At 20 steps every multistep solver has less than half of ddim's error.
func TestMultistepsPay(t *testing.T) {
	for _, p := range []problem{gaussianProblem, mixtureProblem(t)} {
		for _, g := range smoothGrids {
			g.spec.Steps = 20
			grid := build(t, g.path, g.spec)
			most := errorOf(t, p, sampler.DDIM{}, grid) / 2
			for _, name := range multisteps {
				if strings.Contains(name, "order=1") || strings.Contains(name, "order=5") { // the latter wants shorter steps
					continue
				}
				if e := errorOf(t, p, solver(t, name), grid); e > most {
					t.Errorf("%s, %s on %s: error %.2g, half of ddim's is %.2g", name, p.name, g.path, e, most)
				}
			}
		}
	}
}

func TestMultistepRefusals(t *testing.T) {
	three := build(t, "ve", diffusion.Spec{Rule: "karras", Steps: 3})
	flow := build(t, "flow", diffusion.Spec{Rule: "flow", Steps: 9})
	gap := build(t, "ve", diffusion.Spec{Rule: "karras", Steps: 9})
	gap.Steps[2].To = diffusion.Point{A: 1}
	for _, c := range []struct {
		s    sampler.Solver
		g    *diffusion.Grid
		want string
	}{
		{sampler.DPMMultistep{Order: 1}, nil, "order 1; wanted 2 to 3"},
		{sampler.DPMMultistep{Order: 4}, nil, "order 4; wanted 2 to 3"},
		{sampler.LMS{Order: 5}, nil, "order 5; wanted 1 to 4"},
		{sampler.LMS{Order: -1}, nil, "order -1; wanted 1 to 4"},
		{sampler.DEIS{Order: 4}, nil, "order 4; wanted 1 to 3"},
		{sampler.IPNDM{Order: 5}, nil, "order 5; wanted 1 to 4"},
		{sampler.UniPC{Order: 6}, nil, "order 6; wanted 1 to 5"},
		{sampler.UniPC{Skip: []int{-1}}, nil, "skip=-1"},
		{sampler.UniPC{Skip: []int{3}}, three, "skip=3"},
		{sampler.LMS{}, three, "lms: grid karras has 3 of the 4 steps"},
		{sampler.IPNDM{}, three, "ipndm: grid karras has 3 of the 4 steps"},
		{sampler.PNDM{}, three, "pndm: grid karras has 3 of the 4 steps"},
		{sampler.PNDM{PLMS: true}, three, "plms: grid karras has 3 of the 4 steps"},
		{sampler.UniPC{Order: 4, LowerFinal: sampler.Short}, three, "unipc:order=4: grid karras has 3 of the 4 steps"},
		{sampler.PNDM{}, flow, "step 0 of grid flow goes from sigma +Inf"},
		{sampler.PNDM{PLMS: true}, flow, "take ipndm"},
		{sampler.PNDM{}, gap, "step 2 of grid karras goes from"},
	} {
		if err := c.s.Check(c.g); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want %q", c.s.Name(), err, c.want)
		}
	}
	for _, s := range []sampler.Solver{sampler.DPMMultistep{Order: 3}, sampler.DEIS{}, sampler.UniPC{Order: 3}, sampler.LMS{Order: 3}} {
		if err := s.Check(three); err != nil {
			t.Errorf("%s: %v", s.Name(), err)
		}
	}
	for spec, want := range map[string]string{
		"lms:order=2.5": "wanted order=4 or 3 or 2 or 1", "unipc:order=9": "wanted order=2 or 1", "unipc:variant=bh3": "wanted variant=bh2 or bh1",
		"unipc:skip=a": "wanted skip=number", "unipc:skip=": "wanted skip=number", "dpm++3m:third=wrong": "corrected or published",
		"dpm++2m:lower-final=1": "never or short or always or last", "deis:start=exact": "corrected or plain",
	} {
		if _, err := sampler.ByName(spec); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q", spec, err, want)
		}
	}
	if s := solver(t, "unipc:skip=0+3+12,variant=bh1"); s.Name() != "unipc:variant=bh1,skip=0+3+12" {
		t.Errorf("name %s", s.Name())
	}
	for _, name := range multisteps {
		s := solver(t, name)
		if again := solver(t, s.Name()); again.Name() != s.Name() {
			t.Errorf("%s is named %s, which is named %s", name, s.Name(), again.Name())
		}
	}
}

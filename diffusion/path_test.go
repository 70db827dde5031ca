package diffusion_test

import (
	"math"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/diffusion"
)

func near(got, want, rel float64) bool {
	return got == want || math.Abs(got-want) <= rel*math.Max(math.Abs(got), math.Abs(want))
}

func must(t *testing.T, name string) diffusion.Path {
	t.Helper()
	p, err := diffusion.PathByName(name)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

var pathNames = []string{"vp", "vp-scaled", "vp-cosine", "vp-sigmoid", "vp-zt", "vp-scaled-zt", "vp-sde", "ve", "edm", "trigflow", "flow", "flow-reversed"}

// Time and Sigma are inverse on the whole range; sigma grows towards the noisy end.
func TestPathsRoundTrip(t *testing.T) {
	for _, name := range pathNames {
		p := must(t, name)
		most, least := p.Range()
		prev := math.Inf(1)
		for i := range 1001 {
			tt := most + (least-most)*float64(i)/1000
			s := p.Sigma(tt)
			if !(s < prev) && i > 0 {
				t.Fatalf("%s: sigma(%g) = %g does not fall below %g", name, tt, s, prev)
			}
			prev = s
			if back := p.Time(s); math.Abs(back-tt) > 1e-9*math.Max(1, math.Abs(tt)) {
				t.Errorf("%s: Time(Sigma(%g)) = %.15g", name, tt, back)
			}
		}
	}
	if _, err := diffusion.PathByName("vq"); err == nil || !strings.Contains(err.Error(), "vp-cosine") {
		t.Errorf("unknown path: %v", err)
	}
}

func TestScalesAgreeWithSigma(t *testing.T) {
	for _, s := range []diffusion.Space{diffusion.VESpace, diffusion.VPSpace, diffusion.FlowSpace} {
		for _, sigma := range []float64{0, 1e-6, 0.3, 1, 80, 1e5} {
			a, b := s.Scale(sigma)
			if !near(b/a, sigma, 4e-16) {
				t.Errorf("%v: b/a at %g = %g", s, sigma, b/a)
			}
			sum := map[diffusion.Space]float64{diffusion.VESpace: a, diffusion.VPSpace: a*a + b*b, diffusion.FlowSpace: a + b}[s]
			if !near(sum, 1, 1e-15) {
				t.Errorf("%v at %g: a=%g, b=%g", s, sigma, a, b)
			}
		}
	}
	for _, s := range []diffusion.Space{diffusion.VPSpace, diffusion.FlowSpace} {
		if a, b := s.Scale(math.Inf(1)); a != 0 || b != 1 {
			t.Errorf("%v at infinity: %g, %g", s, a, b)
		}
	}
}

// abar by the definitions of the papers, at a few places.
func TestBetas(t *testing.T) {
	vp := must(t, "vp").(*diffusion.VP)
	abar := 1.0
	for i := range 1000 {
		abar *= 1 - (1e-4 + (0.02-1e-4)*float64(i)/999)
		if want := math.Sqrt(1/abar - 1); !near(vp.Sigma(float64(i)), want, 1e-12) {
			t.Fatalf("linear: sigma(%d) = %g, want %g", i, vp.Sigma(float64(i)), want)
		}
	}
	b := diffusion.ScaledLinearBetas(1000, 0.00085, 0.012)
	if mid := math.Pow((math.Sqrt(0.00085)*499+math.Sqrt(0.012)*500)/999, 2); !near(b[500], mid, 1e-12) || b[0] != math.Pow(math.Sqrt(0.00085), 2) {
		t.Errorf("scaled linear: first %g, 500th %g, want %g", b[0], b[500], mid)
	}
	f := func(u float64) float64 { return math.Pow(math.Cos((u+0.008)/1.008*math.Pi/2), 2) }
	cos := must(t, "vp-cosine")
	for _, i := range []int{0, 10, 500, 900} {
		a := f(float64(i+1)/1000) / f(0)
		if want := math.Sqrt(1/a - 1); !near(cos.Sigma(float64(i)), want, 1e-10) {
			t.Errorf("cosine: sigma(%d) = %g, want %g", i, cos.Sigma(float64(i)), want)
		}
	}
	if c := diffusion.CosineBetas(1000); c[999] != 0.999 {
		t.Errorf("cosine: last beta %g, want the cap 0.999", c[999])
	}
}

func TestZeroTerminalSNR(t *testing.T) {
	betas := diffusion.LinearBetas(1000, 1e-4, 0.02)
	p, err := diffusion.NewVP(diffusion.ZeroTerminalSNR(betas))
	if err != nil {
		t.Fatal(err)
	}
	if s := p.Sigma(999); !math.IsInf(s, 1) {
		t.Errorf("terminal sigma %g, want +Inf", s)
	}
	if got, want := p.Sigma(0), must(t, "vp").Sigma(0); !near(got, want, 1e-9) {
		t.Errorf("first sigma %g, want the old %g", got, want)
	}
	for _, tt := range []float64{0, 400, 998, 998.25, 998.9, 999} {
		if back := p.Time(p.Sigma(tt)); math.Abs(back-tt) > 1e-9 {
			t.Errorf("Time(Sigma(%g)) = %g", tt, back)
		}
	}
	g, err := diffusion.Build(p, diffusion.Spec{Rule: "trailing", Steps: 4})
	if err != nil || g.Steps[0].From.A != 0 || g.Steps[0].From.B != 1 {
		t.Errorf("trailing grid starts at %+v, %v; want pure noise", g.Steps[0].From, err)
	}
}

func TestNewVPRefuses(t *testing.T) {
	for want, betas := range map[string][]float64{
		"1 betas": {0.1}, "beta 1 of 3 is 1": {0.1, 1, 0.2}, "is NaN": {0.1, math.NaN()}, "is -0.1": {-0.1, 0.1}, "is 0;": {0, 0.1},
	} {
		if _, err := diffusion.NewVP(betas); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: error %v, want %q", betas, err, want)
		}
	}
}

// Every prediction made from x0 and n by its definition converts to x0, and back.
func TestPredictions(t *testing.T) {
	edm := diffusion.DefaultEDM()
	for _, x0 := range []float64{-1.3, 0, 0.7} {
		for _, n := range []float64{-0.4, 2.1} {
			for _, sigma := range []float64{0.002, 0.5, 3, 80} {
				for _, space := range []diffusion.Space{diffusion.VESpace, diffusion.VPSpace, diffusion.FlowSpace} {
					a, b := space.Scale(sigma)
					x := a*x0 + b*n
					for pred, f := range map[diffusion.Pred]float64{
						diffusion.PredX0: x0, diffusion.PredEps: n, diffusion.PredV: (a*n - b*x0) / math.Hypot(a, b),
						diffusion.PredFlow: n - x0, diffusion.PredFlowReversed: x0 - n, diffusion.PredScore: -n / b,
					} {
						checkPred(t, pred, a, b, x, f, x0)
					}
				}
				// c_skip, c_out and c_in as in table 1 of Karras et al. 2022
				x := x0 + sigma*n
				skip, out := 0.25/(sigma*sigma+0.25), sigma*0.5/math.Hypot(sigma, 0.5)
				a, b := edm.Input(sigma)
				checkPred(t, diffusion.PredEDM, a, b, a*x, (x0-skip*x)/out, x0)
				// the arc's tangent, cos(t)·z - sin(t)·x0 with z = sd·n, over sd
				angle := math.Atan(sigma / 0.5)
				a, b = diffusion.DefaultTrigFlow().Input(sigma)
				checkPred(t, diffusion.PredTrigFlow, a, b, (math.Cos(angle)*x0+math.Sin(angle)*0.5*n)/0.5, math.Cos(angle)*n-math.Sin(angle)*x0/0.5, x0)
			}
		}
	}
	for _, p := range diffusion.Preds() {
		if got, err := diffusion.PredByName(p.String()); err != nil || got != p {
			t.Errorf("PredByName(%s) = %v, %v", p, got, err)
		}
		if _, _, err := p.FromX0(1, 0); (err == nil) != (p == diffusion.PredX0) {
			t.Errorf("%s without noise: error %v", p, err)
		}
	}
	if _, err := diffusion.PredByName("noise"); err == nil {
		t.Error("prediction noise: no error")
	}
	if _, _, err := diffusion.PredEps.ToX0(0, 1); err == nil || !strings.Contains(err.Error(), "zero terminal SNR") {
		t.Errorf("eps at infinite noise: %v", err)
	}
	for _, p := range []diffusion.Pred{diffusion.PredV, diffusion.PredFlow, diffusion.PredFlowReversed} {
		x0, n := 0.6, -1.1 // at pure noise x = n
		f := map[diffusion.Pred]float64{diffusion.PredV: -x0, diffusion.PredFlow: n - x0, diffusion.PredFlowReversed: x0 - n}[p]
		checkPred(t, p, 0, 1, n, f, x0)
	}
}

func checkPred(t *testing.T, p diffusion.Pred, a, b, x, f, x0 float64) {
	t.Helper()
	cx, cf, err := p.ToX0(a, b)
	amplify := 1.0
	if p == diffusion.PredEDM || p == diffusion.PredTrigFlow { // 1-b² cancels: an ulp of b weighs 1/(1-b²) there
		amplify = 1 / (1 - b*b)
	}
	// The two terms cancel: the error is a few ulps of each, and of what f itself was rounded to.
	if scale := math.Abs(cx*x) + math.Abs(cf*f) + 1; err != nil || math.Abs(cx*x+cf*f-x0) > 4e-15*amplify*scale {
		t.Errorf("%s at a=%g b=%g: x0 = %g, want %g (%v)", p, a, b, cx*x+cf*f, x0, err)
	}
	dx, d0, err := p.FromX0(a, b)
	if scale := math.Abs(dx*x) + math.Abs(d0*x0) + 1; err != nil || math.Abs(dx*x+d0*x0-f) > 4e-15*amplify*scale {
		t.Errorf("%s at a=%g b=%g: output = %g, want %g (%v)", p, a, b, dx*x+d0*x0, f, err)
	}
}

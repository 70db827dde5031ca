package diffusion_test

import (
	"math"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/rng"
)

func paths(t *testing.T) []diffusion.Path {
	t.Helper()
	var out []diffusion.Path
	for _, name := range []string{"vp", "vp-cosine", "vp-sde", "ve", "edm", "trigflow", "flow", "flow-reversed"} {
		p, err := diffusion.PathByName(name)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, p)
	}
	return out
}

// fits tells whether a prediction is one of networks on the path: F wants inputs scaled by c_in.
func fits(p diffusion.Path, pred diffusion.Pred) bool {
	scaled := p.Name() == "edm" || p.Name() == "trigflow"
	return scaled || pred != diffusion.PredEDM && pred != diffusion.PredTrigFlow
}

// The target is what FromX0 makes of x and x0, and ToX0 of the target is x0, at all levels of all paths.
func TestTarget(t *testing.T) {
	n := 0
	for _, p := range paths(t) {
		for _, sigma := range []float64{0.003, 0.1, 0.5, 1, 7, 60} {
			a, b := p.Input(sigma)
			for _, pred := range diffusion.Preds() {
				if !fits(p, pred) {
					continue
				}
				n++
				const x0, noise = 0.7, -1.3
				c0, cn, err := pred.Target(a, b)
				if err != nil {
					t.Fatal(err)
				}
				x, f := a*x0+b*noise, c0*x0+cn*noise
				cx, cf, err := pred.FromX0(a, b)
				if err != nil {
					t.Fatal(err)
				}
				size := math.Abs(cx*x) + math.Abs(cf*x0) + math.Abs(f)
				if d := math.Abs(cx*x + cf*x0 - f); d > 1e-14*size {
					t.Errorf("%s, %s at %g: %v, FromX0 gives %v", p.Name(), pred, sigma, f, cx*x+cf*x0)
				}
				if cx, cf, err = pred.ToX0(a, b); err != nil {
					t.Fatal(err)
				}
				if d := math.Abs(cx*x + cf*f - x0); d > 1e-14*(math.Abs(cx*x)+math.Abs(cf*f)) {
					t.Errorf("%s, %s at %g: back to x0 %v", p.Name(), pred, sigma, cx*x+cf*f)
				}
			}
		}
	}
	if n < 300 {
		t.Errorf("%d cases", n)
	}
	// EDM's F by the formulas of its table 1.
	for _, sigma := range []float64{0.01, 0.5, 20} {
		const sd, x0, noise = 0.5, 0.3, 0.8
		a, b := diffusion.DefaultEDM().Input(sigma)
		c0, cn, err := diffusion.PredEDM.Target(a, b)
		x := x0 + sigma*noise
		skip, out := sd*sd/(sigma*sigma+sd*sd), sigma*sd/math.Sqrt(sigma*sigma+sd*sd)
		if want := (x0 - skip*x) / out; err != nil || math.Abs(c0*x0+cn*noise-want) > 1e-12*(1+math.Abs(want)) {
			t.Errorf("F at %g: %v, want %v (%v)", sigma, c0*x0+cn*noise, want, err)
		}
	}
	for pred, ab := range map[diffusion.Pred][2]float64{diffusion.PredScore: {1, 0}, diffusion.PredEDM: {0, 1}, diffusion.PredTrigFlow: {0, 1}} {
		if _, _, err := pred.Target(ab[0], ab[1]); err == nil {
			t.Errorf("%s at %v: no error", pred, ab)
		}
	}
}

// A weight gives one loss to all predictions: weight·(error of f)² is the weight of x0's error times that, by the definition.
func TestWeights(t *testing.T) {
	for _, c := range []struct {
		spec string
		x0   func(snr float64) float64 // weight of x0's squared error
	}{
		{"snr", func(s float64) float64 { return s }},
		{"min-snr", func(s float64) float64 { return min(s, 5) }},
		{"min-snr:1", func(s float64) float64 { return min(s, 1) }},
		{"truncated-snr", func(s float64) float64 { return max(s, 1) }},
		{"edm", func(s float64) float64 { v := 1 / s; return (v + 0.25) / (v * 0.25) }},
		{"edm:2", func(s float64) float64 { v := 1 / s; return (v + 4) / (v * 4) }},
	} {
		w, err := diffusion.WeightByName(c.spec)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := diffusion.WeightByName(w.Name()); err != nil || again != w {
			t.Errorf("%s: the name %s is of %v (%v)", c.spec, w.Name(), again, err)
		}
		for _, p := range paths(t) {
			for _, sigma := range []float64{0.01, 0.3, 1, 3, 50} {
				a, b := p.Input(sigma)
				for _, pred := range diffusion.Preds() {
					if !fits(p, pred) {
						continue
					}
					_, cf, err := pred.ToX0(a, b)
					if err != nil {
						t.Fatal(err)
					}
					if got, want := w.Of(pred, a, b), c.x0(1/(sigma*sigma))*cf*cf; math.Abs(got-want) > 1e-11*want {
						t.Errorf("%s of %s on %s at %g: %v, want %v", c.spec, pred, p.Name(), sigma, got, want)
					}
				}
			}
		}
	}
	// Weights that papers give as numbers.
	edm := diffusion.DefaultEDM()
	for _, sigma := range []float64{0.002, 0.5, 80} {
		a, b := edm.Input(sigma)
		if got := (diffusion.WeightEDM{Data: 0.5}).Of(diffusion.PredEDM, a, b); math.Abs(got-1) > 1e-9 {
			t.Errorf("edm's weight of F at %g is %v", sigma, got)
		}
	}
	a, b := math.Sqrt(0.9), math.Sqrt(0.1) // SNR 9
	if got := (diffusion.WeightMinSNR{Gamma: 5}).Of(diffusion.PredEps, a, b); math.Abs(got-5./9) > 1e-12 {
		t.Errorf("min-snr of eps is %v, want 5/9", got)
	}
	if got := (diffusion.WeightMinSNR{Gamma: 5}).Of(diffusion.PredV, a, b); math.Abs(got-5./10) > 1e-12 {
		t.Errorf("min-snr of v is %v, want 5/10", got)
	}
	for _, pred := range []diffusion.Pred{diffusion.PredV, diffusion.PredFlow, diffusion.PredX0} { // pure noise
		if got := (diffusion.WeightMinSNR{Gamma: 5}).Of(pred, 0, 1); got != 0 {
			t.Errorf("%s at infinite noise weighs %v", pred, got)
		}
	}
	for _, bad := range []string{"", "snr:1", "min-snr:", "min-snr:-1", "min-snr:a", "edm:1,2", "edm:NaN", "other"} {
		if _, err := diffusion.WeightByName(bad); err == nil {
			t.Errorf("weight %q is taken", bad)
		}
	}
}

// Moments of the draws; limits; names.
func TestDraws(t *testing.T) {
	const n = 40000
	draw := func(spec string, p diffusion.Path) (mean, sd, lo, hi float64) {
		d, err := diffusion.DrawByName(spec)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := diffusion.DrawByName(d.Name()); err != nil || again != d {
			t.Errorf("%s: the name %s is of %v (%v)", spec, d.Name(), again, err)
		}
		lo, hi = math.Inf(1), math.Inf(-1)
		var s, q float64
		for i := range n {
			v := math.Log(d.Sigma(p, rng.ForImage(1, uint64(i), rng.Time)))
			s, q, lo, hi = s+v, q+v*v, min(lo, v), max(hi, v)
		}
		mean = s / n
		return mean, math.Sqrt(q/n - mean*mean), lo, hi
	}
	edm, flow := diffusion.DefaultEDM(), diffusion.Flow{}
	for _, c := range []struct {
		spec     string
		p        diffusion.Path
		mean, sd float64
	}{
		{"lognormal", edm, -1.2, 1.2}, {"lognormal:0.4,0.7", edm, 0.4, 0.7}, {"logit-normal", flow, 0, 1}, {"logit-normal:-0.5,2", flow, -0.5, 2},
		{"loguniform", edm, math.Log(0.002*80) / 2, math.Log(80/0.002) / math.Sqrt(12)}, {"loguniform:1,10", edm, math.Log(10) / 2, math.Log(10) / math.Sqrt(12)},
		{"uniform", flow, 0, math.Pi / math.Sqrt(3)}, // the logit of a uniform number is logistic
	} {
		mean, sd, lo, hi := draw(c.spec, c.p)
		if math.Abs(mean-c.mean) > 5*c.sd/math.Sqrt(n) || math.Abs(sd-c.sd) > 0.02*c.sd {
			t.Errorf("%s on %s: mean %.4f, deviation %.4f, want %.4f and %.4f", c.spec, c.p.Name(), mean, sd, c.mean, c.sd)
		}
		if c.p == edm && (lo < math.Log(0.00199999) || hi > math.Log(80.0001)) {
			t.Errorf("%s: levels from %g to %g", c.spec, math.Exp(lo), math.Exp(hi))
		}
	}
	// A table's levels are its own, each as often.
	vp, err := diffusion.PathByName("vp")
	if err != nil {
		t.Fatal(err)
	}
	table := diffusion.TableOf(vp)
	counts := make([]int, table.Len())
	for i := range n {
		s := rng.ForImage(2, uint64(i), rng.Time)
		at := table.Time(diffusion.DrawTime{}.Sigma(vp, s))
		k := math.Round(at)
		if math.Abs(at-k) > 1e-9 {
			t.Fatalf("time %v is no whole number", at)
		}
		counts[int(k)]++
	}
	var chi float64
	for _, c := range counts {
		e := float64(n) / float64(len(counts))
		chi += (float64(c) - e) * (float64(c) - e) / e
	}
	if d := float64(len(counts) - 1); chi > d+5*math.Sqrt(2*d) {
		t.Errorf("χ² of the times is %.0f with %.0f degrees of freedom", chi, d)
	}
	// A draw that the path hardly meets stays in it.
	if v := (diffusion.DrawLogNormal{Mean: 50, Dev: 0}).Sigma(edm, rng.New(1, 1)); math.Abs(v-80) > 1e-9 {
		t.Errorf("a level beyond the range became %v", v)
	}
	for _, bad := range []string{"", "uniform:1", "lognormal:1", "lognormal:1,-1", "lognormal:1,x", "loguniform:2,1", "loguniform:-1,1", "normal"} {
		if _, err := diffusion.DrawByName(bad); err == nil {
			t.Errorf("draw %q is taken", bad)
		}
	}
	func() {
		defer func() {
			if s, _ := recover().(string); !strings.Contains(s, "name them") {
				t.Errorf("no panic for infinite levels: %q", s)
			}
		}()
		diffusion.DrawLogUniform{}.Sigma(flow, rng.New(1, 1))
	}()
}

// A consistency model is the identity at its least level, and EDM's denoiser where Min is 0.
func TestBoundary(t *testing.T) {
	p := diffusion.DefaultEDM()
	if skip, out := p.Boundary(p.Min); skip != 1 || out != 0 {
		t.Errorf("at the least level %v and %v", skip, out)
	}
	p.Min = 0
	for _, sigma := range []float64{0.01, 1, 80} {
		skip, out := p.Boundary(sigma)
		a, b := p.Input(sigma)
		cx, cf, err := diffusion.PredEDM.ToX0(a, b)
		if err != nil || math.Abs(skip-cx*a) > 1e-11 || math.Abs(out-cf) > 1e-11 { // EDM's takes 1 - b² apart
			t.Errorf("at %g: %v and %v, EDM has %v and %v (%v)", sigma, skip, out, cx*a, cf, err)
		}
	}
}

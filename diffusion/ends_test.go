package diffusion_test

import (
	"fmt"
	"math"
	"testing"

	"github.com/fidlab/fidlab/diffusion"
)

// gaussianData is x0 of N(mean, dev²): what a perfect network predicts is in closed form.
type gaussianData struct{ mean, dev float64 }

// x0 is E[x0|x] for x = a·x0 + b·n.
func (g gaussianData) x0(x, a, b float64) float64 {
	return (g.mean*b*b + a*g.dev*g.dev*x) / g.variance(a, b)
}

func (g gaussianData) variance(a, b float64) float64 { return a*a*g.dev*g.dev + b*b }

// output is the perfect prediction, written so that nothing cancels at either
// end. For edm and trigflow a and b are EDM.Input's with the deviation sd.
func (g gaussianData) output(p diffusion.Pred, x, a, b, sd float64) float64 {
	x0, eps := g.x0(x, a, b), b*(x-a*g.mean)/g.variance(a, b)
	switch p {
	case diffusion.PredX0:
		return x0
	case diffusion.PredEps:
		return eps
	case diffusion.PredScore:
		return -(x - a*g.mean) / g.variance(a, b)
	case diffusion.PredV:
		return (a*eps - b*x0) / math.Hypot(a, b)
	case diffusion.PredFlow:
		return eps - x0
	case diffusion.PredFlowReversed:
		return x0 - eps
	}
	// F = (x0 - c_skip·X)/c_out with X = x/a the state itself, over one denominator:
	sigma, X := b/a, x/a
	f := sigma * (g.mean*(sigma*sigma+sd*sd) + X*(g.dev*g.dev-sd*sd)) / ((g.dev*g.dev + sigma*sigma) * math.Hypot(sigma, sd) * sd)
	if p == diffusion.PredTrigFlow {
		return -f
	}
	return f
}

// zeroSNR is the linear table rescaled to end at pure noise.
func zeroSNR(t *testing.T) diffusion.Path {
	p, err := diffusion.NewVP(diffusion.ZeroTerminalSNR(diffusion.LinearBetas(1000, 1e-4, 0.02)))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// What a perfect network on Gaussian data predicts, in any parametrisation,
// converts to the posterior mean at both ends of every path and beyond them, and
// the posterior mean back to what was predicted; or the conversion is refused.
func TestPredictionsAtTheEnds(t *testing.T) {
	paths := map[string]diffusion.Path{"vp, zero terminal SNR": zeroSNR(t)}
	for _, name := range pathNames {
		paths[name] = must(t, name)
	}
	cases := 0
	for name, path := range paths {
		most, least := path.Range()
		levels := []float64{0, 1e-12, 1e-6, path.Sigma(least), 1, path.Sigma(most)}
		var preds []diffusion.Pred
		for _, p := range diffusion.Preds() {
			if edm := p == diffusion.PredEDM || p == diffusion.PredTrigFlow; edm == (name == "edm" || name == "trigflow") {
				preds = append(preds, p)
			}
		}
		if path.Space() != diffusion.VESpace {
			levels = append(levels, 1e6, 1e12, math.Inf(1))
		}
		for _, data := range []gaussianData{{0, 1}, {0.3, 0.5}, {-2, 0.01}} {
			for _, sigma := range levels {
				for _, p := range preds {
					checkEnd(t, fmt.Sprintf("%s, %s, N(%g, %g²), sigma %g", name, p, data.mean, data.dev, sigma), path, p, data, sigma)
					cases++
				}
			}
		}
	}
	if cases < 900 {
		t.Errorf("only %d cases", cases)
	}
}

func checkEnd(t *testing.T, what string, path diffusion.Path, p diffusion.Pred, data gaussianData, sigma float64) {
	t.Helper()
	a, b := path.Input(sigma)
	cx, cf, err := p.ToX0(a, b)
	if a == 0 {
		says := p == diffusion.PredX0 || p == diffusion.PredV || p == diffusion.PredFlow || p == diffusion.PredFlowReversed
		if says != (err == nil) {
			t.Errorf("%s: error %v at pure noise", what, err)
		}
		if !says {
			return
		}
	}
	if err != nil {
		t.Errorf("%s: %v", what, err)
		return
	}
	dx, d0, err := p.FromX0(a, b)
	if refused := b == 0 && p != diffusion.PredX0; refused != (err != nil) {
		t.Errorf("%s: back from x0: error %v", what, err)
	}
	amplify := 1.0
	if p == diffusion.PredEDM || p == diffusion.PredTrigFlow { // as in checkPred
		amplify = 1 / (1 - b*b)
	}
	for _, z := range []float64{-2, 0, 0.7} { // deviations of the state from its mean
		x := a*data.mean + z*math.Sqrt(data.variance(a, b))
		want, f := data.x0(x, a, b), data.output(p, x, a, b, 0.5)
		// Two rounded terms that may cancel, of a state that is itself rounded.
		tol := 8e-15 * amplify * (math.Abs(cx*x) + math.Abs(cf*f) + math.Abs(want) + math.Abs(data.mean))
		if got := cx*x + cf*f; !(math.Abs(got-want) <= tol) {
			t.Errorf("%s, x %g: x0 is %.17g, want %.17g", what, x, got, want)
		}
		if b == 0 {
			continue
		}
		tol = 8e-15 * amplify * (math.Abs(dx*x) + math.Abs(d0*want) + math.Abs(f))
		if got := dx*x + d0*want; !(math.Abs(got-f) <= tol) {
			t.Errorf("%s, x %g: the prediction is %.17g, want %.17g", what, x, got, f)
		}
	}
}

// The times of the ends: what a network is told where a path begins and ends,
// and beyond.
func TestTimesAtTheEnds(t *testing.T) {
	inf := math.Inf(1)
	for _, c := range []struct {
		path        string
		sigma, time float64
	}{
		{"vp", 0, 0},
		{"vp", inf, 999},
		{"vp-sde", 0, 1e-3},
		{"vp-sde", inf, 1},
		{"ve", 0, 0},
		{"edm", 0, math.Log(0.002) / 4},
		{"edm", 1e9, math.Log(80) / 4},
		{"trigflow", 0, 0},
		{"trigflow", 0.5, math.Pi / 4},
		{"trigflow", inf, math.Pi / 2},
		{"flow", 0, 0},
		{"flow", inf, 1},
		{"flow-reversed", 0, 1},
		{"flow-reversed", inf, 0},
	} {
		if got := must(t, c.path).Time(c.sigma); !near(got, c.time, 1e-15) {
			t.Errorf("%s: time of sigma %g is %g, want %g", c.path, c.sigma, got, c.time)
		}
	}
	if got := zeroSNR(t).Time(inf); got != 999 {
		t.Errorf("zero terminal SNR: time of pure noise is %g, want 999", got)
	}
}

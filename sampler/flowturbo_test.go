package sampler_test

import (
	"context"
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/sampler"
)

// changes is a Refiner of a function of one value: its state, its velocity from before, the point.
type changes struct {
	of    func(x, v float64, p diffusion.Point) float64
	calls int
}

func (r *changes) Refine(_ context.Context, out, x, v *gpu.Tensor, p diffusion.Point, _ sampler.Cond) error {
	r.calls++
	for i := range out.F64() {
		out.F64()[i] = r.of(x.F64()[i], v.F64()[i], p)
	}
	return nil
}

// velocityOf is the flow's velocity dx/dτ of data N(mean, dev²).
func velocityOf(mean, dev, x, tau float64) float64 {
	a := 1 - tau
	d := mean + a*dev*dev/(a*a*dev*dev+tau*tau)*(x-a*mean)
	return (x - d) / tau
}

func turbo(t *testing.T, blocks string, r sampler.Refiner) *sampler.FlowTurbo {
	t.Helper()
	all, err := sampler.ParseBlocks(blocks)
	if err != nil {
		t.Fatal(err)
	}
	return &sampler.FlowTurbo{Blocks: all, Refiner: r}
}

func TestFlowTurboOrder(t *testing.T) {
	wantOrder(t, "flowturbo", 2, 160)
	wantOrder(t, "flowturbo:heun=3", 2, 160)
}

// Blocks are the paper's formulas, in its time t = 1 - τ with data at 1 and its velocity towards data: here they are for one value.
func TestFlowTurboByFormula(t *testing.T) {
	const mean, dev, n = 0.3, 0.5, 9
	den := gaussian{mean, dev}
	// Not nearly a velocity: what counts is where it is asked and what it is told.
	change := func(x, v, tm float64) float64 { return 0.3*math.Sin(x) - 0.2*v*tm + 0.1 }
	for _, end := range []diffusion.End{diffusion.Zero, diffusion.Min} {
		g := build(t, "flow", diffusion.Spec{Rule: "flow", Steps: n, End: end})
		for _, blocks := range []string{"H1P5R3", "H2P4R3", "HPPRRHRRR", "H9", "H1P8", "HR8"} {
			for _, compat := range []bool{false, true} {
				r := &changes{of: func(x, v float64, p diffusion.Point) float64 { return -change(x, -v, p.A) }}
				s := turbo(t, blocks, r)
				s.Compat = compat
				noise := oracle.Normal(5, 3)
				start := make([]float64, len(noise))
				for i, v := range noise {
					start[i] = float64(v)
				}
				res, err := sampler.Run(context.Background(), den, s, g, sampler.Options{N: 3, Shape: []int{1}, Double: true, Noise: gpu.CPU().From64(start, 3, 1)})
				if err != nil {
					t.Fatal(err)
				}
				calls, refined := 0, 2*strings.Count(s.Blocks, "R")
				if end == diffusion.Zero && s.Blocks[n-1] == 'R' {
					refined--
				}
				for i, x := range start {
					calls = 0
					want := naiveTurbo(mean, dev, x, s.Blocks, compat, g, change, &calls) / g.Steps[n-1].To.A // a run's end is x/A
					if got := res.X.F64()[i]; !closeTo(got, want, 1e-12) {
						t.Errorf("%s to %s, compat %v: %g, by the formulas %g", blocks, end, compat, got, want)
					}
				}
				if res.NFE != calls || s.NFE(g) != calls || r.calls != s.Refinements(g) || r.calls != refined {
					t.Errorf("%s to %s: NFE %d, said %d, by the formulas %d; the refiner was asked %d times", blocks, end, res.NFE, s.NFE(g), calls, r.calls)
				}
			}
		}
	}
}

func closeTo(a, b, tol float64) bool { return math.Abs(a-b) <= tol*(1+math.Abs(b)) }

// naiveTurbo walks one value from t = 0 to 1 and counts evaluations of the velocity.
func naiveTurbo(mean, dev, x float64, blocks string, compat bool, g *diffusion.Grid, change func(x, v, t float64) float64, calls *int) float64 {
	v := func(x, t float64) float64 {
		*calls++
		return -velocityOf(mean, dev, x, 1-t)
	}
	var kept float64
	for i, b := range blocks {
		t, next := g.Steps[i].From.A, g.Steps[i].To.A
		h := next - t
		switch b {
		case 'H', 'P':
			d := kept
			if b == 'H' {
				d = v(x, t)
			}
			if next == 1 { // the velocity has no value at the end
				x += h * d
				continue
			}
			second := v(x+h*d, next)
			x += h / 2 * (d + second)
			kept = second
		case 'R':
			d := change(x, kept, t) + kept
			if next == 1 {
				x += h * d
				continue
			}
			told := d
			if compat {
				told = kept
			}
			second := change(x+h*d, told, next) + d
			x += h / 2 * (d + second)
			kept = d
		}
	}
	return x
}

// The published order of blocks costs two evaluations a Heun block and one a pseudo corrector; the refiner is none.
func TestFlowTurboEvaluations(t *testing.T) {
	for blocks, want := range map[string]int{"H1P5R3": 7, "H2P3R4": 7, "H1P2R3": 4, "H2P4R3": 8} {
		s := turbo(t, blocks, &changes{})
		g := build(t, "flow", diffusion.Spec{Rule: "flow", Steps: len(s.Blocks)})
		if n := s.NFE(g); n != want {
			t.Errorf("%s: %d evaluations, want %d", blocks, n, want)
		}
	}
}

// Blocks H alone are Heun's method, to its last digits; and so are blocks R of a refiner that makes no error.
func TestFlowTurboIsHeun(t *testing.T) {
	const mean, dev = 0.3, 0.5
	o := sampler.Options{N: 4, Shape: []int{3}, Double: true, Seed: 3}
	for _, end := range []diffusion.End{diffusion.Zero, diffusion.Min} {
		for _, path := range []string{"flow", "ve", "vp-sde"} {
			spec := diffusion.Spec{Rule: "karras", Steps: 8, SigmaMax: 10, SigmaMin: 0.05, End: end}
			g := build(t, path, spec)
			want, err := sampler.Run(context.Background(), gaussian{mean, dev}, sampler.Heun{}, g, o)
			if err != nil {
				t.Fatal(err)
			}
			got, err := sampler.Run(context.Background(), gaussian{mean, dev}, turbo(t, "H8", nil), g, o)
			if err != nil {
				t.Fatal(err)
			}
			if e := rel(got.X.F64(), want.X.F64()); e > 1e-13 || got.NFE != want.NFE {
				t.Errorf("%s to %s: blocks H are %.2g from Heun's method, %d and %d evaluations", path, end, e, got.NFE, want.NFE)
			}
			if path != "flow" || end == diffusion.Zero {
				continue
			}
			exact := &changes{of: func(x, v float64, p diffusion.Point) float64 { return velocityOf(mean, dev, x, p.B) - v }}
			if got, err = sampler.Run(context.Background(), gaussian{mean, dev}, turbo(t, "H1R7", exact), g, o); err != nil {
				t.Fatal(err)
			}
			if e := rel(got.X.F64(), want.X.F64()); e > 1e-13 || got.NFE != 2 {
				t.Errorf("an exact refiner is %.2g from Heun's method, %d evaluations", e, got.NFE)
			}
			// One that says nothing leaves the velocity as it is: the rest of the way is one step of it.
			if got, err = sampler.Run(context.Background(), gaussian{mean, dev}, turbo(t, "H3R5", &changes{of: func(float64, float64, diffusion.Point) float64 { return 0 }}), g, o); err != nil {
				t.Fatal(err)
			}
			first := &diffusion.Grid{Name: g.Name, Space: g.Space, Steps: g.Steps[:3]}
			mid, err := sampler.Run(context.Background(), gaussian{mean, dev}, sampler.Heun{}, first, o)
			if err != nil {
				t.Fatal(err)
			}
			second, err := sampler.Run(context.Background(), gaussian{mean, dev}, sampler.Heun{}, &diffusion.Grid{Name: g.Name, Space: g.Space, Steps: g.Steps[:2]}, o)
			if err != nil {
				t.Fatal(err)
			}
			last := g.Steps[2]
			h := last.To.B - last.From.B
			scale := g.Steps[7].To.A
			for i, x := range second.X.F64() { // v2 of the third block, and what follows along it
				x *= last.From.A // a run's end is x/A
				predicted := x + h*velocityOf(mean, dev, x, last.From.B)
				v2 := velocityOf(mean, dev, predicted, last.To.B)
				if want := (mid.X.F64()[i]*last.To.A + (g.Steps[7].To.B-last.To.B)*v2) / scale; !closeTo(got.X.F64()[i], want, 1e-12) {
					t.Errorf("without changes value %d is %g, want %g", i, got.X.F64()[i], want)
				}
			}
		}
	}
}

func TestFlowTurboRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"": "no block", "PPR": "begin with H", "RRR": "begin with H", "HX2": `"X" is no block`, "H1R2P1": "P after R", "H0": "no block", "3H": `"3" is no block`, "H99999999999": "at most 1000",
	} {
		if _, err := sampler.ParseBlocks(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("blocks %q: error %v, want one with %q", text, err, want)
		}
	}
	if got, err := sampler.ParseBlocks(" h1p2r3 "); err != nil || got != "HPPRRR" {
		t.Errorf("h1p2r3: %q, %v", got, err)
	}
	g := build(t, "flow", diffusion.Spec{Rule: "flow", Steps: 4})
	for want, s := range map[string]*sampler.FlowTurbo{
		"without a refiner":       turbo(t, "HPRR", nil),
		"3 blocks HPR on the 4":   turbo(t, "HPR", &changes{}),
		"wanted a letter each":    {Blocks: "H1P3"},
		"heun=-1; wanted 1":       {Heun: -1},
		"5 blocks HPPPP on the 4": turbo(t, "H1P4", nil),
	} {
		if err := s.Check(g); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one with %q", err, want)
		}
	}
	if _, err := sampler.ByName("flowturbo:heun=0"); err == nil || !strings.Contains(err.Error(), "wanted 1 or more") {
		t.Errorf("heun=0: %v", err)
	}
	for at, want := range map[int]int{1: 1, 2: 1, 3: 2, 5: 3} { // the refiner's call that gives NaN, and the step it is in
		r := &changes{}
		r.of = func(float64, float64, diffusion.Point) float64 {
			if r.calls == at {
				return math.NaN()
			}
			return 0
		}
		var bad *sampler.NotFiniteError
		if _, err := sampler.Run(context.Background(), gaussian{0, 1}, turbo(t, "HRRR", r), g, sampler.Options{N: 1, Shape: []int{2}, Double: true}); !errors.As(err, &bad) || bad.Step != want {
			t.Errorf("NaN at the refiner's call %d: error %v, want one of step %d", at, err, want)
		}
	}
	failing := errors.New("no weights")
	if _, err := sampler.Run(context.Background(), gaussian{0, 1}, turbo(t, "HRRR", failed{failing}), g, sampler.Options{N: 1, Shape: []int{2}}); !errors.Is(err, failing) {
		t.Errorf("error %v, want the refiner's", err)
	}
}

type failed struct{ err error }

func (f failed) Refine(context.Context, *gpu.Tensor, *gpu.Tensor, *gpu.Tensor, diffusion.Point, sampler.Cond) error {
	return f.err
}

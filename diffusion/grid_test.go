package diffusion_test

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/diffusion"
)

// Both ends of every rule, at every end, and always exactly n steps.
func TestGridEnds(t *testing.T) {
	vp := must(t, "vp")
	s999, s0 := vp.Sigma(999), vp.Sigma(0)
	type ends struct {
		first                    float64
		last                     float64 // the last noisy level of a grid that ends at zero
		keep                     float64
		lastDependsN, keepDepend bool
	}
	for rule, e := range map[string]ends{
		"linspace": {s999, s0, s0, false, false}, "linspace-real": {s999, s0, s0, false, false},
		"linspace-drop": {s999, 0, 0, true, true}, "lcm": {s999, 0, 0, true, true}, "trailing": {s999, 0, 0, true, true},
		"leading": {0, s0, s0, false, false}, "karras": {s999, s0, s0, false, false},
		"exponential": {s999, s0, s0, false, false}, "lu": {s999, s0, s0, false, false}, "polyexponential": {s999, s0, s0, false, false},
		"flow": {math.Inf(1), 0.001 / 0.999, 0.001 / 0.999, false, false},
	} {
		for _, n := range []int{2, 3, 5, 10, 37, 250} {
			for _, end := range []diffusion.End{diffusion.Zero, diffusion.Min, diffusion.Keep} {
				name := fmt.Sprintf("%s n=%d %s", rule, n, end)
				spec := diffusion.Spec{Rule: rule, Steps: n, End: end}
				if rule == "flow" && end == diffusion.Min {
					spec.SigmaMin = 0.001 / 0.999
				}
				if rule == "lcm" {
					spec.Known = 500
				}
				g, err := diffusion.Build(vp, spec)
				if err != nil {
					t.Errorf("%s: %v", name, err)
					continue
				}
				if len(g.Steps) != n {
					t.Errorf("%s: %d steps", name, len(g.Steps))
				}
				s := g.Sigmas()
				if rule != "leading" && !near(s[0], e.first, 1e-12) {
					t.Errorf("%s: starts at %g, want %g", name, s[0], e.first)
				}
				for i := 1; i < len(g.Steps); i++ {
					if g.Steps[i].From != g.Steps[i-1].To {
						t.Errorf("%s: step %d does not start where the last one ended", name, i)
					}
				}
				final, before := s[len(s)-1], s[len(s)-2]
				switch end {
				case diffusion.Zero:
					if final != 0 || g.Steps[n-1].To.B != 0 || g.Steps[n-1].To.A != 1 {
						t.Errorf("%s: ends at %g", name, final)
					}
					if !e.lastDependsN && !near(before, e.last, 1e-12) {
						t.Errorf("%s: last noisy level %g, want %g", name, before, e.last)
					}
				case diffusion.Min:
					want := s0
					if rule == "flow" {
						want = 0.001 / 0.999
					}
					if !near(final, want, 1e-12) {
						t.Errorf("%s: ends at %g, want %g", name, final, want)
					}
				case diffusion.Keep:
					if !e.keepDepend && !near(final, e.keep, 1e-12) || final <= 0 {
						t.Errorf("%s: ends at %g, want %g", name, final, e.keep)
					}
				}
			}
		}
	}
}

// One step must work wherever it makes sense.
func TestOneStep(t *testing.T) {
	for _, rule := range []string{"linspace", "linspace-drop", "leading", "trailing", "karras", "exponential", "flow"} {
		g, err := diffusion.Build(must(t, "vp"), diffusion.Spec{Rule: rule, Steps: 1})
		if err != nil || len(g.Steps) != 1 || g.Steps[0].To.B != 0 {
			t.Errorf("%s: %+v, %v", rule, g, err)
		}
	}
}

// The formulas themselves, at interior points.
func TestCurves(t *testing.T) {
	ve := diffusion.DefaultVE()
	const n = 7
	for rule, f := range map[string]func(u float64) float64{
		"karras": func(u float64) float64 {
			return math.Pow(math.Pow(80, 1./7)*(1-u)+u*math.Pow(0.002, 1./7), 7)
		},
		"exponential":     func(u float64) float64 { return 80 * math.Pow(0.002/80, u) },
		"polyexponential": func(u float64) float64 { return 0.002 * math.Pow(80/0.002, math.Pow(1-u, 2)) },
	} {
		s := diffusion.Spec{Rule: rule, Steps: n}
		if rule == "polyexponential" {
			s.Rho = 2
		}
		g, err := diffusion.Build(ve, s)
		if err != nil {
			t.Fatal(err)
		}
		for i, sigma := range g.Sigmas()[:n] {
			if want := f(float64(i) / (n - 1)); !near(sigma, want, 1e-12) {
				t.Errorf("%s: level %d = %g, want %g", rule, i, sigma, want)
			}
		}
		if g.Steps[0].From.A != 1 || g.Steps[0].From.T != 80 {
			t.Errorf("%s: first point %+v", rule, g.Steps[0].From)
		}
	}
	g, err := diffusion.Build(diffusion.Flow{}, diffusion.Spec{Rule: "flow", Steps: 5, Shift: 3})
	if err != nil {
		t.Fatal(err)
	}
	for i, st := range g.Steps {
		tau := 1 + (0.001-1)*float64(i)/4
		if want := 3 * tau / (1 + 2*tau); !near(st.From.B, want, 1e-12) || !near(st.From.T, st.From.B, 4e-16) {
			t.Errorf("flow: level %d is %+v, want tau %g", i, st.From, want)
		}
	}
}

// Times that the tools of latent consistency models list for 1,000 times of which
// 50 are known, and by their formula for other numbers.
func TestLatentConsistencyTimes(t *testing.T) {
	vp := must(t, "vp")
	for _, c := range []struct {
		n, known int
		want     []float64
	}{
		{1, 0, []float64{999}},
		{2, 0, []float64{999, 499}},
		{4, 0, []float64{999, 759, 499, 259}},
		{8, 50, []float64{999, 879, 759, 639, 499, 379, 259, 139}},
		{3, 30, []float64{989, 659, 329}}, // every 33rd
	} {
		g, err := diffusion.Build(vp, diffusion.Spec{Rule: "lcm", Steps: c.n, Known: c.known})
		if err != nil {
			t.Fatal(err)
		}
		for i, s := range g.Steps {
			if s.From.T != c.want[i] {
				t.Errorf("%d of %d: level %d is time %g, want %g", c.n, c.known, i, s.From.T, c.want[i])
			}
		}
		if g.Path != vp || g.In(diffusion.VESpace).Path != vp || g.Reversed().Path != vp {
			t.Errorf("the grid's path is %v", g.Path)
		}
	}
	all, err := diffusion.Build(vp, diffusion.Spec{Rule: "lcm", Steps: 50})
	if err != nil {
		t.Fatal(err)
	}
	for i, s := range all.Steps {
		if want := float64(20*(50-i) - 1); s.From.T != want {
			t.Errorf("50 of 50: level %d is time %g, want %g", i, s.From.T, want)
		}
	}
}

// A shift is a pure function, applied once, and can be undone.
func TestShiftRoundTrip(t *testing.T) {
	for _, tau := range []float64{0, 0.001, 0.3, 0.99, 1} {
		if got := diffusion.Shift(diffusion.Shift(tau, 3), 1./3); !near(got, tau, 1e-14) {
			t.Errorf("shift 3 and back: %g became %g", tau, got)
		}
	}
}

func TestLists(t *testing.T) {
	g, err := diffusion.Build(diffusion.DefaultVE(), diffusion.Spec{Rule: "sigmas", List: []float64{10, 3, 0.5}})
	if err != nil || len(g.Steps) != 3 || g.Sigmas()[3] != 0 {
		t.Errorf("sigmas, zero: %+v, %v", g, err)
	}
	g, err = diffusion.Build(diffusion.DefaultVE(), diffusion.Spec{Rule: "sigmas", List: []float64{10, 3, 0.5}, End: diffusion.Keep})
	if err != nil || len(g.Steps) != 2 || g.Sigmas()[2] != 0.5 {
		t.Errorf("sigmas, keep: %+v, %v", g, err)
	}
	g, err = diffusion.Build(must(t, "vp"), diffusion.Spec{Rule: "times", List: []float64{999, 500}, End: diffusion.Min})
	if err != nil || len(g.Steps) != 2 || g.Steps[1].To.T != 0 {
		t.Errorf("times, min: %+v, %v", g, err)
	}
	if len(g.Notes) != 0 {
		t.Errorf("a grid that starts at the top has notes %q", g.Notes)
	}
}

func TestLowStartIsNoted(t *testing.T) {
	g, err := diffusion.Build(must(t, "vp"), diffusion.Spec{Rule: "leading", Steps: 5})
	if err != nil || len(g.Notes) != 1 || !strings.Contains(g.Notes[0], "25.7") {
		t.Errorf("notes %q, %v", g.Notes, err)
	}
}

func TestInConvertsScaling(t *testing.T) {
	g, err := diffusion.Build(must(t, "vp"), diffusion.Spec{Rule: "karras", Steps: 6})
	if err != nil {
		t.Fatal(err)
	}
	ve := g.In(diffusion.VESpace)
	for i, s := range g.Steps {
		if f := ve.Steps[i].From; f.A != 1 || !near(f.B, s.From.Sigma(), 0) || f.T != s.From.T {
			t.Errorf("step %d: %+v from %+v", i, f, s.From)
		}
	}
}

func TestGridRefusals(t *testing.T) {
	vp, ve := must(t, "vp"), must(t, "ve")
	for _, c := range []struct {
		p    diffusion.Path
		s    diffusion.Spec
		want string
	}{
		{vp, diffusion.Spec{Rule: "leading", Steps: 0}, "0 steps"},
		{vp, diffusion.Spec{Rule: "karras", Steps: -3}, "-3 steps"},
		{vp, diffusion.Spec{Rule: "cosine", Steps: 3}, "there are linspace"},
		{vp, diffusion.Spec{Rule: "karas", Steps: 3}, "did you mean karras?"},
		{ve, diffusion.Spec{Rule: "leading", Steps: 3}, "no table"},
		{vp, diffusion.Spec{Rule: "leading", Steps: 1000, Offset: 1}, "time 1000"},
		{vp, diffusion.Spec{Rule: "trailing", Steps: 1001}, "1000 integer times"},
		{vp, diffusion.Spec{Rule: "trailing", Steps: 10, Offset: 1}, "only leading"},
		{vp, diffusion.Spec{Rule: "lcm", Steps: 51}, "51 levels of 50 known times"},
		{vp, diffusion.Spec{Rule: "lcm", Steps: 4, Known: 1001}, "1001 known times, of a table of 1000"},
		{vp, diffusion.Spec{Rule: "lcm", Steps: 4, Known: -1}, "-1 known times"},
		{vp, diffusion.Spec{Rule: "trailing", Steps: 4, Known: 50}, "only lcm"},
		{vp, diffusion.Spec{Rule: "karras", Steps: 3, SigmaMin: 5, SigmaMax: 2}, "from 2 to 5"},
		{vp, diffusion.Spec{Rule: "karras", Steps: 3, Rho: -1}, "rho -1"},
		{vp, diffusion.Spec{Rule: "karras", Steps: 3, SigmaMax: math.NaN()}, "NaN"},
		{diffusion.Flow{}, diffusion.Spec{Rule: "karras", Steps: 3}, "set sigma max and min"},
		{diffusion.Flow{}, diffusion.Spec{Rule: "flow", Steps: 3, End: diffusion.Keep, Shift: -2}, "shift -2"},
		{ve, diffusion.Spec{Rule: "flow", Steps: 3}, "VE scaling"},
		{ve, diffusion.Spec{Rule: "sigmas"}, "empty"},
		{ve, diffusion.Spec{Rule: "sigmas", List: []float64{3, 3}}, "step 0 goes from sigma 3 to 3"},
		{ve, diffusion.Spec{Rule: "sigmas", List: []float64{3, 1, 2}}, "step 1 goes from sigma 1 to 2"},
		{ve, diffusion.Spec{Rule: "sigmas", List: []float64{3, math.NaN()}}, "NaN"},
		{ve, diffusion.Spec{Rule: "sigmas", List: []float64{math.Inf(1), 2}}, "+Inf"},
		{ve, diffusion.Spec{Rule: "sigmas", List: []float64{3, -1}}, "-1"},
		{ve, diffusion.Spec{Rule: "sigmas", List: []float64{3}, End: diffusion.Keep}, "no step"},
	} {
		if _, err := diffusion.Build(c.p, c.s); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s %+v: error %v, want %q", c.p.Name(), c.s, err, c.want)
		}
	}
	if _, err := diffusion.EndByName("none"); err == nil {
		t.Error("end none: no error")
	}
	if err := (&diffusion.Grid{Name: "mine"}).Check(); err == nil {
		t.Error("grid without steps: no error")
	}
}

// After leaves out first steps, From puts one in front; the grid itself stays as it is.
func TestAfterAndFrom(t *testing.T) {
	p := diffusion.DefaultVE()
	g, err := diffusion.Build(p, diffusion.Spec{Rule: "karras", Steps: 5, SigmaMax: 10})
	if err != nil {
		t.Fatal(err)
	}
	levels := g.Sigmas()
	if got := g.After(2).Sigmas(); !slices.Equal(got, levels[2:]) {
		t.Errorf("after two steps %v, want %v", got, levels[2:])
	}
	if g.After(0).Name != g.Name || len(g.After(5).Steps) != 0 {
		t.Error("after none, or all, of the steps")
	}
	f := g.From(diffusion.At(p, 80))
	if got := f.Sigmas(); !slices.Equal(got, append([]float64{80}, levels...)) || f.Check() != nil {
		t.Errorf("from 80 %v, %v", got, f.Check())
	}
	if g.From(diffusion.At(p, 5)).Check() == nil {
		t.Error("a step that rises to the first level passes")
	}
	if !slices.Equal(g.Sigmas(), levels) {
		t.Error("the grid has changed")
	}
}

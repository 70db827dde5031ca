package diffusion_test

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/diffusion"
)

type twoLevelCase struct {
	Rule       string    `json:"rule"`
	Path       string    `json:"path"`
	Steps      int       `json:"steps"`
	Base       int       `json:"base"`
	BaseRho    float64   `json:"base_rho"`
	Cut        int       `json:"cut"`
	RespaceRho float64   `json:"respace_rho"`
	BaseSigmas []float64 `json:"base_sigmas"`
	Times      []float64 `json:"times"`
	Sigmas     []float64 `json:"sigmas"`
}

func (c twoLevelCase) spec(end diffusion.End) diffusion.Spec {
	return diffusion.Spec{Rule: "two-level", Steps: c.Steps, BaseSteps: c.Base, BaseRho: c.BaseRho, Cut: c.Cut, RespaceRho: c.RespaceRho, End: end}
}

// twoLevelCases are levels computed from the formulas alone, in 50 digits.
func twoLevelCases(t *testing.T) []twoLevelCase {
	t.Helper()
	b, err := os.ReadFile("testdata/golden/twolevel.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct{ Cases []twoLevelCase }
	if err := json.Unmarshal(b, &file); err != nil {
		t.Fatal(err)
	}
	return file.Cases
}

func vpOf(t *testing.T, name string) *diffusion.VP {
	t.Helper()
	return must(t, name).(*diffusion.VP)
}

func build(t *testing.T, p diffusion.Path, s diffusion.Spec) *diffusion.Grid {
	t.Helper()
	g, err := diffusion.Build(p, s)
	if err != nil {
		t.Fatalf("%+v: %v", s, err)
	}
	return g
}

func TestTwoLevelGolden(t *testing.T) {
	cases := twoLevelCases(t)
	presets := 0
	for _, c := range cases {
		p := vpOf(t, c.Path)
		g := build(t, p, c.spec(diffusion.Keep))
		if len(g.Steps) != c.Steps || len(g.Sigmas()) != len(c.Sigmas) {
			t.Errorf("%s %d: %d steps, levels %v", c.Path, c.Steps, len(g.Steps), g.Sigmas())
			continue
		}
		for i, s := range g.Sigmas() {
			if !near(s, c.Sigmas[i], 1e-12) {
				t.Errorf("%s %d,%g,%d: level %d is %.17g, want %.17g", c.Path, c.Base, c.BaseRho, c.Cut, i, s, c.Sigmas[i])
			}
			if u := p.TimeBy(s, diffusion.ByABar); math.Abs(u-c.Times[i]) > 1e-9 {
				t.Errorf("%s %d,%g,%d: level %d lies at time %.12g, want %.12g", c.Path, c.Base, c.BaseRho, c.Cut, i, u, c.Times[i])
			}
		}
		base := build(t, p, diffusion.Spec{Rule: "karras", Steps: c.Base - 1, Rho: c.BaseRho, End: diffusion.Keep}).Sigmas()
		for i, s := range base {
			if !near(s, c.BaseSigmas[i], 1e-12) {
				t.Errorf("%s: base level %d of %d is %.17g, want %.17g", c.Path, i, c.Base, s, c.BaseSigmas[i])
			}
		}
		if c.Rule == "" {
			continue
		}
		presets++
		s, err := diffusion.TwoLevelPreset(c.Rule)
		if err != nil {
			t.Fatal(err)
		}
		for what, s := range map[string]diffusion.Spec{"preset": s, "rule": {Rule: c.Rule, End: diffusion.Keep}} {
			if got := build(t, p, s).Sigmas(); !slices.Equal(got, g.Sigmas()) {
				t.Errorf("%s %s: %v, want %v", what, c.Rule, got, g.Sigmas())
			}
		}
	}
	if len(cases) != 13 || presets != 6 {
		t.Errorf("%d cases, %d of presets; wanted 13 and 6", len(cases), presets)
	}
	// The levels that the latents of Stable Diffusion 1.5 are decoded at, as published.
	for rule, want := range map[string]string{"f5": "0.132", "f6": "0.132", "f8": "0.147"} {
		s := build(t, vpOf(t, "vp-scaled"), diffusion.Spec{Rule: rule, End: diffusion.Keep}).Sigmas()
		if got := fmt.Sprintf("%.3f", s[len(s)-1]); got != want {
			t.Errorf("%s ends at %s, want %s", rule, got, want)
		}
	}
}

// What goes wrong easily gives other levels than the golden ones, so that the
// golden test would notice each of these.
func TestTwoLevelTraps(t *testing.T) {
	var f5 twoLevelCase
	for _, c := range twoLevelCases(t) {
		if c.Rule == "f5" && c.Path == "vp-scaled" {
			f5 = c
		}
	}
	p := vpOf(t, f5.Path)
	right := build(t, p, diffusion.Spec{Rule: "f5", End: diffusion.Keep}).Sigmas()
	curve := func(n int, a, b, rho float64) []float64 {
		out := make([]float64, n)
		for i := range out {
			u := float64(i) / float64(n-1)
			out[i] = math.Pow((1-u)*math.Pow(a, 1/rho)+u*math.Pow(b, 1/rho), rho)
		}
		return out
	}
	times := curve(6, f5.Times[0], f5.Times[5], 1.2)
	read := func(b diffusion.Between) []float64 {
		var out []float64
		for _, u := range times {
			out = append(out, p.SigmaBy(u, b))
		}
		return out
	}
	off := func(naive []float64) float64 {
		worst := 0.0
		for i := range naive {
			worst = max(worst, math.Abs(naive[i]/right[i]-1))
		}
		return worst
	}
	if o := off(read(diffusion.ByABar)); o > 1e-12 {
		t.Errorf("the right way is off by %g", o)
	}
	// The last but one of the base levels is the least of them when the zero is counted too.
	withZero := append(slices.Clone(f5.BaseSigmas), 0)
	cut := withZero[len(withZero)-(f5.Base-f5.Cut)]
	for what, c := range map[string]struct {
		naive []float64
		least float64 // how far off it must be to be noticed
	}{
		"levels between the table's entries by ln sigma": {read(diffusion.ByLogSigma), 1e-6},
		"levels between the table's entries by sigma":    {read(diffusion.BySigma), 1e-7},
		"re-spacing in sigma instead of time":            {curve(6, right[0], right[5], 1.2), 1},
		"a cut counted on the list with the zero":        {[]float64{right[0], right[1], right[2], right[3], right[4], cut}, 0.5},
	} {
		if o := off(c.naive); o < c.least {
			t.Errorf("%s is only off by %.2g, wanted at least %g", what, o, c.least)
		}
	}
	// The usual zero after the levels: one evaluation more, and nothing left for the decoder.
	naive := build(t, p, diffusion.Spec{Rule: "sigmas", List: right})
	if s := naive.Sigmas(); len(naive.Steps) == 5 || s[len(s)-1] > 0 {
		t.Errorf("appending a zero was not noticed: %d steps, levels %v", len(naive.Steps), s)
	}
	kept := build(t, p, diffusion.Spec{Rule: "f5", End: diffusion.Keep})
	if s := kept.Sigmas(); len(kept.Steps) != 5 || !(s[5] > 0) {
		t.Errorf("f5 has %d steps and the levels %v", len(kept.Steps), s)
	}
}

// Ends zero and min have as many steps as keep, of which the last leads from the
// cut level on: one level fewer over the same times.
func TestTwoLevelEnds(t *testing.T) {
	p := vpOf(t, "vp-scaled")
	kept := build(t, p, diffusion.Spec{Rule: "f8", End: diffusion.Keep})
	two := diffusion.Spec{Rule: "two-level", Steps: 7, BaseSteps: 12, BaseRho: 7, Cut: 9, End: diffusion.Keep}
	fewer := build(t, p, two).Sigmas()
	for end, want := range map[diffusion.End]float64{diffusion.Zero: 0, diffusion.Min: p.Sigma(0)} {
		g := build(t, p, diffusion.Spec{Rule: "f8", End: end})
		if s := g.Sigmas(); !slices.Equal(s[:8], fewer) || len(g.Steps) != 8 || s[8] != want {
			t.Errorf("end %s: %v, want %v and %g", end, s, fewer, want)
		}
	}
	one := build(t, p, diffusion.Spec{Rule: "two-level", Steps: 1, Cut: 5})
	if s := one.Sigmas(); len(s) != 2 || s[0] != p.Sigma(999) || s[1] != 0 {
		t.Errorf("one step to zero: %v", s)
	}
	for i, s := range kept.Steps {
		if c := p.TimeBy(s.From.Sigma(), diffusion.ByABar); !near(s.From.T, p.Time(s.From.Sigma()), 1e-12) || math.Abs(s.From.T-c) > 0.01 {
			t.Errorf("step %d: the network's time is %g, the grid's %g", i, s.From.T, c)
		}
	}
}

// The formula's limits: no cut ends at the table's end, re-spacing with rho 1 is
// even in time, and a base of rho 1 puts its cut evenly in sigma.
func TestTwoLevelLimits(t *testing.T) {
	p := vpOf(t, "vp")
	g := build(t, p, diffusion.Spec{Rule: "two-level", Steps: 6, BaseSteps: 9, BaseRho: 4, Cut: 8, RespaceRho: 1, End: diffusion.Keep})
	for i, s := range g.Sigmas() {
		want := 999 - 999*float64(i)/6
		if c := p.TimeBy(s, diffusion.ByABar); math.Abs(c-want) > 1e-8 {
			t.Errorf("no cut, rho 1: level %d lies at time %g, want %g", i, c, want)
		}
	}
	g = build(t, p, diffusion.Spec{Rule: "two-level", Steps: 3, BaseSteps: 5, BaseRho: 1, Cut: 2, End: diffusion.Keep})
	want := (p.Sigma(999) + p.Sigma(0)) / 2
	// The cut's time is found by ln sigma and read by abar: within the table's entries around it.
	u := p.Time(want)
	if s := g.Sigmas(); s[3] < p.Sigma(math.Floor(u)) || s[3] > p.Sigma(math.Ceil(u)) {
		t.Errorf("a base of rho 1 cut half way ends at %g, want about %g", s[3], want)
	}
	d := build(t, p, diffusion.Spec{Rule: "two-level", Steps: 7, End: diffusion.Keep}).Sigmas()
	e := build(t, p, diffusion.Spec{Rule: "two-level", Steps: 7, BaseSteps: 12, BaseRho: 10, Cut: 7, RespaceRho: 1.2, End: diffusion.Keep}).Sigmas()
	if !slices.Equal(d, e) {
		t.Errorf("defaults: %v, want %v", d, e)
	}
}

func TestTwoLevelRefusals(t *testing.T) {
	vp := must(t, "vp-scaled")
	short, err := diffusion.NewVP(diffusion.LinearBetas(10, 1e-3, 0.5))
	if err != nil {
		t.Fatal(err)
	}
	zt := must(t, "vp-scaled-zt")
	two := func(s diffusion.Spec) diffusion.Spec {
		s.Rule = "two-level"
		return s
	}
	for _, c := range []struct {
		p    diffusion.Path
		s    diffusion.Spec
		want string
	}{
		{vp, two(diffusion.Spec{}), "0 steps"},
		{vp, two(diffusion.Spec{Steps: 12}), "cut at base level 12; wanted 1 to 11"},
		{vp, two(diffusion.Spec{Steps: 8, BaseSteps: 8, Cut: 8}), "cut at base level 8; wanted 1 to 7, the last of 8 levels counted from 0"},
		{vp, two(diffusion.Spec{Steps: 8, Cut: -1}), "cut at base level -1"},
		{vp, two(diffusion.Spec{Steps: 8, BaseSteps: 1}), "1 base levels"},
		{vp, two(diffusion.Spec{Steps: 8, BaseRho: -3}), "base rho -3"},
		{vp, two(diffusion.Spec{Steps: 8, RespaceRho: math.NaN()}), "re-space rho NaN"},
		{vp, two(diffusion.Spec{Steps: 8, RespaceRho: math.Inf(1)}), "re-space rho +Inf"},
		{vp, two(diffusion.Spec{Steps: 8, SigmaMax: 20}), "the table goes from 14.614"},
		{vp, two(diffusion.Spec{Steps: 8, SigmaMin: 1e-3}), "the table goes from 14.614"},
		{vp, two(diffusion.Spec{Steps: 1500, Cut: 9, End: diffusion.Keep}), "1501 levels between times 999 and"},
		{short, two(diffusion.Spec{Steps: 10, BaseSteps: 12, Cut: 10, End: diffusion.Keep}), "11 levels between times 9 and"},
		{zt, two(diffusion.Spec{Steps: 8}), "set sigma max and min"},
		{must(t, "ve"), two(diffusion.Spec{Steps: 8}), "path ve has no table of noise levels"},
		{must(t, "flow"), diffusion.Spec{Rule: "f8"}, "path flow has no table of noise levels"},
		{vp, diffusion.Spec{Rule: "f8", Steps: 20}, "grid f8: steps 20; it has 8"},
		{vp, diffusion.Spec{Rule: "f5", Cut: 5}, "grid f5: cut 5; it has 6"},
		{vp, diffusion.Spec{Rule: "f6", RespaceRho: 2}, "grid f6: re-space rho 2; it has 1.2"},
		{vp, diffusion.Spec{Rule: "karras", Steps: 8, Cut: 5}, "only two-level has them"},
		{vp, diffusion.Spec{Rule: "sigmas", List: []float64{3, 1}, RespaceRho: 1}, "only two-level has them"},
	} {
		if g, err := diffusion.Build(c.p, c.s); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s %+v: %v, error %v, want %q", c.p.Name(), c.s, g, err, c.want)
		}
	}
	if _, err := diffusion.TwoLevelPreset("f7"); err == nil || !strings.Contains(err.Error(), "there are f5, f6, f8 and f8-sdxl") {
		t.Errorf("preset f7: %v", err)
	}
}

package diffusion_test

import (
	"math"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/diffusion"
)

func levels(t *testing.T, p diffusion.Path, s diffusion.Spec) []float64 {
	t.Helper()
	g, err := diffusion.Build(p, s)
	if err != nil {
		t.Fatalf("%s: %v", s.Rule, err)
	}
	return g.Sigmas()
}

func wantLevels(t *testing.T, what string, got, want []float64, rel float64) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d levels %v, want %d", what, len(got), got, len(want))
	}
	for i := range want {
		if !near(got[i], want[i], rel) {
			t.Errorf("%s: level %d is %.15g, want %.15g", what, i, got[i], want[i])
		}
	}
}

// The quantiles are scipy 1.17.1's: 0.002 + 79.998·scipy.stats.beta.ppf(1 - i/(n-1), a, b).
func TestBetaGrid(t *testing.T) {
	ve := diffusion.DefaultVE()
	wantLevels(t, "beta", levels(t, ve, diffusion.Spec{Rule: "beta", Steps: 7}),
		[]float64{80, 72.68123932958748, 57.96748756437169, 40.00100000000001, 22.034512435628326, 7.320760670412515, 0.002, 0}, 1e-9)
	wantLevels(t, "beta 0.3 2.5", levels(t, ve, diffusion.Spec{Rule: "beta", Steps: 4, End: diffusion.Min, Alpha: 0.3, Beta: 2.5}),
		[]float64{80, 11.686918484743803, 2.6553921422057254, 0.25628643457861333, 0.002}, 1e-9)
}

func TestTimesOfThePath(t *testing.T) {
	sde := diffusion.DefaultVPSDE()
	for rule, time := range map[string]func(u float64) float64{
		"uniform":   func(u float64) float64 { return 1 + u*(1e-3-1) },
		"quadratic": func(u float64) float64 { r := 1 + u*(math.Sqrt(1e-3)-1); return r * r },
	} {
		var want []float64
		for i := range 6 {
			want = append(want, sde.Sigma(time(float64(i)/5)))
		}
		wantLevels(t, rule, levels(t, sde, diffusion.Spec{Rule: rule, Steps: 5, End: diffusion.Keep}), want, 1e-12)
	}
	// A flow's own time ends at the data: n steps, the last to zero.
	wantLevels(t, "flow", levels(t, diffusion.Flow{}, diffusion.Spec{Rule: "uniform", Steps: 4}), []float64{math.Inf(1), 3, 1, 1. / 3, 0}, 1e-12)
	// The reversed direction has the same levels.
	wantLevels(t, "flow-reversed", levels(t, diffusion.Flow{DataAtOne: true}, diffusion.Spec{Rule: "uniform", Steps: 4}), []float64{math.Inf(1), 3, 1, 1. / 3, 0}, 1e-12)
	vp := must(t, "vp").(*diffusion.VP)
	var want []float64
	for _, at := range []float64{800, 450, 200, 50, 0} { // (√800·i/4)²
		want = append(want, vp.Sigma(at))
	}
	g, err := diffusion.Build(vp, diffusion.Spec{Rule: "quadratic-ddim", Steps: 5})
	if err != nil {
		t.Fatal(err)
	}
	if len(g.Notes) != 1 {
		t.Errorf("quadratic-ddim starts low without a note: %q", g.Notes)
	}
	got := g.Sigmas()
	for i, w := range want { // 800 is a rounded square of a root: the library's float gives 800 or 799
		if math.Abs(vp.Time(got[i])-vp.Time(w)) > 1 {
			t.Errorf("quadratic-ddim: level %d is time %g, want %g", i, vp.Time(got[i]), vp.Time(w))
		}
	}
}

func TestFixedCurves(t *testing.T) {
	ve := diffusion.DefaultVE()
	var want []float64
	for i := range 4 {
		time := 1 - (1-1e-3)*float64(i)/3
		want = append(want, math.Sqrt(math.Exp(19.9*time*time/2+0.1*time)-1))
	}
	wantLevels(t, "vp-curve", levels(t, ve, diffusion.Spec{Rule: "vp-curve", Steps: 3, End: diffusion.Keep}), want, 1e-12)

	// Away from the clamp at the noisy end the recursion has a closed form:
	// 1 + u_j² = 1/abar'_j of the cosine that is counted from the data's side.
	got := levels(t, ve, diffusion.Spec{Rule: "iddpm", Steps: 992, SigmaMin: 1e-4})
	if len(got) != 993 || !near(got[0], 80.2, 1e-3) {
		t.Fatalf("iddpm: %d levels from %g", len(got), got[0])
	}
	for i := 20; i < 992; i += 97 {
		j := float64(i + 8)
		top := math.Sin(math.Pi / 2 / 1.008)
		v := math.Sin(math.Pi / 2 * j / 1008)
		if want := math.Sqrt(top*top/(v*v) - 1); !near(got[i], want, 1e-9) {
			t.Errorf("iddpm: level %d is %.12g, want %.12g", i, got[i], want)
		}
	}
	thin := levels(t, ve, diffusion.Spec{Rule: "iddpm", Steps: 18})
	if thin[0] != got[0] || thin[17] != got[991] {
		t.Errorf("iddpm of 18: from %g to %g, want %g to %g", thin[0], thin[17], got[0], got[991])
	}
}

func TestOptimisedLevels(t *testing.T) {
	vp := must(t, "vp-scaled")
	ten := []float64{14.615, 6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.152}
	wantLevels(t, "ays-sd15", levels(t, vp, diffusion.Spec{Rule: "ays-sd15", Steps: 10}), append(ten, 0), 1e-12)
	wantLevels(t, "ays-sd15 keep", levels(t, vp, diffusion.Spec{Rule: "ays-sd15", Steps: 10, End: diffusion.Keep}), append(ten, 0.029), 1e-12)
	twenty := levels(t, vp, diffusion.Spec{Rule: "ays-sd15", Steps: 20, End: diffusion.Keep})
	if !near(twenty[1], math.Sqrt(14.615*6.475), 1e-12) || !near(twenty[2], 6.475, 1e-12) || len(twenty) != 21 {
		t.Errorf("20 steps: %v", twenty)
	}
	if s := levels(t, must(t, "edm"), diffusion.Spec{Rule: "ays-svd", Steps: 10}); !near(s[0], 700, 1e-12) || !near(s[9], 0.034, 1e-12) {
		t.Errorf("ays-svd: %v", s)
	}
	if s := levels(t, vp, diffusion.Spec{Rule: "ays-sdxl", Steps: 1}); len(s) != 2 || !near(s[0], 14.615, 1e-12) || s[1] != 0 {
		t.Errorf("one step: %v", s)
	}
}

func TestFlowShifts(t *testing.T) {
	if s := diffusion.ExpShift(256); !near(s, math.Exp(0.5), 1e-15) {
		t.Errorf("256 tokens: %g", s)
	}
	if s := diffusion.LinearShift(4096); !near(s, 1.15, 1e-15) {
		t.Errorf("4096 tokens: %g", s)
	}
	// t' = e^mu/(e^mu + 1/t - 1), the form that other tools print.
	g, err := diffusion.Build(diffusion.Flow{}, diffusion.Spec{Rule: "flow", Steps: 4, Shift: diffusion.ExpShift(1024), TauMin: 0.25, Terminal: 0.1, End: diffusion.Keep})
	if err != nil {
		t.Fatal(err)
	}
	e := math.Exp(0.5 + 0.65*768/3840)
	shifted := func(t float64) float64 { return e / (e + 1/t - 1) }
	for i, s := range g.Steps {
		tau := 1 - 0.75*float64(i)/4
		if want := 1 - (1-shifted(tau))*(1-0.1)/(1-shifted(0.25)); !near(s.From.B, want, 1e-12) {
			t.Errorf("level %d is %.12g, want %.12g", i, s.From.B, want)
		}
	}
	if last := g.Steps[3].To.B; !near(last, 0.1, 1e-12) {
		t.Errorf("stretched to %g, want 0.1", last)
	}
}

// Grids of any shift start from pure noise: s/(1+(s-1)) is not 1 for every s in float64.
func TestShiftedGridsStartFromPureNoise(t *testing.T) {
	off := 0
	for i := range 200 {
		s := 0.25 * math.Pow(2, 5*float64(i)/199)
		if s/(1+(s-1)) != 1 {
			off++
		}
		g, err := diffusion.Build(diffusion.Flow{}, diffusion.Spec{Rule: "flow", Steps: 4, Shift: s})
		if err != nil {
			t.Fatalf("shift %v: %v", s, err)
		}
		if from := g.Steps[0].From; from.A != 0 || from.B != 1 {
			t.Errorf("shift %v starts at %+v", s, from)
		}
	}
	if off == 0 {
		t.Error("no shift among them whose formula is off at 1")
	}
}

func TestStrength(t *testing.T) {
	g, err := diffusion.Build(diffusion.DefaultVE(), diffusion.Spec{Rule: "karras", Steps: 10})
	if err != nil {
		t.Fatal(err)
	}
	for s, want := range map[float64]int{1: 10, 0.5: 5, 0.3: 3, 0.31: 4, 0.01: 1} {
		part, err := g.Strength(s)
		if err != nil || len(part.Steps) != want || part.Steps[want-1] != g.Steps[9] {
			t.Errorf("strength %g: %v, %v", s, part, err)
		}
	}
	for _, s := range []float64{0, -1, 1.1, math.NaN()} {
		if _, err := g.Strength(s); err == nil {
			t.Errorf("strength %g is accepted", s)
		}
	}
}

// Every rule says what it does; the names are all there is.
func TestRuleList(t *testing.T) {
	for i, r := range diffusion.RuleList() {
		if r.Name != diffusion.Rules()[i] || r.Places == "" || r.Ends == "" {
			t.Errorf("%+v", r)
		}
	}
	for _, c := range []struct {
		path string
		spec diffusion.Spec
		want string
	}{
		{"ve", diffusion.Spec{Rule: "beta", Steps: 3, Alpha: -1}, "alpha -1"},
		{"flow", diffusion.Spec{Rule: "uniform", Steps: 3, End: diffusion.Keep}, "ends without noise"},
		{"edm", diffusion.Spec{Rule: "quadratic", Steps: 3}, "no root"},
		{"ve", diffusion.Spec{Rule: "iddpm", Steps: 1001}, "at most that many"},
		{"flow", diffusion.Spec{Rule: "flow", Steps: 3, Terminal: 1}, "terminal"},
		{"ve", diffusion.Spec{Rule: "quadratic-ddim", Steps: 3}, "no table"},
	} {
		p := must(t, c.path)
		if _, err := diffusion.Build(p, c.spec); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s on %s: %v, want %q", c.spec.Rule, c.path, err, c.want)
		}
	}
}

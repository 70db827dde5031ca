package systems

import (
	"math"
	"testing"
)

func closeTo(t *testing.T, what string, got, want float64) {
	t.Helper()
	if math.Abs(got-want) > 1e-6*math.Max(1, math.Abs(want)) {
		t.Errorf("%s is %.9g; wanted %.9g", what, got, want)
	}
}

// arms makes records of a measure's values.
func arms(values map[string][]float64, blocks map[string][]float64) []ArmRecord {
	var out []ArmRecord
	for name, v := range values {
		p := Point{Values: map[string][]float64{"fd": v}}
		if b := blocks[name]; b != nil {
			p.Blocks = map[string][]float64{"fd": b}
		}
		out = append(out, ArmRecord{Name: name, Points: []Point{p}})
	}
	return out
}

// The t quantiles are of printed tables: 4.302653 for three values, 12.706205 for two.
func TestJudgeAgainstHandCalculation(t *testing.T) {
	e := Experiment{Name: "e", Measures: []Measure{{Name: "fd"}}}
	ratio := &Criterion{Name: "a", Measure: "fd", Arm: "x", Against: []string{"y"}, Bound: 0.7}
	j, err := e.judge(ratio, arms(map[string][]float64{"x": {1, 2, 4}, "y": {2, 5, 8}}, nil))
	if err != nil {
		t.Fatal(err)
	}
	// logs of 0.5, 0.4, 0.5: mean and deviation by hand
	l1, l2 := math.Log(0.5), math.Log(0.4)
	mean := (2*l1 + l2) / 3
	sd := math.Sqrt((2*(l1-mean)*(l1-mean) + (l2-mean)*(l2-mean)) / 2)
	half := 4.302652730 * sd / math.Sqrt(3)
	closeTo(t, "ratio", j.Estimate, math.Exp(mean))
	closeTo(t, "lower end", *j.Lo, math.Exp(mean-half))
	closeTo(t, "upper end", *j.Hi, math.Exp(mean+half))
	closeTo(t, "spread", j.Spread, sd)
	if j.Verdict != Pass {
		t.Errorf("%s", j.Verdict)
	}

	diff := &Criterion{Name: "a", Measure: "fd", Arm: "x", Against: []string{"y"}, Form: Difference, Bound: 0, AtLeast: true}
	j, err = e.judge(diff, arms(map[string][]float64{"x": {1, 2}, "y": {2, 5}}, nil))
	if err != nil {
		t.Fatal(err)
	}
	closeTo(t, "difference", j.Estimate, -2)
	closeTo(t, "its lower end", *j.Lo, -2-12.70620474)
	if j.Verdict != Inconclusive {
		t.Errorf("%s", j.Verdict)
	}

	value := &Criterion{Name: "a", Measure: "fd", Arm: "x", Form: Value, Bound: 0.5, AtLeast: true}
	j, err = e.judge(value, arms(map[string][]float64{"x": {0.30, 0.31, 0.32}}, nil))
	if err != nil {
		t.Fatal(err)
	}
	closeTo(t, "value", j.Estimate, 0.31)
	if j.Verdict != Fail {
		t.Errorf("%s", j.Verdict)
	}
}

// The best rival is the one with the best mean; the median is taken seed by seed.
func TestPools(t *testing.T) {
	values := map[string][]float64{"x": {1, 1}, "p": {2, 4}, "q": {3, 2}, "r": {9, 3}}
	e := Experiment{Name: "e", Measures: []Measure{{Name: "fd"}}}
	c := &Criterion{Name: "a", Measure: "fd", Arm: "x", Against: []string{"p", "q", "r"}, Bound: 1}
	j, err := e.judge(c, arms(values, nil))
	if err != nil {
		t.Fatal(err)
	}
	closeTo(t, "against the best", j.Estimate, 1/math.Sqrt(6))
	if len(j.Against) != 1 || j.Against[0] != "q" {
		t.Errorf("the best is %v", j.Against)
	}
	c.Pool = Median
	j, err = e.judge(c, arms(values, nil))
	if err != nil {
		t.Fatal(err)
	}
	closeTo(t, "against the median", j.Estimate, 1/math.Sqrt(9))
	e.Measures[0].Higher, c.Pool = true, Best
	if j, err = e.judge(c, arms(values, nil)); err != nil || j.Against[0] != "r" {
		t.Errorf("the highest is %v (%v)", j.Against, err)
	}
}

// Of a mean, the jackknife's variance is that of the mean itself.
func TestBlocksOfAMean(t *testing.T) {
	groups := []float64{3, 5, 4, 8, 6, 4}
	mean, sd := meanSD(groups)
	var left []float64
	for _, v := range groups {
		left = append(left, (mean*6-v)/5)
	}
	lo, hi := overBlocks(mean, left)
	half := 2.570581836 * sd / math.Sqrt(6) // t of 5 degrees of freedom
	closeTo(t, "lower end", lo, mean-half)
	closeTo(t, "upper end", hi, mean+half)

	e := Experiment{Name: "e", Measures: []Measure{{Name: "fd"}}}
	c := &Criterion{Name: "a", Measure: "fd", Arm: "x", Against: []string{"y"}, Form: Difference, Bound: 0}
	zero := make([]float64, 6)
	j, err := e.judge(c, arms(map[string][]float64{"x": {mean}, "y": {0}}, map[string][]float64{"x": left, "y": zero}))
	if err != nil {
		t.Fatal(err)
	}
	closeTo(t, "difference by blocks", *j.Hi, mean+half)
	if j.Verdict != Fail {
		t.Errorf("%s", j.Verdict)
	}
	j, err = e.judge(c, arms(map[string][]float64{"x": {mean}, "y": {0}}, nil))
	if err != nil || j.Verdict != Inconclusive || j.Lo != nil {
		t.Errorf("one seed without blocks: %+v, %v", j, err)
	}
}

func TestVerdictOfAll(t *testing.T) {
	rec := func(v ...Judgement) *Record { return &Record{Experiments: []ExperimentRecord{{Criteria: v}}} }
	p, f, i := Judgement{Verdict: Pass}, Judgement{Verdict: Fail}, Judgement{Verdict: Inconclusive}
	shown := Judgement{Verdict: Fail, Shown: true}
	for _, c := range []struct {
		r    *Record
		want Verdict
	}{{rec(p, p), Pass}, {rec(p, i), Inconclusive}, {rec(i, f, p), Fail}, {rec(p, shown), Pass}, {rec(shown), Inconclusive}, {rec(), Inconclusive}} {
		if got := c.r.judge(); got != c.want {
			t.Errorf("%+v: %s; wanted %s", c.r, got, c.want)
		}
	}
}

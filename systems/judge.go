package systems

import (
	"fmt"
	"math"
	"slices"
)

// judge is what a criterion comes to, by the arms' results.
func (e *Experiment) judge(c *Criterion, arms []ArmRecord) (Judgement, error) {
	j := Judgement{
		Name: c.Name, Claim: c.Claim, Measure: c.Measure, Arm: c.Arm, Against: c.Against,
		Form: []string{"ratio", "difference", "value"}[c.Form], Bound: c.Bound, AtLeast: c.AtLeast, Unequal: c.Unequal, Shown: c.Shown,
	}
	point := func(name string) *Point {
		i := slices.IndexFunc(arms, func(a ArmRecord) bool { return a.Name == name })
		return &arms[i].Points[0]
	}
	own := point(c.Arm)
	var rivals []*Point
	for _, name := range c.Against {
		rivals = append(rivals, point(name))
	}
	if c.Pool == Best && len(rivals) > 1 {
		best := 0
		for i := range rivals {
			a, _ := meanSD(rivals[i].Values[c.Measure])
			b, _ := meanSD(rivals[best].Values[c.Measure])
			if a != b && a > b == e.measure(c.Measure).Higher {
				best = i
			}
		}
		rivals, j.Against = rivals[best:best+1], c.Against[best:best+1]
	}
	number := func(of func(*Point) []float64) ([]float64, error) {
		var out []float64
		for i, v := range of(own) {
			var rs []float64
			for _, r := range rivals {
				rs = append(rs, of(r)[i])
			}
			n, err := c.number(v, median(rs))
			if err != nil {
				return nil, &PlanError{e.Name, fmt.Sprintf("criterion %s: %v", c.Name, err)}
			}
			out = append(out, n)
		}
		return out, nil
	}
	values, err := number(func(p *Point) []float64 { return p.Values[c.Measure] })
	if err != nil {
		return j, err
	}
	mean, lo, hi := overSeeds(values)
	_, j.Spread = meanSD(values)
	if len(values) == 1 {
		j.Spread = 0
		blocks := func(p *Point) []float64 { return p.Blocks[c.Measure] }
		if g := len(blocks(own)); g > 1 && !slices.ContainsFunc(rivals, func(p *Point) bool { return len(blocks(p)) != g }) {
			left, err := number(blocks)
			if err != nil {
				return j, err
			}
			lo, hi = overBlocks(mean, left)
		}
	}
	bound := c.Bound
	if c.Form == Ratio {
		bound = math.Log(bound)
	}
	j.Verdict, j.Reason = rule(lo, hi, bound, c.AtLeast)
	if c.Form == Ratio {
		mean, lo, hi = math.Exp(mean), math.Exp(lo), math.Exp(hi)
	}
	j.Estimate = mean
	if !math.IsNaN(lo) {
		j.Lo, j.Hi = &lo, &hi
	}
	return j, nil
}

// number is what a criterion looks at in one seed: the logarithm of a ratio, a
// difference, or the value.
func (c *Criterion) number(own, rival float64) (float64, error) {
	switch c.Form {
	case Value:
		return own, nil
	case Difference:
		return own - rival, nil
	}
	if !(own > 0) || !(rival > 0) {
		return 0, fmt.Errorf("a ratio of %s %.6g and %.6g; wanted both above 0", c.Measure, own, rival)
	}
	return math.Log(own / rival), nil
}

// rule compares an interval with a bound.
func rule(lo, hi, bound float64, atLeast bool) (Verdict, string) {
	if atLeast {
		lo, hi, bound = -hi, -lo, -bound
	}
	switch {
	case math.IsNaN(lo):
		return Inconclusive, "a single seed gives no interval"
	case lo == bound && hi == bound:
		return Inconclusive, "every seed lies on the bound: the arms may be one and the same"
	case hi <= bound:
		return Pass, "the whole interval is on the claim's side of the bound"
	case lo > bound:
		return Fail, "the whole interval is on the other side of the bound"
	}
	return Inconclusive, "the bound lies within the interval"
}

func median(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	v = slices.Sorted(slices.Values(v))
	if n := len(v); n%2 == 0 {
		return (v[n/2-1] + v[n/2]) / 2
	}
	return v[len(v)/2]
}

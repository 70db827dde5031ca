package systems

import (
	"context"
	"fmt"
	"math"
	"testing"

	"github.com/fidlab/fidlab/rng"
)

// simulated is a proof of one criterion, ratio a/b <= bound, whose arms measure
// exp(N(ln level, sd²)) by random numbers that depend on rep, the arm and the seed.
func simulated(rep int, ratio, bound, sd float64, seeds int) Recipe {
	arm := func(name string, stream uint64, level float64) Arm {
		return Arm{Name: name, Cost: Cost{NFE: 8}, Run: func(_ context.Context, d Draw) (*Outcome, error) {
			z := rng.New(uint64(rep), stream<<40|d.Seed).Normal()
			return &Outcome{Values: map[string]float64{"fd": level * math.Exp(sd*z)}, Cost: Cost{NFE: 8}}, nil
		}}
	}
	return Recipe{Name: "gaussteleport", Number: 2, Plan: func(context.Context, *Env, Tier) ([]Experiment, error) {
		return []Experiment{{
			Name: "sim", Size: Size{N: 10, Seeds: seeds}, Measures: []Measure{{Name: "fd"}},
			Arms:     []Arm{arm("ours", 1, ratio), arm("theirs", 2, 1)},
			Criteria: []Criterion{{Name: "a", Measure: "fd", Arm: "ours", Against: []string{"theirs"}, Bound: bound}},
		}}, nil
	}}
}

func verdicts(t *testing.T, runs int, ratio, bound, sd float64, seeds int) map[Verdict]int {
	t.Helper()
	count := map[Verdict]int{}
	for rep := range runs {
		p, err := Prove(t.Context(), &Env{}, simulated(rep, ratio, bound, sd, seeds), Full)
		if err != nil {
			t.Fatal(err)
		}
		count[p.Record.Verdict]++
	}
	return count
}

// A method that is the baseline under another name must not pass.
func TestRenamedBaselineIsInconclusive(t *testing.T) {
	const runs = 200
	for _, seeds := range []int{3, 5, 10} {
		got := verdicts(t, runs, 1, 1, 0.1, seeds)
		t.Logf("%d seeds: %v", seeds, got)
		if got[Pass] > runs/20 || got[Fail] > runs/20 {
			t.Errorf("%d seeds: of %d proofs of nothing %v; wanted at most 5 %% to pass and as few to fail", seeds, runs, got)
		}
	}
}

// The same code twice gives the same numbers: no interval can tell a claim from its opposite.
func TestIdenticalArmsAreInconclusive(t *testing.T) {
	r := simulated(1, 1, 1, 0, 4)
	p, err := Prove(t.Context(), &Env{}, r, Full)
	if err != nil {
		t.Fatal(err)
	}
	c := p.Record.Find("sim/a")
	if c.Verdict != Inconclusive || *c.Lo != 1 || *c.Hi != 1 {
		t.Errorf("identical arms: %s, %g in [%g, %g]", c.Verdict, c.Estimate, *c.Lo, *c.Hi)
	}
}

// A planted gain of 10 % passes as often as Power says, and a planted loss of 10 % fails so.
func TestPlantedGainPassesWithStatedPower(t *testing.T) {
	const runs = 400
	for _, c := range []struct {
		sd    float64
		seeds int
	}{{0.02, 3}, {0.03, 3}, {0.03, 5}, {0.06, 5}, {0.1, 10}} {
		t.Run(fmt.Sprintf("sd=%g/seeds=%d", c.sd, c.seeds), func(t *testing.T) {
			crit := Criterion{Form: Ratio, Bound: 1, Expect: 0.9, Spread: c.sd * math.Sqrt2}
			power := crit.Power(c.seeds)
			got := verdicts(t, runs, 0.9, 1, c.sd, c.seeds)
			share := float64(got[Pass]) / runs
			slack := 4 * math.Sqrt(power*(1-power)/runs)
			t.Logf("power %.3f, passed %.3f", power, share)
			if math.Abs(share-power) > slack+1e-9 {
				t.Errorf("a gain of 10 %% passed in %.3f of %d proofs; Power says %.3f", share, runs, power)
			}
			lost := verdicts(t, runs, 1/0.9, 1, c.sd, c.seeds)
			if share := float64(lost[Fail]) / runs; math.Abs(share-power) > slack+1e-9 {
				t.Errorf("a loss of 10 %% failed in %.3f of %d proofs; Power says %.3f", share, runs, power)
			}
		})
	}
}

// Power in two limits that are known: no spread to speak of, and no gain at all.
func TestPowerLimits(t *testing.T) {
	sure := Criterion{Form: Ratio, Bound: 1, Expect: 0.9, Spread: 1e-4}
	if p := sure.Power(3); p < 1-1e-9 {
		t.Errorf("without spread the power is %g; wanted 1", p)
	}
	for _, n := range []int{2, 3, 5, 20} {
		none := Criterion{Form: Ratio, Bound: 0.9, Expect: 0.9, Spread: 0.2}
		if p := none.Power(n); math.Abs(p-0.025) > 2e-4 {
			t.Errorf("%d seeds on the bound: power %.5f; wanted half of 5 %%", n, p)
		}
	}
	least := Criterion{Form: Difference, AtLeast: true, Bound: 1, Expect: 1.5, Spread: 0.25}
	most := Criterion{Form: Difference, Bound: -1, Expect: -1.5, Spread: 0.25}
	if a, b := least.Power(4), most.Power(4); math.Abs(a-b) > 1e-12 || a < 0.5 {
		t.Errorf("mirrored criteria have powers %g and %g", a, b)
	}
	if p := sure.Power(1); p != 0 {
		t.Errorf("one seed: power %g", p)
	}
}

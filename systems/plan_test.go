package systems

import (
	"context"
	"errors"
	"strings"
	"testing"
)

// plain is an experiment that passes every check.
func plain() Experiment {
	run := func(context.Context, Draw) (*Outcome, error) {
		return &Outcome{Values: map[string]float64{"fd": 1}, Cost: Cost{NFE: 8, Params: 100}}, nil
	}
	return Experiment{
		Name: "e", Size: Size{N: 100, Seeds: 3}, Measures: []Measure{{Name: "fd", Least: 50}},
		Arms: []Arm{
			{Name: "ours", Run: run, Cost: Cost{NFE: 8, Params: 100}, Tune: []Params{{"a": 1}, {"a": 2}}},
			{Name: "theirs", Run: run, Cost: Cost{NFE: 8, Params: 100}, Tune: []Params{{"a": 1}, {"a": 2}}},
		},
		Criteria: []Criterion{{Name: "a", Measure: "fd", Arm: "ours", Against: []string{"theirs"}, Bound: 0.9}},
	}
}

func proveOne(t *testing.T, env *Env, e Experiment, tier Tier) (*Proof, error) {
	t.Helper()
	r := Recipe{Name: "gaussteleport", Number: 2, Plan: func(context.Context, *Env, Tier) ([]Experiment, error) { return []Experiment{e}, nil }}
	return Prove(t.Context(), env, r, tier)
}

// Plans that would not compare like with like are refused before anything runs.
func TestUnfairPlansAreRefused(t *testing.T) {
	if _, err := proveOne(t, &Env{}, plain(), Full); err != nil {
		t.Fatalf("the fair plan: %v", err)
	}
	for _, c := range []struct {
		name, want string
		spoil      func(e *Experiment)
	}{
		{"evaluations", "take 16 and 8 evaluations", func(e *Experiment) { e.Arms[0].Cost.NFE = 16 }},
		{"parameters", "take 103 and 100 parameters", func(e *Experiment) { e.Arms[0].Cost.Params = 103 }},
		{"operations", "operations", func(e *Experiment) { e.Arms[1].Cost.FLOPs = 1 }},
		{"training", "training steps", func(e *Experiment) { e.Arms[1].Cost.TrainSteps = 1 }},
		{"trials", "2 tuning trials, theirs has 1", func(e *Experiment) { e.Arms[1].Tune = e.Arms[1].Tune[:1] }},
		{"search", "30 tuning trials", func(e *Experiment) { e.Arms[0].Tune, e.Arms[0].Trials = nil, 30 }},
		{"both", "both searches and is tuned", func(e *Experiment) { e.Arms[0].Trials = 2 }},
		{"samples", "40 samples; fd needs at least 50", func(e *Experiment) { e.Size.N = 40 }},
		{"seeds", "take 8 or more", func(e *Experiment) { e.Criteria[0].Expect, e.Criteria[0].Spread = 0.8, 0.1 }},
		{"no seeds", "0 seeds", func(e *Experiment) { e.Size.Seeds = 0 }},
		{"no rival", "a value has no rival", func(e *Experiment) { e.Criteria[0].Against = nil }},
		{"itself", `no rival "ours"`, func(e *Experiment) { e.Criteria[0].Against = []string{"ours"} }},
		{"unknown measure", `"fid" is not measured`, func(e *Experiment) { e.Criteria[0].Measure = "fid" }},
		{"unknown arm", `no arm "mine"`, func(e *Experiment) { e.Criteria[0].Arm = "mine" }},
		{"bound", "bound 0 of a ratio", func(e *Experiment) { e.Criteria[0].Bound = 0 }},
		{"names", "no name of its own", func(e *Experiment) { e.Arms[1].Name = "ours" }},
		{"tuned by", "tuning by is", func(e *Experiment) { e.TuneBy = "is" }},
		{"sweep", "a sweep has values and no criteria", func(e *Experiment) {
			e.Sweep = &Sweep{Param: "n", Values: []float64{1}}
			e.Arms[0].Tune, e.Arms[1].Tune = nil, nil
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := plain()
			for i := range e.Arms {
				e.Arms[i].Run = func(context.Context, Draw) (*Outcome, error) {
					t.Error("it ran")
					return nil, errors.New("ran")
				}
			}
			c.spoil(&e)
			_, err := proveOne(t, &Env{}, e, Full)
			var refused *PlanError
			if !errors.As(err, &refused) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v; wanted a PlanError with %q", err, c.want)
			}
		})
	}
}

// A reason given makes unlike arms comparable, and stands in the record.
func TestUnequalNeedsAReason(t *testing.T) {
	e := plain()
	e.Arms[0].Cost.NFE, e.Arms[0].Tune = 4, nil
	e.Arms[0].Run = func(context.Context, Draw) (*Outcome, error) {
		return &Outcome{Values: map[string]float64{"fd": 1}, Cost: Cost{NFE: 4, Params: 100}}, nil
	}
	e.Criteria[0].Unequal = "fewer evaluations are the claim"
	p, err := proveOne(t, &Env{}, e, Full)
	if err != nil {
		t.Fatal(err)
	}
	if got := p.Record.Find("e/a").Unequal; got != e.Criteria[0].Unequal {
		t.Errorf("the record's reason is %q", got)
	}
}

// An arm that takes more than it declares ends the proof.
func TestDeclaredCostIsHeldTo(t *testing.T) {
	e := plain()
	e.Arms[0].Run = func(context.Context, Draw) (*Outcome, error) {
		return &Outcome{Values: map[string]float64{"fd": 1}, Cost: Cost{NFE: 9, Params: 100}}, nil
	}
	if _, err := proveOne(t, &Env{}, e, Full); err == nil || !strings.Contains(err.Error(), "arm ours declares and takes 8 and 9 evaluations") {
		t.Errorf("%v", err)
	}
}

// Too few seeds for the expected difference matter in the tier that counts only.
func TestPowerIsAskedOfTheFullTier(t *testing.T) {
	e := plain()
	e.Criteria[0].Expect, e.Criteria[0].Spread = 0.8, 0.1
	if _, err := proveOne(t, &Env{}, e, Short); err != nil {
		t.Errorf("short tier: %v", err)
	}
	e.Size.Seeds = 8
	if _, err := proveOne(t, &Env{}, e, Full); err != nil {
		t.Errorf("with 8 seeds: %v", err)
	}
}

// planOf is a plan of these experiments in every tier.
func planOf(e ...Experiment) func(context.Context, *Env, Tier) ([]Experiment, error) {
	return func(context.Context, *Env, Tier) ([]Experiment, error) { return e, nil }
}

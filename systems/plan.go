package systems

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/fidlab/fidlab/imageio"
)

// Experiment is one comparison: arms that do the same task, on the same noise.
type Experiment struct {
	Name     string // short, unique in its plan
	Question string // what it answers, in a sentence
	Size     Size
	Measures []Measure
	Arms     []Arm
	Criteria []Criterion
	TuneBy   string   // the measure that tuning looks at; "" is the first
	Notes    []string // of the whole, for readers of the record
	On       string   // the fixture of a Part; Prove sets it
	// Sweep, if not nil, runs every arm at each of its values: a figure's curves.
	// Such an experiment tunes nothing and has no criteria.
	Sweep *Sweep
}

// Size is how much an experiment draws.
type Size struct {
	N     int // samples of each run
	Seeds int // of the test
	Tune  int // seeds that tuning looks at; 0 is 1
}

// Sweep is a parameter and the values that it takes in turn. Arms read it from
// their parameters by its name.
type Sweep struct {
	Param  string
	Label  string // of the axis
	Values []float64
}

// Measure is a number that arms are judged by.
type Measure struct {
	Name   string
	Text   string // what it is, with its unit
	Higher bool   // higher is better; lower is, otherwise
	Least  int    // samples that it needs to mean anything
}

// Params are an arm's settings: numbers, words and lists, as JSON has them.
type Params map[string]any

// Num is a number among the settings. It panics when there is none: the arm's author forgot it.
func (p Params) Num(name string) float64 {
	switch v := p[name].(type) {
	case float64:
		return v
	case int:
		return float64(v)
	}
	panic(fmt.Sprintf("systems: parameter %s is %v; wanted a number", name, p[name]))
}

// Int is a whole number among the settings.
func (p Params) Int(name string) int { return int(p.Num(name)) }

// Text is a word among the settings; "" where there is none.
func (p Params) Text(name string) string {
	s, _ := p[name].(string)
	return s
}

// Has tells whether a setting is there.
func (p Params) Has(name string) bool { _, ok := p[name]; return ok }

// with is p and then more.
func (p Params) with(more Params) Params {
	out := Params{}
	for k, v := range p {
		out[k] = v
	}
	for k, v := range more {
		out[k] = v
	}
	return out
}

// String lists the settings by name.
func (p Params) String() string {
	var parts []string
	for k := range p {
		parts = append(parts, k)
	}
	slices.Sort(parts)
	for i, k := range parts {
		parts[i] = fmt.Sprintf("%s=%v", k, p[k])
	}
	return strings.Join(parts, " ")
}

// Arm is one way to do the task.
type Arm struct {
	Name string
	Text string // what it is, for readers of the table
	Set  Params // the settings that hold in every trial
	Tune []Params
	// Trials is how many settings the arm tries by itself, inside Run, where it is
	// a search; Tune is empty then.
	Trials int
	Cost   Cost // that it declares; Seconds is not declared
	Run    func(ctx context.Context, d Draw) (*Outcome, error)
}

// trials is what the arm spends on tuning.
func (a *Arm) trials() int { return max(a.Trials, len(a.Tune)) }

// Split is what a run is for. Splits never share noise.
type Split uint8

// The splits: tuning looks at Val alone, results come from Test.
const (
	Val Split = iota
	Test
)

// Draw is what a run is asked for.
type Draw struct {
	Env    *Env
	Tier   Tier
	Split  Split
	Seed   uint64 // of all noise; the same for every arm, different for every split
	First  bool   // the first seed of the test: pictures are wanted
	N      int    // samples
	Params Params
}

// Outcome is what a run measured.
type Outcome struct {
	Values map[string]float64
	// Blocks are, for each measure that has them, its values with one group of the
	// samples left out in turn, the same groups in every arm. They stand in for
	// seeds where there is one seed alone.
	Blocks   map[string][]float64
	Cost     Cost             // that it really took
	Pictures []*imageio.Image // some samples, all of one size; may be nil
	Notes    []string         // what a reader of the record should know
}

// Cost is what an arm takes.
type Cost struct {
	NFE        float64 `json:"nfe,omitempty"`         // evaluations of the denoiser for a sample
	FLOPs      float64 `json:"flops,omitempty"`       // operations for a sample
	Params     float64 `json:"params,omitempty"`      // numbers learned
	TrainSteps float64 `json:"train_steps,omitempty"` // updates of them
	Seconds    float64 `json:"seconds,omitempty"`     // of this machine; never compared with another run's
}

// unlike is the largest relative difference of two costs that counts as none.
const unlike = 0.02

// differs names what two costs differ in by more than that.
func (c Cost) differs(d Cost) string {
	for _, f := range []struct {
		what string
		a, b float64
	}{{"evaluations", c.NFE, d.NFE}, {"operations", c.FLOPs, d.FLOPs}, {"parameters", c.Params, d.Params}, {"training steps", c.TrainSteps, d.TrainSteps}} {
		if math.Abs(f.a-f.b) > unlike*math.Max(math.Abs(f.a), math.Abs(f.b)) {
			return fmt.Sprintf("%.6g and %.6g %s", f.a, f.b, f.what)
		}
	}
	return ""
}

// Form is what a criterion looks at.
type Form uint8

// The forms: an arm's measure over its rival's (by geometric mean over the
// seeds), their difference, or the arm's measure itself.
const (
	Ratio Form = iota
	Difference
	Value
)

// Pool is how several rivals become one.
type Pool uint8

// The pools: the rival with the best mean over the test seeds, which favours the
// rivals, or the median of all in each seed.
const (
	Best Pool = iota
	Median
)

// Criterion is a pass line.
type Criterion struct {
	Name    string // short, unique in its experiment
	Claim   string // in words
	Measure string
	Arm     string
	Against []string // rivals; none for a Value
	Pool    Pool
	Form    Form
	Bound   float64
	AtLeast bool // the claim is that it is at least Bound; at most, otherwise
	// Unequal says why the arms may differ in cost or trials, "" when they may not.
	Unequal string
	// Shown keeps the criterion out of the verdict: it is printed beside the others.
	Shown bool
	// Expect is the number that earlier runs gave, and Spread the standard deviation
	// over seeds of it (of its logarithm for a Ratio). Where both are set, a plan with
	// too few seeds to show the difference with a chance of one half is refused.
	Expect, Spread float64
}

// PlanError is a plan that would compare unlike things or cannot decide.
type PlanError struct{ Experiment, Detail string }

func (e *PlanError) Error() string {
	return fmt.Sprintf("systems: experiment %s: %s", e.Experiment, e.Detail)
}

// check refuses an experiment before anything runs.
func (e *Experiment) check(tier Tier) error {
	refuse := func(format string, args ...any) error { return &PlanError{e.Name, fmt.Sprintf(format, args...)} }
	if e.Name == "" || strings.Contains(e.Name, "/") || len(e.Arms) == 0 || len(e.Measures) == 0 {
		return refuse("wanted a name without slash, arms and measures")
	}
	if e.Size.N < 1 || e.Size.Seeds < 1 {
		return refuse("%d samples and %d seeds; wanted at least 1 of each", e.Size.N, e.Size.Seeds)
	}
	names := map[string]bool{}
	for i := range e.Arms {
		a := &e.Arms[i]
		switch {
		case a.Name == "" || names[a.Name]:
			return refuse("arm %q has no name of its own", a.Name)
		case a.Run == nil:
			return refuse("arm %s has nothing to run", a.Name)
		case a.Trials > 0 && len(a.Tune) > 0:
			return refuse("arm %s both searches and is tuned; wanted one of them", a.Name)
		case e.Sweep != nil && a.trials() > 0:
			return refuse("arm %s is tuned in a sweep", a.Name)
		}
		names[a.Name] = true
	}
	for _, m := range e.Measures {
		if e.Size.N < m.Least {
			return refuse("%d samples; %s needs at least %d", e.Size.N, m.Name, m.Least)
		}
	}
	if e.TuneBy != "" && e.measure(e.TuneBy) == nil {
		return refuse("tuning by %s, which is not measured", e.TuneBy)
	}
	if e.Sweep != nil && (len(e.Criteria) > 0 || len(e.Sweep.Values) == 0) {
		return refuse("a sweep has values and no criteria")
	}
	seen := map[string]bool{}
	for _, c := range e.Criteria {
		if c.Name == "" || seen[c.Name] {
			return refuse("criterion %q has no name of its own", c.Name)
		}
		seen[c.Name] = true
		if err := e.checkCriterion(&c, tier); err != nil {
			return err
		}
	}
	return nil
}

func (e *Experiment) checkCriterion(c *Criterion, tier Tier) error {
	refuse := func(format string, args ...any) error {
		return &PlanError{e.Name, "criterion " + c.Name + ": " + fmt.Sprintf(format, args...)}
	}
	switch {
	case e.measure(c.Measure) == nil:
		return refuse("%q is not measured", c.Measure)
	case e.arm(c.Arm) == nil:
		return refuse("there is no arm %q", c.Arm)
	case (c.Form == Value) != (len(c.Against) == 0):
		return refuse("a value has no rival, a ratio and a difference have")
	case c.Form == Ratio && !(c.Bound > 0):
		return refuse("bound %g of a ratio; wanted more than 0", c.Bound)
	}
	a := e.arm(c.Arm)
	for _, name := range c.Against {
		b := e.arm(name)
		if b == nil || name == c.Arm {
			return refuse("there is no rival %q", name)
		}
		if c.Unequal != "" {
			continue
		}
		if d := a.Cost.differs(b.Cost); d != "" {
			return refuse("%s and %s take %s; make them equal, or say in Unequal why they may differ", a.Name, name, d)
		}
		if a.trials() != b.trials() {
			return refuse("%s has %d tuning trials, %s has %d; give both the same, or say in Unequal why they may differ", a.Name, a.trials(), name, b.trials())
		}
	}
	if c.Spread > 0 && c.Expect != 0 && tier == Full {
		if p := c.Power(e.Size.Seeds); p < 0.5 {
			n := e.Size.Seeds
			for n < 1000 && c.Power(n) < 0.8 {
				n++
			}
			return refuse("%d seeds would show what is expected with a chance of %.0f %%; take %d or more", e.Size.Seeds, 100*p, n)
		}
	}
	return nil
}

func (e *Experiment) measure(name string) *Measure {
	for i := range e.Measures {
		if e.Measures[i].Name == name {
			return &e.Measures[i]
		}
	}
	return nil
}

func (e *Experiment) arm(name string) *Arm {
	for i := range e.Arms {
		if e.Arms[i].Name == name {
			return &e.Arms[i]
		}
	}
	return nil
}

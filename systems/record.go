package systems

import (
	"encoding/json"
	"fmt"
	"os"
)

// Schema is the version of the records that are written.
const Schema = 1

// Verdict is what a criterion, an experiment or a proof comes to.
type Verdict string

// The verdicts.
const (
	Pass         Verdict = "pass"
	Fail         Verdict = "fail"
	Inconclusive Verdict = "inconclusive"
)

// Record is all that a proof found.
type Record struct {
	Schema      int                `json:"schema"`
	System      string             `json:"system"`
	Number      int                `json:"number"`
	Tier        string             `json:"tier"`
	Verdict     Verdict            `json:"verdict"`
	Version     string             `json:"version"`
	Build       string             `json:"build"`
	Device      string             `json:"device"`
	Workers     int                `json:"workers"`
	Seconds     float64            `json:"seconds"` // of the runs, those kept from before with them
	Fixtures    map[string]string  `json:"fixtures"`
	Described   map[string]string  `json:"described,omitempty"` // what fixtures say of themselves
	Experiments []ExperimentRecord `json:"experiments"`
	// NotRun are the parts of the plan whose fixtures were absent. The verdict is of the others.
	NotRun []NotRun `json:"not_run,omitempty"`
}

// ExperimentRecord is an experiment's part.
type ExperimentRecord struct {
	Name      string      `json:"name"`
	Question  string      `json:"question"`
	N         int         `json:"n"`
	Seeds     int         `json:"seeds"`
	TuneSeeds int         `json:"tune_seeds,omitempty"`
	Measures  []Measure   `json:"measures"`
	Sweep     *Sweep      `json:"sweep,omitempty"`
	Arms      []ArmRecord `json:"arms"`
	Criteria  []Judgement `json:"criteria,omitempty"`
	Notes     []string    `json:"notes,omitempty"`
	On        string      `json:"on,omitempty"` // the fixture that it stands on, besides those of the whole
}

// ArmRecord is an arm's part: one value per seed and measure, in a sweep for
// each of its points.
type ArmRecord struct {
	Name   string  `json:"name"`
	Text   string  `json:"text,omitempty"`
	Trials int     `json:"trials,omitempty"`
	Params Params  `json:"params,omitempty"` // that the test ran with
	Tried  []Trial `json:"tried,omitempty"`
	Points []Point `json:"points"` // one, or those of the sweep
}

// Trial is a setting and what tuning saw of it.
type Trial struct {
	Params Params  `json:"params"`
	Value  float64 `json:"value"`
}

// Point is what the seeds measured at one setting.
type Point struct {
	At     float64              `json:"at,omitempty"`     // of the sweep
	Values map[string][]float64 `json:"values"`           // by measure, one per seed
	Blocks map[string][]float64 `json:"blocks,omitempty"` // of the only seed
	Cost   Cost                 `json:"cost"`
}

// Judgement is a criterion and what it comes to.
type Judgement struct {
	Name     string   `json:"name"`
	Claim    string   `json:"claim"`
	Measure  string   `json:"measure"`
	Arm      string   `json:"arm"`
	Against  []string `json:"against,omitempty"` // the rivals; the one that counted, where it is the best of them
	Form     string   `json:"form"`
	Bound    float64  `json:"bound"`
	AtLeast  bool     `json:"at_least,omitempty"`
	Unequal  string   `json:"unequal,omitempty"`
	Shown    bool     `json:"shown,omitempty"`
	Estimate float64  `json:"estimate"`
	Lo       *float64 `json:"lo"` // null without an interval
	Hi       *float64 `json:"hi"`
	Spread   float64  `json:"spread"` // standard deviation over seeds, of the logarithm of a ratio
	Verdict  Verdict  `json:"verdict"`
	Reason   string   `json:"reason"`
}

// SchemaError is a record that this program does not read.
type SchemaError struct {
	Path string
	Got  int
}

func (e *SchemaError) Error() string {
	if e.Got > Schema {
		return fmt.Sprintf("%s: a record of schema %d; this program reads %d: take a newer one", e.Path, e.Got, Schema)
	}
	return fmt.Sprintf("%s: a record of schema %d; this program reads %d: prove the system anew", e.Path, e.Got, Schema)
}

// ReadRecord reads a record's file.
func ReadRecord(path string) (*Record, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return DecodeRecord(path, b)
}

// maxRecord bounds the bytes of a record.
const maxRecord = 16 << 20

// DecodeRecord reads a record; name stands for it in messages. It refuses other
// schemas with a *SchemaError, and records that do not fit together.
func DecodeRecord(name string, b []byte) (*Record, error) {
	if len(b) > maxRecord {
		return nil, fmt.Errorf("%s: %d bytes; wanted a record of at most %d", name, len(b), maxRecord)
	}
	var head struct {
		Schema *int `json:"schema"`
	}
	if err := json.Unmarshal(b, &head); err != nil {
		return nil, fmt.Errorf("%s: not a record: %w", name, err)
	}
	if head.Schema == nil {
		return nil, fmt.Errorf("%s: no schema; wanted the record of a proof", name)
	}
	if *head.Schema != Schema {
		return nil, &SchemaError{name, *head.Schema}
	}
	r := &Record{}
	if err := json.Unmarshal(b, r); err != nil {
		return nil, fmt.Errorf("%s: not a record: %w", name, err)
	}
	return r, r.check(name)
}

func (r *Record) check(name string) error {
	if _, err := TierByName(r.Tier); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if e, ok := entry(r.Number); !ok || e.Name != r.System {
		return fmt.Errorf("%s: a record of system %d %q, which is not in the catalog", name, r.Number, r.System)
	}
	for _, e := range r.Experiments {
		points := 1
		if e.Sweep != nil {
			points = len(e.Sweep.Values)
		}
		for _, a := range e.Arms {
			if len(a.Points) != points {
				return fmt.Errorf("%s: arm %s of experiment %s has %d points; wanted %d", name, a.Name, e.Name, len(a.Points), points)
			}
			for _, p := range a.Points {
				for _, m := range e.Measures {
					if len(p.Values[m.Name]) != e.Seeds {
						return fmt.Errorf("%s: arm %s of experiment %s has %d values of %s; wanted one for each of %d seeds", name, a.Name, e.Name, len(p.Values[m.Name]), m.Name, e.Seeds)
					}
				}
			}
		}
	}
	if want := r.judge(); want != r.Verdict {
		return fmt.Errorf("%s: its verdict is %q, its criteria come to %q", name, r.Verdict, want)
	}
	return nil
}

// judge is the verdict of all criteria together.
func (r *Record) judge() Verdict {
	out := Pass
	counted := false
	for _, e := range r.Experiments {
		for _, c := range e.Criteria {
			switch {
			case c.Shown:
				continue
			case c.Verdict == Fail:
				return Fail
			case c.Verdict == Inconclusive:
				out = Inconclusive
			}
			counted = true
		}
	}
	if !counted {
		return Inconclusive
	}
	return out
}

// Find is the criterion "experiment/name", nil when there is none.
func (r *Record) Find(path string) *Judgement {
	for i := range r.Experiments {
		e := &r.Experiments[i]
		for k := range e.Criteria {
			if e.Name+"/"+e.Criteria[k].Name == path {
				return &e.Criteria[k]
			}
		}
	}
	return nil
}

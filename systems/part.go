package systems

import (
	"context"
	"errors"
	"fmt"
)

// Part is the part of a plan that stands on a fixture which may be absent: a
// trained network that ships beside the program. Where the fixture is absent
// nothing of the part is run, and the record says so; every other error of the
// fixture, such as a file of another hash, ends the proof.
type Part struct {
	Fixture string
	Text    string // what is asked of it, in a line
	Plan    func(ctx context.Context, env *Env, tier Tier) ([]Experiment, error)
}

// AbsentError is the error of a fixture that may be absent and is.
type AbsentError struct {
	Fixture string
	Err     error // who looked for it, and where
}

func (e *AbsentError) Error() string {
	return fmt.Sprintf("systems: %s is not here: %v", e.Fixture, e.Err)
}

func (e *AbsentError) Unwrap() error { return e.Err }

// Describer is a fixture's value that says what it is, for the record.
type Describer interface{ Describe() string }

// NotRun is a part of the plan that was not run.
type NotRun struct {
	Fixture string `json:"fixture"`
	Text    string `json:"text"`
	Reason  string `json:"reason"`
}

// String is a line for readers.
func (n NotRun) String() string {
	return fmt.Sprintf("not run: %s is not here: %s", n.Fixture, n.Text)
}

// Lacks are the parts of a recipe that a record has nothing of: those that were
// not run, and those that the recipe had not when the record was made. Without a
// record they are all.
func (r *Recipe) Lacks(rec *Record) []Part {
	var out []Part
	for _, p := range r.Parts {
		if rec == nil || rec.Fixtures[p.Fixture] == "" {
			out = append(out, p)
		}
	}
	return out
}

// parts plans the parts of a recipe whose fixtures are here; the record learns of both.
func (p *prover) parts(r *Recipe) ([]Experiment, error) {
	var out []Experiment
	for _, part := range r.Parts {
		o, err := p.env.open(p.ctx, part.Fixture)
		var absent *AbsentError
		switch {
		case errors.As(err, &absent):
			p.rec.NotRun = append(p.rec.NotRun, NotRun{part.Fixture, part.Text, absent.Err.Error()})
			continue
		case err != nil:
			return nil, err
		}
		p.rec.Fixtures[part.Fixture] = o.sum
		if d, ok := o.value.(Describer); ok {
			if p.rec.Described == nil {
				p.rec.Described = map[string]string{}
			}
			p.rec.Described[part.Fixture] = d.Describe()
		}
		list, err := part.Plan(p.ctx, p.env, p.tier)
		if err != nil {
			return nil, fmt.Errorf("systems: %s, on %s: %w", r.Name, part.Fixture, err)
		}
		for _, e := range list {
			e.On = part.Fixture
			out = append(out, e)
		}
	}
	return out, nil
}

// stands are the fixtures that an experiment depends on, with their hashes.
func (p *prover) stands(e *Experiment) map[string]string {
	if e.On == "" {
		return p.needs
	}
	out := map[string]string{e.On: p.rec.Fixtures[e.On]}
	for name, sum := range p.needs {
		out[name] = sum
	}
	return out
}

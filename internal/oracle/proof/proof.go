// Package proof tries the proofs of systems. Only tests import it.
package proof

import (
	"context"
	"encoding/json"
	"testing"

	"github.com/fidlab/fidlab/systems"
)

// Tiny runs a system's proof twice in its tiny tier: it runs through, to the same record but for the clock, has the criterion that stands
// for the whole, and its figures can be drawn. checks see every proof.
func Tiny(t *testing.T, name string, checks ...func(p *systems.Proof)) {
	t.Helper()
	r, err := systems.Find(name)
	if err != nil {
		t.Fatal(err)
	}
	var first string
	for range 2 {
		p, err := systems.Prove(context.Background(), &systems.Env{}, r, systems.Tiny)
		if err != nil {
			t.Fatal(err)
		}
		for _, check := range checks {
			check(p)
		}
		if p.Record.Find(r.Headline) == nil {
			t.Errorf("no criterion %s", r.Headline)
		}
		p.Record.Seconds = 0
		for i := range p.Record.Experiments {
			for j := range p.Record.Experiments[i].Arms {
				for k := range p.Record.Experiments[i].Arms[j].Points {
					p.Record.Experiments[i].Arms[j].Points[k].Cost.Seconds = 0
				}
			}
		}
		b, err := json.Marshal(p.Record)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range r.Figures {
			if _, err := p.Record.Draw(f); err != nil {
				t.Error(err)
			}
		}
		if first == "" {
			first = string(b)
			continue
		}
		if got := string(b); got != first {
			at := 0
			for at < min(len(got), len(first)) && got[at] == first[at] {
				at++
			}
			t.Errorf("two runs of one proof differ: …%s and …%s", first[max(0, at-60):min(len(first), at+40)], got[max(0, at-60):min(len(got), at+40)])
		}
	}
}

// Values calls f with every value of a record.
func Values(r *systems.Record, f func(experiment, arm, measure string, v float64)) {
	for _, e := range r.Experiments {
		for _, a := range e.Arms {
			for _, at := range a.Points {
				for name, values := range at.Values {
					for _, v := range values {
						f(e.Name, a.Name, name, v)
					}
				}
			}
		}
	}
}

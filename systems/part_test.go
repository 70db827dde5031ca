package systems

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
)

// place is a fixture that may be absent, and says what it is.
type place struct{ here bool }

func (p *place) Describe() string { return "a place" }

// network stands for a trained network that may be absent.
var network = &place{}

func init() {
	RegisterFixture(Fixture{Name: "test-network", Open: func(context.Context, *Env) (any, string, error) {
		if !network.here {
			return nil, "", &AbsentError{"test-network", errors.New("looked for in vain")}
		}
		return network, "beef", nil
	}})
	RegisterFixture(Fixture{Name: "test-broken", Open: func(context.Context, *Env) (any, string, error) {
		return nil, "", errors.New("another hash")
	}})
}

// withPart has an experiment that needs nothing, and one that needs the network.
func withPart(runs *int) Recipe {
	on := func(name string) Experiment {
		e := counted(runs, nil)
		e.Name, e.Notes = name, []string{"small"}
		return e
	}
	return Recipe{
		Name: "gaussteleport", Number: 2, Plan: func(context.Context, *Env, Tier) ([]Experiment, error) { return []Experiment{on("e")}, nil },
		Parts: []Part{{"test-network", "what it draws", func(context.Context, *Env, Tier) ([]Experiment, error) { return []Experiment{on("drawn")}, nil }}},
	}
}

// A part whose fixture is absent is listed and never passes; when the fixture comes, what was run stays kept.
func TestAbsentPart(t *testing.T) {
	defer func() { network.here = false }()
	runs := 0
	r := withPart(&runs)
	dir := DirStore(t.TempDir())
	p, err := Prove(t.Context(), &Env{Store: dir}, r, Full)
	if err != nil {
		t.Fatal(err)
	}
	if n := p.Record.NotRun; len(n) != 1 || n[0].Fixture != "test-network" || n[0].Text != "what it draws" || !strings.Contains(n[0].Reason, "looked for in vain") {
		t.Errorf("not run: %+v", n)
	}
	if len(p.Record.Experiments) != 1 || p.Record.Experiments[0].On != "" || len(r.Lacks(p.Record)) != 1 || len(r.Lacks(nil)) != 1 {
		t.Errorf("experiments %+v, lacking %v", p.Record.Experiments, r.Lacks(p.Record))
	}
	var text strings.Builder
	if err := p.Record.WriteText(&text); err != nil || !strings.HasSuffix(text.String(), "tier: pass\nnot run: test-network is not here: what it draws\n") {
		t.Errorf("%v:\n%s", err, text.String())
	}
	before := runs
	network.here = true
	if p, err = Prove(t.Context(), &Env{Store: dir}, r, Full); err != nil {
		t.Fatal(err)
	}
	if runs != 2*before {
		t.Errorf("%d runs, then %d more; wanted those of the part alone", before, runs-before)
	}
	if rec := p.Record; rec.NotRun != nil || rec.Fixtures["test-network"] != "beef" || rec.Described["test-network"] != "a place" || rec.Experiments[1].On != "test-network" || len(r.Lacks(rec)) != 0 {
		t.Errorf("%+v", rec)
	}
	text.Reset()
	if err := p.Record.WriteText(&text); err != nil || !strings.Contains(text.String(), "(on test-network, ") || !strings.Contains(text.String(), "test-network: a place\n") || !strings.Contains(text.String(), "drawn: small\n") {
		t.Errorf("%v:\n%s", err, text.String())
	}
	if _, err := Prove(t.Context(), &Env{Store: dir}, r, Full); err != nil || runs != 2*before {
		t.Errorf("proved again with %d more runs (%v)", runs-2*before, err)
	}
}

// What is wrong with a fixture besides its absence ends the proof, as does an error of the part's plan.
func TestBrokenPart(t *testing.T) {
	defer func() { network.here = false }()
	runs := 0
	r := withPart(&runs)
	r.Parts[0].Fixture = "test-broken"
	if _, err := Prove(t.Context(), &Env{}, r, Full); err == nil || !strings.Contains(err.Error(), "another hash") {
		t.Errorf("%v", err)
	}
	network.here = true
	r = withPart(&runs)
	r.Parts[0].Plan = func(context.Context, *Env, Tier) ([]Experiment, error) { return nil, fmt.Errorf("no plan") }
	if _, err := Prove(t.Context(), &Env{}, r, Full); err == nil || !strings.Contains(err.Error(), "on test-network: no plan") {
		t.Errorf("%v", err)
	}
	if runs != 0 {
		t.Errorf("%d runs before the plan was whole", runs)
	}
}

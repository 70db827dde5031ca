package systems

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/imageio"
)

// counted is an experiment of two tuned arms that counts its runs and calls
// before each; both arms' value depends on the setting and the seed.
func counted(runs *int, before func() error) Experiment {
	arm := func(name string, level float64) Arm {
		return Arm{
			Name: name, Cost: Cost{NFE: 5}, Set: Params{"steps": 5}, Tune: []Params{{"rho": 3}, {"rho": 7}, {"rho": 9}},
			Run: func(_ context.Context, d Draw) (*Outcome, error) {
				if before != nil {
					if err := before(); err != nil {
						return nil, err
					}
				}
				*runs++
				v := level * (1 + math.Abs(d.Params.Num("rho")-7)) * (1 + float64(d.Seed%10)/100) * d.Params.Num("steps")
				o := &Outcome{Values: map[string]float64{"fd": v}, Cost: Cost{NFE: 5}, Notes: []string{"a note"}}
				if d.First {
					o.Pictures = []*imageio.Image{{Width: 1, Height: 1, Pix: []uint8{1, 2, 3}}, {Width: 1, Height: 1, Pix: []uint8{4, 5, 6}}}
				}
				return o, nil
			},
		}
	}
	return Experiment{
		Name: "e", Question: "which", Size: Size{N: 4, Seeds: 3, Tune: 2}, Measures: []Measure{{Name: "fd"}},
		Arms:     []Arm{arm("ours", 0.5), arm("theirs", 1)},
		Criteria: []Criterion{{Name: "a", Claim: "half", Measure: "fd", Arm: "ours", Against: []string{"theirs"}, Bound: 0.6}},
	}
}

// Each arm is tuned with every trial on validation seeds and tested with the best on the others.
func TestTuningAndTest(t *testing.T) {
	runs := 0
	e := counted(&runs, nil)
	seeds := map[Split]map[uint64]bool{Val: {}, Test: {}}
	for i := range e.Arms {
		run := e.Arms[i].Run
		e.Arms[i].Run = func(ctx context.Context, d Draw) (*Outcome, error) {
			seeds[d.Split][d.Seed] = true
			return run(ctx, d)
		}
	}
	p, err := proveOne(t, &Env{}, e, Full)
	if err != nil {
		t.Fatal(err)
	}
	if runs != 2*(3*2+3) || e.runs() != runs {
		t.Errorf("%d runs, announced %d; wanted 18", runs, e.runs())
	}
	for s := range seeds[Val] {
		if seeds[Test][s] {
			t.Errorf("seed %d is of both splits", s)
		}
	}
	a := p.Record.Experiments[0].Arms[0]
	if a.Trials != 3 || len(a.Tried) != 3 || a.Params.Num("rho") != 7 || a.Params.Num("steps") != 5 {
		t.Errorf("arm: %+v", a)
	}
	c := p.Record.Find("e/a")
	if math.Abs(c.Estimate-0.5) > 1e-12 || c.Verdict != Pass || p.Record.Verdict != Pass {
		t.Errorf("criterion: %+v, verdict %s", c, p.Record.Verdict)
	}
	if len(p.Sheets) != 1 || !reflect.DeepEqual(p.Sheets[0].Rows, []string{"ours", "theirs"}) {
		t.Errorf("sheets: %+v", p.Sheets)
	}
	if n := p.Record.Experiments[0].Notes; len(n) != 2 || n[0] != "ours: a note" {
		t.Errorf("notes: %q", n)
	}
}

// An interrupted proof goes on where it was, to the same record.
func TestInterruptedProofResumes(t *testing.T) {
	dir := DirStore(filepath.Join(t.TempDir(), "kept"))
	runs := 0
	whole, err := proveOne(t, &Env{}, counted(&runs, nil), Full)
	if err != nil {
		t.Fatal(err)
	}
	runs = 0
	ctx, cancel := context.WithCancel(t.Context())
	e := counted(&runs, func() error {
		if runs == 7 {
			cancel()
		}
		return nil
	})
	r := Recipe{Name: "gaussteleport", Number: 2, Plan: func(context.Context, *Env, Tier) ([]Experiment, error) { return []Experiment{e}, nil }}
	if _, err := Prove(ctx, &Env{Store: dir}, r, Full); !errors.Is(err, context.Canceled) {
		t.Fatalf("%v; wanted it cancelled", err)
	}
	if runs != 8 { // the eighth had begun
		t.Fatalf("%d runs before the interruption", runs)
	}
	files, _ := os.ReadDir(string(dir))
	if len(files) != runs {
		t.Fatalf("%d outcomes are kept of %d", len(files), runs)
	}
	if err := os.WriteFile(filepath.Join(string(dir), files[3].Name()), []byte(`{"Val`), 0o666); err != nil { // half written
		t.Fatal(err)
	}
	var done []string
	env := &Env{Store: dir, Progress: func(k, n int, _ string) { done = append(done, fmt.Sprint(k, "/", n)) }}
	got, err := Prove(t.Context(), env, Recipe{Name: r.Name, Number: 2, Plan: func(context.Context, *Env, Tier) ([]Experiment, error) {
		return []Experiment{counted(&runs, nil)}, nil
	}}, Full)
	if err != nil {
		t.Fatal(err)
	}
	if runs != 18+1 {
		t.Errorf("%d runs in all; wanted 18 and the damaged one again", runs)
	}
	if done[len(done)-1] != "18/18" {
		t.Errorf("progress ends at %s", done[len(done)-1])
	}
	strip(got.Record)
	strip(whole.Record)
	if !reflect.DeepEqual(got.Record, whole.Record) {
		t.Errorf("the resumed record differs:\n%+v\n%+v", got.Record, whole.Record)
	}
	if !reflect.DeepEqual(got.Sheets, whole.Sheets) {
		t.Error("the resumed pictures differ")
	}
	runs = 0
	if _, err := Prove(t.Context(), &Env{Store: dir, Build: "another"}, r, Full); err != nil || runs != 18 {
		t.Errorf("another program took %d runs (%v); wanted all 18", runs, err)
	}
}

// strip takes the times out of a record.
func strip(r *Record) {
	r.Seconds = 0
	for i := range r.Experiments {
		for k := range r.Experiments[i].Arms {
			for j := range r.Experiments[i].Arms[k].Points {
				r.Experiments[i].Arms[k].Points[j].Cost.Seconds = 0
			}
		}
	}
}

func TestSweep(t *testing.T) {
	e := Experiment{
		Name: "s", Size: Size{N: 1, Seeds: 2}, Measures: []Measure{{Name: "fd", Text: "distance"}}, Sweep: &Sweep{Param: "steps", Label: "steps", Values: []float64{4, 8}},
		Arms: []Arm{{Name: "a", Run: func(_ context.Context, d Draw) (*Outcome, error) {
			return &Outcome{Values: map[string]float64{"fd": 10/d.Params.Num("steps") + float64(d.Seed%2)}, Cost: Cost{NFE: 2 * d.Params.Num("steps")}}, nil
		}}},
	}
	p, err := proveOne(t, &Env{}, e, Full)
	if err != nil {
		t.Fatal(err)
	}
	l, err := p.Record.Draw(Figure{Experiment: "s", Measure: "fd", Cost: true})
	if err != nil {
		t.Fatal(err)
	}
	pts := l.Series[0].Points
	if len(pts) != 2 || pts[0].X != 8 || pts[1].X != 16 || pts[0].Y != 3 || pts[1].Y != 1.75 || l.Y != "distance" {
		t.Errorf("%+v", l)
	}
	if p.Record.Verdict != Inconclusive {
		t.Errorf("a record without criteria is %s", p.Record.Verdict)
	}
	if _, err := p.Record.Draw(Figure{Experiment: "none"}); err == nil {
		t.Error("a figure of nothing was drawn")
	}
}

func TestBadOutcomes(t *testing.T) {
	for name, v := range map[string]map[string]float64{"NaN": {"fd": math.NaN()}, "Inf": {"fd": math.Inf(1)}, "missing": {}} {
		t.Run(name, func(t *testing.T) {
			e := plain()
			e.Arms[1].Run = func(context.Context, Draw) (*Outcome, error) {
				return &Outcome{Values: v, Cost: Cost{NFE: 8, Params: 100}}, nil
			}
			if _, err := proveOne(t, &Env{}, e, Full); err == nil || !strings.Contains(err.Error(), "wanted a finite number") {
				t.Errorf("%v", err)
			}
		})
	}
	e := plain()
	e.Arms[0].Run = func(context.Context, Draw) (*Outcome, error) {
		return &Outcome{Values: map[string]float64{"fd": -1}, Cost: Cost{NFE: 8, Params: 100}}, nil
	}
	if _, err := proveOne(t, &Env{}, e, Full); err == nil || !strings.Contains(err.Error(), "wanted both above 0") {
		t.Errorf("%v", err)
	}
}

func TestFixtures(t *testing.T) {
	opened := 0
	RegisterFixture(Fixture{Name: "test-fixture", Open: func(context.Context, *Env) (any, string, error) {
		opened++
		return 42, "abc", nil
	}})
	r := Recipe{Name: "gaussteleport", Number: 2, Needs: map[string]string{"test-fixture": "abc"}, Plan: func(ctx context.Context, env *Env, _ Tier) ([]Experiment, error) {
		v, err := Use[int](ctx, env, "test-fixture")
		if err != nil || v != 42 {
			return nil, fmt.Errorf("%d, %w", v, err)
		}
		return []Experiment{plain()}, nil
	}}
	p, err := Prove(t.Context(), &Env{}, r, Full)
	if err != nil || p.Record.Fixtures["test-fixture"] != "abc" || opened != 1 {
		t.Fatalf("%v, opened %d times", err, opened)
	}
	r.Needs["test-fixture"] = "def"
	var hash *HashError
	if _, err := Prove(t.Context(), &Env{}, r, Full); !errors.As(err, &hash) || hash.Got != "abc" || hash.Want != "def" {
		t.Errorf("another hash: %v", err)
	}
	r.Needs = map[string]string{"no-such": ""}
	if _, err := Prove(t.Context(), &Env{}, r, Full); err == nil || !strings.Contains(err.Error(), "there are: ") {
		t.Errorf("no such fixture: %v", err)
	}
}

func TestFind(t *testing.T) {
	var unknown *UnknownError
	if _, err := Find("gaustelport"); !errors.As(err, &unknown) || len(unknown.Known) != 42 {
		t.Errorf("%v", err)
	}
	for _, name := range []string{"swiftbrush", "1", "01"} {
		var none *NotBuiltError
		if _, err := Find(name); err == nil || errors.As(err, &none) != (recipes[1].Plan == nil) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for i, e := range Catalog() {
		if e.Number != i+1 || e.Name == "" || e.Title == "" || e.Claim == "" {
			t.Errorf("catalog: %+v", e)
		}
	}
}

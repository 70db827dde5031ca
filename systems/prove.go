package systems

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/fidlab/fidlab/imageio"
	"github.com/fidlab/fidlab/internal/cpu"
)

// Proof is a record, and pictures beside it.
type Proof struct {
	Record *Record
	// Sheets are samples of the first seed, a row for each arm that gave some, by
	// experiment.
	Sheets []Sheet
}

// Sheet is the samples of an experiment's arms.
type Sheet struct {
	Experiment string
	Rows       []string // the arms, from the top
	Image      *imageio.Image
}

// Prove carries out the plan of a recipe. It refuses plans that compare unlike
// things (*PlanError) and fixtures of another hash than the recipe's
// (*HashError). Parts whose fixture is absent are not run, and listed. With a Store,
// it goes on where an earlier call was interrupted.
func Prove(ctx context.Context, env *Env, r Recipe, tier Tier) (*Proof, error) {
	rec := &Record{
		Schema: Schema, System: r.Name, Number: r.Number, Tier: tier.String(), Version: env.Version, Build: env.Build,
		Device: env.device().String(), Workers: cpu.Workers(), Fixtures: map[string]string{},
	}
	for name, want := range r.Needs {
		o, err := env.open(ctx, name)
		if err != nil {
			return nil, err
		}
		if want != "" && o.sum != want {
			return nil, &HashError{name, o.sum, want}
		}
		rec.Fixtures[name] = o.sum
	}
	p := &prover{ctx: ctx, env: env, tier: tier, rec: rec, needs: maps.Clone(rec.Fixtures)}
	plan, err := r.Plan(ctx, env, tier)
	if err != nil {
		return nil, fmt.Errorf("systems: %s: %w", r.Name, err)
	}
	more, err := p.parts(&r)
	if err != nil {
		return nil, err
	}
	plan = append(plan, more...)
	names := map[string]bool{}
	for i := range plan {
		if err := plan[i].check(tier); err != nil {
			return nil, err
		}
		if names[plan[i].Name] {
			return nil, &PlanError{plan[i].Name, "another experiment has that name"}
		}
		names[plan[i].Name] = true
		p.total += plan[i].runs()
	}
	proof := &Proof{Record: rec}
	for i := range plan {
		e, sheet, err := p.experiment(&plan[i])
		if err != nil {
			return nil, err
		}
		rec.Experiments = append(rec.Experiments, *e)
		if sheet != nil {
			proof.Sheets = append(proof.Sheets, *sheet)
		}
	}
	rec.Verdict = rec.judge()
	return proof, nil
}

// runs is how many outcomes an experiment takes.
func (e *Experiment) runs() int {
	points := 1
	if e.Sweep != nil {
		points = len(e.Sweep.Values)
	}
	n := len(e.Arms) * points * e.Size.Seeds
	for _, a := range e.Arms {
		n += len(a.Tune) * max(e.Size.Tune, 1)
	}
	return n
}

type prover struct {
	ctx         context.Context
	env         *Env
	tier        Tier
	rec         *Record
	needs       map[string]string // the recipe's fixtures, with their hashes
	done, total int
}

func (p *prover) experiment(e *Experiment) (*ExperimentRecord, *Sheet, error) {
	out := &ExperimentRecord{Name: e.Name, Question: e.Question, N: e.Size.N, Seeds: e.Size.Seeds, Measures: e.Measures, Sweep: e.Sweep, On: e.On, Notes: slices.Clone(e.Notes)}
	var rows []string
	var pictures []*imageio.Image
	cols := 0
	for i := range e.Arms {
		a := &e.Arms[i]
		ar := ArmRecord{Name: a.Name, Text: a.Text, Trials: a.trials()}
		params := a.Set
		if len(a.Tune) > 0 {
			out.TuneSeeds = max(e.Size.Tune, 1)
			best, err := p.tune(e, a, &ar)
			if err != nil {
				return nil, nil, err
			}
			params = a.Set.with(a.Tune[best])
		}
		ar.Params = params
		values := []float64{0}
		if e.Sweep != nil {
			values = e.Sweep.Values
		}
		for _, v := range values {
			at := params
			if e.Sweep != nil {
				at = params.with(Params{e.Sweep.Param: v})
			}
			point, first, err := p.test(e, a, at, &out.Notes)
			if err != nil {
				return nil, nil, err
			}
			point.At = v
			ar.Points = append(ar.Points, *point)
			if len(first) > 0 && e.Sweep == nil {
				rows = append(rows, a.Name)
				if cols == 0 {
					cols = len(first)
				}
				if len(first) != cols {
					return nil, nil, &PlanError{e.Name, fmt.Sprintf("arm %s shows %d pictures, the one before %d", a.Name, len(first), cols)}
				}
				pictures = append(pictures, first...)
			}
		}
		out.Arms = append(out.Arms, ar)
	}
	for i := range e.Criteria {
		j, err := e.judge(&e.Criteria[i], out.Arms)
		if err != nil {
			return nil, nil, err
		}
		out.Criteria = append(out.Criteria, j)
	}
	if rows == nil {
		return out, nil, nil
	}
	return out, &Sheet{e.Name, rows, imageio.Grid(pictures, cols, 2)}, nil
}

// tune tries every setting on validation noise and returns the best one's index.
func (p *prover) tune(e *Experiment, a *Arm, ar *ArmRecord) (int, error) {
	m := e.measure(e.TuneBy)
	if m == nil {
		m = &e.Measures[0]
	}
	best := -1
	for i, t := range a.Tune {
		var mean float64
		seeds := max(e.Size.Tune, 1)
		for s := range seeds {
			o, err := p.outcome(e, a, a.Set.with(t), Val, s)
			if err != nil {
				return 0, err
			}
			mean += o.Values[m.Name] / float64(seeds)
		}
		ar.Tried = append(ar.Tried, Trial{t, mean})
		if best < 0 || mean != ar.Tried[best].Value && mean > ar.Tried[best].Value == m.Higher {
			best = i
		}
	}
	return best, nil
}

// test runs an arm over the seeds of the test.
func (p *prover) test(e *Experiment, a *Arm, params Params, notes *[]string) (*Point, []*imageio.Image, error) {
	point := &Point{Values: map[string][]float64{}}
	var first []*imageio.Image
	for s := range e.Size.Seeds {
		o, err := p.outcome(e, a, params, Test, s)
		if err != nil {
			return nil, nil, err
		}
		if d := a.Cost.differs(o.Cost); d != "" && e.Sweep == nil {
			return nil, nil, &PlanError{e.Name, fmt.Sprintf("arm %s declares and takes %s", a.Name, d)}
		}
		for _, m := range e.Measures {
			point.Values[m.Name] = append(point.Values[m.Name], o.Values[m.Name])
		}
		if e.Size.Seeds == 1 {
			point.Blocks = o.Blocks
		}
		seconds := point.Cost.Seconds + o.Cost.Seconds/float64(e.Size.Seeds)
		point.Cost = o.Cost
		point.Cost.Seconds = seconds
		for _, n := range o.Notes {
			if n = a.Name + ": " + n; !slices.Contains(*notes, n) {
				*notes = append(*notes, n)
			}
		}
		if s == 0 {
			first = o.Pictures
		}
	}
	return point, first, nil
}

// Seeds of the splits: far apart, so that they never meet.
const (
	valSeed  = 1
	testSeed = 1_000_001
)

// outcome is a run's, from the store or made now.
func (p *prover) outcome(e *Experiment, a *Arm, params Params, split Split, s int) (*Outcome, error) {
	if err := p.ctx.Err(); err != nil {
		return nil, err
	}
	seed := uint64(valSeed + s)
	if split == Test {
		seed = uint64(testSeed + s)
	}
	what := fmt.Sprintf("%s: %s", e.Name, a.Name)
	if p.env.Progress != nil {
		p.env.Progress(p.done, p.total, what)
	}
	key, err := p.key(e, a, params, split, seed)
	if err != nil {
		return nil, fmt.Errorf("systems: %s: settings %v: %w", what, params, err)
	}
	o, err := p.kept(key)
	if err != nil {
		return nil, err
	}
	if o == nil {
		start := time.Now()
		o, err = a.Run(p.ctx, Draw{Env: p.env, Tier: p.tier, Split: split, Seed: seed, First: split == Test && s == 0, N: e.Size.N, Params: params})
		if err != nil {
			return nil, fmt.Errorf("systems: %s (%s): %w", what, params, err)
		}
		if o.Cost.Seconds == 0 {
			o.Cost.Seconds = time.Since(start).Seconds()
		}
		if err := p.keep(key, o); err != nil {
			return nil, err
		}
	}
	for _, m := range e.Measures {
		v, ok := o.Values[m.Name]
		if !ok || math.IsNaN(v) || math.IsInf(v, 0) {
			return nil, fmt.Errorf("systems: %s (%s): %s is %v; wanted a finite number", what, params, m.Name, o.Values[m.Name])
		}
	}
	p.rec.Seconds += o.Cost.Seconds
	p.done++
	if p.env.Progress != nil {
		p.env.Progress(p.done, p.total, what)
	}
	return o, nil
}

// key names all that an outcome depends on.
func (p *prover) key(e *Experiment, a *Arm, params Params, split Split, seed uint64) (string, error) {
	b, err := json.Marshal(map[string]any{
		"schema": Schema, "build": p.env.Build, "device": p.rec.Device, "system": p.rec.System, "fixtures": p.stands(e),
		"experiment": e.Name, "arm": a.Name, "params": params, "tier": p.tier.String(), "split": split, "seed": seed, "n": e.Size.N,
	})
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:]), nil
}

// kept is a stored outcome, nil when there is none or it is damaged.
func (p *prover) kept(key string) (*Outcome, error) {
	if p.env.Store == nil {
		return nil, nil
	}
	b, err := p.env.Store.Get(key)
	if err != nil || b == nil {
		return nil, err
	}
	var o Outcome
	if json.Unmarshal(b, &o) != nil || o.Values == nil {
		return nil, nil
	}
	return &o, nil
}

func (p *prover) keep(key string, o *Outcome) error {
	if p.env.Store == nil {
		return nil
	}
	b, err := json.Marshal(o)
	if err != nil {
		return fmt.Errorf("systems: outcome: %w; wanted finite numbers", err)
	}
	return p.env.Store.Put(key, b)
}

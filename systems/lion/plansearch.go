package lion

import (
	"context"
	"fmt"

	"github.com/fidlab/fidlab/systems"
)

// seeker is an arm of the search: where it starts and how it goes on.
type seeker struct {
	name, text string
	way        Way
	start      *Program
}

func seekers() []seeker {
	adam := AdamW(1e-3, 0.9, 0.999, 1e-8, 0.01)
	return []seeker{
		{"evolved", "regularised evolution from AdamW", Evolve, adam},
		{"tuned", "AdamW, its numbers alone evolved", Tune, adam},
		{"random", "AdamW mutated one to eight times, each time anew", Random, adam},
		{"lion", "Lion, its numbers alone evolved", Tune, Lion(1e-3, 0.9, 0.99, 0.01)},
	}
}

// sought is what a search came to.
type sought struct {
	best   Found
	chosen Ranked
	report Report
}

func (s *study) task(k Task) Task {
	k.Steps = max(1, k.Steps/s.shorter)
	k.Val.To = k.Val.From + (k.Val.To-k.Val.From)/s.shorter
	return k
}

// seek searches, and chooses by the funnel; once in an Env for a seed.
func (s *study) seek(ctx context.Context, k seeker, seed uint64) (*sought, error) {
	return systems.Memo(s.env, fmt.Sprintf("lion search %s %d %+v", k.name, seed, s.sizes), func() (*sought, error) {
		judge, err := NewJudge(s.task(Proxy(seed)))
		if err != nil {
			return nil, err
		}
		out, err := Search(ctx, Options{
			Seed: seed, Way: k.way, Start: k.start, Evaluations: s.evals, Population: s.population, Tournament: s.tournament,
			MaxLength: 30, Restarts: 4, Keep: s.keep, Score: judge.Score,
		})
		if err != nil {
			return nil, err
		}
		tasks := FunnelTasks(seed)
		for _, list := range tasks {
			for i := range list {
				list[i] = s.task(list[i])
			}
		}
		stages, err := NewFunnel(tasks, max(1, s.keep/3))
		if err != nil {
			return nil, err
		}
		ranked, err := Funnel(ctx, out.Best, stages)
		if err != nil {
			return nil, err
		}
		return &sought{out.Best[0], ranked[0], out.Report}, nil
	})
}

// searches are the search itself with what it is to be compared with, and its progress.
func (s *study) searches() []systems.Experiment {
	e := systems.Experiment{
		Name: "search", Question: fmt.Sprintf("Does evolution find better programs than tuning AdamW and than random search, at %d evaluations each?", s.evals),
		Size: systems.Size{N: s.evals, Seeds: s.seeds},
		Measures: []systems.Measure{
			{Name: "fitness", Text: "% of the search's validation digits that the best is right on", Higher: true},
			{Name: "final", Text: "% of test digits, by the program that the funnel chose: other training digits, width 128, ten times the steps, three starts", Higher: true},
			{Name: "saved", Text: "% of valid mutations that compute what was known", Higher: true},
			{Name: "known", Text: "% of programs made that the cache had", Higher: true},
			{Name: "functions", Text: "functions of the chosen program"},
		},
	}
	progress := systems.Experiment{
		Name: "progress", Question: "How does the best so far rise with the evaluations?", Size: systems.Size{N: s.evals, Seeds: s.seeds},
		Measures: e.Measures[:1],
		Sweep:    &systems.Sweep{Param: "share", Label: "% of the evaluations", Values: []float64{1, 2, 5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100}},
	}
	for _, k := range seekers() {
		e.Arms = append(e.Arms, systems.Arm{Name: k.name, Text: k.text, Trials: s.evals, Run: func(ctx context.Context, d systems.Draw) (*systems.Outcome, error) {
			return s.sought(ctx, k, d)
		}})
		progress.Arms = append(progress.Arms, systems.Arm{Name: k.name, Text: k.text, Run: func(ctx context.Context, d systems.Draw) (*systems.Outcome, error) {
			f, err := s.seek(ctx, k, d.Seed)
			if err != nil {
				return nil, err
			}
			c := f.report.Curve
			at := min(max(d.Params.Int("share")*len(c)/100, 1), len(c))
			return &systems.Outcome{Values: map[string]float64{"fitness": 100 * c[at-1]}}, nil
		}})
	}
	points := func(name, claim, measure, arm, rival string, bound float64, shown bool) systems.Criterion {
		return systems.Criterion{Name: name, Claim: claim, Measure: measure, Arm: arm, Against: []string{rival}, Form: systems.Difference, Bound: bound, AtLeast: true, Shown: shown}
	}
	e.Criteria = []systems.Criterion{
		points("tuning", "evolved is no worse than tuned AdamW where both were searched", "fitness", "evolved", "tuned", 0, false),
		points("random", "nor than random search", "fitness", "evolved", "random", 0, false),
		points("held out", "after the funnel it is at most 0.3 points behind tuned AdamW on a task that nobody saw", "final", "evolved", "tuned", -0.3, false),
		{Name: "duplicates", Claim: "the hash saves a fifth of the trainings", Measure: "saved", Arm: "evolved", Form: systems.Value, Bound: 20, AtLeast: true},
		points("ahead", "it is ahead there", "final", "evolved", "tuned", 0, true),
		points("Lion here", "Lion is ahead of AdamW there", "final", "lion", "tuned", 0, true),
		points("Lion searched", "and where both were searched", "fitness", "lion", "tuned", 0, true),
	}
	return []systems.Experiment{e, progress}
}

// sought is a search's figures.
func (s *study) sought(ctx context.Context, k seeker, d systems.Draw) (*systems.Outcome, error) {
	f, err := s.seek(ctx, k, d.Seed)
	if err != nil {
		return nil, err
	}
	var tasks []Scorer
	for i := range uint64(3) {
		j, err := NewJudge(s.task(Final(d.Seed + 300 + i)))
		if err != nil {
			return nil, err
		}
		tasks = append(tasks, j.Score)
	}
	final, err := Mean(tasks)(ctx, f.chosen.Graph)
	if err != nil {
		return nil, err
	}
	r := f.report
	out := &systems.Outcome{Values: map[string]float64{
		"fitness": 100 * f.best.Score.Fitness(), "final": 100 * max(final, 0), "functions": float64(f.chosen.Graph.Size()),
		"saved": 100 * float64(r.Redundant+r.Known) / float64(r.Redundant+r.Candidates), "known": 100 * float64(r.Known) / float64(max(1, r.Candidates)),
	}}
	if d.First {
		out.Notes = append(out.Notes, fmt.Sprintf("%d mutations, %d of them invalid without data; %d programs ended early; chosen, of %d functions: %s",
			r.Tried, r.Invalid, r.Broken, f.chosen.Graph.Size(), oneLine(f.chosen.Graph.Program())))
	}
	return out, nil
}

// oneLine is a program for a note.
func oneLine(p *Program) string {
	out := ""
	for i, s := range p.Body {
		if i > 0 {
			out += "; "
		}
		out += s.String()
	}
	return out
}

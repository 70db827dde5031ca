package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/fidlab/fidlab/systems/lion"
)

// lionDiscover is what discover was asked for.
type lionDiscover struct {
	s        lion.Options
	way      string
	from     string
	journal  string
	keep     int
	noFunnel bool
	slack    float64
	out      target
}

func newLionDiscover(a *app) *cobra.Command {
	var o lionDiscover
	cmd := &cobra.Command{
		Use:   "discover --evals N --seed S -o FILE.prog",
		Short: "Search a program that trains well, from AdamW on",
		Long: `Search a program that trains well, from AdamW on, by regularised evolution: every
program trains a network 64-32-10 on digits for 100 steps, and the share of
validation digits that it tells right is its score. The best are then tried on other
digits, wider networks and more steps (the funnel), and the one that does best there
is made shorter where that costs nothing. The test split is never looked at.

--way tune changes the numbers of the start alone, --way random mutates the start
only: what evolution is to be compared with, at equal evaluations. Programs that
compute the same are trained once.`,
		Example: `  fidlab system lion discover --evals 20000 --seed 1 --journal j.jsonl -o best.prog
  fidlab system lion discover --evals 20000 --seed 1 --way tune -o adamw.prog`,
		Args: nargs("no arguments", 0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error { return runLionDiscover(cmd.Context(), a, &o) },
	}
	f := cmd.Flags()
	f.IntVar(&o.s.Evaluations, "evals", 20000, "train by `N` programs")
	f.Uint64Var(&o.s.Seed, "seed", 0, "mutate from seed `S`, which start and batches of the training have too")
	f.StringVar(&o.way, "way", string(lion.Evolve), "make programs by `WAY`: evolve, tune or random")
	f.StringVar(&o.from, "from", "adamw", "start from `PROGRAM`: a file, adamw or lion")
	f.IntVar(&o.s.Population, "population", 100, "keep `N` programs to mutate")
	f.IntVar(&o.s.Tournament, "tournament", 25, "mutate the best of `N` of them")
	f.IntVar(&o.s.Restarts, "restarts", 4, "live through `N` populations; every second begins with the best so far")
	f.IntVar(&o.s.MaxLength, "max-length", 30, "insert no statement beyond `N`")
	f.IntVar(&o.keep, "keep", 30, "give the `N` best to the funnel, a third of which sees its second stage")
	f.BoolVar(&o.noFunnel, "no-funnel", false, "write the best of the search as it is")
	f.Float64Var(&o.slack, "slack", 0.0005, "make it shorter while it loses at most the share `X` of digits (second stage of the funnel)")
	f.StringVar(&o.journal, "journal", "", "keep every score in `F.jsonl`, and go on from there if it is there")
	o.out.flags(f, "the program")
	f.SortFlags = false
	completes(cmd, "way", string(lion.Evolve), string(lion.Tune), string(lion.Random))
	return cmd
}

// discovered is what --json prints.
type discovered struct {
	Program string      `json:"program"`
	Search  lion.Score  `json:"search"`
	Funnel  float64     `json:"funnel,omitempty"`
	Start   float64     `json:"funnel_start,omitempty"`
	Report  lion.Report `json:"report"`
}

func runLionDiscover(ctx context.Context, a *app, o *lionDiscover) error {
	var err error
	if o.s.Start, err = program(o.from, standard); err != nil {
		return err
	}
	k := lion.Proxy(o.s.Seed)
	o.s.Way, o.s.Keep = lion.Way(o.way), o.keep
	o.s.Score = func(context.Context, *lion.Graph) (lion.Score, error) { return lion.Score{}, nil }
	if err := o.s.Check(); err != nil {
		return usagef("--way, --evals, --population, --tournament, --restarts, --max-length, --keep: %w", err)
	}
	if !(o.slack >= 0) {
		return usagef("--slack %g: want 0 or more", o.slack)
	}
	if err := o.out.check(); err != nil {
		return err
	}
	judge, err := lion.NewJudge(k)
	if err != nil {
		return err
	}
	o.s.Score = judge.Score
	if o.journal != "" {
		j, err := lion.OpenJournal(o.journal, fmt.Sprintf("%+v", k))
		var bad *lion.JournalError
		if errors.As(err, &bad) {
			return &inputError{err}
		} else if err != nil {
			return err
		}
		defer j.Close()
		o.s.Journal = j
	}
	bar := a.progress("searching programs", "programs", o.s.Evaluations)
	o.s.Progress = func(done, _ int, _ float64) { bar.Set(done) }
	out, err := lion.Search(ctx, o.s)
	bar.End()
	if err != nil {
		return err
	}
	r := out.Report
	a.say("%d programs trained of %d made, %d known, %d mutations of the same program and %d invalid ones before them; %d ended early",
		r.Evaluated, r.Candidates, r.Known, r.Redundant, r.Invalid, r.Broken)
	a.say("best in the search: %.2f %% of the validation digits, found as number %d", 100*out.Best[0].Score.Accuracy, out.Best[0].At)
	d := discovered{Search: out.Best[0].Score, Report: r}
	p := out.Best[0].Program
	lines := []string{fmt.Sprintf("fidlab %s: system lion discover --way %s --evals %d --seed %d --from %s", version, o.way, o.s.Evaluations, o.s.Seed, o.from)}
	if !o.noFunnel {
		if p, err = o.funnel(ctx, a, out, &d); err != nil {
			return err
		}
		lines = append(lines, fmt.Sprintf("%.2f %% right on the tasks of the funnel, where the search started %.2f %%; %.2f %% on the search's",
			100*d.Funnel, 100*d.Start, 100*d.Search.Accuracy))
	}
	if err := writeProgram(o.out.path, p, o.out.options(), lines...); err != nil {
		return err
	}
	if d.Program = p.String(); a.json {
		return a.printJSON(d)
	}
	a.printf("%s\n", o.out.path)
	return nil
}

// funnel chooses among the best, and makes what was chosen shorter.
func (o *lionDiscover) funnel(ctx context.Context, a *app, out *lion.Outcome, d *discovered) (*lion.Program, error) {
	stages, err := lion.NewFunnel(lion.FunnelTasks(o.s.Seed), max(1, o.keep/3))
	if err != nil {
		return nil, err
	}
	ranked, err := lion.Funnel(ctx, out.Best, stages)
	if err != nil {
		return nil, err
	}
	last := lion.Mean(stages[len(stages)-1].Tasks)
	p, err := lion.Simplify(ctx, ranked[0].Program, last, o.slack)
	if err != nil {
		return nil, err
	}
	g, err := lion.NewGraph(p)
	if err != nil {
		return nil, err
	}
	if d.Funnel, err = last(ctx, g); err != nil {
		return nil, err
	}
	from, err := lion.NewGraph(o.s.Start)
	if err != nil {
		return nil, err
	}
	if d.Start, err = last(ctx, from); err != nil {
		return nil, err
	}
	d.Search = ranked[0].Score
	a.say("chosen by the funnel: number %d, %.2f %% in the search, %.2f %% on the funnel's tasks; made shorter, %d functions instead of %d, %.2f %%; where it started %.2f %%",
		ranked[0].At, 100*ranked[0].Score.Accuracy, 100*ranked[0].Fitness, g.Size(), ranked[0].Graph.Size(), 100*d.Funnel, 100*d.Start)
	return p, nil
}

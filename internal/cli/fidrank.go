package cli

import (
	"context"
	"fmt"
	"slices"

	"github.com/fidlab/fidlab/fid"
	"github.com/fidlab/fidlab/report"
)

// rankedSet is a line of the ranking.
type rankedSet struct {
	Set string `json:"set"`
	fid.Ranked
	Result *fid.Result `json:"result"` // as for the set alone
}

// runRank compares several generated sets with one reference.
func runRank(ctx context.Context, a *app, o *fidOptions, gens []string) error {
	if err := o.check(); err != nil {
		return err
	}
	switch {
	case o.report.path != "":
		return usagef("--report is of one generated set, and there are %d", len(gens))
	case !slices.Contains(o.metrics, "fid"):
		return usagef("--metrics without fid: several sets are ranked by it")
	case o.ref == "-" || o.test == "-" || slices.Contains(gens, "-"):
		return usagef("- is read once, and several sets are compared with one reference; write it to a file first")
	}
	o.x.parts = fid.NeedParts(o.metrics)
	ins, closeAll, err := a.openSets(ctx, o, append([]string{o.ref}, gens...)...) // the reference first
	if err != nil {
		return err
	}
	defer closeAll()
	read, err := a.collectAll(ctx, &o.x, o.keeping(), ins...)
	if err != nil {
		return err
	}
	ref := ins[0].stats
	opt, err := o.compare(a)
	if err != nil {
		return err
	}
	opt.Test = testOf(ins[len(gens)+1:])
	var sets []*fid.Stats
	var results []*fid.Result
	for i, name := range gens {
		gen := ins[i+1].stats
		res, err := fid.Compare(ctx, ref, gen, opt)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		addReading(res, read[0], read[i+1])
		sets, results = append(sets, gen), append(results, res)
	}
	order, err := fid.Rank(ctx, ref, sets, fid.IntervalOptions{Level: o.ciLevel, Seed: o.seed})
	if err != nil {
		return err
	}
	out := make([]rankedSet, len(order))
	for i, r := range order {
		out[i] = rankedSet{gens[r.Index], r, results[r.Index]}
	}
	o.noteRank(a, sets, out)
	if a.json {
		return a.printJSON(map[string]any{"reference": o.ref, "ci_level": o.ciLevel, "ranking": out})
	}
	return o.rankTable(out).WriteText(a.stdout)
}

// compare are the options of every comparison.
func (o *fidOptions) compare(a *app) (fid.Options, error) {
	dev, err := a.openDevice("auto")
	if err != nil {
		return fid.Options{}, err
	}
	o.dev = dev
	return fid.Options{Device: dev,
		Metrics: o.metrics, CI: o.ci && !o.noCI, Force: o.x.force, Version: version,
		Interval: fid.IntervalOptions{Level: o.ciLevel, Seed: o.seed}, NearestK: o.nearest, Boundary: o.boundary,
		Splits: o.splits, InOrder: o.inOrder, SplitSize: o.tool.SplitSize, Population: o.tool.Population,
	}, nil
}

// rankTable has a line for each set, best first; the other metrics follow.
func (o *fidOptions) rankTable(sets []rankedSet) report.Table {
	titles := []string{"#>", "set", "fid>", fmt.Sprintf("%g %% interval>", 100*o.ciLevel), "worse by>", "interval of that>", "tells"}
	for _, m := range o.metrics {
		if m == "fid" {
			continue
		}
		for _, f := range figuresOf(m, sets[0].Result.Metrics[m]) {
			titles = append(titles, f.Name+">")
		}
	}
	t := report.Table{Columns: report.Columns(titles...)}
	for i, s := range sets {
		v := s.Result.Metrics["fid"].(fid.FIDValue)
		row := []string{fmt.Sprint(i + 1), s.Set, valueText(v.Value), between(v.CI), "", "", ""}
		if i > 0 {
			row[4], row[5] = valueText(s.Difference), between(s.CI)
			switch {
			case s.CI == nil:
				row[6] = "unknown"
			case s.Distinct():
				row[6] = "yes"
			default:
				row[6] = "no"
			}
		}
		for _, m := range o.metrics {
			if m == "fid" {
				continue
			}
			for _, f := range figuresOf(m, s.Result.Metrics[m]) {
				row = append(row, valueText(f.Value))
			}
		}
		t.Rows = append(t.Rows, row)
	}
	return t
}

// figuresOf are a metric's numbers by name.
func figuresOf(name string, v fid.Value) []fid.Figure {
	if several, ok := v.(interface{ Figures() []fid.Figure }); ok {
		return several.Figures()
	}
	return []fid.Figure{{Name: name, Value: v.Number()}}
}

func between(ci *[2]float64) string {
	if ci == nil {
		return "—"
	}
	return valueText(ci[0]) + " to " + valueText(ci[1])
}

// noteRank tells once what all comparisons say, and what would make the ranking unfair.
func (o *fidOptions) noteRank(a *app, sets []*fid.Stats, ranked []rankedSet) {
	holds := map[string]int{}
	for _, s := range ranked {
		for _, n := range s.Result.Notes {
			holds[n]++
		}
	}
	for i, s := range ranked {
		for _, n := range s.Result.Notes {
			switch {
			case holds[n] < len(ranked):
				a.say("note: %s: %s", s.Set, n)
			case i == 0:
				a.say("note: %s", n)
			}
		}
	}
	for _, s := range sets[1:] {
		if s.N != sets[0].N {
			a.say("note: the generated sets are of unlike sizes, and fewer images raise the distance: compare sets of one size")
			return
		}
	}
}

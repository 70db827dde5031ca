package systems

import (
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/fidlab/fidlab/report"
)

// Tables are a record's experiments for readers: arms and their measures, then
// criteria. Sweeps are left to their figures.
func (r *Record) Tables() []report.Table {
	var out []report.Table
	for i := range r.Experiments {
		if e := &r.Experiments[i]; e.Sweep == nil {
			out = append(out, e.arms())
			if len(e.Criteria) > 0 {
				out = append(out, e.criteria())
			}
		}
	}
	return out
}

func (e *ExperimentRecord) arms() report.Table {
	titles := []string{"arm"}
	for _, m := range e.Measures {
		titles = append(titles, m.Name+" >")
	}
	on := ""
	if e.On != "" {
		on = "on " + e.On + ", "
	}
	t := report.Table{Caption: fmt.Sprintf("%s: %s (%s%d samples, %s)", e.Name, e.Question, on, e.N, seedsText(e.Seeds))}
	trials := slices.ContainsFunc(e.Arms, func(a ArmRecord) bool { return a.Trials > 0 })
	tuned := slices.ContainsFunc(e.Arms, func(a ArmRecord) bool { return len(a.Tried) > 0 })
	titles = append(titles, "evaluations >")
	if e.On != "" { // what a network takes
		titles = append(titles, "GFLOP a sample >")
	}
	titles = append(titles, "s a run >")
	if trials {
		titles = append(titles, "trials >")
	}
	if tuned {
		titles = append(titles, "tuned to")
	}
	t.Columns = report.Columns(titles...)
	for _, a := range e.Arms {
		row := []string{a.Name}
		for _, m := range e.Measures {
			row = append(row, meanText(a.Points[0].Values[m.Name]))
		}
		cost := a.Points[0].Cost
		row = append(row, countText(cost.NFE))
		if e.On != "" {
			row = append(row, countText(cost.FLOPs/1e9))
		}
		row = append(row, fmt.Sprintf("%.1f", cost.Seconds))
		if trials {
			row = append(row, fmt.Sprint(a.Trials))
		}
		if tuned {
			row = append(row, a.tunedTo())
		}
		t.Rows = append(t.Rows, row)
	}
	return t
}

// tunedTo lists the settings that differ between the trials, as they were chosen.
func (a *ArmRecord) tunedTo() string {
	chosen := Params{}
	for _, t := range a.Tried {
		for k := range t.Params {
			if v, ok := a.Params[k]; ok {
				chosen[k] = v
			}
		}
	}
	return chosen.String()
}

func (e *ExperimentRecord) criteria() report.Table {
	t := report.Table{Columns: report.Columns("criterion", "claim", "measured", "95 % interval", "bound", "verdict")}
	for i := range e.Criteria {
		c := &e.Criteria[i]
		verdict := string(c.Verdict)
		if c.Shown {
			verdict += " (shown only)"
		}
		t.Rows = append(t.Rows, []string{c.Name, c.Claim, c.what(), c.Interval(), c.BoundText(), verdict})
	}
	return t
}

func (j *Judgement) what() string {
	v := j.Number()
	switch j.Form {
	case "ratio":
		return fmt.Sprintf("%s, %s / %s: %s", j.Measure, j.Arm, strings.Join(j.Against, ", "), v)
	case "difference":
		return fmt.Sprintf("%s, %s - %s: %s", j.Measure, j.Arm, strings.Join(j.Against, ", "), v)
	}
	return fmt.Sprintf("%s, %s: %s", j.Measure, j.Arm, v)
}

// Number is the estimate, with the digits that its interval supports.
func (j *Judgement) Number() string {
	lo, hi := j.bounds()
	return report.Number(j.Estimate, lo, hi)
}

// Interval is the interval in words, "none" without one.
func (j *Judgement) Interval() string {
	lo, hi := j.bounds()
	if math.IsNaN(lo) {
		return "none"
	}
	return report.Range(j.Estimate, lo, hi)
}

func (j *Judgement) bounds() (lo, hi float64) {
	if j.Lo == nil || j.Hi == nil {
		return math.NaN(), math.NaN()
	}
	return *j.Lo, *j.Hi
}

// BoundText is the pass line, as "≤ 0.5".
func (j *Judgement) BoundText() string {
	if j.AtLeast {
		return fmt.Sprintf("≥ %g", j.Bound)
	}
	return fmt.Sprintf("≤ %g", j.Bound)
}

func seedsText(n int) string {
	if n == 1 {
		return "1 seed"
	}
	return fmt.Sprintf("%d seeds", n)
}

// meanText is a mean over the seeds with half its interval.
func meanText(values []float64) string {
	mean, lo, hi := overSeeds(values)
	if math.IsNaN(lo) || lo == hi {
		return report.Number(mean, math.NaN(), math.NaN())
	}
	return report.Number(mean, lo, hi) + " ± " + report.Number((hi-lo)/2, lo, hi)
}

func countText(v float64) string {
	if v == 0 {
		return "—"
	}
	return report.Number(v, math.NaN(), math.NaN())
}

// WriteText writes the record for a terminal.
func (r *Record) WriteText(w io.Writer) error {
	for i, t := range r.Tables() {
		if i > 0 {
			if _, err := fmt.Fprintln(w); err != nil {
				return err
			}
		}
		if err := t.WriteText(w); err != nil {
			return err
		}
	}
	for _, line := range r.remarks() {
		if _, err := fmt.Fprintf(w, "\n%s\n", line); err != nil {
			return err
		}
	}
	if _, err := fmt.Fprintf(w, "\n%02d %s, %s tier: %s\n", r.Number, r.System, r.Tier, r.Verdict); err != nil {
		return err
	}
	for _, n := range r.NotRun {
		if _, err := fmt.Fprintln(w, n); err != nil {
			return err
		}
	}
	return nil
}

// remarks are what fixtures say of themselves, and notes of the experiments on them.
func (r *Record) remarks() []string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(r.Described)) {
		out = append(out, name+": "+r.Described[name])
	}
	for _, e := range r.Experiments {
		for _, n := range e.Notes {
			if e.On != "" {
				out = append(out, e.Name+": "+n)
			}
		}
	}
	return out
}

// WriteMarkdown writes the tables for a page.
func (r *Record) WriteMarkdown(w io.Writer) error {
	var b strings.Builder
	for _, t := range r.Tables() {
		if t.Caption != "" {
			fmt.Fprintf(&b, "**%s**\n\n", t.Caption)
		}
		markdown(&b, t)
	}
	for _, name := range slices.Sorted(maps.Keys(r.Described)) {
		fmt.Fprintf(&b, "- %s: %s\n", name, r.Described[name])
	}
	for _, e := range r.Experiments {
		for _, n := range e.Notes {
			fmt.Fprintf(&b, "- %s: %s\n", e.Name, n)
		}
	}
	fmt.Fprintf(&b, "\nVerdict of the %s tier: **%s**. Mean ± half of the 95 %% interval over the seeds; ratios are geometric means of the seeds' ratios, on the same noise.\n", r.Tier, r.Verdict)
	_, err := io.WriteString(w, b.String())
	return err
}

var cellText = strings.NewReplacer("|", "\\|", "\n", " ")

func markdown(b *strings.Builder, t report.Table) {
	rule := ""
	for _, c := range t.Columns {
		b.WriteString("| " + c.Title + " ")
		if c.Right {
			rule += "|---:"
		} else {
			rule += "|---"
		}
	}
	b.WriteString("|\n" + rule + "|\n")
	for _, row := range t.Rows {
		for _, c := range row {
			b.WriteString("| " + cellText.Replace(c) + " ")
		}
		b.WriteString("|\n")
	}
	b.WriteString("\n")
}

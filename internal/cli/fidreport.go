package cli

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/fidlab/fidlab/fid"
	"github.com/fidlab/fidlab/report"
	"github.com/fidlab/fidlab/tensor"
)

// writeReport writes the page of one comparison.
func writeReport(ctx context.Context, t *target, o *fidOptions, r *fid.Result, sets [2]*fid.Stats) error {
	page := fidPage(o, r, sets)
	figures, err := setFigures(ctx, o.dev, sets[0], sets[1], nil, nil)
	if err != nil {
		return err
	}
	last := len(page.Sections) - 1 // how to do it again
	page.Sections = slices.Concat(page.Sections[:last], figures, page.Sections[last:])
	return tensor.WriteAtomic(t.path, page.WriteHTML, t.options()...)
}

func fidPage(o *fidOptions, r *fid.Result, sets [2]*fid.Stats) *report.Page {
	var figures report.Figures
	terms := report.Table{Columns: report.Columns("Term", "Value>")}
	for _, m := range o.metrics {
		v := r.Metrics[m]
		lo, hi, detail := math.NaN(), math.NaN(), ""
		if f, ok := v.(fid.FIDValue); ok {
			if f.CI != nil {
				lo, hi = f.CI[0], f.CI[1]
				detail = fmt.Sprintf("%g %%: %s", 100*f.CILevel, report.Range(f.Value, lo, hi))
			}
			terms.Rows = append(terms.Rows,
				[]string{m + ": distance of the means", valueText(f.MeanTerm)},
				[]string{m + ": distance of the covariances", valueText(f.CovTerm)})
		}
		figures = append(figures, report.Figure{Name: strings.ToUpper(m), Value: report.Number(v.Number(), lo, hi), Detail: detail})
	}
	result := report.Section{Title: "Result", Blocks: []report.Block{figures}}
	if len(terms.Rows) > 0 {
		result.Blocks = append(result.Blocks, terms)
	}
	for _, n := range r.Notes {
		result.Blocks = append(result.Blocks, report.Note{Text: n, Warning: strings.HasPrefix(n, "mixed:")})
	}
	sections := []report.Section{result}
	if len(r.Skipped) > 0 {
		skipped := report.Table{Columns: report.Columns("Image", "Reason")}
		for _, s := range r.Skipped {
			skipped.Rows = append(skipped.Rows, []string{s.Path, s.Reason})
		}
		sections = append(sections, report.Section{Title: "Left out", Blocks: []report.Block{skipped}})
	}
	sections = append(sections, report.Section{Title: "Do it again", Blocks: []report.Block{report.Commands{Lines: []string{o.command(r)}}}})
	return &report.Page{
		Title:    fmt.Sprintf("%s against %s", o.gen, o.ref),
		Lead:     fmt.Sprintf("%s generated images against %s of the reference.", countText(r.N.Gen), countText(r.N.Ref)),
		Sections: sections,
		Facts: append([]report.Fact{
			{Name: "reference", Value: o.ref},
			{Name: "generated", Value: o.gen},
			{Name: "extractor", Value: fmt.Sprintf("%s, %d features", r.Extractor.Name, r.Extractor.Dim)},
			{Name: "weights", Value: r.Extractor.SHA256},
			{Name: "preset", Value: r.Preset},
			{Name: "precision", Value: r.Precision},
			{Name: "device", Value: r.Device},
		}, provenanceFacts(sets)...),
		Footer: "fidlab " + version,
	}
}

// provenanceFacts say how each side was made, where that is known.
func provenanceFacts(sets [2]*fid.Stats) []report.Fact {
	var out []report.Fact
	for i, s := range sets {
		p := s.Provenance
		if p == nil {
			continue
		}
		side := sideNames[i]
		text := []string{p.Input, "fidlab " + p.Version}
		if len(p.Decoders) > 0 {
			text = append(text, "decoded by "+strings.Join(p.Decoders, ", "))
		}
		if p.Skipped > 0 {
			text = append(text, fmt.Sprintf("%d left out", p.Skipped))
		}
		out = append(out, report.Fact{Name: side + ", as made", Value: strings.Join(append(text, p.Notes...), "; ")})
	}
	return out
}

func countText(n int) string {
	if n == 0 {
		return "an unknown number of"
	}
	return report.Count(n)
}

// command is a line that computes the same result.
func (o *fidOptions) command(r *fid.Result) string {
	return strings.Join(append([]string{"fidlab", "fid"}, o.arguments(r)...), " ") + fmt.Sprint(" --seed ", o.seed)
}

// arguments are those of a command that extracts and compares as this one did.
func (o *fidOptions) arguments(r *fid.Result) []string {
	args := []string{quote(o.ref), quote(o.gen)}
	if len(o.metrics) > 1 || o.metrics[0] != "fid" {
		args = append(args, "--metrics", strings.Join(o.metrics, ","))
	}
	if o.x.features != "" {
		args = append(args, "--features", quote(o.x.features), "--preset", quote(r.Preset), "--precision", o.x.precision)
	}
	if o.x.max > 0 {
		args = append(args, "--max-n", fmt.Sprint(o.x.max))
	}
	if o.x.skipBad {
		args = append(args, "--skip-bad")
	}
	return args
}

// quote makes an argument safe to paste into a shell.
func quote(s string) string {
	safe := func(r rune) bool {
		return r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || strings.ContainsRune("-_./:,=+@%", r)
	}
	if s != "" && !strings.ContainsFunc(s, func(r rune) bool { return !safe(r) }) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

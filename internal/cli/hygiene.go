package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/fidlab/fidlab/imageio"
	"github.com/fidlab/fidlab/imageio/survey"
	"github.com/fidlab/fidlab/internal/cpu"
	"github.com/fidlab/fidlab/report"
	"github.com/fidlab/fidlab/tensor"
)

// hygiene is what the files of one set or two are.
type hygiene struct {
	Sets   []*survey.Report `json:"sets"`   // the reference first
	Shared []survey.Shared  `json:"shared"` // generated images that the reference has too
	Advice []survey.Advice  `json:"advice"`
}

// hygieneOf sums up the surveys of one set, or of a reference and a generated set.
func hygieneOf(ctx context.Context, names []string, sets []*survey.Survey) (*hygiene, error) {
	h := &hygiene{Shared: []survey.Shared{}, Advice: []survey.Advice{}}
	for i, s := range sets {
		r, err := s.Report(ctx, names[i])
		if err != nil {
			return nil, err
		}
		h.Sets = append(h.Sets, r)
	}
	if len(sets) == 2 {
		var err error
		if h.Shared, err = survey.Compare(ctx, sets[0], sets[1]); err != nil {
			return nil, err
		}
		h.Advice = append(h.Advice, survey.Advise(h.Sets[0], h.Sets[1], h.Shared)...)
	}
	return h, nil
}

// runHygiene looks at files alone.
func runHygiene(ctx context.Context, a *app, o *inspectOptions, args []string) error {
	var names []string
	var sets []*survey.Survey
	for _, arg := range args {
		in, err := a.openSet(ctx, &o.x, arg, args...)
		if err != nil {
			return err
		}
		defer in.close()
		if in.src == nil {
			return inputf("%s: holds feature vectors or statistics; want images", arg)
		}
		s := survey.New()
		p := a.progress("pictures of "+in.src.Describe(), "images", lengthOf(in.src, o.x.max))
		sum, err := imageio.Batches(ctx, in.src, imageio.BatchOptions{Limit: o.x.max, SkipBad: o.x.skipBad, Progress: p.Set}, func(_ *cpu.Worker, b *imageio.Batch) error {
			s.Look(b)
			return nil
		})
		p.End()
		if err != nil {
			return err
		}
		a.saySkipped(sum.Bad)
		names, sets = append(names, arg), append(sets, s)
	}
	h, err := hygieneOf(ctx, names, sets)
	if err != nil {
		return err
	}
	if o.report.path != "" {
		page := &report.Page{
			Title: "The files of " + strings.Join(names, " and "), Lead: "What they are as files; no network has looked at them.",
			Sections: append(h.sections(o.top), report.Section{Title: "Do it again", Blocks: []report.Block{report.Commands{Lines: []string{o.hygieneCommand(args)}}}}),
			Facts:    []report.Fact{{Name: "decoders", Value: strings.Join(h.decoders(), ", ")}}, Footer: "fidlab " + version,
		}
		if err := tensor.WriteAtomic(o.report.path, page.WriteHTML, o.report.options()...); err != nil {
			return err
		}
		a.say("report: %s", o.report.path)
	}
	if a.json {
		return a.printJSON(h)
	}
	return a.printTables(h.tables(o.top))
}

func (o *inspectOptions) hygieneCommand(args []string) string {
	words := []string{"fidlab", "inspect", "--hygiene"}
	for _, arg := range args {
		words = append(words, quote(arg))
	}
	if o.x.max > 0 {
		words = append(words, "--max-n", fmt.Sprint(o.x.max))
	}
	if o.x.skipBad {
		words = append(words, "--skip-bad")
	}
	return strings.Join(words, " ")
}

func (a *app) printTables(tables []report.Table) error {
	for i, t := range tables {
		if i > 0 {
			a.printf("\n")
		}
		if err := t.WriteText(a.stdout); err != nil {
			return err
		}
	}
	return nil
}

func (h *hygiene) decoders() []string {
	var out []string
	for _, s := range h.Sets {
		out = append(out, listCounts(s.Decoders, 3))
	}
	return out
}

// sides are the columns' heads.
func (h *hygiene) sides() []string {
	if len(h.Sets) == 2 {
		return sideNames
	}
	return []string{h.Sets[0].Name}
}

// tables are the properties of each set, the copies, and the advice.
func (h *hygiene) tables(top int) []report.Table {
	out := []report.Table{h.properties()}
	for i, s := range h.Sets {
		for _, g := range []struct {
			what string
			in   []survey.Group
		}{{"Equal pixels", s.CopyGroups}, {"Nearly equal pictures", s.NearGroups}} {
			if len(g.in) == 0 {
				continue
			}
			t := report.Table{Caption: fmt.Sprintf("%s: %s", g.what, h.sides()[i]), Columns: report.Columns("images>", "which")}
			for _, group := range g.in[:min(top, len(g.in))] {
				t.Rows = append(t.Rows, []string{fmt.Sprint(len(group)), shortList(group, 6)})
			}
			out = append(out, t)
		}
		t := report.Table{Caption: "Suspicious pictures: " + h.sides()[i], Columns: report.Columns("what", "images>", "which")}
		for _, k := range []struct {
			what  string
			which []string
		}{{"black", s.Black}, {"white", s.White}, {"of one colour", s.Flat}, {"look enlarged", s.EnlargedOf}} {
			if len(k.which) > 0 {
				t.Rows = append(t.Rows, []string{k.what, fmt.Sprint(len(k.which)), shortList(k.which, top)})
			}
		}
		if len(t.Rows) > 0 {
			out = append(out, t)
		}
	}
	if len(h.Shared) > 0 {
		t := report.Table{Caption: "Generated images that the reference has too", Columns: report.Columns("generated", "reference", "pixels")}
		for _, s := range h.Shared[:min(top, len(h.Shared))] {
			t.Rows = append(t.Rows, []string{s.Image, s.Of, map[bool]string{true: "equal", false: "nearly"}[s.Exact]})
		}
		out = append(out, t)
	}
	if len(h.Sets) == 2 {
		out = append(out, h.advice())
	}
	return out
}

func (h *hygiene) properties() report.Table {
	t := report.Table{Caption: "What the files are", Columns: report.Columns("")}
	for _, side := range h.sides() {
		t.Columns = append(t.Columns, report.Column{Title: side})
	}
	add := func(name string, of func(r *survey.Report) string) {
		row, some := []string{name}, false
		for _, r := range h.Sets {
			text := of(r)
			some = some || text != ""
			row = append(row, text)
		}
		if some {
			t.Rows = append(t.Rows, row)
		}
	}
	number := func(of func(r *survey.Report) int) func(r *survey.Report) string {
		return func(r *survey.Report) string {
			if n := of(r); n > 0 {
				return report.Count(n)
			}
			return ""
		}
	}
	counts := func(of func(r *survey.Report) []survey.Count) func(r *survey.Report) string {
		return func(r *survey.Report) string { return listCounts(of(r), 5) }
	}
	add("images", number(func(r *survey.Report) int { return r.Images }))
	add("formats", counts(func(r *survey.Report) []survey.Count { return r.Formats }))
	add("colours", counts(func(r *survey.Report) []survey.Count { return r.Modes }))
	add("sizes", counts(func(r *survey.Report) []survey.Count { return r.Sizes }))
	add("file size, median", func(r *survey.Report) string {
		if r.Bytes == 0 {
			return ""
		}
		return bytesText(int64(r.Bytes))
	})
	add("lossy", number(func(r *survey.Report) int { return r.Lossy }))
	add("JPEG quality", counts(func(r *survey.Report) []survey.Count { return r.Quality }))
	add("JPEG colour sampling", counts(func(r *survey.Report) []survey.Count { return r.Sampling }))
	add("EXIF orientations, ignored", counts(func(r *survey.Report) []survey.Count { return r.Turned }))
	add("colour profiles, ignored", number(func(r *survey.Report) int { return r.ICC }))
	add("copies of an earlier image", number(func(r *survey.Report) int { return r.Copies }))
	add("near copies of one", number(func(r *survey.Report) int { return r.Near }))
	add("black, white or of one colour", number(func(r *survey.Report) int { return len(r.Black) + len(r.White) + len(r.Flat) }))
	add("look enlarged", func(r *survey.Report) string {
		switch {
		case r.Judged == 0:
			return "too small or too smooth to tell"
		case len(r.Enlarged) == 0:
			return fmt.Sprintf("none of %s", report.Count(r.Judged))
		}
		return fmt.Sprintf("%s, of %s", listCounts(r.Enlarged, 2), report.Count(r.Judged))
	})
	return t
}

func (h *hygiene) advice() report.Table {
	t := report.Table{Caption: "What of it shifts FID, and how", Columns: report.Columns("found", "effect", "advice")}
	for _, v := range h.Advice {
		t.Rows = append(t.Rows, []string{v.What, v.Effect, v.Do})
	}
	if len(t.Rows) == 0 {
		t.Rows = [][]string{{"nothing", "both sets are alike as files", "none"}}
	}
	return t
}

// sections are the page's.
func (h *hygiene) sections(top int) []report.Section {
	s := report.Section{Title: "Files", Text: "What the images of the sets are as files. Whatever differs between two sets can move FID by itself."}
	all := h.tables(top)
	if len(h.Sets) == 2 { // the advice comes right after the properties
		last := all[len(all)-1]
		all = append([]report.Table{all[0], last}, all[1:len(all)-1]...)
	}
	for _, t := range all {
		s.Blocks = append(s.Blocks, t)
	}
	return []report.Section{s}
}

func listCounts(list []survey.Count, most int) string {
	var words []string
	for _, c := range list[:min(most, len(list))] {
		words = append(words, fmt.Sprintf("%s: %s", c.Name, report.Count(c.N)))
	}
	if n := len(list) - most; n > 0 {
		words = append(words, fmt.Sprintf("%d more", n))
	}
	return strings.Join(words, "; ")
}

func shortList(names []string, most int) string {
	text := strings.Join(names[:min(most, len(names))], ", ")
	if n := len(names) - most; n > 0 {
		text += fmt.Sprintf(" and %d more", n)
	}
	return text
}

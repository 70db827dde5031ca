package cli

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/fid"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/report"
	"github.com/fidlab/fidlab/sampler"
	"github.com/fidlab/fidlab/tensor"
)

// comparison is one run of compare-samplers.
type comparison struct {
	o         *compareOptions
	rows      []*compareRow
	cells     []*cell
	spec      diffusion.Spec
	path      diffusion.Path
	device    string
	model     *model
	classes   []int // of every image
	notes     []string
	reference *referenceInfo    // of error
	ref       *fid.Stats        // of fid
	extractor fid.ExtractorInfo // of fid
	seconds   float64
}

// referenceInfo is what stood for the exact end.
type referenceInfo struct {
	Sampler string  `json:"sampler"`
	Grid    string  `json:"grid"`
	Steps   int     `json:"steps"`
	NFE     int     `json:"nfe"`
	Error   float64 `json:"error"` // its own, in the same measure: the change by the last doubling of the steps
}

func (i *referenceInfo) String() string {
	return fmt.Sprintf("%s in %d steps of %s", i.Sampler, i.Steps, i.Grid)
}

// compareResult is the JSON.
type compareResult struct {
	Version     string             `json:"version"`
	Model       string             `json:"model"`
	ModelSHA256 string             `json:"model_sha256"`
	Measure     string             `json:"measure"`
	Path        string             `json:"path"`
	N           int                `json:"n"`
	Seed        uint64             `json:"seed"`
	Seeds       int                `json:"seeds"`
	Classes     []int              `json:"classes,omitempty"` // asked for in turn
	Prompts     []string           `json:"prompts,omitempty"` // likewise
	Negative    string             `json:"negative_prompt,omitempty"`
	Guidance    string             `json:"guidance,omitempty"`
	Inputs      []string           `json:"inputs,omitempty"` // NAME=FILE, as given
	Reference   *referenceInfo     `json:"reference"`        // of error
	Ref         *string            `json:"ref"`              // of fid
	Extractor   *fid.ExtractorInfo `json:"extractor"`
	CILevel     float64            `json:"ci_level"`
	Rows        []compareRowJSON   `json:"rows"`
	Device      string             `json:"device"`
	Precision   string             `json:"precision"` // of the states
	Notes       []string           `json:"notes"`
	Seconds     float64            `json:"seconds"`
}

// compareRowJSON has null for what there is not.
type compareRowJSON struct {
	Name    string      `json:"name"` // as given
	Sampler string      `json:"sampler"`
	Grid    string      `json:"grid"`
	Budget  *int        `json:"budget"` // null where the sampler decides itself
	Steps   *int        `json:"steps"`
	NFE     *float64    `json:"nfe"` // the mean over the images, where it varies
	Value   *float64    `json:"value"`
	CI      *[2]float64 `json:"ci"`
	Values  []float64   `json:"values,omitempty"` // of each seed
	Ratio   *float64    `json:"ratio"`            // to the best at this budget
	RatioCI *[2]float64 `json:"ratio_ci"`
	Reason  string      `json:"reason,omitempty"` // why there is no value
}

// open opens the model and says what is to come.
func (r *comparison) open(ctx context.Context, a *app, entry *modelEntry) (*model, error) {
	m, err := entry.open(ctx, a, opening{r.o.model, r.o.n, r.o.classes, r.o.net})
	if err != nil {
		return nil, err
	}
	r.model = m
	if err := r.o.named.fit(m); err != nil {
		return nil, err
	}
	if err := r.o.prompts.apply(m, r.o.n); err != nil {
		return nil, err
	}
	r.classes = inTurn(r.o.classes, r.o.n)
	for name, t := range m.inputs {
		m.inputs[name] = repeated(t, r.o.n)
	}
	for _, c := range r.cells { // what cannot be drawn is said before anything is
		if _, err := r.denoiser(c.grid); err != nil {
			return nil, err
		}
	}
	a.say("%s: %d measurements of %d images each on %s", m.name, len(r.cells), r.o.n, r.device)
	return m, nil
}

// nameOf is a cell's name for messages.
func (r *comparison) nameOf(c *cell) string {
	return fmt.Sprintf("%s, %d steps", r.row(c).name, len(c.grid.Steps))
}

// denoiser is the model as it is asked on a grid: a new one for each run.
func (r *comparison) denoiser(g *diffusion.Grid) (sampler.Denoiser, error) {
	return r.o.guide.wrap(r.model, &r.o.net, gpu.CPU(), len(r.o.classes) > 0, r.o.prompts.away, g)
}

// cond is what images lo to lo+n are asked for.
func (r *comparison) cond(lo, n int) sampler.Cond {
	var c sampler.Cond
	if r.classes != nil {
		c.Classes = r.classes[lo : lo+n]
	}
	for name, t := range r.model.inputs {
		if c.Inputs == nil {
			c.Inputs = map[string]*gpu.Tensor{}
		}
		c.Inputs[name] = t.Rows(lo, lo+n)
	}
	return c
}

// row is the first row of a cell.
func (r *comparison) row(c *cell) *compareRow {
	return r.rows[slices.IndexFunc(r.rows, func(row *compareRow) bool { return row.cell == c })]
}

// collectNotes adds what is to say of grids and of rows without a value.
func (r *comparison) collectNotes() {
	if n := len(r.o.classes); n > 0 {
		r.note("classes asked for in turn: " + strings.Trim(strings.ReplaceAll(fmt.Sprint(r.o.classes), " ", ", "), "[]"))
	}
	if text := r.o.guide.text(); text != "" {
		r.note("guided, or limited: " + text)
	}
	for _, row := range r.rows {
		if row.cell == nil {
			where := ""
			if row.budget > 0 {
				where = fmt.Sprintf(" at %d evaluations", row.budget)
			}
			r.note(fmt.Sprintf("%s has no value%s: %s", row.name, where, strings.TrimPrefix(row.reason, "sampler: ")))
			continue
		}
		for _, n := range row.cell.grid.Notes {
			r.note(n)
		}
		if row.budget == 0 {
			r.note(row.name + " decides on the way how often it evaluates: its NFE is the mean over the images, and it has no rival of the same budget")
		}
	}
}

// measureName heads the column and the figure's axis.
func (r *comparison) measureName() string {
	if r.o.measure == "fid" {
		return "FID[" + r.extractor.Name + "]"
	}
	return "relative RMS error"
}

// lead says what was measured.
func (r *comparison) lead() string {
	if r.o.measure == "fid" {
		return fmt.Sprintf("FID of %s images of each sampler to %s, mean over %s, at equal numbers of evaluations of the model (NFE).",
			report.Count(r.o.n), r.o.ref, seedsText(r.o.seeds))
	}
	return fmt.Sprintf("Distance of %s images of each sampler to the exact end of the same noise: root mean square over the images, relative to that of the exact images, at equal numbers of evaluations of the model (NFE).",
		report.Count(r.o.n))
}

func withInterval(c *cell) string {
	if math.IsNaN(c.lo) {
		return report.Number(c.value, c.lo, c.hi)
	}
	return report.Number(c.value, c.lo, c.hi) + " (" + report.Range(c.value, c.lo, c.hi) + ")"
}

func nfeText(v float64) string {
	if v == math.Trunc(v) {
		return strconv.Itoa(int(v))
	}
	return strconv.FormatFloat(v, 'f', 1, 64)
}

func (r *comparison) table() report.Table {
	percent := fmt.Sprintf("%g %% interval>", 100*r.o.ciLevel)
	t := report.Table{Columns: report.Columns("budget>", "sampler", "steps>", "NFE>", r.measureName()+">", percent, "× the best>", percent)}
	for _, row := range r.rows {
		budget, ratio, ratioCI := strconv.Itoa(row.budget), "-", "-"
		if row.budget == 0 {
			budget = "-"
		}
		c := row.cell
		if c == nil {
			t.Rows = append(t.Rows, []string{budget, row.name, "-", "-", "-", "-", "-", "-"})
			continue
		}
		interval := "-"
		if !math.IsNaN(c.lo) {
			interval = report.Range(c.value, c.lo, c.hi)
		}
		if v := row.ratio; row.best {
			ratio = "1"
		} else if v[0] > 0 {
			ratio = report.Number(v[0], v[1], v[2])
			if !math.IsNaN(v[1]) {
				ratioCI = report.Range(v[0], v[1], v[2])
			}
		}
		t.Rows = append(t.Rows, []string{
			budget, row.name, strconv.Itoa(len(c.grid.Steps)), nfeText(c.nfe), report.Number(c.value, c.lo, c.hi), interval, ratio, ratioCI,
		})
	}
	return t
}

// figure is a line for every sampler, value against NFE.
func (r *comparison) figure() *report.Lines {
	l := &report.Lines{Title: r.model.name, X: "evaluations of the model (NFE)", Y: r.measureName(), LogX: true, LogY: true}
	if grids := splitSpecs(r.o.grids); len(grids) == 1 {
		l.Title += ", " + grids[0]
	}
	for _, c := range r.cells { // in the order of --samplers
		name := r.row(c).name
		i := slices.IndexFunc(l.Series, func(s report.Series) bool { return s.Name == name })
		if i < 0 {
			i, l.Series = len(l.Series), append(l.Series, report.Series{Name: name})
		}
		l.Series[i].Points = append(l.Series[i].Points, report.Point{X: c.nfe, Y: c.value, Lo: c.lo, Hi: c.hi})
		l.LogY = l.LogY && c.value > 0
	}
	return l
}

func (r *comparison) result() *compareResult {
	o := r.o
	out := &compareResult{
		Version: version, Model: r.model.name, ModelSHA256: r.model.sha256, Measure: o.measure, Path: r.path.Name(), N: o.n, Seed: o.seed, Seeds: 1,
		Reference: r.reference, CILevel: o.ciLevel, Device: r.device, Precision: "fp64", Notes: r.notes, Seconds: r.seconds,
		Classes: o.classes, Prompts: o.prompts.list, Negative: o.prompts.negative, Guidance: o.guide.text(), Inputs: o.net.inputs,
	}
	if o.measure == "fid" {
		out.Seeds, out.Ref, out.Extractor, out.Precision = o.seeds, &o.ref, &r.extractor, "fp32"
	}
	interval := func(lo, hi float64) *[2]float64 {
		if math.IsNaN(lo) || math.IsNaN(hi) {
			return nil
		}
		return &[2]float64{lo, hi}
	}
	for _, row := range r.rows {
		j := compareRowJSON{Name: row.name, Sampler: row.solver.Name(), Grid: row.rule, Reason: row.reason}
		if row.budget > 0 {
			j.Budget = &row.budget
		}
		if c := row.cell; c != nil {
			steps := len(c.grid.Steps)
			j.Steps, j.NFE, j.Value, j.CI = &steps, &c.nfe, &c.value, interval(c.lo, c.hi)
			if o.measure == "fid" {
				j.Values = c.sums
			}
			if row.ratio[0] > 0 {
				j.Ratio, j.RatioCI = &row.ratio[0], interval(row.ratio[1], row.ratio[2])
			}
		}
		out.Rows = append(out.Rows, j)
	}
	return out
}

func (r *comparison) page(a *app, png []byte) *report.Page {
	result := report.Section{Title: "Result", Blocks: []report.Block{
		report.Image{PNG: png, Alt: r.measureName() + " against evaluations of the model, a line for each sampler; the numbers are in the table below"}, r.table(),
	}}
	for _, n := range r.notes {
		result.Blocks = append(result.Blocks, report.Note{Text: n, Warning: strings.HasPrefix(n, "mixed:")})
	}
	words := []string{"fidlab"}
	for _, w := range a.args {
		words = append(words, quote(w))
	}
	facts := []report.Fact{
		{Name: "model", Value: r.model.name},
		{Name: "model's sha256", Value: r.model.sha256},
		{Name: "path", Value: r.path.Name()},
		{Name: "grid", Value: r.o.grids},
		{Name: "images", Value: report.Count(r.o.n)},
		{Name: "seed", Value: fmt.Sprint(r.o.seed)},
		{Name: "device", Value: r.device},
	}
	if ref := r.reference; ref != nil {
		facts = append(facts, report.Fact{Name: "reference", Value: fmt.Sprintf("%s, %d evaluations; its own error %.2g", ref, ref.NFE, ref.Error)})
	} else {
		facts = append(facts,
			report.Fact{Name: "reference set", Value: r.o.ref},
			report.Fact{Name: "extractor", Value: fmt.Sprintf("%s %s, %d features, preset %s", r.extractor.Name, r.extractor.SHA256, r.extractor.Dim, r.extractor.Preset)})
	}
	return &report.Page{
		Title: "Samplers on " + r.model.name, Lead: r.lead(),
		Sections: []report.Section{result, {Title: "Do it again", Blocks: []report.Block{report.Commands{Lines: []string{strings.Join(words, " ")}}}}},
		Facts:    facts, Footer: "fidlab " + version,
	}
}

// write writes the files, then the table or the JSON to standard output.
func (r *comparison) write(a *app) error {
	var png bytes.Buffer
	for _, path := range r.o.out {
		content := r.figure().WritePNG
		switch strings.ToLower(filepath.Ext(path)) {
		case ".svg":
			content = r.figure().WriteSVG
		case ".json":
			content = func(w io.Writer) error { return report.WriteJSON(w, r.result()) }
		case ".html":
			if err := r.figure().WritePNG(&png); err != nil {
				return err
			}
			content = r.page(a, png.Bytes()).WriteHTML
		}
		if err := tensor.WriteAtomic(path, content, r.o.target(path).options()...); err != nil {
			return err
		}
		a.say("written: %s", path)
	}
	if ref := r.reference; ref != nil {
		a.say("reference: %s, %d evaluations; its own error %.2g, the change by the last doubling", ref, ref.NFE, ref.Error)
	}
	for _, n := range r.notes {
		a.say("note: %s", n)
	}
	if a.json {
		return a.printJSON(r.result())
	}
	return r.table().WriteText(a.stdout)
}

func modelNames() []string {
	var names []string
	for _, m := range allModels() {
		names = append(names, strings.TrimSuffix(m.name, "FILE.json"))
	}
	return names
}

func samplerNames() []string {
	var names []string
	for _, s := range sampler.List() {
		names = append(names, s.Name)
	}
	return names
}

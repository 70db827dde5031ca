package cli

import (
	"context"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/sampler"
)

type compareOptions struct {
	model, measure  string
	samplers, grids string
	budgets         string
	levels          levels
	n, seeds        int
	seed            uint64
	ciLevel         float64
	ref             string
	x               extraction
	out             []string
	overwrite       bool
	seedsSet        bool
	gridSet         bool
	classes         []int
	named           classList
	guide           guideOptions
	net             netOptions
	prompts         promptOptions
}

// maxBudget bounds the evaluations of a cell.
const maxBudget = 1000

func newCompare(a *app) *cobra.Command {
	var o compareOptions
	cmd := &cobra.Command{
		Use:   "compare-samplers --model M --budget N,N",
		Short: "Compare samplers at equal numbers of evaluations: exact error or FID, with intervals",
		Long: `Compare samplers that may ask the model equally often. A sampler takes as many
steps as its budget allows; the table shows the evaluations that it really made
(NFE), the measure with its interval, and the ratio to the best at that budget.
A sampler that decides on the way how often it evaluates is run once, as its
options say, and stands in the figure at the mean of what it took.

--measure error (the default without --ref): all samplers start from the same
noise, and the error is the distance to the exact end of it, root mean square
over the images, relative to that of the exact images. A reference trajectory of
the same model stands for the exact end; its steps are doubled until its own
error is ten times below the smallest one compared, or the comparison is
refused. Samplers that draw noise on the way have no such end.

--measure fid (the default with --ref): FID of n images to the reference set,
mean over seeds. All samplers have the same seeds.

All images are asked for in the same way: classes or captions in turn (--class,
--prompt), guidance, inputs and limits as of fidlab sample. Guided, an evaluation asks a network twice.`,
		Example: `  fidlab compare-samplers --model mnist-gmm --budget 5,8,10,20 -n 200 -o compare.html
  fidlab compare-samplers --model mnist-gmm --budget 5,10,20 --samplers ddim,euler-a,dpm++2m --ref mnist:test -o fid.svg -o fid.json
  fidlab compare-samplers --model runs/unet/checkpoint.safetensors --budget 5,8,10,20 --class 0,1,2,3,4,5,6,7,8,9 --guidance 1.5 --ref mnist:test`,
		Args: nargs("no arguments", 0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.seedsSet, o.gridSet = cmd.Flags().Changed("seeds"), cmd.Flags().Changed("grid")
			o.prompts.given(cmd)
			return runCompare(cmd.Context(), a, &o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.model, "model", "", "sample the model `M` (fidlab models lists them)")
	f.StringVar(&o.budgets, "budget", "5,8,10,20", "allow `N,N` evaluations of the model per image")
	f.StringVar(&o.samplers, "samplers", "ddim,heun,dpm++2m,deis,unipc", "compare `S,S:option=value` (fidlab samplers lists them)")
	f.StringVar(&o.grids, "grid", "karras", "place the noise levels by `RULE,RULE`, on flow paths by default flow: "+strings.Join(gridRules(), ", "))
	o.levels.flags(cmd)
	f.IntVarP(&o.n, "num", "n", 1000, "draw `K` images with each sampler and seed")
	o.named.flag(f, &o.classes)
	o.prompts.flags(f)
	o.guide.flags(f)
	o.net.flags(f)
	f.StringVar(&o.measure, "measure", "", "measure `M`: error or fid")
	f.StringVar(&o.ref, "ref", "", "the reference set `INPUT` of fid: as REF of fidlab fid, such as mnist:test")
	f.IntVar(&o.seeds, "seeds", 3, "measure fid with `N` seeds")
	f.Uint64Var(&o.seed, "seed", 0, "draw the noise of seed `S`, and of the seeds after it")
	f.Float64Var(&o.ciLevel, "ci-level", 0.95, "confidence `LEVEL` of the intervals")
	o.x.flags(cmd)
	f.StringArrayVarP(&o.out, "output", "o", nil, "write `FILE` too: .html (a page), .png or .svg (the figure), .json; may be repeated")
	f.BoolVar(&o.overwrite, "overwrite", false, "replace the files if they exist")
	f.SortFlags = false
	completes(cmd, "model", modelNames()...)
	completes(cmd, "samplers", samplerNames()...)
	completes(cmd, "grid", gridRules()...)
	completes(cmd, "measure", "error", "fid")
	completes(cmd, "guidance-rule", "cfg", "cfg++", "projected")
	return cmd
}

// check settles what the flags say of each other.
func (o *compareOptions) check() error {
	switch {
	case o.model == "":
		return usagef("want --model M; fidlab models lists them")
	case o.measure == "" && o.ref != "":
		o.measure = "fid"
	case o.measure == "":
		o.measure = "error"
	}
	switch {
	case o.measure != "error" && o.measure != "fid":
		return unknown("measure", o.measure, []string{"error", "fid"})
	case o.measure == "fid" && o.ref == "":
		return usagef("--measure fid: want --ref INPUT, the set to compare with, such as mnist:test")
	case o.measure == "error" && o.ref != "":
		return usagef("--ref %s is for --measure fid; --measure error has the exact end of every image's noise as its reference", o.ref)
	case o.measure == "error" && (o.guide.rule == "cfg++" || o.guide.rule == "projected" && o.guide.momentum != 0):
		return usagef("--guidance-rule %s: what it adds depends on the grid's steps, so samplers of different steps have no exact end in common; compare them by --measure fid --ref INPUT", o.guide.rule)
	case o.measure == "error" && o.seedsSet:
		return usagef("--seeds is for --measure fid; --measure error takes its interval over the images: give a larger -n")
	case o.n < 2 || o.n > 1e6:
		return usagef("-n %d: want 2 to 1000000 images", o.n)
	case o.seeds < 1 || o.seeds > 1000:
		return usagef("--seeds %d: want 1 to 1000", o.seeds)
	case !(o.ciLevel > 0 && o.ciLevel < 1):
		return usagef("--ci-level %g: want a number between 0 and 1, such as 0.95", o.ciLevel)
	}
	for i, path := range o.out {
		if !slices.Contains([]string{".html", ".png", ".svg", ".json"}, strings.ToLower(filepath.Ext(path))) {
			return usagef("-o %s: want a name that ends in .html, .png, .svg or .json", path)
		}
		if slices.Contains(o.out[:i], path) {
			return usagef("-o %s: named twice", path)
		}
		if err := o.target(path).check(); err != nil {
			return err
		}
	}
	if err := o.prompts.read(); err != nil {
		return err
	}
	return o.x.check()
}

func (o *compareOptions) target(path string) *target { return &target{path, o.overwrite} }

// parseBudgets reads "5,8,10": ascending, each once.
func parseBudgets(list string) ([]int, error) {
	var out []int
	for part := range strings.SplitSeq(list, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(part))
		if err != nil || n < 1 || n > maxBudget {
			return nil, usagef("--budget %q: %q; want numbers of evaluations from 1 to %d, such as 5,8,10,20", list, part, maxBudget)
		}
		out = append(out, n)
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

// splitSpecs separates "a,b:x=1,y=2,c" into a, b:x=1,y=2 and c: what has an = and
// no name before it is one more option of the sampler before.
func splitSpecs(list string) []string {
	var out []string
	for part := range strings.SplitSeq(list, ",") {
		part = strings.TrimSpace(part)
		if n := len(out); n > 0 && strings.Contains(out[n-1], ":") && strings.Contains(part, "=") && !strings.Contains(part, ":") {
			out[n-1] += "," + part
			continue
		}
		out = append(out, part)
	}
	return out
}

// cell is one measurement: a sampler on one grid.
type cell struct {
	solver sampler.Solver
	grid   *diffusion.Grid
	nfe    float64   // mean over the images where it varies
	sums   []float64 // of error: Σ (x-y)² of every image; of fid: the distance of every seed
	value  float64
	lo, hi float64 // NaN without an interval
}

// compareRow is a line of the table: a sampler at a budget.
type compareRow struct {
	name   string // as given, and the grid where there are several
	solver sampler.Solver
	rule   string
	budget int   // 0 where the solver decides itself
	cell   *cell // nil where reason says why there is none
	reason string
	best   bool
	ratio  [3]float64 // to the best cell of the budget, and its interval
}

// plan makes the rows, and the distinct cells that they need.
func (o *compareOptions) plan(p diffusion.Path) (rows []*compareRow, cells []*cell, spec diffusion.Spec, path diffusion.Path, err error) {
	budgets, err := parseBudgets(o.budgets)
	if err != nil {
		return nil, nil, spec, nil, err
	}
	if path, spec, err = o.levels.on(p); err != nil {
		return nil, nil, spec, nil, err
	}
	if !o.gridSet && path.Space() == diffusion.FlowSpace {
		o.grids = "flow" // the others need finite noise
	}
	rules, specs := splitSpecs(o.grids), splitSpecs(o.samplers)
	seen := map[string]bool{}
	for _, rule := range rules {
		build := func(steps int) (*diffusion.Grid, error) {
			s := spec
			s.Rule, s.Steps = rule, steps
			return diffusion.Build(path, s)
		}
		if strings.HasPrefix(rule, "sigmas") || strings.HasPrefix(rule, "times") || strings.HasSuffix(rule, ".json") {
			return nil, nil, spec, nil, usagef("--grid %s is a list of levels, which fits one number of steps only", rule)
		}
		if _, err := build(budgets[len(budgets)-1]); err != nil {
			return nil, nil, spec, nil, usagef("--grid: %w", err)
		}
		for _, named := range specs {
			s, err := sampler.ByName(named)
			if err != nil {
				return nil, nil, spec, nil, usagef("--samplers: %w", err)
			}
			name := named
			if len(rules) > 1 {
				name += ", " + rule
			}
			if seen[name] {
				return nil, nil, spec, nil, usagef("%s is named twice; every line of the comparison needs a name of its own", name)
			}
			seen[name] = true
			own, made := planSolver(name, rule, s, budgets, build)
			rows, cells = append(rows, own...), append(cells, made...)
		}
	}
	slices.SortStableFunc(rows, func(a, b *compareRow) int { return a.place() - b.place() })
	if len(cells) == 0 {
		return nil, nil, spec, nil, usagef("no sampler has a budget that it can use: %s", rows[0].reason)
	}
	return rows, cells, spec, path, nil
}

// place orders rows by budget, those without one last.
func (r *compareRow) place() int {
	if r.budget == 0 {
		return maxBudget + 1
	}
	return r.budget
}

// planSolver finds for each budget the most steps of s that it pays for.
func planSolver(name, rule string, s sampler.Solver, budgets []int, build func(steps int) (*diffusion.Grid, error)) (rows []*compareRow, cells []*cell) {
	most := budgets[len(budgets)-1]
	if g, err := build(most); err == nil && s.NFE(g) == sampler.Varies {
		r := &compareRow{name: name, solver: s, rule: rule}
		if err := sampler.Walks(s, g); err != nil {
			r.reason = err.Error()
			return []*compareRow{r}, nil
		}
		r.cell = &cell{solver: s, grid: g}
		return []*compareRow{r}, []*cell{r.cell}
	}
	bySteps := map[int]*cell{}
	for _, budget := range budgets {
		r := &compareRow{name: name, solver: s, rule: rule, budget: budget}
		rows = append(rows, r)
		steps := 0
		for n := 1; n <= budget; n++ { // a step costs one evaluation at least
			g, err := build(n)
			if err == nil {
				err = sampler.Walks(s, g)
			}
			if err != nil {
				r.reason = err.Error()
				continue
			}
			if nfe := s.NFE(g); nfe > budget {
				if steps == 0 {
					r.reason = fmt.Sprintf("%s takes %d evaluations in %d steps", s.Name(), nfe, n)
				}
				break
			}
			if steps, r.reason = n, ""; bySteps[n] == nil {
				bySteps[n] = &cell{solver: s, grid: g, nfe: float64(s.NFE(g))}
			}
		}
		if steps == 0 {
			continue
		}
		if r.cell = bySteps[steps]; !slices.Contains(cells, r.cell) {
			cells = append(cells, r.cell)
		}
	}
	return rows, cells
}

// rate finds the best cell of every budget and the others' ratios to it. ratio
// is that of two cells with its interval.
func rate(rows []*compareRow, ratio func(c, best *cell) [3]float64) {
	best := map[int]*cell{}
	for _, r := range rows {
		if r.budget > 0 && r.cell != nil && (best[r.budget] == nil || r.cell.value < best[r.budget].value) {
			best[r.budget] = r.cell
		}
	}
	for _, r := range rows {
		b := best[r.budget]
		switch {
		case r.cell == nil || b == nil:
		case r.cell == b:
			r.best, r.ratio = true, [3]float64{1, math.NaN(), math.NaN()}
		default:
			r.ratio = ratio(r.cell, b)
		}
	}
}

func runCompare(ctx context.Context, a *app, o *compareOptions) error {
	if err := o.check(); err != nil {
		return err
	}
	device, err := a.useDevice()
	if err != nil {
		return err
	}
	entry, err := findModel(o.model)
	if err != nil {
		return err
	}
	own, err := entry.path(o.model)
	if err != nil {
		return err
	}
	rows, cells, spec, path, err := o.plan(own)
	if err != nil {
		return err
	}
	r := &comparison{o: o, rows: rows, cells: cells, spec: spec, path: path, device: device, notes: []string{}}
	measure := r.measureError
	if o.measure == "fid" {
		measure = r.measureFID
	} else if err := refuseNoisy(ctx, cells); err != nil {
		return err
	}
	start := a.env.Now()
	defer func() {
		if r.model != nil {
			r.model.done()
		}
	}()
	if err := measure(ctx, a, entry); err != nil {
		return err
	}
	r.seconds = a.env.Now().Sub(start).Seconds()
	r.collectNotes()
	return r.write(a)
}

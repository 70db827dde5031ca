package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/sampler"
	"github.com/fidlab/fidlab/tensor"
)

type sampleOptions struct {
	model, sampler      string
	steps, n, batch     int
	first               int
	seed                uint64
	grid, end, path     string
	sigmaMax, sigmaMin  float64
	rho, shift          float64
	eta                 float64
	etaSet              bool
	classes             []int
	init                string
	trajectory          target
	out                 string
	overwrite           bool
	precision, valRange string
	npy, noGrid         bool
}

func newSample(a *app) *cobra.Command {
	var o sampleOptions
	cmd := &cobra.Command{
		Use:   "sample --model M -n K -o DIR",
		Short: "Draw samples from a model",
		Long: `Draw samples from a model and write them to a folder: 000000.png and so on, a
contact sheet grid.png of the first 64, and run.json, the record of how they
were made. Samples that are no pictures are written as samples.npy. Image i of
a seed is the same at any -n, --batch and --threads.

The noise levels are those of --grid: ` + strings.Join(diffusion.Rules()[:9], ", ") + `.`,
		Example: `  fidlab sample --model mnist-gmm --sampler dpm++2m --steps 10 -n 2000 -o digits/
  fidlab sample --model gmm:two.json --sampler ddim:eta=0.5 --steps 50 -n 4 --trajectory t.npz -o out/`,
		Args: nargs("no arguments", 0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.etaSet = cmd.Flags().Changed("eta")
			return runSample(cmd.Context(), a, &o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.model, "model", "", "sample the model `M` (fidlab models lists them)")
	f.StringVar(&o.sampler, "sampler", "dpm++2m", "use the sampler `S` or S:option=value (fidlab samplers lists them)")
	f.IntVar(&o.steps, "steps", 20, "take `N` steps")
	f.IntVarP(&o.n, "num", "n", 16, "draw `K` samples")
	f.IntVar(&o.first, "first", 0, "start at sample number `I` of the seed")
	f.Uint64Var(&o.seed, "seed", 0, "draw the noise of seed `S`")
	f.IntVar(&o.batch, "batch", 64, "draw `N` samples at a time")
	f.IntSliceVar(&o.classes, "class", nil, "ask for class `C`, or for several in turn (0,1,2)")
	f.StringVar(&o.grid, "grid", "karras", "place the noise levels by `RULE`")
	f.StringVar(&o.end, "end", "zero", "end at `E`: zero, min or keep (the grid's own last level)")
	f.StringVar(&o.path, "path", "", "walk the path `P` (ve, edm, vp, vp-scaled, vp-cosine, vp-sde, flow); default: the model's")
	f.Float64Var(&o.sigmaMax, "sigma-max", 0, "start at noise level `X`; 0 is the path's")
	f.Float64Var(&o.sigmaMin, "sigma-min", 0, "end the grid's curve at noise level `X`; 0 is the path's")
	f.Float64Var(&o.rho, "rho", 0, "curve of the karras and polyexponential grids; 0 is the rule's own")
	f.Float64Var(&o.shift, "shift", 0, "shift of the flow grid; 0 is none")
	f.Float64Var(&o.eta, "eta", 0, "noise of the samplers that have an option eta")
	f.StringVar(&o.init, "init", "", "start from the unit noise in `F.npy`, [n, shape of a sample] or [n,d]")
	f.StringVar(&o.trajectory.path, "trajectory", "", "write all states to `F.npz`: states [steps+1, n, shape], sigmas, a, b, times")
	f.StringVar(&o.precision, "precision", "fp32", "keep the states in `P`: fp32 or fp64")
	f.StringVar(&o.valRange, "range", "", "the values `LO,HI` become black and white; default: the model's, 0,1 for gmm:")
	f.BoolVar(&o.npy, "npy", false, "write samples.npy beside the pictures")
	f.BoolVar(&o.noGrid, "no-grid", false, "write no grid.png, which other tools would score as one of the images")
	f.StringVarP(&o.out, "output", "o", "", "write to the folder `DIR`")
	f.BoolVar(&o.overwrite, "overwrite", false, "replace the folder if fidlab wrote it, and the file of --trajectory")
	f.SortFlags = false
	var models, samplers []string
	for _, m := range modelEntries {
		models = append(models, strings.TrimSuffix(m.name, "FILE.json"))
	}
	for _, s := range sampler.List() {
		samplers = append(samplers, s.Name)
	}
	completes(cmd, "model", models...)
	completes(cmd, "sampler", samplers...)
	completes(cmd, "grid", diffusion.Rules()[:9]...)
	completes(cmd, "end", "zero", "min", "keep")
	completes(cmd, "precision", "fp32", "fp64")
	return cmd
}

// settle makes the sampler and the grid, before the model is opened.
func (o *sampleOptions) settle(p diffusion.Path) (sampler.Solver, *diffusion.Grid, diffusion.Path, error) {
	spec := o.sampler
	if o.etaSet {
		sep := ":"
		if strings.Contains(spec, ":") {
			sep = ","
		}
		spec += sep + "eta=" + strconv.FormatFloat(o.eta, 'g', -1, 64)
	}
	s, err := sampler.ByName(spec)
	if err != nil {
		return nil, nil, nil, usagef("--sampler: %w", err)
	}
	if o.path != "" {
		if p, err = diffusion.PathByName(o.path); err != nil {
			return nil, nil, nil, usagef("--path: %w", err)
		}
	}
	end, err := diffusion.EndByName(o.end)
	if err != nil {
		return nil, nil, nil, usagef("--end: %w", err)
	}
	if o.steps < 1 {
		return nil, nil, nil, usagef("--steps: %d steps; wanted at least 1", o.steps)
	}
	g, err := diffusion.Build(p, diffusion.Spec{
		Rule: o.grid, Steps: o.steps, End: end, SigmaMax: o.sigmaMax, SigmaMin: o.sigmaMin, Rho: o.rho, Shift: o.shift,
	})
	if err != nil {
		return nil, nil, nil, usagef("--grid: %w", err)
	}
	if err := s.Check(g); err != nil {
		return nil, nil, nil, usagef("%w", err)
	}
	return s, g, p, nil
}

// fit applies to the model what the options ask of it.
func (o *sampleOptions) fit(m *model) error {
	for _, c := range o.classes {
		if !slices.Contains(m.classes, c) {
			return usagef("--class %d: model %s has the classes %v", c, m.name, m.classes)
		}
	}
	if o.valRange == "" {
		return nil
	}
	lo, hi, ok := strings.Cut(o.valRange, ",")
	var err1, err2 error
	m.lo, err1 = strconv.ParseFloat(lo, 64)
	m.hi, err2 = strconv.ParseFloat(hi, 64)
	if !ok || err1 != nil || err2 != nil || !(m.lo < m.hi) || math.IsInf(m.hi-m.lo, 0) {
		return usagef("--range %q: want LO,HI with LO below HI", o.valRange)
	}
	return nil
}

// sampleRun is run.json: everything that the samples depend on, and no clock.
type sampleRun struct {
	Version     string    `json:"version"`
	Model       string    `json:"model"`
	ModelSHA256 string    `json:"model_sha256"`
	Sampler     string    `json:"sampler"`
	Grid        string    `json:"grid"`
	Path        string    `json:"path"`
	Steps       int       `json:"steps"`
	Sigmas      []float64 `json:"sigmas"` // -1 stands for infinity
	NFE         int       `json:"nfe"`    // evaluations of the model per sample
	Seed        uint64    `json:"seed"`
	First       int       `json:"first"`
	N           int       `json:"n"`
	Classes     []int     `json:"classes"` // asked for in turn
	Init        string    `json:"init,omitempty"`
	InitSHA256  string    `json:"init_sha256,omitempty"`
	Shape       []int     `json:"shape"`
	Range       []float64 `json:"range"`
	Device      string    `json:"device"`
	Precision   string    `json:"precision"`
	Notes       []string  `json:"notes"`
}

func runSample(ctx context.Context, a *app, o *sampleOptions) error {
	switch {
	case o.model == "":
		return usagef("want --model M; fidlab models lists them")
	case o.out == "":
		return usagef("want -o DIR, the folder to write")
	case o.n < 1 || o.n > 1e6 || o.first < 0:
		return usagef("-n %d, --first %d: want 1 to 1000000 samples, from 0 on", o.n, o.first)
	case o.precision != "fp32" && o.precision != "fp64":
		return unknown("precision", o.precision, []string{"fp32", "fp64"})
	case o.batch < 1:
		return usagef("--batch %d: want 1 or more", o.batch)
	}
	if err := checkOutDir(o.out, o.overwrite); err != nil {
		return err
	}
	o.trajectory.overwrite = o.overwrite
	if o.trajectory.path != "" {
		if err := o.trajectory.check(); err != nil {
			return err
		}
	}
	device, err := a.useDevice()
	if err != nil {
		return err
	}
	entry, err := findModel(o.model)
	if err != nil {
		return err
	}
	s, g, p, err := o.settle(entry.path)
	if err != nil {
		return err
	}
	m, err := entry.open(ctx, a, o.model)
	if err != nil {
		return err
	}
	if err := o.fit(m); err != nil {
		return err
	}
	run := &sampleRun{
		Version: version, Model: m.name, ModelSHA256: m.sha256, Sampler: s.Name(), Grid: g.Name, Path: p.Name(),
		Steps: len(g.Steps), Sigmas: finite(g.Sigmas()), Seed: o.seed, First: o.first, N: o.n, Classes: o.classes,
		Init: o.init, Shape: m.shape, Range: []float64{m.lo, m.hi}, Device: device, Precision: o.precision, Notes: g.Notes,
	}
	if run.Notes == nil {
		run.Notes = []string{}
	}
	a.say("%s: %d samples by %s, %d steps of %s on %s", m.name, o.n, s.Name(), len(g.Steps), g.Name, device)
	for _, n := range g.Notes {
		a.say("note: %s", n)
	}
	d, err := newOutDir(o.out, o.overwrite)
	if err != nil {
		return err
	}
	defer d.Abort()
	seconds, err := drawSamples(ctx, a, o, m, s, g, d, run)
	if err != nil {
		return err
	}
	b, err := json.MarshalIndent(run, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(d.File(runFile), append(b, '\n'), 0o666); err != nil {
		return err
	}
	if err := d.Commit(); err != nil {
		return err
	}
	if a.json {
		return a.printJSON(struct {
			Dir string `json:"dir"`
			*sampleRun
			Seconds float64 `json:"seconds"`
		}{o.out, run, seconds})
	}
	a.printf("%s\n", o.out)
	a.say("%s: %d samples in %.1f s, %d evaluations of the model each", o.out, o.n, seconds, run.NFE)
	return nil
}

func finite(sigmas []float64) []float64 {
	for i, s := range sigmas {
		if math.IsInf(s, 1) {
			sigmas[i] = -1
		}
	}
	return sigmas
}

// readInit reads the starting noise.
func readInit(o *sampleOptions, m *model, run *sampleRun) (*gpu.Tensor, error) {
	x, err := sampler.ReadStart(o.init, o.n, m.shape, o.precision == "fp64")
	if err != nil {
		return nil, &inputError{err}
	}
	run.InitSHA256, err = tensor.FileSHA256(o.init)
	return x, err
}

// values is t's elements in float64.
func values(t *gpu.Tensor) []float64 {
	if t.Double() {
		return t.F64()
	}
	out := make([]float64, t.Len())
	for i, v := range t.F32() {
		out[i] = float64(v)
	}
	return out
}

// describe is a short text of a shape, e.g. 28x28x1.
func describe(shape []int) string {
	return strings.ReplaceAll(strings.Trim(fmt.Sprint(shape), "[]"), " ", "x")
}

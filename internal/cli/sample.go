package cli

import (
	"context"
	"fmt"
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
	grid                string
	eta                 float64
	etaSet, gridSet     bool
	classes             []int
	named               classList
	classFile           string
	init                string
	trajectory, film    target
	preview             string
	out                 sampleTarget
	resume              bool
	precision, valRange string
	npy, noGrid         bool

	levels
	guide guideOptions
	times shiftOptions
	from  imageOptions
	net   netOptions
	five  fiveStepOptions
	plan  planOptions

	kernel   sampleKernel
	teleport teleportOptions
	turbo    turboOptions
	stepsSet bool
	prompts  promptOptions
}

func newSample(a *app) *cobra.Command {
	var o sampleOptions
	cmd := &cobra.Command{
		Use:   "sample --model M -n K -o OUT",
		Short: "Draw samples from a model",
		Long: `Draw samples from a model. OUT is a folder, which gets 000000.png and so on, a
contact sheet grid.png of the first 64, and run.json, the record of how they
were made; or FILE.tar with the same; or FILE.npz with arr_0 (uint8, [n, height,
width, 3]), arr_1 (classes) and run; or - for a tar on standard output, which
fidlab fid reads. Samples that are no pictures are values: samples.npy in the
folder, samples in the .npz. Image i of a seed is the same at any -n, --batch
and --threads.

--device cuda keeps the states and the solver's updates on a GPU. The models there
are compute on the CPU, so every evaluation copies the states there and back, and
auto stays on the CPU.

The noise levels are those of --grid: ` + strings.Join(gridRules(), ", ") + `;
or sigmas:80,10,1 or times:999,500 in place of a rule and --steps; or FILE.json
with {"sigmas": [...]} or {"times": [...]}.`,
		Example: `  fidlab sample --model mnist-gmm --sampler dpm++2m --steps 10 -n 2000 -o digits/
  fidlab sample --model mnist-gmm --class 3 --guidance 2 --film strip.png -n 8 -o threes/
  fidlab sample --model runs/shapes-base/checkpoint.safetensors --prompt "a red circle and a blue square" --guidance 2 -o scenes/
  fidlab sample --model mnist-gmm -n 50000 --resume -o digits.npz
  fidlab sample --model mnist-gmm -n 10000 -o - | fidlab fid mnist:test - --features mnist
  fidlab sample --model mnist-gmm --image digits/000000.png --mask half.png --sampler euler-a --repeat 5 -n 4 -o filled/
  fidlab sample --model mnist-dit --sampler flowturbo --blocks H1P2R3 --refiner runs/refiner/checkpoint.safetensors -o quick/
  fidlab sample --model gmm:two.json --sampler ddim:eta=0.5 --steps 50 -n 4 --trajectory t.npz -o out/`,
		Args: nargs("no arguments", 0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.etaSet, o.gridSet, o.stepsSet = cmd.Flags().Changed("eta"), cmd.Flags().Changed("grid"), cmd.Flags().Changed("steps")
			o.preset(cmd.Flags().Changed)
			o.times.given(cmd)
			o.prompts.given(cmd)
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
	o.named.flag(f, &o.classes)
	f.StringVar(&o.classFile, "class-file", "", "ask for the classes in `F`, one a line, in turn")
	o.prompts.flags(f)
	f.StringVar(&o.grid, "grid", "karras", "place the noise levels by `RULE`; on flow paths the default is flow, of some checkpoints another")
	o.levels.flags(cmd)
	o.five.flags(f)
	o.plan.flags(cmd)
	f.Float64Var(&o.eta, "eta", 0, "noise of the samplers that have an option eta")
	o.kernel.flags(f)
	f.StringVar(&o.init, "init", "", "start from the unit noise in `F.npy`, [n, shape of a sample] or [n,d]")
	f.StringVar(&o.trajectory.path, "trajectory", "", "write all states to `F.npz`: states [steps+1, n, shape], sigmas, a, b, times")
	f.StringVar(&o.film.path, "film", "", "write a film strip to `F.png`: a row a sample, noise to the left")
	f.StringVar(&o.preview, "preview", "", "keep `F.png` up to date, at most every second, with the batch on its way")
	o.guide.flags(f)
	o.times.flags(cmd)
	o.from.flags(f)
	o.teleport.flags(cmd)
	o.turbo.flags(f)
	o.net.flags(f)
	f.StringVar(&o.precision, "precision", "fp32", "keep the states in `P`: fp32 or fp64")
	f.StringVar(&o.valRange, "range", "", "the values `LO,HI` become black and white; default: the model's, 0,1 for gmm:")
	f.BoolVar(&o.npy, "npy", false, "write samples.npy beside the pictures")
	f.BoolVar(&o.noGrid, "no-grid", false, "write no grid.png, which other tools would score as one of the images")
	f.BoolVar(&o.resume, "resume", false, "keep what is finished when interrupted, and go on from there")
	f.StringVarP(&o.out.path, "output", "o", "", "write to `OUT`: a folder, FILE.tar, FILE.npz or -")
	f.BoolVar(&o.out.overwrite, "overwrite", false, "replace the folder if fidlab wrote it, and files")
	f.SortFlags = false
	completes(cmd, "model", modelNames()...)
	completes(cmd, "sampler", samplerNames()...)
	completes(cmd, "grid", gridRules()...)
	completes(cmd, "guidance-rule", "cfg", "cfg++", "projected")
	completes(cmd, "precision", "fp32", "fp64")
	return cmd
}

// settle makes the sampler and the grid, before the model is opened.
func (o *sampleOptions) settle(p diffusion.Path) (sampler.Solver, *diffusion.Grid, diffusion.Path, error) {
	if err := o.plan.read(&o.sampler); err != nil {
		return nil, nil, nil, err
	}
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
	if p, err = o.plan.path(p); err != nil {
		return nil, nil, nil, err
	}
	p, rule, err := o.levels.on(p)
	if err != nil {
		return nil, nil, nil, err
	}
	if s, err = o.turboSolver(s, p); err != nil {
		return nil, nil, nil, err
	}
	if o.steps < 1 {
		return nil, nil, nil, usagef("--steps: %d steps; wanted at least 1", o.steps)
	}
	if !o.gridSet && p.Space() == diffusion.FlowSpace {
		if o.grid = "flow"; o.turbo.blocks != "" { // the others need finite noise
			o.grid = "uniform" // the paper's
		}
	}
	rule.Rule, rule.Steps = o.grid, o.steps
	if err := o.five.apply(&rule); err != nil {
		return nil, nil, nil, err
	}
	if err := readLevels(o.grid, &rule); err != nil {
		return nil, nil, nil, err
	}
	g, err := o.plan.build(p, rule)
	if err != nil {
		return nil, nil, nil, err
	}
	if g, err = o.from.grid(g); err != nil {
		return nil, nil, nil, err
	}
	if g, err = o.teleport.grid(p, rule, g); err != nil {
		return nil, nil, nil, err
	}
	if err := o.teleport.walks(s, g); err != nil {
		return nil, nil, nil, usagef("%w", err)
	}
	return s, g, p, nil
}

// check refuses options that do not go together, and targets that cannot be written.
func (o *sampleOptions) check(a *app) error {
	switch {
	case o.model == "":
		return usagef("want --model M; fidlab models lists them")
	case o.out.path == "":
		return usagef("want -o OUT, the folder or file to write")
	case o.n < 1 || o.n > 1e6 || o.first < 0:
		return usagef("-n %d, --first %d: want 1 to 1000000 samples, from 0 on", o.n, o.first)
	case o.precision != "fp32" && o.precision != "fp64":
		return unknown("precision", o.precision, []string{"fp32", "fp64"})
	case o.batch < 1:
		return usagef("--batch %d: want 1 or more", o.batch)
	case o.out.form() == "stdout" && (a.json || o.resume):
		return usagef("-o -: the tar has standard output to itself, and ends when interrupted; leave out --json and --resume")
	case o.resume && (o.trajectory.path != "" || o.film.path != ""):
		return usagef("--resume: states of the samples that are finished are gone; leave out --trajectory and --film")
	case o.npy && o.out.form() != "folder":
		return usagef("--npy: samples.npy lies in a folder; -o %s is none", o.out.path)
	case o.init != "" && o.from.image != "":
		return usagef("--init and --image are two starts; give one")
	}
	if err := o.out.check(); err != nil {
		return err
	}
	for _, t := range []*target{&o.trajectory, &o.film} {
		t.overwrite = o.out.overwrite
		if t.path == "" {
			continue
		}
		if err := t.check(); err != nil {
			return err
		}
	}
	if err := o.teleport.check(&o.from); err != nil {
		return err
	}
	if err := o.prompts.read(); err != nil {
		return err
	}
	return o.readClasses()
}

func runSample(ctx context.Context, a *app, o *sampleOptions) error {
	if err := o.check(a); err != nil {
		return err
	}
	dev, err := a.openDevice("cpu") // where the models compute
	if err != nil {
		return err
	}
	m, s, g, p, err := o.open(ctx, a)
	if err != nil {
		return err
	}
	defer m.done()
	if err := o.fit(m); err != nil {
		return err
	}
	if err := o.prompts.apply(m, o.n); err != nil {
		return err
	}
	if err := o.five.join(m); err != nil {
		return err
	}
	run := &sampleRun{
		Version: version, Model: m.name, ModelSHA256: m.sha256, Sidecar: m.sidecar, Inputs: o.net.inputs, Sampler: s.Name(), Grid: g.Name, Path: p.Name(),
		Steps: len(g.Steps), Sigmas: finite(g.Sigmas()), Guidance: o.guide.text(), FreeU: o.five.freeU, Seed: o.seed, First: o.first, N: o.n, Classes: o.classes, Prompts: o.prompts.list, Negative: o.prompts.negative,
		Init: o.init, Image: o.from.image, Mask: o.from.mask, Shape: m.shape, Range: []float64{m.lo, m.hi}, Device: dev.String(), Precision: o.precision, Notes: append([]string{}, g.Notes...),
	}
	if n := leftOver(m, g); n != "" {
		run.Notes = append(run.Notes, n)
	}
	if dev.CUDA() {
		run.Notes = append(run.Notes, "the model computes on the CPU: every evaluation copies the states there and back")
	}
	if err := o.plan.apply(m, s, o.guide.text(), run); err != nil {
		return err
	}
	if err := o.turbo.fits(m, s, g, run); err != nil {
		return err
	}
	if s, err = o.teleport.wrap(ctx, a, m, p, s, g, sampler.Cond{Classes: inTurn(o.classes, o.n)}, run); err != nil {
		return err
	}
	d, err := o.drawing(ctx, a, dev, m, s, g, run)
	if err != nil {
		return err
	}
	a.say("%s: %d samples by %s, %d steps of %s on %s", m.name, o.n, d.s.Name(), len(g.Steps), g.Name, dev)
	for _, n := range run.Notes {
		a.say("note: %s", n)
	}
	seconds, err := o.write(ctx, a, d, run)
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(struct {
			Dir string `json:"dir"`
			*sampleRun
			Seconds float64 `json:"seconds"`
		}{o.out.path, run, seconds})
	}
	if o.out.form() != "stdout" {
		a.printf("%s\n", o.out.path)
	}
	a.say("%s: %d samples in %.1f s, %s", o.out.path, o.n, seconds, counted(run))
	return nil
}

// drawing reads what the run starts from, and sets everything up.
func (o *sampleOptions) drawing(ctx context.Context, a *app, dev *gpu.Device, m *model, s sampler.Solver, g *diffusion.Grid, run *sampleRun) (*drawing, error) {
	k := kindOf(m, o.n)
	k.double, k.classes, k.noGrid = o.precision == "fp64", inTurn(o.classes, o.n), o.noGrid
	k.prompts, k.first = o.prompts.list, o.first
	if o.from.invert {
		k.pictures = false // noise is no picture
	}
	k.keep = !k.pictures || o.npy
	if form := o.out.form(); !k.pictures && (form == "tar" || form == "stdout") {
		return nil, usagef("-o %s: samples of shape %s are no pictures; write a folder or an .npz", o.out.path, describe(m.shape))
	}
	if !k.pictures && (o.film.path != "" || o.preview != "") {
		return nil, usagef("--film and --preview: samples of shape %s are no pictures", describe(m.shape))
	}
	d := &drawing{o: o, m: m, g: g, kind: k}
	d.opt = sampler.Options{
		Seed: o.seed, First: o.first, N: o.n, Batch: o.batch, Shape: m.shape, Double: k.double, Device: dev, Cond: sampler.Cond{Classes: k.classes}, UnitStart: o.plan.unitStart(),
	}
	var err error
	if len(m.inputs) > 0 {
		d.opt.Cond.Inputs = map[string]*gpu.Tensor{}
	}
	for name, t := range m.inputs {
		d.opt.Cond.Inputs[name] = repeated(t, o.n).To(dev)
	}
	if d.den, err = o.guide.wrap(m, &o.net, dev, k.classes != nil, o.prompts.away, g); err != nil {
		return nil, err
	}
	if err := o.kernel.apply(m, d, run); err != nil {
		return nil, err
	}
	if o.init != "" {
		noise, err := readInit(o, m, run)
		if err != nil {
			return nil, err
		}
		d.opt.Noise = noise.To(dev)
	}
	pictures := kindOf(m, o.n) // --image is one, whatever comes of it
	pictures.double = k.double
	if d.s, err = o.from.apply(ctx, a, pictures, s, g, &d.opt); err != nil {
		return nil, err
	}
	if err := sampler.CheckStateful(d.den, d.s, d.g); err != nil {
		return nil, usagef("--sampler: %w", err)
	}
	run.Sampler = d.s.Name()
	if err := o.times.apply(d, run); err != nil {
		return nil, err
	}
	return d, d.watch(a)
}

// write draws into the target, by way of a spool where the run may be resumed.
func (o *sampleOptions) write(ctx context.Context, a *app, d *drawing, run *sampleRun) (seconds float64, err error) {
	drawTo := func(out sampleSink) error {
		var c sampler.Count
		if seconds, c, err = d.draw(ctx, a, out); err != nil {
			return err
		}
		run.count(c)
		return d.records()
	}
	if !o.resume {
		return seconds, o.out.write(a, d.kind, func(out sampleSink) error {
			if err := drawTo(out); err != nil {
				return err
			}
			return out.finish(run.json())
		})
	}
	if d.s.NFE(d.g) == sampler.Varies {
		return 0, usagef("--resume: the evaluations of %s vary, and those of the samples that are finished are gone", d.s.Name())
	}
	spool, err := openSpool(o.out.path, d.kind, run.json())
	if err != nil {
		return 0, err
	}
	defer spool.close()
	if d.part = spool.done; d.part > 0 {
		a.say("%s: %d samples are there already", spool.dir, d.part)
	}
	if d.part < o.n {
		if err := drawTo(spool); err != nil {
			return 0, err
		}
		if err := spool.complete(run); err != nil {
			return 0, err
		}
	} else if err := spool.completed(run); err != nil { // only its name is missing
		return 0, err
	}
	err = o.out.write(a, d.kind, func(out sampleSink) error {
		if err := spool.replay(o.first, out); err != nil {
			return err
		}
		return out.finish(run.json())
	})
	if err != nil {
		return 0, err
	}
	return seconds, spool.remove()
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

// values is t's elements in float64. Where t is on a GPU, an error is its device's.
func values(t *gpu.Tensor) []float64 {
	t = t.To(gpu.CPU())
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

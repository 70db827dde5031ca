package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/fidlab/fidlab/systems"
	"github.com/fidlab/fidlab/train"
)

type trainOptions struct {
	list   bool
	set    train.Settings // as far as given
	seed   uint64
	data   uint64
	noise  uint64
	budget time.Duration
	dir    string
	resume bool

	own trainData // the set that the user brings

	overwrite                                   bool
	logEvery, saveEvery, sampleEvery, evalEvery int
	tensorboard                                 bool
}

func newTrain(a *app) *cobra.Command {
	var o trainOptions
	cmd := &cobra.Command{
		Use:   "train NAME",
		Short: "Train a network",
		Long: `Train one of the networks that --list names, into a folder: checkpoint.safetensors
(weights, averages, optimiser), log.csv and log.jsonl (a line each so many steps),
clock.csv (when), curve.png and previews. fidlab sample --model DIR/checkpoint.safetensors draws
from it. Ctrl-C keeps what was done; --resume goes on from there, also after a kill, to
the same bits as without, and takes the settings of the run: only what should be said
anew, such as --budget, is given again. docs/training.md tells more.

The learning rate follows its schedule over --steps, whatever the --budget: a run that
its budget ends early says so, and can be resumed.

Exit code 4 tells that a number was not finite, and of which operation.`,
		Example: `  fidlab train --list
  fidlab train digits-mlp --dir runs/digits
  fidlab train digits-mlp --dir runs/lion --opt lion --lr 1e-4 --decay 0.1 --steps 20000 --budget 10m
  fidlab train digits-mlp --dir runs/lion --resume --budget 10m
  fidlab train image-unet --data pets/ --size 32 --dir runs/pets
  fidlab train refiner --on mnist-dit --dt-max 0.12 --dir runs/refiner
  fidlab sample --model runs/digits/checkpoint.safetensors --class 3 --guidance 1.5 -n 64 -o threes/`,
		Args: nargs("the name of a network (--list names them)", 0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if o.list {
				if len(args) > 0 {
					return usagef("--list wants no name")
				}
				return listTasks(a)
			}
			if len(args) == 0 {
				return usagef("want the name of a network; fidlab train --list names them")
			}
			return runTrain(cmd.Context(), a, &o, args[0], cmd.Flags())
		},
		ValidArgsFunction: cobra.FixedCompletions(taskNames(), cobra.ShellCompDirectiveNoFileComp),
	}
	f := cmd.Flags()
	f.BoolVar(&o.list, "list", false, "list the networks with their settings")
	f.StringVar(&o.dir, "dir", "", "train into the folder `DIR`; default: runs/NAME")
	f.DurationVar(&o.budget, "budget", 0, "stop after `TIME` (5m, 90s) at the latest")
	f.IntVar(&o.set.Steps, "steps", 0, "make `N` steps in all")
	f.Float64Var(&o.set.Rate, "lr", 0, "learn at the `RATE`")
	f.StringVar(&o.set.Schedule, "schedule", "", "change the rate by `S`: "+strings.Join(train.Schedules(), ", "))
	f.IntVar(&o.set.Warmup, "warmup", 0, "let the rate rise over the first `N` steps")
	f.StringVar(&o.set.Optimizer, "opt", "", "optimise by `O`: "+strings.Join(train.Optimizers(), ", "))
	f.Float64SliceVar(&o.set.Betas, "betas", nil, "the optimiser's `B1,B2`")
	f.Float64Var(&o.set.Decay, "decay", 0, "decay weights by `D` times the rate a step")
	f.Float64Var(&o.set.Clip, "clip", 0, "clip a step's gradient to the norm `C`; 0 clips nothing")
	f.IntVar(&o.set.Batch, "batch", 0, "take `N` examples at a time")
	f.IntVar(&o.set.Accum, "accum", 0, "take `N` such batches a step")
	f.StringVar(&o.set.Precision, "precision", "", "multiply in linear layers and convolutions what `P` says: float32, or bf16 with sums in float32")
	f.Float64SliceVar(&o.set.EMA, "ema", nil, "keep averages of the weights with the decays `D,…`; samples are drawn with the first")
	f.IntVar(&o.set.Skip, "skip", 0, "leave out up to `N` steps whose gradient is not finite")
	f.StringVar(&o.set.Kernel, "kernel", "", "learn to remove noise of the `KERNEL`: gaussian, or pfgmpp:D with D added dimensions (PFGM++)")
	f.Float64Var(&o.set.Span, "dt-max", 0, "refiner: look `T` ahead in time at most, the flow taking 1 in all; a step of the shortest grid that is meant")
	f.IntVar(&o.set.Seq, "seq", 0, "arflow: take sequences of `N` pictures for examples; 1 for pictures that follow none")
	f.Uint64Var(&o.seed, "seed", 0, "draw everything by seed `S`: weights, order, noise, dropout")
	f.Uint64Var(&o.data, "data-seed", 0, "draw the order of the examples by another seed `S`")
	f.Uint64Var(&o.noise, "noise-seed", 0, "draw noise and dropout by another seed `S`")
	o.own.flags(cmd)
	f.IntVar(&o.logEvery, "log-every", 0, "write a line of the log every `N` steps")
	f.IntVar(&o.saveEvery, "save-every", 0, "save every `N` steps")
	f.IntVar(&o.sampleEvery, "sample-every", 0, "draw a preview every `N` steps and at the end; 0 draws none")
	f.IntVar(&o.evalEvery, "eval-every", 0, "evaluate every `N` steps and at the end; 0 never does")
	f.BoolVar(&o.tensorboard, "tensorboard", false, "also write the log and the previews for TensorBoard (tensorboard --logdir DIR)")
	f.BoolVar(&o.resume, "resume", false, "go on from the folder's checkpoint, under its settings")
	f.BoolVar(&o.overwrite, "overwrite", false, "begin anew where the folder has a checkpoint")
	f.SortFlags = false
	completes(cmd, "opt", train.Optimizers()...)
	completes(cmd, "precision", train.Precisions()...)
	completes(cmd, "schedule", train.Schedules()...)
	return cmd
}

func taskNames() []string {
	var out []string
	for _, t := range systems.Tasks() {
		out = append(out, t.Name)
	}
	return out
}

// sequenceTasks names the tasks whose examples are sequences.
func sequenceTasks() string {
	var out []string
	for _, t := range systems.Tasks() {
		if t.Sequences {
			out = append(out, t.Name)
		}
	}
	return strings.Join(out, ", ")
}

// taskInfo is a line of fidlab train --list.
type taskInfo struct {
	Name     string         `json:"name"`
	Text     string         `json:"text"`
	Source   string         `json:"source"`
	Settings train.Settings `json:"settings"`
}

func listTasks(a *app) error {
	var list []taskInfo
	for _, t := range systems.Tasks() {
		list = append(list, taskInfo{t.Name, t.Text, t.Source, t.Settings.Filled()})
	}
	if a.json {
		return a.printJSON(list)
	}
	tw := tabwriter.NewWriter(a.stdout, 0, 8, 2, ' ', 0)
	fmt.Fprintln(tw, "NAME\tSTEPS\tBATCH\tOPTIMISER\tRATE\tWHAT\tSOURCE")
	for _, t := range list {
		s := t.Settings
		fmt.Fprintf(tw, "%s\t%d\t%d\t%s\t%g, %s\t%s\t%s\n", t.Name, s.Steps, s.Batch*s.Accum, s.Optimizer, s.Rate, s.Schedule, t.Text, t.Source)
	}
	return tw.Flush()
}

// settings are the task's, or those of the checkpoint that is resumed, with what was given.
func (o *trainOptions) settings(base train.Settings, given func(flag string) bool) (train.Settings, error) {
	s := base.Filled()
	for flag, set := range map[string]func(){
		"steps": func() { s.Steps = o.set.Steps }, "lr": func() { s.Rate = o.set.Rate }, "schedule": func() { s.Schedule = o.set.Schedule },
		"warmup": func() { s.Warmup = o.set.Warmup }, "opt": func() { s.Optimizer = o.set.Optimizer }, "betas": func() { s.Betas = o.set.Betas },
		"decay": func() { s.Decay = o.set.Decay }, "clip": func() { s.Clip = o.set.Clip }, "batch": func() { s.Batch = o.set.Batch },
		"accum": func() { s.Accum = o.set.Accum }, "ema": func() { s.EMA = o.set.EMA }, "skip": func() { s.Skip = o.set.Skip }, "precision": func() { s.Precision = o.set.Precision }, "kernel": func() { s.Kernel = o.set.Kernel },
		"dt-max": func() { s.Span = o.set.Span }, "seq": func() { s.Seq = o.set.Seq },
	} {
		if given(flag) {
			set()
		}
	}
	if given("seed") {
		s.Seeds = train.SeedsOf(o.seed)
	}
	if given("data-seed") {
		s.Seeds.Data = o.data
	}
	if given("noise-seed") {
		s.Seeds.Noise, s.Seeds.Dropout = o.noise, o.noise
	}
	for flag, empty := range map[string]bool{"kernel": s.Kernel == "", "opt": s.Optimizer == "", "schedule": s.Schedule == "", "accum": s.Accum == 0, "precision": s.Precision == ""} {
		if given(flag) && empty {
			return s, usagef("--%s: want a value that is not empty", flag)
		}
	}
	if given("dt-max") && !(o.set.Span > 0 && o.set.Span <= 1) {
		return s, usagef("--dt-max %g: want a stretch of time above 0, at most 1, such as 0.12", o.set.Span)
	}
	if given("seq") && o.set.Seq < 1 {
		return s, usagef("--seq %d: want sequences of 1 picture or more", o.set.Seq)
	}
	if given("budget") && o.budget <= 0 {
		return s, usagef("--budget %v: want a time above 0, such as 5m; leave it out for no limit", o.budget)
	}
	if err := s.Check(); err != nil {
		return s, usagef("%w", err)
	}
	return s, nil
}

// config is how the task is run.
func (o *trainOptions) config(t systems.Task, s train.Settings, given func(flag string) bool) (train.Config, error) {
	c := train.Config{
		Settings: s, Dir: o.dir, Resume: o.resume, Overwrite: o.overwrite, Budget: o.budget, Version: version,
		TensorBoard: o.tensorboard,
		LogEvery:    t.LogEvery, SaveEvery: t.SaveEvery, SampleEvery: t.SampleEvery, EvalEvery: t.EvalEvery,
	}
	for _, e := range []struct {
		flag     string
		from, of *int
		never    bool // 0 is: never
	}{{"log-every", &o.logEvery, &c.LogEvery, false}, {"save-every", &o.saveEvery, &c.SaveEvery, false}, {"sample-every", &o.sampleEvery, &c.SampleEvery, true}, {"eval-every", &o.evalEvery, &c.EvalEvery, true}} {
		switch n := *e.from; {
		case !given(e.flag):
		case n == 0 && e.never:
			*e.of = -1
		case n < 1:
			return c, usagef("--%s %d: want at least 1", e.flag, n)
		default:
			*e.of = n
		}
	}
	return c, nil
}

// trainResult is the JSON of fidlab train.
type trainResult struct {
	Name       string              `json:"name"`
	Dir        string              `json:"dir"`
	Checkpoint string              `json:"checkpoint"`
	Step       int                 `json:"step"`
	Steps      int                 `json:"steps"`
	Stop       train.Stop          `json:"stop"`
	Skipped    int                 `json:"skipped"`
	Loss       *float64            `json:"loss"` // of the log's last line; null before there is one
	Scores     map[string]*float64 `json:"scores,omitempty"`
	Seconds    float64             `json:"seconds"`
	Version    string              `json:"version"`
}

func runTrain(ctx context.Context, a *app, o *trainOptions, name string, flags *pflag.FlagSet) error {
	task, ok := systems.FindTask(name)
	if !ok {
		return unknown("network", name, taskNames())
	}
	if o.resume && o.overwrite {
		return usagef("--resume and --overwrite: want one of them")
	}
	if o.dir == "" {
		o.dir = filepath.Join("runs", name)
	}
	base := task.Settings
	if err := o.own.check(task, flags.Changed); err != nil {
		return err
	}
	if flags.Changed("kernel") && !task.Kernels {
		return usagef("--kernel: %s learns from no noise, or from Gaussian noise alone", name)
	}
	if flags.Changed("dt-max") && !task.Spans {
		return usagef("--dt-max: %s looks ahead at nothing; the refiner does", name)
	}
	if flags.Changed("seq") && !task.Sequences {
		return usagef("--seq: %s learns from single examples; %s takes sequences", name, sequenceTasks())
	}
	if o.resume {
		saved, err := train.OpenSaved(filepath.Join(o.dir, train.CheckpointName))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return inputf("--resume: %s has no checkpoint to go on from; leave --resume out to begin", o.dir)
		case err != nil:
			return &inputError{err}
		case saved.Exported != nil:
			saved.Close() // was only read
			return inputf("--resume: %s was exported, without the optimiser; a run goes on from its own checkpoint only", saved.Path)
		}
		base = saved.Settings
		o.own.follow(saved, flags.Changed)
		saved.Close() // was only read
	}
	s, err := o.settings(base, flags.Changed)
	if err != nil {
		return err
	}
	c, err := o.config(task, s, flags.Changed)
	if err != nil {
		return err
	}
	dev, err := a.openDevice("cpu")
	if err != nil {
		return err
	}
	job, err := o.own.job(ctx, a, task, dev, s)
	if err != nil {
		return err
	}
	bar := a.progress(name, "steps", s.Steps)
	begun := false
	c.Progress = func(p train.Progress) {
		if !begun {
			bar.From(p.Step-1, o.budget)
			begun = true
		}
		bar.Also(fmt.Sprintf("loss %.4g", p.Loss))
		bar.Set(p.Step)
	}
	c.Note = func(text string) { a.say("%s: %s", name, text) }
	c.Now = a.env.Now
	a.say("%s: %d parameters, %d steps of %d examples by %s at %g, %s, into %s", name, job.Nets[0].Params.Count(), s.Steps, s.Batch*s.Accum, s.Optimizer, s.Rate, s.Schedule, o.dir)
	release, err := lockDir(o.dir)
	if err != nil {
		return err
	}
	defer release()
	r, err := train.Run(ctx, job, c)
	bar.End()
	if err != nil {
		return trainError(a, name, o, r, err)
	}
	if err := writeCurve(o.dir, name); err != nil {
		a.say("%s: the figure of the losses: %v", name, err) // the run itself is whole
	}
	return told(a, name, o, s, job, r)
}

// trainError gives the errors of a run their exit codes, and says what is left of an interrupted one.
func trainError(a *app, name string, o *trainOptions, r *train.Result, err error) error {
	var fault *train.FaultError
	var differs *train.ConfigError
	switch {
	case errors.Is(err, context.Canceled):
		a.kept = fmt.Sprintf("%s has step %d; fidlab train %s --dir %s --resume goes on", r.Path, r.Step, name, o.dir)
	case errors.As(err, &fault):
		return &refusedError{err}
	case errors.As(err, &differs):
		return &inputError{err}
	case errors.Is(err, train.ErrExists):
		return fmt.Errorf("%s has a checkpoint; choose another --dir, or give --resume or --overwrite", o.dir)
	}
	return err
}

// told says how a run ended.
func told(a *app, name string, o *trainOptions, s train.Settings, job *train.Job, r *train.Result) error {
	if r.Stop == train.OutOfTime {
		a.say("%s: the budget of %v ended at step %d of %d, before the schedule did; --resume goes on", name, o.budget, r.Step, s.Steps)
	}
	finite := func(v float64) *float64 {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return nil
		}
		return &v
	}
	if a.json {
		out := trainResult{Name: name, Dir: o.dir, Checkpoint: r.Path, Step: r.Step, Steps: s.Steps, Stop: r.Stop, Skipped: r.Skipped, Loss: finite(r.Loss), Seconds: r.Seconds, Version: version}
		if r.Scores != nil {
			out.Scores = map[string]*float64{}
			for i, v := range r.Scores {
				out.Scores[job.Scores[i]] = finite(v)
			}
		}
		return a.printJSON(out)
	}
	a.printf("%s\n", r.Path)
	text := fmt.Sprintf("%s: step %d in %.0f s", name, r.Step, r.Seconds)
	if !math.IsNaN(r.Loss) {
		text += fmt.Sprintf(", loss %.4g", r.Loss)
	}
	for i, v := range slices.Clone(r.Scores) {
		text += fmt.Sprintf(", %s %.4g", job.Scores[i], v)
	}
	a.say("%s", text)
	return nil
}

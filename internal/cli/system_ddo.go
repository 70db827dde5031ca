package cli

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/report"
	"github.com/fidlab/fidlab/systems"
	"github.com/fidlab/fidlab/systems/bases"
	"github.com/fidlab/fidlab/systems/ddo"
	"github.com/fidlab/fidlab/train"
)

func init() { systemVerbs = append(systemVerbs, newDDO) }

func newDDO(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "ddo VERB",
		Short:   "Fine-tune a generator by its own likelihood against a frozen copy",
		Long:    "Fine-tune a network that removes noise to tell data from its own samples, without a discriminator.",
		Example: "  fidlab system ddo finetune --model mnist-unet --dir runs/ddo",
		Args:    cobra.ArbitraryArgs,
		RunE:    needsVerb,
	}
	cmd.AddCommand(newDDOFinetune(a))
	return cmd
}

// ddoOptions are those of finetune.
type ddoOptions struct {
	ddo.Options
	model   string
	average float64
	sampler int
	seed    uint64
}

func newDDOFinetune(a *app) *cobra.Command {
	var o ddoOptions
	cmd := &cobra.Command{
		Use:   "finetune --model M --dir DIR",
		Short: "Fine-tune a network in rounds",
		Long: `Fine-tune a network of fidlab train that removes noise, such as mnist-unet, digits-mlp or
digits-flow. In each round the network as it stands draws a pool of pictures, once;
it is then trained to find data likelier, and the pool less likely, than a frozen
copy of itself does. Every so many steps its samples are judged by their FID to test
pictures, and the best weights seen begin the next round.

DIR gets a folder for each round, with the run, its pool and model.safetensors, a
checkpoint of the best weights for fidlab sample --model and all other commands.
--beta is of likelihoods that are summed over the values of a picture; the less it
is, the farther a round goes.`,
		Example: `  fidlab system ddo finetune --model mnist-unet --rounds 2 --pool 2000 --steps 200 --dir runs/ddo
  fidlab system ddo finetune --model runs/digits-mlp/checkpoint.safetensors --beta 0.02 --rate 1e-4 --dir runs/ddo
  fidlab sample --model runs/ddo/round-2/model.safetensors -n 64 -o samples/`,
		Args: nargs("no arguments", 0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error { return a.finetune(cmd, &o) },
	}
	f := cmd.Flags()
	f.StringVar(&o.model, "model", "", "the network: `M`, a checkpoint, or the name of one that ships")
	f.Float64Var(&o.average, "average", -1, "begin with the average of weights of decay `D`; 0 for the weights themselves, default the run's first")
	f.StringVar(&o.Dir, "dir", "", "write what is made into the folder `DIR`")
	f.IntVar(&o.Rounds, "rounds", 2, "fine-tune in `N` rounds")
	f.Float64Var(&o.Alpha, "alpha", 1, "weigh the network's own pictures by `A` against data")
	f.Float64Var(&o.Beta, "beta", 0.02, "multiply differences of log-likelihoods by `B`")
	f.IntVar(&o.Pool, "pool", 10000, "draw `N` pictures a round")
	f.IntVar(&o.Steps, "steps", 400, "take `N` steps a round")
	f.IntVar(&o.Batch, "batch", 64, "learn from `N` pictures a step, half of them data")
	f.Float64Var(&o.Rate, "rate", 1e-4, "learning rate `R`")
	f.IntVar(&o.Every, "every", 50, "judge samples every `N` steps")
	f.IntVar(&o.Count, "judged", 2000, "judge `N` samples")
	f.IntVar(&o.sampler, "sampler-steps", 12, "draw by `N` steps of Heun's method")
	f.BoolVar(&o.Likelihood, "likelihood", false, "go on with what the network was trained by, in place of the method, to compare with")
	f.Uint64Var(&o.seed, "seed", 0, "draw everything by seed `S`")
	f.BoolVar(&o.Resume, "resume", false, "go on with what is in DIR")
	f.BoolVar(&o.Overwrite, "overwrite", false, "begin anew in a DIR that has rounds")
	f.SortFlags = false
	return cmd
}

// ddoReport is finetune's JSON.
type ddoReport struct {
	Model  string      `json:"model"`
	SHA256 string      `json:"model_sha256"`
	Rounds []ddo.Round `json:"rounds"`
	Best   string      `json:"best"` // the path of the last round's model
}

func (a *app) finetune(cmd *cobra.Command, o *ddoOptions) error {
	switch {
	case o.model == "":
		return usagef("want --model M, a checkpoint of fidlab train or the name of a network that ships")
	case o.Dir == "":
		return usagef("want --dir DIR, a folder for the rounds")
	case o.Resume && o.Overwrite:
		return usagef("--resume goes on and --overwrite begins anew; give one")
	case o.Count <= bases.Features:
		return usagef("--judged %d: want more than %d, the features of a FID", o.Count, bases.Features)
	case o.sampler < 1:
		return usagef("--sampler-steps %d: want 1 or more", o.sampler)
	}
	dev, err := a.openDevice("cpu")
	if err != nil {
		return err
	}
	if dev != gpu.CPU() {
		return usagef("ddo finetune computes on the CPU; leave --device away")
	}
	path := fileOrShipped(o.model)
	saved, err := savedAt(path, "model "+o.model+": no such file; fidlab train makes checkpoints, fidlab models lists those that ship")
	if err != nil {
		return err
	}
	defer saved.Close()
	b, err := ddo.Open(dev, saved, averageOf(saved, o.average), o.sampler)
	if err != nil {
		return &inputError{err}
	}
	o.Optimizer, o.Clip, o.Decay, o.Betas, o.Precision = b.Settings.Optimizer, b.Settings.Clip, b.Settings.Decay, b.Settings.Betas, b.Settings.Precision
	o.Warmup, o.EMA, o.Seeds = min(20, o.Steps/4), []float64{0.98}, train.SeedsOf(o.seed)
	if err := o.Check(); err != nil {
		return &usageError{err}
	}
	score, err := b.Score(cmd.Context(), &systems.Env{})
	if err != nil {
		return &inputError{err}
	}
	o.Version = version
	o.Note = func(text string) { a.say("note: %s", text) }
	bar := a.progress("fine-tuning "+b.Base.Job, "steps", o.Rounds*o.Steps)
	o.Progress = func(round int, p train.Progress) { bar.Set((round-1)*p.Steps + p.Step) }
	_, rounds, err := ddo.Finetune(cmd.Context(), b.Base, b.Learn, score, o.Options)
	bar.End()
	if err != nil {
		return a.ofFinetune(err, o)
	}
	r := ddoReport{o.model, b.SHA256, rounds, filepath.Join(o.Dir, fmt.Sprintf("round-%d", len(rounds)), ddo.ModelName)}
	if a.json {
		return a.printJSON(r)
	}
	return a.printRounds(&r)
}

// ofFinetune gives errors of the rounds their kind, and says what is left of interrupted ones.
func (a *app) ofFinetune(err error, o *ddoOptions) error {
	var pool *ddo.PoolError
	var fault *train.FaultError
	var differs *train.ConfigError
	switch {
	case errors.Is(err, context.Canceled):
		a.kept = fmt.Sprintf("%s has the rounds so far; the same command with --resume goes on", o.Dir)
	case errors.Is(err, train.ErrExists):
		return fmt.Errorf("%s has rounds; choose another --dir, or give --resume or --overwrite", o.Dir)
	case errors.As(err, &fault):
		return &refusedError{err}
	case errors.As(err, &pool), errors.As(err, &differs):
		return &inputError{err}
	}
	return err
}

func (a *app) printRounds(r *ddoReport) error {
	t := report.Table{Columns: report.Columns("round>", "FID before>", "best>", "at step>", "looks")}
	for i, k := range r.Rounds {
		var looks []string
		for _, l := range k.Looks {
			looks = append(looks, fmt.Sprintf("%d: %.4g", l.Step, l.Score))
		}
		begin := "—" // of a round that was resumed
		if len(k.Looks) > 0 && k.Looks[0].Step == 0 {
			begin = fmt.Sprintf("%.4g", k.Looks[0].Score)
		}
		t.Rows = append(t.Rows, []string{fmt.Sprint(i + 1), begin, fmt.Sprintf("%.4g", k.Chosen.Score), fmt.Sprint(k.Chosen.Step), strings.Join(looks, ", ")})
	}
	if err := a.printTables([]report.Table{t}); err != nil {
		return err
	}
	a.say("the best network of the last round: %s", r.Best)
	return nil
}

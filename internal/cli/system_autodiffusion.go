package cli

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/sampler"
	"github.com/fidlab/fidlab/sampler/search"
)

func init() { systemVerbs = append(systemVerbs, newAutoDiffusion) }

func newAutoDiffusion(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "autodiffusion VERB",
		Short:   "Search the steps of a sampler, and the layers that they can do without",
		Long:    "Search the steps that suit a model best, and the layers of its network that each\nof them can do without.",
		Example: "  fidlab system autodiffusion search --model mnist-gmm --steps 4 --ref mnist:test -n 500 -o plan.json",
		Args:    cobra.ArbitraryArgs,
		RunE:    needsVerb,
	}
	cmd.AddCommand(newPlanSearch(a))
	return cmd
}

// searchOptions are the flags of the search.
type searchOptions struct {
	model, sampler, path, ref string
	steps, n, rank, rankN     int
	heldSeed                  uint64
	classes                   []int
	named                     classList
	around                    []int
	radius                    int
	arch, unitStart           bool
	maxLayers, layers         int
	maxSkip                   float64
	budget                    time.Duration
	s                         search.Options
	x                         extraction
	guide                     guideOptions
	net                       netOptions
	out                       target
	given                     func(flag string) bool
}

func newPlanSearch(a *app) *cobra.Command {
	var o searchOptions
	cmd := &cobra.Command{
		Use:   "search --model M --steps K --ref R -o PLAN.json",
		Short: "Find the K steps after which samples are nearest to a reference",
		Long: `Find the K steps, among the T times of a model, after which its samples are
nearest to a reference set, by an evolutionary search: every candidate draws -n
samples of one fixed noise, and their Fréchet distance decides. The best are
ranked again on other noise. fidlab sample --plan follows the file.

--arch also searches the layers that each step leaves out, within a budget of
layers that run in all steps together; it needs a network of named layers: the
blocks of a U-Net or a transformer in a checkpoint, or the layers that a gmm: is
cut into (--layers). A network in an ONNX file has none.

R is as for fidlab fid. Samples that are no pictures are their own features; R is
then statistics (.npz) or an array (.npy, [n, ...]) of such values.`,
		Example: `  fidlab system autodiffusion search --model mnist-gmm --steps 4 --ref mnist:test -n 500 -o plan.json
  fidlab sample --model mnist-gmm --plan plan.json -n 64 -o digits/
  fidlab system autodiffusion search --model net.onnx --sampler dpm++2m --steps 5 --ref real.npz --journal five.jsonl --time 2h -o five.json
  fidlab system autodiffusion search --model gmm:toy.json --arch --layers 8 --max-layers 40 --ref toy.npz -o thin.json`,
		Args: nargs("no arguments", 0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error { return runPlanSearch(cmd.Context(), a, &o) },
	}
	f := cmd.Flags()
	o.given = f.Changed
	f.StringVar(&o.model, "model", "", "search for the model `M` (fidlab models lists them)")
	f.StringVar(&o.sampler, "sampler", "ddim", "search for the sampler `S` or S:option=value")
	f.IntVar(&o.steps, "steps", 0, "take `K` steps")
	f.StringVar(&o.path, "path", "", "choose among the times of path `P`; default: the model's, vp where it takes any")
	f.StringVar(&o.ref, "ref", "", "the reference set `R`")
	f.IntVarP(&o.n, "num", "n", 1000, "draw `N` samples by each candidate")
	f.Uint64Var(&o.s.Seed, "seed", 0, "draw candidates and noise from seed `S`")
	f.Uint64Var(&o.heldSeed, "held-seed", 1, "draw the noise of the second ranking from seed `S`")
	f.IntVar(&o.rank, "rank", 10, "rank the `N` best again, by other noise")
	f.IntVar(&o.rankN, "rank-num", 0, "on `N` samples each; 0 is four times -n")
	f.IntVar(&o.s.Epochs, "epochs", 0, "stop after `N` populations; 0 is 10, with --arch 15")
	f.IntVar(&o.s.Population, "population", 50, "of `N` candidates each")
	f.IntVar(&o.s.Parents, "parents", 10, "of which the `N` best so far are mutated and crossed")
	f.IntVar(&o.s.Evaluations, "evaluations", 0, "stop after `N` candidates; 0 is no limit")
	f.DurationVar(&o.budget, "time", 0, "begin no candidate after `T`, such as 90s or 2h; 0 is no limit")
	f.StringVar(&o.s.Journal, "journal", "", "keep every evaluation in `F.jsonl`, and go on from there if it is there")
	f.BoolVar(&o.s.Aimless, "random", false, "draw all candidates at random, to compare with")
	f.IntSliceVar(&o.around, "around", nil, "stay near the times `T,T`, one for each step, from the least noise")
	f.IntVar(&o.radius, "radius", 0, "by at most `N`; 0 is a hundredth of the times")
	f.BoolVar(&o.unitStart, "unit-start", false, "start from unit noise whatever the first level is, as the published code does")
	f.BoolVar(&o.arch, "arch", false, "search the layers that each step leaves out too")
	f.IntVar(&o.maxLayers, "max-layers", 0, "let `N` layers run in all steps together (--arch)")
	f.Float64Var(&o.maxSkip, "max-skip", 0.1, "let a step leave out the share `X` of the layers (--arch)")
	f.IntVar(&o.layers, "layers", 8, "cut a gmm: model into `N` layers (--arch)")
	o.named.flag(f, &o.classes)
	o.guide.flags(f)
	o.net.flags(f)
	o.x.flags(cmd)
	o.out.flags(f, "the plan")
	f.SortFlags = false
	completes(cmd, "model", modelNames()...)
	completes(cmd, "sampler", samplerNames()...)
	return cmd
}

func (o *searchOptions) check() error {
	switch {
	case o.model == "":
		return usagef("want --model M; fidlab models lists them")
	case o.ref == "":
		return usagef("want --ref R, the reference set")
	case o.arch && o.maxLayers == 0:
		return usagef("--arch: want --max-layers N, the layers that may run in all steps together")
	case o.arch && o.steps != 0:
		return usagef("--steps %d: with --arch the budget of --max-layers says how many steps there are", o.steps)
	case !o.arch && o.steps < 1:
		return usagef("--steps %d: want at least 1", o.steps)
	case !o.arch && (o.maxLayers != 0 || o.given("max-skip") || o.given("layers")):
		return usagef("--max-layers, --max-skip and --layers are for --arch")
	case o.arch && o.around != nil:
		return usagef("--around is for a search over steps alone; leave out --arch")
	case o.n < 2 || o.n > 1e6 || o.rankN < 0 || o.rankN > 1e6:
		return usagef("-n %d, --rank-num %d: want 2 to 1000000 samples", o.n, o.rankN)
	case o.rank < 1:
		return usagef("--rank %d: want at least 1", o.rank)
	case o.heldSeed == o.s.Seed:
		return usagef("--held-seed %d is --seed: the second ranking needs noise that the search has not seen", o.heldSeed)
	case o.s.Population < 1 || o.s.Parents < 1 || o.s.Population < o.s.Parents:
		return usagef("--population %d, --parents %d: want at least 1, and no more parents than candidates", o.s.Population, o.s.Parents)
	case o.s.Epochs < 0 || o.s.Evaluations < 0 || o.budget < 0:
		return usagef("--epochs %d, --evaluations %d, --time %v: want limits above 0, or 0 for none", o.s.Epochs, o.s.Evaluations, o.budget)
	}
	if o.s.Epochs == 0 {
		if o.s.Epochs = 10; o.arch {
			o.s.Epochs = 15
		}
	}
	if o.rankN == 0 {
		o.rankN = 4 * o.n
	}
	if err := o.out.check(); err != nil {
		return err
	}
	return o.x.check()
}

func runPlanSearch(ctx context.Context, a *app, o *searchOptions) error {
	if err := o.check(); err != nil {
		return err
	}
	if _, err := a.useDevice(); err != nil {
		return err
	}
	solver, err := sampler.ByName(o.sampler)
	if err != nil {
		return usagef("--sampler: %w", err)
	}
	entry, err := findModel(o.model)
	if err != nil {
		return err
	}
	own, err := entry.path(o.model)
	if err != nil {
		return err
	}
	levels, pathName, err := o.levels(own)
	if err != nil {
		return err
	}
	m, err := entry.open(ctx, a, opening{o.model, max(o.n, o.rankN), o.classes, o.net})
	if err != nil {
		return err
	}
	defer m.done()
	if err := o.named.fit(m); err != nil {
		return err
	}
	p := &planSearch{o: o, m: m, set: search.Setting{
		Path: pathName, Prediction: m.pred, Guidance: o.guide.text(), Sampler: solver.Name(), Model: m.name, ModelHash: m.sha256,
	}}
	if err := p.prepare(ctx, a, solver, levels); err != nil {
		return err
	}
	return p.run(ctx, a)
}

// levels are the times to choose from.
func (o *searchOptions) levels(own diffusion.Path) (*search.Levels, string, error) {
	name := o.path
	if name == "" && anyPath(own) {
		name = "vp"
	}
	p := own
	if name != "" {
		var err error
		if p, err = diffusion.PathByName(name); err != nil {
			return nil, "", usagef("--path: %w", err)
		}
	} else {
		name = own.Name()
	}
	l, err := search.NewLevels(p, 0)
	return l, name, err
}

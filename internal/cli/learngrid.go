package cli

import (
	"context"
	"io"

	"github.com/spf13/cobra"

	"github.com/fidlab/fidlab/report"
	"github.com/fidlab/fidlab/sampler"
	"github.com/fidlab/fidlab/tensor"
)

// levelsFile is what learn-grid writes and --grid FILE.json reads; other tools
// take the list of sigmas as it is.
type levelsFile struct {
	Sigmas      []float64 `json:"sigmas"`
	Cost        float64   `json:"cost"` // bound of a first-order sampler's error at the end
	Model       string    `json:"model"`
	ModelSHA256 string    `json:"model_sha256"`
	Fine        string    `json:"fine"`
	FineSteps   int       `json:"fine_steps"`
	N           int       `json:"n"`
	Seed        uint64    `json:"seed"`
	Version     string    `json:"version"`
}

func newLearnGrid(a *app) *cobra.Command {
	o := sampleOptions{levels: levels{end: "zero"}, sampler: "heun"}
	steps, fine := 8, 96
	var out target
	cmd := &cobra.Command{
		Use:   "learn-grid --model M --steps N -o FILE.json",
		Short: "Choose the noise levels that suit a model best",
		Long: `Choose the N steps, among those of a fine grid, after which a first-order sampler
is nearest to an accurate trajectory of the model: exactly, by dynamic
programming over the steps' errors. The file is for --grid of fidlab sample; its
list of sigmas is what other tools take.`,
		Example: `  fidlab learn-grid --model mnist-gmm --steps 8 -o eight.json
  fidlab sample --model mnist-gmm --sampler ddim --grid eight.json -n 64 -o digits/`,
		Args: nargs("no arguments", 0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runLearnGrid(cmd.Context(), a, &o, steps, fine, &out)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.model, "model", "", "choose for the model `M` (fidlab models lists them)")
	f.IntVar(&steps, "steps", steps, "choose `N` steps")
	f.IntVar(&fine, "fine", fine, "choose them among `N`")
	f.IntVarP(&o.n, "num", "n", 32, "look at `K` samples")
	f.Uint64Var(&o.seed, "seed", 0, "draw their noise from seed `S`")
	f.StringVar(&o.grid, "grid", "exponential", "place the fine levels by `RULE`")
	f.StringVar(&o.path, "path", "", "walk the path `P`; default: the model's")
	f.Float64Var(&o.sigmaMax, "sigma-max", 0, "start at noise level `X`; 0 is the path's")
	f.Float64Var(&o.sigmaMin, "sigma-min", 0, "end the fine curve at noise level `X`; 0 is the path's")
	out.flags(f, "the levels")
	f.SortFlags = false
	completes(cmd, "grid", gridRules()...)
	return cmd
}

func runLearnGrid(ctx context.Context, a *app, o *sampleOptions, steps, fine int, out *target) error {
	switch {
	case o.model == "":
		return usagef("want --model M; fidlab models lists them")
	case steps < 1 || fine <= steps:
		return usagef("--steps %d of --fine %d: want at least 1, and more to choose from", steps, fine)
	case o.n < 1 || o.n > 1e4:
		return usagef("-n %d: want 1 to 10000 samples", o.n)
	}
	if err := out.check(); err != nil {
		return err
	}
	o.steps = fine
	m, _, g, _, err := o.open(ctx, a)
	if err != nil {
		return err
	}
	defer m.done()
	p := a.progress("reference of "+m.name, "evaluations", -1)
	learned, cost, err := sampler.LearnGrid(ctx, m.den, g, steps, sampler.Options{
		N: o.n, Seed: o.seed, Shape: m.shape, Kernel: m.kernel, Progress: func(done, total int) {
			p.SetTotal(total)
			p.Set(done)
		},
	})
	p.End()
	if err != nil {
		return err
	}
	file := levelsFile{Sigmas: learned.Sigmas(), Cost: cost, Model: m.name, ModelSHA256: m.sha256, Fine: g.Name, FineSteps: fine, N: o.n, Seed: o.seed, Version: version}
	write := func(w io.Writer) error { return report.WriteJSON(w, file) }
	if err := tensor.WriteAtomic(out.path, write, out.options()...); err != nil {
		return err
	}
	if a.json {
		return a.printJSON(file)
	}
	a.printf("%s\n", out.path)
	a.say("%s: %d levels from sigma %.4g to %.4g, error at most %.4g after a first-order sampler",
		out.path, len(file.Sigmas), file.Sigmas[0], file.Sigmas[steps], cost)
	return nil
}

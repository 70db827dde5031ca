package cli

import (
	"fmt"
	"slices"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/fidlab/fidlab/diffusion"
)

func init() { systemVerbs = append(systemVerbs, newFiveStep) }

func newFiveStep(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "fivestep VERB",
		Short:   "The two-level grid of few steps",
		Long:    "The two-level grid of \"Hyperparameters are all you need\" (arXiv 2510.02390). fidlab\nsample --grid two-level draws with it, fidlab prove fivestep proves it.",
		Example: "  fidlab system fivestep levels --grid f8",
		Args:    cobra.ArbitraryArgs,
		RunE:    needsVerb,
	}
	cmd.AddCommand(newFiveStepLevels(a))
	return cmd
}

// levelList is the JSON of fidlab system fivestep levels: what --grid FILE.json
// and other tools' lists of sigmas take.
type levelList struct {
	Grid   string    `json:"grid"`
	Path   string    `json:"path"`
	Sigmas []float64 `json:"sigmas"`
}

func newFiveStepLevels(a *app) *cobra.Command {
	o := sampleOptions{sampler: "dpm++2m", steps: 8, grid: "two-level"}
	cmd := &cobra.Command{
		Use:   "levels [--grid f5|f6|f8|f8-sdxl]",
		Short: "Print the noise levels of a two-level grid",
		Long: `Print the noise levels of a two-level grid and the network's times, noise first.
With --json they are a list of sigmas that fidlab sample --grid FILE.json reads
(with --end keep where the last is not 0) and other tools take as it is.`,
		Example: `  fidlab system fivestep levels --grid f8
  fidlab system fivestep levels --grid two-level --steps 7 --base 12,10,7 --end keep --json > seven.json`,
		Args: nargs("no arguments", 0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.preset(cmd.Flags().Changed)
			if o.path == "" {
				o.path = "vp-scaled" // Stable Diffusion's
			}
			return runFiveStepLevels(a, &o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.grid, "grid", o.grid, "take the preset `P` (f5, f6, f8, f8-sdxl), or two-level with the flags below")
	f.IntVar(&o.steps, "steps", o.steps, "take `N` steps")
	f.StringVar(&o.five.base, "base", "", "cut a curve of `N,RHO,CUT` levels, rho and last level; default 12,10 and the steps")
	f.Float64Var(&o.five.respace, "respace-rho", 0, "spread the times by rho `X`; 0 is 1.2")
	f.StringVar(&o.end, "end", "zero", "end at `E`: zero, min or keep (the cut level)")
	f.StringVar(&o.path, "path", "", "use the table of noise levels of the path `P`; default vp-scaled, Stable Diffusion's")
	f.SortFlags = false
	completes(cmd, "grid", "two-level", "f5", "f6", "f8", "f8-sdxl")
	completes(cmd, "end", "zero", "min", "keep")
	return cmd
}

func runFiveStepLevels(a *app, o *sampleOptions) error {
	if grids := []string{"two-level", "f5", "f6", "f8", "f8-sdxl"}; !slices.Contains(grids, o.grid) {
		return unknown("two-level grid", o.grid, grids)
	}
	_, g, p, err := o.settle(diffusion.DefaultVE())
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(levelList{g.Name, o.path, g.Sigmas()})
	}
	tw := tabwriter.NewWriter(a.stdout, 0, 8, 2, ' ', 0)
	fmt.Fprintln(tw, "STEP\tSIGMA\tTIME")
	for i, s := range g.Sigmas() {
		fmt.Fprintf(tw, "%d\t%.6g\t%.4f\n", i, s, p.Time(s))
	}
	return tw.Flush()
}

package cli

import (
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/sampler"
)

type samplerInfo struct {
	Name        string   `json:"name"`
	Aliases     []string `json:"aliases"`
	Order       int      `json:"order"`
	PerStep     string   `json:"evaluations_per_step"`
	Stochastic  bool     `json:"stochastic"`
	Options     []string `json:"options"`
	Description string   `json:"description"`
	Source      string   `json:"source"`
}

func newSamplers(a *app) *cobra.Command {
	grids := false
	cmd := &cobra.Command{
		Use:   "samplers",
		Short: "List the samplers, with their options and where they are from",
		Long: `List the samplers: name, order, evaluations of the model per step, options with
their defaults, what it is, and where it is from. An option is given after the
name, as in --sampler ddim:eta=0.5; names of other tools are understood (-v
lists them).`,
		Example: "  fidlab samplers\n  fidlab samplers --grids\n  fidlab samplers --json | jq -r .[].name",
		Args:    nargs("no arguments", 0, 0),
		RunE: func(*cobra.Command, []string) error {
			if grids {
				return runGrids(a)
			}
			return runSamplers(a)
		},
	}
	cmd.Flags().BoolVar(&grids, "grids", false, "list the rules of --grid instead")
	return cmd
}

// runGrids lists the rules that place noise levels.
func runGrids(a *app) error {
	if a.json {
		type rule struct {
			Name   string `json:"name"`
			Places string `json:"places"`
			Ends   string `json:"ends"`
			Source string `json:"source"`
		}
		list := []rule{}
		for _, r := range diffusion.RuleList() {
			list = append(list, rule(r))
		}
		return a.printJSON(list)
	}
	tw := tabwriter.NewWriter(a.stdout, 0, 8, 2, ' ', 0)
	fmt.Fprintln(tw, "NAME\tLEVELS\tBOTH ENDS\tSOURCE")
	for _, r := range diffusion.RuleList() {
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\n", r.Name, r.Places, r.Ends, r.Source)
	}
	return tw.Flush()
}

func runSamplers(a *app) error {
	if a.json {
		list := []samplerInfo{}
		for _, s := range sampler.List() {
			list = append(list, samplerInfo{
				s.Name, orEmpty(s.Aliases), s.Order, s.PerStep, s.Stochastic, orEmpty(s.Options), s.Description, s.Source,
			})
		}
		return a.printJSON(list)
	}
	tw := tabwriter.NewWriter(a.stdout, 0, 8, 2, ' ', 0)
	fmt.Fprintln(tw, "NAME\tORDER\tEVALUATIONS A STEP\tOPTIONS\tWHAT\tSOURCE")
	for _, s := range sampler.List() {
		options := strings.Join(s.Options, ",")
		if options == "" {
			options = "-"
		}
		fmt.Fprintf(tw, "%s\t%d\t%s\t%s\t%s\t%s\n", s.Name, s.Order, s.PerStep, options, s.Description, s.Source)
		if a.verbose && len(s.Aliases) > 0 {
			a.say("%s: also %s", s.Name, strings.Join(s.Aliases, ", "))
		}
	}
	return tw.Flush()
}

// orEmpty makes a nil list an empty one, which JSON tells apart.
func orEmpty(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}

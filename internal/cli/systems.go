package cli

import (
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/fidlab/fidlab/systems"
	_ "github.com/fidlab/fidlab/systems/all" // registers them
)

// systemInfo is a line of fidlab systems.
type systemInfo struct {
	Number int    `json:"number"`
	Name   string `json:"name"`
	Title  string `json:"title"`
	Claim  string `json:"claim"`
	Built  bool   `json:"built"`
	Source string `json:"source,omitempty"`
}

func newSystems(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "systems",
		Short: "List the papers' systems",
		Long: `List the systems of papers: the number, the name that commands take, whether it
is built yet, what is claimed, and the paper. docs/SYSTEMS.md has what was measured.`,
		Example: "  fidlab systems\n  fidlab prove gaussteleport",
		Args:    nargs("no arguments", 0, 0),
		RunE:    func(*cobra.Command, []string) error { return runSystems(a) },
	}
}

func runSystems(a *app) error {
	var list []systemInfo
	built := map[int]systems.Recipe{}
	for _, r := range systems.Recipes() {
		built[r.Number] = r
	}
	for _, e := range systems.Catalog() {
		r, ok := built[e.Number]
		list = append(list, systemInfo{e.Number, e.Name, e.Title, e.Claim, ok, r.Source})
	}
	if a.json {
		return a.printJSON(list)
	}
	tw := tabwriter.NewWriter(a.stdout, 0, 8, 2, ' ', 0)
	fmt.Fprintln(tw, "NN\tNAME\tSTATE\tCLAIM\tPAPER")
	for _, s := range list {
		state := "not built"
		if s.Built {
			state = "built"
		}
		fmt.Fprintf(tw, "%02d\t%s\t%s\t%s\t%s\n", s.Number, s.Name, state, s.Claim, s.Title)
	}
	return tw.Flush()
}

// systemVerbs are the systems' own commands, below fidlab system.
var systemVerbs []func(a *app) *cobra.Command

func newSystem(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "system NAME VERB",
		Short:   "Run a system's own commands",
		Long:    "Run what a system of a paper does beside sampling, training and its proof. fidlab\nsystems lists the systems.",
		Example: "  fidlab systems",
		Args:    cobra.ArbitraryArgs,
		RunE:    needsVerb,
	}
	for _, verbs := range systemVerbs {
		cmd.AddCommand(verbs(a))
	}
	return cmd
}

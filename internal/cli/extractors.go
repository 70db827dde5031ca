package cli

import (
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/fidlab/fidlab/fid/extract"
)

type extractorInfo struct {
	Name    string   `json:"name"`
	Summary string   `json:"summary"`
	Needs   string   `json:"needs"`
	Source  string   `json:"source"`
	Presets []string `json:"presets,omitempty"` // of an extractor, the default first
}

func newExtractors(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "extractors",
		Short: "List the feature extractors, what they need and where they are from",
		Long: `List the extractors that --features names: what turns a picture into the vector
that the metrics compare, the files that they need, and their presets, the default
first. The Inception networks have taps: --features inception:768 takes the
features before the last blocks. What stands after the colon for other networks is
in their lines.`,
		Example: "  fidlab extractors\n  fidlab extractors --json | jq -r .[].name",
		Args:    nargs("no arguments", 0, 0),
		RunE: func(*cobra.Command, []string) error {
			list := []extractorInfo{}
			for _, e := range extract.List() {
				presets := e.Presets
				switch {
				case presets != nil:
				case e.Name == "inception" || e.Name == "random":
					presets = presetNames()
				default:
					presets = []string{"native"}
				}
				list = append(list, extractorInfo{e.Name, e.Summary, e.Needs, e.Source, presets})
			}
			if a.json {
				return a.printJSON(list)
			}
			tw := tabwriter.NewWriter(a.stdout, 0, 8, 2, ' ', 0)
			fmt.Fprintln(tw, "NAME\tNEEDS\tPRESETS\tWHAT\tSOURCE")
			for _, e := range list {
				needs := e.Needs
				if needs == "" {
					needs = "-"
				}
				fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\n", e.Name, needs, strings.Join(e.Presets, ", "), e.Summary, e.Source)
			}
			return tw.Flush()
		},
	}
}

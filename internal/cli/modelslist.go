package cli

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/fidlab/fidlab/assets"
	"github.com/fidlab/fidlab/report"
	"github.com/fidlab/fidlab/tensor"
)

func newModels(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "models",
		Short: "List the models that can be sampled and what ships, check and export them",
		Long: `List what --model of fidlab sample names: the model, what it needs, what it is,
and where it is from. Then what ships with fidlab, trained networks and built-in
encoders: where the file was found or looked for, what it learnt, what was
measured of it (docs/models.md), its SHA-256, and the commands that make it anew.

Files that ship are looked for in the folder of --assets, in that of
FIDLAB_ASSETS, in assets beside the program and beside its folder, and in the
checkout that the working directory lies in. fidlab sample --model NAME takes one
only when its SHA-256 is the one listed; a path in place of the name takes any.`,
		Example: `  fidlab models
  fidlab models check
  fidlab sample --model mnist-gmm -n 16 -o digits/
  fidlab models export runs/unet --half -o mine.safetensors`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return unknown("command", "models "+args[0], []string{"models add", "models check", "models export", "models record"})
			}
			return nil
		},
		RunE: func(*cobra.Command, []string) error { return runModels(a) },
	}
	cmd.AddCommand(newModelsAdd(a), newModelsCheck(a), newModelsExport(a), newModelsRecord(a))
	return cmd
}

// modelsList is the JSON of fidlab models.
type modelsList struct {
	Models []extractorInfo `json:"models"` // what --model takes
	Ships  []shippedInfo   `json:"ships"`
}

// shippedInfo is an entry of the index and where its file is.
type shippedInfo struct {
	assets.Entry
	Path   string         `json:"path,omitempty"`   // where it was found
	Looked []assets.Place `json:"looked,omitempty"` // where it was not
	Error  string         `json:"error,omitempty"`  // what else is wrong
}

func runModels(a *app) error {
	var list modelsList
	for _, m := range allModels() {
		list.Models = append(list.Models, extractorInfo{Name: m.name, Summary: m.summary, Needs: m.needs, Source: m.source})
	}
	for _, e := range assets.List() {
		list.Ships = append(list.Ships, located(e))
	}
	if a.json {
		return a.printJSON(list)
	}
	tw := tabwriter.NewWriter(a.stdout, 0, 8, 2, ' ', 0)
	fmt.Fprintln(tw, "NAME\tNEEDS\tWHAT\tSOURCE")
	for _, m := range list.Models {
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\n", m.Name, m.Needs, m.Summary, m.Source)
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	a.printf("\n")
	fmt.Fprintln(tw, "SHIPS\tKIND\tSIZE\tDATA\tSEED\tSTEPS\tMEASURED\tFILE\tSHA-256\tMADE BY")
	for _, s := range list.Ships {
		var figures []string
		for _, f := range s.Figures {
			figures = append(figures, figureText(f))
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%d\t%d\t%s\t%s\t%s\t%s\n", s.Name, s.Kind, bytesText(s.Size), s.Data.Name, s.Seed, s.Steps,
			strings.Join(figures, "; "), s.where(), s.SHA256, strings.Join(s.Commands, " && "))
	}
	return tw.Flush()
}

// located looks for the file of an entry; it is not read.
func located(e assets.Entry) shippedInfo {
	out := shippedInfo{Entry: e}
	if e.BuiltIn {
		return out
	}
	path, err := assets.Default().Locate(e.Name)
	var missing *assets.MissingError
	switch {
	case err == nil:
		out.Path = path
	case errors.As(err, &missing):
		out.Looked = missing.Looked
	default:
		out.Error = err.Error()
	}
	return out
}

func (s *shippedInfo) where() string {
	switch {
	case s.BuiltIn:
		return "built in"
	case s.Path != "":
		return s.Path
	case s.Error != "":
		return s.Error
	}
	var places []string
	for _, p := range s.Looked {
		places = append(places, p.Path)
	}
	return "missing in " + strings.Join(places, ", ")
}

// figureText is a figure in a line: value, interval, floor, and how it was measured.
func figureText(f assets.Figure) string {
	lo, hi := math.NaN(), math.NaN()
	if f.Interval != nil {
		lo, hi = f.Interval[0], f.Interval[1]
	}
	out := f.Name + " " + report.Number(f.Value, lo, hi)
	if f.Interval != nil {
		out += fmt.Sprintf(", %s at %g %%", report.Range(f.Value, lo, hi), 100*f.Level)
	}
	if f.Floor != nil {
		out += ", floor " + report.Number(*f.Floor, math.NaN(), math.NaN())
	}
	if how := f.How(); how != "" {
		out += " (" + how + ")"
	}
	return out
}

func newModelsCheck(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "check [NAME...]",
		Short: "Compare the hashes of what ships with the index, and load each",
		Long: `Compare what ships, or the named entries, with the index: SHA-256 and size, and that
the checkpoint is of the recipe, the steps, the data and the average that the index
names; and load each. Exit code 3 tells that something is missing or differs.`,
		Example: "  fidlab models check\n  fidlab models check digits-mlp --assets /usr/share/fidlab/assets",
		Args:    cobra.ArbitraryArgs,
		RunE:    func(_ *cobra.Command, args []string) error { return runModelsCheck(a, args) },
	}
}

// checkedInfo is an entry in the JSON of fidlab models check.
type checkedInfo struct {
	Name   string `json:"name"`
	Path   string `json:"path,omitempty"`
	SHA256 string `json:"sha256"` // of the index
	Error  string `json:"error,omitempty"`
}

func runModelsCheck(a *app, wanted []string) error {
	list := assets.List()
	if len(wanted) > 0 {
		var known []string
		for _, e := range list {
			known = append(known, e.Name)
		}
		list = nil
		for _, name := range wanted {
			e, ok := assets.Lookup(name)
			if !ok {
				return unknown("model", name, known)
			}
			list = append(list, e)
		}
	}
	var all []checkedInfo
	var failed []error
	for _, e := range list {
		c := checkedInfo{Name: e.Name, SHA256: e.SHA256}
		var err error
		if c.Path, err = checkAsset(e); err != nil {
			c.Error = err.Error()
			failed = append(failed, err)
		} else if !a.json {
			at := c.Path
			if e.BuiltIn {
				at = "built in"
			}
			a.printf("%s\t%s\t%s\tgood\n", e.Name, at, e.SHA256)
		}
		all = append(all, c)
	}
	return a.checked(all, failed)
}

// checked ends a check of several things: with --json all of what was found is printed, and what failed is the error.
func (a *app) checked(all any, failed []error) error {
	if a.json {
		if err := a.printJSON(all); err != nil {
			return err
		}
	}
	if failed != nil {
		return &inputError{errors.Join(failed...)}
	}
	return nil
}

// checkAsset finds the file of an entry, compares what it says with the index, and loads it.
func checkAsset(e assets.Entry) (string, error) {
	if e.BuiltIn {
		return "", checkBuiltIn(e)
	}
	path, err := assets.Find(e.Name)
	if err != nil {
		return "", err
	}
	if e.Job == "" { // no checkpoint of a run
		f, err := tensor.OpenSafetensors(path)
		if err != nil {
			return path, err
		}
		return path, f.Close()
	}
	saved, task, err := openAnySaved(path)
	if err != nil {
		return path, err
	}
	defer saved.Close()
	data, _ := dataOf(saved)
	var storage string
	if x := saved.Exported; x != nil {
		storage = x.Storage
	}
	for _, f := range []struct {
		what       string
		have, want any
	}{
		{"recipe", saved.Job, e.Job}, {"steps", saved.Step, e.Steps}, {"seed", saved.Settings.Seeds.Init, e.Seed}, {"data", data, e.Data},
		{"average", saved.Averages()[0], e.Average}, {"storage", storage, e.Storage},
	} {
		if f.have != f.want {
			return path, fmt.Errorf("%s: its %s is %v, the index says %v", path, f.what, f.have, f.want)
		}
	}
	return path, opens(task, saved)
}

package cli

import (
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/fidlab/fidlab/fid/extract"
)

const weightsLong = `List, verify or import the weights of the Inception network, which FID is
defined with. fidlab downloads nothing: get ` + extract.InceptionFile + `
(SHA-256 ` + extract.InceptionHash + `..., release fid_weights of mseitzer/pytorch-fid) and import it
once. Weights are searched in the folder that FIDLAB_WEIGHTS names, in the cache,
and where PyTorch keeps its downloads.`

// weightsEntry is one weights file in the JSON of weights list and verify.
type weightsEntry struct {
	Path   string `json:"path"`
	Found  bool   `json:"found"`
	SHA256 string `json:"sha256"`
	Error  string `json:"error,omitempty"`
}

func newWeights(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "weights",
		Short: "List, verify and import the weights of the extractors",
		Long:  weightsLong,
		Example: `  fidlab weights import ~/Downloads/` + extract.InceptionFile + `
  fidlab fid real/ fake/`,
		Args: cobra.ArbitraryArgs,
		RunE: needsVerb,
	}
	list := &cobra.Command{
		Use:     "list",
		Short:   "List the weights files that are found, and where they are searched",
		Example: "  fidlab weights list\n  fidlab weights list --json",
		Args:    nargs("no arguments", 0, 0),
		RunE:    func(*cobra.Command, []string) error { return runWeightsList(a) },
	}
	var force bool
	verify := &cobra.Command{
		Use:     "verify [FILE...]",
		Short:   "Check hash, tensors and shapes of weights files, or of all that are found",
		Example: "  fidlab weights verify\n  fidlab weights verify " + extract.InceptionFile,
		Args:    cobra.ArbitraryArgs,
		RunE:    func(_ *cobra.Command, args []string) error { return runWeightsVerify(a, args, force) },
	}
	verify.Flags().BoolVar(&force, "force", false, "accept another hash than the published one")
	var importForce bool
	var to string
	imp := &cobra.Command{
		Use:   "import FILE",
		Short: "Check a weights file and keep a copy that loads quickly",
		Long: `Check a weights file (.pth, zip or legacy stream, or .safetensors) and keep a
copy that loads quickly where fidlab finds it. A file with another hash than the
published one is taken with --force only, is labelled in every output, and must
be named with --weights.`,
		Example: "  fidlab weights import ~/Downloads/" + extract.InceptionFile,
		Args:    nargs("one weights file", 1, 1),
		RunE:    func(_ *cobra.Command, args []string) error { return runWeightsImport(a, args[0], to, importForce) },
	}
	imp.Flags().StringVar(&to, "to", "", "keep the copy in `DIR` instead of the cache")
	imp.Flags().BoolVar(&importForce, "force", false, "accept another hash than the published one")
	cmd.AddCommand(list, verify, imp)
	return cmd
}

// weightsFound is what is at each place where weights are searched.
func (a *app) weightsFound() []weightsEntry {
	var all []weightsEntry
	for _, w := range extract.WeightsList(extract.Options{Getenv: a.env.Getenv}) {
		e := weightsEntry{Path: w.Path, Found: w.Found, SHA256: w.SHA256}
		if w.Err != nil {
			e.Error = w.Err.Error()
		}
		all = append(all, e)
	}
	return all
}

func runWeightsList(a *app) error {
	all := a.weightsFound()
	if a.json {
		return a.printJSON(all)
	}
	used, dir := false, ""
	for _, w := range all {
		if d := filepath.Dir(w.Path); d != dir {
			dir = d
			a.say("searched: %s", dir)
		}
		switch {
		case !w.Found:
		case w.Error != "":
			a.printf("%s\tbad: %s\n", w.Path, w.Error)
		case !used:
			used = true
			a.printf("%s\t%s\tused\n", w.Path, w.SHA256)
		default:
			a.printf("%s\t%s\n", w.Path, w.SHA256)
		}
	}
	if !used {
		_, err := extract.FindInception(extract.Options{Getenv: a.env.Getenv})
		if err != nil {
			a.say("none: %v", err)
		}
	}
	return nil
}

func runWeightsVerify(a *app, files []string, force bool) error {
	o := extract.Options{Getenv: a.env.Getenv, Force: force}
	if len(files) == 0 {
		for _, w := range a.weightsFound() {
			if w.Found {
				files = append(files, w.Path)
			}
		}
		if len(files) == 0 {
			_, err := extract.FindInception(o)
			return &inputError{err}
		}
	}
	var all []weightsEntry
	var failed []error
	for _, f := range files {
		sha, err := extract.VerifyWeights(f, o)
		e := weightsEntry{Path: f, Found: true, SHA256: sha}
		if err != nil {
			e.Error = err.Error()
			failed = append(failed, err)
		}
		all = append(all, e)
		if !a.json && err == nil {
			a.printf("%s\t%s\tgood\n", f, sha)
		}
	}
	return a.checked(all, failed)
}

func runWeightsImport(a *app, file, to string, force bool) error {
	o := extract.Options{Getenv: a.env.Getenv, Force: force}
	sha, err := extract.VerifyWeights(file, o)
	if err != nil {
		return &inputError{err}
	}
	if to == "" {
		if _, err := cacheFile(a.env.Getenv, "weights"); err != nil { // marks the folder as ours
			return err
		}
	}
	path, err := extract.ImportWeights(file, to, o)
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(weightsEntry{Path: path, Found: true, SHA256: sha})
	}
	a.printf("%s\n", path)
	found, err := extract.FindInception(extract.Options{Getenv: a.env.Getenv})
	if err == nil && found == path {
		a.say("%s is found from now on: fidlab fid REF GEN uses it", path)
	} else {
		a.say("%s must be named: --weights %s", path, quote(path))
	}
	return nil
}

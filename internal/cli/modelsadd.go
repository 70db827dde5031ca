package cli

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/fidlab/fidlab/assets"
	"github.com/fidlab/fidlab/tensor"
)

type addOptions struct {
	index, data, text, command, page string
	steps                            int
	builtIn                          bool
}

func newModelsAdd(a *app) *cobra.Command {
	var o addOptions
	cmd := &cobra.Command{
		Use:   "add FILE.safetensors --index F.json",
		Short: "Write the entry of an encoder that fidlab train did not make into an index of assets",
		Long: `Write the entry of an encoder, a file that fidlab train did not make, into an index of
assets: hash, size, and what the remarks in its header say, which is its text (what),
the command that makes it anew (rebuild), the seed of its recipe, and its accuracies
(test_accuracy, or test, an object of numbers). Flags say what the remarks lack.`,
		Example: `  fidlab models add fid/extract/mnist.safetensors --built-in --data mnist:train --steps 2808 --index assets/index.json`,
		Args:    nargs("one file", 1, 1),
		RunE:    func(_ *cobra.Command, args []string) error { return runAdd(a, &o, args[0]) },
	}
	f := cmd.Flags()
	f.StringVar(&o.index, "index", "", "write into the index of assets `F.json`, which is made where there is none")
	f.BoolVar(&o.builtIn, "built-in", false, "the program has the file built in; FILE is its place in the repository")
	f.StringVar(&o.data, "data", "", "it learnt the `SET`")
	f.IntVar(&o.steps, "steps", 0, "it was trained `N` steps")
	f.StringVar(&o.text, "text", "", "it is what `WORDS` say")
	f.StringVar(&o.command, "trained-by", "", "the `COMMAND` makes it anew")
	f.StringVar(&o.page, "page", "", "the page `F.md` of the repository tells more")
	f.SortFlags = false
	return cmd
}

func runAdd(a *app, o *addOptions, path string) error {
	name, ok := strings.CutSuffix(filepath.Base(path), ".safetensors")
	switch {
	case o.index == "":
		return usagef("want --index F.json, the index to write into")
	case o.data == "":
		return usagef("want --data SET, what it learnt")
	case !ok || !assets.ValidName(name):
		return usagef("%s: want NAME.safetensors, a name of small letters, digits and -", path)
	case o.builtIn && !filepath.IsLocal(path):
		return usagef("%s: want the file's place in the repository, from its root", path)
	}
	file, err := tensor.OpenSafetensors(path)
	if err != nil {
		return &inputError{err}
	}
	defer file.Close()
	e := assets.Entry{
		Name: name, Kind: assets.Encoder, Text: o.text, File: filepath.Base(path), BuiltIn: o.builtIn, Commands: []string{o.command},
		Steps: o.steps, Data: assets.Data{Name: o.data}, Doc: o.page,
	}
	if o.builtIn {
		e.File = filepath.ToSlash(path)
	}
	if e.Text == "" {
		e.Text = file.Meta["what"]
	}
	if o.command == "" {
		e.Commands[0] = file.Meta["rebuild"]
	}
	if e.Text == "" || e.Commands[0] == "" {
		return inputf("%s: its remarks lack what it is (what) or how it is made (rebuild); say them with --text and --trained-by", path)
	}
	if e.Seed, e.Figures, err = remarked(file.Meta); err != nil {
		return inputf("%s: %w", path, err)
	}
	if e.SHA256, err = tensor.FileSHA256(path); err != nil {
		return &inputError{err}
	}
	st, err := os.Stat(path)
	if err != nil {
		return &inputError{err}
	}
	e.Size = st.Size()
	x, err := openIndex(o.index)
	if err != nil {
		return err
	}
	if err := putEntry(x, e, o.index); err != nil {
		return err
	}
	if a.json {
		return a.printJSON(e)
	}
	a.printf("%s\n", e.Name)
	return nil
}

// remarked is the seed of the recipe, and the accuracies, that the remarks of an encoder's file tell; what they lack is left out.
func remarked(meta map[string]string) (seed uint64, figures []assets.Figure, err error) {
	figures = []assets.Figure{}
	var recipe struct {
		Seed uint64 `json:"seed"`
	}
	if text := meta["recipe"]; text != "" {
		if err := json.Unmarshal([]byte(text), &recipe); err != nil {
			return 0, nil, err
		}
	}
	tests := map[string]string{}
	if text := meta["test"]; text != "" {
		if err := json.Unmarshal([]byte(text), &tests); err != nil {
			return 0, nil, err
		}
	}
	of := func(name, text string) error {
		v, err := strconv.ParseFloat(text, 64)
		figures = append(figures, assets.Figure{Name: name, Value: v})
		return err
	}
	if text := meta["test_accuracy"]; text != "" {
		err = of("accuracy", text)
	}
	for _, k := range slices.Sorted(maps.Keys(tests)) {
		if one := of("test: "+k, tests[k]); one != nil {
			err = one
		}
	}
	return recipe.Seed, figures, err
}

package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/fidlab/fidlab/data"
	"github.com/fidlab/fidlab/data/canvas"
	"github.com/fidlab/fidlab/data/city"
	"github.com/fidlab/fidlab/data/digits"
	"github.com/fidlab/fidlab/data/facades"
	"github.com/fidlab/fidlab/data/motion"
	"github.com/fidlab/fidlab/data/shapes"
	"github.com/fidlab/fidlab/data/street"
	"github.com/fidlab/fidlab/imageio"
)

// dataSets are the generated sets, in the order of fidlab data list. Each is an
// INPUT too.
var dataSets = slices.Concat(
	[]data.Entry{shapes.Entry, shapes.Entry16, shapes.EntryGlyph},
	canvas.Entries(classifyDigit, "the network that reads them itself errs on 0.65 % of MNIST's test digits"),
	[]data.Entry{digits.Entry, motion.Entry},
	[]data.Entry{city.Entry, street.Entry, street.ClipsEntry, facades.Entry},
)

func init() {
	for _, e := range dataSets {
		imageio.RegisterScheme(e.Name, data.Source(e))
	}
}

func setNames() []string {
	var names []string
	for _, e := range dataSets {
		names = append(names, e.Name)
	}
	return names
}

// openSet makes the set of an argument, SET or SET?option=value.
func openSet(arg string, seed uint64) (data.Entry, data.Served, error) {
	name, query, _ := strings.Cut(arg, "?")
	for _, e := range dataSets {
		if e.Name != name {
			continue
		}
		a, err := data.ParseArgs(name, "?"+query)
		if err != nil {
			return e, nil, err
		}
		for _, k := range []string{"n", "from", "seed"} {
			if strings.Contains("&"+query, "&"+k+"=") {
				return e, nil, usagef("%s: give %s as a flag, not as an option of the set", arg, k)
			}
		}
		s, err := e.Open(seed, a.Options)
		return e, s, err
	}
	return data.Entry{}, nil, unknown("data set", name, setNames())
}

// dataRange are the flags that choose items.
type dataRange struct {
	split   string
	n, from int
	seed    uint64
}

func (r *dataRange) flags(cmd *cobra.Command, n int) {
	f := cmd.Flags()
	f.StringVar(&r.split, "split", "test", "take the items of `SPLIT` (fidlab data list names them)")
	f.IntVarP(&r.n, "num", "n", n, "take `N` items")
	f.IntVar(&r.from, "from", 0, "leave out the first `N` items of the split")
	f.Uint64Var(&r.seed, "seed", data.DefaultSeed, "make the set of seed `S`; 1 is the published one")
}

// items is the run of items that the flags choose; without -n at most 400 of those there are.
func (r *dataRange) items(cmd *cobra.Command, s data.Served) (data.Args, error) {
	if r.n < 1 {
		return data.Args{}, usagef("-n %d: want at least 1 item", r.n)
	}
	if r.from < 0 {
		return data.Args{}, usagef("--from %d: want 0 or more", r.from)
	}
	if r.split == "" {
		return data.Args{}, usagef("--split: want one of %v", s.Splits())
	}
	split := data.Split(r.split)
	n := r.n
	if !cmd.Flags().Changed("num") {
		n = max(1, min(n, s.Len(split)-r.from))
	}
	a := data.Args{Split: split, Seed: r.seed, From: r.from, N: n}
	return a, a.Resolve(s)
}

func newData(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "data",
		Short: "Generate the procedural data sets, read pictures back, print their hashes",
		Long: `Generate the procedural data sets, read pictures back with their exact readers,
and print their golden hashes. Item i of a split under a seed is always the same,
on any machine and any number of threads. SET may carry options, as in
'shapes?only=1'; every set is an INPUT of other commands too, as in
shapes:test?n=1000&seed=1&only=1.`,
		Example: `  fidlab data gen shapes --split test -n 1000 -o scenes/
  fidlab data check shapes --in scenes/
  fidlab data hash`,
		Args: cobra.ArbitraryArgs,
		RunE: needsVerb,
	}
	cmd.AddCommand(newDataList(a), newDataGen(a), newDataCheck(a), newDataHash(a))
	return cmd
}

func newDataList(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Short:   "List the sets, their splits with the number of items, and their options",
		Example: "  fidlab data list\n  fidlab data list --json",
		Args:    nargs("no arguments", 0, 0),
		RunE:    func(*cobra.Command, []string) error { return runDataList(a) },
	}
}

func runDataList(a *app) error {
	type split struct {
		Name string `json:"name"`
		N    int    `json:"n"`
	}
	type set struct {
		Name    string   `json:"name"`
		About   string   `json:"about"`
		Splits  []split  `json:"splits"`
		Options []string `json:"options"`
		Error   string   `json:"error,omitempty"`
	}
	var list []set
	for _, e := range dataSets {
		d := set{Name: e.Name, About: e.About, Options: orEmpty(e.Options), Splits: []split{}}
		s, err := e.Open(data.DefaultSeed, nil)
		if err != nil {
			d.Error = err.Error() // files that the set is made of are not there
		} else {
			for _, sp := range s.Splits() {
				d.Splits = append(d.Splits, split{string(sp), s.Len(sp)})
			}
		}
		list = append(list, d)
	}
	if a.json {
		return a.printJSON(list)
	}
	for _, d := range list {
		a.printf("%s: %s\n", d.Name, d.About)
		var parts []string
		for _, sp := range d.Splits {
			parts = append(parts, fmt.Sprintf("%s %d", sp.Name, sp.N))
		}
		if d.Error != "" {
			parts = []string{"not to be had: " + d.Error}
		}
		a.printf("  %s\n", strings.Join(parts, ", "))
		for _, o := range d.Options {
			a.printf("  ?%s\n", o)
		}
	}
	return nil
}

func newDataHash(a *app) *cobra.Command {
	var seed uint64
	cmd := &cobra.Command{
		Use:   "hash [SET...]",
		Short: "Print the golden hashes and compare them with those checked in",
		Long: `Print the SHA-256 over the first 256 items of every split, pixels and truth, of the
sets given or of all. The hashes of seed 1 without options are checked in: where
what is made here differs, the command says so and fails.`,
		Example: "  fidlab data hash\n  fidlab data hash shapes --json\n  fidlab data hash 'shapes?style=binary' --seed 2",
		Args:    cobra.ArbitraryArgs,
		RunE:    func(cmd *cobra.Command, args []string) error { return runDataHash(cmd.Context(), a, args, seed) },
	}
	cmd.Flags().Uint64Var(&seed, "seed", data.DefaultSeed, "make the set of seed `S`; 1 is the published one")
	return cmd
}

// setHash is a line of fidlab data hash.
type setHash struct {
	Set    string `json:"set"`
	Split  string `json:"split"`
	Items  int    `json:"items"`
	SHA256 string `json:"sha256"`
	State  string `json:"state"` // "golden", "differs" or "not published"
}

func runDataHash(ctx context.Context, a *app, args []string, seed uint64) error {
	all := len(args) == 0
	if all {
		args = setNames()
	}
	list := []setHash{}
	differs := 0
	for _, arg := range args {
		e, s, err := openSet(arg, seed)
		if err != nil {
			if all && errors.Is(err, imageio.ErrInput) { // files of others that are not here
				a.say("%s: left out: %v", arg, err)
				continue
			}
			return err
		}
		published := seed == data.DefaultSeed && arg == e.Name
		for _, split := range s.Splits() {
			n := min(data.GoldenItems, s.Len(split))
			if n == 0 {
				continue // an option left nothing of it
			}
			sum, err := data.Hash(ctx, s, split, n)
			if err != nil {
				return err
			}
			h := setHash{arg, string(split), n, sum, "not published"}
			if want := e.Golden[split]; published && want != "" {
				if h.State = "golden"; want != sum {
					h.State = "differs"
					differs++
				}
			}
			list = append(list, h)
		}
	}
	if a.json {
		if err := a.printJSON(list); err != nil {
			return err
		}
	} else {
		tw := tabwriter.NewWriter(a.stdout, 0, 8, 2, ' ', 0)
		for _, h := range list {
			fmt.Fprintf(tw, "%s\t%s\t%d\t%s\t%s\n", h.Set, h.Split, h.Items, h.SHA256, h.State)
		}
		if err := tw.Flush(); err != nil {
			return err
		}
	}
	if differs > 0 {
		return fmt.Errorf("data hash: %d of %d hashes differ from those checked in; this build makes other items: check out a clean release, or raise the set's version with the change", differs, len(list))
	}
	return nil
}
